"""The workers of a batch on a Ray cluster, and the tasks that they are given.

Every worker has one task at a time, so nothing queues up at a worker that may go away, and nodes
that come later get their part.

An actor that dies is started again by Ray (`max_restarts`), here or on another node. Its task is
not (`max_task_retries` is 0): it would wait for that actor, maybe for a node that never comes
back. The driver gives it to whoever is free instead: first as it is, then job by job, so that a
job which ends its workers is found. Such a job has a budget, the run's `retries`; a node that was
lost is nobody's fault and counts for nothing.
"""

import collections
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nst_jax.engine.cluster.connection import Cluster, WorkerResources
from nst_jax.engine.cluster.worker import TaskReport, Worker, WorkerConfig
from nst_jax.engine.inputs.picture_index import PictureIndex, PictureInfo
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.plan.slots import WAVE_JOBS
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result, Summary
from nst_jax.engine.run.run_record import EMPTY_SUMMARY
from nst_jax.engine.run.writer import ResultWriter
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.folders import folder_at
from nst_jax.files.ledger import JobLines
from nst_jax.request.errors import DeviceError, NstJaxError, StoppedError, say_count
from nst_jax.request.job import Job

_TASKS_A_WORKER = 4
"""Each worker gets at least so many, if there are jobs enough: the last ones end together."""

_LOOK_S = 0.5
_SAY_S = 60.0


class ResumeInfo(NamedTuple):
    """What earlier runs tell: of jobs, by output, and of their pictures."""

    records: Mapping[str, JobLines]
    pictures: PictureIndex

    def select(self, jobs: Sequence[Job]) -> tuple[dict[str, JobLines], dict[str, PictureInfo]]:
        """As much of it as concerns these jobs."""
        outputs = (job.output for job in jobs if job.output in self.records)
        pictures = (picture for job in jobs for picture in job.pictures)
        return {name: self.records[name] for name in outputs}, self.pictures.find_known(pictures)


@dataclasses.dataclass(eq=False)
class Task:
    """Jobs that go to a worker together.

    Attributes:
        jobs: One or more.
        failures: How often a worker died over them by no fault of its node.
    """

    jobs: Sequence[Job]
    failures: int = 0

    def split(self) -> list["Task"]:
        """As it is at first, then job by job."""
        if len(self.jobs) == 1 or self.failures < 2:
            return [self]
        return [Task([job]) for job in self.jobs]


