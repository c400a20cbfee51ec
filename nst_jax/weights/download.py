"""Gets one known file over HTTP, past all that can go wrong on the way.

The server's word counts for nothing: neither its status nor the length that it states. The
file is what it should be when its size and its checksum are those of the registry; until
then nobody looks into it. A connection that breaks is taken up again where it broke, if the
server can do that (a Range request), or else from the start.

Why it failed is said in words of ours. The texts of requests show objects and addresses in
memory, and quote what a server says, so none of them gets through to a user.
"""

import dataclasses
import http.client
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from io import BufferedWriter
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urljoin, urlsplit

import requests
from requests import exceptions

from nst_jax.files.retry import retry
from nst_jax.weights.checksums import Checksum
from nst_jax.weights.registry import KnownWeights

_CHUNK_BYTES = 2**14
_PATIENTLY = sys.maxsize

_CHECK_THE_PROXY = "Check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"
_CHECK_THE_NETWORK = "Check the network; behind a proxy, set HTTPS_PROXY"
_CHECK_TLS = (
    "Check this machine's clock and, if a proxy here inspects TLS, name its certificate in "
    "REQUESTS_CA_BUNDLE"
)
_RUN_LATER = "Run the command again later"


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
class FetchProgress(Protocol):
    """What is told to whoever watches a known network come."""

    def on_download(self, done: int, total: int) -> None:
        """So many bytes are here. Fewer than last time if it had to begin again."""

    def on_retry(self, reason: str) -> None:
        """An attempt failed for this reason, and there is another one."""

    def on_conversion(self, done: int, total: int) -> None:
        """So many bytes of the downloaded file are converted."""


class NoProgress(FetchProgress):
    """For those who do not watch."""


@dataclasses.dataclass(eq=False)
class DownloadFailure(Exception):
    """Why an attempt failed.

    Attributes:
        reason: Half a sentence, to be read after "… could not be fetched from URL: ".
        remedy: What a user can do about it, without a full stop.
        attempts: After so many failures of this kind, another attempt is of no use.
    """

    reason: str
    remedy: str
    attempts: int = 1


