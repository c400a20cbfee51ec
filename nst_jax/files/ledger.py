"""The ledger: one JSON line for each finished or failed job, appended after its picture.

Append-only and durable: a line is written whole and flushed to disk before the next job's.
A crash can leave at most a torn last line, which the next writer ends and every reader
passes over. Several writers keep `ledger-*.jsonl` of their own; reading merges them.
"""

import errno
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from nst_jax.files.atomic import flush_to_disk

LEDGER_NAME = "ledger.jsonl"
PARTS_PATTERN = "ledger-*.jsonl"

Record = dict[str, Any]

# Most of a line, and of the time that parsing it takes. Within a string the quotes are escaped.
_CURVE = re.compile(rb'(?<!\\)"curve": \[[][0-9.,eEnul+ -]*\], ')


def ledger_name(part: str = "") -> str:
    """The file of one writer: `ledger.jsonl`, or `ledger-PART.jsonl`."""
    return f"ledger-{part}.jsonl" if part else LEDGER_NAME


def read_ledger(folder: Path, slim: Callable[[Record], None] | None = None) -> dict[str, Record]:
    """The last record of each job in an output folder, by the job's name.

    Args:
        folder: The output folder; one without a ledger has no records.
        slim: Takes out of a record what need not stay in memory; it gets them without their
            curves.
    """
    paths = (*sorted(folder.glob(PARTS_PATTERN)), folder / LEDGER_NAME)
    return merge_records(_read_lines(path for path in paths if path.is_file()), slim)


def _read_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            yield from file


def merge_records(
    lines: Iterable[bytes], slim: Callable[[Record], None] | None = None
) -> dict[str, Record]:
    """The last record of each job in the lines of several files, by the job's name.

    Where two records of a job both say when they were made, the later one is the last;
    else the one in the later file, and within a file the one further down.
    """
    records: dict[str, Record] = {}
    for line in lines:
        record = _parse(_CURVE.sub(b"", line) if slim else line)
        if record is not None and not _is_older(record, records.get(record["job"])):
            if slim:
                slim(record)
            records[record["job"]] = record
    return records


def _is_older(record: Record, other: Record | None) -> bool:
    made, other_made = record.get("time"), (other or {}).get("time")
    if not isinstance(made, (int, float)) or not isinstance(other_made, (int, float)):
        return False
    return made < other_made


class Ledger:
    """An open ledger; use it in a `with` block."""

    def __init__(self, folder: Path, part: str = "") -> None:
        """The ledger of a folder, or the part of it that one of several writers keeps."""
        self._path = folder / ledger_name(part)
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Ledger":
        torn = _is_torn(self._path)
        self._file = self._path.open("ab", buffering=0)
        if torn:
            self._file.write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record, whole and durable, before it returns.

        Raises:
            OSError: The disk is full, or the folder can't be written any more.
        """
        assert self._file is not None, "a ledger is written inside its with block"
        line = json.dumps(record, ensure_ascii=True, allow_nan=False) + "\n"
        encoded = line.encode()
        if self._file.write(encoded) != len(encoded):  # what a disk does before it is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush_to_disk(self._file.fileno())


def _parse(line: bytes) -> Record | None:
    """A line's record; None for a torn or foreign line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and isinstance(record.get("job"), str)
    return record if known else None


def _is_torn(path: Path) -> bool:
    """Whether the file's last line has no end."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
