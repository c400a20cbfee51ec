"""How long a run will take, by how fast this machine was in its last one."""

import math
from collections.abc import Sequence

from nst_jax.engine.device.runtime import cache_folder
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.schedule.timing import Timing
from nst_jax.files.speed import keep_speed, read_speed


def estimate_seconds(jobs: Sequence[ExaminedJob], session: Session, taken: int) -> float | None:
    """Seconds in steps that are left; None where this machine has not been measured.

    Args:
        jobs: To be rendered.
        session: What they share.
        taken: Of their steps, those that were taken before.
    """
    speed = read_speed(cache_folder(), session.precision.name)
    steps = sum(job.image_steps for job in jobs)
    if speed is None or not steps:
        return None
    return _count_pixel_steps(jobs) / speed * (1 - taken / steps)


def remember_speed(jobs: Sequence[ExaminedJob], session: Session, timing: Timing) -> None:
    """Keeps how fast the steps of a run were that has rendered these jobs from start to end."""
    if timing.image_steps == sum(job.image_steps for job in jobs):
        name = session.precision.name
        keep_speed(cache_folder(), name, _count_pixel_steps(jobs), timing.steps)


def _count_pixel_steps(jobs: Sequence[ExaminedJob]) -> float:
    levels = (level for job in jobs for level in job.levels)
    return float(sum(math.prod(level.size) * level.steps for level in levels))
