"""The device never waits for the host: chunks are dispatched ahead, and what that costs is told."""

import dataclasses
import itertools
import json
import types
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest
from engine_jobs import (
    JOBS,
    LENGTHS,
    assert_same,
    one_device,
    same,
    set_pace,
    tiny_job,
    tiny_options,
)

from nst_jax import render_batch
from nst_jax.engine.device.slot_batch import ChunkReport, SlotBatch
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Summary
from nst_jax.engine.run import checkpoint
from nst_jax.engine.run.checkpoint import CheckpointFile
from nst_jax.engine.schedule import timing
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.make_scheduler import make_scheduler
from nst_jax.engine.schedule.snapshot import JobSnapshot
from nst_jax.engine.schedule.timing import Stopwatch
from nst_jax.engine.schedule.waves import render_jobs
from nst_jax.files.folders import LocalFolder
from nst_jax.files.report.run_records import read_run_record
from nst_jax.request.errors import DeviceError
from nst_jax.request.run_policy import RunPolicy

# In which order things are asked for.


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the device, and when its answers are read."""
    seen: list[str] = []

    def note(owner: Any, name: str, word: str) -> None:
        original = getattr(owner, name)

        def spy(*arguments: Any) -> Any:
            seen.append(word)
            return original(*arguments)

        monkeypatch.setattr(owner, name, spy)

    for name in ("__init__", "step", "take"):
        note(SlotBatch, name, name)
    note(ChunkReport, "read", "read")
    note(ActiveJob, "confirm_level", "confirm")
    return seen


def test_a_report_is_read_when_the_next_chunk_has_been_dispatched(one_level, asked):
    """But for the first, which tells how long a step takes."""
    one_level.render([tiny_job(0, steps=90)], batch_size=1)
    steps_and_reads = [word for word in asked if word in {"step", "read"}]
    assert steps_and_reads[:2] == ["step", "read"]
    middle = steps_and_reads[2:]
    assert len(middle) > 6
    assert middle == ["step", *["step", "read"] * (len(middle) // 2 - 1), "read"]


def test_the_next_batch_is_dispatched_before_a_level_is_confirmed(studio, asked):
    """Two levels of one job: the first level's end is read behind the second one's first chunk."""
    studio.render([tiny_job(0, steps=3)], batch_size=1)
    asked.clear()
    studio.render([tiny_job(0, steps=3)], batch_size=1)
    end = asked.index("take")
    assert asked[end + 1 : end + 5] == ["__init__", "step", "read", "confirm"]


def test_a_job_that_ends_early_stands_still_until_its_slot_is_refilled(one_level, monkeypatch):
    """By one chunk, and with the bytes that it has alone."""
    set_pace(monkeypatch, one_level, 0.05)  # chunks of 20 steps
    early = tiny_job(1, steps=199, early_stop=1e9)
    jobs = [tiny_job(0, steps=200), early, tiny_job(2, steps=60)]
    with one_level.chunks() as chunks:
        results = one_level.render(jobs, batch_size=2)
    assert [result.steps for result in results] == [200, 40, 60]
    assert sum(chunk.num_steps for chunk in chunks) <= 200 + 20
    assert_same(results, one_level.render_alone(jobs, batch_size=2))


# What the host keeps.


@pytest.mark.parametrize("call", range(2, 12, 3))
def test_a_device_that_is_lost_with_all_its_arrays_loses_no_job(studio, monkeypatch, call):
    """The fault is injected: with it every array of the batch and of the jobs is gone."""
    monkeypatch.setattr("nst_jax.engine.schedule.recovery._BACK_OFF_S", 0.0)
    monkeypatch.setattr("nst_jax.engine.schedule.scheduler._CHUNK_S", 0.0)
    usual = studio.render(JOBS[:4], batch_size=2)
    calls, original = itertools.count(1), studio.programs.run_chunk

    def lose(canvas: Any, states: Any, problems: Any, *how: Any) -> Any:
        if next(calls) == call:
            waiting = [one.state for one in studio.scheduler._jobs if one.state is not None]
            for leaf in jax.tree.leaves((states, problems.size, waiting)):
                leaf.delete()
            raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")
        return original(canvas, states, problems, *how)

    policy = RunPolicy(retries=2, checkpoint_every=0.0)
    with (
        mock.patch.object(studio.programs, "run_chunk", lose),
        mock.patch.object(studio, "policy", policy),
    ):
        results = studio.render(JOBS[:4], batch_size=2)
    assert next(calls) > call
    assert_same(results, usual)


def test_a_fault_while_levels_are_confirmed_hands_out_each_job_once(one_level, monkeypatch):
    """The first of two jobs that end together is finished; the second one's copy fails."""
    monkeypatch.setattr("nst_jax.engine.schedule.recovery._BACK_OFF_S", 0.0)
    original, calls = ActiveJob.confirm_level, itertools.count(1)

    def confirm_level(self: ActiveJob, *arguments: Any) -> None:
        if next(calls) == 2:
            raise jax.errors.JaxRuntimeError("INTERNAL: the copy has failed")
        original(self, *arguments)

    jobs = [tiny_job(number, steps=4) for number in range(2)]
    usual = one_level.render(jobs, batch_size=2)
    monkeypatch.setattr(ActiveJob, "confirm_level", confirm_level)
    with mock.patch.object(one_level, "policy", RunPolicy(retries=2, checkpoint_every=0.0)):
        results = one_level.render(jobs, batch_size=2)
    assert_same(results, usual)


