"""Jobs in, results out: while one wave is on the device the next one is being decoded.

    examine   headers, sizes, fingerprints; a job that fails here never reaches the device
    plan      canvases and slots for all jobs
    waves     jobs that share programs together, a bounded number at a time
    prepare   decode and scale, in threads, one wave ahead
    render    the device

A failing job becomes a failed result; the others don't notice. A run that shall stop ends
after the chunk on the device, and hands out what was finished by then. The number of pictures in
memory is bounded by the wave, whatever the number of jobs.
"""

import collections
import concurrent.futures
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nst_jax.engine.inputs.fingerprint import fingerprint
from nst_jax.engine.inputs.load import LoadedJob, check_sizes, load_job
from nst_jax.engine.inputs.session import ExaminedJob, Session
from nst_jax.engine.plan.levels import Bucket, pyramid
from nst_jax.engine.plan.slots import WAVE_JOBS, Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.active_job import Rendered
from nst_jax.engine.schedule.previews import composite_with_content
from nst_jax.engine.schedule.scheduler import Scheduler
from nst_jax.engine.schedule.snapshot import JobSnapshot
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.request.errors import JobError, NonFiniteError, ReadError
from nst_jax.request.job import Job
from nst_jax.request.options import JobOptions, Options, foreign_tap_names, with_canonical_taps

_DECODERS = 2
_WAVE_PIXELS = WAVE_JOBS * 512 * 512

_LOOKS = 16  # jobs that a thread looks at before another one's turn
_LOOKS_AHEAD = 8  # of these, waiting

_BACK_OFF_S = 0.5
"""Before a picture is read again that could not be read; twice as long each time."""

_LOOK_S = 0.2
"""Between two looks at whether the run shall stop, while pictures are being decoded."""


def examine_jobs(
    jobs: Sequence[Job], setup: Session, progress: Progress
) -> list[ExaminedJob | Result]:
    """Looks at every job's inputs without decoding them; a job that can't be is a failed result.

    Args:
        jobs: With their output names filled in.
        setup: What they share.
        progress: Told what other programs' names of taps were taken for.

    Raises:
        TapError: A job names a tap that the network does not have.
    """
    _say_translations([job.options or setup.options for job in jobs], setup, progress)
    waiting = collections.deque[concurrent.futures.Future[list[ExaminedJob | Result]]]()
    examined: list[ExaminedJob | Result] = []
    pool = concurrent.futures.ThreadPoolExecutor(_DECODERS)
    try:
        for first in range(0, len(jobs), _LOOKS):
            some = range(len(jobs))[first : first + _LOOKS]
            waiting.append(pool.submit(_examined_together, some, jobs, setup))
            if len(waiting) > _LOOKS_AHEAD:  # a million futures would be gigabytes
                examined += waiting.popleft().result()
        for future in waiting:
            examined += future.result()
    finally:  # an interrupt does not wait for those that have not begun
        pool.shutdown(cancel_futures=True)
    _say_animated(setup.pictures.list_animated(), progress)
    return examined


def _say_animated(names: Sequence[str], progress: Progress) -> None:
    if names:
        shown = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
        progress.note(f"{len(names)} animated or of several pages, the first is taken: {shown}")


def _say_translations(wanted: Sequence[JobOptions], setup: Session, progress: Progress) -> None:
    taken: dict[str, str] = {}
    for own in {(one.content_taps, one.style_taps): one for one in wanted}.values():
        taken |= foreign_tap_names(own, setup.weights.architecture)
    for name, tap in taken.items():
        progress.note(f"tap {name} is taken for {tap}")


def _examined_together(
    indices: Iterable[int], jobs: Sequence[Job], setup: Session
) -> list[ExaminedJob | Result]:
    """Some of the jobs; one by one, many jobs would take most of their time in the queue."""
    architecture = setup.weights.architecture
    own = {
        index: with_canonical_taps(jobs[index].options or setup.options, architecture)
        for index in indices
    }
    return [_examined(index, jobs[index], own[index], setup) for index in indices]


def _examined(index: int, job: Job, own: JobOptions, setup: Session) -> ExaminedJob | Result:
    for last in _tries(setup):
        try:
            size = setup.pictures.lookup(job.content).size
            ladder = pyramid(size, setup.options, own, regions=len(job.masks))
            asked = _fingerprint(job, own, setup)  # which looks at every picture
            check_sizes(job, own, ladder, setup.pictures)
            return ExaminedJob(index, job, own, ladder, asked)
        except JobError as error:
            if last or not error.is_transient:
                return Result(index, job, error=error)
    raise AssertionError("the last try returns")


def _tries(setup: Session) -> Iterator[bool]:
    """A turn for each try, with a pause before each but the first: whether it is the last."""
    for number in range(setup.retries + 1):
        if number:
            time.sleep(_BACK_OFF_S * 2 ** (number - 1))
        yield number == setup.retries


def _fingerprint(job: Job, own: JobOptions, setup: Session) -> str:
    return fingerprint(
        job,
        own,
        setup.options,
        setup.pictures,
        dtype=setup.precision.name,
        weights_sha256=setup.weights.content_sha256,
    )


