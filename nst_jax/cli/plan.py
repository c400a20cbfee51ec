"""`nst-jax plan`: what a batch will be, before it starts; nothing is rendered."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from nst_jax.cli.console import print_json
from nst_jax.cli.forecast_tables import print_forecast, print_plan
from nst_jax.cli.job_arguments import JobsCommand
from nst_jax.cli.progress_bars import open_progress
from nst_jax.request.job import Job


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(JobsCommand):
    """Show canvases, batches, compilations, memory, operations and time; render nothing.

    Without a manifest and pictures it is the plan of one square picture at --size, or of a wave
    of them with --topology.

    Example: nst-jax plan jobs.csv

    Example: nst-jax plan --size 1024 --json

    Example: nst-jax plan --topology v5e:2x2 --preset gram --levels 1
    """

    compile: bool = False
    """Compile the step programs, for their exact memory and the collectives in them."""
    topology: Annotated[str, tyro.conf.arg(metavar="CHIP:GRID")] = ""
    """Compile the step programs for TPU chips that need not be here: v5e:2x2, v5p:2x2x1, v6e:2x4.
    It needs the extra `tpu` and takes a minute or more a program."""
    output_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Also list what this folder has of the jobs: up to date, missing, out of date and why, no
    longer asked for."""
    quiet: bool = False
    """Say nothing on the way."""
    json: bool = False
    """Print the plan as one JSON object."""

    def run(self) -> int:
        """Plans; returns the exit status."""
        if self.topology:
            return self._forecast()
        jobs = self._jobs()
        from nst_jax.engine.device.runtime import configure_process  # jax takes a second to import
        from nst_jax.forecast.plan_report import make_plan_report

        with open_progress(quiet=self.quiet or self.json) as progress, configure_process():
            made = make_plan_report(
                jobs,
                self.options,
                compile_steps=self.compile,
                progress=progress,
                output_dir=self.output_dir,
            )
        if self.json:
            print_json(made.record())
        else:
            print_plan(made)
        return 3 if made.failures else 0

    def _forecast(self) -> int:
        """Plans for chips that are not here; nothing is kept or loaded, it is all compiled."""
        jobs = self._jobs()
        from nst_jax.forecast.roofline import forecast_on_topology  # jax takes a second to import
        from nst_jax.forecast.topologies import open_topology

        topology = open_topology(self.topology)
        with open_progress(quiet=self.quiet or self.json) as progress:
            made = forecast_on_topology(jobs, self.options, topology, progress)
        if self.json:
            print_json(made.record())
        else:
            print_forecast(made)
        return 3 if made.plan.failures else 0

    def _jobs(self) -> Sequence[Job]:
        """Those asked for; else squares: one, or with a topology as many as go together."""
        if self.manifest or self.contents or self.styles:
            return self.load_jobs(output_dir=self.output_dir, quiet=self.quiet)
        import numpy as np

        from nst_jax.engine.plan.slots import WAVE_JOBS

        square = np.zeros((64, 64, 3), np.uint8)  # fitted to --size, as every picture is
        asked = self.options.batch_size
        wave = WAVE_JOBS if asked == "auto" else max(asked, WAVE_JOBS)
        count = wave if self.topology else 1
        return [Job(square, square, f"{number}.png") for number in range(count)]
