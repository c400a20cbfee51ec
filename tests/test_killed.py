"""Processes that are killed, at any moment: the next run ends with the bytes of an unbroken one."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_runs import TINY, Batches
from runner import Runner

from nst_jax.cli.signals import SignalExit, stop_on_signal
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.request.errors import StoppedError

KILLS = 30
JOBS = 24

SLEEPS = """
import threading
from nst_jax.cli.signals import stop_on_signal

class Stop:
    is_watched, saved_at = True, 0.0
    def request(self):
        print("asked", flush=True)

with stop_on_signal(Stop()):
    print("begun", flush=True)
    threading.Event().wait()
"""
"""A run that will never look at the wish to stop, as in a long compilation."""


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner(tmp_path_factory.mktemp("runner")) as runner:
        yield runner


@pytest.fixture
def batches(tmp_path: Path, narrow_file: str) -> Batches:
    """A batch of many jobs of three lengths, whose states are kept all the time."""
    batches = Batches(tmp_path, narrow_file)
    pairs = ("a.png,b.png", "b.png,c.png", "c.png,d.png;a.png")
    batches.rows(*(f"{pairs[n % 3]},{n:02d}.png,0.0{n % 5 + 1}" for n in range(JOBS)))
    return batches


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.png")}


@pytest.mark.slow
def test_a_batch_that_is_killed_30_times_ends_as_if_it_never_was(runner, batches):
    """In turns at a random moment of its start, and when some more pictures are there."""
    rng = random.Random(0)
    command = batches.arguments(
        *("--steps", "60", "--batch-size", "2", "--checkpoint-every", "0.02")
    )
    assert runner.run(command) == 0  # programs are compiled and kept
    shutil.rmtree(batches.out)
    began = time.monotonic()
    assert runner.run(command) == 0
    whole_s = time.monotonic() - began
    unbroken = pictures(batches.out)
    assert len(unbroken) == JOBS
    shutil.rmtree(batches.out)

    kills, kept, finished_before = 0, 0, set[int]()
    while kills < KILLS:
        with runner.started(command) as process:
            if kills % 2:
                more = len(pictures(batches.out)) + rng.randint(1, 4)
                _wait_for_pictures(batches.out, min(more, JOBS), timeout_s=10 * whole_s)
                time.sleep(rng.uniform(0, 0.09) * whole_s)
            else:
                time.sleep(rng.uniform(0, 0.9) * whole_s)
            runner.send(process, signal.SIGKILL)
            status = runner.status()
        assert status in (0, -signal.SIGKILL), runner.said
        kills += status != 0
        kept += (batches.out / "state.npz").exists()
        finished_before.add(len(pictures(batches.out)))
        # What is there under its name is whole, at any moment.
        assert pictures(batches.out).items() <= unbroken.items()
        if status == 0:
            _assert_finished(batches, unbroken)
            shutil.rmtree(batches.out)
    assert runner.run(command) == 0, runner.said
    _assert_finished(batches, unbroken)
    assert kept, "no kill has met a state"
    assert len(finished_before) > 3, "every kill has met the same moment"


def _wait_for_pictures(folder: Path, count: int, timeout_s: float) -> None:
    began = time.monotonic()
    while len(pictures(folder)) < count and time.monotonic() - began < timeout_s:
        time.sleep(0.002)


def _assert_finished(batches: Batches, unbroken: dict[str, bytes]) -> None:
    """The bytes of an unbroken run, a line for each job, and nothing left behind."""
    assert pictures(batches.out) == unbroken
    done = Counter(line["job"] for line in batches.whole_lines() if line["status"] == "done")
    assert done == dict.fromkeys(unbroken, 1)
    assert all(line["status"] == "done" for line in batches.whole_lines())
    left = sorted(path.name for path in batches.out.iterdir() if path.suffix != ".png")
    assert left == ["ledger.jsonl", "plan.json", "run.json"]


@pytest.mark.slow
def test_a_single_picture_that_is_killed_goes_on_from_its_checkpoint(runner, batches, narrow_file):
    folder = batches.folder
    common = [*TINY, "--weights", narrow_file, "--steps", "3000", "--checkpoint-every", "0.05"]
    pair = [str(folder / "a.png"), str(folder / "b.png")]

    def command(name: str) -> list[str]:
        return ["render", *pair, "--output", str(folder / name), *common]

    assert runner.run(command("whole.png")) == 0
    state = folder / ".broken.png.state.npz"
    with runner.started(command("broken.png")) as process:
        while not state.exists():
            assert not (folder / "broken.png").exists(), "it ended before its first checkpoint"
            time.sleep(0.01)
        runner.send(process, signal.SIGKILL)
        assert runner.status() == -signal.SIGKILL
    assert not (folder / "broken.png").exists()
    assert runner.run(command("broken.png")) == 0
    assert "passed over" not in runner.said
    assert (folder / "broken.png").read_bytes() == (folder / "whole.png").read_bytes()
    assert not state.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_a_batch_and_corrupts_nothing(runner, batches, number, status):
    command = batches.arguments("--steps", "60")
    assert runner.run(command) == 0
    unbroken = pictures(batches.out)
    shutil.rmtree(batches.out)
    endless = batches.arguments("--steps", "60000")
    with runner.started(endless) as process:
        while "preparing" not in runner.said:
            time.sleep(0.05)
        time.sleep(3)  # long chunks by then
        runner.send(process, number)
        time.sleep(0.01)
        runner.send(process, number)
        assert runner.status() == status
    assert "Traceback" not in runner.said
    assert runner.run(command) == 0
    assert pictures(batches.out) == unbroken
    assert list(batches.out.glob(".*")) == []


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_whatever_it_waits_for(second):
    command = [sys.executable, "-c", SLEEPS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(second)
        assert process.wait(60) == 128 + second


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
@pytest.mark.parametrize("is_ignored", [False, True])
def test_what_schedulers_and_terminals_send_is_a_wish_to_stop(name, is_ignored):
    """However often it is said, and unless it is ignored, as by nohup."""
    number, stop, status = getattr(signal, name), StopToken(), None
    before = signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        with stop_on_signal(stop), stop.watch():
            for _ in range(3):
                signal.raise_signal(number)
                stop.wait(0.05)
            if stop.is_requested:
                raise StoppedError("stopped")
    except SignalExit as end:
        status = end.status
    finally:
        signal.signal(number, before)
    assert status == (None if is_ignored else 128 + number)


# Runs a command line on a terminal of its own, and closes that once steps are taken.
TERMINAL = """
import os, pty, sys, time
process, terminal = pty.fork()
if not process:
    os.execv(sys.executable, [sys.executable, "-m", "nst_jax.cli.main", *sys.argv[1:]])
