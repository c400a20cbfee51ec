"""Why a download failed, in words: one half sentence and what to do about it.

The texts of requests show objects and addresses in memory, and quote what a server says, so
none of them gets through to a user.
"""

import http.client
import os
import socket
import sys
from collections.abc import Iterator

import requests

_PATIENTLY = sys.maxsize


class DownloadFailure(Exception):
    """Why an attempt failed.

    Attributes:
        reason: Half a sentence, to be read after "… could not be fetched from URL: ".
        remedy: What a user can do about it, without a full stop.
        attempts: After so many failures of this kind, another attempt is of no use.
    """

    def __init__(self, reason: str, remedy: str, *, attempts: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.attempts = attempts


def explain_failure(error: Exception, host: str, received: int) -> DownloadFailure:
    """What an exception of the HTTP library means.

    Args:
        error: Of requests, or what else it raised in vain.
        host: The server that was asked.
        received: Bytes that are here already.
    """
    match error:
        case requests.exceptions.InvalidProxyURL() | requests.exceptions.InvalidSchema():
            return DownloadFailure("the proxy's address is of no use", _CHECK_THE_PROXY)
        case requests.exceptions.ProxyError():
            return DownloadFailure("the proxy does not let it through", _CHECK_THE_PROXY)
        case requests.exceptions.SSLError():
            return DownloadFailure(f"{host} could not prove who it is (TLS)", _CHECK_TLS)
        case requests.exceptions.TooManyRedirects():
            return DownloadFailure(
                "the server redirects without end", "Run the command again later"
            )
        case requests.exceptions.HTTPError(response=requests.Response(status_code=status)):
            return _of_status(status)
        case requests.exceptions.RequestException():
            return _of_connection(error, host, received)
        case OSError():  # requests looks for the certificates before it connects
            return DownloadFailure("the certificates for TLS can't be read", _CHECK_TLS)
    return _no_sense()


_CHECK_THE_PROXY = "Check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"
_CHECK_THE_NETWORK = "Check the network; behind a proxy, set HTTPS_PROXY"
_CHECK_TLS = (
    "Check this machine's clock and, if a proxy here inspects TLS, name its certificate in "
    "REQUESTS_CA_BUNDLE"
)


def _of_status(status: int) -> DownloadFailure:
    if status == 407:
        return DownloadFailure("the proxy wants a name and a password", _CHECK_THE_PROXY)
    if status in (404, 410):
        return DownloadFailure(
            f"the server does not have it (HTTP {status})", "Its place may be new: update nst_jax"
        )
    if status in (408, 429) or status >= 500:
        return DownloadFailure(
            f"the server can't answer now (HTTP {status})",
            "Run the command again later",
            attempts=_PATIENTLY,
        )
    return DownloadFailure(f"the server refuses it (HTTP {status})", _CHECK_THE_NETWORK)


def _of_connection(error: Exception, host: str, received: int) -> DownloadFailure:
    after = f" after {received} bytes" if received else ""
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return DownloadFailure(
                    f"the name {host} can't be resolved, is there a network?", _CHECK_THE_NETWORK
                )
            case requests.exceptions.Timeout() | TimeoutError():
                return _patient(
                    f"{host} fell silent{after}" if after else f"{host} does not answer"
                )
            case ConnectionRefusedError():
                return _patient(f"{host} refuses the connection")
            case http.client.IncompleteRead() | ConnectionError():
                return _patient(f"the connection broke{after}")
            case OSError(errno=int(number)):
                return _patient(f"there is no connection ({os.strerror(number)})")
    return _no_sense()


def _patient(reason: str) -> DownloadFailure:
    return DownloadFailure(reason, _CHECK_THE_NETWORK, attempts=_PATIENTLY)


def _no_sense() -> DownloadFailure:
    return DownloadFailure("the answer makes no sense as HTTP", _CHECK_THE_NETWORK, attempts=2)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what caused it, and so on."""
    while error:
        yield error
        error = error.__cause__ or error.__context__
