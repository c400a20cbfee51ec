"""Small copies of pictures for a page, made once and kept beside it."""

import concurrent.futures
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from nst_jax.files.atomic import write_bytes
from nst_jax.files.images import load_thumbnail
from nst_jax.files.storage import version_tag
from nst_jax.request.errors import JobError

FOLDER = "pictures"
"""Where the copies lie, in the page's own folder."""

_QUALITY = 82
_AT_ONCE = min(8, os.cpu_count() or 1)  # a container may use fewer cores than it sees


class Thumbnail(NamedTuple):
    """A copy of a picture.

    Attributes:
        name: Of the file in the folder of copies.
        width: In pixels.
        height: Likewise.
    """

    name: str
    width: int
    height: int


class ThumbnailRequest(NamedTuple):
    """A picture and the longest edge in pixels that its copy may have."""

    path: Path
    edge_px: int


Thumbnails = Mapping[ThumbnailRequest, Thumbnail]
"""Those that could be made."""


def make_thumbnails(
    folder: Path, requests: Iterable[ThumbnailRequest]
) -> dict[ThumbnailRequest, Thumbnail]:
    """Copies of pictures as WebP, those that are there and unharmed left alone.

    A picture that is missing or can't be decoded has no copy. A file that has changed since
    has another name, so a page never shows an old one.

    Args:
        folder: Where copies go; it is there.
        requests: Which ones; the same picture twice is copied once.

    Raises:
        OSError: A copy can't be written.
    """
    listed = list(dict.fromkeys(requests))
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        made = pool.map(lambda request: _make_thumbnail(folder, request), listed)
        return {request: one for request, one in zip(listed, made, strict=True) if one}


def remove_stale_thumbnails(folder: Path, kept: Iterable[Thumbnail]) -> None:
    """Removes the copies that no page shows any more."""
    names = {copy.name for copy in kept}
    for path in folder.glob("*.webp"):
        if path.name not in names and not path.name.startswith("."):
            path.unlink(missing_ok=True)


def _make_thumbnail(folder: Path, request: ThumbnailRequest) -> Thumbnail | None:
    tag = version_tag(request.path)
    if not tag:  # it is missing, or no file can have that name
        return None
    name = _thumbnail_name(request, tag)
    if existing := _existing_thumbnail(folder / name):
        return existing
    try:
        image = load_thumbnail(request.path, request.edge_px)
    except JobError:
        return None
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=_QUALITY, method=4)
    write_bytes(folder / name, encoded.getvalue(), durable=False)
    return Thumbnail(name, *image.size)


def _thumbnail_name(request: ThumbnailRequest, tag: str) -> str:
    """Another one for every picture, state of its file, and edge."""
    text = f"{request.path}|{tag}|{request.edge_px}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:24] + ".webp"


def _existing_thumbnail(path: Path) -> Thumbnail | None:
    try:
        with Image.open(path) as image:
            return Thumbnail(path.name, *image.size)
    except OSError:  # it is missing, or a crash or another program has left half of it
        return None
