"""A batch into an output folder: what is done already is skipped, what is done is kept.

*.png, ...      the pictures, each under its name only when whole
ledger.jsonl    a line a job, after its picture
plan.json       canvases and slots, fixed by the first run
state.npz       jobs in mid-schedule, while there are any
run.json        versions, devices, options, throughput and phases of the last run

One of several workers has `ledger-0-of-4.jsonl`, `state-0-of-4.npz` and `run-0-of-4.json` instead.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.picture_index import PictureIndex, PictureInfo, index_from_ledger
from nst_jax.engine.inputs.session import Session, open_session
from nst_jax.engine.plan.demand import job_costs, measure_demand
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result, Summary
from nst_jax.engine.run.checkpoint import STATE_NAME, CheckpointFile
from nst_jax.engine.run.plan_file import (
    PLAN_NAME,
    RUN_NAME,
    check_shared_batch,
    load_or_make_plan,
    run_record,
    write_json,
)
from nst_jax.engine.run.preflight import warn_if_disk_is_short
from nst_jax.engine.run.remaining import RemainingWork, remaining_work
from nst_jax.engine.run.shard import WorkerFiles, batch_hash, resolve_shard
from nst_jax.engine.run.writer import PREVIEWS_NAME, ResultWriter, save_preview
from nst_jax.engine.schedule.scheduler import Scheduler, make_scheduler
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.engine.schedule.timing import Timing
from nst_jax.engine.schedule.waves import render_jobs
from nst_jax.files.folders import Folder, folder_at
from nst_jax.files.ledger import Record
from nst_jax.files.sparing import check_inputs_not_overwritten
from nst_jax.request.errors import NstJaxError, OutputError, StoppedError, WriteError
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import Options
from nst_jax.request.outputs import check_output_place, check_output_suffix, output_key
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.shards import Shard, jobs_of_shard

_ASKED = frozenset(("job", "status", "fingerprint", "sha256", "stamp", "time", "error"))
"""What a resume must know of a job."""


def render_batch(
    jobs: Iterable[Job],
    output_dir: str | os.PathLike[str],
    options: Options | None = None,
    *,
    handling: RunPolicy | None = None,
    progress: Progress | None = None,
    devices: Sequence[Any] | None = None,
    stop: StopToken | None = None,
    shard: Shard | str | None = None,
) -> Summary:
    """Renders every job into a folder, except those whose picture is there and up to date.

    A failing job is a failed line of the ledger and doesn't touch the others.

    Args:
        jobs: Any number of jobs.
        output_dir: A path or an address (`s3://`, `gs://`); made if it is missing. No other run
            may be in it.
        options: Shared by all jobs, and the defaults of those that have none of their own.
        handling: What to do about accidents.
        progress: Told what happens.
        devices: What to run on; None: all devices of this process.
        stop: Asks the run to stop, from another thread or a signal handler.
        shard: Render one worker's share alone: `0/4`, or as `shard.resolve_shard` has it. Every
            worker is given all jobs. What is done already by any worker is skipped.

    Raises:
        RequestError: The request is wrong in itself, another run holds the folder, or its
            workers have other jobs; nothing was rendered.
        WriteError: The folder can't be written any more; the pictures so far are safe.
        StoppedError: The run was asked to stop, or too many jobs failed; the next run goes on.
    """
    began = time.perf_counter()
    own = resolve_shard(shard)
    parts = WorkerFiles(own.name if own else "")
    options, handling, progress = (
        options or Options(),
        handling or RunPolicy(),
        progress or NullProgress(),
    )
    folder = folder_at(output_dir)
    listed = fill_defaults(jobs, options)
    check_outputs(listed, options, folder)
    with contextlib.ExitStack() as stack:
        existed = folder.exists()
        if existed:
            stack.enter_context(folder.lock(parts.part))
        known: dict[str, PictureInfo] = {}
        records = folder.read_records(slim=functools.partial(slim_record, known))
        setup = _setup(options, handling, devices, known)
        whole = _Whole(listed, options, parts)
        if not parts.is_alone:
            check_shared_batch(folder, whole.digest)
        examined = examine_jobs(whole.share(own, setup), setup, progress)
        folder.make()
        folder.check_inside(one.job.output for one in examined)
        if not existed:
            stack.enter_context(folder.lock(parts.part))
        if parts.is_alone:  # else they may be those of others
            folder.remove_partial_files()
        work = remaining_work(examined, records, folder, handling)
        warn_if_disk_is_short(work.requests, options, folder, progress)
        run = _Run(work, setup, folder, handling, progress, stop or StopToken(), whole)
        fault = run.render()
        summary = run.summary(time.perf_counter() - began, str(own) if own else "")
        try:
            name = parts.name(RUN_NAME)
            write_json(folder, name, run_record(summary, setup, run.renderer))
        except WriteError as error:  # where pictures can't be written, this can't be either
            fault = fault or error
        if fault:
            fault.summary = summary.record()
            raise fault
        return summary


def check_outputs(jobs: Sequence[Job], options: Options, folder: Folder) -> None:
    """Refuses outputs that could not be written, or would cost a picture, before any work.

    Raises:
        OutputError: A name leads out of the folder, has no known suffix, or is taken.
    """
    for job in jobs:
        check_output_place(job.output)
        if options.preview_every and output_key(job.output).startswith(f"{PREVIEWS_NAME}/"):
            raise OutputError(f"output {job.output!r} lies in the folder of previews")
        check_output_suffix(job.output, bit_depth=options.bit_depth)
    read = itertools.chain.from_iterable(job.pictures for job in jobs)
    check_inputs_not_overwritten(read, (job.output for job in jobs), folder)


def slim_record(known: dict[str, PictureInfo], record: Record) -> None:
    """Leaves of a line what a resume asks for, and keeps what is known of its inputs once."""
    known |= index_from_ledger([record])
    for key in record.keys() - _ASKED:
        del record[key]


def _setup(
    options: Options,
    handling: RunPolicy,
    devices: Sequence[Any] | None,
    known: Mapping[str, PictureInfo],
) -> Session:
    inputs = PictureIndex({} if handling.verify else known, max_pixels=options.max_input_pixels)
    setup = open_session(options, devices)
    return dataclasses.replace(setup, pictures=inputs, retries=handling.retries)


@dataclasses.dataclass(frozen=True)
class _Whole:
    """All jobs of a batch, whoever renders them.

    Attributes:
        jobs: With their options and output names filled in.
        options: The run's.
        parts: Names of the files of whoever renders some of them.
    """

    jobs: Sequence[Job]
    options: Options
    parts: WorkerFiles

    @functools.cached_property
    def digest(self) -> str:
        """What tells the batch from others."""
        return batch_hash(self.jobs, self.options)

    def share(self, shard: Shard | None, setup: Session) -> Sequence[Job]:
        """The jobs of one worker."""
        if shard is None:
            return self.jobs
        costs = job_costs(self.jobs, self.options, setup.weights.architecture)
        return jobs_of_shard(self.jobs, shard, costs)

    def plan(
        self, requests: Sequence[ExaminedJob], setup: Session, folder: Folder, progress: Progress
    ) -> Plan:
        """The slots of every canvas; see `plan_file.load_or_make_plan`."""
        architecture = setup.weights.architecture
        return load_or_make_plan(
            requests,
            setup,
            folder,
            progress,
            whole=measure_demand(self.jobs, self.options, architecture, setup.pictures.size),
            batch=self.digest,
            alone=self.parts.is_alone,
        )


class _Run:
    """The rendering of what is left to do, into a folder that is held."""

    def __init__(
        self,
        work: RemainingWork,
        setup: Session,
        folder: Folder,
        handling: RunPolicy,
        progress: Progress,
        stop: StopToken,
        whole: _Whole,
    ) -> None:
        self.work = work
        self.renderer: Scheduler | None = None
        self.tally = collections.Counter[str]()
        self._setup = setup
        self._folder = folder
        self._handling = handling
        self._progress = progress
        self._stop = stop
        self._whole = whole
        self._keeper = _keeper(folder, work, progress, whole.parts)
        self._failures = 0

    def render(self) -> NstJaxError | None:
        """Renders; returns why it ended early, or None."""
        writer = ResultWriter(
            self._folder,
            self._setup.options,
            self._progress,
            retries=self._handling.retries,
            part=self._whole.parts.part,
        )
        with self._stop.watch(), writer:
            for result in itertools.chain(self._failed_before(), self._rendered()):
                writer.put(result)
                self._keeper.discard(result.index)
                self._failures += result.error is not None
                if writer.fault or self._too_many(writer.tally["failed"]):
                    self._stop.request()
        self.tally = writer.tally
        return self._end(writer.fault)

    def _too_many(self, failed_in_writing: int) -> bool:
        allowed = self._handling.failures_allowed
        return allowed is not None and max(self._failures, failed_in_writing) >= allowed

    def _failed_before(self) -> Iterator[Result]:
        """The jobs that failed when they were looked at, as long as the run goes on."""
        yield from itertools.takewhile(lambda _: not self._stop.requested, self.work.failures)

    def _rendered(self) -> Iterator[Result]:
        requests, setup = self.work.requests, self._setup
        if not requests or self._stop.requested:
            return
        show = functools.partial(save_preview, self._folder, progress=self._progress)
        self.renderer = make_scheduler(
            setup,
            requests,
            self._whole.plan(requests, setup, self._folder, self._progress),
            self._progress,
            policy=self._handling,
            stop=self._stop,
            save=self._keeper.save,
            on_plan_change=self._write_plan,
            show=show,
        )
        steps = sum(one.image_steps for one in requests)
        self._progress.started(len(requests), steps - self._keeper.steps_taken)
        yield from render_jobs(requests, setup, self.renderer, self._keeper.snapshots)

    def _write_plan(self, plan: Plan) -> None:
        """Writes a plan that has shrunk, because a batch did not fit the device."""
        write_json(self._folder, PLAN_NAME, plan.to_json())

    def _end(self, fault: WriteError | None) -> NstJaxError | None:
        """What has ended the run early; the jobs under way are kept."""
        done, jobs = self.tally.total(), len(self.work.requests) + len(self.work.failures)
        if done == jobs and not self._too_many(0):
            self._keeper.remove()
            return None
        kept = self._keeper.save(self.renderer.snapshots() if self.renderer else [])
        if fault:
            return fault
        why = "stopped"
        if self._too_many(self.tally["failed"]):
            why = f"stopped at {max(self._failures, self.tally['failed'])} failed"
        return StoppedError(
            f"{why} with {done} of {jobs} jobs finished, {kept} kept in mid-schedule",
            "Run the same command again to go on",
        )

    def summary(self, seconds: float, shard: str) -> Summary:
        """The end of the run in numbers."""
        timing = self.renderer.timing if self.renderer else Timing()
        programs = self.renderer.programs if self.renderer else None
        work = self.work
        return Summary(
            jobs=len(work.requests) + len(work.failures) + work.skipped + work.given_up,
            done=self.tally["done"],
            failed=self.tally["failed"] + work.given_up,
            skipped=work.skipped,
            seconds=seconds,
            compile_seconds=timing.compilation,
            step_seconds=timing.steps,
            image_steps=timing.image_steps,
            compiled=dict(programs.compiled) if programs else {},
            loaded=frozenset(programs.loaded) if programs else frozenset(),
            shard=shard,
            given_up=work.given_up,
        )


def _keeper(
    folder: Folder, work: RemainingWork, progress: Progress, parts: WorkerFiles
) -> CheckpointFile:
    """What keeps jobs in mid-schedule; a whole run takes over what single workers have left."""
    others = folder.list_names(WorkerFiles("*").name(STATE_NAME)) if parts.is_alone else ()
    name = parts.name(STATE_NAME)
    return CheckpointFile(folder, work.requests, progress, name=name, others=others)
