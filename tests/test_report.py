"""The report on disk: what it reads, what it writes, and what it leaves alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from PIL import Image
from report_folders import RUN, result, save, small_batch, write

from nst_jax.cli.main import run
from nst_jax.files.report.page import write_report
from nst_jax.files.report.thumbnails import FOLDER
from nst_jax.request.job import Job


def data_of(folder: Path) -> dict[str, Any]:
    """What the page shows."""
    text = (folder / "report/data.js").read_text()
    assert text.startswith("showReport(")
    return json.loads(text.removeprefix("showReport(").removesuffix(");\n"))


def copies_of(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (folder / "report" / FOLDER).iterdir()}


@pytest.fixture
def folder(tmp_path) -> Path:
    return small_batch(tmp_path)


def test_every_job_is_there_with_its_pictures_numbers_and_options(folder):
    write_report(folder)
    data = data_of(folder)
    assert [picture["name"] for picture in data["pictures"]] == [
        *("cat.png", "waves.png", "stars.png", "dog.png", "no.png")
    ]
    jobs = {job["job"]: job for job in data["jobs"]}
    first = jobs["deep/cat_waves.png"]
    assert (first["content"], first["styles"]) == (0, [1])
    assert first["options"] == {"style_weight": 10.0}
    assert first["curve"][0] == [1, 9, 3, 1, 0.1]
    assert (first["losses"]["total"], first["seconds"], first["steps"]) == (1, 0.25, 40)
    assert first["thumb"][1:] == [40, 30]
    assert first["view"] == ["../deep/cat_waves.png", 40, 30]
    lost = jobs["lost.png"]
    assert (lost["status"], lost["styles"]) == ("failed", [1, 2])
    assert lost["thumb"] is lost["view"] is None
    assert lost["error"]["remedy"] == "Check the path"
    assert (data["title"], data["run"], data["live"]) == ("renders", RUN, False)


def test_every_picture_that_is_named_is_there_in_its_size_and_can_be_shown(folder):
    page = write_report(folder)
    data = data_of(folder)
    shots = [one[key] for one in (*data["jobs"], *data["pictures"]) for key in ("thumb", "view")]
    shown = [shot for shot in shots if shot]
    assert len(shots) - len(shown) == 4  # the failed job's and its missing content's
    for url, *size in shown:
        with Image.open(page.parent / url) as image:
            assert list(image.size) == size
    (job,) = (job for job in data["jobs"] if job["job"].endswith(".tif"))
    assert job["view"][0].endswith(".webp")
    assert job["file"] == "../deep/dog_waves.tif"


def test_large_pictures_are_copied_small_and_small_ones_not_enlarged(tmp_path):
    inputs = [save(tmp_path / "c.png", size=(1000, 2000)), save(tmp_path / "s.png", size=(8, 8))]
    write(tmp_path / "out", [result(tmp_path / "out", Job(*inputs, output="x.png"))])
    write_report(tmp_path / "out")
    large, small = data_of(tmp_path / "out")["pictures"]
    assert (large["thumb"][1:], large["view"][1:]) == ([440, 220], [1280, 640])
    assert (small["thumb"][1:], small["view"][1:]) == ([8, 8], [8, 8])


def test_a_ledger_of_an_earlier_version_is_shown_as_far_as_it_goes(tmp_path):
    save(tmp_path / "x.png")
    (tmp_path / "ledger.jsonl").write_text('{"job": "x.png", "status": "done", "steps": 5}\n')
    write_report(tmp_path)
    (job,) = data_of(tmp_path)["jobs"]
    assert (job["content"], job["styles"], job["steps"]) == (None, [], 5)
    assert job["thumb"]


@pytest.mark.parametrize("name", ["a\0b.png", "a\ud800b.png"], ids=["nul", "surrogate"])
@pytest.mark.parametrize("key", ["job", "content", "style"])
def test_a_record_with_a_name_that_no_file_can_have_is_shown_without_its_picture(folder, key, name):
    record: dict[str, Any] = {"job": "new.png", "status": "done", "content": "c.png", "style": []}
    record[key] = [name] if key == "style" else name
    with (folder / "ledger.jsonl").open("a") as ledger:
        ledger.write(json.dumps(record) + "\n")
    assert run(["report", str(folder), "--quiet"]) == 0
    *others, last = data_of(folder)["jobs"]
    assert (last["job"], last["thumb"], last["view"]) == (record["job"], None, None)
    assert all(job["thumb"] for job in others if job["status"] == "done")


@pytest.mark.parametrize(("ahead_s", "workers"), [(-5, None), (5, 1), (86_400, None)])
def test_the_last_runs_record_is_shown_but_for_one_of_the_future(folder, ahead_s, workers):
    """Against `run.json` of just now; clocks of machines may differ by some seconds."""
    path = folder / "run-0-of-1.json"
    path.write_text(json.dumps(RUN))
    then = (folder / "run.json").stat().st_mtime + ahead_s
    os.utime(path, (then, then))
    write_report(folder)
    assert data_of(folder)["run"].get("workers") == workers


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "\xff", "[" * 100_000], ids=[*range(5), "deep"]
)
def test_a_run_record_that_is_none_is_passed_over(folder, text):
    (folder / "run.json").write_text(text, encoding="latin-1")
    write_report(folder)
    assert data_of(folder)["run"] is None


# Names from outside.

HOSTILE = [
    "<script>alert(1)</script>.png",
    "</script><img src=x onerror=alert(1)>.png",
    "a&amp;b#c?d=%2e%2e.png",
    "quote\"and'.png",
    "line\u2028end\n.png",
    "bytes\udcff.png",
    "\u202egnp.猫.png",
    "{{ title }}{% raw %}.png",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_becomes_markup_or_ends_the_script(tmp_path, name):
    folder = tmp_path / "out" / name.removesuffix(".png")
    job = Job(save(tmp_path / "in" / name), tmp_path / name, output=name)
    write(folder, [result(folder, job)])
    page = write_report(folder)
    script = (folder / "report/data.js").read_bytes()
    assert script.isascii()
    assert not set(b"<>&") & set(script)
    assert b"<script>alert" not in page.read_bytes()
    assert b"<img src=x" not in page.read_bytes()
    data = data_of(folder)
    assert data["jobs"][0]["job"] == name
    assert data["jobs"][0]["view"]


def test_copies_are_made_once_and_again_when_a_picture_has_changed(folder):
    write_report(folder)
    before = copies_of(folder)
    write_report(folder)
    assert copies_of(folder) == before
    path = folder / "deep/cat_waves.png"
    status = path.stat()
    save(path, seed=77, size=(20, 30))
    path.write_bytes(path.read_bytes().ljust(status.st_size, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    write_report(folder)
    after = copies_of(folder)
    assert len(after) == len(before)
    assert len(set(after) - set(before)) == 1
    assert data_of(folder)["jobs"][0]["thumb"][1:] == [30, 20]


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: bytes(len(content)),
        lambda content: content[:20] + bytes(len(content) - 20),
    ],
    ids=["empty", "half", "short", "zeros", "zeros_after_the_header"],
)
def test_a_damaged_copy_is_made_anew(folder, harm):
    write_report(folder)
    whole = {path: path.read_bytes() for path in (folder / "report" / FOLDER).iterdir()}
    for path, content in whole.items():
        path.write_bytes(harm(content))
    write_report(folder)
    assert {path: path.read_bytes() for path in whole} == whole


def test_only_a_finished_report_clears_old_copies(folder):
    write_report(folder)
    before = set(copies_of(folder))
    (folder / "deep/cat_waves.png").unlink()
    write_report(folder, live=True)
    assert set(copies_of(folder)) == before
    assert data_of(folder)["live"] is True
    write_report(folder)
    assert set(copies_of(folder)) < before


def test_the_batch_itself_is_not_touched(folder):
    def state() -> dict[Path, int]:
        ours = (path for path in folder.rglob("*") if path.is_file())
        return {path: path.stat().st_mtime_ns for path in ours if "report" not in path.parts}

    before = state()
    write_report(folder)
    assert state() == before
    assert not list(folder.rglob(".partial*"))


# The command.


def test_the_command_writes_the_page_and_names_it(folder, capsys):
    assert run(["report", str(folder)]) == 0
    page = folder / "report/index.html"
    assert capsys.readouterr().out == f"Look at {page}\n"
    assert page.read_text().startswith("<!doctype html>")
    assert run(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"page": str(page)}
    assert run(["report", str(folder), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_the_command_follows_a_batch_until_its_run_is_over(folder):
    def batch() -> bool:
        """Adds a job once a live page is there, and ends; returns whether the page went along."""
        began = wait_until(lambda: (folder / "report/data.js").exists() and data_of(folder)["live"])
        job = Job(folder / "../cat.png", folder / "../waves.png", "late.png")
        write(folder, [result(folder, job, 9)])
        shown = wait_until(lambda: "late.png" in {one["job"] for one in data_of(folder)["jobs"]})
        (folder / "run.json").write_text(json.dumps(RUN))
        return began and shown

    with ThreadPoolExecutor() as pool:
        shown = pool.submit(batch)
        assert run(["report", str(folder), "--watch", "--every", "0.1"]) == 0
    assert shown.result()
    assert data_of(folder)["live"] is False


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_page_that_looks_for_news(folder, number, status):
    code = "from nst_jax.cli.entry import main; main()"
    command = [sys.executable, "-c", code, "report", str(folder), "--watch", "--every", "0.1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert wait_until(lambda: (folder / "report/data.js").exists() and data_of(folder)["live"])
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in told) == (status, False)
    assert data_of(folder)["live"] is False


def test_the_command_says_what_it_waits_for(folder, monkeypatch, capsys):
    """A batch that has ended, one that another has begun after, and one that is the first."""
    monkeypatch.setattr(time, "sleep", mock.Mock(side_effect=KeyboardInterrupt))
    watch = ["report", str(folder), "--watch"]
    assert run(watch) == 130
    assert "has ended; waiting for another one" in capsys.readouterr().err
    (folder / ".lock").touch()
    assert run(watch) == 130
    assert "following the batch" in capsys.readouterr().err
    (folder / ".lock").unlink()
    (folder / "run.json").unlink()
    assert run(watch) == 130
    assert "following the batch" in capsys.readouterr().err
    assert data_of(folder)["live"] is False


def test_nothing_is_made_for_a_folder_that_never_comes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(time, "sleep", mock.Mock(side_effect=KeyboardInterrupt))
    assert run(["report", str(tmp_path / "no/where"), "--watch"]) == 130
    assert "waiting for the first job" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def wait_until(holds: Callable[[], bool]) -> bool:
    """Waits for something that another thread brings about; returns whether it came."""
    last = time.monotonic() + 60
    while not holds() and time.monotonic() < last:
        time.sleep(0.05)
    return holds()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "'nowhere', which is none"),
        (["empty"], "has no ledger.jsonl"),
        (["file.png"], "'file.png', which is none"),
        (["file.png", "--watch"], "'file.png', which is a file"),
        (["file.png/renders", "--watch"], "'file.png' is a file"),
        (["empty", "--watch", "--every", "0"], "every must be from 0.1"),
        (["empty", "--every", "nan"], "every must be from 0.1"),
    ],
)
def test_a_folder_without_a_batch_is_refused_in_one_line(
    tmp_path, monkeypatch, capsys, arguments, said
):
    monkeypatch.chdir(tmp_path)
    os.mkdir("empty")
    save(Path("file.png"))
    assert run(["report", *arguments]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert os.listdir("empty") == []
