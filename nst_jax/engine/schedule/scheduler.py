"""Prepared jobs through the devices, stage by stage, batch by batch.

    for each level, from coarse to fine, and each phase of it
        queue the jobs that share a program, open a batch of slots with the first of them
        step in chunks on the device; after each chunk one small transfer of progress
        a job that is over leaves its slot, and the next of the queue takes it

No file is read or written here. A job that leaves the finite numbers stands still in its
slot and comes out as failed; its neighbours don't notice. A run that is asked to stop does so
after a chunk; `standings` then says where every job is that has begun.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine.curve import LOOKS_A_STAGE
from nst_jax.engine.device.errors import device_error, is_out_of_memory, is_transient
from nst_jax.engine.device.optimizers import OptimizerKind
from nst_jax.engine.device.problem import make_problem
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.slot_batch import ChunkReport, SlotBatch, SlotInput
from nst_jax.engine.device.solver import CHECK_EVERY, State
from nst_jax.engine.device.targets import VARIATIONS, TargetCache, TargetProvider
from nst_jax.engine.device.warm_start import carried, cold_start, warm_start
from nst_jax.engine.inputs.initial_image import initial_image
from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.plan.canvas import size_text
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.schedule.active_job import ActiveJob, Rendered
from nst_jax.engine.schedule.previews import Previews, make_preview
from nst_jax.engine.schedule.snapshot import JobSnapshot, Place, from_named_leaves
from nst_jax.engine.schedule.stop import Care
from nst_jax.model.variation import Variation
from nst_jax.model.vgg import VGG
from nst_jax.request.errors import NoRoomError
from nst_jax.request.options import Options

# A chunk lasts about this long: often enough for a progress bar and an interrupt, seldom
# enough that the transfer at its end costs nothing.
_CHUNK_S = 2.0

_BACK_OFF_S = 1.0
"""Before a batch is tried again after a fault of the device; twice as long each time."""

_Queue = collections.deque[ActiveJob]


@dataclasses.dataclass
class Timing:
    """Where the renderer's seconds went, over its life."""

    steps: float = 0.0
    targets: float = 0.0
    compilation: float = 0.0
    image_steps: int = 0


