"""A worker that is given one list of jobs after another: weights and programs stay.

It renders into the common output folder and keeps a part of the ledger of its own. A list may be
given a second time, to it or to another, after a worker died over it: what is done is skipped.
"""

import contextlib
import dataclasses
import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nst_jax.engine.device.runtime import configure_process
from nst_jax.engine.device.targets import TargetCache
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.picture_index import PictureIndex, PictureInfo
from nst_jax.engine.inputs.session import Session, open_session
from nst_jax.engine.plan.demand import Demand
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Result, Summary
from nst_jax.engine.run.plan_file import load_or_make_plan, run_record
from nst_jax.engine.run.remaining import remaining_work
from nst_jax.engine.run.writer import ResultWriter
from nst_jax.engine.schedule.scheduler import make_programs, make_scheduler
from nst_jax.engine.schedule.timing import Timing
from nst_jax.engine.schedule.waves import render_jobs
from nst_jax.files.folders import folder_at
from nst_jax.files.ledger import Record
from nst_jax.request.errors import NstJaxError, OutputError
from nst_jax.request.job import Job
from nst_jax.request.options import Options
from nst_jax.request.run_policy import RunPolicy


@dataclasses.dataclass(frozen=True)
class WorkerConfig:
    """What every worker of a batch is told; it can be sent.

    Attributes:
        place: Path or address of the output folder.
        options: The run's.
        handling: What to do about accidents.
        whole: What all jobs need together.
        digest: What tells the batch from others.
    """

    output_dir: str
    options: Options
    handling: RunPolicy
    demand: Demand
    batch: str


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """What became of a list of jobs.

    Attributes:
        finished: Output and error of each job that was done or failed now.
        skipped: Jobs done before.
        given_up: Jobs that failed before by their own fault.
        image_steps: Taken for them.
        step_seconds: The device's.
        compile_seconds: Of programs that were new.
    """

    finished: Sequence[tuple[str, NstJaxError | None]]
    skipped: int
    given_up: int
    image_steps: int
    step_seconds: float
    compile_seconds: float


class _Finished(NullProgress):
    """Remembers what was finished."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, NstJaxError | None]] = []

    def finished(self, job: str, error: NstJaxError | None) -> None:
        self.jobs.append((job, error))


class Worker:
    """Renders lists of jobs of one batch, on all devices of its process."""

    def __init__(self, batch: WorkerConfig) -> None:
        """A worker of a batch; it opens when it is first asked for something."""
        self._batch = batch
        self._stack = contextlib.ExitStack()
        self._is_open = False
        self._part = f"worker-{uuid.uuid4().hex[:12]}"

    def open(self) -> dict[str, Any]:
        """Opens the weights and finds the devices.

        Returns:
            What `run.json` says of versions, devices and weights.

        Raises:
            RequestError: The weights are damaged, or the output folder is not there.
        """
        batch = self._batch
        self._stack.enter_context(configure_process())
        self._folder = folder_at(batch.output_dir)
        if not self._folder.exists():
            raise OutputError(
                f"output folder {batch.output_dir!r} must be there on every machine of the cluster",
                "Name a shared mount, or an address such as gs://",
            )
        opened = open_session(batch.options)
        self._setup = dataclasses.replace(opened, retries=batch.handling.retries)
        taps = itertools.chain.from_iterable(itertools.chain(*batch.demand.taps))
        self._programs = make_programs(self._setup, (), NullProgress(), taps=frozenset(taps))
        self._targets = TargetCache(self._programs, batch.options)
        self._is_open = True
        nothing = Summary(0, 0, 0, 0, 0.0, 0.0, 0.0, 0, {})
        return run_record(nothing, self._setup, None)

    def render(
        self, jobs: Sequence[Job], records: Mapping[str, Record], seen: Mapping[str, PictureInfo]
    ) -> TaskReport:
        """Renders what is missing of some jobs.

        Args:
            jobs: With their options and output names filled in.
            records: Of these jobs, as far as the ledger had any.
            seen: What is known of their inputs, by path.

        Raises:
            RequestError: Something does not fit the devices; nothing was rendered.
            WriteError: The folder takes no more.
        """
        if not self._is_open:  # its process may have been started anew since it was asked to
            self.open()
        newest = self._newest(jobs, records)
        setup = self._setup_knowing(seen)
        examined = examine_jobs(jobs, setup, NullProgress())
        work = remaining_work(examined, newest, self._folder, self._batch.handling)
        ended = _Finished()
        timing = Timing()
        with ResultWriter(
            self._folder,
            self._batch.options,
            ended,
            retries=self._batch.handling.retries,
            part=self._part,
        ) as writer:
            for result in itertools.chain(
                work.failures, self._rendered(work.requests, setup, timing)
            ):
                writer.put(result)
        if writer.fault:
            raise writer.fault
        return TaskReport(
            ended.jobs,
            work.skipped,
            work.given_up,
            timing.image_steps,
            timing.steps,
            timing.compilation,
        )

    def _rendered(
        self, requests: Sequence[ExaminedJob], setup: Session, timing: Timing
    ) -> Iterator[Result]:
        if not requests:
            return
        plan = load_or_make_plan(
            requests,
            setup,
            self._folder,
            NullProgress(),
            whole=self._batch.demand,
            batch=self._batch.batch,
            alone=False,
        )
        scheduler = make_scheduler(
            setup,
            requests,
            plan,
            NullProgress(),
            programs=self._programs,
            targets=self._targets,
            policy=dataclasses.replace(self._batch.handling, checkpoint_every=0.0),
            timing=timing,
        )
        yield from render_jobs(requests, setup, scheduler)

    def _setup_knowing(self, seen: Mapping[str, PictureInfo]) -> Session:
        inputs = PictureIndex(seen, max_pixels=self._batch.options.max_input_pixels)
        return dataclasses.replace(self._setup, pictures=inputs)

    def _newest(self, jobs: Sequence[Job], records: Mapping[str, Record]) -> Mapping[str, Record]:
        """The records, and newer ones where another worker has had some of the jobs."""
        if not any(
            self._folder.version_tag(job.output) for job in jobs if job.output not in records
        ):
            return records
        found = self._folder.read_records()
        return {job.output: found[job.output] for job in jobs if job.output in found}
