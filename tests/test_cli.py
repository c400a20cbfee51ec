"""The command line: what it prints, what it writes, what it skips, and how it ends.

What it refuses is told in `test_bad_requests.py`. Networks are narrow and taps shallow.
"""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_runs import Answer, save
from PIL import Image

from nst_jax.cli.main import run
from nst_jax.cli.render import Render
from nst_jax.cli.signals import Termination

RECORD = {
    *("job", "status", "output", "fingerprint", "sha256", "steps"),
    *("seconds", "compile_seconds", "losses", "error", "method"),
    *("content", "style", "options", "curve", "level_ends", "time", "stamp", "inputs"),
}
SUMMARY = {
    *("jobs", "done", "failed", "skipped", "seconds", "compile_seconds"),
    *("image_steps_per_second", "driving_seconds", "waiting_seconds", "device_idle_share"),
}


@pytest.fixture
def small(narrow_file) -> list[str]:
    """Options of a rendering of a moment."""
    return [
        *("--weights", narrow_file, "--size", "32", "--levels", "1", "--steps", "2"),
        *("--content-taps", "relu1_1", "--style-taps", "relu1_1"),
    ]


@pytest.fixture
def nst(tmp_path, monkeypatch, capsys, small) -> Iterator[Callable[..., Answer]]:
    """Runs a rendering command in a folder with the pictures a.png to d.png."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abcd"):
        save(Path(f"{name}.png"), seed)

    def nst(*arguments: str) -> Answer:
        status = run([*arguments, *small])
        return Answer(status, *capsys.readouterr())

    before = signal.getsignal(signal.SIGTERM)
    yield nst
    signal.signal(signal.SIGTERM, before)


def rows(*lines: str, columns: str = "content,style,output,seed") -> None:
    Path("jobs.csv").write_text("\n".join([columns, *lines, ""]))


def records() -> dict[str, dict[str, Any]]:
    lines = Path("out/ledger.jsonl").read_text().splitlines()
    return {record["job"]: record for record in map(json.loads, lines)}


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# render.


def test_render_writes_the_picture_and_tells_its_record(nst):
    answer = nst("render", "a.png", "b.png", "--output", "new/x.png", "--json")
    assert (answer.status, answer.err) == (0, "")
    record = answer.json
    assert set(record) == RECORD
    assert (record["job"], record["status"], record["error"]) == ("x.png", "done", None)
    assert (record["output"], record["steps"]) == ("new/x.png", 2)
    assert set(record["losses"]) == {"total", "content", "style", "tv"}
    assert record["sha256"] == sha256("new/x.png")
    with Image.open("new/x.png") as image:
        assert image.size == (32, 26)
    assert os.listdir("new") == ["x.png"]


def test_progress_is_plain_lines_where_stderr_is_no_terminal(nst, small):
    small[-1] = "block1_conv1"  # Keras' name of relu1_1
    answer = nst("render", "a.png", "b.png", "c.png", "--output", "x.jpg")
    assert (answer.status, answer.out) == (0, "")
    lines = answer.err.splitlines()
    assert all(re.fullmatch(r"\[ *\d+\.\d s\] .+", line) for line in lines)
    assert "on 8 CPU devices, float32, " in lines[0]
    assert "1 picture to render" in answer.err
    assert "preparing 32x26 (1 of 1)" in answer.err
    assert "wrote x.jpg (32x26) in " in answer.err
    assert "tap block1_conv1 is taken for relu1_1" in answer.err
    assert lines[-2].endswith("done x.jpg")
    assert "\x1b" not in answer.err


@pytest.mark.parametrize("place", ["a.png/x.png", "folder.png"])
def test_a_place_that_can_not_be_written_is_told_and_nothing_is_left(nst, place):
    Path("folder.png").mkdir()
    before = sorted(Path().rglob("*"))
    answer = nst("render", "a.png", "b.png", "--output", place, "--quiet")
    assert answer.status in (2, 3)
    assert answer.err.startswith("nst-jax: ")
    assert answer.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


# batch.


def test_a_bad_picture_fails_its_own_job_alone(nst):
    """Whichever of its pictures it is, the one to start from too."""
    Path("bad.png").write_text("no picture")
    rows(
        *("a.png,b.png,deep/x.png,,", "bad.png,b.png,y.png,,", "a.png,no.png,z.png,,"),
        *("c.png,b.png,,,", "a.png,b.png,u.png,file,bad.png", "a.png,b.png,v.png,file,no.png"),
        columns="content,style,output,init,init_image",
    )
    answer = nst("batch", "jobs.csv", "--output-dir", "out", "--json")
    assert answer.status == 3
    assert set(answer.json) == SUMMARY | {"step_seconds", "image_steps"}
    assert [answer.json[name] for name in ("jobs", "done", "failed", "skipped")] == [6, 2, 4, 0]
    assert len(answer.err.splitlines()) == 4
    for name in ("y.png", "z.png", "u.png", "v.png"):
        assert f"failed {name}: picture" in answer.err
        assert records()[name]["status"] == "failed"
        assert set(records()[name]["error"]) == {"kind", "message", "remedy", "attempt"}
        assert records()[name]["error"]["kind"] == "picture"
    for name in ("deep/x.png", "c__b.png"):
        record = records()[name]
        assert set(record) == RECORD
        assert record["status"] == "done"
        assert record["sha256"] == sha256(f"out/{name}")
    made = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    ours = {"ledger.jsonl", "plan.json", "run.json"}
    assert {"report/index.html", "report/data.js"} < made
    made = {name for name in made if not name.startswith("report/")}
    assert made == ours | {"deep/x.png", "c__b.png"}


def test_a_second_run_renders_what_is_missing_or_changed_and_nothing_else(nst):
    def again() -> list[str]:
        """The jobs that a run renders; the others keep their very file."""
        times = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
        answer = nst("batch", "jobs.csv", "--output-dir", "out")
        assert answer.status == 0
        done = re.findall(r"done (\S+)", answer.err)
        for path, before in times.items():
            assert (path.name in done) or path.stat().st_mtime_ns == before
        said = f"{len(done)} done, 0 failed, {3 - len(done)} up to date"
        assert said in answer.out if done else answer.out.startswith("3 of 3 pictures up to date")
        return sorted(done)

    rows("a.png,b.png,x.png,", "b.png,c.png,y.png,", "c.png,d.png,z.png,")
    assert again() == ["x.png", "y.png", "z.png"]
    first = sha256("out/x.png"), sha256("out/y.png")
    assert again() == []
    Path("out/x.png").unlink()
    assert again() == ["x.png"]
    shutil.copy("out/x.png", "out/y.png")
    assert again() == ["y.png"]
    assert (sha256("out/x.png"), sha256("out/y.png")) == first
    save(Path("d.png"), seed=9)
    assert again() == ["z.png"]
    rows("c.png,d.png,z.png,", "a.png,b.png,x.png,", "b.png,c.png,y.png,7")
    assert again() == ["y.png"]
    with Path("out/ledger.jsonl").open("a") as ledger:
        ledger.write('{"job": "x.png", "sta')
    assert again() == []


def test_the_page_is_named_at_the_end_and_may_be_left_out_or_fail(nst):
    rows("a.png,b.png,x.png,")
    assert nst("batch", "jobs.csv", "--output-dir", "out", "--no-report").status == 0
    assert not Path("out/report").exists()
    answer = nst("batch", "jobs.csv", "--output-dir", "out")
    assert answer.out.splitlines()[-1] == "Look at out/report/index.html"
    assert "x.png" in Path("out/report/data.js").read_text()
    shutil.rmtree("out/report")
    Path("out/report").write_text("in the way")
    answer = nst("batch", "jobs.csv", "--output-dir", "out", "--quiet")
    assert (answer.status, answer.out) == (0, "")
    assert "report 'out/report' can't be written" in answer.err


def test_every_content_meets_every_style_and_a_sheet_shows_them(nst):
    for name in "ab":
        Path("photos").mkdir(exist_ok=True)
        shutil.move(f"{name}.png", f"photos/{name}.png")
    places = ("--contents", "photos", "--styles", "[cd].png", "--output-dir", "out")
    answer = nst("batch", *places, "--contact-sheet", "--quiet")
    assert answer == (0, "", "")
    names = {f"{content}__{style}.png" for content in "ab" for style in "cd"}
    assert {path.name for path in Path("out").glob("*.png")} == names | {"index.png"}


# weights.


def test_weights_can_be_listed_converted_and_verified(tmp_path, narrow_file, capsys):
    assert run(["weights", "list"]) == 0
    assert "vgg16" in capsys.readouterr().out
    assert run(["weights", "list", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "vgg16" in {entry["name"] for entry in listed}
    copy = str(tmp_path / "copy.h5")
    assert run(["weights", "convert", narrow_file, copy]) == 0
    assert "vgg16" in capsys.readouterr().out
    assert run(["weights", "verify", copy, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["architecture"], report["convolutions"]) == ("vgg16", 13)
    assert run(["weights", "verify", copy]) == 0
    assert report["content_sha256"] in capsys.readouterr().out
    Path(copy).write_bytes(Path(copy).read_bytes()[:-1000])
    for command in (["verify", copy], ["verify", "no.h5"], ["convert", "no", copy]):
        assert run(["weights", *command]) == 2
        assert capsys.readouterr().err.count("\n") == 1


# Ends.


def raising(error: BaseException) -> Callable[[Render], int]:
    def run(self: Render) -> int:
        raise error

    return run


def test_a_defect_of_ours_is_one_line_that_names_the_way_to_report_it(nst, monkeypatch):
    monkeypatch.setattr(Render, "run", raising(ZeroDivisionError("by two")))
    answer = nst("render", "a.png", "b.png", "--output", "x.png")
    assert (answer.status, answer.out) == (1, "")
    assert answer.err.count("\n") == 1
    assert "ZeroDivisionError: by two" in answer.err
    assert "NST_JAX_TRACEBACK" in answer.err
    monkeypatch.setenv("NST_JAX_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        nst("render", "a.png", "b.png", "--output", "x.png")


def test_a_preset_of_another_network_is_said_to_be_one(nst):
    preset = ("--preset", "crowsonkb", "--style-tap-weights", "1")
    asked = ("render", "a.png", "b.png", "--output", "x.png", *preset)
    said = "preset crowsonkb is exact on vgg19 alone"
    assert said in nst(*asked).err
    Path("x.png").unlink()
    assert nst(*asked, "--quiet") == (0, "", "")
    assert Path("x.png").is_file()


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Termination(), 143, "terminated"),
        (Termination(signal.SIGHUP), 129, "ended by SIGHUP"),
    ],
)
def test_an_interrupt_is_told_how_to_go_on(nst, monkeypatch, error, status, word):
    monkeypatch.setattr(Render, "run", raising(error))
    answer = nst("render", "a.png", "b.png", "--output", "x.png")
    assert answer == (status, "", f"nst-jax: {word}; run the same command again to go on\n")


def test_a_reader_that_has_gone_is_no_fault():
    command = [sys.executable, "-m", "nst_jax.cli.main", "weights", "list"]
    buffered = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        answer = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, env=buffered, check=False
        )
    finally:
        os.close(writer)
    assert (answer.returncode, answer.stderr) == (0, b"")


def test_a_terminal_that_has_gone_ends_no_run(nst, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    assert nst("render", "a.png", "b.png", "--output", "x.png").status == 0
    assert Path("x.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_ends_a_batch_at_once_and_the_next_run_goes_on(nst, small, name, status):
    rows("a.png,b.png,x.png,")
    assert nst("batch", "jobs.csv", "--output-dir", "out").status == 0
    endless = [*small, "--steps", "1000000", "--verbose"]
    command = [sys.executable, "-m", "nst_jax.cli.main", "batch", "--output-dir", "out", *endless]
    with subprocess.Popen([*command, "jobs.csv"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "preparing step" in line:
                break
        time.sleep(3)
        process.send_signal(getattr(signal, name))
        said = process.stderr.read()
        assert process.wait(60) == status
    assert said.splitlines()[-1].endswith("run the same command again to go on")
    assert "Traceback" not in said
    assert "1 kept in mid-schedule" in said
    assert (Path("out") / "state.npz").exists()
    assert not list(Path("out").glob(".*"))
    answer = nst("batch", "jobs.csv", "--output-dir", "out", "--json")
    assert (answer.json["skipped"], answer.json["failed"]) == (1, 0)
