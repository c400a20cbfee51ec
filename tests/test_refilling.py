"""Continuous batching: a job that is over makes room for the next, and nobody else notices.

Whoever a job travels with and whenever it gets a slot, its picture is the one that it would be
alone in a batch of as many slots. A job that stops early makes room in the same way.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from engine_jobs import (
    BAD,
    JOBS,
    LENGTHS,
    Chunk,
    Studio,
    assert_same,
    compilations,
    image_of,
    same,
    set_pace,
    tiny_job,
    tiny_options,
)

from nst_jax.request.errors import NonFiniteError


def count_steps(chunks: Sequence[Chunk]) -> int:
    """Steps of single images that the device has made, padding and idle slots included."""
    return sum(chunk.slots * chunk.num_steps for chunk in chunks)


# Whose picture it is.


@pytest.mark.parametrize("batch_size", [2, 3, 4])
def test_a_job_in_a_used_slot_gives_the_bytes_that_it_gives_alone(one_level, batch_size):
    """In any order of the jobs, picture, losses and steps."""
    expected = one_level.render_alone(JOBS, batch_size=batch_size)
    assert [result.steps for result in expected] == list(LENGTHS)
    assert len({image_of(result).tobytes() for result in expected}) == len(JOBS)
    for order in (np.arange(12)[::-1], np.random.default_rng(0).permutation(12)):
        with one_level.refills() as slots:
            results = one_level.render([JOBS[index] for index in order], batch_size=batch_size)
        for index, result in zip(order, results, strict=True):
            assert same(result, expected[index])
            assert result.steps == expected[index].steps
        assert len(slots) >= 5
        assert len(set(slots)) > 1, "several slots are used again"


def test_refilling_at_every_level_changes_no_byte(studio):
    results = studio.render(JOBS[:7], batch_size=2)
    assert_same(results, studio.render_alone(JOBS[:7], batch_size=2))
    assert [result.steps for result in results] == [2 * length for length in LENGTHS[:7]]


@pytest.mark.parametrize("pace", [0.13, 0.7, 5.0, 1e-9])
def test_chunks_of_any_length_give_the_same_bytes(one_level, monkeypatch, pace):
    expected = one_level.render(JOBS, batch_size=3)
    set_pace(monkeypatch, one_level, pace)
    assert_same(one_level.render(JOBS, batch_size=3), expected)


def test_every_picture_comes_out_before_the_last_chunk_when_it_is_over(one_level, monkeypatch):
    """A short job must not wait for a long one that was there before."""
    monkeypatch.setattr("nst_jax.engine.schedule.scheduler._CHUNK_S", 0.0)
    events: list[str] = []
    jobs = [tiny_job(0, steps=40), *(tiny_job(number, steps=2) for number in range(1, 5))]
    examined = one_level.examine(jobs)
    with one_level.watch("run_chunk", lambda *_: events.append("chunk")):
        for result in one_level.results(examined, one_level.plan(examined, batch_size=2)):
            events.append(f"job {result.index}")
    assert events[-1] in {"job 0", "job 4"}
    last_chunk = len(events) - 1 - events[::-1].index("chunk")
    assert {"job 1", "job 2", "job 3"} <= set(events[:last_chunk])


# What the device does for it.

HARMONIC = [96 // number for number in range(1, 33)]
"""One long job, many short ones: a wave of them."""
RANDOM = [np.random.default_rng(seed).integers(1, 30, size=11).tolist() for seed in range(2)]


@pytest.mark.parametrize(
    ("lengths", "batch_size"), [(HARMONIC, 2), (HARMONIC, 4), *((some, 3) for some in RANDOM)]
)
def test_no_free_slot_waits_while_jobs_do(one_level, lengths, batch_size):
    """As if each job, the longest first, took the slot that is free first.

    So at most (slots - 1) times the longest job's steps are idle or padding (Graham 1966);
    where there are many short ones at most one twentieth.
    """
    jobs = [tiny_job(number % 3, steps=length) for number, length in enumerate(lengths)]
    with one_level.chunks() as chunks:
        results = one_level.render(jobs, batch_size=batch_size)
    slots, longest_first = [0] * batch_size, sorted(lengths, reverse=True)
    for length in longest_first:
        slots[slots.index(min(slots))] += length
    asked = sum(result.steps for result in results)
    assert asked == sum(lengths)
    assert count_steps(chunks) == batch_size * max(slots)
    assert count_steps(chunks) <= asked + (batch_size - 1) * max(lengths)
    if lengths is HARMONIC:
        assert count_steps(chunks) <= 1.05 * asked
        assert count_steps(chunks) <= 0.9 * batch_size * sum(longest_first[::batch_size])


CHUNKS = [
    (0.05, [60], [1, 20, 20, 19]),
    # The pace of a chunk is known when the next one has been dispatched.
    (lambda step: 0.05 if step < 21 else 0.25, [100], [1, 20, 20, 20, *[4] * 9, 3]),
    (7.0, [3], [1, 1, 1]),
    # 30 and 9; 5 takes the slot of 9, 4 that of 5; then nobody waits.
    (1e-9, [4, 9, 30, 5], [1, 8, 5, 16]),
]
"""Seconds of a step, steps of the jobs, lengths of the chunks."""


@pytest.mark.parametrize(("pace", "lengths", "chunks"), CHUNKS)
def test_chunks_grow_to_a_second_or_to_the_end_of_a_job_that_others_wait_for(
    one_level, monkeypatch, pace, lengths, chunks
):
    set_pace(monkeypatch, one_level, pace)
    jobs = [tiny_job(number, steps=length) for number, length in enumerate(lengths)]
    with one_level.chunks() as seen:
        one_level.render(jobs, batch_size=min(2, len(jobs)))
    assert [chunk.num_steps for chunk in seen] == chunks


PROGRAMS = [
    *("content_targets", "open_batch", "place", "run_chunk"),
    *("style_moments", "style_targets", "take"),
]
"""Of jobs of one level."""


@pytest.mark.parametrize("devices", [1, 2])
def test_refilling_compiles_each_program_once_on_any_devices_and_changes_no_byte(
    narrow_file, devices
):
    options = tiny_options(narrow_file, levels=1, batch_size=2 * devices)
    fresh = Studio(options, jax.devices()[:devices])
    with (
        compilations() as events,
        fresh.watch("run_chunk", lambda *_: events.append("a chunk")),
        fresh.watch("place", lambda *_: events.append("a refill")),
    ):
        results = fresh.render(JOBS)
    assert events.count("a refill") == len(JOBS) - 1
    compiled = [event for event in events if not event.startswith("a ")]
    assert sorted(compiled) == PROGRAMS
    after = events[len(events) - events[::-1].index("take") :]
    assert set(after) == {"a chunk", "a refill"}
    assert_same(results[:8], fresh.render_alone(JOBS[:8]))


def test_jobs_of_one_length_take_each_others_slots(one_level):
    """They are over together; the batch is opened once."""
    opened: list[int] = []
    with (
        one_level.chunks() as chunks,
        one_level.refills() as refills,
        one_level.watch("open", lambda canvas, slots, one: opened.append(slots)),
    ):
        one_level.render([tiny_job(number, steps=5) for number in range(10)])
    assert opened == [4]
    assert refills == [1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert count_steps(chunks) == 3 * 4 * 5


@pytest.mark.parametrize("count", [1, 5])
def test_failing_jobs_free_their_slots_at_once_and_change_nobody(one_level, monkeypatch, count):
    """They are the longest and come first; the next jobs take their places after a chunk."""
    usual = one_level.render_alone(JOBS[:6], batch_size=2)
    bad = [tiny_job(30 + number, steps=90 + number, **BAD) for number in range(count)]
    set_pace(monkeypatch, one_level, 0.35)  # chunks of three steps
    with one_level.chunks() as chunks:
        results = one_level.render([*JOBS[:3], *bad, *JOBS[3:6]], batch_size=2)
    failed, good = results[3:-3], [*results[:3], *results[-3:]]
    assert all(isinstance(result.error, NonFiniteError) for result in failed)
    assert [result.steps for result in failed] == [0] * count
    assert [result.steps for result in good] == list(LENGTHS[:6])
    assert all(same(*pair) for pair in zip(good, usual, strict=True))
    asked, lost = sum(LENGTHS[:6]), 3 * count
    assert count_steps(chunks) <= asked + lost + max(LENGTHS[:6]), "Graham's bound"
    assert one_level.scheduler.timing.image_steps == asked, "for whoever watches"


# Early stop.

LONG = 170
EARLY: dict[str, Any] = {"init": "noise", "seed": 2, "content_weight": 3.0}
STOPS = (40, 60, 80, 100)


class Course(NamedTuple):
    """How the objective of a job went.

    Attributes:
        totals: Before each step.
        falls: Share by which the smoothed total fell between two looks, by the second's step.
    """

    totals: list[float]
    falls: dict[int, float]

    def share_that_stops_at(self, step: int) -> float:
        """An `early_stop` that ends the job at this look and at none before, with room to spare."""
        if step == LONG:
            return 0.5 * min(self.falls.values())
        before = [fall for look, fall in self.falls.items() if look < step]
        share = math.sqrt(self.falls[step] * min(before)) if before else 1.2 * self.falls[step]
        assert all(share < 0.98 * fall for fall in before)
        assert share > 1.02 * self.falls[step]
        return share

    def job(self, step: int) -> Any:
        return tiny_job(0, steps=LONG, early_stop=self.share_that_stops_at(step), **EARLY)


def find_falls(totals: Sequence[float]) -> dict[int, float]:
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
def course(one_level) -> Course:
    """One job's, recorded step by step."""
    calls = one_level.calls([tiny_job(0, steps=LONG, **EARLY)], one_by_one=True, batch_size=1)
    assert [int(call.after.step[0]) for call in calls] == list(range(1, LONG + 1))
    totals = [float(call.after.terms.total[0]) for call in calls]
    return Course(totals, find_falls(totals))


