"""A batch on the devices: a fixed number of slots, each with a job of its own or padding.

A job leaves its slot when it is over and the next one takes it, while the other slots keep
what they have. The program that steps does not change with it. Every call returns at once: the
devices do what was asked in that order.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.solver import Problem, State
from nst_jax.engine.plan.canvas import Size


class SlotInput(NamedTuple):
    """What goes into a slot, without a slot axis: arrays of the host or the first device."""

    state: State
    problem: Problem


class ChunkReport(NamedTuple):
    """What is known of every slot after a chunk.

    Attributes:
        steps: Steps that each job has taken in its level.
        is_finite: Whether it stayed in the finite numbers.
        ended_early: Whether it has ended before its steps: converged, or not finite.
        terms: (slots, 4): total, content, style and tv at the last step.
    """

    steps: npt.NDArray[np.int64]
    is_finite: npt.NDArray[np.bool_]
    ended_early: npt.NDArray[np.bool_]
    terms: npt.NDArray[np.float32]

    @classmethod
    def read(cls, told: Any) -> "ChunkReport":
        """A chunk's report, once the devices have come to its end; see `solver.run_chunk`."""
        steps, finite, converged, *terms = np.asarray(told).T
        is_finite = finite > 0
        ended = ~is_finite | (converged > 0)
        return cls(steps.astype(np.int64), is_finite, ended, np.stack(terms, axis=-1))


class SlotBatch:
    """A batch on the devices.

    Attributes:
        states: Of all slots.
        problems: Likewise.

    Args:
        programs: The compiled programs of the run.
        canvas: Every slot's.
        first: Of the first slot; padding is made of it.
        count: How many slots there are.
        is_transposed: Whether all images lie with rows and columns swapped.
    """

    def __init__(
        self,
        programs: ProgramCache,
        canvas: Size,
        first: SlotInput,
        count: int,
        is_transposed: bool = False,
    ) -> None:
        self._programs = programs
        self._canvas = canvas
        self._is_transposed = is_transposed
        self.states, self.problems = programs.open(canvas, count, tuple(first))

    def step(self, num_steps: int) -> Any:
        """Takes every slot so many steps further; the report, for `ChunkReport.read`."""
        self.states, report = self._programs.run_chunk(
            self._canvas, self.states, self.problems, np.int32(num_steps), self._is_transposed
        )
        return report

    def place(self, slot: int, entry: SlotInput) -> None:
        """Fills one slot anew."""
        batch = self._programs.place(self._canvas, (self.states, self.problems), slot, tuple(entry))
        self.states, self.problems = batch

    def take(self, slot: int) -> State:
        """One slot's state, as it is now, as a batch of one on the first device."""
        return self._programs.take(self._canvas, self.states, slot)
