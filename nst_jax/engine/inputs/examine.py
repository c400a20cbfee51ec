"""Jobs examined: sizes, fingerprints and levels from headers, before any picture is decoded."""

import collections
import concurrent.futures
import itertools
from collections.abc import Iterable, Sequence

from nst_jax.engine.inputs.fingerprint import session_fingerprint
from nst_jax.engine.inputs.load import DECODERS, check_shapes, fit_styles, read_with_retries
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import make_levels
from nst_jax.engine.progress import Progress
from nst_jax.engine.results import Result
from nst_jax.request.errors import JobError
from nst_jax.request.job import Job
from nst_jax.request.options import (
    JobOptions,
    Options,
    foreign_tap_names,
    with_canonical_taps,
)
from nst_jax.request.presets import find_preset
from nst_jax.request.taps import Architecture

_JOBS_A_TASK = 16  # that a thread looks at before another one's turn
_TASKS_AHEAD = 8  # of these, waiting


def examine_jobs(
    jobs: Sequence[Job], session: Session, progress: Progress
) -> list[ExaminedJob | Result]:
    """Looks at every job's inputs without decoding them; a job that can't be is a failed result.

    Args:
        jobs: With their output names filled in.
        session: What they share.
        progress: Told what names of taps were taken for, where that may surprise.

    Raises:
        TapError: A job names a tap that the network does not have.
    """
    wanted = (job.options or session.options for job in jobs)
    say_taps(wanted, session.options, session.weights.architecture, progress)
    waiting = collections.deque[concurrent.futures.Future[list[ExaminedJob | Result]]]()
    examined: list[ExaminedJob | Result] = []
    pool = concurrent.futures.ThreadPoolExecutor(DECODERS)
    try:
        for first in range(0, len(jobs), _JOBS_A_TASK):
            some = range(len(jobs))[first : first + _JOBS_A_TASK]
            waiting.append(pool.submit(_examine_together, some, jobs, session))
            if len(waiting) > _TASKS_AHEAD:  # a million futures would be gigabytes
                examined += waiting.popleft().result()
        for future in waiting:
            examined += future.result()
    finally:  # an interrupt does not wait for those that have not begun
        pool.shutdown(cancel_futures=True)
    _say_animated(session.pictures.list_animated(), progress)
    return examined


def _say_animated(names: Sequence[str], progress: Progress) -> None:
    if names:
        shown = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
        progress.note(f"{len(names)} animated or of several pages, the first is taken: {shown}")


def say_taps(
    wanted: Iterable[JobOptions], options: Options, architecture: Architecture, progress: Progress
) -> None:
    """Says what other programs' names of taps are taken for, and that `conv4_2` may not be theirs.

    Args:
        wanted: The jobs' options.
        options: The run's; what its preset names is meant as it is.
        architecture: The network's.
        progress: Told.

    Raises:
        TapError: The network has no such tap.
    """
    different = {(one.content_taps, one.style_taps): one for one in wanted}
    taken: dict[str, str] = {}
    for own in different.values():
        taken |= foreign_tap_names(own, architecture)
    for name, tap in taken.items():
        progress.note(f"tap {name} is taken for {tap}")
    preset = find_preset(options.preset).values
    named = {name.strip().lower() for taps in different for name in itertools.chain(*taps)}
    named -= {*preset.get("content_taps", ()), *preset.get("style_taps", ())}
    if before := sorted(name for name in named if name.startswith("conv")):
        after = ", ".join(name.replace("conv", "relu") for name in before)
        progress.note(
            f"tap {', '.join(before)} is before the activation; what most programs call so is "
            f"after it, here {after}"
        )


def _examine_together(
    indices: Iterable[int], jobs: Sequence[Job], session: Session
) -> list[ExaminedJob | Result]:
    """Some of the jobs; one by one, many jobs would take most of their time in the queue."""
    architecture = session.weights.architecture
    wanted = [(index, jobs[index], jobs[index].options or session.options) for index in indices]
    return [
        _examine(index, job, with_canonical_taps(own, architecture), session)
        for index, job, own in wanted
    ]


def _examine(index: int, job: Job, own: JobOptions, session: Session) -> ExaminedJob | Result:
    def look() -> ExaminedJob:
        size = session.pictures.lookup(job.content).size
        levels = make_levels(size, session.options, own, regions=len(job.masks))
        asked = session_fingerprint(job, own, session)  # which looks at every picture
        levels = fit_styles(job, own, levels, session.pictures)
        check_shapes(job, session.pictures)
        return ExaminedJob(index, job, own, levels, asked)

    try:
        return read_with_retries(look, session.retries)
    except JobError as error:
        return Result(index, job, error=error)
