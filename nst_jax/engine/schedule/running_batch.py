"""A batch in flight: the jobs in its slots, how far each is, and when it must be looked at."""

from collections.abc import Sequence

import numpy as np

from nst_jax.engine.device.slot_batch import ChunkReport, SlotBatch
from nst_jax.engine.device.solver import CHECK_EVERY
from nst_jax.engine.results import CHUNKS_A_LEVEL
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.previews import Steps


class RunningBatch:
    """Slots on the devices, and the job in each of them; slots beyond the jobs are padding.

    Attributes:
        slot_batch: The slots on the devices.
        jobs: The job of each slot; the caller's list, which is kept up to date as others take
            their places, so that after a fault each job is in it, or was handed out.
        taken: Steps of each job in its level.
        left: Steps that each has still to take there; 0 where it is through.
    """

    def __init__(self, slots: SlotBatch, jobs: list[ActiveJob]) -> None:
        self.slot_batch = slots
        self.jobs = jobs
        self.taken: Steps = np.array([one.steps_here for one in jobs], np.int64)
        self.left: Steps = self._level_steps() - self.taken

    @property
    def is_busy(self) -> bool:
        """Whether some job has steps to take."""
        return bool(self.left.any())

    @property
    def moving_jobs(self) -> list[ActiveJob]:
        """The jobs that have steps to take."""
        return [one for one, steps in zip(self.jobs, self.left, strict=True) if steps]

    @property
    def total_steps(self) -> Steps:
        """Steps of each job over all levels."""
        return np.array([one.steps_before for one in self.jobs], np.int64) + self.taken

    def free_slots(self) -> Sequence[int]:
        """Slots whose job is through."""
        return np.flatnonzero(self.left == 0).tolist()

    def longest_chunk(self, *, others_wait: bool) -> int:
        """Steps after which some slot may be free, all are through, or the curve wants a point."""
        longest = self.left[self.left > 0].min() if others_wait else self.left.max()
        may_converge = any(one.loaded.options.early_stop for one in self.jobs)
        until_look = max(CHECK_EVERY, self.left.max() // CHUNKS_A_LEVEL)
        return int(min(longest, CHECK_EVERY if may_converge else until_look))

    def step(self, num_steps: int) -> ChunkReport:
        """Takes every slot so many steps further; what is known of the jobs after it."""
        report = self.slot_batch.step(num_steps)
        count = len(self.jobs)
        steps = report.steps[:count].astype(np.int64)
        return ChunkReport(steps, report.ended_early[:count], report.terms[:count])

    def update(self, report: ChunkReport, seconds: float) -> int:
        """Notes a chunk's report and its seconds with the jobs; the image-steps that it took."""
        moving = self.moving_jobs
        for one, steps, terms in zip(self.jobs, report.steps, report.terms.tolist(), strict=True):
            if one in moving:
                one.seconds += seconds / len(moving)
                one.curve.add(one.steps_before + int(steps), terms)
        image_steps = int((report.steps - self.taken).sum())
        self.taken = report.steps.astype(np.int64)
        self.left = np.where(report.ended_early, 0, self._level_steps() - self.taken)
        return image_steps

    def start(self, slot: int) -> None:
        """Counts the steps of a slot's new job, which is on the device now."""
        job = self.jobs[slot]
        self.taken[slot] = job.steps_here
        self.left[slot] = job.level.steps - job.steps_here

    def _level_steps(self) -> Steps:
        return np.array([one.level.steps for one in self.jobs], np.int64)