class Scheduler:
    """Renders jobs on devices with one network; programs are kept between calls.

    Attributes:
        programs: Compiled so far.
        timing: Seconds so far.
        plan: Slots by group. It shrinks when a batch does not fit the device.
        care: When to stop, what to keep, how often to try again.
    """

    def __init__(
        self,
        network: VGG,
        devices: Devices,
        progress: Progress,
        *,
        options: Options,
        products: str = "default",
        previews: Previews | None = None,
        targets: Callable[[ProgramCache, Variation], TargetProvider] = TargetCache,
    ) -> None:
        self.programs = ProgramCache(network, devices, progress, products=products)
        self.timing = Timing()
        self.plan = Plan({})
        self.care = Care()
        self._underway: list[ActiveJob] = []
        self._kept_at = time.monotonic()
        self._devices = devices
        self._progress = progress
        self._previews = previews
        self._optimizer: OptimizerKind = options.optimizer
        self._targets = targets(self.programs, VARIATIONS[options.tv_loss])

    def render(
        self,
        jobs: Sequence[LoadedJob],
        standings: Mapping[int, JobSnapshot] = MappingProxyType({}),
    ) -> Iterator[Rendered]:
        """Renders jobs together; each comes out once, as soon as its last stage is done.

        Args:
            jobs: Ready for the device.
            standings: Where jobs go on, by their index; those that don't fit are passed over.
        """
        self._underway = [self._taken_up(job, standings.get(job.index)) for job in jobs]
        for place in sorted({stage.place for job in jobs for stage in job.levels}):
            for queue in _queues([one for one in self._underway if one.is_next(place)], place):
                for one in self._through(queue, place):
                    if one.is_over:
                        yield one.rendered()

    def snapshots(self) -> list[JobSnapshot]:
        """Where the jobs of the present call of `render` are, those that have begun."""
        return [standing for one in self._underway if (standing := one.standing())]

    def _taken_up(self, job: LoadedJob, standing: JobSnapshot | None) -> ActiveJob:
        """A job at its beginning, or where it stood."""
        one = ActiveJob(job)
        places = [stage.place for stage in job.levels]
        if standing is None or standing.place not in places[not standing.within :]:
            return one
        done = places.index(standing.place)
        try:
            if standing.within:
                one.held = from_named_leaves(
                    self._first_state(job, job.levels[done]), standing.arrays
                )
            else:
                before = job.levels[done - 1]
                template = carried(self._first_state(job, before), before.size)
                one.carried = from_named_leaves(template, standing.arrays)
        except ValueError:
            return ActiveJob(job)
        for step, *terms in standing.curve:
            one.curve.add(step, terms)
        one.done, one.steps, one.terms = done, standing.steps, standing.terms
        one.seconds, one.compile_seconds = standing.seconds, standing.compile_seconds
        return one

    def _through(self, queue: _Queue, place: Place) -> Iterator[ActiveJob]:
        """Takes every job of a queue through one stage; they come out in any order."""
        group = queue[0].stage(place).bucket
        while queue and not self.care.stop.requested:
            slots = self.plan.slots[group]
            alone = 0 < self.care.retries < queue[0].attempts  # a last try that blames nobody else
            others: _Queue = collections.deque() if alone else queue
            batch = [queue.popleft() for _ in range(1 if alone else min(slots, len(queue)))]
            try:
                yield from self._run(batch, others, place, slots)
            except jax.errors.JaxRuntimeError as error:
                again = self._after_fault(error, batch, group)
                # Nothing is lost but time: each job still has what the last stage left it.
                queue.extendleft(reversed(again))
                yield from (one for one in batch if one.fault)

    def _after_fault(
        self, error: Exception, batch: list[ActiveJob], group: Bucket
    ) -> list[ActiveJob]:
        """The jobs that are tried again; the others have got their fault."""
        if is_out_of_memory(error):
            return self._with_fewer_slots(batch, group)
        if not is_transient(error):
            raise error
        for one in batch:
            if one.attempts > self.care.retries:
                one.fault = device_error(one.job.name, error, one.attempts)
            else:
                one.attempts += 1
        again = [one for one in batch if not one.fault]
        if again:
            tried = again[0].attempts - 1
            first_line = str(error).split("\n")[0]
            self._progress.note(
                f"the device failed: {first_line}; trying again, {tried} of {self.care.retries}"
            )
            self.care.stop.wait(_BACK_OFF_S * 2 ** (tried - 1))
        return again

    def _with_fewer_slots(self, batch: list[ActiveJob], group: Bucket) -> list[ActiveJob]:
        slots = self.plan.slots[group]
        try:
            self.plan = self.plan.halve(group)
        except NoRoomError as fault:
            for one in batch:
                one.fault = fault
            return []
        self._progress.note(
            f"a batch of {slots} does not fit the device at {size_text(group.canvas)}; "
            f"going on with {self.plan.slots[group]}"
        )
        return batch

    def _run(
        self, batch: list[ActiveJob], queue: _Queue, place: Place, count: int
    ) -> Iterator[ActiveJob]:
        """Runs a batch of `count` slots until every job in it, or placed into it, is over.

        Args:
            batch: The jobs of the first slots; kept up to date as others take their places.
            queue: Whose jobs take the slots that become free.
            place: All jobs'.
            count: How many slots there are.
        """
        slots = self._opened(batch, place, count)
        if slots is None:
            return
        taken = np.array([one.steps_here for one in batch], np.int64)
        left = _asked(batch, place) - taken
        chunk = 1
        while left.any() and not self.care.stop.requested:
            chunk = min(chunk, _longest_chunk(batch, left, others_wait=bool(queue)))
            if self._previews:
                chunk = min(chunk, self._previews.steps_until_next(_total(batch, taken)[left > 0]))
            look, seconds = self._step(slots, chunk, batch, left)
            if self._previews:
                self._show(self._previews, slots, batch, place, taken, look.steps)
            chunk = max(1, round(chunk * _CHUNK_S / max(seconds, 1e-6)))
            self._count(int((look.steps - taken).sum()), seconds)
            taken = look.steps
            left = np.where(look.is_finished, 0, _asked(batch, place) - taken)
            # With none left the next jobs open a batch of their own.
            if left.any() and not self.care.stop.requested:
                for slot in np.flatnonzero(left == 0).tolist()[: len(queue)]:
                    # Whatever fails in here, each job is in the batch, or handed out.
                    self._take(slots, slot, batch[slot], place)
                    over, batch[slot] = batch[slot], queue.popleft()
                    yield over
                    self._place(slots, slot, batch[slot], place)
                    taken[slot] = batch[slot].steps_here
                    left[slot] = batch[slot].stage(place).steps - taken[slot]
                self._checkpoint(slots, batch)
        for one, state, rest in zip(batch, slots.take_all(), left, strict=False):
            if rest:
                one.held = state
            else:
                one.take_back(state, place)
                yield one

    def _checkpoint(self, slots: SlotBatch, batch: list[ActiveJob]) -> None:
        """Keeps every job that has begun, where that is due."""
        every = self.care.checkpoint_every
        if not every or time.monotonic() - self._kept_at < every:
            return
        for one, state in zip(batch, slots.take_all(), strict=False):
            one.held = state
        self.care.keep(self.snapshots())
        self._kept_at = time.monotonic()

    def _opened(self, batch: list[ActiveJob], place: Place, count: int) -> SlotBatch | None:
        """A batch of slots with these jobs in the first of them; None where the run stops."""
        with self._timed(batch) as lap:
            entries: list[SlotInput] = []
            for one in batch:
                if self.care.stop.requested:
                    return None
                entries.append(self._entry(one, place))
            canvas = batch[0].stage(place).canvas
            slots = SlotBatch(self.programs, self._devices, canvas, entries, count)
        self.timing.targets += lap.seconds
        return slots

    def _step(
        self, slots: SlotBatch, chunk: int, batch: list[ActiveJob], left: npt.NDArray[np.int64]
    ) -> tuple[ChunkReport, float]:
        """Runs a chunk; returns what is known of the batch's jobs after it, and its seconds."""
        moving = [one for one, steps in zip(batch, left, strict=True) if steps]
        with self._timed(moving) as lap:
            look = slots.step(chunk)
        jobs = len(batch)
        look = ChunkReport(
            look.steps[:jobs].astype(np.int64), look.is_finished[:jobs], look.terms[:jobs]
        )
        for one, steps, terms in zip(batch, look.steps.tolist(), look.terms.tolist(), strict=True):
            if one in moving:
                one.seconds += lap.seconds / len(moving)
                one.curve.add(one.steps + steps, terms)
        return look, lap.seconds

    def _show(
        self,
        previews: Previews,
        slots: SlotBatch,
        batch: list[ActiveJob],
        place: Place,
        *steps: npt.NDArray[np.integer],
    ) -> None:
        """Shows the jobs that came to a preview between two counts of a stage's steps."""
        before, after = (_total(batch, taken) for taken in steps)
        for slot in previews.are_due(before, after):
            one = batch[slot]
            with self._timed([one]) as lap:
                state = slots.take(slot)
                size = one.stage(place).size
                previews.show(make_preview(one.job, state, size, int(after[slot])))
            self.timing.targets += lap.seconds

    def _count(self, image_steps: int, seconds: float) -> None:
        self.timing.steps += seconds
        self.timing.image_steps += image_steps
        self._progress.stepped(image_steps)

    def _take(self, slots: SlotBatch, slot: int, one: ActiveJob, place: Place) -> None:
        with self._timed([one]) as lap:
            one.take_back(slots.take(slot), place)
        self.timing.targets += lap.seconds

    def _place(self, slots: SlotBatch, slot: int, one: ActiveJob, place: Place) -> None:
        with self._timed([one]) as lap:
            slots.place(slot, self._entry(one, place))
        self.timing.targets += lap.seconds

    def _entry(self, one: ActiveJob, place: Place) -> SlotInput:
        """What a job puts into its slot: where it starts and what it asks for."""
        stage, own = one.stage(place), one.job.options
        problem = make_problem(own, stage, self._targets.make_targets(one.job, stage))
        if one.held is not None:
            return SlotInput(one.held, problem)
        if one.carried is None:
            return SlotInput(self._first_state(one.job, stage), problem)
        decays = own.adam_b1, own.adam_b2
        where = stage.size, stage.canvas
        state = warm_start(one.carried, *where, optimizer=self._optimizer, decays=decays)
        return SlotInput(state, problem)

    def _first_state(self, job: LoadedJob, stage: Level) -> State:
        """The state of a job that begins at this stage."""
        return cold_start(initial_image(job, stage.size), stage.canvas, self._optimizer)

    @contextlib.contextmanager
    def _timed(self, jobs: Sequence[ActiveJob]) -> Iterator["_Lap"]:
        """Times a `with` block; compilation apart, in equal shares for the jobs it is for."""
        lap = _Lap()
        compiled_before, began = sum(self.programs.compiled.values()), time.perf_counter()
        yield lap
        compilation = sum(self.programs.compiled.values()) - compiled_before
        lap.seconds = time.perf_counter() - began - compilation
        self.timing.compilation += compilation
        for one in jobs:
            one.compile_seconds += compilation / len(jobs)


