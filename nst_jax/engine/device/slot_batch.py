"""A batch on the devices: a fixed number of slots, each with a job of its own or padding.

A job leaves its slot when it is over and the next one takes it, while the other slots keep
what they have. The program that steps does not change with it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.solver import Problem, State
from nst_jax.engine.plan.canvas import Size


class SlotInput(NamedTuple):
    """What goes into a slot, as host arrays without a slot axis."""

    state: State
    problem: Problem


class ChunkReport(NamedTuple):
    """What is known of every slot after a chunk.

    Attributes:
        steps: Steps that each job has taken in its level.
        ended_early: Whether the job has ended before its steps: converged, or not finite.
        terms: (slots, 4): total, content, style and tv at the last step.
    """

    steps: npt.NDArray[np.integer]
    ended_early: npt.NDArray[np.bool_]
    terms: npt.NDArray[np.float32]


class SlotBatch:
    """A batch on the devices.

    Attributes:
        states: Of all slots.
        problems: Likewise.

    Args:
        programs: The compiled programs of the run.
        canvas: Every slot's.
        entries: One for each of the first slots.
        count: How many slots there are; those without an entry are padded.
    """

    def __init__(
        self,
        programs: ProgramCache,
        canvas: Size,
        entries: Sequence[SlotInput],
        count: int,
    ) -> None:
        self._programs = programs
        self._canvas = canvas
        # Padding is the first job once more, with no step to take.
        idle = entries[0].problem._replace(steps=np.int32(0))
        filled = [*entries, *[entries[0]._replace(problem=idle)] * (count - len(entries))]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
        devices = programs.devices
        self.states, self.problems = devices.put(stacked, devices.slot_sharding(count))

    def step(self, num_steps: int) -> ChunkReport:
        """Takes every slot so many steps further, and waits until that is done."""
        self.states = self._programs.run_chunk(
            self._canvas, self.states, self.problems, np.int32(num_steps)
        )
        now = self.states
        steps, finite, converged, terms = jax.device_get(
            (now.step, now.finite, now.trend.converged, now.terms)
        )
        return ChunkReport(steps, converged | ~finite, np.stack(terms, axis=-1))

    def place(self, slot: int, entry: SlotInput) -> None:
        """Fills one slot anew."""
        batch = self._programs.place(self._canvas, (self.states, self.problems), slot, tuple(entry))
        self.states, self.problems = batch

    def take(self, slot: int) -> State:
        """One slot's state as host arrays."""
        return jax.device_get(self._programs.take(self._canvas, self.states, slot))

    def take_all(self) -> list[State]:
        """Every slot's state as host arrays."""
        states: Any = jax.device_get(self.states)
        count = len(states.step)
        return [jax.tree.map(lambda whole, slot=slot: whole[slot], states) for slot in range(count)]
