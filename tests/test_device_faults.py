"""Faults of the device: out of memory, passing faults, a job that breaks it. No job is lost.

However the device is cut down under a job, its picture is the one of a run with as many slots
from the start. All faults here are injected.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest
from engine_jobs import (
    BAD,
    JOBS,
    PORTRAIT,
    Studio,
    assert_same,
    same,
    set_pace,
    slots_by_canvas,
    tiny_job,
)

from nst_jax import Job
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.slot_loader import SlotLoader
from nst_jax.request.errors import DeviceError, NoRoomError
from nst_jax.request.run_policy import RunPolicy

COARSE, FINE, UPRIGHT = (32, 34), (48, 48), (48, 32)
"""Canvases of landscapes at their two levels, and of a portrait at the second."""

EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory allocating 1234567 bytes."


@contextlib.contextmanager
def short_of_memory(
    studio: Studio, *, most: int, canvas: tuple[int, int] | None = None
) -> Iterator[None]:
    """A device on which no batch of more than `most` slots runs, on a canvas or on any."""

    def fault(where: Any, _: Any, problems: Any, *__: Any) -> None:
        if len(problems.steps) > most and canvas in (None, where):
            raise jax.errors.JaxRuntimeError(EXHAUSTED)

    with studio.watch("run_chunk", fault):
        yield


@contextlib.contextmanager
def one_fault(studio: Studio, name: str, call: int, message: str = EXHAUSTED) -> Iterator[None]:
    """A single fault at one call, counted from 1, of one kind of program."""
    calls = itertools.count(1)

    def fault(*_: Any) -> None:
        if next(calls) == call:
            raise jax.errors.JaxRuntimeError(message)

    with studio.watch(name, fault):
        yield
    assert next(calls) > call, "the fault was never met"


@pytest.fixture
def notes(one_level, studio) -> list[str]:
    """What is said during the test by either studio."""
    one_level.notes.said = studio.notes.said = []
    return studio.notes.said


# Out of memory.


@pytest.mark.parametrize(("most", "tried"), [(2, [4, 2]), (1, [4, 2, 1]), (2, [3, 1])])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(one_level, notes, most, tried):
    """Pictures, losses and steps are those of a run with the smaller batch from the start.

    Bytes of batches may well be equal; so the slots are looked at too.
    """
    with short_of_memory(one_level, most=most), one_level.chunks() as chunks:
        results = one_level.render(JOBS, batch_size=tried[0])
    assert [size for size, _ in itertools.groupby(chunk.slots for chunk in chunks)] == tried
    assert slots_by_canvas(one_level.scheduler.plan) == {FINE: tried[-1]}
    assert notes == [
        f"a batch of {more} does not fit the device at 48x48; going on with {fewer}"
        for more, fewer in itertools.pairwise(tried)
    ]
    assert_same(results, one_level.render(JOBS, batch_size=tried[-1]))


@pytest.mark.parametrize("most", [1, 0])
def test_other_canvases_keep_their_slots_where_one_does_not_fit(one_level, notes, most):
    """Where not even a single picture of it fits, its jobs fail as the plan says."""
    landscapes, portraits = JOBS[:5], [tiny_job(number, PORTRAIT) for number in (30, 31, 32)]
    usual = one_level.render(portraits, batch_size=2)
    with short_of_memory(one_level, most=most, canvas=FINE), one_level.chunks() as chunks:
        results = one_level.render([*landscapes, *portraits], batch_size=2)
    assert slots_by_canvas(one_level.scheduler.plan) == {FINE: 1, UPRIGHT: 2}
    assert {chunk.slots for chunk in chunks if chunk.canvas == UPRIGHT} == {2}
    assert notes == ["a batch of 2 does not fit the device at 48x48; going on with 1"]
    assert all(same(*pair) for pair in zip(results[5:], usual, strict=True))
    if most:
        assert_same(results[:5], one_level.render(landscapes, batch_size=1))
        return
    with pytest.raises(NoRoomError, match="48x48") as planned:
        Plan({Bucket(FINE): 1}).halve(Bucket(FINE))
    for result in results[:5]:
        assert isinstance(result.error, NoRoomError)
        assert str(result.error) == str(planned.value)


def test_the_rest_of_the_run_goes_on_with_the_smaller_batch(one_level, notes):
    """Two waves: the second does not try the larger batch again."""
    jobs = [tiny_job(number % 4, steps=1 + number % 3) for number in range(40)]
    with short_of_memory(one_level, most=2), one_level.chunks() as chunks:
        results = one_level.render(jobs, batch_size=4)
    assert [chunk.slots for chunk in chunks].count(4) == 1
    assert len(notes) == 1
    assert [result.index for result in results] == list(range(40))


def count_kept(studio: Studio, jobs: list[Job], name: str, call: int) -> int:
    """How many jobs are over in a batch of 2 when a call fails; the rest begin anew in one of 1."""
    entered: dict[int, int] = {}  # by job: the slots of the batch that it entered last
    original = SlotLoader.make_input

    def spy(self: SlotLoader, one: ActiveJob) -> Any:
        [entered[one.loaded.index]] = studio.scheduler.plan.slots.values()
        return original(self, one)

    with one_fault(studio, name, call), mock.patch.object(SlotLoader, "make_input", spy):
        results = studio.render(jobs, batch_size=2)
    by_slots = {slots: studio.render(jobs, batch_size=slots) for slots in (1, 2)}
    assert_same(results, [by_slots[entered[index]][index] for index in range(len(jobs))])
    return list(entered.values()).count(2)


FAULTS = [
    *(("take", 1, 0), ("take", 4, 3), ("place", 1, 0), ("place", 4, 3)),
    *(("content_targets", 4, 1), ("content_targets", 6, 4), ("style_moments", 3, 0)),
]
"""A program, the call of it that fails, and how many jobs have left their slots before."""


@pytest.mark.parametrize(("call", "over"), [(1, 0), (4, 0), (8, 1), (12, 2), (16, 5)])
def test_a_fault_in_the_midst_of_a_level_loses_no_job(one_level, notes, monkeypatch, call, over):
    """At one chunk: the first, one before any refill, or one after some."""
    set_pace(monkeypatch, one_level, 0.35)  # chunks of three steps at most
    assert count_kept(one_level, JOBS, "run_chunk", call) == over
    assert len(notes) == 1


@pytest.mark.parametrize(("name", "call", "over"), FAULTS)
def test_a_fault_while_a_slot_is_refilled_loses_no_job(one_level, notes, name, call, over):
    """In the programs that take a job out or bring the next one in.

    The job that is just then leaving may have been saved, or begin again like the others.
    """
    first_pair = 100 + 20 * FAULTS.index((name, call, over))  # whose targets are not made yet
    jobs = [tiny_job(first_pair + number, steps=3 + 3 * number) for number in range(9)]
    assert count_kept(one_level, jobs, name, call) in (over, over + 1)
    assert len(notes) == 1


def test_a_fault_at_a_later_level_keeps_what_the_earlier_one_has_made(studio, notes):
    """At the second level's canvas alone."""
    with short_of_memory(studio, most=1, canvas=FINE), studio.chunks() as chunks:
        results = studio.render(JOBS[:6], batch_size=2)
    assert sum(chunk.slots * chunk.num_steps for chunk in chunks if chunk.canvas == COARSE) < 130
    assert len(notes) == 1
    examined = studio.examine(JOBS[:6])
    plan = {level.bucket: 2 for one in examined for level in one.levels}
    plan |= {bucket: 1 for bucket in plan if bucket.canvas == FINE}
    assert_same(
        results, sorted(studio.results(examined, Plan(plan)), key=lambda result: result.index)
    )