def render_jobs(
    requests: Sequence[ExaminedJob],
    setup: Session,
    renderer: Scheduler,
    plan: Plan,
    standings: Mapping[int, JobSnapshot] = MappingProxyType({}),
) -> Iterator[Result]:
    """Renders requests; results come as they finish, each with its picture in memory.

    Args:
        requests: The jobs.
        setup: What they share.
        renderer: It says afterwards where the jobs under way are, if it was asked to stop.
        plan: Slots by canvas.
        standings: Where jobs go on, by their index; these come first.
    """
    renderer.plan = plan
    begun = [one for one in requests if one.index in standings]
    fresh = [one for one in requests if one.index not in standings]
    jobs = _wave_jobs(setup.options)
    waves = [*_waves(begun, plan, jobs), *_waves(fresh, plan, jobs)]
    pool = concurrent.futures.ThreadPoolExecutor(_DECODERS)
    try:
        decoded = _one_ahead(pool, waves, setup, renderer.care.stop)
        for wave, outcomes in zip(waves, decoded, strict=False):
            yield from (outcome for outcome in outcomes if isinstance(outcome, Result))
            ready = [outcome for outcome in outcomes if isinstance(outcome, LoadedJob)]
            by_index = {request.index: request for request in wave}
            for rendered in renderer.render(ready, standings):
                yield _result(rendered, by_index[rendered.job.index], setup)
    finally:
        pool.shutdown(cancel_futures=True)


_Decoding = concurrent.futures.Future[LoadedJob | Result]


def _one_ahead(
    pool: concurrent.futures.Executor,
    waves: list[list[ExaminedJob]],
    setup: Session,
    stop: StopToken,
) -> Iterator[list[LoadedJob | Result]]:
    """Each wave's prepared jobs, while the next wave's are already in the making.

    It ends early where the run shall stop.
    """
    futures = collections.deque[list[_Decoding]]()
    for wave in [*waves, []]:
        futures.append([pool.submit(_prepared, request, setup) for request in wave])
        if len(futures) == 2:
            _wait(futures[0], stop)
            if stop.requested:
                return
            yield [future.result() for future in futures.popleft()]


def _wait(futures: list[_Decoding], stop: StopToken) -> None:
    """Waits for all, or until the run shall stop."""
    waiting = set(futures)
    while waiting and not stop.requested:
        _, waiting = concurrent.futures.wait(waiting, timeout=_LOOK_S)


def _prepared(request: ExaminedJob, setup: Session) -> LoadedJob | Result:
    for last in _tries(setup):
        try:
            return _prepared_now(request, setup)
        except JobError as error:
            if last or not error.is_transient:
                return _failed(request, error, setup)
    raise AssertionError("the last try returns")


def _prepared_now(request: ExaminedJob, setup: Session) -> LoadedJob:
    if _fingerprint(request.job, request.options, setup) != request.fingerprint:
        raise ReadError(
            f"job {request.job.output!r} has an input that was changed during the run",
            "Run the same command again",
        )
    return load_job(request.index, request.job, request.options, setup.options, setup.pictures)


def _failed(request: ExaminedJob, error: JobError, setup: Session) -> Result:
    return Result(
        request.index,
        request.job,
        error=error,
        fingerprint=request.fingerprint,
        attempt=request.attempts + 1,
        inputs=_inputs(request, setup),
    )


def _inputs(request: ExaminedJob, setup: Session) -> Mapping[str, Any]:
    return setup.pictures.records(request.job.pictures)


def _result(rendered: Rendered, request: ExaminedJob, setup: Session) -> Result:
    prepared_job = rendered.job
    error = rendered.fault
    if error is None and not rendered.finite:
        error = _nonfinite(request, rendered.steps)
    image = None
    if error is None and rendered.image is not None:
        image = composite_with_content(prepared_job, rendered.image)
    return Result(
        index=request.index,
        job=request.job,
        image=image,
        alpha=prepared_job.content.alpha,
        losses=rendered.terms,
        curve=rendered.curve,
        steps=rendered.steps,
        seconds=rendered.seconds,
        compile_seconds=rendered.compile_seconds,
        error=error,
        fingerprint=request.fingerprint,
        attempt=request.attempts + rendered.attempts,
        inputs=_inputs(request, setup),
    )


def _nonfinite(request: ExaminedJob, steps: int) -> NonFiniteError:
    return NonFiniteError(
        f"job {request.job.output!r} must stay in the finite numbers, got inf or nan after "
        f"{steps} steps",
        "Lower learning_rate or the weights of the terms",
    )


def _wave_jobs(options: Options) -> int:
    return max(1, min(WAVE_JOBS, _WAVE_PIXELS // options.size**2))


def _waves(requests: Sequence[ExaminedJob], plan: Plan, wave_jobs: int) -> list[list[ExaminedJob]]:
    """Whole batches of jobs that share a last stage, gathered until a wave is full."""
    groups: dict[Bucket, list[ExaminedJob]] = collections.defaultdict(list)
    for request in requests:
        groups[request.levels[-1].bucket].append(request)
    waves: list[list[ExaminedJob]] = [[]]
    for group, members in groups.items():
        for batch in _cut(sorted(members, key=lambda one: -one.options.steps), plan.slots[group]):
            if len(waves[-1]) + len(batch) > wave_jobs and waves[-1]:
                waves.append([])
            waves[-1] += batch
    return [wave for wave in waves if wave]


def _cut(members: list[ExaminedJob], slots: int) -> Iterator[list[ExaminedJob]]:
    return (members[first : first + slots] for first in range(0, len(members), slots))