def make_tasks(jobs: Sequence[Job], buckets: Mapping[str, Bucket], workers: int) -> list[Task]:
    """Jobs that can share slots together, so that these are full; the largest first.

    Args:
        jobs: All of the batch.
        buckets: Of each job's last level by its output, as far as it is known.
        workers: How many there are.
    """
    groups: dict[Bucket | None, list[Job]] = collections.defaultdict(list)
    for job in jobs:
        groups[buckets.get(job.output)].append(job)
    most = max(1, min(WAVE_JOBS, len(jobs) // (_TASKS_A_WORKER * workers)))
    by_size = sorted(groups, key=lambda bucket: -math.prod(bucket.canvas) if bucket else 0)
    return [
        Task(groups[bucket][first : first + most])
        for bucket in by_size
        for first in range(0, len(groups[bucket]), most)
    ]


class WorkerPool:
    """Actors, what each is at, and what became of the jobs so far."""

    def __init__(
        self,
        cluster: Cluster,
        resources: WorkerResources,
        config: WorkerConfig,
        resume: ResumeInfo,
        progress: Progress,
        stop: StopToken,
    ) -> None:
        self._ray: Any = cluster.ray
        self._cluster = cluster
        self._config = config
        self._resume = resume
        self._progress = progress
        self._stop = stop
        self._total = EMPTY_SUMMARY
        self._run_record: dict[str, Any] = {}
        self._devices = set[str]()
        self._failures = 0
        self._lost_nodes = cluster.lost_nodes()
        self._waiting = collections.deque[Task]()
        self._idle = collections.deque[Any]()
        self._opening: dict[Any, Any] = {}  # actors by what they will answer
        self._running: dict[Any, tuple[Any, Task]] = {}
        options = {"max_restarts": -1, "max_task_retries": 0, **resources.options}
        actor = self._ray.remote(Worker).options(**options)
        self._actors = [actor.remote(config) for _ in range(resources.count)]

    def render(self, tasks: Sequence[Task]) -> NstJaxError | None:
        """Renders; returns why it ended early, or None."""
        self._waiting.extend(tasks)
        jobs = sum(len(task.jobs) for task in tasks)
        self._progress.on_start(jobs, 0)
        for actor in self._actors:
            self._open(actor)
        try:
            self._work()
        except NstJaxError as error:
            return error
        finally:
            for actor in self._actors:
                self._ray.kill(actor)
        unfinished = [*self._waiting, *(task for _, task in self._running.values())]
        left = sum(len(task.jobs) for task in unfinished)
        if not left and not self._config.policy.ends_at(self._failures):
            return None
        return StoppedError(
            f"stopped with {jobs - left} of {say_count(jobs, 'job')} finished",
            "Run the same command again to go on",
        )

    def summary(self, jobs: int, seconds: float) -> Summary:
        """The end of the run in numbers; seconds in steps are those of all workers together."""
        return dataclasses.replace(self._total, jobs=jobs, seconds=seconds)

    def record(self, summary: Summary) -> dict[str, Any]:
        """What `run.json` says."""
        phases = {"steps": summary.step_seconds, "compilation": summary.compile_seconds}
        return {
            **self._run_record,
            "summary": summary.record(),
            "phases": {name: round(value, 3) for name, value in phases.items()},
            "engine": "ray",
        }

    def _work(self) -> None:
        """Hands out tasks and receives answers, as long as there is work."""
        said = time.monotonic()
        while self._waiting or self._running:
            if self._stop.is_requested or self._config.policy.ends_at(self._failures):
                return
            asked = [*self._opening, *self._running]
            ready, _ = self._ray.wait(asked, num_returns=1, timeout=_LOOK_S)
            for reference in ready:
                self._receive(reference)
                self._hand_out()
                said = time.monotonic()
            if time.monotonic() - said > _SAY_S and not self._running:
                self._progress.note("waiting for the cluster to start workers")
                said = time.monotonic()

    def _open(self, actor: Any) -> None:
        """Asks a worker to say when it is there; it may take a new node."""
        self._opening[actor.open.options(max_task_retries=-1).remote()] = actor

    def _hand_out(self) -> None:
        """Gives the next tasks to the workers that are free."""
        while self._waiting and self._idle:
            task, actor = self._waiting.popleft(), self._idle.popleft()
            known = self._resume.select(task.jobs)
            self._running[actor.render.remote(list(task.jobs), *known)] = actor, task

    def _receive(self, reference: Any) -> None:
        """Takes what a worker answers; what it raised itself is raised here."""
        opened = self._opening.pop(reference, None)
        actor, task = (opened, None) if opened else self._running.pop(reference)
        exceptions = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except exceptions.RayTaskError as error:
            # Ours is raised as it was before Ray wrapped it.
            raise error.cause if isinstance(error.cause, NstJaxError) else error from error
        except exceptions.RayError as error:
            if task is None:
                self._do_without(error)
            else:
                self._requeue(actor, task, error)
            return
        if task is None:
            self._run_record, devices = answer
            if devices not in self._devices:  # each kind of worker once
                self._devices.add(devices)
                self._progress.note(f"a worker is on {devices}")
        else:
            self._count(answer)
        self._idle.append(actor)

    def _do_without(self, error: Exception) -> None:
        """Goes on without a worker that Ray could not start; with none left the run ends."""
        if not self._opening and not self._running:
            raise StoppedError(
                f"no worker could be started on the cluster: {_first_line(error)}",
                "Look at the logs of Ray, and run the same command again to go on",
            )
        self._progress.note("the cluster could not start one of the workers")

    def _requeue(self, actor: Any, task: Task, error: Exception) -> None:
        """Gives the task of a worker that died to whoever is free, within its budget."""
        lost = self._cluster.lost_nodes()
        task.failures += lost <= self._lost_nodes
        self._lost_nodes = max(lost, self._lost_nodes)
        if len(task.jobs) == 1 and task.failures > self._config.policy.retries:
            self._give_up(task, error)
        else:
            self._waiting.extendleft(task.split())
        jobs = say_count(len(task.jobs), "job")
        self._progress.note(f"a worker died over {jobs}; any worker takes over")
        self._open(actor)

    def _give_up(self, task: Task, error: Exception) -> None:
        """Writes the ledger's line of a job over which workers died."""
        (job,) = task.jobs
        fault = DeviceError(
            f"job {job.output!r} ended its worker each of {task.failures} times: "
            f"{_first_line(error)}",
            "Look at the memory of the nodes, and at the logs of Ray",
        )
        folder = folder_at(self._config.output_dir)
        with ResultWriter(folder, self._config.options, NullProgress()) as writer:
            writer.put(lambda: Result(0, job, error=fault, attempt=task.failures))
        self._total = dataclasses.replace(self._total, failed=self._total.failed + 1)
        self._failures += 1
        self._progress.on_finish(job.output, fault)

    def _count(self, report: TaskReport) -> None:
        for job, error in report.finished:
            self._failures += error is not None
            self._progress.on_finish(job, error)
        self._total = self._total.add(report.summary)
        self._progress.on_step(report.summary.image_steps)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