while b"to render" not in (shown := os.read(terminal, 9999)):
    pass
time.sleep(5)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@pytest.mark.slow
def test_a_batch_whose_terminal_is_closed_keeps_its_states(batches):
    command = [sys.executable, "-c", TERMINAL, *batches.arguments("--steps", "60000")]
    assert subprocess.check_output(command, text=True) == "129\n"
    assert (batches.out / "state.npz").exists()
    assert list(batches.out.glob(".*")) == []


# Starts the command and tells when a module is being loaded that a signal must not break.
LOADS = """
import builtins, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
load, module = builtins.__import__, sys.argv[1]
def told(name, *rest, **more):
    if name == module:
        print("loading", flush=True)
        for _ in range(10_000_000):
            pass
        print("loaded", flush=True)
    return load(name, *rest, **more)
builtins.__import__ = told
from nst_jax.cli.entry import main
sys.argv[1:] = ["batch", "jobs.csv", "--output-dir", "out"]
main()
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
@pytest.mark.parametrize("module", ["nst_jax.cli.main", "nst_jax.engine.batch"])
def test_a_signal_during_the_imports_ends_the_command_in_one_line(tmp_path, module, number, status):
    (tmp_path / "jobs.csv").write_text("content,style\na.png,b.png\n")
    command = [sys.executable, "-c", LOADS, module]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(number)
        out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert re.fullmatch("nst-jax: .*ed.*; run the same command again to go on\n", told)