@dataclasses.dataclass
class _Lap:
    """Seconds of a timed block, compilation apart."""

    seconds: float = 0.0


def _asked(batch: list[ActiveJob], place: Place) -> npt.NDArray[np.int64]:
    return np.array([one.stage(place).steps for one in batch], np.int64)


def _total(batch: list[ActiveJob], taken: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Steps of each job over all stages, given those of this one."""
    return np.array([one.steps for one in batch], np.int64) + taken


def _longest_chunk(
    batch: list[ActiveJob], left: npt.NDArray[np.int64], *, others_wait: bool
) -> int:
    """Steps after which some slot may be free, all are over, or the curve wants a point."""
    longest = left[left > 0].min() if others_wait else left.max()
    may_converge = any(one.job.options.early_stop for one in batch)
    until_look = CHECK_EVERY if may_converge else max(CHECK_EVERY, left.max() // LOOKS_A_STAGE)
    return int(min(longest, until_look))


def _queues(underway: list[ActiveJob], place: Place) -> list[_Queue]:
    """Jobs that share a program, together; the longest first, so that none waits long."""
    groups: dict[Bucket, list[ActiveJob]] = collections.defaultdict(list)
    for one in underway:
        groups[one.stage(place).bucket].append(one)
    return [
        collections.deque(sorted(group, key=lambda one: -one.stage(place).steps))
        for group in groups.values()
    ]
