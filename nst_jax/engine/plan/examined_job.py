"""A job whose inputs were checked: what is known of it before it is planned."""

import dataclasses

from nst_jax.engine.plan.levels import Level
from nst_jax.request.job import Job
from nst_jax.request.options import JobOptions


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class ExaminedJob:
    """A job that was examined and can be planned.

    Attributes:
        index: Its position in the list of jobs.
        job: With its output's name and options filled in.
        options: Its own, with canonical taps.
        levels: From coarse to fine.
        fingerprint: What its picture follows from.
        attempts: How often it has failed before.
    """

    index: int
    job: Job
    options: JobOptions
    levels: tuple[Level, ...]
    fingerprint: str
    attempts: int = 0

    @property
    def image_steps(self) -> int:
        """Steps over all levels, at most."""
        return sum(level.steps for level in self.levels)
