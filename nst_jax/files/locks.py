"""One run at a time in a folder: a lock that dies with the process that holds it.

The lock is the kernel's (`flock`), so a killed process leaves none behind; the file beside it
only says who holds it, and is believed while it is locked. A whole run holds the folder alone.
Shards of one run share it, and each holds its own share alone. Where the system has no such
locks (Windows, some network mounts) there is none, and two runs at once render twice what they
both miss.
"""

import contextlib
import datetime
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nst_jax.request.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_NAME = ".lock"
_MUTEX_NAME = ".turn"

_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_LOOK_S = 0.05
"""More than somebody who only looks whether a file is locked holds it."""

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def lock_folder(folder: Path, shard: str = "") -> Iterator[None]:
    """Holds a folder in this `with` block.

    Args:
        folder: It exists.
        shard: Which share of the run this is, such as `0-of-4`; empty: the whole of it.

    Raises:
        OutputError: Another process holds it; the message says which.
        OSError: The lock's file can't be made.
    """
    if fcntl is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(_hold(folder / LOCK_NAME, folder, alone=not shard))
        if shard:
            own = stack.enter_context(_hold(folder / f"{LOCK_NAME}-{shard}", folder, alone=True))
            _write_holder(own)
        else:
            _write_holder(whole)
            _remove_shard_locks(folder)
        yield


@contextlib.contextmanager
def folder_mutex(folder: Path) -> Iterator[None]:
    """Waits until no other process that shares the folder is in such a `with` block.

    Raises:
        OSError: The lock's file can't be made.
    """
    if fcntl is None:
        yield
        return
    with _hold(folder / _MUTEX_NAME, folder, alone=True, wait=True):
        yield


@contextlib.contextmanager
def _hold(path: Path, folder: Path, *, alone: bool, wait: bool = False) -> Iterator[int]:
    handle = _acquire(path, folder, alone=alone, wait=wait)
    try:
        yield handle
    finally:
        if alone:  # else others hold it too
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(handle)


def _acquire(path: Path, folder: Path, *, alone: bool, wait: bool) -> int:
    """An open file that is locked and still lies under its name."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, alone=alone, wait=wait)
            if _is_in_place(handle, path):
                return handle
        except OSError as error:
            holders = _holders(folder)
            os.close(handle)
            if error.errno in _HELD_BY_ANOTHER:
                raise _in_use_error(folder, holders) from error
            raise
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # whoever held it before has removed it in between


def _lock(handle: int, *, alone: bool, wait: bool) -> None:
    assert fcntl is not None
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    try:
        if wait:
            fcntl.flock(handle, kind)
        elif not _try_lock(handle, kind):
            time.sleep(_LOOK_S)  # it may have been one who only looked
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise


def _try_lock(handle: int, kind: int) -> bool:
    """Takes a lock of this kind, if no other's stands against it; whether it did."""
    assert fcntl is not None
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            return False
        raise
    return True


def _is_in_place(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(handle: int) -> None:
    """Says in the file who holds it, where that can be written."""
    holder = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    with contextlib.suppress(
        OSError
    ):  # some mounts write no file twice; the lock is held all the same
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)


def _remove_shard_locks(folder: Path) -> None:
    """Removes what killed shards left; who holds the folder alone knows that none is at work."""
    for path in folder.glob(f"{LOCK_NAME}-*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _holders(folder: Path) -> list[dict[str, Any]]:
    """What those say of themselves who hold the folder or a share of it now."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"{LOCK_NAME}*")):
        with contextlib.suppress(OSError, ValueError):
            holder = json.loads(path.read_bytes())
            if isinstance(holder, dict) and _is_held_alone(path):
                found.append(holder)
    return found


def _is_held_alone(path: Path) -> bool:
    assert fcntl is not None
    handle = os.open(path, os.O_RDONLY)
    try:
        return not _try_lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _in_use_error(folder: Path, holders: list[dict[str, Any]]) -> OutputError:
    names = ", ".join(
        f"process {one.get('process')} on {one.get('host')} since {one.get('since')}"
        for one in holders
    )
    return OutputError(
        f"output folder {str(folder)!r} is in use by {names or 'another process'}",
        "Wait until that run has ended, or name another folder",
    )