def download(
    entry: KnownWeights, path: Path, *, progress: FetchProgress, retry_policy: RetryPolicy
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
        partial = _PartialDownload(file, entry, progress)
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


class _PartialDownload:
    """What is here of a file, on disk and in its checksum."""

    def __init__(self, file: BufferedWriter, entry: KnownWeights, progress: FetchProgress) -> None:
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
        """Takes the next bytes. More than the file has are refused: some streams have no end."""
        self._start = self._start or chunk
        if self.bytes + len(chunk) > self._size:
            raise self._failure(f"it is longer than the {self._size} bytes that it should have")
        self._file.write(chunk)
        self._hash.update(chunk)
        self.bytes += len(chunk)
        self._progress.on_download(self.bytes, self._size)

    def check(self) -> None:
        """Takes what is here as the whole file. Another than the known one is refused."""
        if self.bytes < self._size and not self._is_page():
            reason = f"it was cut short after {self.bytes} of {self._size} bytes"
            remedy = "Run the command again when the network is better"
            raise DownloadFailure(reason, remedy, _PATIENTLY)
        if fault := self._checksum.mismatch(self._hash.hexdigest()):
            raise self._failure(f"its {fault}")

    def _failure(self, reason: str) -> DownloadFailure:
        """Other bytes than expected came. A proxy may have mangled them, so once more."""
        replaced = "Its publisher may have replaced the file: update nst_jax"
        failure = _web_page() if self._is_page() else DownloadFailure(reason, replaced, 2)
        self.restart()
        return failure

    def _is_page(self) -> bool:
        # Asked only of what is wrong already: a safetensors file may well begin with "<".
        return bool(re.match(rb"\s*<[!?a-z]", self._start, re.IGNORECASE))


def _attempt(url: str, partial: _PartialDownload, retry_policy: RetryPolicy) -> None:
    """Asks for the rest of the file once, and checks the whole."""
    headers = {"Accept-Encoding": "identity"}
    if partial.bytes:
        headers["Range"] = f"bytes={partial.bytes}-"
    try:
        with requests.get(
            url,
            headers=headers,
            timeout=(retry_policy.connect_s, retry_policy.silence_s),
            stream=True,
            hooks={"response": _check_redirection},
        ) as response:
            _check_head(partial, response)
            for chunk in response.iter_content(_CHUNK_BYTES):
                partial.write(chunk)
    except (exceptions.RequestException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk's
        raise _explain(error, urlsplit(url).hostname or url, partial.bytes) from error
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


def _check_head(partial: _PartialDownload, response: requests.Response) -> None:
    """Judges an answer by its head, before its body is read."""
    if response.status_code in (206, 416):
        content_range = response.headers.get("content-range", "")
        if not content_range.startswith(f"bytes {partial.bytes}-"):
            partial.restart()
            reason = "the server sent another part than was asked for"
            raise DownloadFailure(reason, _RUN_LATER, _PATIENTLY)
        return
    response.raise_for_status()
    if response.headers.get("content-type", "").lower().startswith("text/html"):
        raise _web_page()
    partial.restart()  # the server sends all of it, whatever it was asked for


def _web_page() -> DownloadFailure:
    """A page with an error, or that asks to log in, in place of the file."""
    return DownloadFailure(
        "a web page (HTML) came in place of the file",
        "If this network asks to log in first, do so in a browser and run the command again",
    )


def _explain(error: Exception, host: str, received: int) -> DownloadFailure:
    """What an exception of the HTTP library means, when so many bytes are here already."""
    match error:
        case exceptions.InvalidProxyURL() | exceptions.InvalidSchema():
            return DownloadFailure("the proxy's address is of no use", _CHECK_THE_PROXY)
        case exceptions.ProxyError():
            return DownloadFailure("the proxy does not let it through", _CHECK_THE_PROXY)
        case exceptions.SSLError():
            return DownloadFailure(f"{host} could not prove who it is (TLS)", _CHECK_TLS)
        case exceptions.TooManyRedirects():
            return DownloadFailure("the server redirects without end", _RUN_LATER)
        case exceptions.HTTPError(response=requests.Response(status_code=status)):
            return _explain_status(status)
        case exceptions.RequestException():
            return _explain_connection(error, host, f" after {received} bytes" if received else "")
        case OSError():  # requests looks for the certificates before it connects
            return DownloadFailure("the certificates for TLS can't be read", _CHECK_TLS)
    return _no_sense()


def _explain_status(status: int) -> DownloadFailure:
    if status == 407:
        return DownloadFailure("the proxy wants a name and a password", _CHECK_THE_PROXY)
    if status in (404, 410):
        reason = f"the server does not have it (HTTP {status})"
        return DownloadFailure(reason, "Its place may be new: update nst_jax")
    if status in (408, 429) or status >= 500:
        reason = f"the server can't answer now (HTTP {status})"
        return DownloadFailure(reason, _RUN_LATER, _PATIENTLY)
    return DownloadFailure(f"the server refuses it (HTTP {status})", _CHECK_THE_NETWORK)


def _explain_connection(error: Exception, host: str, after: str) -> DownloadFailure:
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                reason = f"the name {host} can't be resolved, is there a network?"
                return DownloadFailure(reason, _CHECK_THE_NETWORK)
            case exceptions.Timeout() | TimeoutError():
                silence = f"fell silent{after}" if after else "does not answer"
                return _patient(f"{host} {silence}")
            case ConnectionRefusedError():
                return _patient(f"{host} refuses the connection")
            case http.client.IncompleteRead() | ConnectionError():
                return _patient(f"the connection broke{after}")
            case OSError(errno=int(number)):
                return _patient(f"there is no connection ({os.strerror(number)})")
    return _no_sense()


def _patient(reason: str) -> DownloadFailure:
    return DownloadFailure(reason, _CHECK_THE_NETWORK, _PATIENTLY)


def _no_sense() -> DownloadFailure:
    return DownloadFailure("the answer makes no sense as HTTP", _CHECK_THE_NETWORK, 2)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what caused it, and so on."""
    while error:
        yield error
        error = error.__cause__ or error.__context__
