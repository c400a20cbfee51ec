"""Rendering for Python callers: pictures or paths in, results with pictures out."""

import atexit
import contextlib
import dataclasses
import functools
import itertools
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result
from nst_jax.engine.run.checkpoint import CheckpointFile
from nst_jax.engine.run.estimate import estimate_seconds, remember_speed
from nst_jax.engine.run.preflight import check_output_file
from nst_jax.engine.run.writer import save_preview, write_result
from nst_jax.engine.schedule.make_scheduler import make_scheduler
from nst_jax.engine.schedule.previews import Preview
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.engine.schedule.waves import render_jobs
from nst_jax.files.folders import folder_and_name
from nst_jax.request.errors import NstJaxError, StoppedError
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import Options
from nst_jax.request.run_policy import RunPolicy


def render_many(
    jobs: Iterable[Job],
    options: Options | None = None,
    *,
    on_error: Literal["return", "raise"] = "return",
    on_preview: Callable[[Preview], None] | None = None,
    progress: Progress | None = None,
    devices: Sequence[Any] | None = None,
) -> Iterator[Result]:
    """Renders jobs together and hands out each result as it finishes.

    Nothing is written. `Result.index` is the job's position in `jobs`; results come in the
    order in which batches finish.

    Arguments and faults are those of `nst_jax.api.render_many`, which prepares them.
    """
    results = _render_each(
        jobs, options or Options(), on_error, on_preview, progress or NullProgress(), devices
    )
    _open_results.add(results)
    return results


def _render_each(
    jobs: Iterable[Job],
    options: Options,
    on_error: Literal["return", "raise"],
    on_preview: Callable[[Preview], None] | None,
    progress: Progress,
    devices: Sequence[Any] | None,
) -> Generator[Result, None, None]:
    session = open_session(options, devices)
    examined = examine_jobs(fill_defaults(jobs, options), session, progress)
    ready = [one for one in examined if isinstance(one, ExaminedJob)]
    results = (one for one in examined if isinstance(one, Result))
    if ready:
        plan = session.make_plan(ready, progress)
        scheduler = make_scheduler(session, ready, plan, progress, show=on_preview)
        progress.on_start(len(ready), sum(one.image_steps for one in ready))
        results = itertools.chain(results, render_jobs(ready, session, scheduler))
    for result in results:
        if result.error and on_error == "raise":
            raise result.error
        progress.on_finish(result.job.output, result.error)
        yield result


_open_results: weakref.WeakSet[Generator[Result, None, None]] = weakref.WeakSet()


@atexit.register
def _close_results() -> None:
    """Ends what a caller has left open, while the modules that this needs are still there."""
    for results in list(_open_results):
        with contextlib.suppress(ValueError):  # a thread is at it
            results.close()


def render(
    job: Job,
    output: str | Path | None = None,
    options: Options | None = None,
    *,
    checkpoint_every: float = 0.0,
    on_preview: Callable[[Preview], None] | None = None,
    progress: Progress | None = None,
    devices: Sequence[Any] | None = None,
    stop: StopToken | None = None,
) -> Result:
    """Renders one picture, and writes it where `output` is given.

    A run that is stopped leaves its state in a hidden file beside `output`; the same request
    goes on from there.

    Arguments and faults are those of `nst_jax.api.render`, which prepares them.
    """
    options, progress = options or Options(), progress or NullProgress()
    stop = stop or StopToken()
    folder, name = (None, job.output) if output is None else folder_and_name(output)
    if output is not None and folder:
        check_output_file(output, job, options)
        on_preview = on_preview or functools.partial(
            save_preview, folder, options=options, progress=progress
        )
    session = open_session(options, devices)
    jobs = fill_defaults([dataclasses.replace(job, output=name)], options)
    (examined,) = examine_jobs(jobs, session, progress)
    if isinstance(examined, Result):
        raise _error_of(examined)
    plan = session.make_plan([examined], progress)
    checkpoint = CheckpointFile(folder, [examined], progress, name=f".{name}.state.npz")
    scheduler = make_scheduler(
        session,
        [examined],
        plan,
        progress,
        policy=RunPolicy(retries=0, checkpoint_every=checkpoint_every),
        stop=stop,
        save=checkpoint.save_behind,
        show=on_preview,
    )
    taken = checkpoint.steps_taken
    seconds = estimate_seconds([examined], session, taken)
    progress.on_start(1, examined.image_steps - taken, taken=taken, seconds=seconds)
    with stop.watch(), checkpoint:
        result = next(render_jobs([examined], session, scheduler, checkpoint.snapshots), None)
    if result is None:
        kept = "kept" if checkpoint.save(scheduler.snapshots()) else "not kept"
        raise StoppedError(
            f"stopped in mid-schedule, the state is {kept}", "Run the same command again to go on"
        )
    if result.error:
        raise result.error
    progress.on_finish(result.job.output, None)
    if folder:
        written = write_result(result, folder, name, options)
        result = dataclasses.replace(written, image=result.image, alpha=result.alpha)
    checkpoint.remove()
    remember_speed([examined], session, scheduler.timing)
    return result


def _error_of(result: Result) -> NstJaxError:
    assert result.error is not None
    return result.error
