"""Prepared jobs through the devices, stage by stage, batch by batch.

    for each level, from coarse to fine, and each phase of it
        queue the jobs that share a program, open a batch of slots with the first of them
        step in chunks on the device; after each chunk one small transfer of progress
        a job that is over leaves its slot, and the next of the queue takes it

No file is read or written here. A job that leaves the finite numbers stands still in its
slot and comes out as failed; its neighbours don't notice.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine.canvas import Size, size_text
from nst_jax.engine.carrying import Carried, carried, continued, started
from nst_jax.engine.curve import LOOKS_A_STAGE, Curve, Point
from nst_jax.engine.devices import Devices
from nst_jax.engine.levels import Stage
from nst_jax.engine.optimizers import Kind
from nst_jax.engine.planner import Plan
from nst_jax.engine.prepared import PreparedJob
from nst_jax.engine.previews import Previews, preview_of
from nst_jax.engine.problems import problem_of
from nst_jax.engine.programs import Programs
from nst_jax.engine.progress import Progress
from nst_jax.engine.slots import Entry, Look, Slots
from nst_jax.engine.solver import CHECK_EVERY, State
from nst_jax.engine.starting import first_image
from nst_jax.engine.targets import VARIATIONS, Targeting, TargetMaker
from nst_jax.model.variation import Variation
from nst_jax.model.vgg import VGG
from nst_jax.spec.options import Options, Structure

# A chunk lasts about this long: often enough for a progress bar and an interrupt, seldom
# enough that the transfer at its end costs nothing.
_CHUNK_S = 2.0

Image = npt.NDArray[np.float32]

Place = tuple[int, int]
"""Where a stage stands in the order of all: level, then phase."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rendered:
    """What the device gave for one job.

    Attributes:
        job: The job.
        image: (h, w, 3) float32 in [0, 1], the average of the last iterates; of the last
            finite ones where the job failed.
        terms: The objective at the last step.
        curve: The objective on the way there.
        steps: Steps taken over all levels.
        finite: Whether the job stayed in the finite numbers.
        seconds: Its share of the time in steps.
        compile_seconds: Its share of the time in compilations.
    """

    job: PreparedJob
    image: Image
    terms: Mapping[str, float]
    curve: tuple[Point, ...]
    steps: int
    finite: bool
    seconds: float
    compile_seconds: float


@dataclasses.dataclass(eq=False)
class _Underway:
    """One job on its way through the levels."""

    job: PreparedJob
    carried: Carried | None = None
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    curve: Curve = dataclasses.field(default_factory=Curve)
    steps: int = 0
    finite: bool = True
    seconds: float = 0.0
    compile_seconds: float = 0.0

    def stage(self, place: Place) -> Stage:
        stage = self.job.stage(place)
        assert stage is not None
        return stage

    def is_over(self, place: Place) -> bool:
        return place == self.job.stages[-1].place or not self.finite

    def take_back(self, state: State, place: Place) -> None:
        """Keeps what a stage has made of the job."""
        self.carried = carried(state, self.stage(place).size)
        self.terms = {name: float(value) for name, value in state.terms._asdict().items()}
        self.steps += int(state.step)
        self.finite = bool(state.finite)

    def rendered(self) -> Rendered:
        assert self.carried is not None
        # A job that failed at its very first step has no average yet.
        image = self.carried.average if self.carried.averaged else self.carried.image
        return Rendered(
            job=self.job,
            image=np.clip(image, 0, 1),
            terms=self.terms,
            curve=self.curve.points,
            steps=self.steps,
            finite=self.finite,
            seconds=self.seconds,
            compile_seconds=self.compile_seconds,
        )


_Queue = collections.deque[_Underway]


@dataclasses.dataclass
class Timing:
    """Where the renderer's seconds went, over its life."""

    steps: float = 0.0
    targets: float = 0.0
    compilation: float = 0.0
    image_steps: int = 0


