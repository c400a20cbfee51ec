"""Small copies of pictures for a page, made once and kept beside it."""

import concurrent.futures
import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nst_jax.files.atomic import write_bytes
from nst_jax.files.images import composited, load_picture
from nst_jax.request.errors import JobError

FOLDER = "pictures"
"""Where the copies lie, in the page's own folder."""

_QUALITY = 82


class Copy(NamedTuple):
    """A copy of a picture.

    Attributes:
        name: Of the file in the folder of copies.
        width: In pixels.
        height: Likewise.
    """

    name: str
    width: int
    height: int


class Wanted(NamedTuple):
    """A picture and the longest edge in pixels that its copy may have."""

    path: Path
    edge_px: int


def copies(folder: Path, wanted: Iterable[Wanted]) -> dict[Wanted, Copy]:
    """Copies of pictures as WebP, those that are there and unharmed left alone.

    A picture that is missing or can't be decoded has no copy. A file that has changed since
    has another name, so a page never shows an old one.

    Args:
        folder: Where copies go; it is there.
        wanted: Which ones; the same picture twice is copied once.

    Raises:
        OSError: A copy can't be written.
    """
    listed = list(dict.fromkeys(wanted))
    made: dict[Wanted, Copy] = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        copied_each = pool.map(lambda one: _copied(folder, one), listed)
        for one, copied in zip(listed, copied_each, strict=True):
            if copied:
                made[one], encoded = copied
                if encoded:
                    write_bytes(folder / made[one].name, encoded, durable=False)
    return made


def remove_others(folder: Path, kept: Iterable[Copy]) -> None:
    """Removes the copies that no page shows any more."""
    names = {copy.name for copy in kept}
    for path in folder.glob("*.webp"):
        if path.name not in names and not path.name.startswith("."):
            path.unlink(missing_ok=True)


def _copied(folder: Path, wanted: Wanted) -> tuple[Copy, bytes] | None:
    """The copy and its bytes, which are empty where it is there already."""
    try:
        name = _name(wanted)
    except (OSError, ValueError):  # it is missing, or no file can have that name
        return None
    there = _known(folder / name)
    try:
        return (there, b"") if there else _encoded(name, wanted.path, wanted.edge_px)
    except JobError:
        return None


def _name(wanted: Wanted) -> str:
    """Another one for every picture, state of its file, and edge."""
    state = wanted.path.stat()
    text = f"{wanted.path}|{state.st_mtime_ns}|{state.st_size}|{wanted.edge_px}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:24] + ".webp"


def _known(path: Path) -> Copy | None:
    try:
        with Image.open(path) as image:
            return Copy(path.name, *image.size)
    except OSError:  # it is missing, or a crash or another program has left half of it
        return None


def _encoded(name: str, path: Path, edge_px: int) -> tuple[Copy, bytes]:
    pixels = composited(load_picture(path), "white")
    image = Image.fromarray(np.uint8(np.rint(pixels * 255)))
    image.thumbnail((edge_px, edge_px), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=_QUALITY, method=4)
    return Copy(name, *image.size), encoded.getvalue()
