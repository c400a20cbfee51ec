"""Object stores call by call, against a server on the loopback that fails when it is told to."""

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import store_server
from store_server import BUCKET, Store

from nst_jax.files import storage
from nst_jax.files.ledger import LEDGER_NAME
from nst_jax.files.remote_folders import RemoteFolder
from nst_jax.files.storage import version_tag
from nst_jax.request.errors import OutputError

PLACE = f"s3://{BUCKET}"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|werkzeug)")


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with store_server.run_server() as store:
        yield store


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    yield from store_server.reset(server, monkeypatch)


@pytest.mark.parametrize("name", ["a/x", "run [1]*?/é/x[2].png"])
def test_what_is_put_is_there_and_is_read_whatever_letters_its_name_has(store, name):
    url = f"{PLACE}/{name}"
    storage.put(url, b"content")
    assert store.get(name) == b"content"
    assert list(storage.list_objects(url.rpartition("/")[0])) == [Path(name).name]
    assert storage.RemoteFile(url).content == b"content"
    assert storage.read_many([url] * 3) == [b"content"] * 3
    storage.remove(url)
    assert store.names() == []
    assert storage.object_status(url) is None
    with pytest.raises(FileNotFoundError, match="no such object"):
        _ = storage.RemoteFile(url).content


def test_a_listing_goes_as_deep_as_it_shall(store):
    for name in ("out/a.png", "out/deep/b.png", "out/c.txt", "outer/d.png", "out/"):
        store.put(name, b"1")
    assert list(storage.list_objects(f"{PLACE}/out")) == ["a.png", "c.txt"]
    assert list(storage.list_objects(f"{PLACE}/out/", "*.png")) == ["a.png"]
    assert list(storage.list_objects(f"{PLACE}/out", deep=True)) == ["a.png", "c.txt", "deep/b.png"]
    assert storage.list_objects(f"{PLACE}/nowhere") == {}
    assert storage.list_objects(f"{PLACE}/out/a.png") == {}
    assert "out/a.png" in storage.list_objects(PLACE, deep=True)


@pytest.mark.parametrize("deep", [False, True])
def test_more_objects_than_a_page_of_the_store_are_listed(store, monkeypatch, deep):
    monkeypatch.setattr(store, "page", 3)
    names = [f"{number:02d}" for number in range(10)]
    for name in names:
        store.put(f"many/{name}", b"1")
    assert list(storage.list_objects(f"{PLACE}/many", deep=deep)) == names
    assert len(store.asked("GET")) == 4


def test_a_stamp_tells_contents_apart_and_is_the_listings_too(store):
    store.put("x", b"one")
    stamp = version_tag(storage.RemoteFile(f"{PLACE}/x"))
    assert stamp
    assert storage.tag_of_status(storage.list_objects(PLACE)["x"]) == stamp
    store.put("x", b"two")
    assert version_tag(storage.RemoteFile(f"{PLACE}/x")) not in ("", stamp)
    assert version_tag(storage.RemoteFile(f"{PLACE}/nowhere")) == ""


CALLS = {
    "PUT": lambda: storage.put(f"{PLACE}/x", b"one"),
    "GET": lambda: storage.read_many([f"{PLACE}/x"]) == [b"one"] or pytest.fail("other bytes"),
    "HEAD": lambda: storage.object_status(f"{PLACE}/x") or pytest.fail("it is there"),
    "DELETE": lambda: storage.remove(f"{PLACE}/x"),
}


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("method", CALLS)
def test_a_passing_fault_is_waited_for(store, method, status):
    store.put("x", b"one")
    store.requests.clear()
    store.fault = store_server.failure(3, method, status=status)
    with mock.patch("nst_jax.files.retry.time.sleep") as sleep:
        CALLS[method]()
    assert len(store.asked(method)) == 4
    pauses = [call.args[0] for call in sleep.call_args_list]
    assert pauses == [0.01, 0.02, 0.04]


@pytest.mark.parametrize("deep", [False, True])
def test_a_folder_that_can_not_be_listed_is_not_taken_for_an_empty_one(store, deep):
    store.put("out/x", b"one")
    store.fault = store_server.failure(3, "GET")
    assert list(storage.list_objects(f"{PLACE}/out", deep=deep)) == ["x"]
    store.fault = store_server.failure(-1, "GET")
    with pytest.raises(OSError, match="the store failed 6 times: an injected fault"):
        storage.list_objects(f"{PLACE}/out", deep=deep)


