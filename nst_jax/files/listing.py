"""Picture files by name, folder or pattern."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from nst_jax.spec.errors import OptionError


def pictures(places: Iterable[str]) -> list[str]:
    """Paths of pictures: a file stays as it is, a folder or a pattern becomes its pictures.

    Sorted within a folder or pattern; nothing twice. Whether a named file exists and is a
    picture is for its job to find out.

    Raises:
        OptionError: A folder or a pattern holds no picture.
    """
    found = dict.fromkeys(path for place in places for path in _pictures_at(place))
    return list(found)


def _pictures_at(place: str) -> Sequence[str]:
    if Path(place).is_dir():
        paths = [str(path) for path in sorted(Path(place).iterdir()) if _looks_like_picture(path)]
        return _some(paths, f"folder {place!r}")
    if glob.has_magic(place) and not Path(place).exists():
        matches = sorted(glob.glob(place, recursive=True))
        return _some([match for match in matches if Path(match).is_file()], f"pattern {place!r}")
    return [place]


def _looks_like_picture(path: Path) -> bool:
    known = Image.registered_extensions()
    return path.is_file() and path.suffix.lower() in known and not path.name.startswith(".")


def _some(paths: list[str], place: str) -> list[str]:
    if not paths:
        raise OptionError(f"{place} must hold at least one picture, got none")
    return paths
