"""An output folder in an object store: the same calls as a local one, without its locks.

A picture is one put, so it is there whole or not at all. The ledger is a part for each line,
never changed, merged on read; a run that ends well puts its own parts together into one. Two
runs at once are not noticed: they render twice what they both miss, and harm nothing.
"""

import contextlib
import datetime
import io
import json
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from nst_jax.files import storage
from nst_jax.files.ledger import LEDGER_NAME, PARTS_PATTERN, Record, merged
from nst_jax.spec.errors import OutputError

_PARTS_AT_ONCE = 256


class RemoteFolder:
    """A folder in an object store.

    Attributes:
        name: Its address.
    """

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        self._stamps: dict[str, str] | None = None

    def place_of(self, name: str) -> str:
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
        probe = self.place_of(f".probe-{uuid.uuid4().hex}")
        try:
            storage.put(probe, b"")
            storage.remove(probe)
        except OSError as error:
            raise OutputError(
                f"output folder {self.name!r} can't be written: {error.strerror or error}",
                "Check its name, the credentials and the network",
            ) from error

    def check_inside(self, names: object) -> None:
        """A store has no links that could lead out of the folder."""

    @contextlib.contextmanager
    def held(self, shard: str = "") -> Iterator[None]:
        """Holds nothing: a store has no locks."""
        yield

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none that can be read."""
        try:
            return storage.RemoteFile(self.place_of(name)).content
        except OSError:
            return None

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[io.BytesIO]:
        """A file to write that takes the place of `name` at the end of this `with` block.

        Raises:
            OSError: It can't be written. Nothing has changed then.
        """
        written = io.BytesIO()
        yield written
        storage.put(self.place_of(name), written.getvalue())

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole, or not at all.

        Raises:
            OSError: It can't be written.
        """
        storage.put(self.place_of(name), content)
        if self._stamps is not None:
            self._stamps[name] = storage.RemoteFile(self.place_of(name)).stamp()

    def remove(self, name: str) -> None:
        """Removes a file, if it is there and that is allowed."""
        with contextlib.suppress(OSError):
            storage.remove(self.place_of(name))

    def remove_partial_files(self) -> None:
        """A store has none."""

    def stamp(self, name: str) -> str:
        """What changes whenever a file does; empty where it is missing. One listing for all."""
        if self._stamps is None:
            found = storage.listed(self.name, deep=True)
            self._stamps = {path: storage.stamp_in(status) for path, status in found.items()}
        return self._stamps.get(name, "")

    def records(self) -> dict[str, Record]:
        """The last line of each job in all parts of the ledger.

        Raises:
            OutputError: The store fails.
        """
        try:
            return merged(self._parts())
        except OSError as error:
            raise OutputError(
                f"the ledger in {self.name!r} can't be read: {error.strerror or error}",
                "Check its name, the credentials and the network",
            ) from error

    def names(self, pattern: str) -> list[str]:
        """Files right in the folder whose names are so; none where the store fails."""
        with contextlib.suppress(OSError):
            return list(storage.listed(self.name, pattern))
        return []

    def ledger(self, part: str = "") -> "RemoteLedger":
        """The ledger, to be appended to in a `with` block; each run has parts of its own."""
        return RemoteLedger(self)

    def free_bytes(self) -> int | None:
        """Nobody tells."""
        return None

    def _parts(self) -> Iterator[bytes]:
        names = [*storage.listed(self.name, PARTS_PATTERN), LEDGER_NAME]
        urls = [self.place_of(name) for name in names[:-1]]
        for first in range(0, len(urls), _PARTS_AT_ONCE):
            yield from storage.read_many(urls[first : first + _PARTS_AT_ONCE])
        yield self.read(LEDGER_NAME) or b""


class RemoteLedger:
    """An open ledger in a store; use it in a `with` block."""

    def __init__(self, folder: RemoteFolder) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self._run = f"ledger-{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._lines: list[bytes] = []
        self._parts: list[str] = []

    def __enter__(self) -> "RemoteLedger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Puts the run's parts together; until that is done they stay."""
        if len(self._parts) < 2:
            return
        with contextlib.suppress(OSError):
            storage.put(self._folder.place_of(f"{self._run}.jsonl"), b"".join(self._lines))
            for name in self._parts:
                self._folder.remove(name)

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record as a part of its own.

        Raises:
            OSError: The store fails.
        """
        line = (json.dumps(record, ensure_ascii=True, allow_nan=False) + "\n").encode()
        name = f"{self._run}-{len(self._parts):06d}.jsonl"
        storage.put(self._folder.place_of(name), line)
        self._parts.append(name)
        self._lines.append(line)
