"""A batch on a Ray cluster: a pool of actors, each a warm `Worker`; lists of jobs as tasks.

The driver holds the folder, hands out lists and counts; workers write pictures and ledger. Every
worker has one list at a time, so nothing queues up at a worker that may go away, and nodes that
come later get their part.

An actor that dies is started again by Ray (`max_restarts`), here or on another node. Its list is
not (`max_task_retries` is 0): it would wait for that actor, maybe for a node that never comes
back. The driver gives it to whoever is free instead: first as it is, then job by job, so that a
job which ends its workers is found. Such a job has a budget, the run's `retries`; a node that was
lost is nobody's fault and counts for nothing.
"""

import collections
import contextlib
import dataclasses
import functools
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nst_jax.engine.batch import check_outputs, slim_record
from nst_jax.engine.cluster.connection import Cluster, WorkerResources, import_ray
from nst_jax.engine.cluster.worker import TaskReport, Worker, WorkerConfig
from nst_jax.engine.inputs.picture_index import PictureIndex, PictureInfo
from nst_jax.engine.plan.demand import final_buckets, measure_demand
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.plan.slots import WAVE_JOBS
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result, Summary
from nst_jax.engine.run.plan_file import RUN_NAME, adopt_plan, write_json
from nst_jax.engine.run.shard import batch_hash
from nst_jax.engine.run.writer import ResultWriter
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.folders import Folder, folder_at
from nst_jax.files.ledger import Record
from nst_jax.request.errors import DeviceError, NstJaxError, StoppedError
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import Options
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.taps import Architecture
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights

_TASKS_A_WORKER = 4
"""Each worker gets at least so many lists, if there are jobs enough: the last ones end together."""

_LOOK_S = 0.5
_SAY_S = 60.0


def render_on_ray(
    jobs: Iterable[Job],
    output_dir: str | os.PathLike[str],
    options: Options | None = None,
    *,
    address: str = "",
    workers: int = 0,
    handling: RunPolicy | None = None,
    progress: Progress | None = None,
    stop: StopToken | None = None,
) -> Summary:
    """Renders every job into a folder that all nodes share, except those that are up to date.

    Whatever dies, the next call goes on with what is missing.

    Args:
        jobs: Any number of jobs.
        output_dir: A path on every node, or an address.
        options: Shared by all jobs, and the defaults of those that have none of their own.
        address: `auto` or `HOST:PORT` of a cluster; empty: RAY_ADDRESS, or this machine alone.
        workers: How many; 0: as many as the cluster has GPUs, TPU hosts, or else nodes. More than
            it can hold make it grow, if it can.
        handling: What to do about accidents.
        progress: Told what happens.
        stop: Asks the run to stop.

    Raises:
        RequestError: The request is wrong in itself, Ray is not installed, the cluster is not
            reached, or another run holds the folder.
        StoppedError: The run was asked to stop, or too many jobs failed; the next run goes on.
    """
    began = time.perf_counter()
    options, handling = options or Options(), handling or RunPolicy()
    progress, stop = progress or NullProgress(), stop or StopToken()
    ray = import_ray()
    listed = fill_defaults(jobs, options)
    folder = folder_at(output_dir)
    check_outputs(listed, options, folder)
    with Cluster(ray, address) as cluster, contextlib.ExitStack() as stack:
        folder.make()
        folder.check_inside(job.output for job in listed)
        stack.enter_context(folder.lock())
        folder.remove_partial_files()
        seen: dict[str, PictureInfo] = {}
        records = folder.read_records(slim=functools.partial(slim_record, seen))
        if handling.verify:
            seen.clear()
        inputs = PictureIndex(seen, max_pixels=options.max_input_pixels)
        architecture = read_weights(find_weights(options.weights)).architecture
        whole = measure_demand(listed, options, architecture, inputs.size)
        digest = batch_hash(listed, options)
        adopt_plan(folder, digest)
        batch = WorkerConfig(os.fspath(output_dir), options, handling, whole, digest)
        kind = cluster.worker_resources(workers)
        lists = _make_tasks(listed, options, architecture, inputs, kind.count)
        known = _ResumeInfo(records, inputs)
        pool = _Pool(ray, cluster, kind, batch, known, progress, stop)
        with stop.watch():
            fault = pool.render(lists)
        summary = pool.summary(len(listed), time.perf_counter() - began)
        _write_run(folder, pool, summary)
        if fault:
            fault.summary = summary.record()
            raise fault
        return summary


