"""One job on its way through its stages, and what comes out at the end."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from nst_jax.engine.curve import LossCurve, LossPoint
from nst_jax.engine.device.solver import State
from nst_jax.engine.device.warm_start import Carried, carried
from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.plan.levels import Level
from nst_jax.engine.schedule.snapshot import JobSnapshot, Place, to_named_leaves
from nst_jax.request.errors import JobError

Image = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class Rendered:
    """What the device gave for one job.

    Attributes:
        job: The job.
        image: (h, w, 3) float32 in [0, 1], the average of the last iterates; of the last
            finite ones where the job failed; None where the device gave none.
        terms: The objective at the last step.
        curve: The objective on the way there.
        steps: Steps taken over all levels.
        finite: Whether the job stayed in the finite numbers.
        seconds: Its share of the time in steps.
        compile_seconds: Its share of the time in compilations.
        fault: What the device said of this job even when it was tried again.
        attempts: How often it was tried.
    """

    job: LoadedJob
    image: Image | None
    terms: Mapping[str, float]
    curve: tuple[LossPoint, ...]
    steps: int
    finite: bool
    seconds: float
    compile_seconds: float
    fault: JobError | None = None
    attempts: int = 1


@dataclasses.dataclass(eq=False)
class ActiveJob:
    """One job on its way through its stages.

    Attributes:
        job: The job.
        done: How many of its stages are behind it.
        carried: What the last of them has left.
        held: Where it stands in the next one, if it has been in it already.
    """

    job: LoadedJob
    done: int = 0
    carried: Carried | None = None
    held: State | None = None
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    curve: LossCurve = dataclasses.field(default_factory=LossCurve)
    steps: int = 0
    finite: bool = True
    seconds: float = 0.0
    compile_seconds: float = 0.0
    fault: JobError | None = None
    attempts: int = 1

    def stage(self, place: Place) -> Level:
        stage = self.job.stage(place)
        assert stage is not None
        return stage

    def is_next(self, place: Place) -> bool:
        """Whether the job's next stage stands at this place."""
        return not self.is_over and self.job.levels[self.done].place == place

    @property
    def steps_here(self) -> int:
        """Steps already taken in the stage that comes next."""
        return 0 if self.held is None else int(self.held.step)

    @property
    def is_over(self) -> bool:
        return self.done == len(self.job.levels) or not self.finite or self.fault is not None

    def take_back(self, state: State, place: Place) -> None:
        """Keeps what a stage has made of the job."""
        self.carried = carried(state, self.stage(place).size)
        self.terms = {name: float(value) for name, value in state.terms._asdict().items()}
        self.steps += int(state.step)
        self.finite = bool(state.finite)
        self.held = None
        self.done += 1

    def standing(self) -> JobSnapshot | None:
        """Where the job stands; None where nothing would be lost by beginning it again."""
        tree = self.carried if self.held is None else self.held
        if tree is None or self.is_over:
            return None
        return JobSnapshot(
            index=self.job.index,
            place=self.job.levels[self.done].place,
            within=self.held is not None,
            steps=self.steps,
            seconds=self.seconds,
            compile_seconds=self.compile_seconds,
            terms=self.terms,
            curve=self.curve.points,
            arrays=to_named_leaves(tree),
        )

    def rendered(self) -> Rendered:
        return Rendered(
            job=self.job,
            image=self._image(),
            terms=self.terms,
            curve=self.curve.points,
            steps=self.steps,
            finite=self.finite,
            seconds=self.seconds,
            compile_seconds=self.compile_seconds,
            fault=self.fault,
            attempts=self.attempts,
        )

    def _image(self) -> Image | None:
        if self.carried is None:
            return None
        # A job that failed at its very first step has no average yet.
        image = self.carried.average if self.carried.averaged else self.carried.image
        return np.clip(image, 0, 1)
