"""The ledger: one JSON line for each finished or failed job, appended after its picture.

Append-only and durable: a line is written whole and flushed to disk before the next job's.
A crash can leave at most a torn last line, which the next writer ends and every reader
passes over. Several writers keep `ledger-*.jsonl` of their own; reading merges them.
"""

import errno
import json
import operator
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from nst_jax.files.atomic import flush_to_disk
from nst_jax.files.storage import version_tag

LEDGER_NAME = "ledger.jsonl"
PARTS_PATTERN = "ledger-*.jsonl"

Record = dict[str, Any]

JobLines = tuple[Record, ...]
"""What the files of a ledger have of one job, a line each at most; the latest is the last."""

# Most of a line, and of the time that parsing it takes. Within a string the quotes are escaped.
_CURVE = re.compile(rb'(?<!\\)"curve": \[[][0-9.,eEnul+ -]*\], ')


def ledger_name(part: str = "") -> str:
    """The file of one writer: `ledger.jsonl`, or `ledger-PART.jsonl`."""
    return f"ledger-{part}.jsonl" if part else LEDGER_NAME


def read_ledger(folder: Path) -> dict[str, Record]:
    """The record of each job in an output folder, by the job's name; see `choose_record`."""
    found = read_job_lines(folder)
    return {job: choose_record(lines, folder / job) for job, lines in found.items()}


def is_done(record: Record) -> bool:
    """Whether a line tells of a finished picture."""
    return record.get("status") == "done"


def choose_record(lines: Sequence[Record], picture: Path) -> Record:
    """Of the lines of a job the one that holds: the latest, but no finished picture's that is gone.

    Whose picture is there is known without a date: clocks of several machines may differ.

    Args:
        lines: At least one.
        picture: The job's output.
    """
    tag = version_tag(picture) if len(lines) > 1 else ""
    there = [one for one in lines if tag and one.get("stamp") == tag]
    if not there:
        return lines[-1]
    return [one for one in lines if one in there or not is_done(one)][-1]


def read_job_lines(
    folder: Path, slim: Callable[[Record], None] | None = None
) -> dict[str, JobLines]:
    """What the ledger of an output folder has of each job, by the job's name.

    Args:
        folder: The output folder; one without a ledger has no lines.
        slim: Takes out of a record what need not stay in memory; it gets them without their
            curves.
    """
    paths = (path for path in (*folder.glob(PARTS_PATTERN), folder / LEDGER_NAME) if path.is_file())
    files = sorted((path.stat().st_mtime, path) for path in paths)
    return merge_ledgers(((changed, _read_lines(path)) for changed, path in files), slim)


def _read_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def merge_ledgers(
    files: Iterable[tuple[float, Iterable[bytes]]], slim: Callable[[Record], None] | None = None
) -> dict[str, JobLines]:
    """What several files have of each job, by the job's name.

    Within a file the line further down is later, whatever the clock said. Between files there
    are dates alone, and no clock is trusted: no line is later than the last change of its file,
    and one that is of the future still comes before all others.

    Args:
        files: Of each the time of its last change, in seconds, and its lines.
        slim: See `read_job_lines`.
    """
    now = time.time()
    found: dict[str, list[tuple[float, Record]]] = {}
    for changed, lines in files:
        for job, record in _last_records(lines, slim).items():
            found.setdefault(job, []).append((_date(record, changed, now), record))
    return {
        job: tuple(record for _, record in sorted(dated, key=operator.itemgetter(0)))
        for job, dated in found.items()
    }


def _last_records(
    lines: Iterable[bytes], slim: Callable[[Record], None] | None
) -> dict[str, Record]:
    """The lowest line of each job."""
    records: dict[str, Record] = {}
    for line in lines:
        record = _parse(_CURVE.sub(b"", line) if slim else line)
        if record is not None:
            if slim:
                slim(record)
            records[record["job"]] = record
    return records


def _date(record: Record, changed: float, now: float) -> float:
    """When a line was written, as far as that can be believed; else 0."""
    made = record.get("time")
    date = float(min(max(made, 0), changed)) if isinstance(made, (int, float)) else changed
    return date if date <= now else 0.0


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
