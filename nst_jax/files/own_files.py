"""Which files in output folders are the program's own, and so no input of the next run."""

import contextlib
import functools
import json
import os
import re
from pathlib import Path

from nst_jax.files.folders import Folder, LocalFolder, folder_at
from nst_jax.files.ledger import LEDGER_NAME, PARTS_PATTERN, Record
from nst_jax.request.errors import OutputError
from nst_jax.request.outputs import (
    CONTACT_SHEET_NAME,
    PREVIEWS_NAME,
    REPORT_PICTURES,
    is_url,
    output_key,
)

_ON_THE_WAY = re.compile(
    rf"{REPORT_PICTURES}[0-9a-f]{{24}}\.webp|{PREVIEWS_NAME}/.+\.\d{{6,}}\.png"
)
"""Copies of the report, and previews by output and step."""

_RECORDS = re.compile(
    r"ledger(-.+)?\.jsonl|state(-.+)?\.npz|study\.csv|index\.html|report/(index\.html|data\.js)"
)
"""What is no picture; not what has a suffix that stands beside pictures anyway."""

_OF_STUDIES = ("contact_sheet.png", "inputs/content.png", "inputs/style.png")

_MARKS = (LEDGER_NAME, "plan.json", "study.json", "report/index.html")
"""Files of which a folder that runs have written into has one, or a part of a ledger."""


class OwnFiles:
    """The files that earlier runs have put into their output folders.

    A folder that a run has written into is known by its records; in a store, where patterns lead
    into no other folder, that of `output_dir` is looked at alone. Outputs are known by the
    ledger and by the record of a study, which are read when the first path lies in the folder. A
    file that only stands there is none of them.

    Attributes:
        output_dir: Of the run that asks; empty: it has none.

    Raises:
        OutputError: The name of `output_dir` means a place elsewhere, or its ledger can't be read.
    """

    def __init__(self, output_dir: str = "") -> None:
        self.output_dir = output_dir
        self._real = functools.cache(os.path.realpath)  # of folders, which are few
        self._outputs_in = functools.cache(self._find_outputs)
        self._asking = folder_at(output_dir) if output_dir else None
        root = self._asking.name if self._asking else ""
        self._root = self._real(root) if root and not is_url(root) else root

    def folder_of(self, path: str) -> str:
        """The folder whose run has written a file, `output_dir` if it is that; else nothing."""
        is_remote = is_url(path)
        folder, name = path.rsplit("/", 1) if is_remote else os.path.split(path)
        folder = folder if is_remote else str(self._real(folder))
        while True:
            outputs = self._outputs_in(folder)
            if outputs is not None and (
                output_key(name) in outputs
                or _ON_THE_WAY.fullmatch(name)
                or _RECORDS.fullmatch(name)
            ):
                return self.output_dir if folder == self._root else folder
            above, _, last = folder.rpartition("/")
            if not last or above.endswith("/"):  # the root, or a store's scheme
                return ""
            folder, name = above, f"{last}/{name}"

    def _find_outputs(self, place: str) -> frozenset[str] | None:
        """What runs have finished in a folder; None where there was none."""
        if self._asking and place == self._root:
            return _read_outputs(self._asking)
        folder = Path(place or "/")
        if is_url(place) or not _has_records(folder):
            return None
        with contextlib.suppress(OutputError):  # that it can't be read is no fault of this run
            return _read_outputs(LocalFolder(folder))
        return frozenset()


def _has_records(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # it may not be entered
        return any((folder / name).is_file() for name in _MARKS) or any(folder.glob(PARTS_PATTERN))
    return False


def _read_outputs(folder: Folder) -> frozenset[str]:
    names = list(folder.read_records(slim=_keep_name))
    if names:
        names.append(CONTACT_SHEET_NAME)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # there is no study
        study = json.loads(folder.read("study.json") or b"")
        names += [*_OF_STUDIES, *(str(cell["output"]) for cell in study["cells"])]
    return frozenset(map(output_key, names))


def _keep_name(record: Record) -> None:
    for key in record.keys() - {"job", "time"}:
        del record[key]
