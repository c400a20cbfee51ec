"""An output folder in an object store: the same calls as a local one, without its locks.

A picture is one put, so it is there whole or not at all. The ledger is a part for each line,
never changed, merged on read; a run puts its own parts together into larger ones as it goes.
Two runs at once are not noticed: they render twice what they both miss, and harm nothing.
"""

import contextlib
import datetime
import io
import json
import math
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nst_jax.files import storage
from nst_jax.files.ledger import LEDGER_NAME, PARTS_PATTERN, JobLines, Record, merge_ledgers
from nst_jax.files.retry import retry
from nst_jax.request.errors import OutputError

_COMPACT_AFTER_LINES = 256
"""Parts of a line each that become one: so many are listed and read again at most."""

_PARTS_PER_READ = 64

_MAX_LISTINGS = 5
"""Tries to read parts before another run has put them together."""


class RemoteFolder:
    """A folder in an object store.

    Attributes:
        name: Its address.
    """

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        self._found: dict[str, str] | None = None
        self._written: dict[str, str] = {}

    def path_of(self, name: str) -> str:
        """The address of a file of the folder."""
        return f"{self.name}/{name}"

    def exists(self) -> bool:
        """A store has no folders: whatever is asked for is there."""
        return True

    def make(self) -> None:
        """Proves that the folder can be written, before any work.

        Raises:
            OutputError: It can't.
        """
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            storage.put(self.path_of(probe), b"")
        except OSError as error:
            raise self._error("output folder", "written", error) from error
        self.remove(probe)  # which a store may forbid

    def check_inside(self, names: object) -> None:
        """A store has no links that could lead out of the folder."""

    @contextlib.contextmanager
    def lock(self, shard: str = "") -> Iterator[None]:
        """Holds nothing: a store has no locks."""
        yield

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Waits for nobody: a store has no locks."""
        yield

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none.

        Raises:
            OSError: The store fails, or does not let us.
        """
        try:
            return storage.RemoteFile(self.path_of(name)).content
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def open_atomic(self, name: str) -> Iterator[io.BytesIO]:
        """A file to write that takes the place of `name` at the end of this `with` block.

        Raises:
            OSError: It can't be written. Nothing has changed then.
        """
        written = io.BytesIO()
        yield written
        storage.put(self.path_of(name), written.getvalue())

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole, or not at all.

        Raises:
            OSError: It can't be written.
        """
        storage.put(self.path_of(name), content)
        try:
            self._written[name] = storage.RemoteFile(self.path_of(name)).version_tag()
        except OSError:  # it is written; the next run reads it to know it
            self._written[name] = ""

    def remove(self, name: str) -> None:
        """Removes a file, if it is there and that is allowed."""
        with contextlib.suppress(OSError):
            storage.remove(self.path_of(name))

    def remove_partial_files(self) -> None:
        """A store has none."""

    def version_tag(self, name: str) -> str:
        """What changes whenever a file does; empty where it is missing.

        One listing for all that were not written here.

        Raises:
            OutputError: The store fails.
        """
        if name in self._written:
            return self._written[name]
        if self._found is None:
            try:
                found = storage.list_objects(self.name, deep=True)
            except OSError as error:
                raise self._error("output folder", "listed", error) from error
            self._found = {path: storage.tag_of_status(status) for path, status in found.items()}
        return self._found.get(name, "")

    def read_records(self, slim: Callable[[Record], None] | None = None) -> dict[str, JobLines]:
        """What all parts have of each job, made slim as `ledger.read_job_lines` does.

        Raises:
            OutputError: The store fails.
        """
        # Where a part is not found, another run has just put some parts together.
        try:
            return retry(
                lambda: merge_ledgers(self._read_parts(), slim),
                tries=_MAX_LISTINGS,
                back_off_s=0.0,
                is_transient=lambda error: isinstance(error, FileNotFoundError),
            )
        except OSError as error:
            raise self._error("the ledger in", "read", error) from error

    def list_names(self, pattern: str) -> list[str]:
        """Files right in the folder whose names are so; none where the store fails."""
        with contextlib.suppress(OSError):
            return list(storage.list_objects(self.name, pattern))
        return []

    def ledger(self, part: str = "") -> "RemoteLedger":
        """The ledger, to be appended to in a `with` block; each run has parts of its own."""
        return RemoteLedger(self)

    def free_bytes(self) -> int | None:
        """Nobody tells."""
        return None

    def _read_parts(self) -> Iterator[tuple[float, Iterator[bytes]]]:
        """Of each part of the ledger when it was written, and its lines; a few are in memory."""
        found = storage.list_objects(self.name, PARTS_PATTERN)
        names = list(found)
        for first in range(0, len(names), _PARTS_PER_READ):
            some = names[first : first + _PARTS_PER_READ]
            parts = storage.read_many([self.path_of(name) for name in some])
            for name, part in zip(some, parts, strict=True):
                yield storage.write_time(found[name]), io.BytesIO(part)
        yield math.inf, io.BytesIO(self.read(LEDGER_NAME) or b"")

    def _error(self, what: str, done: str, error: OSError) -> OutputError:
        return OutputError(
            f"{what} {self.name!r} can't be {done}: {error.strerror or error}",
            "Check its name, the credentials and the network",
        )


class RemoteLedger:
    """An open ledger in a store; use it in a `with` block."""

    def __init__(self, folder: RemoteFolder) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self._run = f"ledger-{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._lines: list[bytes] = []
        self._parts: list[str] = []
        self._count = 0

    def __enter__(self) -> "RemoteLedger":
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._parts) > 1:
            self._compact()

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record as a part of its own.

        Raises:
            OSError: The store fails.
        """
        line = (json.dumps(record, ensure_ascii=True, allow_nan=False) + "\n").encode()
        part = self._folder.path_of(f"{self._run}-{self._count:06d}.jsonl")
        storage.put(part, line)
        self._count += 1
        self._parts.append(part)
        self._lines.append(line)
        if len(self._parts) == _COMPACT_AFTER_LINES:
            self._compact()

    def _compact(self) -> None:
        """Makes one part of several; where that fails they stay, and it harms nothing."""
        with contextlib.suppress(OSError):
            name = f"{self._run}-{self._count - 1:06d}-with-{len(self._parts)}.jsonl"
            storage.put(self._folder.path_of(name), b"".join(self._lines))
            storage.remove(*self._parts)
        self._parts, self._lines = [], []
