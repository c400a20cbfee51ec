"""A file appears under its name whole or not at all."""

import contextlib
import errno
import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".partial-"

BinaryFile = io.BufferedWriter | io.BytesIO
"""What is open to be written."""

_NO_FLUSH_HERE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def replace_atomically(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary name beside `path`; a clean exit moves it into place.

    The temporary file is flushed to disk before the rename, so a crash leaves either the
    old file or the new one. After an exception nothing new remains. The file has the mode that
    the system gives to a new one: many mounts refuse to change a mode. The temporary name is
    unique, keeps the suffix (encoders choose by it) and starts with a dot, so that a
    folder listing made meanwhile does not take it for a picture.

    Args:
        path: The file's name.
        durable: False for what is easily made again: a crash of the machine may leave it empty.

    Raises:
        OSError: The folder can't be written, or the disk is full.
    """
    temporary = path.with_name(f"{_PREFIX}{uuid.uuid4().hex}{path.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                flush_to_disk(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def flush_to_disk(handle: int) -> None:
    """Waits until the bytes of an open file are on its disk, where a mount can tell that.

    Raises:
        OSError: They did not get there.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FLUSH_HERE:
            raise


def check_writable(folder: Path) -> None:
    """Does in a folder all that writing there takes: make a file, and let another take its place.

    Raises:
        OSError: The folder or its mount does not allow that.
    """
    probe = folder / f"{_PREFIX}{uuid.uuid4().hex}"
    try:
        for _ in range(2):
            write_bytes(probe, b"", durable=False)
    finally:
        with contextlib.suppress(OSError):  # some stores let nothing be removed
            probe.unlink()


@contextlib.contextmanager
def temporary_sibling_dir(path: Path) -> Iterator[Path]:
    """A folder of its own beside `path`, on the same disk, gone with all that lies in it.

    For what is made by others, such as a child process or a download, and may be left half
    done: move it to `path` from there when it is whole. The folder's name starts with a dot.

    Raises:
        OSError: The folder can't be written, or the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=path.parent) as folder:
        yield Path(folder)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes `content` so that `path` is either whole or untouched; see `replace_atomically`."""
    with replace_atomically(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def remove_partial_files(folder: Path) -> None:
    """Removes what killed processes have left half written, in a folder and all below it."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    Path(place, name).unlink()
