"""Continuous batching: a job that is over makes room for the next, and nobody else notices.

Whoever a job travels with, whenever it gets a slot and however the device is cut down under
it, its picture is the one that it would be alone in a batch of as many slots.
"""

import contextlib
import itertools
import json
import logging
import math
import re
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jaxtyping
import numpy as np
import pytest
from engine_jobs import (
    LANDSCAPE,
    PORTRAIT,
    Studio,
    by_canvas,
    image_of,
    same,
    tiny_job,
    tiny_options,
)
from PIL import Image

from nst_jax import Job
from nst_jax.cli.main import run as run_command
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.slot_loader import SlotLoader
from nst_jax.request.errors import (
    DeviceError,
    ManifestError,
    NonFiniteError,
    NoRoomError,
    OptionError,
)
from nst_jax.request.manifest import read_manifest
from nst_jax.request.options import JobOptions, Options
from nst_jax.request.run_policy import RunPolicy

COARSE, FINE, UPRIGHT = (32, 34), (48, 48), (48, 32)
"""Canvases of landscapes at their two levels, and of a portrait at the second."""


class Notes(NullProgress):
    """A `Progress` that remembers what was said and counted."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.image_steps = 0

    def note(self, message: str) -> None:
        self.said.append(message)

    def stepped(self, image_steps: int) -> None:
        self.image_steps += image_steps


class Chunk(NamedTuple):
    """One call of a step program."""

    canvas: tuple[int, int]
    slots: int
    num_steps: int


class Workshop(Studio):
    """A studio whose notes are kept and whose renderer is there from the start."""

    def __init__(self, options: Options, devices: Sequence[Any] | None = None) -> None:
        super().__init__(options, devices)
        self.progress = self.notes = Notes()
        self.open(self.requests([tiny_job(0)]))

    def planned(self, jobs: Sequence[Job], slots: dict[tuple[int, int], int]) -> list[Result]:
        """Results of a run with this plan."""
        requests = self.requests(jobs)
        groups = {stage.bucket for one in requests for stage in one.levels}
        chosen = {group: slots[group.canvas] for group in groups}
        results = self.results(requests, Plan(chosen, self.session.devices.count))
        return sorted(results, key=lambda result: result.index)

    @contextlib.contextmanager
    def watched(self, name: str, before: Callable[..., None]) -> Iterator[None]:
        """Calls `before` with the arguments of each call of one kind of program."""
        original = getattr(self.programs, name)

        def spy(*arguments: Any) -> Any:
            before(*arguments)
            return original(*arguments)

        with mock.patch.object(self.programs, name, spy):
            yield

    @contextlib.contextmanager
    def chunks(self) -> Iterator[list[Chunk]]:
        """What the step programs were told while this lasts."""
        seen: list[Chunk] = []

        def note(canvas: Any, _: Any, problems: Any, num_steps: Any) -> None:
            seen.append(Chunk(canvas, len(problems.steps), int(num_steps)))

        with self.watched("run_chunk", note):
            yield seen

    @contextlib.contextmanager
    def placed(self) -> Iterator[list[int]]:
        """Which slots were filled anew while this lasts."""
        seen: list[int] = []
        with self.watched("place", lambda canvas, batch, slot, one: seen.append(slot)):
            yield seen


def executed(chunks: Sequence[Chunk]) -> int:
    """Steps of single images that the device has made, padding and idle slots included."""
    return sum(chunk.slots * chunk.num_steps for chunk in chunks)


@pytest.fixture(scope="module")
def workshop(narrow_file) -> Workshop:
    """One level, one canvas for landscapes."""
    return Workshop(tiny_options(narrow_file, levels=1))


@pytest.fixture(scope="module")
def two_levels(narrow_file) -> Workshop:
    return Workshop(tiny_options(narrow_file, batch_size=2))


def set_pace(monkeypatch, workshop: Workshop, seconds: float | Callable[[int], float]) -> None:
    """A clock that only steps move, so that chunks are as long as the pace says.

    Args:
        seconds: Of one step of the batch; or a function of the number of steps made before.
    """
    clock = types.SimpleNamespace(now=0.0, steps=0)
    time = types.SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr("nst_jax.engine.schedule.timing.time", time)
    monkeypatch.setattr("nst_jax.engine.device.programs.time", time)
    original = workshop.programs.run_chunk

    def run_chunk(canvas: Any, states: Any, problems: Any, num_steps: Any) -> Any:
        for _ in range(int(num_steps)):
            clock.now += seconds(clock.steps) if callable(seconds) else seconds
            clock.steps += 1
        return original(canvas, states, problems, num_steps)

    monkeypatch.setattr(workshop.programs, "run_chunk", run_chunk)


# Whose picture it is.

LENGTHS = (3, 17, 1, 8, 25, 2, 2, 11, 6, 1, 13, 4)
SIZES = (LANDSCAPE, (41, 48), (33, 47))
STARTS: tuple[dict[str, Any], ...] = (
    {},
    {"init": "noise", "seed": 5, "learning_rate": 0.04},
    {"style_weight": 4.0, "tv_weight": 0.0},
    {"init": "grey", "content_weight": 3.0},
)
BAD: dict[str, Any] = {"init": "noise", "content_weight": 3e38, "style_weight": 3e38}
"""What no float32 holds: the job fails at its first step."""

JOBS = [
    tiny_job(number, SIZES[number % 3], steps=length, **STARTS[number % 4])
    for number, length in enumerate(LENGTHS)
]
"""Of many lengths, and different in all that may differ on one canvas."""


def _alone(workshop: Workshop, jobs: Sequence[Job], **changes: Any) -> list[Result]:
    return [workshop.render([job], **changes)[0] for job in jobs]


def _assert_same(results: Sequence[Result], expected: Sequence[Result]) -> None:
    assert [result.index for result in results] == list(range(len(expected))), "each job once"
    for result, other in zip(results, expected, strict=True):
        assert same(result, other), result.index
        assert result.steps == other.steps


@pytest.mark.parametrize("batch_size", [2, 3, 4])
def test_a_job_in_a_used_slot_gives_the_bytes_that_it_gives_alone(workshop, batch_size):
    """In any order of the jobs, picture, losses and steps."""
    expected = _alone(workshop, JOBS, batch_size=batch_size)
    assert [result.steps for result in expected] == list(LENGTHS)
    assert len({image_of(result).tobytes() for result in expected}) == len(JOBS)
    orders = [np.arange(12), np.arange(12)[::-1], np.random.default_rng(0).permutation(12)]
    for order in orders:
        with workshop.placed() as slots:
            results = workshop.render([JOBS[index] for index in order], batch_size=batch_size)
        _assert_same(results, [expected[index] for index in order])
        assert len(slots) >= 5
        assert len(set(slots)) > 1, "several slots are used again"


def test_refilling_at_every_level_changes_no_byte(two_levels):
    jobs, lengths = JOBS[:7], LENGTHS[:7]
    results = two_levels.render(jobs)
    _assert_same(results, _alone(two_levels, jobs))
    assert [result.steps for result in results] == [2 * length for length in lengths]


def test_refilled_slots_on_several_devices_change_no_byte(narrow_file):
    both = Workshop(tiny_options(narrow_file, levels=1, batch_size=4), jax.devices()[:2])
    with both.placed() as slots:
        results = both.render(JOBS[:8])
    assert len(slots) >= 2
    _assert_same(results, _alone(both, JOBS[:8]))


@pytest.mark.parametrize("pace", [0.13, 0.7, 5.0, 1e-9])
def test_chunks_of_any_length_give_the_same_bytes(workshop, monkeypatch, pace):
    expected = workshop.render(JOBS, batch_size=3)
    set_pace(monkeypatch, workshop, pace)
    _assert_same(workshop.render(JOBS, batch_size=3), expected)


def test_every_picture_comes_out_before_the_last_chunk_when_it_is_over(workshop):
    """A short job must not wait for a long one that was there before."""
    events: list[str] = []
    jobs = [tiny_job(0, steps=40), *(tiny_job(number, steps=2) for number in range(1, 5))]
    requests = workshop.requests(jobs)
    with workshop.watched("run_chunk", lambda *_: events.append("chunk")):
        for result in workshop.results(requests, workshop.plan(requests, batch_size=2)):
            events.append(f"job {result.index}")
    assert events[-1] in {"job 0", "job 4"}
    last_chunk = len(events) - 1 - events[::-1].index("chunk")
    assert {"job 1", "job 2", "job 3"} <= set(events[:last_chunk])


# What the device does for it.

HARMONIC = [96 // number for number in range(1, 33)]
"""One long job, many short ones: a wave of them."""


@pytest.mark.parametrize("batch_size", [2, 4])
def test_the_device_makes_hardly_more_steps_than_the_jobs_ask_for(workshop, batch_size):
    """At most (slots - 1) times the longest job's are idle or padding (Graham 1966).

    That holds for any lengths where a free slot never waits. With the longest first it is
    less: here at most one twentieth.
    """
    jobs = [tiny_job(number % 3, steps=length) for number, length in enumerate(HARMONIC)]
    with workshop.chunks() as chunks:
        results = workshop.render(jobs, batch_size=batch_size)
    asked = sum(HARMONIC)
    assert sum(result.steps for result in results) == asked
    fixed = sum(
        batch_size * max(HARMONIC[first : first + batch_size])
        for first in range(0, len(HARMONIC), batch_size)
    )
    assert asked <= executed(chunks) <= asked + (batch_size - 1) * max(HARMONIC)
    assert executed(chunks) <= 1.05 * asked
    assert executed(chunks) <= 0.9 * fixed


@pytest.mark.parametrize("seed", range(4))
def test_no_free_slot_waits_while_jobs_do(workshop, seed):
    """Graham's bound for random lengths: what is idle is less than the longest job a slot."""
    lengths = np.random.default_rng(seed).integers(1, 30, size=11).tolist()
    jobs = [tiny_job(number % 3, steps=length) for number, length in enumerate(lengths)]
    with workshop.chunks() as chunks:
        workshop.render(jobs, batch_size=3)
    longest_first = [0, 0, 0]
    for length in sorted(lengths, reverse=True):
        longest_first[longest_first.index(min(longest_first))] += length
    assert executed(chunks) == 3 * max(longest_first)


