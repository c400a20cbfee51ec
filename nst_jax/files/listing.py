"""Picture files by name, folder or pattern."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from nst_jax.spec.errors import OptionError


def pictures(places: Iterable[str]) -> list[str]:
    """Paths of pictures: a file stays as it is, a folder or a pattern becomes its pictures.

    Sorted within a folder or pattern; nothing twice, however it is spelled. Whether a named
    file exists and is a picture is for its job to find out.

    Raises:
        OptionError: A folder or a pattern holds no picture.
    """
    found: dict[str, str] = {}
    for place in places:
        for path in _pictures_at(place):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _pictures_at(place: str) -> Sequence[str]:
    if Path(place).is_dir():
        paths = [str(path) for path in sorted(Path(place).iterdir()) if _looks_like_picture(path)]
        return _some(paths, f"folder {place!r}")
    if glob.has_magic(place) and not Path(place).exists():
        matches = sorted(glob.glob(place, recursive=True))
        paths = [match for match in matches if _looks_like_picture(Path(match))]
        return _some(paths, f"pattern {place!r}")
    return [place]


def _looks_like_picture(path: Path) -> bool:
    kind = Image.registered_extensions().get(path.suffix.lower())
    return kind in Image.OPEN and path.is_file() and not path.name.startswith(".")


def _some(paths: list[str], place: str) -> list[str]:
    if not paths:
        raise OptionError(f"{place} must hold at least one picture, got none")
    return paths
