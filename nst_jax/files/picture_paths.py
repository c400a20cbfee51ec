"""Picture files by name, folder or pattern."""

import collections
import dataclasses
import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from nst_jax.files import storage
from nst_jax.files.open_picture import FORMATS, HEIC_REMEDY, begins_as_picture, can_decode_heic
from nst_jax.files.own_files import OwnFiles
from nst_jax.files.picture_patterns import read_pattern
from nst_jax.request.errors import OptionError, say_count
from nst_jax.request.outputs import CONTACT_SHEET_NAME, is_url
from nst_jax.request.paths import find_path, hint_at_spelling

_HEIC_SUFFIXES = frozenset((".heic", ".heics", ".heif", ".heifs", ".hif"))

_BESIDE_PICTURES = frozenset(
    (*(".aae", ".dop", ".json", ".pp3", ".thm", ".xml", ".xmp"), *(".db", ".ini"))
)
"""Suffixes of what programs keep of pictures and folders: edits, `Thumbs.db`, `desktop.ini`."""

_NO_SUFFIX, _NO_FILE = "without a suffix", "that are no files"


@dataclasses.dataclass
class PictureSearch:
    """A search through folders and patterns: what is no input there, and what was found beside.

    Attributes:
        own: What runs have written, which is left out.
        names: What outputs call a picture that a pattern found in one of many folders, by path.
        passed_over: Files that can't be used; not hidden ones, and not what programs keep beside
            pictures.
        left_out: Pictures that runs have written, and into which folder.
    """

    own: OwnFiles = dataclasses.field(default_factory=OwnFiles)
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    passed_over: set[str] = dataclasses.field(default_factory=set)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


def expand_picture_paths(places: Iterable[str], search: PictureSearch | None = None) -> list[str]:
    """Paths of pictures: a file stays as it is, a folder or a pattern becomes its pictures.

    What runs have written is left out; but a folder that holds another run's outputs alone is
    named for these. Sorted within a folder or pattern; nothing twice, however it is spelled.
    Whether a named file exists and is a picture is for its job to find out. A file without a
    suffix is looked into, but in a store.

    Args:
        places: Names and addresses.
        search: Says what is no input, and gets what was found beside.

    Raises:
        OptionError: A folder or a pattern holds no picture.
    """
    found: dict[str, str] = {}
    for place in places:
        for path in _pictures_at(place, search or PictureSearch()):
            found.setdefault(path if is_url(path) else os.path.abspath(path), path)
    return list(found.values())


def passed_over_text(paths: Iterable[str]) -> str:
    """A line about files that `expand_picture_paths` has passed over."""
    paths = list(paths)
    files = "1 file is" if len(paths) == 1 else f"{len(paths)} files are"
    hint = f"; for HEIC: {HEIC_REMEDY}" if _has_missing_heic(paths) else ""
    return f"{files} passed over, which can't be read here as pictures: {_count(paths)}{hint}"


def _pictures_at(place: str, search: PictureSearch) -> Sequence[str]:
    if is_url(place):
        return _remote_pictures_at(place, search)
    place = find_path(place)
    if Path(place).is_dir():
        paths = [str(path) for path in sorted(Path(place).iterdir())]
        return _choose(paths, f"folder {place!r}", search, _is_picture)
    pattern = None if Path(place).exists() else read_pattern(place)
    if pattern is None:
        return [place]
    found = _choose(pattern.list_matches(), f"pattern {place!r}", search, _is_picture)
    search.names |= {path: name for path in found if (name := pattern.name_of(path))}
    return found