def test_chunks_grow_to_two_seconds_and_follow_the_pace(workshop, monkeypatch):
    set_pace(monkeypatch, workshop, lambda step: 0.1 if step < 41 else 0.5)
    with workshop.chunks() as chunks:
        workshop.render([tiny_job(0, steps=60)], batch_size=1)
    assert [chunk.num_steps for chunk in chunks] == [1, 20, 20, 19]
    monkeypatch.undo()
    set_pace(monkeypatch, workshop, lambda step: 0.1 if step < 21 else 0.5)
    with workshop.chunks() as chunks:
        workshop.render([tiny_job(0, steps=60)], batch_size=1)
    assert [chunk.num_steps for chunk in chunks] == [1, 20, 20, 4, 4, 4, 4, 3]
    monkeypatch.undo()
    set_pace(monkeypatch, workshop, 7.0)
    with workshop.chunks() as chunks:
        workshop.render([tiny_job(0, steps=3)], batch_size=1)
    assert [chunk.num_steps for chunk in chunks] == [1, 1, 1]


def test_a_chunk_ends_with_the_first_job_that_is_over_while_others_wait(workshop, monkeypatch):
    set_pace(monkeypatch, workshop, 1e-9)
    jobs = [tiny_job(number, steps=steps) for number, steps in enumerate([4, 9, 30, 5])]
    with workshop.chunks() as chunks:
        workshop.render(jobs, batch_size=2)
    # 30 and 9; 5 takes the slot of 9, 4 that of 5; then nobody waits.
    assert [chunk.num_steps for chunk in chunks] == [1, 8, 5, 16]


