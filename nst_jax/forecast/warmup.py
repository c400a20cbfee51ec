"""Compiles the programs of a run before it, so that they are kept; renders nothing."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from nst_jax.engine.device.program_shapes import ProgramShapes
from nst_jax.engine.plan.host_limits import usable_cores
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.compile_ahead import MOST_THREADS
from nst_jax.engine.schedule.make_scheduler import make_programs
from nst_jax.forecast.planned_run import plan_run
from nst_jax.request.job import Job
from nst_jax.request.options import Options


@dataclasses.dataclass(frozen=True)
class WarmupReport:
    """What was compiled.

    Attributes:
        compiled: Names of the programs that were compiled.
        loaded: Names of those that were kept before, and only loaded.
        seconds: Wall seconds for both.
        failures: Jobs that can't be planned, whose programs may be missing.
    """

    compiled: Sequence[str]
    loaded: Sequence[str]
    seconds: float
    failures: Sequence[Result]

    def record(self) -> dict[str, Any]:
        """The report as `warmup --json` prints it."""
        return {
            "compiled": len(self.compiled),
            "loaded": len(self.loaded),
            "seconds": round(self.seconds, 3),
            "failures": [
                {name: result.record()[name] for name in ("job", "error")}
                for result in self.failures
            ],
        }


def warm_up(
    jobs: Sequence[Job],
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    devices: Sequence[Any] | None = None,
) -> WarmupReport:
    """Compiles every program of rendering these jobs into a new folder.

    They stay where JAX is told to keep programs, as `runtime.configure_process` does.

    Args:
        jobs: As for `render_batch`.
        options: Likewise.
        progress: Told of compilations.
        devices: What to compile for; None: all devices of this process.

    Raises:
        RequestError: The request is wrong in itself, or fits no device.
    """
    options, progress = options or Options(), progress or NullProgress()
    run = plan_run(jobs, options, progress, devices)
    if not run.jobs:
        return WarmupReport((), (), 0.0, run.failures)
    began = time.perf_counter()
    programs = make_programs(run.session, run.jobs, progress)
    shapes = ProgramShapes(programs, options)
    # Nothing else is done meanwhile, so all cores are free.
    with concurrent.futures.ThreadPoolExecutor(min(MOST_THREADS, usable_cores())) as pool:
        compiling = [pool.submit(shapes.find(planned).compile) for planned in run.programs]
        try:
            for one in compiling:
                one.result()
        finally:  # where one has failed the others don't begin
            pool.shutdown(cancel_futures=True)
    loaded = [name for name in programs.compiled if name in programs.loaded]
    compiled = [name for name in programs.compiled if name not in programs.loaded]
    return WarmupReport(compiled, loaded, time.perf_counter() - began, run.failures)
