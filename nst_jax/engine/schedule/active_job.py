"""One job in flight: the level that it is in, and the solver's state there.

The state stays on the device from the first step to the last. When a level is over the next one's
start is made there at once, before anybody has read how the last steps went; that is confirmed
later. The host keeps a copy of each level's start and of each checkpoint, by which no job is lost
with a device.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.solver import State
from nst_jax.engine.device.warm_start import cold_start
from nst_jax.engine.inputs.initial_image import initial_image
from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.inputs.placed_image import lift_from_canvas, turn
from nst_jax.engine.plan.levels import Level
from nst_jax.engine.results import LossCurve
from nst_jax.engine.schedule.snapshot import JobSnapshot, from_named_leaves, to_named_leaves
from nst_jax.model.objective import Terms
from nst_jax.request.errors import JobError
from nst_jax.request.options import OptimizerKind


@dataclasses.dataclass(frozen=True, eq=False)
class KeptState:
    """What the host has of a job: all that its further steps follow from.

    Attributes:
        levels_done: How many levels were behind it.
        state: Host arrays without a slot axis; None: it had not begun.
    """

    levels_done: int = 0
    state: State | None = None


@dataclasses.dataclass(eq=False)
class ActiveJob:
    """One job in flight.

    Attributes:
        loaded: The job, its pictures loaded.
        levels_done: How many of its levels are behind it, as far as the device was asked.
        state: Where its level starts, on the device; None where it is in a slot, or where only
            the host has it.
        kept: The host's last copy.
        image: (h, w, 3) float32 in [0, 1], the average of the last iterates; None until it has
            gone through all levels.
        losses: The objective at the end of the level before.
        curve: The objective on the way.
        steps_before: Steps taken in the levels behind it, as far as the host knows.
        steps_here: Steps taken in the level after those, likewise.
        is_finite: Whether it stayed in the finite numbers.
        seconds: Its share of the time in steps.
        compile_seconds: Its share of the time in compilations.
        fault: What the device said of this job even when it was tried again.
        attempts: How often it was tried.
    """

    loaded: LoadedJob
    levels_done: int = 0
    state: State | None = None
    kept: KeptState = KeptState()
    image: npt.NDArray[np.float32] | None = None
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    curve: LossCurve = dataclasses.field(default_factory=LossCurve)
    steps_before: int = 0
    steps_here: int = 0
    is_finite: bool = True
    seconds: float = 0.0
    compile_seconds: float = 0.0
    fault: JobError | None = None
    attempts: int = 1

    @property
    def level(self) -> Level:
        """The level that it is in, or enters next."""
        return self.loaded.levels[self.levels_done]

    @property
    def has_level_left(self) -> bool:
        """Whether there is a level that it is in, or enters next."""
        return not self.is_finished and self.levels_done < len(self.loaded.levels)

    @property
    def is_finished(self) -> bool:
        """Whether it has its result, or has failed."""
        return self.image is not None or not self.is_finite or self.fault is not None

    @property
    def first_step(self) -> int:
        """Steps that its start has taken in its level already: a checkpoint's may have some."""
        state = self.kept.state if self.kept.levels_done == self.levels_done else None
        return 0 if state is None else int(state.step)

    def pop_start(self, optimizer: OptimizerKind) -> State:
        """Where its next step starts; what the device has of it is the caller's from now on."""
        state, self.state = self.state, None
        if state is not None:
            return state
        if self.kept.state is not None:
            return self.kept.state
        first = self.loaded.first_image
        if first is None:
            first = initial_image(self.loaded, self.level.size)
        first = turn(first, self.loaded.is_transposed)
        return cold_start(first, self.level.canvas, optimizer)

    def leave_level(self, state: State, programs: ProgramCache) -> Any:
        """Asks the device for what follows its level, and for a copy of that on the host.

        A job of grey pictures goes on without colours, or they would add up to speckle.

        Args:
            state: The level's last, as a batch of one on the first device.
            programs: Those of the run.

        Returns:
            What `confirm_level` shall get: the next level's start, or the last one's average.
        """
        here, own = self.level, self.loaded.options
        self.levels_done += 1
        if not self.has_level_left:
            return copy_to_host(state.average)
        self.state = programs.next_level(
            state,
            (here.size_on_canvas, self.level.size_on_canvas),
            (here.canvas, self.level.canvas),
            (own.adam_b1, own.adam_b2),
            is_grey=self.loaded.is_grey,
        )
        return copy_to_host(self.state)

    def confirm_level(self, losses: Sequence[float], follows: Any) -> None:
        """Notes how a level has ended, once the device has come so far.

        Args:
            losses: The objective at its last step; see `Terms`.
            follows: What `leave_level` gave.
        """
        self.losses = dict(zip(Terms._fields, map(float, losses), strict=True))
        self.steps_before, self.steps_here = self.steps_before + self.steps_here, 0
        if not self.is_finite:
            self.state, self.kept = None, KeptState()
        elif isinstance(follows, State):
            self.keep(self.kept.levels_done + 1, follows)
        else:
            lifted = lift_from_canvas(np.asarray(follows)[0], self.loaded.levels[-1])
            self.image = np.clip(lifted, 0, 1, order="C")
            self.state, self.kept = None, KeptState()

    def keep(self, levels_done: int, state: State) -> None:
        """Keeps a state on the host, once the device has come so far."""
        self.kept = KeptState(levels_done, jax.tree.map(np.asarray, state))

    def roll_back(self) -> None:
        """Goes back to the host's copy; what the device had is lost, or is not to be trusted."""
        self.levels_done, self.state = self.kept.levels_done, None
        self.steps_here = self.first_step

    def snapshot(self) -> JobSnapshot | None:
        """What the host has of the job; None where nothing is lost by beginning it again."""
        kept = self.kept
        if kept.state is None or self.is_finished:
            return None
        return JobSnapshot(
            index=self.loaded.index,
            level=self.loaded.levels[kept.levels_done].index,
            steps=self.steps_before,
            seconds=self.seconds,
            compile_seconds=self.compile_seconds,
            losses=self.losses,
            curve=self.curve.points,
            arrays=to_named_leaves(kept.state),
            is_transposed=self.loaded.is_transposed,
        )


def copy_to_host(tree: Any) -> Any:
    """The same arrays, on their way to the host while the device goes on."""
    for leaf in jax.tree.leaves(tree):
        leaf.copy_to_host_async()
    return tree


def restore_job(
    job: LoadedJob, snapshot: JobSnapshot | None, optimizer: OptimizerKind
) -> ActiveJob:
    """A job where a snapshot has it; at its beginning where that doesn't fit, or there is none."""
    active = ActiveJob(job)
    numbers: Sequence[int] = [level.index for level in job.levels]
    if snapshot is None or snapshot.level not in numbers:
        return active
    if snapshot.is_transposed != job.is_transposed:
        return active
    done = numbers.index(snapshot.level)
    template = cold_start(np.zeros((1, 1, 3), np.float32), job.levels[done].canvas, optimizer)
    try:
        active.keep(done, from_named_leaves(template, snapshot.arrays))
    except ValueError:
        return active
    for step, *losses in snapshot.curve:
        active.curve.add(step, losses)
    active.roll_back()
    active.steps_before, active.losses = snapshot.steps, snapshot.losses
    active.seconds, active.compile_seconds = snapshot.seconds, snapshot.compile_seconds
    return active