@pytest.mark.parametrize("devices", [1, 2])
def test_nothing_compiles_after_the_first_refill(narrow_file, devices):
    """And until then once each: targets, step, take, place."""
    jax.clear_caches()
    options = tiny_options(narrow_file, levels=1, batch_size=2)
    fresh = Workshop(options, jax.devices()[:devices])
    events: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: _note_compilation(record, events)
    logger = logging.getLogger("jax._src.dispatch")
    logger.addHandler(handler)
    try:
        with (
            jax.log_compiles(),
            fresh.watched("run_chunk", lambda *_: events.append("chunk")),
            fresh.watched("place", lambda *_: events.append("refill")),
        ):
            fresh.render(JOBS)
    finally:
        logger.removeHandler(handler)
    assert events.count("refill") >= 5
    compiled = [event for event in events if event.startswith("compiled")]
    assert sorted(compiled) == [
        f"compiled {name}"
        for name in ("content_features", "place", "run_chunk", "style_moments", "take")
    ]
    first_refill = events.index("refill")
    assert [event for event in events[first_refill:] if event in compiled] == ["compiled place"]
    assert events[first_refill + 1] == "compiled place"


def _note_compilation(record: logging.LogRecord, events: list[str]) -> None:
    if match := re.match(r"Finished XLA compilation of jit\((.+?)\) in", record.getMessage()):
        events.append(f"compiled {match[1]}")


def test_jobs_of_one_length_open_whole_batches(workshop):
    """They are over together: nothing to place, nothing to take, nothing more to compile."""
    taken: list[int] = []
    with (
        workshop.chunks() as chunks,
        workshop.placed() as placed,
        workshop.watched("take", lambda canvas, states, slot: taken.append(slot)),
    ):
        workshop.render([tiny_job(number, steps=5) for number in range(10)])
    assert (placed, taken) == ([], [])
    assert executed(chunks) == 3 * 4 * 5


