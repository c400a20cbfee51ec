"""A file appears under its name whole or not at all."""

import contextlib
import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".partial-"

BinaryFile = io.BufferedWriter | io.BytesIO
"""What is open to be written."""


@contextlib.contextmanager
def replace_atomically(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary name beside `path`; a clean exit moves it into place.

    The temporary file is flushed to disk before the rename, so a crash leaves either the
    old file or the new one. After an exception nothing new remains. The temporary name is
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
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
