"""What goes into slots: each job's state and problem, with the targets made on the way."""

from nst_jax.engine.device.problem import make_problem
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.slot_batch import SlotInput
from nst_jax.engine.device.targets import TargetProvider
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.running_batch import RunningBatch
from nst_jax.request.options import OptimizerKind


class SlotLoader:
    """Fills the slots of batches."""

    def __init__(
        self, programs: ProgramCache, targets: TargetProvider, optimizer: OptimizerKind
    ) -> None:
        self._programs = programs
        self._targets = targets
        self._optimizer: OptimizerKind = optimizer

    def fill_batch(self, batch: RunningBatch, num_slots: int) -> None:
        """Opens so many slots for a batch, and puts its jobs into the first of them."""
        for slot, one in enumerate(batch.jobs):
            assert one
            entry = self.make_input(one)
            if slot:
                batch.place(slot, entry)
            else:
                batch.open(self._programs, entry, num_slots)

    def refill_slot(self, batch: RunningBatch, slot: int, job: ActiveJob) -> None:
        """Puts a job into the slot that another one has left."""
        batch.jobs[slot] = job  # whatever fails from here on, it is in the batch
        batch.place(slot, self.make_input(job))

    def make_input(self, job: ActiveJob) -> SlotInput:
        """What a job puts into its slot: where it starts and what it asks for."""
        level, loaded = job.level, job.loaded
        targets = self._targets.make_targets(loaded, level)
        problem = make_problem(loaded.options, level, targets)
        return SlotInput(job.pop_start(self._optimizer), problem)

    def forget_targets(self) -> None:
        """Drops the targets that are kept: their device has failed, or needs the memory."""
        self._targets.forget()