@pytest.mark.parametrize("method", CALLS)
def test_an_answer_that_does_not_come_is_asked_for_again(store, monkeypatch, method):
    monkeypatch.setattr(storage, "_ANSWER_S", 0.3)
    store.put("x", b"one")
    store.fault = store_server.failure(2, method, status=200, seconds=1.0)
    store.requests.clear()
    CALLS[method]()
    assert len(store.asked(method)) == 3


def test_a_fault_that_stays_is_one_error_after_six_tries_or_one_where_no_more_can_mend(store):
    store.fault = store_server.failure(-1, "PUT")
    with pytest.raises(OSError, match="the store failed 6 times: an injected fault") as caught:
        storage.put(f"{PLACE}/x", b"one")
    assert caught.value.errno == 5
    assert len(store.asked("PUT")) == 6
    store.requests.clear()
    store.fault = store_server.failure(-1, "PUT", status=403)
    with pytest.raises(PermissionError):
        storage.put(f"{PLACE}/x", b"one")
    assert len(store.asked("PUT")) == 1
    store.fault = store_server.failure(0)
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        storage.put("s3://nowhere/x", b"one")
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        storage.list_objects("s3://nowhere/out")
    with pytest.raises(OSError, match="Invalid bucket name"):
        storage.put("s3://No Bucket!/x", b"one")
    assert len(store.asked("PUT", "nowhere")) == 1


def test_a_package_that_is_missing_is_told_with_its_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = importlib.import_module("fsspec.registry").__dict__["_registry"]
    monkeypatch.delitem(known, "s3", raising=False)
    storage._open_file_system.cache_clear()
    with pytest.raises(OSError, match=r"pip install 'nst-jax\[s3\]'"):
        storage.object_status(f"{PLACE}/x")
    with pytest.raises(OSError, match="there is no store nosuch://"):
        storage.object_status("nosuch://x")


# Ledgers in parts.


def lines(folder: RemoteFolder) -> dict[str, int]:
    return {job: told[-1]["attempt"] for job, told in folder.read_records().items()}


def test_the_ledger_is_small_parts_that_are_put_together(store, monkeypatch):
    monkeypatch.setattr("nst_jax.files.remote_folders._COMPACT_AFTER_LINES", 4)
    folder = RemoteFolder(f"{PLACE}/out")
    with folder.ledger() as ledger:
        for number in range(10):
            ledger.append({"job": f"{number % 7}.png", "attempt": number, "time": number})
            assert len(lines(folder)) == min(number + 1, 7)
            assert len(store.names("out/")) <= 4 + number // 4
    assert lines(folder) == {f"{n % 7}.png": n for n in range(10) if n > 2}
    assert len(store.names("out/")) == 3
    assert all(Path(name).name.startswith("ledger-") for name in store.names("out/"))
    for status in storage.list_objects(f"{PLACE}/out").values():  # that of the store's clock
        assert abs(storage.write_time(status) - time.time()) < 60


def test_a_killed_runs_parts_are_read_and_so_is_a_copied_ledger(store):
    folder = RemoteFolder(f"{PLACE}/out")
    for number in range(2):
        killed = folder.ledger().__enter__()
        for job in "ab":
            killed.append({"job": job, "attempt": number, "time": number})
    store.put(f"out/{LEDGER_NAME}", b'{"job": "c", "attempt": 7}\n{"job": "a", "att')
    assert len(store.names("out/")) == 5
    assert lines(folder) == {"a": 1, "b": 1, "c": 7}


def test_parts_that_go_while_they_are_read_are_looked_for_again(store):
    folder = RemoteFolder(f"{PLACE}/out")
    running = folder.ledger().__enter__()
    for number in range(3):
        running.append({"job": str(number), "attempt": 1})
    original = storage.read_many

    def read_many(urls: list[str]) -> list[bytes]:
        if len(running._parts) > 1:  # the other run ends just now
            running._compact()
        return original(urls)

    with mock.patch.object(storage, "read_many", read_many):
        assert sorted(lines(folder)) == ["0", "1", "2"]


def test_parts_that_can_not_be_put_together_stay_and_that_can_not_be_read_are_not_none(store):
    folder = RemoteFolder(f"{PLACE}/out")
    store.fault = store_server.failure(-1, "PUT", "-with-")
    with folder.ledger() as ledger:
        for number in range(3):
            ledger.append({"job": str(number), "attempt": 1})
    assert len(store.names("out/")) == 3
    assert sorted(lines(folder)) == ["0", "1", "2"]
    store.fault = store_server.failure(-1, "GET")
    with pytest.raises(OutputError, match="the ledger in 's3://bucket/out' can't be read"):
        folder.read_records()
    with pytest.raises(OutputError, match="'s3://bucket/out' can't be listed"):
        folder.version_tag("x.png")
