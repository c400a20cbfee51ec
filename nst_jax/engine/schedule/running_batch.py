"""A batch in flight: the jobs in its slots, how far each is, and when it must be looked at."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.slot_batch import ChunkReport, SlotBatch, SlotInput
from nst_jax.engine.device.solver import CHECK_EVERY, State
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.results import CHUNKS_A_LEVEL
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.previews import Steps


def unbatch(tree: Any) -> Any:
    """What is a batch of one, on the host and without that axis."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], tree)


class RunningBatch:
    """Slots on the devices, and the job in each of them; slots beyond the jobs are padding.

    Counts run ahead: they say where the jobs are when the devices have done all that was asked.

    Attributes:
        bucket: What its jobs have alike.
        slot_batch: The slots on the devices.
        jobs: The job of each slot; None where it has left and nobody has taken its place.
        taken: Steps of each job in its level.
        left: Steps that each has still to take there; 0 where it is through.
    """

    def __init__(self, bucket: Bucket, jobs: Sequence[ActiveJob]) -> None:
        """A batch whose slots are still to be opened, with the jobs that are to fill them."""
        self.bucket = bucket
        self.is_transposed = jobs[0].loaded.is_transposed  # so are all that it will ever have
        self.slot_batch: SlotBatch | None = None
        self.jobs: list[ActiveJob | None] = list(jobs)
        self.taken: Steps = np.zeros(len(jobs), np.int64)
        self.left: Steps = np.zeros(len(jobs), np.int64)

    @property
    def is_busy(self) -> bool:
        """Whether some job has steps to take."""
        return bool(self.left.any())

    @property
    def total_steps(self) -> Steps:
        """Steps of each job over all levels."""
        before = [one.steps_before if one else 0 for one in self.jobs]
        return np.array(before, np.int64) + self.taken

    def through_jobs(self) -> list[tuple[int, ActiveJob]]:
        """Slots whose job is through, and the job."""
        return [(n, one) for n, one in enumerate(self.jobs) if one and not self.left[n]]

    def moving_jobs(self) -> list[tuple[int, ActiveJob]]:
        """Slots whose job has steps to take, and the job."""
        return [(n, one) for n, one in enumerate(self.jobs) if one and self.left[n]]

    def longest_chunk(self, *, others_wait: bool) -> int:
        """Steps after which some slot may be free, all are through, or the curve wants a point."""
        longest = self.left[self.left > 0].min() if others_wait else self.left.max()
        may_converge = any(one.loaded.options.early_stop for one in self.jobs if one)
        until_look = max(CHECK_EVERY, self.left.max() // CHUNKS_A_LEVEL)
        return int(min(longest, CHECK_EVERY if may_converge else until_look))

    def open(self, programs: ProgramCache, first: SlotInput, num_slots: int) -> None:
        """Opens so many slots, with the first job's in the first one and padding in the others."""
        self.slot_batch = SlotBatch(
            programs, self.bucket.canvas, first, num_slots, self.is_transposed
        )
        self._start(0)

    def place(self, slot: int, entry: SlotInput) -> None:
        """Puts a slot's job onto the devices."""
        assert self.slot_batch
        self.slot_batch.place(slot, entry)
        self._start(slot)

    def _start(self, slot: int) -> None:
        job = self.jobs[slot]
        assert job
        self.taken[slot] = job.first_step
        self.left[slot] = job.level.steps - job.first_step

    def take(self, slot: int) -> State:
        """A slot's state, as a batch of one on the first device."""
        assert self.slot_batch
        return self.slot_batch.take(slot)

    def close(self) -> None:
        """Gives the devices' memory back."""
        self.slot_batch = None

    def step(self, num_steps: int) -> "DispatchedChunk":
        """Asks for so many more steps of every slot."""
        assert self.slot_batch
        chunk = DispatchedChunk(self, num_steps, self.slot_batch.step(num_steps))
        moved = np.minimum(self.left, num_steps)
        self.taken, self.left = self.taken + moved, self.left - moved
        return chunk


@dataclasses.dataclass(eq=False)
class DispatchedChunk:
    """Steps that the devices were asked for, and what waits for their end.

    Attributes:
        batch: Whose steps they are.
        num_steps: How many.
        told: Its report, on the devices.
        jobs: The job of each slot while they are taken.
        moving: Those that had steps to take, as far as was known.
        report: None: nobody has read it.
        leaving: Jobs that are through with it, by slot, and what follows of each; see
            `ActiveJob.leave_level`.
        keeping: Jobs that go on, and the state of each after it.
        is_checkpoint: Whether a checkpoint is due when all that is known.
        finished: Jobs that have their picture by it, or have failed in it.
    """

    batch: RunningBatch
    num_steps: int
    told: Any
    jobs: Sequence[ActiveJob | None] = dataclasses.field(init=False)
    moving: Sequence[ActiveJob] = dataclasses.field(init=False)
    report: ChunkReport | None = None
    leaving: list[tuple[int, ActiveJob, Any]] = dataclasses.field(default_factory=list)
    keeping: list[tuple[ActiveJob, State]] = dataclasses.field(default_factory=list)
    is_checkpoint: bool = False
    finished: list[ActiveJob] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        """Remembers who is in the slots: the next jobs may take them before it is over."""
        self.jobs = list(self.batch.jobs)
        self.moving = [one for _, one in self.batch.moving_jobs()]

    def read(self) -> ChunkReport:
        """Waits for its end, and for that alone."""
        if self.report is None:
            self.report = ChunkReport.read(self.told)
        return self.report

    def update_jobs(self, seconds: float) -> int:
        """Notes its report and its seconds with the jobs; the image-steps that it took."""
        report, image_steps = self.read(), 0
        rows = zip(self.jobs, report.steps.tolist(), report.terms.tolist(), strict=False)
        for slot, (one, steps, terms) in enumerate(rows):
            if one and report.ended_early[slot] and self.batch.jobs[slot] is one:
                self.batch.taken[slot], self.batch.left[slot] = steps, 0
            if one is None or one not in self.moving or one.is_finished:
                continue
            one.seconds += seconds / len(self.moving)
            one.curve.add(one.steps_before + steps, terms)
            image_steps += steps - one.steps_here
            one.steps_here = steps
            one.is_finite = bool(report.is_finite[slot])
            if not one.is_finite:
                one.confirm_level(terms, None)
                self.finished.append(one)
        return image_steps

    def confirm_jobs(self) -> None:
        """Brings to the host what was asked of the devices behind it."""
        report = self.read()
        for slot, one, follows in self.leaving:
            if not one.is_finished:
                one.confirm_level(report.terms[slot].tolist(), follows)
                self.finished += [one] if one.is_finished else []
        for one, state in self.keeping:
            if not one.is_finished:
                one.keep(one.levels_done, unbatch(state))