class Renderer:
    """Renders jobs on devices with one network; programs are kept between calls.

    Attributes:
        programs: Compiled so far.
        timing: Seconds so far.
        plan: Slots by canvas. It shrinks when a batch does not fit the device.
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
        targets: Callable[[Programs, Variation], Targeting] = TargetMaker,
    ) -> None:
        self.programs = Programs(network, devices, progress, products=products)
        self.timing = Timing()
        self.plan = Plan({})
        self._devices = devices
        self._progress = progress
        self._previews = previews
        self._optimizer: Kind = options.optimizer
        self._targets = targets(self.programs, VARIATIONS[options.tv_loss])

    def render(self, jobs: Sequence[PreparedJob]) -> Iterator[Rendered]:
        """Renders jobs together; each comes out once, as soon as its last stage is done."""
        underway = [_Underway(job) for job in jobs]
        for place in sorted({stage.place for job in jobs for stage in job.stages}):
            here = [one for one in underway if one.job.stage(place) and one.finite]
            for queue in _queues(here, place):
                for one in self._through(queue, place):
                    if one.is_over(place):
                        yield one.rendered()

    def _through(self, queue: _Queue, place: Place) -> Iterator[_Underway]:
        """Takes every job of a queue through one stage; they come out in any order."""
        canvas = queue[0].stage(place).canvas
        while queue:
            slots = self.plan.slots[canvas]
            batch = [queue.popleft() for _ in range(min(slots, len(queue)))]
            try:
                yield from self._run(batch, queue, place, slots)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                self.plan = self.plan.halved(canvas)
                self._progress.note(
                    f"a batch of {slots} does not fit the device at {size_text(canvas)}; "
                    f"going on with {self.plan.slots[canvas]}"
                )
                # Nothing is lost but time: each job still has what the last stage left it.
                queue.extendleft(reversed(batch))

    def _run(
        self, batch: list[_Underway], queue: _Queue, place: Place, count: int
    ) -> Iterator[_Underway]:
        """Runs a batch of `count` slots until every job in it, or placed into it, is over.

        Args:
            batch: The jobs of the first slots; kept up to date as others take their places.
            queue: Whose jobs take the slots that become free.
            place: All jobs'.
            count: How many slots there are.
        """
        slots = self._opened(batch, place, count)
        taken = np.zeros(len(batch), np.int64)
        left = _asked(batch, place)
        chunk = 1
        while left.any():
            chunk = min(chunk, _longest_chunk(batch, left, others_wait=bool(queue)))
            if self._previews:
                chunk = min(chunk, self._previews.steps_until_next(_total(batch, taken)[left > 0]))
            look, seconds = self._step(slots, chunk, batch, left)
            if self._previews:
                self._show(self._previews, slots, batch, place, taken, look.steps)
            chunk = max(1, round(chunk * _CHUNK_S / max(seconds, 1e-6)))
            self._count(int((look.steps - taken).sum()), seconds)
            taken = look.steps
            left = np.where(look.over, 0, _asked(batch, place) - taken)
            if left.any():  # else the next jobs open a batch of their own
                for slot in np.flatnonzero(left == 0).tolist()[: len(queue)]:
                    # Whatever fails in here, each job is in the batch, or handed out.
                    self._take(slots, slot, batch[slot], place)
                    over, batch[slot] = batch[slot], queue.popleft()
                    yield over
                    self._place(slots, slot, batch[slot], place)
                    taken[slot], left[slot] = 0, batch[slot].stage(place).steps
        for one, state in zip(batch, slots.take_all(), strict=False):
            one.take_back(state, place)
            yield one

    def _opened(self, batch: list[_Underway], place: Place, count: int) -> Slots:
        with self._timed(batch) as lap:
            entries = [self._entry(one, place) for one in batch]
            canvas = batch[0].stage(place).canvas
            slots = Slots(self.programs, self._devices, canvas, entries, count)
        self.timing.targets += lap.seconds
        return slots

    def _step(
        self, slots: Slots, chunk: int, batch: list[_Underway], left: npt.NDArray[np.int64]
    ) -> tuple[Look, float]:
        """Runs a chunk; returns what is known of the batch's jobs after it, and its seconds."""
        moving = [one for one, steps in zip(batch, left, strict=True) if steps]
        with self._timed(moving) as lap:
            look = slots.step(chunk)
        jobs = len(batch)
        look = Look(look.steps[:jobs].astype(np.int64), look.over[:jobs], look.terms[:jobs])
        for one, steps, terms in zip(batch, look.steps.tolist(), look.terms.tolist(), strict=True):
            if one in moving:
                one.seconds += lap.seconds / len(moving)
                one.curve.add(one.steps + steps, terms)
        return look, lap.seconds

    def _show(
        self,
        previews: Previews,
        slots: Slots,
        batch: list[_Underway],
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
                previews.show(preview_of(one.job, state, size, int(after[slot])))
            self.timing.targets += lap.seconds

    def _count(self, image_steps: int, seconds: float) -> None:
        self.timing.steps += seconds
        self.timing.image_steps += image_steps
        self._progress.stepped(image_steps)

    def _take(self, slots: Slots, slot: int, one: _Underway, place: Place) -> None:
        with self._timed([one]) as lap:
            one.take_back(slots.take(slot), place)
        self.timing.targets += lap.seconds

    def _place(self, slots: Slots, slot: int, one: _Underway, place: Place) -> None:
        with self._timed([one]) as lap:
            slots.place(slot, self._entry(one, place))
        self.timing.targets += lap.seconds

    def _entry(self, one: _Underway, place: Place) -> Entry:
        """What a job puts into its slot: where it starts and what it asks for."""
        stage, own = one.stage(place), one.job.options
        problem = problem_of(own, stage, self._targets.targets(one.job, stage))
        if one.carried is None:
            first = first_image(one.job, stage.size)
            return Entry(started(first, stage.canvas, self._optimizer), problem)
        decays = own.adam_b1, own.adam_b2
        where = stage.size, stage.canvas
        state = continued(one.carried, *where, optimizer=self._optimizer, decays=decays)
        return Entry(state, problem)

    @contextlib.contextmanager
    def _timed(self, jobs: Sequence[_Underway]) -> Iterator["_Lap"]:
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


def _asked(batch: list[_Underway], place: Place) -> npt.NDArray[np.int64]:
    return np.array([one.stage(place).steps for one in batch], np.int64)


def _total(batch: list[_Underway], taken: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Steps of each job over all stages, given those of this one."""
    return np.array([one.steps for one in batch], np.int64) + taken


def _longest_chunk(
    batch: list[_Underway], left: npt.NDArray[np.int64], *, others_wait: bool
) -> int:
    """Steps after which some slot may be free, all are over, or the curve wants a point."""
    longest = left[left > 0].min() if others_wait else left.max()
    may_converge = any(one.job.options.early_stop for one in batch)
    until_look = CHECK_EVERY if may_converge else max(CHECK_EVERY, left.max() // LOOKS_A_STAGE)
    return int(min(longest, until_look))


def _queues(underway: list[_Underway], place: Place) -> list[_Queue]:
    """Jobs that share a program, together; the longest first, so that none waits long."""
    groups: dict[tuple[Size, int, Structure], list[_Underway]] = collections.defaultdict(list)
    for one in underway:
        stage = one.stage(place)
        groups[stage.canvas, stage.regions, one.job.options.structure].append(one)
    return [
        collections.deque(sorted(group, key=lambda one: -one.stage(place).steps))
        for group in groups.values()
    ]
