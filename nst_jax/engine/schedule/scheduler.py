"""Loaded jobs through the devices, level by level, batch by batch.

    for each level, from coarse to fine
        queue the jobs that share a program, open a batch of slots with the first of them
        step in chunks on the device; after each chunk one small transfer of progress
        a job that is through leaves its slot, and the next of the queue takes it

No file is read or written here. A job that leaves the finite numbers stands still in its
slot and comes out as failed; its neighbours don't notice. A run that is asked to stop does so
after a chunk; `snapshots` then says where every job is that has begun.
"""

import collections
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import jax

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.recent_sessions import (
    CompiledSession,
    forget_programs,
    recent_session,
)
from nst_jax.engine.device.targets import TargetCache, TargetProvider
from nst_jax.engine.inputs.fingerprint import shared_options
from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.schedule.active_job import ActiveJob, restore_job
from nst_jax.engine.schedule.previews import Preview, Previews, make_preview
from nst_jax.engine.schedule.recovery import Recovery
from nst_jax.engine.schedule.running_batch import RunningBatch, Steps
from nst_jax.engine.schedule.slot_loader import SlotLoader
from nst_jax.engine.schedule.snapshot import JobSnapshot
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.engine.schedule.timing import Stopwatch, Timing
from nst_jax.request.options import OptimizerKind, Options
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.taps import deepest_tap

# A chunk lasts about this long: often enough for a progress bar and an interrupt, seldom
# enough that the transfer at its end costs nothing.
_CHUNK_S = 2.0

NO_RETRIES = RunPolicy(retries=0, checkpoint_every=0.0)
"""No retries, no checkpoints."""

Queue = collections.deque[ActiveJob]