def test_a_failing_job_frees_its_slot_at_once_and_changes_nobody(workshop, monkeypatch):
    """It is the longest and comes first; the next job takes its place after a single chunk."""
    bad = tiny_job(30, steps=90, **BAD)
    expected = _alone(workshop, JOBS[:6], batch_size=2)
    set_pace(monkeypatch, workshop, 0.7)  # chunks of three steps
    with workshop.chunks() as chunks:
        results = workshop.render([*JOBS[:3], bad, *JOBS[3:6]], batch_size=2)
    failed = results.pop(3)
    assert isinstance(failed.error, NonFiniteError)
    assert failed.steps == 0
    assert [result.index for result in results] == [0, 1, 2, 4, 5, 6]
    for result, other in zip(results, expected, strict=True):
        assert same(result, other)
        assert result.steps == other.steps
    asked = sum(LENGTHS[:6])
    assert executed(chunks) <= asked + 3 + max(LENGTHS[:6]), "one chunk lost, then Graham's bound"


def test_a_batch_of_failing_jobs_makes_room_for_the_rest(workshop):
    jobs = [*(tiny_job(number, steps=30 + number, **BAD) for number in range(5)), *JOBS[:3]]
    results = workshop.render(jobs, batch_size=2)
    assert [result.status for result in results] == ["failed"] * 5 + ["done"] * 3
    for result, other in zip(results[5:], _alone(workshop, JOBS[:3], batch_size=2), strict=True):
        assert same(result, other)


# Early stop.

LONG = 170
EARLY: dict[str, Any] = {"init": "noise", "seed": 2, "content_weight": 3.0}


class Course(NamedTuple):
    """How the objective of a job went.

    Attributes:
        totals: Before each step.
        falls: Share by which the smoothed total fell between two looks, by the second's step.
    """

    totals: list[float]
    falls: dict[int, float]


def _falls(totals: Sequence[float]) -> dict[int, float]:
    """The rule in float64, from its own words: smoothed over ten steps, looked at every 20."""
    smoothed, looks = totals[0], {}
    for step, total in enumerate(totals, start=1):
        smoothed = total if step == 1 else 0.9 * smoothed + 0.1 * total
        if step % 20 == 0:
            looks[step] = smoothed
    return {
        later: (looks[earlier] - looks[later]) / looks[earlier]
        for earlier, later in itertools.pairwise(looks)
    }


