"""Programs compiled ahead of need: those of the run, each once, with the same pictures."""

import contextlib
import dataclasses
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from unittest import mock

import jax
import numpy as np
import pytest
from engine_jobs import (
    FIRST_TAPS,
    LANDSCAPE,
    PORTRAIT,
    STYLE_SIZE,
    Studio,
    assert_same,
    style_of,
    tiny_job,
    tiny_options,
)

from nst_jax import Job
from nst_jax.engine.device import runtime
from nst_jax.engine.device.program_shapes import ProgramShapes
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.recent_sessions import CompiledSession
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.program_list import PlannedProgram, list_programs
from nst_jax.engine.progress import AHEAD_THREAD
from nst_jax.engine.schedule import compile_ahead, make_scheduler
from nst_jax.engine.schedule.compile_ahead import AheadCompiler, count_threads
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.engine.schedule.waves import split_into_waves

WHITE = np.ones((*LANDSCAPE, 3), np.float32)


def mixed_jobs() -> list[Job]:
    """Two orientations, other taps, a style's mask, two styles blended and by masks, a blend."""
    one = tiny_job(0, **FIRST_TAPS)
    two = dataclasses.replace(one, style=(style_of(4), style_of(5)))
    other = tiny_job(2, style_taps=("relu1_2",), content_taps=("relu1_1",))
    blend = {"content_taps": ("pixels",), "pixel_blend": 0.5, "gradient_normalization": "l1"}
    return [
        one,
        tiny_job(1, PORTRAIT, **FIRST_TAPS),
        dataclasses.replace(other, style_masks=(np.ones((*STYLE_SIZE, 3), np.float32),)),
        two,
        dataclasses.replace(two, masks=(WHITE, WHITE)),
        tiny_job(4, **FIRST_TAPS | blend),
    ]


def list_planned(studio: Studio, jobs: list[Job]) -> list[PlannedProgram]:
    examined = studio.examine(jobs)
    plan = studio.plan(examined)
    waves = split_into_waves(examined, plan, studio.options.size)
    return list(list_programs(waves, plan))


@contextlib.contextmanager
def compilations_of_all_threads() -> Iterator[list[tuple[str, str]]]:
    """Functions that XLA compiles, and in which threads."""
    seen: list[tuple[str, str]] = []

    def note(record: logging.LogRecord) -> None:
        if match := re.match(r"Finished XLA compilation of jit\((.+?)\) in", record.getMessage()):
            seen.append((match[1], str(record.threadName)))

    logger, handler = logging.getLogger("jax._src.dispatch"), logging.Handler()
    handler.emit = note
    logger.addHandler(handler)
    jax.config.update("jax_log_compiles", True)
    try:
        yield seen
    finally:
        jax.config.update("jax_log_compiles", False)
        logger.removeHandler(handler)


def join_threads() -> None:
    for one in threading.enumerate():
        if one.name == AHEAD_THREAD:
            one.join()


# What is listed.


@pytest.mark.parametrize(
    ("changes", "devices", "count"),
    [({"preset": "default", "levels": 1, "batch_size": 2}, 2, 6), ({"optimizer": "lbfgs"}, 1, 1)],
)
def test_the_list_of_a_plan_has_the_programs_of_the_run_in_its_order(
    narrow_file, changes, devices, count
):
    options, jobs = tiny_options(narrow_file, **FIRST_TAPS | changes), mixed_jobs()[:count]
    studio = Studio(options, jax.devices()[:devices])
    studio.render(jobs)
    shapes = ProgramShapes(studio.programs, options)
    names = [shapes.find(planned).name for planned in list_planned(studio, jobs)]
    assert len(set(names)) == len(names)
    assert set(names) == set(studio.programs.compiled)
    steps = [name for name in names if name.startswith("step")]
    assert steps == [name for name in studio.programs.compiled if name.startswith("step")]


# Threads.


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(make_scheduler, "count_threads", lambda devices: 2)


