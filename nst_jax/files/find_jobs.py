"""Jobs from a manifest, or from folders and patterns of pictures; here or in a store."""

import os
from collections.abc import Iterable
from pathlib import Path

from nst_jax.files.picture_paths import PictureSearch, expand_picture_paths
from nst_jax.files.storage import RemoteFile
from nst_jax.request import job, manifest
from nst_jax.request.errors import ManifestError, OptionError
from nst_jax.request.job import ArrayPicture, ImagePicture, Job, PictureSource
from nst_jax.request.options import Options
from nst_jax.request.outputs import is_url
from nst_jax.request.validators import shorten


def read_manifest(place: str | os.PathLike[str], options: Options | None = None) -> list[Job]:
    """The jobs of a manifest (CSV, TSV or JSON Lines), a row a job.

    Args:
        place: A path or an address (`s3://`, `gs://`).
        options: What a row does not say; None: the defaults.

    Raises:
        ManifestError: It can't be read, or something in it is wrong; `faults` lists every fault
            by its line.
    """
    name, options = os.fspath(place), options or Options()
    if not is_url(name):
        return manifest.read_manifest(Path(name), options)
    try:
        content = RemoteFile(name).content
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ManifestError(f"manifest {name!r} can't be read: {reason}") from error
    return manifest.parse_manifest(content, name, options)


def every_pair(
    contents: PictureSource | Iterable[PictureSource],
    styles: PictureSource | Iterable[PictureSource],
    search: PictureSearch | None = None,
) -> list[Job]:
    """A job for each content with each style, content by content.

    Args:
        contents: Pictures, or where they are: a path is a file, a folder or a pattern such as
            `photos/**/*.jpg`; several of them in a list.
        styles: Likewise.
        search: Says what is no input, and gets what was passed over.

    Raises:
        OptionError: A folder or a pattern holds no picture.
    """
    search = search or PictureSearch()
    shown, asked = (_find_pictures(places, search) for places in (contents, styles))
    return job.every_pair(shown, asked, search.names)


def _find_pictures(
    places: PictureSource | Iterable[PictureSource], search: PictureSearch
) -> list[PictureSource]:
    """Pictures in memory as they are, paths as the pictures that they lead to."""
    if isinstance(places, (str, os.PathLike, ArrayPicture, ImagePicture)):
        places = [places]
    if not isinstance(places, Iterable):
        raise OptionError(
            f"contents and styles must be paths, arrays, images or lists of them, "
            f"got {shorten(places)}"
        )
    listed = list(places)
    paths = [os.fspath(one) for one in listed if isinstance(one, (str, os.PathLike))]
    if len(paths) == len(listed):
        return [*expand_picture_paths(paths, search)]
    pictures: list[PictureSource] = []
    for one in listed:
        is_path = isinstance(one, (str, os.PathLike))
        pictures += expand_picture_paths([os.fspath(one)], search) if is_path else [one]
    return pictures