@pytest.fixture(scope="module")
def course(workshop) -> Course:
    """One job's, recorded step by step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nst_jax.engine.schedule.scheduler._CHUNK_S", 0.0)
        calls = workshop.calls([tiny_job(0, steps=LONG, **EARLY)], batch_size=1)
    assert [int(call.after.step[0]) for call in calls] == list(range(1, LONG + 1))
    totals = [float(call.after.terms.total[0]) for call in calls]
    return Course(totals, _falls(totals))


def _share_that_stops_at(course: Course, step: int) -> float:
    """An `early_stop` that ends the job at this look and at none before, with room to spare."""
    before = [fall for look, fall in course.falls.items() if look < step]
    share = math.sqrt(course.falls[step] * min(before)) if before else 1.2 * course.falls[step]
    assert all(share < 0.98 * fall for fall in before)
    assert share > 1.02 * course.falls[step]
    return share


STOPS = (40, 60, 80, 100)


@pytest.mark.parametrize("step", STOPS)
def test_a_job_stops_at_the_step_that_the_rule_says(workshop, course, step):
    share = _share_that_stops_at(course, step)
    [result] = workshop.render([tiny_job(0, steps=LONG, early_stop=share, **EARLY)], batch_size=1)
    assert result.steps == step
    assert result.losses["total"] == course.totals[step - 1]


def test_a_job_that_always_falls_by_more_goes_on_to_the_end(workshop, course):
    share = 0.5 * min(course.falls.values())
    assert share > 0
    [result] = workshop.render([tiny_job(0, steps=LONG, early_stop=share, **EARLY)], batch_size=1)
    assert result.steps == LONG


def test_a_stopped_job_is_the_one_that_was_asked_for_so_few_steps(workshop, course):
    share = _share_that_stops_at(course, 60)
    stopped = tiny_job(0, steps=LONG, early_stop=share, **EARLY)
    asked = tiny_job(0, steps=60, **EARLY)
    _assert_same(workshop.render([stopped]), workshop.render([asked]))


@pytest.mark.parametrize("pace", [5.0, 0.3, 0.1, 1e-9])
def test_a_job_stops_at_the_same_step_whatever_the_chunks(workshop, course, monkeypatch, pace):
    """Of 1, 7, 20 and all steps."""
    share = _share_that_stops_at(course, 60)
    job = tiny_job(0, steps=LONG, early_stop=share, **EARLY)
    [expected] = workshop.render([job], batch_size=1)
    set_pace(monkeypatch, workshop, pace)
    [result] = workshop.render([job], batch_size=1)
    assert result.steps == 60
    assert same(result, expected)


@pytest.mark.parametrize("batch_size", [2, 3])
def test_a_job_stops_at_the_same_step_whatever_its_slots_and_neighbours(
    workshop, course, batch_size
):
    stopping = [
        tiny_job(0, steps=LONG, early_stop=_share_that_stops_at(course, step), **EARLY)
        for step in STOPS
    ]
    jobs = [*JOBS[:4], *stopping, *JOBS[5:7]]
    results = workshop.render(jobs, batch_size=batch_size)
    lengths = [*LENGTHS[:4], *STOPS, *LENGTHS[5:7]]
    assert [result.steps for result in results] == lengths
    alone = _alone(workshop, stopping[:2], batch_size=batch_size)
    assert same(results[4], alone[0])
    assert same(results[5], alone[1])


STILL: dict[str, Any] = {"learning_rate": 1e-30}
"""A picture that does not move, nor its objective."""


def test_a_share_of_0_never_stops(workshop):
    still, moving = workshop.render(
        [tiny_job(0, steps=90, early_stop=0.0, **STILL), tiny_job(1, steps=90)]
    )
    assert still.steps == moving.steps == 90


@pytest.mark.parametrize("share", [1e-6, 1.0, 1e9, 3e38])
def test_a_job_that_stalls_stops_at_the_second_look(workshop, share):
    """Two looks 20 steps apart make the first comparison, so that none stops before step 40."""
    still = tiny_job(0, steps=90, early_stop=share, **STILL)
    short = tiny_job(1, steps=39, early_stop=share, **STILL)
    assert [result.steps for result in workshop.render([still, short])] == [40, 39]


@pytest.mark.parametrize("share", [1.0, 1e9])
def test_a_large_share_stops_a_job_that_still_falls(workshop, share):
    [result] = workshop.render([tiny_job(0, steps=90, early_stop=share)])
    assert result.steps == 40


def test_every_level_is_followed_anew(two_levels):
    """Each takes its own 40 steps, and begins without the trend of the one before."""
    job = tiny_job(0, steps=70, early_stop=1e9)
    calls = two_levels.calls([job])
    coarse, fine = ([call for call in calls if call.canvas == c] for c in (COARSE, FINE))
    assert coarse[-1].after.trend.converged[0]
    assert int(coarse[-1].after.step[0]) == 40
    first = fine[0].states
    assert np.isinf(first.trend.smoothed[0])
    assert np.isinf(first.trend.reference[0])
    assert not first.trend.converged[0]
    assert int(fine[-1].after.step[0]) == 40
    [result] = two_levels.render([job])
    assert result.steps == 80


def test_the_slot_of_a_job_that_stopped_is_refilled(workshop, monkeypatch):
    """One job keeps its slot for 200 steps; five that stop at 40 share the other one."""
    set_pace(monkeypatch, workshop, 0.1)  # chunks of 20 steps
    long = tiny_job(0, steps=200)
    stopping = [tiny_job(number, steps=199, early_stop=1e9) for number in range(1, 6)]
    with workshop.chunks() as chunks:
        results = workshop.render([long, *stopping], batch_size=2)
    assert [result.steps for result in results] == [200, *[40] * 5]
    # No stop is seen before its chunk's end: less than 20 steps of two slots a job are lost.
    assert executed(chunks) <= 2 * (200 + 5 * 20)
    _assert_same(results, _alone(workshop, [long, *stopping], batch_size=2))


def test_only_steps_that_were_taken_are_counted(workshop):
    """In the summary and for whoever watches: a job that stopped or failed takes no more."""
    jobs = [
        tiny_job(0, steps=90, early_stop=1e9),
        tiny_job(1, steps=90, **BAD),
        tiny_job(2, steps=7),
    ]
    watched = workshop.notes.image_steps
    results = workshop.render(jobs, batch_size=2)
    assert [result.steps for result in results] == [40, 0, 7]
    assert workshop.scheduler.timing.image_steps == 47
    assert workshop.notes.image_steps - watched == 47


WRONG: list[Any] = [-1, -1e-9, math.nan, math.inf, -math.inf, True, None, "0.1", (0.1,), 1e39]


@pytest.fixture
def _no_other_type_checks() -> Iterator[None]:
    """A wrong value must meet the option's own rule, as it does for users."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_no_other_type_checks")
