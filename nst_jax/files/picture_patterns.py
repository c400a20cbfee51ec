"""Patterns of paths: which part is meant as it is written, what matches, what to call it."""

import glob
import os
from pathlib import PurePath
from typing import NamedTuple

from nst_jax.request.outputs import stem_and_suffix
from nst_jax.request.paths import find_path, list_spellings


class Pattern(NamedTuple):
    """A pattern in its two parts.

    Attributes:
        fixed: The folders at its beginning that are there under that very name, `[2024]` or not.
        rest: What follows, with `*`, `?`, `[...]` or `**` in it.
    """

    fixed: str
    rest: str

    def list_matches(self) -> list[str]:
        """What is there, sorted."""
        found = glob.glob(self.rest, root_dir=self.fixed or None, recursive=True)
        return sorted(os.path.join(self.fixed, name) for name in found)

    def name_of(self, path: str) -> str:
        """What outputs call a match where the pattern covers many folders; else nothing."""
        if not glob.has_magic(os.path.dirname(self.rest)):
            return ""
        below = os.path.relpath(path, self.fixed or os.curdir)
        return "_".join((*PurePath(below).parts[:-1], stem_and_suffix(below)[0]))


def read_pattern(place: str) -> Pattern | None:
    """The pattern in a path that is not there, spelled so that it matches if any spelling does.

    None where there is none: no wildcard is left behind the folders that are there.
    """
    patterns = [_split(spelled) for spelled in list_spellings(place)]
    patterns = [pattern for pattern in patterns if glob.has_magic(pattern.rest)]
    return next((one for one in patterns if one.list_matches()), next(iter(patterns), None))


def _split(place: str) -> Pattern:
    parts = PurePath(place).parts
    fixed = os.curdir if parts[:1] and parts[0].startswith("~") else ""
    while parts and os.path.lexists(here := find_path(os.path.join(fixed, parts[0]))):
        fixed, parts = here, parts[1:]
    return Pattern(fixed, "/".join(parts))
