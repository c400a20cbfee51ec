"""A worker that is given one list of jobs after another: weights and programs stay.

It renders into the common output folder and keeps a part of the ledger of its own. A list may be
given a second time, to it or to another, after a worker died over it: what is done is skipped.
"""

import contextlib
import dataclasses
import itertools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from nst_jax.engine.device.runtime import configure_process
from nst_jax.engine.device.targets import TargetCache
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.picture_index import PictureIndex, PictureInfo
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Summary
from nst_jax.engine.run.folder_run import FolderRun
from nst_jax.engine.run.plan_file import WholeBatch
from nst_jax.engine.run.remaining import remaining_work
from nst_jax.engine.run.run_record import EMPTY_SUMMARY, run_record
from nst_jax.engine.run.shard import WorkerFiles
from nst_jax.engine.schedule.make_scheduler import make_programs
from nst_jax.files.folders import folder_at
from nst_jax.files.ledger import JobLines
from nst_jax.request.errors import NstJaxError, OutputError
from nst_jax.request.job import Job
from nst_jax.request.options import Options
from nst_jax.request.run_policy import RunPolicy


@dataclasses.dataclass(frozen=True)
class WorkerConfig:
    """What every worker of a batch is told; it can be sent.

    Attributes:
        output_dir: Path or address of the output folder.
        options: The run's.
        policy: What to do about accidents.
        whole: All jobs of the batch together.
    """

    output_dir: str
    options: Options
    policy: RunPolicy
    whole: WholeBatch


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """What became of a list of jobs.

    Attributes:
        finished: Output and error of each job that was done or failed now.
        summary: The task in numbers.
    """

    finished: Sequence[tuple[str, NstJaxError | None]]
    summary: Summary


class _FinishedJobs(NullProgress):
    """Remembers what was finished."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, NstJaxError | None]] = []

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        self.jobs.append((job, error))


class Worker:
    """Renders lists of jobs of one batch, on all devices of its process."""

    def __init__(self, config: WorkerConfig) -> None:
        """A worker of a batch; it opens when it is first asked for something."""
        # The driver counts the failures of all.
        self._policy = dataclasses.replace(config.policy, fail_fast=False, max_failures=0)
        self._config = config
        self._stack = contextlib.ExitStack()
        self._is_open = False
        self._files = WorkerFiles(f"worker-{uuid.uuid4().hex[:12]}")

    def open(self) -> tuple[dict[str, Any], str]:
        """Opens the weights and finds the devices.

        Returns:
            What `run.json` says of versions, devices and weights; the devices for a user.

        Raises:
            RequestError: The weights are damaged, or the output folder is not there.
        """
        config = self._config
        self._stack.enter_context(configure_process())
        self._folder = folder_at(config.output_dir)
        if not self._folder.exists():
            raise OutputError(
                f"output folder {config.output_dir!r} must be there on every machine of the "
                "cluster",
                "Name a shared mount, or an address such as gs://",
            )
        opened = open_session(config.options)
        self._session = dataclasses.replace(opened, retries=config.policy.retries)
        taps = itertools.chain.from_iterable(itertools.chain(*config.whole.demand.taps))
        self._programs = make_programs(self._session, (), NullProgress(), taps=frozenset(taps))
        self._targets = TargetCache(self._programs, config.options)
        self._is_open = True
        devices = self._session.devices.text(self._session.precision)
        return run_record(EMPTY_SUMMARY, self._session, None), devices

    def render(
        self, jobs: Sequence[Job], records: Mapping[str, JobLines], known: Mapping[str, PictureInfo]
    ) -> TaskReport:
        """Renders what is missing of some jobs.

        Args:
            jobs: With their options and output names filled in.
            records: Of these jobs, as far as the ledger had any.
            known: What is known of their inputs, by path.

        Raises:
            RequestError: Something does not fit the devices; nothing was rendered.
            WriteError: The folder takes no more.
        """
        if not self._is_open:  # its process may have been started anew since it was asked to
            self.open()
        pictures = PictureIndex(known, max_pixels=self._config.options.max_input_pixels)
        session = dataclasses.replace(self._session, pictures=pictures)
        examined = examine_jobs(jobs, session, NullProgress())
        newest = self._read_newest(jobs, records)
        ended = _FinishedJobs()
        run = FolderRun(
            folder=self._folder,
            session=session,
            work=remaining_work(examined, newest, self._folder, self._policy, session),
            progress=ended,
            policy=self._policy,
            files=self._files,
            whole=lambda: self._config.whole,
            is_resumable=False,
            programs=self._programs,
            targets=self._targets,
        )
        fault = run.render()
        if fault:
            raise fault
        return TaskReport(ended.jobs, run.summary())

    def _read_newest(
        self, jobs: Sequence[Job], records: Mapping[str, JobLines]
    ) -> Mapping[str, JobLines]:
        """The records, and newer ones where another worker has had some of the jobs."""
        unrecorded = (job.output for job in jobs if job.output not in records)
        if not any(map(self._folder.version_tag, unrecorded)):
            return records
        found = self._folder.read_records()
        return {job.output: found[job.output] for job in jobs if job.output in found}
