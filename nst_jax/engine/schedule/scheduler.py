"""Loaded jobs through the devices, level by level, batch by batch.

    for each level, from coarse to fine
        queue the jobs that share a program, open a batch of slots
        step in chunks on the devices; after each chunk one small transfer of progress
        a job that is through leaves its slot, and the next of the queue takes it

The devices never wait for the host: a chunk's report is read when the next one has been
dispatched, and with it whatever stands between the two. How many steps a job has left is known
without a report, unless it ends early; then its slot is refilled one chunk later, and it stands
still in the meantime.

No file is read or written here. A job that leaves the finite numbers comes out as failed; its
neighbours don't notice. A run that is asked to stop does so after the chunks that are under way;
`snapshots` then says where every job is that has begun.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.recent_sessions import forget_programs
from nst_jax.engine.device.targets import TargetProvider
from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.schedule.active_job import ActiveJob, copy_to_host, restore_job
from nst_jax.engine.schedule.previews import Previews, Steps, make_preview
from nst_jax.engine.schedule.recovery import Recovery
from nst_jax.engine.schedule.running_batch import DispatchedChunk, RunningBatch, unbatch
from nst_jax.engine.schedule.slot_loader import SlotLoader
from nst_jax.engine.schedule.snapshot import JobSnapshot
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.engine.schedule.timing import Stopwatch, Timing
from nst_jax.request.options import OptimizerKind
from nst_jax.request.run_policy import RunPolicy

_CHUNK_S = 1.0
"""A chunk lasts about this long, so that a progress bar moves and a request to stop is heard within
two seconds: one chunk runs while the next one is dispatched."""

NO_RETRIES = RunPolicy(retries=0, checkpoint_every=0.0)
"""No retries, no checkpoints."""

Queue = collections.deque[ActiveJob]


class _Work(NamedTuple):
    """What the devices are at: the jobs, and what these have alike."""

    jobs: Sequence[ActiveJob | None]
    bucket: Bucket | None


class Scheduler:
    """Takes jobs through their levels on the devices.

    Attributes:
        programs: Compiled so far; they may be shared by schedulers of one network.
        progress: Told what happens.
        stop: Whether the run shall stop.
        stopwatch: Where the seconds go.
        threads_ahead: How many may compile its programs ahead of need.
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
        threads_ahead: int = 0,
        bucket_count: int = 0,
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
            threads_ahead: See the attribute.
            bucket_count: How many buckets its jobs will go through, as far as is known.
        """
        self.programs = programs
        self.threads_ahead = threads_ahead
        self.stop = stop or StopToken()
        self.stopwatch = Stopwatch(programs, timing)
        self._loader = SlotLoader(programs, targets, optimizer)
        self._recovery = Recovery(plan, policy.retries, self.stop, progress, on_plan_change)
        self._optimizer: OptimizerKind = optimizer
        self.progress = progress
        self._previews = previews
        self._checkpoint_every = policy.checkpoint_every if save else 0.0
        self._save = save
        self._saved_at = time.monotonic()
        self._jobs: list[ActiveJob] = []
        self._under_way: DispatchedChunk | None = None
        self._at_work = _Work((), None)  # to blame where the devices fail
        self._step_seconds: dict[Bucket, float] = {}
        self._bucket_count = bucket_count
        self._opened: set[Bucket] = set()

    @property
    def plan(self) -> Plan:
        """Slots by bucket, as they are now."""
        return self._recovery.plan

    @property
    def timing(self) -> Timing:
        """Where the seconds went so far."""
        return self.stopwatch.timing

    def render(
        self,
        jobs: Sequence[LoadedJob],
        snapshots: Mapping[int, JobSnapshot] = MappingProxyType({}),
    ) -> Iterator[ActiveJob]:
        """Renders jobs together; each comes out once, as soon as its last level is done.

        Those that the devices are through with when this ends, but whose report was not read, come
        out of the next call, or of `finish`.

        Args:
            jobs: Ready for the device.
            snapshots: Where jobs go on, by their index; those that don't fit are passed over.
        """
        self._jobs = [one for one in self._jobs if not one.is_finished]
        self._jobs += [restore_job(job, snapshots.get(job.index), self._optimizer) for job in jobs]
        while not self.stop.is_requested and (level := self._next_level()):
            yield from self._recover(lambda level=level: self._run_level(level))

    def finish(self) -> Iterator[ActiveJob]:
        """Reads what is under way; where that fails its jobs are rendered again."""
        yield from self._recover(self._settle)
        yield from self.render(())
        if self._under_way:
            yield from self.finish()

    def snapshots(self) -> list[JobSnapshot]:
        """Where the jobs are that have begun and are not finished, as far as the host knows."""
        return [snapshot for one in self._jobs if (snapshot := one.snapshot())]

    def _next_level(self) -> Level | None:
        """A level of jobs that are to step next: those of the coarsest level go first."""
        ready = [one.level for one in self._jobs if one.has_level_left]
        return min(ready, key=lambda level: level.index) if ready else None

    def _queue(self, level: Level) -> Queue:
        """The jobs that may share a batch there; the longest first, so that none waits long."""
        alike = level.index, level.batch_key
        members = [
            one
            for one in self._jobs
            if one.has_level_left and (one.level.index, one.level.batch_key) == alike
        ]
        return Queue(sorted(members, key=lambda one: (-one.attempts, -one.level.steps)))

    def _recover(self, run: Callable[[], Iterator[ActiveJob]]) -> Iterator[ActiveJob]:
        """Lets something run; where the devices fail, jobs go back to what the host has of them."""
        try:
            yield from run()
        except jax.errors.JaxRuntimeError as error:
            jobs, bucket = self._at_work
            assert bucket is not None
            forget_programs()  # the memory of others is needed, or no later call may trust ours
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                yield from self._settle()  # what was well before
            self._under_way = None
            self.stopwatch.drop_chunks()
            self._loader.forget_targets()
            blamed = [one for one in jobs if one and not one.is_finished]
            for one in self._jobs:
                one.roll_back()
            self._recovery.handle(error, blamed, bucket)
            yield from (one for one in blamed if one.fault)

    def _run_level(self, level: Level) -> Iterator[ActiveJob]:
        """Takes every job that is like one there through it; they come out in any order."""
        waiting, bucket = self._queue(level), level.bucket
        is_alone = self._recovery.must_run_alone(waiting[0])
        if is_alone:
            yield from self._settle()
        first = waiting.popleft()
        if first.has_level_left:
            yield from self._run_batch(bucket, first, Queue() if is_alone else waiting)
        if is_alone or self._previews:
            yield from self._settle()

    def _run_batch(self, bucket: Bucket, first: ActiveJob, waiting: Queue) -> Iterator[ActiveJob]:
        """Runs a batch of slots until all jobs that wait have gone through it."""
        batch = self._open_batch(bucket, first, waiting)
        while not self.stop.is_requested:
            yield from self._step(batch, others_wait=bool(waiting))
            self._release_jobs(batch)
            self._refill(batch, waiting)
            if not batch.is_busy:
                break
            self._checkpoint(batch)
        self._keep_jobs(batch)
        batch.close()

    def _open_batch(self, bucket: Bucket, first: ActiveJob, waiting: Queue) -> RunningBatch:
        """Slots on the devices, filled as far as there are jobs."""
        self._tell_opening(bucket, first.level)
        num_slots, jobs = self.plan.slots[bucket], [first]
        while len(jobs) < num_slots and (new := self._pop_job(waiting)):
            jobs.append(new)
        batch = RunningBatch(bucket, jobs)
        self._at_work = _Work(batch.jobs, bucket)
        with self.stopwatch.beside_steps(jobs):
            self._loader.fill_batch(batch, num_slots)
        return batch

    def _tell_opening(self, bucket: Bucket, level: Level) -> None:
        """Says what is prepared, the first time that it is."""
        if bucket not in self._opened:
            self._opened.add(bucket)
            number = len(self._opened)
            height, width = level.size
            self.progress.on_prepare(f"{width}x{height}", number, max(number, self._bucket_count))

    def _pop_job(self, waiting: Queue) -> ActiveJob | None:
        """The next job of a queue; None where none is left that may have neighbours."""
        while waiting and not self._recovery.must_run_alone(waiting[0]):
            one = waiting.popleft()
            if one.has_level_left:  # it may have failed since it was queued
                return one
        return None

    def _step(self, batch: RunningBatch, *, others_wait: bool) -> Iterator[ActiveJob]:
        """Dispatches a chunk; then reads the one before it, and hands out who is finished by it."""
        taken = batch.total_steps
        with self.stopwatch.time_dispatch([one for one in batch.jobs if one]):
            chunk = batch.step(self._chunk_length(batch, others_wait=others_wait))
        self.stopwatch.begin_chunk()
        yield from self._settle()
        self._at_work, self._under_way = _Work(batch.jobs, batch.bucket), chunk
        # How long a chunk shall be is not known before the first; a preview is due after each.
        if batch.bucket not in self._step_seconds or self._previews:
            self._read(chunk)
        if self._previews:
            self._show(self._previews, batch, taken)

    def _chunk_length(self, batch: RunningBatch, *, others_wait: bool) -> int:
        length = batch.longest_chunk(others_wait=others_wait)
        if self._previews:
            moving = batch.total_steps[batch.left > 0]
            length = min(length, self._previews.steps_until_next(moving))
        seconds = self._step_seconds.get(batch.bucket)
        return min(length, 1 if seconds is None else max(1, round(_CHUNK_S / max(seconds, 1e-6))))

    def _settle(self) -> Iterator[ActiveJob]:
        """Waits for the chunk that is under way and hands out who is finished by it."""
        chunk, self._under_way = self._under_way, None
        if chunk is None:
            return
        self._at_work = _Work(chunk.jobs, chunk.batch.bucket)
        try:
            self._read(chunk)
            with self.stopwatch.time_waiting("device"):
                chunk.confirm_jobs()
        except jax.errors.JaxRuntimeError:
            yield from chunk.finished
            raise
        if chunk.is_checkpoint and self._save:
            self._save(self.snapshots())
            self.stop.saved_at = time.time()
        yield from chunk.finished

    def _read(self, chunk: DispatchedChunk) -> None:
        """Reads a chunk's report, notes it with the jobs, and tells of it."""
        if chunk.report:
            return
        seconds = self.stopwatch.end_chunk(chunk.read)
        self._step_seconds[chunk.batch.bucket] = seconds / chunk.num_steps
        image_steps = chunk.update_jobs(seconds)
        self.timing.image_steps += image_steps
        self.progress.on_step(image_steps)

    def _release_jobs(self, batch: RunningBatch) -> None:
        """Lets go of the jobs that are through: asks for what follows their level."""
        chunk = self._under_way
        assert chunk is not None
        for slot, one in batch.through_jobs():
            if not one.is_finished:  # it has not failed
                with self.stopwatch.beside_steps([one]):
                    follows = one.leave_level(batch.take(slot), self.programs)
                    chunk.leaving.append((slot, one, follows))
            batch.jobs[slot] = None

    def _refill(self, batch: RunningBatch, waiting: Queue) -> None:
        """Gives the slots that are free to the next jobs."""
        for slot, one in enumerate(batch.jobs):
            if one:
                continue
            if self.stop.is_requested or not (new := self._pop_job(waiting)):
                return
            with self.stopwatch.beside_steps([new]):
                self._loader.refill_slot(batch, slot, new)

    def _keep_jobs(self, batch: RunningBatch) -> None:
        """Asks for a copy of every job that has steps to take; such is there when the run stops."""
        chunk = self._under_way
        if chunk and chunk.batch is batch:  # else the run stopped before the first step
            chunk.keeping += [
                (one, copy_to_host(batch.take(slot)))
                for slot, one in batch.moving_jobs()
                if not one.is_finished
            ]

    def _show(self, previews: Previews, batch: RunningBatch, before: Steps) -> None:
        """Shows the jobs that came to a preview since they had taken these steps."""
        after = batch.total_steps
        for slot in previews.list_due(before, after):
            one = batch.jobs[slot]
            if one is None or one.is_finished:
                continue
            with self.stopwatch.beside_steps([one]):
                state = unbatch(batch.take(slot))
                previews.show(make_preview(one.loaded, state, one.level, int(after[slot])))

    def _checkpoint(self, batch: RunningBatch) -> None:
        """Asks for a copy of every job that has begun, where that is due."""
        every = self._checkpoint_every
        if not every or self._under_way is None or time.monotonic() - self._saved_at < every:
            return
        self._keep_jobs(batch)
        self._under_way.is_checkpoint = True
        self._saved_at = time.monotonic()
