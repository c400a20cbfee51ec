"""Examined jobs in, results out: while one wave is on the device the next one is being decoded.

    split_into_waves    jobs that share programs together, a bounded number at a time
    _load               decode and scale, in threads, one wave ahead
    Scheduler.render    the device
    make_result         what is kept of the content is laid over the picture

A failing job becomes a failed result; the others don't notice. A run that shall stop ends
after the chunks that are under way, and hands out what was finished by then. The number of
pictures in memory is bounded by the wave, whatever the number of jobs.
"""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from nst_jax.engine.device.runtime import without_debugging
from nst_jax.engine.inputs.fingerprint import session_fingerprint
from nst_jax.engine.inputs.initial_image import initial_image
from nst_jax.engine.inputs.load import DECODERS, LoadedJob, load_job, read_with_retries
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import BatchKey
from nst_jax.engine.plan.memory_model import WAVE_JOBS, WAVE_PIXELS
from nst_jax.engine.plan.program_list import list_programs
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.compile_ahead import AheadCompiler
from nst_jax.engine.schedule.finish import make_result
from nst_jax.engine.schedule.scheduler import Scheduler
from nst_jax.engine.schedule.snapshot import JobSnapshot
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.request.errors import JobError, ReadError

_STOP_CHECK_S = 0.2
"""Between two looks at whether the run shall stop, while pictures are being decoded."""

_NOTES_SHOWN = 5
"""Of pictures, for each wave."""

_Loading = concurrent.futures.Future[LoadedJob | Result]


def render_jobs(
    jobs: Sequence[ExaminedJob],
    session: Session,
    scheduler: Scheduler,
    snapshots: Mapping[int, JobSnapshot] = MappingProxyType({}),
) -> Iterator[Result]:
    """Renders jobs; results come as they finish, each with its picture in memory.

    Args:
        jobs: Examined, in any order.
        session: What they share.
        scheduler: It says afterwards where the jobs in flight are, if it was asked to stop.
        snapshots: Where jobs go on, by their index; these come first.
    """
    for outcome in run_jobs(jobs, session, scheduler, snapshots):
        yield outcome if isinstance(outcome, Result) else make_result(outcome, session)


def run_jobs(
    jobs: Sequence[ExaminedJob],
    session: Session,
    scheduler: Scheduler,
    snapshots: Mapping[int, JobSnapshot] = MappingProxyType({}),
) -> Iterator[ActiveJob | Result]:
    """The same, but `finish.make_result` is left to the caller, who may do it in another thread.

    What could not be loaded is a result already.
    """
    begun = [one for one in jobs if one.index in snapshots]
    fresh = [one for one in jobs if one.index not in snapshots]
    size = session.options.size
    waves = [
        wave for some in (begun, fresh) for wave in split_into_waves(some, scheduler.plan, size)
    ]
    to_come = (_skip_levels(wave, snapshots) for wave in waves)
    ahead = AheadCompiler(
        scheduler.programs,
        session.options,
        list_programs(to_come, scheduler.plan),
        threads=scheduler.threads_ahead,
        stop=scheduler.stop,
    )
    pool = concurrent.futures.ThreadPoolExecutor(DECODERS)
    outcomes = _render_waves(pool, waves, session, scheduler, snapshots)
    try:
        while True:
            with without_debugging(), scheduler.stopwatch.time_driving():
                if (outcome := next(outcomes, None)) is None:
                    return
            with scheduler.stopwatch.time_caller():
                yield outcome
    finally:
        ahead.close()
        pool.shutdown(cancel_futures=True)


def _skip_levels(
    wave: Iterable[ExaminedJob], snapshots: Mapping[int, JobSnapshot]
) -> list[ExaminedJob]:
    """Jobs with the levels alone that they will go through."""

    def skip(one: ExaminedJob) -> ExaminedJob:
        if one.index not in snapshots:
            return one
        first = snapshots[one.index].level
        left = tuple(level for level in one.levels if level.index >= first)
        return dataclasses.replace(one, levels=left)

    return [skip(one) for one in wave]


