"""The folder that a run writes into: what is in it, and how a file gets there whole."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from nst_jax.files.atomic import (
    BinaryFile,
    check_writable,
    remove_partial_files,
    replace_atomically,
)
from nst_jax.files.ledger import JobLines, Ledger, Record, read_job_lines
from nst_jax.files.locks import folder_mutex, lock_folder
from nst_jax.files.remote_folders import RemoteFolder
from nst_jax.files.storage import version_tag
from nst_jax.request.errors import OutputError, WriteError, reason_of
from nst_jax.request.outputs import is_url
from nst_jax.request.paths import find_output, find_path


class LocalFolder:
    """A folder on this machine or on a mount.

    Attributes:
        name: What to call it.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._identity: tuple[int, int] | None = None

    def path_of(self, name: str) -> str:
        """Where a file of the folder lies, as one would name it from outside."""
        return str(self._path / name)

    def exists(self) -> bool:
        return self._path.is_dir()

    def make(self) -> None:
        """Makes the folder and proves that pictures can be written into it, before any work.

        Raises:
            OutputError: It can't.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            check_writable(self._path)
            self._identity = _identity(self._path)
        except OSError as error:
            is_file = os.path.lexists(self._path) and not self._path.is_dir()
            reason = "it is no folder" if is_file else reason_of(error)
            if error.filename2:  # of the two names of a renaming
                reason = f"files can't be renamed there ({reason})"
            raise self._unwritable(reason) from error

    def check_inside(self, names: Iterable[str]) -> None:
        """Refuses outputs that a symbolic link would lead out of the folder.

        Raises:
            OutputError: One would.
        """
        root = self._path.resolve()
        for parent in {PurePosixPath(name).parent for name in names}:
            if not (self._path / parent).resolve().is_relative_to(root):
                raise OutputError(
                    f"outputs in {str(parent)!r} must stay inside the output folder {self.name!r}, "
                    "but a symbolic link leads out of it",
                    "Remove the link, or name another folder",
                )

    @contextlib.contextmanager
    def lock(self, shard: str = "") -> Iterator[None]:
        """Holds the folder against other runs in this `with` block; see `locks.lock_folder`.

        Raises:
            OutputError: Another process holds it, or it can't be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock_folder(self._path, shard))
            except OSError as error:
                raise self._unwritable(reason_of(error)) from error
            yield

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Waits for other workers to leave such a `with` block; see `locks.folder_mutex`.

        Raises:
            WriteError: The folder can't be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(folder_mutex(self._path))
            except OSError as error:
                raise WriteError(f"{self.name!r} can't be written: {reason_of(error)}") from error
            yield

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none.

        Raises:
            OSError: It can't be read.
        """
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def open_atomic(self, name: str) -> Iterator[BinaryFile]:
        """A file to write that takes the place of `name` at the end of this `with` block.

        Raises:
            OSError: It can't be written. Nothing has changed then.
        """
        path = self._path / name
        self._check_identity()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary, temporary.open("wb") as file:
            yield file

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole, or not at all.

        Raises:
            OSError: It can't be written.
        """
        with self.open_atomic(name) as file:
            file.write(content)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there and that is allowed."""
        with contextlib.suppress(OSError):
            (self._path / name).unlink()

    def remove_partial_files(self) -> None:
        """Removes what a killed run has left half written; only for whom holds the folder."""
        remove_partial_files(self._path)

    def version_tag(self, name: str) -> str:
        """What changes whenever a file does; empty where it is missing."""
        return version_tag(self._path / name)

    def read_records(self, slim: Callable[[Record], None] | None = None) -> dict[str, JobLines]:
        """What the ledger has of each job, made slim as `ledger.read_job_lines` does.

        Raises:
            OutputError: It can't be read.
        """
        try:
            return read_job_lines(self._path, slim)
        except OSError as error:
            raise OutputError(
                f"the ledger in {self.name!r} can't be read: {reason_of(error)}",
                "Mend that, or name another folder",
            ) from error

    def list_names(self, pattern: str) -> list[str]:
        """Files right in the folder whose names are so."""
        return sorted(path.name for path in self._path.glob(pattern))

    def ledger(self, part: str = "") -> Ledger:
        """The ledger, or a writer's part of it, to be appended to in a `with` block."""
        return Ledger(self._path, part)

    def free_bytes(self) -> int | None:
        """Bytes that still can be written; None where nobody tells."""
        try:
            status = os.statvfs(self._path)
        except (OSError, AttributeError):
            return None
        return status.f_bavail * status.f_frsize

    def _unwritable(self, reason: str) -> OutputError:
        return OutputError(
            f"output folder {self.name!r} can't be written: {reason}",
            "Name another folder, or mend its permissions",
        )

    def _check_identity(self) -> None:
        """Refuses to write where a mount has gone and another folder shows from under it."""
        if self._identity is not None and _identity(self._path) != self._identity:
            raise FileNotFoundError(2, "the output folder has been replaced by another one")


Folder = LocalFolder | RemoteFolder


def folder_at(place: str | os.PathLike[str]) -> Folder:
    """The folder of that path or address.

    Raises:
        OutputError: It is not there, and its name means a place on another machine.
    """
    name = find_output(place)
    return RemoteFolder(name) if is_url(name) else LocalFolder(Path(name))


def folder_and_name(place: str | os.PathLike[str]) -> tuple[Folder, str]:
    """The folder that a file of that path or address lies in, and its name there.

    Raises:
        OutputError: As `folder_at`.
    """
    name = find_output(place)
    if is_url(name):
        parent, _, last = name.rpartition("/")
        return RemoteFolder(parent), last
    return LocalFolder(Path(find_path(str(Path(name).parent)))), Path(name).name


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
