"""Paths as people write them: one rule for options, cells of manifests, and callers in Python.

A leading `~` is a home, as in a shell. A name that is not there is looked for with its accents
as letters of their own or as part of the letter (macOS writes the one, most others the other),
and with `/` where Windows has a backslash. What is still not there stays as it was written.
Addresses (`s3://`) are no paths and stay as they are.
"""

import os
import re
import unicodedata
from pathlib import PurePath

from nst_jax.request.errors import OutputError
from nst_jax.request.outputs import is_url

_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""How a path with a drive or a server begins."""

_HAS_FOREIGN_SLASHES = os.sep == "/"
"""Whether a backslash is but a letter here."""


def is_absolute(name: str) -> bool:
    """Whether a path says where it begins, on this machine or on Windows."""
    return name.startswith("/") or os.path.isabs(name) or _OF_WINDOWS.match(name) is not None


def expand_home(name: str) -> str:
    """A path with a leading `~` or `~USER` replaced; as it is where nobody has that home."""
    return os.path.expanduser(name) if name.startswith("~") else name


def find_path(name: str) -> str:
    """What a path that somebody wrote is called on this machine's disk."""
    name = expand_home(name)
    if (name.isascii() and "\\" not in name) or is_url(name) or os.path.lexists(name):
        return name
    return next(filter(None, map(_find_letters, _with_own_slashes(name))), name)


def list_spellings(name: str) -> list[str]:
    """A path or pattern, and the ways in which others may have written the same."""
    return [form for slashed in _with_own_slashes(name) for form in _forms(slashed)]


def hint_at_spelling(name: str) -> str:
    """How to mend a path that is not there."""
    if _HAS_FOREIGN_SLASHES and _OF_WINDOWS.match(name):
        return "It is a path of Windows, and this is another machine: name where the file lies here"
    if _HAS_FOREIGN_SLASHES and "\\" in name:
        return "Folders are divided by / here"
    if name.startswith("~"):
        return "Nobody has that home here; ./~ is a name that begins so"
    if re.search("[\u201c\u201d\u201e\u00ab\u00bb]|(^|/)[\u2018\u2019]", name):
        return "Typographic quotes are part of a name; write it without, or in straight ones"
    return "Check the path and its spelling"


def find_output(place: str | os.PathLike[str]) -> str:
    """What an output folder or file is called on this machine, whether it is there or not.

    Raises:
        OutputError: It is not there, and its name means a place elsewhere: of Windows, or in a
            home that nobody has.
    """
    name = find_path(os.fspath(place))
    whole = PurePath(name)
    new = [path.name for path in (whole, *whole.parents) if not os.path.lexists(path)]
    is_foreign = _HAS_FOREIGN_SLASHES and ("\\" in "".join(new) or _OF_WINDOWS.match(name))
    is_home = name == "~" or (name.startswith("~") and "/" in name)
    if new and (is_foreign or is_home) and not is_url(name):
        raise OutputError(f"output {name!r} must be a path of this machine", hint_at_spelling(name))
    return name


def _with_own_slashes(name: str) -> list[str]:
    slashed = name.replace("\\", "/") if _HAS_FOREIGN_SLASHES else name
    return list(dict.fromkeys((name, slashed)))


def _forms(name: str) -> list[str]:
    forms = (unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return list(dict.fromkeys((name, *forms)))


def _find_letters(name: str) -> str:
    """The path of what is there under these letters, in either form; empty where there is none."""
    found = ""
    for part in PurePath(name).parts:
        places = (os.path.join(found, form) for form in _forms(part))
        found = next(filter(os.path.lexists, places), "")
        if not found:
            return ""
    return found
