"""Accidents of a batch through the command line: inputs, jobs, devices, disks, other runs.

Whatever happens, the ledger is true, the run ends in one clear line, and the same command goes
on to the bytes of a run without an accident.
"""

import contextlib
import errno
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import pytest
from batch_runs import Batches
from engine_jobs import shared_programs
from PIL import Image

from nst_jax.cli.main import run
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.inputs import picture_index
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.run import preflight, writer
from nst_jax.files import atomic, open_picture
from nst_jax.files.folders import LocalFolder
from nst_jax.files.ledger import read_ledger
from nst_jax.files.locks import lock_folder

pytestmark = pytest.mark.usefixtures("compiled_once")

GOOD = ("a.png,b.png,x.png", "b.png,c.png,y.png", "c.png,d.png,z.png")
NAMES = ("x.png", "y.png", "z.png")
EXPLODES = "a.png,b.png,bad.png,,noise,3e38,3e38"
"""What no float32 holds: the job fails at its first step."""


@pytest.fixture
def batches(tmp_path, narrow_file, capsys, monkeypatch) -> Batches:
    """A batch of three good jobs; pauses before another try are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nst_jax.engine.inputs.load._BACK_OFF_S", 0.001)
    monkeypatch.setattr("nst_jax.engine.run.writer._BACK_OFF_S", 0.001)
    monkeypatch.setattr("nst_jax.engine.schedule.recovery._BACK_OFF_S", 0.001)
    made = Batches(tmp_path, narrow_file, capsys)
    made.rows(*GOOD)
    return made


@pytest.fixture(scope="module")
def expected(narrow_file, tmp_path_factory) -> dict[str, str]:
    """Checksums of the three pictures without any accident."""
    made = Batches(tmp_path_factory.mktemp("unbroken"), narrow_file)
    made.rows(*GOOD)
    assert run(made.arguments("--quiet")) == 0
    return made.sums(NAMES)


def assert_goes_on(batches: Batches, expected: dict[str, str], *more: str) -> None:
    """The same command ends the batch well, with the same bytes and nothing left behind."""
    answer = batches.run(*more)
    done, failed, skipped = answer.counts
    assert (answer.status, failed, done + skipped) == (0, 0, 3)
    assert batches.sums(NAMES) == expected
    assert [path.name for path in batches.out.glob(".*")] == []
    last = {line["job"]: line["status"] for line in batches.lines()}
    assert last == dict.fromkeys(NAMES, "done")


# Inputs.


@pytest.fixture
def flaky(monkeypatch) -> Callable[[int, int], list[str]]:
    """Lets readings of a.png fail, after so many; gives the list of all."""

    def flaky(failures: int, after: int) -> list[str]:
        readings: list[str] = []
        original = open_picture._open_file

        def open_file(file: Any) -> Any:
            if str(file).endswith("a.png"):
                readings.append(str(file))
                if after < len(readings) <= after + failures:
                    raise OSError(errno.EIO, "Input/output error")
            return original(file)

        monkeypatch.setattr(open_picture, "_open_file", open_file)
        return readings

    return flaky


@pytest.mark.parametrize("after", range(6))
def test_a_reading_that_fails_twice_is_tried_again(batches, expected, flaky, after):
    """While it is looked at (its size, its checksum), and while it is decoded."""
    flaky(2, after)
    assert_goes_on(batches, expected, "--retries", "2")


@pytest.mark.parametrize(("after", "readings_in_all"), [(0, 3), (5, 7)])
def test_a_reading_that_fails_too_often_fails_its_job_and_the_next_run_tries_again(
    batches, expected, flaky, after, readings_in_all
):
    """While it is looked at (then its size is asked for once more), and while it is decoded."""
    readings = flaky(2, after)
    answer = batches.run("--retries", "1")
    assert (answer.status, answer.counts) == (3, (2, 1, 0))
    error = batches.errors()["x.png"]
    assert error["kind"] == "read"
    assert "'a.png' could not be read: Input/output error" in error["message"].replace(
        f"{batches.folder}/", ""
    )
    assert error["remedy"]
    assert len(readings) == readings_in_all
    assert_goes_on(batches, expected)


# Jobs.


def test_a_job_that_failed_by_its_own_fault_is_tried_again_when_that_is_asked(batches):
    batches.rows(*GOOD, EXPLODES)
    assert batches.run().counts == (3, 1, 0)
    error = batches.errors()["bad.png"]
    assert (error["kind"], error["attempt"]) == ("nonfinite", 1)
    assert "must stay in the finite numbers" in error["message"]
    assert "learning_rate" in error["remedy"]
    answer = batches.run("--quiet")
    assert (answer.status, answer.counts) == (3, (0, 1, 3))
    assert "1 job has failed before by their own fault" in answer.err
    assert "--retry-failed" in answer.err
    assert len(batches.lines()) == 4
    answer = batches.run("--retry-failed")
    assert (answer.status, answer.counts) == (3, (0, 1, 3))
    assert batches.errors()["bad.png"]["attempt"] == 2
    batches.rows(*GOOD, EXPLODES.replace("3e38", ""))
    answer = batches.run()
    assert (answer.status, answer.counts) == (0, (1, 0, 3))


def test_the_first_failure_ends_the_run_where_that_is_asked(batches, expected):
    rows = [f"no{number}.png,b.png,{number}.png" for number in range(3)]
    batches.rows(*rows, *GOOD)
    answer = batches.run("--fail-fast")
    assert answer.status == 3
    assert "stopped at 1 failed with 1 of 6 jobs finished" in answer.last_line
    assert answer.counts == (0, 1, 0)
    assert len(batches.lines()) == 1
    answer = batches.run("--max-failures", "2")  # past the one that failed before
    assert answer.status == 3
    assert "stopped at 2 failed" in answer.last_line
    assert [line["job"] for line in batches.lines()] == ["0.png", "1.png", "2.png"]
    answer = batches.run("--fail-fast")
    assert (answer.status, answer.counts) == (3, (3, 3, 0))
    assert batches.sums(NAMES) == expected


def test_a_run_that_ended_at_a_failure_goes_on_past_it(batches, expected):
    batches.rows(EXPLODES, *GOOD)
    answer = batches.run("--fail-fast")
    assert answer.status == 3
    assert "run the same command again" in answer.last_line.lower()
    answer = batches.run("--fail-fast")
    assert answer.counts[1] == 1
    assert batches.sums(NAMES) == expected


def test_a_picture_that_failed_at_first_sight_is_given_up_until_it_changes(batches):
    batches.rows("no.png,b.png,x.png")
    assert batches.run().counts == (0, 1, 0)
    answer = batches.run()
    assert (answer.status, answer.counts) == (3, (0, 1, 0))
    assert len(batches.lines()) == 1
    assert batches.run("--retry-failed").counts == (0, 1, 0)
    assert batches.errors()["x.png"]["attempt"] == 2
    (batches.folder / "no.png").write_bytes(b"")
    assert batches.run().counts == (0, 1, 0)
    assert "empty" in batches.errors()["x.png"]["message"]  # another fault than before
    shutil.copy(batches.folder / "a.png", batches.folder / "no.png")
    answer = batches.run()
    assert (answer.status, answer.counts) == (0, (1, 0, 0))


def test_an_output_that_can_not_be_written_is_its_jobs_fault(batches, expected):
    (batches.out / "y.png").mkdir(parents=True)
    answer = batches.run()
    assert (answer.status, answer.counts) == (3, (2, 1, 0))
    error = batches.errors()["y.png"]
    assert (error["kind"], error["attempt"]) == ("write", 1)
    assert "y.png' could not be written: Is a directory" in error["message"]
    assert "no folder's" in error["remedy"]
    (batches.out / "y.png").rmdir()
    assert_goes_on(batches, expected)


def test_a_file_that_no_run_has_written_is_not_replaced(batches, expected):
    (batches.out / "y.png").parent.mkdir()
    shutil.copy(batches.folder / "a.png", batches.out / "y.png")
    mine = (batches.out / "y.png").read_bytes()
    for more in ((), ("--metadata", "none"), ("--shard", "0/1")):
        answer = batches.run(*more)
        assert answer.status == 2
        assert "'y.png' would take the place of a file" in answer.last_line
        assert "Move or delete it" in answer.last_line
    there = [name for name in os.listdir(batches.out) if not name.startswith(".")]
    assert there == ["y.png"], "nothing was begun"
    assert (batches.out / "y.png").read_bytes() == mine
    (batches.out / "y.png").unlink()
    assert_goes_on(batches, expected)


@pytest.mark.parametrize("more", [(), ("--metadata", "none")])
def test_pictures_whose_ledger_is_lost_are_rendered_again(batches, more):
    for _ in range(2):
        answer = batches.run(*more)
        assert (answer.status, answer.counts) == (0, (3, 0, 0))
        (batches.out / "ledger.jsonl").unlink()


def test_a_job_that_does_not_fit_even_alone_is_blamed_and_the_rest_is_done(batches, monkeypatch):
    """The device's word is injected: for every batch of one canvas, down to a single slot."""
    original, tried = ProgramCache.run_chunk, []

    def run_chunk(self: ProgramCache, canvas: Any, states: Any, problems: Any, *how: Any) -> Any:
        if canvas[0] > canvas[1]:
            tried.append(len(problems.steps))
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return original(self, canvas, states, problems, *how)

    monkeypatch.setattr(ProgramCache, "run_chunk", run_chunk)
    with Image.open("a.png") as image:
        image.crop((0, 0, 40, 20)).save("flat.png")
    batches.rows(*GOOD, "flat.png,b.png,u.png")
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    with shared_programs():
        answer = batches.run()
        assert (answer.status, answer.counts) == (3, (3, 1, 0))
        assert tried == [2, 1]
        error = batches.errors()["u.png"]
        assert (error["kind"], error["attempt"]) == ("memory", 1)
        assert error["remedy"]
        monkeypatch.setattr(ProgramCache, "run_chunk", original)
        answer = batches.run()
    assert (answer.status, answer.counts) == (0, (1, 0, 3))