class Scheduler:
    """Takes jobs through their levels on the devices.

    Attributes:
        programs: Compiled so far; they may be shared by schedulers of one network.
        progress: Told what happens.
        stop: Whether the run shall stop.
    """

    def __init__(
        self,
        programs: ProgramCache,
        targets: TargetProvider,
        plan: Plan,
        progress: Progress,
        *,
        optimizer: OptimizerKind = "adam",
        policy: RunPolicy = NO_RETRIES,
        stop: StopToken | None = None,
        save: Callable[[Sequence[JobSnapshot]], object] | None = None,
        on_plan_change: Callable[[Plan], object] | None = None,
        previews: Previews | None = None,
        timing: Timing | None = None,
    ) -> None:
        """A scheduler of one run.

        Args:
            programs: With the network, on the devices.
            targets: Makes what the jobs' images are compared with.
            plan: Slots by bucket.
            progress: Told what happens.
            optimizer: What moves the pixels.
            policy: `retries` and `checkpoint_every` count.
            stop: Asks the run to stop.
            save: Keeps snapshots, in a file or elsewhere; called every `checkpoint_every`.
            on_plan_change: Called with the plan when it has shrunk, because a batch did not fit.
            previews: When the running jobs are shown, and to whom.
            timing: Where the seconds are added up; None: a new one.
        """
        self.programs = programs
        self.stop = stop or StopToken()
        self._stopwatch = Stopwatch(programs, timing)
        self._loader = SlotLoader(programs, targets, optimizer)
        self._recovery = Recovery(plan, policy.retries, self.stop, progress, on_plan_change)
        self._optimizer: OptimizerKind = optimizer
        self.progress = progress
        self._previews = previews
        self._checkpoint_every = policy.checkpoint_every if save else 0.0
        self._save = save
        self._saved_at = time.monotonic()
        self._jobs: list[ActiveJob] = []

    @property
    def plan(self) -> Plan:
        """Slots by bucket, as they are now."""
        return self._recovery.plan

    @property
    def timing(self) -> Timing:
        """Where the seconds went so far."""
        return self._stopwatch.timing

    def render(
        self,
        jobs: Sequence[LoadedJob],
        snapshots: Mapping[int, JobSnapshot] = MappingProxyType({}),
    ) -> Iterator[ActiveJob]:
        """Renders jobs together; each comes out once, as soon as its last level is done.

        Args:
            jobs: Ready for the device.
            snapshots: Where jobs go on, by their index; those that don't fit are passed over.
        """
        self._jobs = [restore_job(job, snapshots.get(job.index), self._optimizer) for job in jobs]
        for index in sorted({level.index for job in jobs for level in job.levels}):
            here = [one for one in self._jobs if not one.is_finished and one.level.index == index]
            for bucket, waiting in _sort_into_buckets(here).items():
                for one in self._run_bucket(bucket, waiting):
                    if one.is_finished:
                        yield one

    def snapshots(self) -> list[JobSnapshot]:
        """Where the jobs of the present call of `render` are, those that have begun."""
        return [snapshot for one in self._jobs if (snapshot := one.snapshot())]

    def _run_bucket(self, bucket: Bucket, waiting: Queue) -> Iterator[ActiveJob]:
        """Takes every job of a bucket through its level; they come out in any order."""
        while waiting and not self.stop.is_requested:
            alone = self._recovery.must_run_alone(waiting[0])
            num_slots = self.plan.slots[bucket]
            jobs = [waiting.popleft() for _ in range(1 if alone else min(num_slots, len(waiting)))]
            try:
                yield from self._run_batch(jobs, Queue() if alone else waiting, num_slots)
            except jax.errors.JaxRuntimeError as error:
                forget_programs()  # the memory of others is needed, or no later call may trust ours
                # Each goes on from its host state: the level's start, or the last checkpoint.
                waiting.extendleft(reversed(self._recovery.jobs_to_retry(error, jobs, bucket)))
                yield from (one for one in jobs if one.fault)

    def _run_batch(
        self, jobs: list[ActiveJob], waiting: Queue, num_slots: int
    ) -> Iterator[ActiveJob]:
        """Runs a batch of `num_slots` slots until every job in it, or placed into it, is through.

        Args:
            jobs: Of the first slots; kept up to date as others take their places.
            waiting: Whose jobs take the slots that become free.
            num_slots: How many slots there are.
        """
        with self._stopwatch.beside_steps(jobs):
            slot_batch = self._loader.open_batch(jobs, num_slots, self.stop)
        if slot_batch is None:
            return
        batch, chunk = RunningBatch(slot_batch, jobs), 1
        while batch.is_busy and not self.stop.is_requested:
            chunk = min(chunk, batch.longest_chunk(others_wait=bool(waiting)))
            if self._previews:
                moving = batch.total_steps[batch.left > 0]
                chunk = min(chunk, self._previews.steps_until_next(moving))
            chunk = self._step(batch, chunk)
            # Where nobody here still steps, the jobs that wait get a new batch.
            if batch.is_busy and not self.stop.is_requested:
                yield from self._refill(batch, waiting)
                self._checkpoint(batch)
        for one, state, steps in zip(jobs, slot_batch.take_all(), batch.left, strict=False):
            if steps:  # the run stops
                one.state = state
            else:
                with self._stopwatch.beside_steps([one]):
                    one.finish_level(state)
                yield one

    def _step(self, batch: RunningBatch, chunk: int) -> int:
        """Runs a chunk, tells of it, and shows previews; the length of the next one."""
        before = batch.total_steps
        with self._stopwatch.measure(batch.moving_jobs) as lap:
            report = batch.step(chunk)
        image_steps = batch.update(report, lap.seconds)
        if self._previews:
            self._show(self._previews, batch, before)
        self.timing.steps += lap.seconds
        self.timing.image_steps += image_steps
        self.progress.on_step(image_steps)
        return max(1, round(chunk * _CHUNK_S / max(lap.seconds, 1e-6)))

    def _refill(self, batch: RunningBatch, waiting: Queue) -> Iterator[ActiveJob]:
        """Gives free slots to the next jobs, and hands out those that had them."""
        for slot in batch.free_slots()[: len(waiting)]:
            done = batch.jobs[slot]
            with self._stopwatch.beside_steps([done]):
                done.finish_level(batch.slot_batch.take(slot))
            # Whatever fails from here on, each job is in the batch, or handed out.
            batch.jobs[slot] = waiting.popleft()
            yield done
            new = batch.jobs[slot]
            with self._stopwatch.beside_steps([new]):
                batch.slot_batch.place(slot, self._loader.make_input(new))
            batch.start(slot)

    def _show(self, previews: Previews, batch: RunningBatch, before: Steps) -> None:
        """Shows the jobs that came to a preview since they had taken these steps."""
        after = batch.total_steps
        for slot in previews.list_due(before, after):
            one = batch.jobs[slot]
            with self._stopwatch.beside_steps([one]):
                state = batch.slot_batch.take(slot)
                previews.show(make_preview(one.loaded, state, one.level.size, int(after[slot])))

    def _checkpoint(self, batch: RunningBatch) -> None:
        """Keeps every job that has begun, where that is due."""
        every = self._checkpoint_every
        if not every or self._save is None or time.monotonic() - self._saved_at < every:
            return
        for one, state in zip(batch.jobs, batch.slot_batch.take_all(), strict=False):
            one.state = state
        self._save(self.snapshots())
        self._saved_at = time.monotonic()