@pytest.mark.parametrize("step", [*STOPS, LONG])
def test_a_job_stops_at_the_step_that_the_rule_says(one_level, course, step):
    """Where it always falls by more, it goes on to the end."""
    assert min(course.falls.values()) > 0
    [result] = one_level.render([course.job(step)], batch_size=1)
    assert result.steps == step
    if step < LONG:
        assert result.losses["total"] == course.totals[step - 1]


@pytest.mark.parametrize("pace", [5.0, 0.3, 0.1, 1e-9])
def test_a_stopped_job_is_the_one_that_was_asked_for_so_few_steps(
    one_level, course, monkeypatch, pace
):
    """Whatever the chunks, of 1, 7, 20 and all steps."""
    asked = one_level.render([tiny_job(0, steps=60, **EARLY)], batch_size=1)
    set_pace(monkeypatch, one_level, pace)
    assert_same(one_level.render([course.job(60)], batch_size=1), asked)


@pytest.mark.parametrize("batch_size", [2, 3])
def test_a_job_stops_at_the_same_step_whatever_its_slots_and_neighbours(
    one_level, course, batch_size
):
    stopping = [course.job(step) for step in STOPS]
    results = one_level.render([*JOBS[:4], *stopping, *JOBS[5:7]], batch_size=batch_size)
    assert [result.steps for result in results] == [*LENGTHS[:4], *STOPS, *LENGTHS[5:7]]
    alone = one_level.render_alone(stopping[:2], batch_size=batch_size)
    assert all(same(*pair) for pair in zip(results[4:6], alone, strict=True))