def _remote_pictures_at(place: str, search: PictureSearch) -> Sequence[str]:
    """An address with a picture's suffix is one picture; else it is a folder, or a pattern in one.

    Raises:
        OptionError: The store fails, or holds no picture there.
    """
    folder, _, last = place.rpartition("/")
    is_pattern = glob.has_magic(last)
    if not is_pattern and _has_picture_suffix(last):
        return [place]
    if not is_pattern:
        folder, last = place.rstrip("/"), "*"
    try:
        names = storage.list_objects(folder, last)
    except OSError as error:
        raise OptionError(f"{place!r} can't be listed: {error.strerror or error}") from error
    paths = [f"{folder}/{name}" for name in names]
    what = f"{'pattern' if is_pattern else 'folder'} {place!r}"
    return _choose(paths, what, search, _has_picture_suffix)


def _choose(
    paths: Sequence[str], place: str, search: PictureSearch, is_picture: Callable[[str], bool]
) -> list[str]:
    """The pictures among the files of a place; others are kept in `search`.

    Raises:
        OptionError: There is none.
    """
    if not paths:
        why = "nothing matches it" if place.startswith("pattern") else "it is empty"
        what = f"{place} must hold at least one picture, got none: {why}"
        raise OptionError(what, hint_at_spelling(place))
    pictures: list[str] = []
    own: dict[str, str] = {}
    others: list[str] = []
    folders = 0
    for path in paths:
        if os.path.basename(path).startswith("."):
            continue
        if not is_url(path) and os.path.isdir(path):
            folders += 1
        elif is_picture(path):
            if run := search.own.folder_of(path):
                own[path] = run
            else:
                pictures.append(path)
        elif _suffix(path) not in _BESIDE_PICTURES and not search.own.folder_of(path):
            others.append(path)
    if not pictures and place.startswith("folder"):
        pictures = _outputs_of_others(own, search.own.output_dir)
    if not pictures:
        raise _none_at(place, others, folders, len(own))
    search.passed_over.update(others)
    search.left_out |= {path: run for path, run in own.items() if path not in pictures}
    return pictures


def _outputs_of_others(own: Mapping[str, str], output_dir: str) -> list[str]:
    """What a folder that was named itself holds of other runs, but for a contact sheet."""
    outputs = (path for path, run in own.items() if run != output_dir)
    return [path for path in outputs if os.path.basename(path) != CONTACT_SHEET_NAME]


def _none_at(place: str, others: list[str], folders: int, own: int) -> OptionError:
    subfolders = say_count(folders, "folder") if folders else ""
    outputs = f"{own} that runs have written" if own else ""
    there = ", ".join(filter(None, (_count(others), subfolders, outputs)))
    remedy = HEIC_REMEDY if _has_missing_heic(others) else "PNG, JPEG, WebP and TIFF are read"
    if own and not others:
        remedy = "Name a folder of pictures that no run has made, or the files themselves"
    elif folders and not others:
        remedy = "Name one of the folders, or a pattern with ** for all of them"
    got = f"none, only {there}" if there else "none"
    return OptionError(f"{place} must hold at least one picture, got {got}", remedy)


def _is_picture(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    return _has_picture_suffix(path) or (not _suffix(path) and begins_as_picture(Path(path)))


def _has_picture_suffix(name: str) -> bool:
    suffix = _suffix(name)
    if suffix in _HEIC_SUFFIXES:
        return can_decode_heic()
    # A photograph of several parts (MPO) is a JPEG to begin with.
    return Image.registered_extensions().get(suffix) in (*FORMATS, "MPO")


def _has_missing_heic(paths: Iterable[str]) -> bool:
    return any(_suffix(path) in _HEIC_SUFFIXES for path in paths) and not can_decode_heic()


def _suffix(path: str) -> str:
    """In lower case; empty where there is none, as after the last dot of a date."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix if re.search(r"[^\W\d_]", suffix) else ""


def _count(paths: Iterable[str]) -> str:
    """How many there are of each suffix, the most first."""
    kinds = collections.Counter(map(_kind, paths))
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in ordered)


def _kind(path: str) -> str:
    if not is_url(path) and not os.path.isfile(path):
        return _NO_FILE
    return _suffix(path) or _NO_SUFFIX
