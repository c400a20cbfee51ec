"""One job in flight: the level that it is in, and the solver's state there."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.solver import State
from nst_jax.engine.device.warm_start import cold_start, warm_start
from nst_jax.engine.inputs.initial_image import initial_image
from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.plan.levels import Level
from nst_jax.engine.results import LossCurve
from nst_jax.engine.schedule.snapshot import JobSnapshot, from_named_leaves, to_named_leaves
from nst_jax.model.color import to_grey
from nst_jax.request.errors import JobError
from nst_jax.request.options import OptimizerKind


@dataclasses.dataclass(eq=False)
class ActiveJob:
    """One job in flight.

    Attributes:
        loaded: The job, its pictures loaded.
        levels_done: How many of its levels are behind it.
        state: The last host copy of the solver's state in its level, without a slot axis: the
            level's start, or the last checkpoint; a newer one may be in a slot. None before the
            job has begun, and when it is finished.
        image: (h, w, 3) float32 in [0, 1], the average of the last iterates; None until it has
            gone through all levels.
        losses: The objective at the end of the level before.
        curve: The objective on the way.
        steps_before: Steps taken in the levels behind it.
        is_finite: Whether it stayed in the finite numbers.
        seconds: Its share of the time in steps.
        compile_seconds: Its share of the time in compilations.
        fault: What the device said of this job even when it was tried again.
        attempts: How often it was tried.
    """

    loaded: LoadedJob
    levels_done: int = 0
    state: State | None = None
    image: npt.NDArray[np.float32] | None = None
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    curve: LossCurve = dataclasses.field(default_factory=LossCurve)
    steps_before: int = 0
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
    def steps_here(self) -> int:
        """Steps taken in that level, as far as the host knows."""
        return 0 if self.state is None else int(self.state.step)

    @property
    def is_finished(self) -> bool:
        """Whether it has its result, or has failed."""
        return (
            self.levels_done == len(self.loaded.levels)
            or not self.is_finite
            or self.fault is not None
        )

    def start_state(self, optimizer: OptimizerKind) -> State:
        """Where its next step starts: its state, or that of a job which has none yet."""
        if self.state is not None:
            return self.state
        first = self.loaded.first_image
        if first is None:
            first = initial_image(self.loaded, self.level.size)
        return cold_start(first, self.level.canvas, optimizer)

    def finish_level(self, state: State) -> None:
        """Takes a level's last state: makes the next level's start of it, or the final image.

        A job of grey pictures starts without colours again, or they would add up to speckle.
        """
        level, own = self.level, self.loaded.options
        self.losses = {name: float(value) for name, value in state.terms._asdict().items()}
        self.steps_before += int(state.step)
        self.is_finite = bool(state.finite)
        self.levels_done += 1
        self.state = None
        if not self.is_finite:
            return
        if self.levels_done == len(self.loaded.levels):
            height, width = level.size
            self.image = np.clip(state.average[:height, :width], 0, 1)
            return
        if self.loaded.is_grey:
            image, average = (to_grey(np.asarray(one)) for one in (state.image, state.average))
            state = state._replace(image=image, average=average)
        decays = own.adam_b1, own.adam_b2
        self.state = warm_start(state, level.size, self.level.size, self.level.canvas, decays)

    def snapshot(self) -> JobSnapshot | None:
        """Where the job stands; None where nothing would be lost by beginning it again."""
        if self.state is None or self.is_finished:
            return None
        return JobSnapshot(
            index=self.loaded.index,
            level=self.level.index,
            steps=self.steps_before,
            seconds=self.seconds,
            compile_seconds=self.compile_seconds,
            losses=self.losses,
            curve=self.curve.points,
            arrays=to_named_leaves(self.state),
        )


def restore_job(
    job: LoadedJob, snapshot: JobSnapshot | None, optimizer: OptimizerKind
) -> ActiveJob:
    """A job where a snapshot has it; at its beginning where that doesn't fit, or there is none."""
    active = ActiveJob(job)
    numbers: Sequence[int] = [level.index for level in job.levels]
    if snapshot is None or snapshot.level not in numbers:
        return active
    done = numbers.index(snapshot.level)
    template = cold_start(np.zeros((1, 1, 3), np.float32), job.levels[done].canvas, optimizer)
    try:
        active.state = from_named_leaves(template, snapshot.arrays)
    except ValueError:
        return active
    for step, *losses in snapshot.curve:
        active.curve.add(step, losses)
    active.levels_done, active.steps_before, active.losses = done, snapshot.steps, snapshot.losses
    active.seconds, active.compile_seconds = snapshot.seconds, snapshot.compile_seconds
    return active
