"""Picture files by name, folder or pattern."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from nst_jax.files import storage
from nst_jax.files.open_picture import FORMATS
from nst_jax.request.errors import OptionError
from nst_jax.request.outputs import is_url


def expand_picture_paths(places: Iterable[str]) -> list[str]:
    """Paths of pictures: a file stays as it is, a folder or a pattern becomes its pictures.

    Sorted within a folder or pattern; nothing twice, however it is spelled. Whether a named
    file exists and is a picture is for its job to find out.

    Raises:
        OptionError: A folder or a pattern holds no picture.
    """
    found: dict[str, str] = {}
    for place in places:
        for path in _pictures_at(place):
            found.setdefault(path if is_url(path) else os.path.abspath(path), path)
    return list(found.values())


def _pictures_at(place: str) -> Sequence[str]:
    if is_url(place):
        return _remote_pictures_at(place)
    if Path(place).is_dir():
        paths = [str(path) for path in sorted(Path(place).iterdir()) if _is_picture(path)]
        return _require_some(paths, f"folder {place!r}")
    if glob.has_magic(place) and not Path(place).exists():
        matches = sorted(glob.glob(place, recursive=True))
        paths = [match for match in matches if _is_picture(Path(match))]
        return _require_some(paths, f"pattern {place!r}")
    return [place]


def _remote_pictures_at(place: str) -> Sequence[str]:
    """An address with a picture's suffix is one picture; else it is a folder, or a pattern in one.

    Raises:
        OptionError: The store fails, or holds no picture there.
    """
    folder, _, last = place.rpartition("/")
    is_pattern = glob.has_magic(last)
    if not is_pattern and _format_of(last) in FORMATS:
        return [place]
    if not is_pattern:
        folder, last = place.rstrip("/"), "*"
    try:
        names = storage.list_objects(folder, last)
    except OSError as error:
        raise OptionError(f"{place!r} can't be listed: {error.strerror or error}") from error
    paths = [f"{folder}/{name}" for name in names if _format_of(name) in FORMATS]
    return _require_some(paths, f"{'pattern' if is_pattern else 'folder'} {place!r}")


_NEVER_DECODED = ("BUFR", "GRIB", "HDF5", "MPEG")
"""What Pillow knows by name alone; HDF5 files are more likely weights."""


def _format_of(name: str) -> str | None:
    """The format that a name's suffix says, where such a file can be a picture."""
    kind = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return None if kind in _NEVER_DECODED else kind


def _is_picture(path: Path) -> bool:
    return _format_of(path.name) in FORMATS and path.is_file() and not path.name.startswith(".")


def _require_some(paths: list[str], place: str) -> list[str]:
    if not paths:
        raise OptionError(f"{place} must hold at least one picture, got none")
    return paths