def _sort_into_buckets(jobs: Iterable[ActiveJob]) -> dict[Bucket, Queue]:
    """Jobs that share a program, together; the longest first, so that none waits long."""
    buckets: dict[Bucket, list[ActiveJob]] = collections.defaultdict(list)
    for one in jobs:
        buckets[one.level.bucket].append(one)
    return {
        bucket: Queue(sorted(members, key=lambda one: -one.level.steps))
        for bucket, members in buckets.items()
    }


def make_programs(
    session: Session,
    jobs: Sequence[ExaminedJob],
    progress: Progress,
    taps: Iterable[str] = (),
    *,
    keep: bool = False,
) -> ProgramCache:
    """A cache of programs whose network reaches every tap of the jobs.

    Args:
        session: What the jobs share.
        jobs: What will be rendered.
        progress: Told of compilations.
        taps: Canonical taps of jobs that will come later.
        keep: Whether to begin with what earlier calls have compiled, and leave it to later ones;
            else it is empty.
    """
    needed = {*taps} | {
        tap for one in jobs for tap in (*one.options.content_taps, *one.options.style_taps)
    }
    compiled = recent_session(_session_key(session, needed)) if keep else CompiledSession()
    with compiled.lock:
        network = compiled.networks.get(1) or session.network(needed)
        return ProgramCache(
            network,
            session.devices,
            progress,
            products=session.precision.products,
            session=compiled,
        )


_NO_PART_OF_PROGRAMS = ("size", "levels", "bit_depth")
"""Of the options that all jobs share: a program's name says how large its pictures are."""

_DOUBLE_PRECISION = "jax_enable_x64"


def _session_key(session: Session, taps: Iterable[str]) -> Hashable:
    """Whatever networks and programs follow from, by content."""
    static = shared_options(session.options)
    return (
        session.weights.content_sha256,
        deepest_tap(taps, session.weights.architecture),
        session.precision.name,
        tuple(session.devices.mesh.devices.flat),
        tuple((name, static[name]) for name in static if name not in _NO_PART_OF_PROGRAMS),
        getattr(jax.config, _DOUBLE_PRECISION),
    )


def make_scheduler(
    session: Session,
    jobs: Sequence[ExaminedJob],
    plan: Plan,
    progress: Progress,
    *,
    programs: ProgramCache | None = None,
    targets: TargetProvider | None = None,
    policy: RunPolicy = NO_RETRIES,
    stop: StopToken | None = None,
    save: Callable[[Sequence[JobSnapshot]], object] | None = None,
    on_plan_change: Callable[[Plan], object] | None = None,
    show: Callable[[Preview], None] | None = None,
    timing: Timing | None = None,
) -> Scheduler:
    """A scheduler for the jobs of a session; see `Scheduler`.

    Args:
        session: What the jobs share.
        jobs: What will be rendered.
        plan: Slots by bucket.
        progress: Told what happens.
        programs: Of an earlier scheduler of the session; None: those of the last calls, and new
            ones.
        targets: Likewise; None: a new cache of content and style targets.
        policy: What to do about accidents.
        stop: Asks the run to stop.
        save: Keeps snapshots.
        on_plan_change: Called with a plan that has shrunk.
        show: Gets previews, where the session's options ask for them.
        timing: Where the seconds are added up.
    """
    options: Options = session.options
    programs = programs or make_programs(session, jobs, progress, keep=True)
    every = options.preview_every
    return Scheduler(
        programs,
        targets or TargetCache(programs, options),
        plan,
        progress,
        optimizer=options.optimizer,
        policy=policy,
        stop=stop,
        save=save,
        on_plan_change=on_plan_change,
        previews=Previews(every, show) if every and show else None,
        timing=timing,
    )
