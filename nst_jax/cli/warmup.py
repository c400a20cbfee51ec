"""`nst-jax warmup`: compiles what a batch will need, so that the batch only loads it."""

import dataclasses

from nst_jax.cli.console import print_json, print_note
from nst_jax.cli.job_arguments import JobsCommand
from nst_jax.cli.progress_bars import open_progress
from nst_jax.request.errors import say_count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmup(JobsCommand):
    """Compile the programs of a batch and keep them; render nothing, write nothing else.

    A batch of the same manifest and options, on the same kind of device and into a new folder,
    then loads them all: in the image of a container, or on a machine that waits for its turn.
    They are kept where nst-jax programs shows.

    Example: nst-jax warmup jobs.csv
    """

    quiet: bool = False
    """Say nothing but faults."""
    json: bool = False
    """Print compiled, loaded (programs that were kept before), seconds and failures as one JSON
    object."""

    def run(self) -> int:
        """Compiles; returns the exit status."""
        jobs = self.load_jobs(quiet=self.quiet)
        from nst_jax.engine.device.runtime import check_programs_kept, configure_process
        from nst_jax.forecast.warmup import warm_up  # jax takes a second to import

        with open_progress(quiet=self.quiet or self.json) as progress, configure_process():
            check_programs_kept()
            made = warm_up(jobs, self.options, progress=progress)
        for result in made.failures:
            print_note(f"{result.job.output}: {result.error}")
        if self.json:
            print_json(made.record())
        elif not self.quiet:
            compiled = say_count(len(made.compiled), "program")
            print(f"{compiled} compiled, {len(made.loaded)} there already, in {made.seconds:.1f} s")
        return 3 if made.failures else 0