@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("kind", [JobOptions, Options])
def test_a_wrong_share_is_refused(kind, value):
    with pytest.raises(
        OptionError, match=r"^early_stop must be a number, 0 or more, finite in float32, got "
    ):
        kind(early_stop=value)


@pytest.mark.usefixtures("_no_other_type_checks")
@pytest.mark.parametrize("value", [0, 0.0, 0.001, 5, 1e9])
def test_a_right_share_is_taken(value):
    assert JobOptions(early_stop=value).early_stop == value


@pytest.mark.usefixtures("_no_other_type_checks")
def test_a_wrong_share_in_a_manifest_is_told_by_its_line(tmp_path):
    table, lines = tmp_path / "jobs.csv", tmp_path / "jobs.jsonl"
    cells = ("-0.1", "nan", "inf", "some", "-1e-9")
    table.write_text("content,style,early_stop\n" + "".join(f"a,b,{cell}\n" for cell in cells))
    values = (-0.1, math.nan, math.inf, "some", True, None, [0.1])
    lines.write_text(
        "".join(
            json.dumps({"content": "a", "style": "b", "early_stop": value}) + "\n"
            for value in values
        )
    )
    for path, count, first_line in ((table, len(cells), 2), (lines, len(values), 1)):
        with pytest.raises(ManifestError) as caught:
            read_manifest(path, Options())
        assert len(caught.value.faults) == count
        for line, fault in enumerate(caught.value.faults, start=first_line):
            assert fault.startswith(f"line {line}: early_stop "), fault


def test_a_manifest_may_set_the_share_of_each_job(tmp_path):
    path = tmp_path / "jobs.csv"
    path.write_text("content,style,early_stop\na,b,0.01\na,c,\na,d,0\n")
    jobs = read_manifest(path, Options(early_stop=0.5))
    assert [job.options and job.options.early_stop for job in jobs] == [0.01, 0.5, 0]


@pytest.mark.usefixtures("_no_other_type_checks")
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_wrong_share_on_the_command_line_is_refused_with_status_2(
    tmp_path, monkeypatch, capsys, value
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 32)).save(name)
    assert (
        run_command(["render", "a.png", "b.png", "--output", "x.png", f"--early-stop={value}"]) == 2
    )
    assert "early_stop must be a number, 0 or more, finite in float32" in capsys.readouterr().err
    assert not Path("x.png").exists()


# Out of memory.

EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory allocating 1234567 bytes."


@contextlib.contextmanager
def short_of_memory(
    workshop: Workshop, *, most: int, canvas: tuple[int, int] | None = None
) -> Iterator[None]:
    """A device on which no batch of more than `most` slots runs, on a canvas or on any."""

    def fault(where: Any, _: Any, problems: Any, __: Any) -> None:
        if len(problems.steps) > most and canvas in (None, where):
            raise jax.errors.JaxRuntimeError(EXHAUSTED)

    with workshop.watched("run_chunk", fault):
        yield


@contextlib.contextmanager
def one_fault(workshop: Workshop, name: str, call: int, message: str = EXHAUSTED) -> Iterator[None]:
    """A single fault at one call, counted from 1, of one kind of program."""
    calls = itertools.count(1)

    def fault(*_: Any) -> None:
        if next(calls) == call:
            raise jax.errors.JaxRuntimeError(message)

    with workshop.watched(name, fault):
        yield
    assert next(calls) > call, "the fault was never met"


@pytest.fixture
def notes(workshop, two_levels) -> Iterator[list[str]]:
    """What is said during the test by either workshop."""
    said: list[str] = []
    with (
        mock.patch.object(workshop.notes, "said", said),
        mock.patch.object(two_levels.notes, "said", said),
    ):
        yield said


HALVINGS = [(4, 2, [4, 2]), (4, 1, [4, 2, 1]), (3, 2, [3, 1])]


@pytest.mark.parametrize(("slots", "most", "tried"), HALVINGS)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(workshop, notes, slots, most, tried):
    """The fault is injected: the step program says that memory is exhausted.

    Pictures, losses and steps are those of a run with the smaller batch from the start. Bytes
    of batches may well be equal; so the slots are looked at too.
    """
    with short_of_memory(workshop, most=most), workshop.chunks() as chunks:
        results = workshop.render(JOBS, batch_size=slots)
    assert [size for size, _ in itertools.groupby(chunk.slots for chunk in chunks)] == tried
    assert by_canvas(workshop.scheduler.plan) == {FINE: tried[-1]}
    assert notes == [
        f"a batch of {more} does not fit the device at 48x48; going on with {fewer}"
        for more, fewer in itertools.pairwise(tried)
    ]
    _assert_same(results, workshop.render(JOBS, batch_size=tried[-1]))


