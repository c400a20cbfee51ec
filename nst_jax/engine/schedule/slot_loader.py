"""What goes into slots: each job's state and problem, with the targets made on the way."""

from collections.abc import Sequence

from nst_jax.engine.device.problem import make_problem
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.slot_batch import SlotBatch, SlotInput
from nst_jax.engine.device.targets import TargetProvider
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.request.options import OptimizerKind


class SlotLoader:
    """Makes the inputs of slots, and opens batches with them."""

    def __init__(
        self, programs: ProgramCache, targets: TargetProvider, optimizer: OptimizerKind
    ) -> None:
        self._programs = programs
        self._targets = targets
        self._optimizer: OptimizerKind = optimizer

    def make_input(self, job: ActiveJob) -> SlotInput:
        """What a job puts into its slot: where it starts and what it asks for."""
        level, loaded = job.level, job.loaded
        targets = self._targets.make_targets(loaded, level)
        problem = make_problem(loaded.options, level, targets)
        return SlotInput(job.start_state(self._optimizer), problem)

    def open_batch(
        self, jobs: Sequence[ActiveJob], num_slots: int, stop: StopToken | None = None
    ) -> SlotBatch | None:
        """A batch of `num_slots` slots with these jobs in the first; None where the run stops."""
        inputs: list[SlotInput] = []
        for one in jobs:
            if stop and stop.is_requested:
                return None
            inputs.append(self.make_input(one))
        return SlotBatch(self._programs, jobs[0].level.canvas, inputs, num_slots)
