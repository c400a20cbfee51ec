"""What Python callers call: the engine's front doors, with what the command line does around them.

Options may be given by keyword, `progress=True` shows a bar, an interrupt keeps what is in
mid-schedule, and a batch into a folder writes its report page.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from nst_jax.engine import batch as batch_engine
from nst_jax.engine import render as render_engine
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result, Summary
from nst_jax.engine.schedule.previews import Preview
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.report.page import write_report
from nst_jax.request.errors import OptionError, StoppedError, WriteError
from nst_jax.request.job import Job
from nst_jax.request.layered_options import override_options
from nst_jax.request.options import Options
from nst_jax.request.outputs import is_url
from nst_jax.request.paths import find_path
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.shards import Shard
from nst_jax.request.validators import shorten


def render(
    job: Job,
    output: str | Path | None = None,
    options: Options | None = None,
    *,
    checkpoint_every: float = 0.0,
    on_preview: Callable[[Preview], None] | None = None,
    progress: Progress | bool = False,
    devices: Sequence[Any] | None = None,
    stop: StopToken | None = None,
    **given: Any,
) -> Result:
    """Renders one picture, and writes it where `output` is given.

    A run that is interrupted or stopped leaves its state in a hidden file beside `output`; the same
    call goes on from there.

        render(Job("cat.jpg", "waves.jpg"), "cat_waves.png", size=256)

    Args:
        job: The content and its style or styles.
        output: The file to write; its suffix chooses the format. None: the result is only returned.
        options: For what the job does not say itself.
        checkpoint_every: Seconds between two savings of the state; 0: only when it is stopped.
        on_preview: Called with the running job at every `preview_every` of its steps; None: a
            file for each in a folder `previews` beside `output`.
        progress: True: a bar on a terminal and in notebooks, plain lines elsewhere; or told what
            happens.
        devices: What to run on; None: all devices of this process, or `jax.default_device` where
            it is set.
        stop: Asks the run to stop, from another thread or a signal handler.
        given: Options by keyword; see `Options`.

    Raises:
        RequestError: The request is wrong in itself.
        JobError: A picture can't be used, the numbers became infinite, or the output could
            not be written.
        StoppedError: It was asked to stop.
    """
    _check_job(job)
    if not isinstance(output, (str, os.PathLike, type(None))):
        raise OptionError(f"output must be a path, got {shorten(output)}")
    own = _read_options(options, given)
    with _open_progress(progress) as told, _stop_on_interrupt(stop) as token:
        return render_engine.render(
            job,
            None if output is None else os.fspath(output),
            own,
            checkpoint_every=checkpoint_every,
            on_preview=on_preview,
            progress=told,
            devices=devices,
            stop=token,
        )


def render_many(
    jobs: Iterable[Job],
    options: Options | None = None,
    *,
    on_error: Literal["return", "raise"] = "return",
    on_preview: Callable[[Preview], None] | None = None,
    progress: Progress | bool = False,
    devices: Sequence[Any] | None = None,
    **given: Any,
) -> Iterator[Result]:
    """Renders jobs together and hands out each result as it finishes.

    Nothing is written. `Result.index` is the job's position in `jobs`; results come in the
    order in which batches finish.

        for result in render_many(every_pair("photos", "art"), size=256, progress=True):
            result.save(f"{result.index}.png")

    Args:
        jobs: Contents and styles as paths, arrays or images of Pillow's.
        options: Shared by all jobs, and what jobs want that don't say it themselves.
        on_error: What becomes of a job that fails: a result with `error` set, or an
            exception, which ends the run.
        on_preview: Called with each running job at every `preview_every` of its steps.
        progress: As `render` has it.
        devices: Likewise.
        given: Options by keyword; see `Options`.

    Raises:
        RequestError: The request is wrong in itself; raised before the first result.
        JobError: A job failed and `on_error` is "raise".
    """
    listed = _list_jobs(jobs)
    if on_error not in ("return", "raise"):
        raise OptionError(f"on_error must be return or raise, got {shorten(on_error)}")
    own = _read_options(options, given)

    def render_each(told: Progress) -> Iterator[Result]:
        return render_engine.render_many(
            listed, own, on_error=on_error, on_preview=on_preview, progress=told, devices=devices
        )

    if not isinstance(progress, bool):
        return render_each(progress)

    def render_told() -> Iterator[Result]:
        with _open_progress(progress) as told:
            yield from render_each(told)

    return render_told() if progress else render_each(NullProgress())


def render_batch(
    jobs: Iterable[Job],
    output_dir: str | os.PathLike[str],
    options: Options | None = None,
    *,
    handling: RunPolicy | None = None,
    report: bool = True,
    progress: Progress | bool = False,
    devices: Sequence[Any] | None = None,
    stop: StopToken | None = None,
    shard: Shard | str | None = None,
    **given: Any,
) -> Summary:
    """Renders every job into a folder, except those whose picture is there and up to date.

    A failing job is a failed line of the ledger and doesn't touch the others; `Summary.failures`
    says which, and why. What is interrupted goes on with the same call.

        summary = render_batch(every_pair("photos", "art/*.jpg"), "renders", size=256)

    Args:
        jobs: Any number of jobs.
        output_dir: A path or an address (`s3://`, `gs://`); made if it is missing. No other run
            may be in it.
        options: Shared by all jobs, and what jobs want that don't say it themselves.
        handling: What to do about accidents.
        report: Whether to write `report/index.html`, the page that shows the pictures and the run;
            not into a store, and not for a shard.
        progress: As `render` has it.
        devices: Likewise.
        stop: Likewise.
        shard: Render one worker's share alone: `0/4`, or as `run.shard.resolve_shard` has it. Every
            worker is given all jobs. What is done already by any worker is skipped.
        given: Options by keyword; see `Options`.

    Raises:
        RequestError: The request is wrong in itself, another run holds the folder, or its
            workers have other jobs; nothing was rendered.
        WriteError: The folder can't be written any more; the pictures so far are safe.
        StoppedError: The run was asked to stop, or too many jobs failed; the next run goes on.
    """
    listed = _list_jobs(jobs)
    if not isinstance(output_dir, (str, os.PathLike)):
        raise OptionError(f"output_dir must be a folder's path, got {shorten(output_dir)}")
    own = _read_options(options, given)
    with _open_progress(progress) as told, _stop_on_interrupt(stop) as token:
        summary = batch_engine.render_batch(
            listed,
            output_dir,
            own,
            handling=handling,
            progress=told,
            devices=devices,
            stop=token,
            shard=shard,
        )
        if report and not summary.shard and not is_url(os.fspath(output_dir)):
            try:
                write_report(Path(find_path(os.fspath(output_dir))))
            except WriteError as error:  # no fault of the batch
                told.note(str(error))
    return summary


def _read_options(options: Options | None, given: dict[str, Any]) -> Options:
    """The options of a call: an object, keywords, or keywords on top of an object.

    Raises:
        OptionError: No such option, a wrong value, or no `Options`.
    """
    if options is None:
        return Options(**given)
    if not isinstance(options, Options):
        raise OptionError(
            f"options must be Options, got {shorten(options)}",
            "Write Options(size=256), or give each option by its name: size=256",
        )
    if "preset" in given:
        raise OptionError("preset is the start of options, so it can't be given beside them")
    return override_options(options, given)


def _check_job(job: Any) -> None:
    if not isinstance(job, Job):
        raise OptionError(
            f"render must be given a Job, got {shorten(job)}",
            "Write render(Job(content, style), output)",
        )


def _list_jobs(jobs: Any) -> list[Job]:
    """The jobs of a call.

    Raises:
        OptionError: Something else.
    """
    remedy = "Write [Job(content, style), ...], or every_pair(contents, styles)"
    if isinstance(jobs, (str, os.PathLike, Job)) or not isinstance(jobs, Iterable):
        raise OptionError(f"jobs must be a list of Job, got {shorten(jobs)}", remedy)
    listed = list(jobs)
    for one in listed:
        if not isinstance(one, Job):
            raise OptionError(f"jobs must be a list of Job, got {shorten(one)} in it", remedy)
    return listed


@contextlib.contextmanager
def _open_progress(progress: Progress | bool) -> Iterator[Progress]:
    """What is told of a run."""
    if not isinstance(progress, bool):
        yield progress or NullProgress()
    elif progress:
        from nst_jax.cli.progress_bars import open_progress

        with open_progress(quiet=False) as bar:
            yield bar
    else:
        yield NullProgress()


@contextlib.contextmanager
def _stop_on_interrupt(stop: StopToken | None) -> Iterator[StopToken]:
    """In this `with` block Ctrl-C, or a notebook's stop button, asks the run to stop; again: ends.

    So the state is kept. A caller's own `stop`, or his own handler, is left to do that.

    Raises:
        KeyboardInterrupt: The run has stopped because of it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    token = stop or StopToken()
    if stop or not is_main or signal.getsignal(signal.SIGINT) != signal.default_int_handler:
        yield token
        return

    is_interrupted = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        if is_interrupted or not token.is_watched:
            signal.default_int_handler(signum, frame)
        is_interrupted = True
        token.request()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield token
    except StoppedError as error:
        if is_interrupted:
            raise KeyboardInterrupt(str(error)) from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
