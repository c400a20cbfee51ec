"""Whole batches and single pictures on an object store, which fails when it is told to."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import store_server
from batch_runs import TINY
from hostile_pictures import encode
from networks import picture
from PIL import Image
from store_server import BUCKET, Store

from nst_jax.cli.main import run
from nst_jax.files import storage

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|werkzeug)"),
    pytest.mark.usefixtures("compiled_once"),
]

OUT = f"s3://{BUCKET}/out"
JOBS = ("x.png", "deep/y.png", "z.jpg")


def png(seed: int) -> bytes:
    return encode(Image.fromarray(np.uint8(255 * picture(32, 40, seed=seed))), "PNG")


@pytest.fixture(scope="module")
def server(narrow_file: str) -> Iterator[Store]:
    """A store with pictures, a network and a manifest of three jobs."""
    with store_server.run_server() as store:
        for seed, name in enumerate("abcd"):
            store.put(f"in/{name}.png", png(seed))
        store.put("in/narrow.h5", Path(narrow_file).read_bytes())
        rows = ["content,style,output", "a.png,b.png,x.png", "b.png,c.png;d.png,deep/y.png"]
        rows.append(f"c.png,s3://{BUCKET}/in/b.png,z.jpg")
        store.put("in/jobs.csv", "\n".join(rows).encode())
        yield store


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    monkeypatch.setenv("NST_JAX_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setattr("nst_jax.engine.run.writer._BACK_OFF_S", 0.01)
    monkeypatch.setattr("nst_jax.engine.inputs.load._BACK_OFF_S", 0.01)
    yield from store_server.reset(server, monkeypatch, emptied="out/")


def command(name: str, *arguments: str) -> int:
    return run([name, *arguments, *TINY, "--weights", f"s3://{BUCKET}/in/narrow.h5"])


def batch(*arguments: str) -> int:
    manifest = f"s3://{BUCKET}/in/jobs.csv"
    return command("batch", manifest, "--output-dir", OUT, *arguments)


def counts(capsys: pytest.CaptureFixture[str]) -> tuple[int, int, int]:
    """Jobs done, failed and skipped by the last run with `--json`."""
    summary = json.loads(capsys.readouterr().out)
    return summary["done"], summary["failed"], summary["skipped"]


def rows(store: Store) -> list[dict[str, Any]]:
    """All lines of all parts of the ledger."""
    parts = map(store.get, store.names("out/ledger"))
    return [json.loads(line) for part in parts for line in part.splitlines()]


def sums(store: Store) -> dict[str, str]:
    return {name: hashlib.sha256(store.get(f"out/{name}")).hexdigest() for name in JOBS}


UNBROKEN: dict[str, str] = {}
"""Checksums of the pictures of a healthy run, filled in by the first test."""


@pytest.fixture
def expected(store: Store) -> dict[str, str]:
    if not UNBROKEN:
        assert batch("--quiet") == 0
        UNBROKEN.update(sums(store))
        for name in store.names("out/"):
            store.remove(name)
        store.requests.clear()
    return UNBROKEN


def test_all_of_a_batch_may_lie_in_a_store(store, capsys):
    assert batch("--json") == 0
    assert counts(capsys) == (3, 0, 0)
    ledger = [name for name in store.names("out/") if "ledger" in name]
    assert len(ledger) == 1
    assert set(store.names("out/")) - set(ledger) == {
        *(f"out/{name}" for name in JOBS),
        *("out/plan.json", "out/run.json"),
    }
    for row in rows(store):
        assert row["status"] == "done"
        assert row["output"] == f"{OUT}/{row['job']}"
        assert row["sha256"] == sums(store)[row["job"]]
    puts = Counter(store.asked("PUT"))
    assert [puts[f"/{BUCKET}/out/{name}"] for name in JOBS] == [1, 1, 1]
    assert not store.asked("POST")  # which is how S3 begins what it does in parts
    parts = [path for path in puts if "ledger" in path]
    assert len(parts) == 4  # a part for each job, and the three together
    assert max(puts.values()) == 1


def test_a_second_run_renders_what_is_missing_or_altered_and_reads_no_picture(store, capsys):
    assert batch("--quiet") == 0
    first = sums(store)
    store.requests.clear()
    assert batch("--json") == 0
    assert counts(capsys) == (0, 0, 3)
    assert not [path for path in store.asked("GET") if path.endswith((".png", ".jpg"))]
    store.remove("out/x.png")
    store.put("out/deep/y.png", store.get("out/deep/y.png") + b"\0")
    assert batch("--json") == 0
    assert counts(capsys) == (2, 0, 1)
    assert sums(store) == first
    assert batch("--json", "--verify") == 0
    assert counts(capsys) == (0, 0, 3)
    store.put("in/a.png", png(9))
    try:
        assert batch("--json") == 0
        assert counts(capsys) == (1, 0, 2)
    finally:
        store.put("in/a.png", png(0))


@pytest.mark.slow
def test_contents_and_styles_may_be_folders_and_patterns_of_a_store(store, capsys):
    places = ("--contents", f"s3://{BUCKET}/in/", "--styles", f"s3://{BUCKET}/in/[cd].*")
    assert command("batch", *places, "--output-dir", OUT, "--json") == 0
    assert counts(capsys) == (8, 0, 0)
    assert command("batch", *places, "--output-dir", OUT, "--json") == 0
    assert counts(capsys) == (0, 0, 8)


def test_a_single_picture_goes_from_store_to_store(store, capsys):
    sources = (f"s3://{BUCKET}/in/a.png", f"s3://{BUCKET}/in/b.png")
    assert command("render", *sources, "--output", f"{OUT}/single.png", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert hashlib.sha256(store.get("out/single.png")).hexdigest() == record["sha256"]
    assert store.names("out/") == ["out/single.png"]


@pytest.mark.slow
def test_a_store_that_fails_every_other_time_costs_time_alone(store, expected, capsys):
    store.fault = store_server.every_other()
    assert batch("--json") == 0
    assert counts(capsys) == (3, 0, 0)
    store.fault = store_server.failure(0)
    assert sums(store) == expected
    assert Counter(row["job"] for row in rows(store)) == dict.fromkeys(JOBS, 1)


@pytest.mark.slow
def test_slow_answers_are_asked_for_again(store, expected, capsys, monkeypatch):
    monkeypatch.setattr(storage, "_ANSWER_S", 0.5)
    slow = [
        store_server.failure(1, method, part, status=200, seconds=1.5)
        for method, part in (("GET", "a.png"), ("PUT", "x.png"))
    ]
    store.fault = lambda request: max(fault(request) for fault in slow)
    assert batch("--json") == 0
    assert counts(capsys) == (3, 0, 0)
    assert sums(store) == expected
    assert len(store.asked("PUT", "out/x.png")) == 2


@pytest.mark.slow
def test_an_input_that_fails_for_long_is_its_jobs_fault_and_is_read_by_the_next_run(
    store, expected, capsys
):
    store.fault = store_server.failure(-1, part="in/a.png")
    assert batch("--json", "--retries", "1") == 3
    assert counts(capsys) == (2, 1, 0)
    (failed,) = (row for row in rows(store) if row["status"] == "failed")
    assert failed["job"] == "x.png"
    assert failed["error"]["kind"] == "read"
    assert "the store failed 6 times" in failed["error"]["message"]
    store.fault = store_server.failure(0)
    assert batch("--json") == 0
    assert counts(capsys) == (1, 0, 2)
    assert sums(store) == expected


@pytest.mark.slow
@pytest.mark.parametrize("part", ["deep/y.png", "out/ledger"])
@pytest.mark.parametrize(("status", "said"), [(500, "injected fault"), (403, "injected fault")])
def test_a_store_that_takes_nothing_more_ends_the_run(store, expected, capsys, part, status, said):
    """One line at the end, and the next run makes good whatever was lost."""
    store.fault = store_server.failure(-1, "PUT", part, status=status)
    assert batch("--retries", "1") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("nst-jax: ")
    assert said in last
    assert "run the same command again" in last
    store.fault = store_server.failure(0)
    assert batch("--json") == 0
    done, failed, skipped = counts(capsys)
    assert (failed, done + skipped) == (0, 3)
    assert sums(store) == expected
    last_of = {row["job"]: row for row in sorted(rows(store), key=lambda row: row["time"])}
    assert {row["status"] for row in last_of.values()} == {"done"}


@pytest.mark.slow
def test_the_parts_of_a_killed_run_are_merged_with_the_next_ones(store, expected, capsys):
    class Killed(BaseException):
        """Nothing of ours catches it."""

    def killed(*_: object) -> None:
        raise Killed

    ledger = "nst_jax.files.remote_folders.RemoteLedger.__exit__"
    with mock.patch(ledger, killed), pytest.raises(Killed):
        batch("--quiet")
    assert len([name for name in store.names("out/") if "ledger" in name]) == 3
    store.remove("out/z.jpg")
    assert batch("--json") == 0
    assert counts(capsys) == (1, 0, 2)
    assert sums(store) == expected
    assert Counter(row["job"] for row in rows(store))["z.jpg"] == 2  # of which one counts
    assert batch("--json") == 0
    assert counts(capsys) == (0, 0, 3)


REFUSED = [
    (["{bucket}/in/no.csv", "--output-dir", OUT], "no such object"),
    (["s3://nowhere/jobs.csv", "--output-dir", OUT], "no such object"),
    (["{bucket}/in/jobs.csv", "--output-dir", "s3://nowhere/out"], "bucket does not exist"),
    (["{bucket}/in/jobs.csv", "--output-dir", OUT, "--weights", "s3://nowhere/x.h5"], "no such"),
    (
        ["--contents", "s3://nowhere/in", "--styles", "{bucket}/in", "--output-dir", OUT],
        "bucket does not exist",
    ),
    (["--contents", "{bucket}/no", "--styles", "{bucket}/in", "--output-dir", OUT], "got none"),
    (["{bucket}/in/jobs.csv", "--output-dir", OUT, "--contact-sheet"], "needs a local"),
    (["nosuch://x/jobs.csv", "--output-dir", OUT], "there is no store nosuch://"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_what_is_not_there_is_told_in_one_line(store, capsys, arguments, said):
    filled = [argument.replace("{bucket}", f"s3://{BUCKET}") for argument in arguments]
    weights = [] if "--weights" in filled else ["--weights", f"s3://{BUCKET}/in/narrow.h5"]
    assert run(["batch", *filled, *TINY, *weights, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert store.names("out/") == []


def test_missing_credentials_are_told_in_one_line(store, capsys, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert batch("--quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unable to locate credentials" in line


@pytest.mark.slow
@pytest.mark.parametrize("status", [500, 403])
def test_a_ledger_that_can_not_be_read_is_not_taken_for_an_empty_one(store, capsys, status):
    assert batch("--quiet") == 0
    store.requests.clear()
    store.fault = store_server.failure(-1, "GET", "out/ledger", status=status)
    assert batch("--quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the ledger in '{OUT}' can't be read" in line
    assert not store.asked("PUT", ".png")