def test_threads_compile_each_program_once_and_pictures_are_the_same(narrow_file, two_threads):
    options = tiny_options(narrow_file, **FIRST_TAPS, levels=2)
    jobs = [tiny_job(0, **FIRST_TAPS), tiny_job(1, **FIRST_TAPS)]
    studio = Studio(options)
    with compilations_of_all_threads() as seen:
        results = studio.render(jobs)
        join_threads()
    names = {studio.programs.session.names[one] for one in list_planned(studio, jobs)}
    assert set(studio.programs.compiled) == names
    assert len(seen) == len(names), "each once"
    assert sum(thread == AHEAD_THREAD for _, thread in seen) > 1
    timing = studio.scheduler.timing
    assert timing.compilation == pytest.approx(studio.programs.waiting_seconds)
    assert timing.waiting.compilation == timing.compilation
    with mock.patch.object(make_scheduler, "count_threads", return_value=0):
        alone = Studio(options)
        assert_same(results, alone.render(jobs))
    assert set(alone.programs.compiled) == names


def test_what_fails_ahead_is_compiled_where_it_is_needed(narrow_file, two_threads, monkeypatch):
    original, failed = ProgramCache._compile, []

    def fail_in_threads(self, name, *asked):
        if threading.current_thread().name == AHEAD_THREAD:
            failed.append(name)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: of the thread")
        return original(self, name, *asked)

    monkeypatch.setattr(ProgramCache, "_compile", fail_in_threads)
    studio = Studio(tiny_options(narrow_file, levels=1, **FIRST_TAPS))
    (result,) = studio.render([tiny_job(0, **FIRST_TAPS)])
    assert result.error is None
    assert failed


@pytest.mark.parametrize("how", ["closed", "stopped"])
def test_after_the_end_nothing_begins(one_level, monkeypatch, how):
    begun, goes_on = [], threading.Event()

    def wait(self, name, *asked):
        begun.append(name)
        goes_on.wait(60)

    monkeypatch.setattr(ProgramCache, "_compile", wait)
    studio = Studio(one_level.options)
    planned = list_planned(studio, [tiny_job(0)])
    stop = StopToken()
    ahead = AheadCompiler(studio.programs, studio.options, planned, threads=1, stop=stop)
    while not begun:
        pass
    (stop.request if how == "stopped" else ahead.close)()
    goes_on.set()
    join_threads()
    assert len(planned) > len(begun) == 1


def test_a_program_that_another_thread_compiles_is_waited_for_and_compiled_again_if_that_fails():
    session, began, goes_on = CompiledSession(), threading.Event(), threading.Event()

    def fail():
        began.set()
        goes_on.wait(60)
        raise ValueError("of the other thread")

    def ask():
        with contextlib.suppress(ValueError):
            session.get("step", fail)

    other = threading.Thread(target=ask)
    other.start()
    began.wait(60)
    assert session.is_begun("step")
    assert session.find("step") is None
    assert session.get("step", lambda: "mine", goes_on.set) == "mine"
    assert session.get("step", fail) == "mine"
    other.join()


@pytest.mark.parametrize(
    ("platform", "devices", "cores", "threads"),
    [
        *(("cpu", 1, 2, 0), ("cpu", 2, 2, 0), ("cpu", 16, 16, 0), ("cpu", 8, 11, 3)),
        *(("gpu", 8, 2, 0), ("gpu", 8, 3, 2), ("tpu", 4, 96, compile_ahead.MOST_THREADS)),
    ],
)
def test_threads_are_for_cores_that_are_free(monkeypatch, platform, devices, cores, threads):
    monkeypatch.setattr(compile_ahead, "usable_cores", lambda: cores)
    fake = mock.Mock(spec=Devices, platform=platform, count=devices)
    assert count_threads(fake) == threads


def test_hits_of_another_thread_are_not_counted():
    def tell():
        jax.monitoring.record_event(runtime._HIT)

    with runtime.count_cache_hits() as outer:
        tell()
        with runtime.count_cache_hits() as inner:
            other = threading.Thread(target=tell)
            other.start()
            other.join()
            tell()
    tell()
    assert (outer.count, inner.count) == (1, 1)


def test_a_command_that_was_stopped_does_not_wait_for_such_threads():
    code = (
        "import threading\n"
        "from nst_jax.cli import main\n"
        "from nst_jax.engine.progress import AHEAD_THREAD\n"
        "threading.Thread(target=threading.Event().wait, name=AHEAD_THREAD).start()\n"
        "main.run = lambda arguments: print('stopped') or 143\n"
        "main.main([])"
    )
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stdout) == (143, "stopped\n")
