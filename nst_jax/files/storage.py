"""Object stores behind the few calls that a run needs: `s3://`, `gs://`, whatever fsspec knows.

Such a store has no folders, no renaming and no appending. What it has is a put that is whole
or not at all, and a listing. Every call is tried again, with growing pauses, after a fault
that may pass: a server that is busy, an answer that does not come, a connection that breaks.
Here alone: a store's library that retries as well would multiply the tries, and the waiting.
"""

import concurrent.futures
import datetime
import errno
import fnmatch
import functools
import importlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nst_jax.files.retry import Answer, retry
from nst_jax.request.outputs import is_url
from nst_jax.request.paths import find_path

LARGEST_INPUT_BYTES = 2**30
"""Of an object that is read as a whole into memory."""

_TRIES = 6
_BACK_OFF_S = 0.5
_CONNECT_S, _ANSWER_S = 10, 30

_SLOWEST_BYTES_A_SECOND = 100_000
_AT_ONCE = 16

_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    ValueError,
    TypeError,
    ImportError,
)
_PERMANENT_ERRNOS = frozenset(
    (errno.EINVAL, errno.EPERM, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.ENOSYS)
)
# What botocore and google-auth raise where asking again is of no use. By name: they are extras.
_PERMANENT_NAMES = frozenset(
    (
        *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "NoRegionError"),
        *("ParamValidationError", "InvalidRegionError", "UnauthorizedSSOTokenError"),
        *("SSOTokenLoadError", "TokenRetrievalError", "DefaultCredentialsError"),
    )
)
_ERRNOS: Mapping[type[Exception], int] = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    FileExistsError: errno.EEXIST,
}
_EXTRAS: Mapping[str, str] = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def as_file(source: str | os.PathLike[str]) -> "Path | RemoteFile":
    """A file of this machine, or of a store, by the name that one gives it."""
    name = find_path(os.fspath(source))
    return RemoteFile(name) if is_url(name) else Path(name)


class RemoteFile:
    """One object of a store, read as a whole when it is first needed.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @functools.cached_property
    def content(self) -> bytes:
        """All its bytes.

        Raises:
            OSError: There is none, it may not be read, is too large, or the store fails.
        """
        status = object_status(self.url)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, "no such object")
        if int(status.get("size") or 0) > LARGEST_INPUT_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {LARGEST_INPUT_BYTES} bytes")
        return with_retries(lambda system, path: system.cat_file(path), self.url)

    def version_tag(self) -> str:
        """What changes whenever the object does; empty where it is missing."""
        return tag_of_status(object_status(self.url))


def version_tag(file: Path | RemoteFile) -> str:
    """What tells without reading a file that it is still the same; empty where it is missing.

    Size and times, or its entity tag in a store. The time of the last change of its status
    can't be set by any program, so another content of the same size and date is noticed too.
    """
    try:
        if isinstance(file, RemoteFile):
            return file.version_tag()
        status = file.stat()
    except (OSError, ValueError):  # whoever reads the file learns why
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def object_status(url: str) -> Mapping[str, Any] | None:
    """What the store says of an object; None where there is none.

    Raises:
        OSError: The store fails, or does not let us ask.
    """
    try:
        return with_retries(lambda system, path: system.info(path), url)
    except FileNotFoundError:
        return None


def tag_of_status(status: Mapping[str, Any] | None) -> str:
    """Size and entity tag, or what the store has instead of one; empty where that is unknown."""
    if status is None:
        return ""
    tags = (status.get(name) for name in ("ETag", "etag", "generation", "md5Hash", "mtime"))
    tag = next((str(tag).strip('"') for tag in tags if tag), "")
    return f"{status.get('size')}-{tag}" if tag else ""


def write_time(status: Mapping[str, Any]) -> float:
    """When an object was written, in seconds by the store's clock; infinity where it is untold."""
    times = (status.get(name) for name in ("LastModified", "mtime", "updated"))
    return next((one.timestamp() for one in times if isinstance(one, datetime.datetime)), math.inf)


def put(url: str, content: bytes) -> None:
    """Writes an object whole, in place of an older one.

    Raises:
        OSError: It can't be written.
    """
    with_retries(lambda system, path: _put(system, path, content), url)


def _put(system: Any, path: str, content: bytes) -> None:
    if not system.async_impl:
        system.pipe_file(path, content)
        return
    # With "Expect: 100-continue" aiohttp waits for the answer to a put without a limit.
    asyn = importlib.import_module("fsspec.asyn")
    seconds = 2 * _ANSWER_S + len(content) / _SLOWEST_BYTES_A_SECOND
    asyn.sync(system.loop, system._pipe_file, path, content, timeout=seconds)


def read_many(urls: Sequence[str]) -> list[bytes]:
    """The contents of several objects, some of them at once.

    Raises:
        FileNotFoundError: One is gone.
        OSError: One can't be read.
    """
    return _call_for_each(lambda system, path: system.cat_file(path), urls)


