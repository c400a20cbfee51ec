"""Object stores behind the few calls that a run needs: `s3://`, `gs://`, whatever fsspec knows.

Such a store has no folders, no renaming and no appending. What it has is a put that is whole
or not at all, and a listing. Every call is tried again, with growing pauses, after a fault
that may pass: a server that is busy, an answer that does not come, a connection that breaks.
"""

import errno
import fnmatch
import functools
import importlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from nst_jax.spec.outputs import is_url

LARGEST_INPUT_BYTES = 2**30
"""Of an object that is read as a whole into memory."""

_TRIES = 6
_BACK_OFF_S = 0.5
_CONNECT_S, _ANSWER_S = 10, 30

_LASTING = (FileNotFoundError, PermissionError, FileExistsError, ValueError, TypeError, ImportError)
_EXTRAS: Mapping[str, str] = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

Answer = TypeVar("Answer")


def located(source: str | os.PathLike[str]) -> "Path | RemoteFile":
    """A file of this machine, or of a store, by the name that one gives it."""
    name = os.fspath(source)
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
        status = info(self.url)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, "no such object")
        if int(status.get("size") or 0) > LARGEST_INPUT_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {LARGEST_INPUT_BYTES} bytes")
        return patiently(lambda system, path: system.cat_file(path), self.url)

    def stamp(self) -> str:
        """What changes whenever the object does; empty where it is missing."""
        return stamp_in(info(self.url))


def info(url: str) -> Mapping[str, Any] | None:
    """What the store says of an object; None where there is none.

    Raises:
        OSError: The store fails, or does not let us ask.
    """
    try:
        return patiently(lambda system, path: system.info(path), url)
    except FileNotFoundError:
        return None


def stamp_in(status: Mapping[str, Any] | None) -> str:
    """Size and entity tag, or what the store has instead of one; empty where that is unknown."""
    if status is None:
        return ""
    tags = (status.get(name) for name in ("ETag", "etag", "generation", "md5Hash", "mtime"))
    tag = next((str(tag).strip('"') for tag in tags if tag), "")
    return f"{status.get('size')}-{tag}" if tag else ""


def put(url: str, content: bytes) -> None:
    """Writes an object whole, in place of an older one.

    Raises:
        OSError: It can't be written.
    """
    patiently(lambda system, path: system.pipe_file(path, content), url)


def remove(url: str) -> None:
    """Removes an object.

    Raises:
        OSError: There is none, or it can't be removed.
    """
    patiently(lambda system, path: system.rm_file(path), url)


def read_many(urls: list[str]) -> list[bytes]:
    """The contents of several objects, read at once.

    Raises:
        OSError: One can't be read.
    """
    if not urls:
        return []
    paths = [_path(url) for url in urls]
    contents = patiently(lambda system, _: system.cat(paths), urls[0])
    return [contents[path] for path in paths] if isinstance(contents, dict) else [contents]


def listed(url: str, pattern: str = "*", *, deep: bool = False) -> dict[str, Mapping[str, Any]]:
    """What lies under an address: what the store says of each object, by its name from there.

    Args:
        url: Of the folder, as it were.
        pattern: Of the names that are wanted.
        deep: Whether folders below are gone through too.

    Raises:
        OSError: The store fails.
    """
    depth = None if deep else 1
    root = _path(url).rstrip("/") + "/"
    try:
        found = patiently(
            lambda system, path: system.find(path, maxdepth=depth, detail=True), url.rstrip("/")
        )
    except FileNotFoundError:
        return {}
    names = {path.removeprefix(root): status for path, status in found.items()}
    return {name: names[name] for name in sorted(names) if fnmatch.fnmatchcase(name, pattern)}


def patiently(call: Callable[[Any, str], Answer], url: str) -> Answer:
    """What a call with a file system and a path answers, tried again after faults that may pass.

    Raises:
        FileNotFoundError: There is no such object.
        PermissionError: The store does not let us.
        OSError: The store fails each time; `errno` is EIO.
    """
    system, path = _system(url), _path(url)
    for number in range(_TRIES):
        try:
            return call(system, path)
        except _LASTING as error:
            raise _as_os_error(error) from error
        except Exception as error:  # a store's library raises its own, and many
            if number == _TRIES - 1:
                raise OSError(
                    errno.EIO, f"the store failed {_TRIES} times: {_line(error)}"
                ) from error
            time.sleep(_BACK_OFF_S * 2**number)
    raise AssertionError("the last try returns or raises")


def _as_os_error(error: Exception) -> OSError:
    return error if isinstance(error, OSError) else OSError(errno.EINVAL, _line(error))


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).split("\n")[0][:300]


def _path(url: str) -> str:
    return _system(url)._strip_protocol(url)


def _system(url: str) -> Any:
    """The file system of an address, which fsspec makes once.

    Raises:
        OSError: The package for it is not installed, or there is no such store.
    """
    scheme = url.partition("://")[0].lower()
    try:
        fsspec = importlib.import_module("fsspec")
        return fsspec.filesystem(scheme, use_listings_cache=False, **_limits(scheme))
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        how = f"pip install 'nst-jax[{extra}]'" if extra else f"{error}"
        raise OSError(errno.ENOSYS, f"no package for {scheme}:// is installed: {how}") from error
    except ValueError as error:
        raise OSError(errno.EINVAL, f"there is no store {scheme}://") from error


def _limits(scheme: str) -> dict[str, Any]:
    """How long to wait for an answer, where the store's library waits too long by itself."""
    if _EXTRAS.get(scheme) != "s3":
        return {}
    return {"config_kwargs": {"connect_timeout": _CONNECT_S, "read_timeout": _ANSWER_S}}
