"""Previews: what a running job would be if it ended now, at every so many of its steps.

They are looked at between two chunks, which end where a preview is due; chunk lengths are an
argument of the program, so neither the program nor the job's bytes know of them.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.solver import State
from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.inputs.placed_image import lift_from_canvas
from nst_jax.engine.plan.levels import Level
from nst_jax.engine.schedule.finish import composite_with_content
from nst_jax.files.images import Pixels

Steps = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Preview:
    """A job on its way.

    Attributes:
        index: The job's position in the run's list of jobs.
        name: Its output's name.
        step: Steps taken over all levels.
        image: (h, w, 3) float32 sRGB in [0, 1], at the size of the level it is in.
    """

    index: int
    name: str
    step: int
    image: Pixels


@dataclasses.dataclass(frozen=True)
class Previews:
    """When previews are due and who gets them.

    Attributes:
        every: Steps of a job from one to the next, 1 or more.
        show: Called with each, between two chunks; the device waits for it.
    """

    every: int
    show: Callable[[Preview], None]

    def steps_until_next(self, taken: Steps) -> int:
        """How far some job is from its next preview.

        Args:
            taken: Steps over all levels, of each job that moves.
        """
        return int((self.every - taken % self.every).min())

    def list_due(self, before: Steps, after: Steps) -> list[int]:
        """Which jobs have just come to a preview, by their place in both arrays."""
        return np.flatnonzero((after > before) & (after % self.every == 0)).tolist()


def make_preview(job: LoadedJob, state: State, level: Level, step: int) -> Preview:
    """The preview of a job in a state of host arrays without a slot axis, at a level."""
    image = np.array(lift_from_canvas(np.asarray(state.average), level), order="C")
    return Preview(job.index, job.name, step, composite_with_content(job, image))