def remove(*urls: str) -> None:
    """Removes objects, some of them at once.

    Raises:
        OSError: One can't be removed.
    """
    _call_for_each(lambda system, path: system.rm_file(path), urls)


def list_objects(
    url: str, pattern: str = "*", *, deep: bool = False
) -> dict[str, Mapping[str, Any]]:
    """What lies under an address: what the store says of each object, by its name from there.

    Args:
        url: Of the folder, as it were.
        pattern: Of the names that are wanted.
        deep: Whether folders below are gone through too.

    Raises:
        FileNotFoundError: There is no such bucket.
        OSError: The store fails.
    """
    place = url.rstrip("/")
    root = _path(place).rstrip("/") + "/"
    try:
        # Not `find` with a depth: that takes a folder that can't be listed for an empty one.
        found = (
            with_retries(lambda system, path: system.find(path, detail=True).values(), place)
            if deep
            else with_retries(lambda system, path: system.ls(path, detail=True), place)
        )
    except FileNotFoundError as error:
        if _is_missing_bucket(error):
            raise
        return {}
    statuses = {
        status["name"].removeprefix(root): status
        for status in found
        if status["type"] == "file" and status["name"].startswith(root)
    }
    names = (name for name in sorted(statuses) if name)  # a store may have an object "folder/"
    return {name: statuses[name] for name in names if fnmatch.fnmatchcase(name, pattern)}


def _is_missing_bucket(error: BaseException | None) -> bool:
    """Whether an error, or what it comes from, is a store's word for a bucket that is not there."""
    if error is None:
        return False
    response = getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") == "NoSuchBucket" or _is_missing_bucket(
        error.__cause__
    )


def _call_for_each(call: Callable[[Any, str], Answer], urls: Sequence[str]) -> list[Answer]:
    """The answers for several objects in their order, each patiently."""
    if not urls:
        return []
    pool = concurrent.futures.ThreadPoolExecutor(_AT_ONCE)
    try:
        return list(pool.map(lambda url: with_retries(call, url), urls))
    finally:
        pool.shutdown(cancel_futures=True)


def with_retries(call: Callable[[Any, str], Answer], url: str) -> Answer:
    """What a call with a file system and a path answers, tried again after faults that may pass.

    Raises:
        FileNotFoundError: There is no such object.
        PermissionError: The store does not let us.
        OSError: The store fails each time; `errno` is EIO. Or the call makes no sense to it.
    """
    system, path = _file_system(url), _path(url)
    try:
        return retry(
            lambda: call(system, path),
            tries=_TRIES,
            back_off_s=_BACK_OFF_S,
            is_transient=lambda error: not _is_permanent(error),
        )
    except Exception as error:  # a store's library raises its own, and many
        if not _is_permanent(error):
            reason = f"the store failed {_TRIES} times: {_one_line(error)}"
            raise OSError(errno.EIO, reason) from error
        if isinstance(error, OSError) and error.strerror:
            raise
        numbers = (number for kind, number in _ERRNOS.items() if isinstance(error, kind))
        # Its class follows from the number: FileNotFoundError stays one.
        raise OSError(next(numbers, errno.EINVAL), _one_line(error)) from error


def _is_permanent(error: Exception) -> bool:
    """Whether asking again is of no use."""
    if isinstance(error, _PERMANENT) or type(error).__name__ in _PERMANENT_NAMES:
        return True
    return isinstance(error, OSError) and error.errno in _PERMANENT_ERRNOS


def _one_line(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return " ".join((reason or str(error) or type(error).__name__).split())[:300]


def _path(url: str) -> str:
    return _file_system(url)._strip_protocol(url)


def _file_system(url: str) -> Any:
    """The file system of an address: one for all threads, with its connections."""
    return _open_file_system(url.partition("://")[0].lower())


@functools.cache
def _open_file_system(scheme: str) -> Any:
    """The file system of a scheme, none that another program in this process uses.

    Raises:
        OSError: The package for it is not installed, or there is no such store.
    """
    is_s3 = _EXTRAS.get(scheme) == "s3"
    once = {"total_max_attempts": 1, "mode": "standard"}
    limits = {"connect_timeout": _CONNECT_S, "read_timeout": _ANSWER_S, "retries": once}
    try:
        fsspec = importlib.import_module("fsspec")
        system = fsspec.filesystem(
            scheme,
            use_listings_cache=False,
            skip_instance_cache=True,
            **({"config_kwargs": limits} if is_s3 else {}),
        )
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        how = f"pip install 'nst-jax[{extra}]'" if extra else f"{error}"
        raise OSError(errno.ENOSYS, f"no package for {scheme}:// is installed: {how}") from error
    except ValueError as error:
        raise OSError(errno.EINVAL, f"there is no store {scheme}://") from error
    if is_s3:
        system.retries = 1
    return system
