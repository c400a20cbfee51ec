"""Gets one known file over HTTP, past all that can go wrong on the way.

The server's word counts for nothing: neither its status nor the length that it states. The
file is what it should be when its size and its checksum are those of the registry; until
then nobody looks into it. A connection that breaks is taken up again where it broke, if the
server can do that (a Range request), or else from the start.
"""

import dataclasses
import functools
import re
import sys
from collections import Counter
from io import BufferedWriter
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urljoin, urlsplit

import requests

from nst_jax.files.retry import retry
from nst_jax.weights.checksums import Checksum
from nst_jax.weights.download_failures import DownloadFailure, explain_failure
from nst_jax.weights.registry import KnownWeights

_CHUNK_BYTES = 2**14


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a network, and how often to ask it again.

    Attributes:
        connect_s: For a connection.
        silence_s: For the next byte.
        attempts: In all, the first one included.
        pause_s: Before the second attempt, and twice as long before each further one.
    """

    connect_s: float = 10.0
    silence_s: float = 30.0
    attempts: int = 5
    pause_s: float = 1.0


@runtime_checkable
class DownloadProgress(Protocol):
    """What a download tells whoever watches it."""

    def on_download(self, done: int, total: int) -> None:
        """So many bytes are here. Fewer than last time if it had to begin again."""

    def on_retry(self, reason: str) -> None:
        """An attempt failed for this reason, and there is another one."""


def download(
    entry: KnownWeights, path: Path, *, progress: DownloadProgress, retry_policy: RetryPolicy
) -> None:
    """Downloads a known file and checks its size and its checksum.

    Args:
        entry: Says where from, how large and with which checksum.
        path: The file to write. What is in it after an exception is worth nothing.
        progress: Called as bytes arrive and before every further attempt.
        retry_policy: How long and how often to try.

    Raises:
        DownloadFailure: The last attempt's, when there is no point in another one.
        OSError: The file can't be written.
    """
    with path.open("wb") as file:
        partial = PartialDownload(file, entry, progress)
        failures = Counter[int]()

        def is_transient(error: Exception) -> bool:
            if not isinstance(error, DownloadFailure):
                return False
            failures[error.attempts] += 1
            if failures[error.attempts] >= min(error.attempts, retry_policy.attempts):
                return False
            progress.on_retry(error.reason)
            return True

        retry(
            lambda: _attempt(entry.url, partial, retry_policy),
            back_off_s=retry_policy.pause_s,
            is_transient=is_transient,
        )


class PartialDownload:
    """What is here of a file, on disk and in its checksum."""

    def __init__(
        self, file: BufferedWriter, entry: KnownWeights, progress: DownloadProgress
    ) -> None:
        self._file = file
        self._size = entry.size
        self._checksum = Checksum.parse(entry.checksum)
        self._progress = progress
        self.restart()

    def restart(self) -> None:
        """Forgets everything."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = self._checksum.new_hash()
        self._start = b""
        self.bytes = 0

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes.

        Raises:
            DownloadFailure: They are more than the file has. A stream that has no end
                would fill the disk.
        """
        self._start = self._start or chunk
        if self.bytes + len(chunk) > self._size:
            raise self._failure(f"it is longer than the {self._size} bytes that it should have")
        self._file.write(chunk)
        self._hash.update(chunk)
        self.bytes += len(chunk)
        self._progress.on_download(self.bytes, self._size)

    def check(self) -> None:
        """Takes what is here as the whole file.

        Raises:
            DownloadFailure: It is not the file that the registry knows.
        """
        if self.bytes < self._size and not self._is_page():
            raise DownloadFailure(
                f"it was cut short after {self.bytes} of {self._size} bytes",
                "Run the command again when the network is better",
                attempts=sys.maxsize,
            )
        if fault := self._checksum.mismatch(self._hash.hexdigest()):
            raise self._failure(f"its {fault}")

    def _failure(self, reason: str) -> DownloadFailure:
        """Other bytes than expected came. A proxy may have mangled them, so once more."""
        if self._is_page():
            failure = web_page()
        else:
            failure = DownloadFailure(
                reason, "Its publisher may have replaced the file: update nst_jax", attempts=2
            )
        self.restart()
        return failure

    def _is_page(self) -> bool:
        # Asked only of what is wrong already: a safetensors file may well begin with "<".
        return bool(re.match(rb"\s*<[!?a-z]", self._start, re.IGNORECASE))


def web_page() -> DownloadFailure:
    """A page with an error, or that asks to log in, in place of the file."""
    return DownloadFailure(
        "a web page (HTML) came in place of the file",
        "If this network asks to log in first, do so in a browser and run the command again",
    )


def _attempt(url: str, partial: PartialDownload, retry_policy: RetryPolicy) -> None:
    """Asks for the rest of the file once, and checks the whole."""
    headers = {"Accept-Encoding": "identity"}
    if partial.bytes:
        headers["Range"] = f"bytes={partial.bytes}-"
    ask = functools.partial(
        requests.get,
        url,
        headers=headers,
        timeout=(retry_policy.connect_s, retry_policy.silence_s),
        stream=True,
        hooks={"response": _check_redirection},
    )
    try:
        with ask() as response:
            _check_head(partial, response)
            for chunk in response.iter_content(_CHUNK_BYTES):
                partial.write(chunk)
    except (requests.RequestException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk's
        raise explain_failure(error, urlsplit(url).hostname or url, partial.bytes) from error
    partial.check()


def _check_redirection(response: requests.Response, **_: Any) -> None:
    """Refuses to leave https. Asked of every answer before its body is read."""
    if not response.is_redirect:
        return
    response.close()  # or else requests would read its body, of whatever length
    there = urlsplit(urljoin(response.url, response.headers["location"])).scheme
    if there != "https" and (there != "http" or urlsplit(response.url).scheme == "https"):
        raise DownloadFailure(
            "the server redirects to an address that is not https",
            "Something on the way may be meddling: try another network",
        )


def _check_head(partial: PartialDownload, response: requests.Response) -> None:
    """Judges an answer by its head, before its body is read.

    Raises:
        DownloadFailure: It is not what was asked for.
        requests.HTTPError: The server has nothing to give.
    """
    if response.status_code in (206, 416):
        content_range = response.headers.get("content-range", "")
        if not content_range.startswith(f"bytes {partial.bytes}-"):
            partial.restart()
            raise DownloadFailure(
                "the server sent another part than was asked for",
                "Run the command again later",
                attempts=sys.maxsize,
            )
        return
    response.raise_for_status()
    if response.headers.get("content-type", "").lower().startswith("text/html"):
        raise web_page()
    partial.restart()  # the server sends all of it, whatever it was asked for