@dataclasses.dataclass(frozen=True)
class _ResumeInfo:
    """What earlier runs tell.

    Attributes:
        records: Of jobs, by output.
        inputs: Of pictures.
    """

    records: Mapping[str, Record]
    inputs: PictureIndex

    def select(self, jobs: Iterable[Job]) -> tuple[dict[str, Record], dict[str, PictureInfo]]:
        """As much of it as concerns these jobs."""
        listed = list(jobs)
        records = {
            job.output: self.records[job.output] for job in listed if job.output in self.records
        }
        return records, self.inputs.find_known(each for job in listed for each in job.pictures)


@dataclasses.dataclass(eq=False)
class _Task:
    """Jobs that go to a worker together.

    Attributes:
        jobs: One or more.
        deaths: How often a worker died over them by no fault of its node.
    """

    jobs: Sequence[Job]
    failures: int = 0

    def split(self) -> list["_Task"]:
        """As it is at first, then job by job."""
        if len(self.jobs) == 1 or self.failures < 2:
            return [self]
        return [_Task([job]) for job in self.jobs]


def _make_tasks(
    jobs: Sequence[Job],
    options: Options,
    architecture: Architecture,
    inputs: PictureIndex,
    workers: int,
) -> list[_Task]:
    """Jobs that can share slots together, so that these are full; the largest first."""
    known = final_buckets(jobs, options, architecture, inputs.size)
    groups: dict[Bucket | None, list[Job]] = collections.defaultdict(list)
    for job in jobs:
        groups[known.get(job.output)].append(job)
    most = max(1, min(WAVE_JOBS, len(jobs) // (_TASKS_A_WORKER * workers)))
    lists = [
        _Task(group[first : first + most])
        for group in groups.values()
        for first in range(0, len(group), most)
    ]
    area = {output: math.prod(group.canvas) for output, group in known.items()}
    return sorted(lists, key=lambda one: -area.get(one.jobs[0].output, 0))


class _Pool:
    """Actors, what each is at, and what became of the jobs so far."""

    def __init__(
        self,
        ray: Any,
        cluster: Cluster,
        kind: WorkerResources,
        batch: WorkerConfig,
        known: _ResumeInfo,
        progress: Progress,
        stop: StopToken,
    ) -> None:
        self.tally = collections.Counter[str]()
        self.record: dict[str, Any] = {}
        self.image_steps = 0
        self.seconds = {"steps": 0.0, "compilation": 0.0}
        self._failures = 0
        self._ray = ray
        self._cluster = cluster
        self._batch = batch
        self._known = known
        self._progress = progress
        self._stop = stop
        self._waiting = collections.deque[_Task]()
        self._idle = collections.deque[Any]()
        self._running: dict[Any, tuple[Any, _Task | None]] = {}
        self._lost_nodes = cluster.lost_nodes()
        actor = ray.remote(Worker).options(max_restarts=-1, max_task_retries=0, **kind.resources)
        self._actors = [actor.remote(batch) for _ in range(kind.count)]

    def render(self, lists: Sequence[_Task]) -> NstJaxError | None:
        """Renders; returns why it ended early, or None."""
        self._waiting.extend(lists)
        jobs = sum(len(one.jobs) for one in lists)
        self._progress.started(jobs, 0)
        for actor in self._actors:
            self._ask(actor)
        try:
            for outcome in self._outcomes():
                self._take(*outcome)
        except NstJaxError as error:
            return error
        finally:
            for actor in self._actors:
                self._ray.kill(actor)
        left = sum(len(one.jobs) for one in self._waiting) + sum(
            len(one.jobs) for _, one in self._running.values() if one
        )
        if not left and not self._too_many():
            return None
        return StoppedError(
            f"stopped with {jobs - left} of {jobs} jobs finished",
            "Run the same command again to go on",
        )

    def _outcomes(self) -> Iterator[tuple[Any, Any, _Task | None]]:
        """Each end of what a worker was at, as long as there is work."""
        said = time.monotonic()
        while self._waiting or any(one for _, one in self._running.values()):
            if self._stop.requested or self._too_many():
                return
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK_S)
            for reference in ready:
                actor, given = self._running.pop(reference)
                yield reference, actor, given
                said = time.monotonic()
            if time.monotonic() - said > _SAY_S and not any(
                one for _, one in self._running.values()
            ):
                self._progress.note("waiting for the cluster to start workers")
                said = time.monotonic()

    def _take(self, reference: Any, actor: Any, given: _Task | None) -> None:
        exceptions = self._ray.exceptions
        try:
            told = self._ray.get(reference)
        except exceptions.RayTaskError as error:
            raise _own(error) from error
        except exceptions.RayError as error:
            if given is None:
                self._never_came(error)
            else:
                self._died(actor, given, error)
            return
        if given is None:
            self.record = told
        else:
            self._count(told)
        self._idle.append(actor)
        self._hand_out()

    def _hand_out(self) -> None:
        """Gives the next lists to the workers that are free."""
        while self._waiting and self._idle:
            given, actor = self._waiting.popleft(), self._idle.popleft()
            known = self._known.select(given.jobs)
            self._running[actor.render.remote(list(given.jobs), *known)] = actor, given

    def _ask(self, actor: Any) -> None:
        """Asks a worker to say when it is there; it may take a new node."""
        self._running[actor.open.options(max_task_retries=-1).remote()] = actor, None

    def _never_came(self, error: Exception) -> None:
        """Does without a worker that Ray could not start; with none left the run ends."""
        if not self._running:
            first_line = str(error).strip().split("\n")[0]
            raise StoppedError(
                f"no worker could be started on the cluster: {first_line}",
                "Look at the logs of Ray, and run the same command again to go on",
            )
        self._progress.note("the cluster could not start one of the workers")

    def _died(self, actor: Any, given: _Task, error: Exception) -> None:
        lost = self._cluster.lost_nodes()
        given.failures += lost <= self._lost_nodes
        self._lost_nodes = max(lost, self._lost_nodes)
        if len(given.jobs) == 1 and given.failures > self._batch.handling.retries:
            self._give_up(given, error)
        else:
            self._waiting.extendleft(given.split())
        jobs = "1 job" if len(given.jobs) == 1 else f"{len(given.jobs)} jobs"
        self._progress.note(f"a worker died over {jobs}; any worker takes over")
        self._ask(actor)
        self._hand_out()

    def _give_up(self, given: _Task, error: Exception) -> None:
        (job,) = given.jobs
        first_line = str(error).strip().split("\n")[0]
        fault = DeviceError(
            f"job {job.output!r} ended its worker each of {given.failures} times: {first_line}",
            "Look at the memory of the nodes, and at the logs of Ray",
        )
        _write_failure(self._batch, job, fault, given.failures)
        self.tally["failed"] += 1
        self._failures += 1
        self._progress.finished(job.output, fault)

    def _count(self, report: TaskReport) -> None:
        for job, error in report.finished:
            self.tally["failed" if error else "done"] += 1
            self._failures += error is not None
            self._progress.finished(job, error)
        self.tally["skipped"] += report.skipped
        self.tally["given_up"] += report.given_up
        self.image_steps += report.image_steps
        self.seconds["steps"] += report.step_seconds
        self.seconds["compilation"] += report.compile_seconds
        self._progress.stepped(report.image_steps)

    def _too_many(self) -> bool:
        allowed = self._batch.handling.failures_allowed
        return allowed is not None and self._failures >= allowed

    def summary(self, jobs: int, seconds: float) -> Summary:
        """The end of the run in numbers; seconds in steps are those of all workers together."""
        return Summary(
            jobs=jobs,
            done=self.tally["done"],
            failed=self.tally["failed"] + self.tally["given_up"],
            skipped=self.tally["skipped"],
            seconds=seconds,
            compile_seconds=self.seconds["compilation"],
            step_seconds=self.seconds["steps"],
            image_steps=self.image_steps,
            compiled={},
            given_up=self.tally["given_up"],
        )


def _own(error: Any) -> Exception:
    """The fault of ours that a worker raised, as it was before Ray wrapped it; else Ray's."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, NstJaxError) else error


def _write_failure(batch: WorkerConfig, job: Job, fault: NstJaxError, attempt: int) -> None:
    """Writes the ledger's line of a job over which workers died."""
    folder = folder_at(batch.output_dir)
    with ResultWriter(folder, batch.options, NullProgress()) as writer:
        writer.put(Result(0, job, error=fault, attempt=attempt))


def _write_run(folder: Folder, pool: _Pool, summary: Summary) -> None:
    phases = {name: round(value, 3) for name, value in pool.seconds.items()}
    told = {"summary": summary.record(), "phases": phases, "engine": "ray"}
    write_json(folder, RUN_NAME, {**pool.record, **told})