def _render_waves(
    pool: concurrent.futures.Executor,
    waves: list[list[ExaminedJob]],
    session: Session,
    scheduler: Scheduler,
    snapshots: Mapping[int, JobSnapshot],
) -> Iterator[ActiveJob | Result]:
    """Jobs that are through all levels, and failures to load one.

    Each wave is loaded while the one before it is on the device. It ends early where the run shall
    stop.
    """
    loading = [_load_all(pool, wave, session) for wave in waves[:1]]
    for number in range(len(waves)):
        if number + 1 < len(waves):
            loading.append(_load_all(pool, waves[number + 1], session))
        futures = loading.pop(0)
        if not all(future.done() for future in futures):
            yield from scheduler.finish()  # nothing else is there to do
            with scheduler.stopwatch.time_waiting("inputs"):
                _wait(futures, scheduler.stop)
        if scheduler.stop.is_requested:
            break
        outcomes = [future.result() for future in futures]
        _tell_notes(session, scheduler)
        yield from (outcome for outcome in outcomes if isinstance(outcome, Result))
        loaded = [outcome for outcome in outcomes if isinstance(outcome, LoadedJob)]
        yield from scheduler.render(loaded, snapshots)
    yield from scheduler.finish()


def _tell_notes(session: Session, scheduler: Scheduler) -> None:
    """Tells what was noticed of the pictures that were loaded."""
    notes = session.pictures.take_notes()
    more = [f"{len(notes) - _NOTES_SHOWN} more pictures may be wrong in their numbers"]
    for note in notes[:_NOTES_SHOWN] + more * (len(notes) > _NOTES_SHOWN):
        scheduler.progress.note(note)


def _load_all(
    pool: concurrent.futures.Executor, wave: list[ExaminedJob], session: Session
) -> list[_Loading]:
    return [pool.submit(_load, job, session) for job in wave]


def _wait(futures: list[_Loading], stop: StopToken) -> None:
    """Waits for all, or until the run shall stop."""
    waiting = set(futures)
    while waiting and not stop.is_requested:
        _, waiting = concurrent.futures.wait(waiting, timeout=_STOP_CHECK_S)


def _load(examined: ExaminedJob, session: Session) -> LoadedJob | Result:
    def load() -> LoadedJob:
        job, own = examined.job, examined.options
        if session_fingerprint(job, own, session) != examined.fingerprint:
            raise ReadError(
                f"job {job.output!r} has an input that was changed during the run",
                "Run the same command again",
            )
        loaded = load_job(examined, session.options, session.pictures)
        first = initial_image(loaded, loaded.levels[0].size)
        return dataclasses.replace(loaded, first_image=first)

    try:
        return read_with_retries(load, session.retries)
    except JobError as error:
        return Result(
            examined.index,
            examined.job,
            error=error,
            fingerprint=examined.fingerprint,
            attempt=examined.attempts + 1,
            inputs=session.pictures.records(examined.job.pictures),
        )


def split_into_waves(jobs: Sequence[ExaminedJob], plan: Plan, size: int) -> list[list[ExaminedJob]]:
    """Whole batches of jobs that share a last level, gathered until a wave is full.

    Args:
        jobs: In any order.
        plan: Slots by bucket.
        size: Long edge of the last level in pixels.
    """
    wave_jobs = max(1, min(WAVE_JOBS, WAVE_PIXELS // size**2))
    alike: dict[BatchKey, list[ExaminedJob]] = collections.defaultdict(list)
    for job in jobs:
        alike[job.levels[-1].batch_key].append(job)
    waves: list[list[ExaminedJob]] = [[]]
    for (bucket, _), members in alike.items():
        members.sort(key=lambda job: -job.options.steps)
        for batch in _cut(members, plan.slots[bucket]):
            if len(waves[-1]) + len(batch) > wave_jobs and waves[-1]:
                waves.append([])
            waves[-1] += batch
    return [wave for wave in waves if wave]


def _cut(members: list[ExaminedJob], slots: int) -> Iterator[list[ExaminedJob]]:
    return (members[first : first + slots] for first in range(0, len(members), slots))