def test_who_was_at_work_is_blamed_and_not_who_has_taken_the_slot(one_level, monkeypatch):
    """The last chunk of the first job fails, and is read when the second one has its slot."""
    original, reads = ChunkReport.read, itertools.count(1)

    def read(told: Any) -> ChunkReport:
        if next(reads) == 2:
            raise jax.errors.JaxRuntimeError("INTERNAL: a passing fault")
        return original(told)

    jobs = [tiny_job(0, steps=9), tiny_job(1, steps=4)]
    usual = one_level.render(jobs, batch_size=1)
    monkeypatch.setattr(ChunkReport, "read", read)
    first, second = one_level.render(jobs, batch_size=1)
    assert isinstance(first.error, DeviceError)
    assert same(second, usual[1])


def test_a_checkpoint_knows_of_a_level_that_is_over_while_others_step(studio, monkeypatch):
    """Though nobody waits for the slot."""
    monkeypatch.setattr("nst_jax.engine.schedule.scheduler._CHUNK_S", 0.0)
    jobs = studio.examine([tiny_job(0, steps=2), tiny_job(1, steps=12)])
    kept: list[dict[int, tuple[int, int]]] = []

    def save(snapshots: Any) -> None:
        step = ".step"
        kept.append({one.index: (one.level, int(one.arrays[step])) for one in snapshots})

    scheduler = make_scheduler(
        studio.session,
        jobs,
        studio.plan(jobs, batch_size=2),
        studio.notes,
        programs=studio.programs,
        policy=RunPolicy(retries=0, checkpoint_every=1e-9),
        save=save,
    )
    results = list(render_jobs(jobs, studio.session, scheduler))
    assert len(results) == 2
    coarse, fine = (level.index for level in jobs[0].levels)
    assert kept[0] == {0: (coarse, 1), 1: (coarse, 1)}
    assert kept[1] == {0: (fine, 0), 1: (coarse, 2)}
    assert [one[1] for one in kept[1:11]] == [(coarse, step) for step in range(2, 12)]


def test_checkpoints_are_written_one_after_the_other_and_none_after_the_end(
    tmp_path, one_level, monkeypatch
):
    """In a thread; whoever removes the file, or asks how many it holds, waits for it."""
    folder, [job] = LocalFolder(tmp_path), one_level.examine([tiny_job(0)])
    state = CheckpointFile(folder, [job], NullProgress())
    snapshot = JobSnapshot(job.index, 0, 0, 0.0, 0.0, {}, (), {"x": np.zeros(3)})
    order: list[str] = []

    def write_archive(file: Any, header: Any, arrays: Any) -> None:
        del header, arrays
        order.append("begins")
        file.write(b"kept")
        order.append("ends")

    monkeypatch.setattr(checkpoint, "write_archive", write_archive)
    monkeypatch.setattr(checkpoint, "_pack", lambda snapshots, jobs: (list(snapshots), {}))
    for _ in range(3):
        state.save_behind([snapshot])
    state.remove()
    assert order == ["begins", "ends"] * 3
    assert list(tmp_path.iterdir()) == []
    assert state.save([snapshot]) == 1
    assert (tmp_path / "state.npz").read_bytes() == b"kept"