def test_a_fault_after_a_failed_job_was_replaced_tells_of_it_once(one_level, notes):
    """Once the job that left the finite numbers has gone."""
    bad = tiny_job(30, steps=90, **BAD)
    with one_fault(one_level, "run_chunk", 2):
        results = one_level.render([*JOBS[:4], bad], batch_size=2)
    assert [result.index for result in results] == [0, 1, 2, 3, 4]
    assert [result.status for result in results] == ["done"] * 4 + ["failed"]
    assert len(notes) == 1


# Other faults.


@contextlib.contextmanager
def retries(studio: Studio, count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So many tries again after a fault of the device, without a pause."""
    monkeypatch.setattr("nst_jax.engine.schedule.recovery._BACK_OFF_S", 0.0)
    with mock.patch.object(studio, "policy", RunPolicy(retries=count, checkpoint_every=0.0)):
        yield


@pytest.mark.parametrize("name", ["run_chunk", "place", "take"])
def test_a_passing_fault_costs_time_alone_and_a_defect_of_ours_comes_out(
    one_level, notes, monkeypatch, name
):
    """A defect would not be mended by trying again. The slots stay as they are."""
    usual = one_level.render(JOBS, batch_size=4)
    passing = "INTERNAL: a passing fault\n at length"
    with retries(one_level, 2, monkeypatch), one_fault(one_level, name, 1, passing):
        results = one_level.render(JOBS, batch_size=4)
    assert notes == ["the device failed: INTERNAL: a passing fault; trying again, 1 of 2"]
    assert slots_by_canvas(one_level.scheduler.plan) == {FINE: 4}
    assert_same(results, usual)

    notes.clear()
    defect = "INVALID_ARGUMENT: a fault of another kind"
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="another kind"),
        one_fault(one_level, name, 1, defect),
    ):
        one_level.render(JOBS, batch_size=4)
    assert notes == []
    assert slots_by_canvas(one_level.scheduler.plan) == {FINE: 4}


def test_a_job_that_breaks_the_device_is_blamed_alone(one_level, notes, monkeypatch):
    """The fault comes whenever one certain job is in the batch, known by its rate."""
    usual = one_level.render(JOBS[:3], batch_size=4)
    rate = np.float32(0.0123)

    def fault(_: Any, __: Any, problems: Any, *___: Any) -> None:
        if (np.asarray(problems.learning_rate)[np.asarray(problems.steps) > 0] == rate).any():
            raise jax.errors.JaxRuntimeError("INTERNAL: no such luck")

    poison = tiny_job(30, learning_rate=float(rate))
    with retries(one_level, 2, monkeypatch), one_level.watch("run_chunk", fault):
        results = one_level.render([*JOBS[:3], poison], batch_size=4)
    assert isinstance(results[3].error, DeviceError)
    assert "tried 3 times" in str(results[3].error)
    assert results[3].attempt == 3
    assert all(same(*pair) for pair in zip(results[:3], usual, strict=True))