# Clocks.


@pytest.mark.parametrize("shard", [(), ("--shard", "0/1")], ids=["one file", "two files"])
@pytest.mark.parametrize(("first", "second"), [(86_400, 0), (0, -1.7e9)])
def test_no_clock_makes_a_run_render_again_what_is_there(batches, first, second, shard):
    """The clock of one run was a day ahead, or that of the next began anew in 1970."""
    now = time.time

    def run_at(offset: float, *more: str) -> tuple[int, int, int]:
        with mock.patch.object(time, "time", side_effect=lambda: now() + offset):
            counts = batches.run(*more).counts
        for path in batches.out.glob("ledger*"):
            os.utime(path, (now() + offset, now() + offset))
        return counts

    assert run_at(first, *shard) == (3, 0, 0)
    batches.rows(*(f"{row},0.02" for row in GOOD))
    assert run_at(second) == (3, 0, 0)
    assert run_at(0) == run_at(0, *shard) == (0, 0, 3)
    rates = [line["options"]["learning_rate"] for line in read_ledger(batches.out).values()]
    assert rates == [0.02] * 3


# What a resume reads.


def test_a_resume_reads_what_has_another_stamp_and_nothing_else(batches, expected, monkeypatch):
    """And a content of the same size and date is noticed."""
    read: list[str] = []
    digest, whole = open_picture.file_digest, LocalFolder.read

    def file_digest(path: Any) -> str:
        read.append(Path(str(path)).name)
        return digest(path)

    def read_whole(self: LocalFolder, name: str) -> bytes | None:
        if name.endswith(".png"):
            read.append(name)
        return whole(self, name)

    monkeypatch.setattr(open_picture, "file_digest", file_digest)
    monkeypatch.setattr(LocalFolder, "read", read_whole)
    monkeypatch.setattr(picture_index, "_SETTLED_AFTER_S", -60)  # they have just been written
    os.utime("d.png", (4e9, 4e9))  # by a camera whose clock is ahead
    assert batches.run().counts == (3, 0, 0)
    read.clear()
    assert batches.run().counts == (0, 0, 3)
    assert read == []
    os.utime("b.png", (2e9 - 1e9, 1e9 + 1))
    os.utime(batches.out / "y.png", (1e9, 1e9))
    assert batches.run().counts == (0, 0, 3)
    assert sorted(set(read)) == ["b.png", "y.png"]
    read.clear()
    assert batches.run("--verify").counts == (0, 0, 3)
    assert sorted(set(read)) == ["a.png", "b.png", "c.png", "d.png", *NAMES]
    path = batches.out / "x.png"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-20] + b"\1" + content[-19:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert batches.run().counts == (1, 0, 2)
    assert batches.sums(NAMES) == expected


def test_an_interrupt_does_not_wait_for_all_pictures_to_be_looked_at(batches, monkeypatch):
    looks, original = [], PictureIndex.lookup

    def lookup(self: PictureIndex, source: Any) -> Any:
        looks.append(source)
        if len(looks) == 1:
            raise KeyboardInterrupt
        time.sleep(0.02)
        return original(self, source)

    monkeypatch.setattr(PictureIndex, "lookup", lookup)
    batches.rows(*(f"a.png,b.png,{number}.png" for number in range(500)))
    assert batches.run().status == 130
    assert len(looks) < 100
    assert not batches.out.exists()


# Disks.


@contextlib.contextmanager
def failing_pictures(number: int, *, after: int) -> Iterator[None]:
    """The file system refuses every file that is to take its place, after so many pictures."""
    original, written = atomic.os.replace, 0

    def replace(source: Any, target: Any) -> None:
        nonlocal written
        written += Path(target).suffix == ".png"
        if written > after:
            raise OSError(number, os.strerror(number))
        original(source, target)

    with mock.patch.object(atomic.os, "replace", replace):
        yield


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE"])
def test_a_disk_that_takes_no_more_ends_the_run(batches, expected, name):
    """The fault is injected where a picture takes its place."""
    number = getattr(errno, name)
    with failing_pictures(number, after=1):
        answer = batches.run("--retries", "1")
    assert answer.status == 3
    assert answer.last_line.startswith(f"nst-jax: output folder '{batches.out}' takes no more")
    assert os.strerror(number).lower() in answer.last_line
    assert "run the same command again" in answer.last_line
    statuses = [line["status"] for line in batches.lines()]
    assert statuses == ["done", "failed"]
    failed = batches.lines()[1]["error"]
    assert (failed["kind"], failed["attempt"]) == ("write", 2)
    assert [path.name for path in batches.out.glob("*.png")] == [batches.lines()[0]["job"]]
    assert_goes_on(batches, expected)


def test_a_fault_of_the_disk_that_passes_is_waited_for(batches, expected, monkeypatch):
    original, calls = writer.write_result, itertools.count()

    def write_result(*arguments: Any) -> Any:
        is_first = next(calls) == 0
        with failing_pictures(errno.EIO, after=0) if is_first else contextlib.nullcontext():
            return original(*arguments)

    monkeypatch.setattr(writer, "write_result", write_result)
    assert_goes_on(batches, expected, "--retries", "1")


def test_a_full_disk_under_the_ledger_ends_the_run_and_a_torn_line_is_healed(batches, expected):
    """The fault is injected: half of the second line, then no more."""
    original, lines = os.fsync, itertools.count()

    def fsync(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}").endswith("ledger.jsonl") and next(lines):
            os.ftruncate(handle, os.fstat(handle).st_size - 50)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not tell the names of open files")
    with mock.patch("nst_jax.files.ledger.os.fsync", fsync):
        answer = batches.run()
    assert answer.status == 3
    assert answer.last_line.startswith(f"nst-jax: ledger '{batches.out}/ledger.jsonl' can't be")
    assert "no space left" in answer.last_line
    answer = batches.run()
    assert (answer.status, answer.counts) == (0, (2, 0, 1))
    assert batches.sums(NAMES) == expected


@pytest.mark.parametrize("name", ["EPERM", "EOPNOTSUPP", "ENOSYS"])
def test_a_mount_without_modes_times_locks_and_flushing_gets_its_pictures(batches, expected, name):
    """As shares of Windows, NTFS and stores in a file system's clothes are."""
    number = getattr(errno, name)
    refuse = mock.Mock(side_effect=OSError(number, os.strerror(number)))
    calls = ["os.chmod", "os.fchmod", "os.chown", "os.fchown", "os.utime", "shutil.copystat"]
    if name != "EPERM":
        calls += ["os.fsync", "os.ftruncate", "fcntl.flock"]
    with contextlib.ExitStack() as mount:
        for call in calls:
            mount.enter_context(mock.patch(call, refuse))
        assert run(batches.render("x.png")) == 0
        assert_goes_on(batches, expected)
    assert Path("x.png").stat().st_size


@pytest.mark.parametrize(("name", "first"), [("ENOSYS", True), ("EPERM", False)])
def test_a_mount_that_can_not_rename_is_refused_before_any_work(batches, capsys, name, first):
    """Not at all, or not onto a file that is there."""
    original, number = os.replace, getattr(errno, name)

    def replace(source: Any, target: Any) -> None:
        if first or os.path.lexists(target):
            raise OSError(number, os.strerror(number), source, None, target)
        original(source, target)

    with mock.patch.object(atomic.os, "replace", replace):
        for arguments in (batches.arguments(), batches.render("x.png")):
            assert run([*arguments, "--quiet"]) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert f"files can't be renamed there ({os.strerror(number).lower()})" in said
    assert list(batches.out.iterdir()) == []
    assert not Path("x.png").exists()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system in memory of that size under a folder, where we may make one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no file system may be mounted here")
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def test_a_disk_that_is_really_full_loses_nothing(batches):
    batches.rows(*(f"a.png,b.png,{number:02d}.png" for number in range(12)))
    with small_disk(batches.out, "24k"):
        answer = batches.run("--retries", "0")
        assert answer.status == 3
        assert "no space left on device" in answer.last_line
        done = [line["job"] for line in batches.whole_lines() if line["status"] == "done"]
        assert 0 < len(done) < 12
        assert {path.name for path in batches.out.glob("*.png")} >= set(done)
        subprocess.run(["mount", "-o", "remount,size=4m", str(batches.out)], check=True)
        answer = batches.run()
        assert (answer.status, answer.counts) == (0, (12 - len(done), 0, len(done)))
        assert len(set(batches.sums(path.name for path in batches.out.glob("*.png")).values())) == 1


def test_a_read_only_disk_is_refused_before_any_work(batches):
    with small_disk(batches.out, "1m"):
        subprocess.run(["mount", "-o", "remount,ro", str(batches.out)], check=True)
        answer = batches.run()
        assert (answer.status, answer.out) == (2, "")
        assert answer.err.count("\n") == 1
        assert "can't be written: read-only file system" in answer.err


@contextlib.contextmanager
def after_the_first_picture(happens: Callable[[], object]) -> Iterator[None]:
    original, calls = writer.write_result, itertools.count()

    def write_result(*arguments: Any) -> Any:
        if next(calls) == 1:
            happens()
        return original(*arguments)

    with mock.patch.object(writer, "write_result", write_result):
        yield


def test_a_mount_that_disappears_ends_the_run_and_nothing_goes_under_it(batches, expected):
    with (
        small_disk(batches.out, "1m"),
        after_the_first_picture(lambda: subprocess.run(["umount", "-l", "out"], check=True)),
    ):
        answer = batches.run("--retries", "0")
    assert answer.status == 3
    assert "has been replaced by another one" in answer.last_line
    assert list(batches.out.iterdir()) == []
    assert_goes_on(batches, expected)


def test_a_folder_that_disappears_ends_the_run(batches, expected):
    elsewhere = batches.folder / "elsewhere"
    with after_the_first_picture(lambda: batches.out.rename(elsewhere)):
        answer = batches.run("--retries", "0")
    assert answer.status == 3
    assert "takes no more pictures: no such file or directory" in answer.last_line
    assert not batches.out.exists()
    elsewhere.rename(batches.out)
    assert [line["status"] for line in batches.lines()] == ["done", "failed"]
    assert_goes_on(batches, expected)


def test_a_disk_that_will_be_too_small_is_told_before_the_start(batches, monkeypatch, capsys):
    from nst_jax.cli.main import run

    for free, warned in ((10_000, True), (10**9, False)):
        monkeypatch.setattr(LocalFolder, "free_bytes", lambda self, free=free: free)
        assert run(batches.arguments("--verify")) == 0
        assert ("will be written, and" in capsys.readouterr().err) == warned
        for name in NAMES:
            (batches.out / name).unlink()


def test_the_estimate_of_space_is_of_the_right_size(batches, monkeypatch):
    asked = []
    original = preflight.needed_bytes

    def needed_bytes(*arguments: Any) -> int:
        asked.append(original(*arguments))
        return asked[-1]

    monkeypatch.setattr(preflight, "needed_bytes", needed_bytes)
    batches.rows(*(f"a.png,b.png,x.{suffix}" for suffix in ("png", "jpg", "webp", "tif")))
    assert batches.run().status == 0
    taken = sum((batches.out / f"x.{suffix}").stat().st_size for suffix in ("png", "jpg", "webp"))
    assert taken < asked[0] < 20 * taken


# Two at once.


def test_a_second_run_is_refused_with_who_is_in_the_folder_while_they_live(batches, expected):
    batches.out.mkdir()
    with lock_folder(batches.out):
        answer = batches.run()
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    who = f"is in use by process {os.getpid()} on {socket.gethostname()} since 20"
    assert who in answer.err
    # A lock of a dead process is taken over.
    (batches.out / ".lock").write_text('{"process": 1, "host": "elsewhere", "since": "1999"}')
    assert_goes_on(batches, expected)