def test_other_canvases_keep_their_slots(workshop, notes):
    """The fault is injected, at one canvas of two."""
    landscapes, portraits = JOBS[:5], [tiny_job(number, PORTRAIT) for number in (30, 31, 32)]
    usual = workshop.render(portraits, batch_size=2)
    with short_of_memory(workshop, most=1, canvas=FINE), workshop.chunks() as chunks:
        results = workshop.render([*landscapes, *portraits], batch_size=2)
    assert by_canvas(workshop.scheduler.plan) == {FINE: 1, UPRIGHT: 2}
    assert {chunk.slots for chunk in chunks if chunk.canvas == UPRIGHT} == {2}
    assert notes == ["a batch of 2 does not fit the device at 48x48; going on with 1"]
    _assert_same(results[:5], workshop.render(landscapes, batch_size=1))
    for result, other in zip(results[5:], usual, strict=True):
        assert same(result, other)


def test_the_rest_of_the_run_goes_on_with_the_smaller_batch(workshop, notes):
    """The fault is injected. Two waves: the second does not try the larger batch again."""
    jobs = [tiny_job(number % 4, steps=1 + number % 3) for number in range(40)]
    with short_of_memory(workshop, most=2), workshop.chunks() as chunks:
        results = workshop.render(jobs, batch_size=4)
    assert [chunk.slots for chunk in chunks].count(4) == 1
    assert len(notes) == 1
    assert [result.index for result in results] == list(range(40))


def test_a_single_picture_that_does_not_fit_fails_as_the_plan_says(workshop, notes):
    """The fault is injected, and stays with one slot: at one canvas of two."""
    portraits = [tiny_job(number, PORTRAIT) for number in (30, 31)]
    usual = workshop.render(portraits, batch_size=2)
    with short_of_memory(workshop, most=0, canvas=FINE):
        results = workshop.render([*JOBS[:3], *portraits], batch_size=2)
    with pytest.raises(NoRoomError) as planned:
        Plan({Bucket(FINE): 1}).halve(Bucket(FINE))
    for result in results[:3]:
        assert isinstance(result.error, NoRoomError)
        assert str(result.error) == str(planned.value)
    assert "48x48" in str(planned.value)
    assert len(notes) == 1
    assert all(same(*pair) for pair in zip(results[3:], usual, strict=True))


@pytest.mark.parametrize(("call", "over"), [(1, 0), (4, 0), (8, 1), (12, 2), (16, 5)])
def test_a_fault_in_the_midst_of_a_level_loses_no_job(workshop, notes, monkeypatch, call, over):
    """The fault is injected at one chunk: the first, one before any refill, or one after some."""
    set_pace(monkeypatch, workshop, 0.7)  # chunks of three steps at most
    with one_fault(workshop, "run_chunk", call), _entered(workshop) as entered:
        results = workshop.render(JOBS, batch_size=2)
    assert len(notes) == 1
    assert _kept(workshop, JOBS, results, entered) == over


FAULTS = [
    *(("take", 1, 0), ("take", 4, 5), ("place", 1, 0), ("place", 4, 5)),
    *(("content_features", 4, 1), ("content_features", 6, 4), ("style_moments", 3, 0)),
]
"""A program, the call of it that fails, and how many jobs have left their slots before."""


@pytest.mark.parametrize(("name", "call", "over"), FAULTS)
def test_a_fault_while_a_slot_is_refilled_loses_no_job(workshop, notes, name, call, over):
    """The fault is injected into the programs that take a job out or bring the next one in.

    The job that is just then leaving may have been saved, or begin again like the others.
    """
    first_pair = 100 + 20 * FAULTS.index((name, call, over))  # whose targets are not made yet
    jobs = [tiny_job(first_pair + number, steps=3 + 3 * number) for number in range(9)]
    with one_fault(workshop, name, call), _entered(workshop) as entered:
        results = workshop.render(jobs, batch_size=2)
    assert len(notes) == 1
    assert _kept(workshop, jobs, results, entered) in (over, over + 1)


