"""A run as it will be planned, of pictures that are examined and not decoded."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.session import Session, open_session
from nst_jax.engine.plan.demand import measure_demand
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.program_list import PlannedProgram, list_programs
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.waves import split_into_waves
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import Options


@dataclasses.dataclass(frozen=True, eq=False)
class PlannedRun:
    """A run of all jobs into a folder where nothing is yet.

    Attributes:
        session: What the jobs share.
        jobs: Those that can be rendered.
        failures: The others.
        plan: Slots by bucket.
    """

    session: Session
    jobs: Sequence[ExaminedJob]
    failures: Sequence[Result]
    plan: Plan

    @property
    def programs(self) -> Iterator[PlannedProgram]:
        """All that it will compile, in the order of need."""
        waves = split_into_waves(self.jobs, self.plan, self.session.options.size)
        return list_programs(waves, self.plan)


def plan_run(
    jobs: Sequence[Job],
    options: Options,
    progress: Progress,
    devices: Sequence[Any] | Devices | None = None,
) -> PlannedRun:
    """Plans a run. A job that can't be planned is among the failures.

    Args:
        jobs: As for `render_batch`.
        options: Likewise.
        progress: Told what is noticed of the pictures.
        devices: What to plan for; None: all devices of this process.

    Raises:
        RequestError: The request is wrong in itself, or fits no device.
    """
    session = open_session(options, devices)
    listed = fill_defaults(jobs, options)
    examined = examine_jobs(listed, session, progress)
    whole = measure_demand(listed, options, session.weights.architecture, session.pictures.size)
    planned = [one for one in examined if isinstance(one, ExaminedJob)]
    failures = [one for one in examined if isinstance(one, Result)]
    made = session.make_plan(planned, NullProgress(), whole=whole)
    return PlannedRun(session, planned, failures, made)