# What is told.


def test_a_stopwatch_tells_steps_from_compilation_and_finds_the_gaps(one_level, monkeypatch):
    """Chunks at 0 to 4 s and, dispatched ahead, to 7 s; a gap of 2 s; one of 3 s."""
    clock = types.SimpleNamespace(now=0.0)
    fake = types.SimpleNamespace(perf_counter=lambda: clock.now, thread_time=lambda: clock.now)
    monkeypatch.setattr(timing, "time", fake)
    programs = one_level.programs
    monkeypatch.setattr(programs, "waiting_seconds", 0.0)
    watch = Stopwatch(programs)

    def until(now: float) -> Any:
        return lambda: setattr(clock, "now", now)

    watch.begin_chunk()
    until(1.0)()
    programs.waiting_seconds += 2.0  # while it runs: from 1 to 3 s
    until(3.0)()
    watch.begin_chunk()
    assert watch.end_chunk(until(4.0)) == pytest.approx(2.0)
    assert watch.end_chunk(until(7.0)) == pytest.approx(3.0)
    until(9.0)()
    watch.begin_chunk()
    assert watch.end_chunk(until(12.0)) == pytest.approx(3.0)
    told = watch.timing
    assert (told.steps, told.idle, told.span) == pytest.approx((8.0, 2.0, 12.0))
    assert told.idle_share == pytest.approx(1 / 6)
    assert told.waiting.device == pytest.approx(1 + 3 + 3)


def test_a_batch_tells_where_its_seconds_went(narrow_file, tmp_path):
    options = tiny_options(narrow_file)
    jobs = [dataclasses.replace(one, output=f"{n}.png") for n, one in enumerate(JOBS[:5])]
    summary = render_batch(jobs, tmp_path, options, devices=one_device())
    told = json.loads((tmp_path / "run.json").read_bytes())["summary"]
    assert told == summary.record()
    assert summary.image_steps == 2 * sum(LENGTHS[:5])
    assert 0 < told["driving_seconds"] < told["seconds"]
    assert set(told["waiting_seconds"]) == {"device", "inputs", "compilation"}
    assert sum(told["waiting_seconds"].values()) < told["seconds"]
    assert told["waiting_seconds"]["compilation"] == told["compile_seconds"] > 0
    assert 0 <= told["device_idle_share"] < 1


def worker_summary(step_seconds: float, idle: float) -> Summary:
    return Summary(
        *(4, 3, 1, 0, 10.0, 2.0, step_seconds, 100, {}),
        driving_seconds=1.5,
        waiting_seconds={"device": 2.0, "inputs": 0.5, "compilation": 2.0},
        device_idle_share=idle,
    )


def test_workers_add_up_and_the_device_idles_by_the_mean_of_their_time(tmp_path: Path):
    one, other = worker_summary(1.0, 0.5), worker_summary(3.0, 0.1)
    both = one.add(other)
    assert (both.done, both.failed, both.image_steps) == (6, 2, 200)
    assert both.driving_seconds == 3.0
    assert both.waiting_seconds == {"device": 4.0, "inputs": 1.0, "compilation": 4.0}
    assert both.device_idle_share == pytest.approx(0.2)
    for number, summary in enumerate((one, other)):
        path = tmp_path / f"run-{number}-of-2.json"
        path.write_text(json.dumps({"summary": summary.record()}))
    merged: Any = read_run_record(tmp_path)
    assert merged["summary"]["device_idle_share"] == pytest.approx(0.2)
    assert merged["summary"]["driving_seconds"] == 3.0
    assert merged["summary"]["waiting_seconds"] == both.waiting_seconds
