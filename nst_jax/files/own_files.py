"""Which pictures in an output folder are the program's own, and so no input of the next run."""

import contextlib
import functools
import json
import os
import re

from nst_jax.files.folders import folder_at
from nst_jax.files.ledger import Record
from nst_jax.request.outputs import (
    CONTACT_SHEET_NAME,
    PREVIEWS_NAME,
    REPORT_PICTURES,
    is_url,
    output_key,
)

_ON_THE_WAY = re.compile(rf"{REPORT_PICTURES}.+|{PREVIEWS_NAME}/.+\.\d{{6,}}\.png")
"""Copies of the report, and previews by output and step."""

_OF_STUDIES = ("contact_sheet.png", "inputs/content.png", "inputs/style.png")


class OwnFiles:
    """The pictures that earlier runs have put into a folder: `path in OwnFiles(output_dir)`.

    Outputs are known by the ledger and by the record of a study, which are read when the first
    path lies in the folder. A picture that only stands there is none of them.

    Raises:
        OutputError: The folder's name means a place elsewhere, or its ledger can't be read.
    """

    def __init__(self, output_dir: str) -> None:
        self._folder = folder_at(output_dir)
        self._real = functools.cache(os.path.realpath)  # of folders, which are few

    def __contains__(self, path: str) -> bool:
        name = self._name_of(path)
        return bool(name) and (
            _ON_THE_WAY.fullmatch(name) is not None or output_key(name) in self._outputs
        )

    def _name_of(self, path: str) -> str:
        """The name of a file within the folder; empty for one outside."""
        root = self._folder.name
        if is_url(path) != is_url(root):
            return ""
        if not is_url(root):
            parent, last = os.path.split(path)
            root, path = self._real(root), os.path.join(self._real(parent), last)
        return path.removeprefix(f"{root}/") if path.startswith(f"{root}/") else ""

    @functools.cached_property
    def _outputs(self) -> frozenset[str]:
        names = list(self._folder.read_records(slim=_keep_name))
        if names:
            names.append(CONTACT_SHEET_NAME)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # there is no study
            study = json.loads(self._folder.read("study.json") or b"")
            names += [*_OF_STUDIES, *(str(cell["output"]) for cell in study["cells"])]
        return frozenset(map(output_key, names))


def _keep_name(record: Record) -> None:
    for key in record.keys() - {"job", "time"}:
        del record[key]
