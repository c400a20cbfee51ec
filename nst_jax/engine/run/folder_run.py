"""One run in one output folder: what is left of a batch is planned, rendered and written.

Whoever renders into a folder does it by this: a whole batch, one of several workers, a study.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.targets import TargetProvider
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.results import Result, Summary
from nst_jax.engine.run.checkpoint import STATE_NAME, CheckpointFile
from nst_jax.engine.run.estimate import estimate_seconds, remember_speed
from nst_jax.engine.run.plan_file import WholeBatch, load_or_make_plan, save_plan
from nst_jax.engine.run.remaining import RemainingWork
from nst_jax.engine.run.shard import WorkerFiles
from nst_jax.engine.run.writer import ResultWriter
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.finish import make_result
from nst_jax.engine.schedule.make_scheduler import make_scheduler
from nst_jax.engine.schedule.scheduler import Scheduler
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.engine.schedule.timing import Timing
from nst_jax.engine.schedule.waves import run_jobs
from nst_jax.files.folders import Folder
from nst_jax.request.errors import NstJaxError, StoppedError, say_count
from nst_jax.request.run_policy import RunPolicy


@dataclasses.dataclass(eq=False, kw_only=True)
class FolderRun:
    """Renders what is left of a batch into its folder.

    Attributes:
        folder: It is there, and nobody else writes the same files.
        session: What the jobs share.
        work: What is left.
        progress: Told what happens.
        policy: What to do about accidents.
        stop: Asks the run to stop.
        files: Names of the files that are this run's own.
        whole: Tells of the batch that the folder's plan is for; None: there is no file of a plan.
        is_resumable: Whether jobs in mid-schedule are kept in a file.
        programs: Of an earlier run of the session; None: new ones.
        targets: Makes what images are compared with; None: by contents and styles.
        mark: Gives a result the fingerprint that the ledger shall have.
        scheduler: What has rendered; None before, and where nothing was left.
    """

    folder: Folder
    session: Session
    work: RemainingWork
    progress: Progress
    policy: RunPolicy = dataclasses.field(default_factory=RunPolicy)
    stop: StopToken = dataclasses.field(default_factory=StopToken)
    files: WorkerFiles = dataclasses.field(default_factory=WorkerFiles)
    whole: Callable[[], WholeBatch] | None = None
    is_resumable: bool = True
    programs: ProgramCache | None = None
    targets: TargetProvider | None = None
    mark: Callable[[Result], Result] = lambda result: result
    scheduler: Scheduler | None = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        """Loads where an earlier run has left the jobs."""
        # A whole run takes over what single workers have left.
        takes_over = self.is_resumable and self.files.is_alone
        states = WorkerFiles("*").name(STATE_NAME)
        self._checkpoint = CheckpointFile(
            self.folder if self.is_resumable else None,
            self.work.jobs,
            self.progress,
            name=self.files.name(STATE_NAME),
            others=self.folder.list_names(states) if takes_over else (),
        )
        self._writer = ResultWriter(
            self.folder,
            self.session.options,
            self.progress,
            retries=self.policy.retries,
            part=self.files.part,
        )

    def render(self) -> NstJaxError | None:
        """Renders and writes; returns why it ended early, or None."""
        failures = 0
        with self.stop.watch(), self._checkpoint, self._writer as writer:
            for outcome in self._run_jobs():
                writer.put(functools.partial(self._make_result, outcome))
                index, has_failed = _describe(outcome)
                self._checkpoint.discard(index)
                failures += has_failed
                if writer.fault or self.policy.ends_at(max(failures, writer.tally["failed"])):
                    self.stop.request()
        done, jobs = writer.tally.total(), len(self.work.jobs) + len(self.work.failures)
        if done == jobs and not self.policy.ends_at(failures):
            self._checkpoint.remove()
            if self.scheduler:
                remember_speed(self.work.jobs, self.session, self.scheduler.timing)
            return None
        kept = self._checkpoint.save(self.scheduler.snapshots() if self.scheduler else [])
        if writer.fault:
            return writer.fault
        failed = max(failures, writer.tally["failed"])
        why = f"stopped at {failed} failed" if self.policy.ends_at(failed) else "stopped"
        finished, whole = (self.work.skipped + count for count in (done, jobs))
        return StoppedError(
            f"{why} with {finished} of {say_count(whole, 'job')} finished, {whole - finished} to "
            f"go, {kept} kept in mid-schedule",
            "Run the same command again to go on",
        )

    def _make_result(self, outcome: ActiveJob | Result) -> Result:
        """The result of a job as the ledger shall have it."""
        is_result = isinstance(outcome, Result)
        return self.mark(outcome if is_result else make_result(outcome, self.session))

    def _run_jobs(self) -> Iterator[ActiveJob | Result]:
        """What becomes of each job; first of those that failed when they were examined."""
        yield from itertools.takewhile(lambda _: not self.stop.is_requested, self.work.failures)
        jobs = self.work.jobs
        if not jobs or self.stop.is_requested:
            return
        self.scheduler = make_scheduler(
            self.session,
            jobs,
            self._make_plan(),
            self.progress,
            programs=self.programs,
            targets=self.targets,
            policy=self.policy,
            stop=self.stop,
            save=self._checkpoint.save_behind if self.is_resumable else None,
            on_plan_change=functools.partial(save_plan, self.folder) if self.whole else None,
            show=self._writer.put_preview,
        )
        taken = self._checkpoint.steps_taken
        steps = sum(job.image_steps for job in jobs) - taken
        self.progress.on_start(
            len(jobs),
            steps,
            finished=self.work.skipped,
            taken=taken,
            seconds=estimate_seconds(jobs, self.session, taken),
        )
        yield from run_jobs(jobs, self.session, self.scheduler, self._checkpoint.snapshots)

    def _make_plan(self) -> Plan:
        if self.whole is None:
            return self.session.make_plan(self.work.jobs, self.progress)
        return load_or_make_plan(
            self.work.jobs,
            self.session,
            self.folder,
            self.progress,
            whole=self.whole(),
            is_alone=self.files.is_alone,
        )

    def summary(self, seconds: float = 0.0, shard: str = "") -> Summary:
        """The end of the run in numbers; `seconds` is how long it took in all."""
        timing = self.scheduler.timing if self.scheduler else Timing()
        programs = self.scheduler.programs if self.scheduler else None
        work, tally = self.work, self._writer.tally
        failures = {**work.given_up, **self._writer.failures}
        return Summary(
            jobs=len(work.jobs) + len(work.failures) + work.skipped + len(work.given_up),
            done=tally["done"],
            failed=tally["failed"] + len(work.given_up),
            skipped=work.skipped,
            seconds=seconds,
            compile_seconds=timing.compilation,
            step_seconds=timing.steps,
            image_steps=timing.image_steps,
            compiled=dict(programs.compiled) if programs else {},
            loaded=frozenset(programs.loaded) if programs else frozenset(),
            shard=shard,
            given_up=len(work.given_up),
            failures=dict(failures[index] for index in sorted(failures)),
            driving_seconds=timing.driving,
            waiting_seconds=dataclasses.asdict(timing.waiting),
            device_idle_share=timing.idle_share,
        )


def _describe(outcome: ActiveJob | Result) -> tuple[int, bool]:
    """A job's index, and whether it has failed."""
    if isinstance(outcome, Result):
        return outcome.index, outcome.error is not None
    return outcome.loaded.index, outcome.image is None