@contextlib.contextmanager
def _entered(workshop: Workshop) -> Iterator[dict[int, int]]:
    """By job, how many slots the batch had that it entered last."""
    seen: dict[int, int] = {}
    original = SlotLoader.make_input

    def spy(self: SlotLoader, one: ActiveJob) -> Any:
        seen[one.loaded.index] = by_canvas(workshop.scheduler.plan)[FINE]
        return original(self, one)

    with mock.patch.object(SlotLoader, "make_input", spy):
        yield seen


def _kept(
    workshop: Workshop, jobs: Sequence[Job], results: Sequence[Result], entered: dict[int, int]
) -> int:
    """How many jobs were over in a batch of 2; the rest must have begun anew in one of 1."""
    assert [result.index for result in results] == list(range(len(jobs))), "each job once"
    by_slots = {slots: workshop.render(jobs, batch_size=slots) for slots in (1, 2)}
    for result in results:
        expected = by_slots[entered[result.index]][result.index]
        assert result.steps == expected.steps
        assert same(result, expected)
    return list(entered.values()).count(2)


def test_a_fault_at_a_later_level_keeps_what_the_earlier_one_has_made(two_levels, notes):
    """The fault is injected at the second level's canvas alone."""
    jobs = JOBS[:6]
    with short_of_memory(two_levels, most=1, canvas=FINE), two_levels.chunks() as chunks:
        results = two_levels.render(jobs)
    assert sum(chunk.slots * chunk.num_steps for chunk in chunks if chunk.canvas == COARSE) < 130
    assert len(notes) == 1
    _assert_same(results, two_levels.planned(jobs, {COARSE: 2, FINE: 1}))


def test_a_fault_after_a_failed_job_was_replaced_tells_of_it_once(workshop, notes):
    """The fault is injected once the job that left the finite numbers has gone."""
    bad = tiny_job(30, steps=90, **BAD)
    with one_fault(workshop, "run_chunk", 2):
        results = workshop.render([*JOBS[:4], bad], batch_size=2)
    assert [result.index for result in results] == [0, 1, 2, 3, 4]
    assert [result.status for result in results] == ["done"] * 4 + ["failed"]
    assert len(notes) == 1


@pytest.mark.parametrize("name", ["run_chunk", "place", "take"])
def test_a_defect_of_ours_comes_out(workshop, notes, name):
    """The fault is injected: one that trying again would not mend."""
    message = "INVALID_ARGUMENT: a fault of another kind"
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="another kind"),
        one_fault(workshop, name, 1, message),
    ):
        workshop.render(JOBS, batch_size=4)
    assert notes == []
    assert by_canvas(workshop.scheduler.plan) == {FINE: 4}


@contextlib.contextmanager
def retries(workshop: Workshop, count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So many tries again after a fault of the device, without a pause."""
    monkeypatch.setattr("nst_jax.engine.schedule.recovery._BACK_OFF_S", 0.0)
    with mock.patch.object(workshop, "policy", RunPolicy(retries=count, checkpoint_every=0.0)):
        yield


@pytest.mark.parametrize("name", ["run_chunk", "place", "take"])
def test_a_passing_fault_of_the_device_costs_time_alone(workshop, notes, monkeypatch, name):
    """The fault is injected once; the slots stay as they are."""
    usual = workshop.render(JOBS, batch_size=4)
    with (
        retries(workshop, 2, monkeypatch),
        one_fault(workshop, name, 1, "INTERNAL: a passing fault\n at length"),
    ):
        results = workshop.render(JOBS, batch_size=4)
    assert notes == ["the device failed: INTERNAL: a passing fault; trying again, 1 of 2"]
    assert by_canvas(workshop.scheduler.plan) == {FINE: 4}
    _assert_same(results, usual)


def test_a_job_that_breaks_the_device_is_blamed_alone(workshop, notes, monkeypatch):
    """The fault is injected whenever one certain job is in the batch, known by its rate."""
    usual = workshop.render(JOBS[:3], batch_size=4)
    rate = np.float32(0.0123)

    def fault(_: Any, __: Any, problems: Any, ___: Any) -> None:
        if (np.asarray(problems.learning_rate)[np.asarray(problems.steps) > 0] == rate).any():
            raise jax.errors.JaxRuntimeError("INTERNAL: no such luck")

    poison = tiny_job(30, learning_rate=float(rate))
    with retries(workshop, 2, monkeypatch), workshop.watched("run_chunk", fault):
        results = workshop.render([*JOBS[:3], poison], batch_size=4)
    assert isinstance(results[3].error, DeviceError)
    assert "tried 3 times" in str(results[3].error)
    assert results[3].attempt == 3
    assert all(same(*pair) for pair in zip(results[:3], usual, strict=True))