STILL: dict[str, Any] = {"learning_rate": 1e-30}
"""A picture that does not move, nor its objective."""


def test_no_job_stops_before_the_second_look_and_none_at_a_share_of_0(one_level):
    """Two looks 20 steps apart make the first comparison, at step 40."""
    asked = [
        *((share, STILL, 90, 40) for share in (1e-6, 1.0, 1e9, 3e38)),
        *((share, STILL, 39, 39) for share in (1e-6, 3e38)),
        *((share, {}, 90, 40) for share in (1.0, 1e9)),
        *((0.0, own, 90, 90) for own in (STILL, {})),
    ]
    jobs = [tiny_job(0, steps=steps, early_stop=share, **own) for share, own, steps, _ in asked]
    assert [result.steps for result in one_level.render(jobs)] == [end for *_, end in asked]


def test_every_level_is_followed_anew(studio):
    """Each takes its own 40 steps, and begins without the trend of the one before."""
    job = tiny_job(0, steps=70, early_stop=1e9)
    calls = studio.calls([job], batch_size=2)
    coarse, fine = ([call for call in calls if call.canvas[1] == edge] for edge in (34, 48))
    assert coarse[-1].after.trend.converged[0]
    assert int(coarse[-1].after.step[0]) == int(fine[-1].after.step[0]) == 40
    first = fine[0].states
    assert np.isinf(first.trend.smoothed[0])
    assert np.isinf(first.trend.reference[0])
    assert not first.trend.converged[0]
    assert studio.render([job], batch_size=2)[0].steps == 80


def test_the_slot_of_a_job_that_stopped_is_refilled_and_only_steps_that_were_taken_count(
    one_level, monkeypatch
):
    """One job keeps its slot for 200 steps; five that stop at 40 share the other one."""
    set_pace(monkeypatch, one_level, 0.1)  # chunks of 20 steps
    stopping = [tiny_job(number, steps=199, early_stop=1e9) for number in range(1, 6)]
    jobs, watched = [tiny_job(0, steps=200), *stopping], one_level.notes.image_steps
    with one_level.chunks() as chunks:
        results = one_level.render(jobs, batch_size=2)
    assert [result.steps for result in results] == [200, *[40] * 5]
    # No stop is seen before its chunk's end: less than 20 steps of two slots a job are lost.
    assert count_steps(chunks) <= 2 * (200 + 5 * 20)
    assert one_level.scheduler.timing.image_steps == 400
    assert one_level.notes.image_steps - watched == 400
    assert_same(results, one_level.render_alone(jobs, batch_size=2))
