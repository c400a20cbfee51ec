"""`nst-jax batch`: every job of a manifest, or every content with every style."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from nst_jax.cli.console import print_json, print_note, print_table
from nst_jax.cli.job_arguments import JobsCommand, note_another_network, open_run
from nst_jax.request.errors import (
    NstJaxError,
    OptionError,
    OutputError,
    WriteError,
    say_count,
)
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.outputs import CONTACT_SHEET_NAME, is_url
from nst_jax.request.paths import find_path
from nst_jax.request.run_policy import RunPolicy

if TYPE_CHECKING:
    from nst_jax.engine.results import Summary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch(JobsCommand):
    """Render a manifest of jobs (CSV, TSV or JSON Lines), or every content with every style.

    What is in the output folder and up to date is skipped, so the same command run again
    renders what is missing. A job that fails does not touch the others. Ctrl-C and SIGTERM keep
    the jobs in mid-schedule, and the same command goes on with them; a second Ctrl-C ends at
    once.

    Example: nst-jax batch jobs.csv --output-dir renders

    Example: nst-jax batch --contents photos/ --styles 'art/*.jpg' --output-dir renders
    """

    output_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Where the pictures and the ledger go. (required)"""
    contact_sheet: bool = False
    """Also write index.png: a grid of contents by styles or by the options that differ; of other
    lists content, style and result of each job in rows."""
    no_report: bool = False
    """Don't write report/index.html, the page that shows the pictures and the run."""
    shard: Annotated[str, tyro.conf.arg(metavar="auto|distributed|I/N")] = ""
    """Render one worker's share of the jobs into the common folder: share I, from 0, of N. auto:
    as the variables of a Slurm array or step, a Kubernetes Indexed Job, a Cloud TPU slice or GNU
    parallel say (Kubernetes and parallel need NST_JAX_SHARD_COUNT too). distributed: join the
    processes by jax.distributed; if one dies, all do. Any later run, with any N or without,
    renders what is missing. Workers write no page; see nst-jax report."""
    engine: Literal["local", "ray"] = "local"
    """Where the work is done. ray: on the workers of a Ray cluster, one a GPU, TPU host or node;
    the output folder is one that all of them see. Needs nst-jax[ray]."""
    address: str = ""
    """Of the Ray cluster: auto, or HOST:PORT. Without it RAY_ADDRESS, or this machine."""
    workers: int = 0
    """Workers on the Ray cluster; 0: as many as it has room for now."""
    handling: RunPolicy = dataclasses.field(default_factory=RunPolicy)
    quiet: bool = False
    """Say nothing but faults."""
    verbose: bool = False
    """Also name each program that is compiled or loaded; they stand in the report page too."""
    json: bool = False
    """Print the summary as one JSON object, of a run that is stopped too."""

    def run(self) -> int:
        """Renders what is missing; returns the exit status."""
        self._check()
        jobs = self.load_jobs(output_dir=self.output_dir, quiet=self.quiet)
        if self.contact_sheet:
            jobs = fill_defaults(jobs, self.options)
            if any(job.output.casefold() == CONTACT_SHEET_NAME for job in jobs):
                raise OutputError(f"output {CONTACT_SHEET_NAME!r} is the contact sheet's own name")
            _check_contact_sheet(jobs, self.output_dir)
        if not self.quiet:
            note_another_network(self.options)
        summary = self._render(jobs)
        folder = Path(find_path(self.output_dir))
        if self.contact_sheet:
            from nst_jax.files.batch_sheet import write_batch_sheet

            write_batch_sheet(folder / CONTACT_SHEET_NAME, jobs, size=self.options.size)
        no_page = self.no_report or self.shard or is_url(self.output_dir)
        page = None if no_page else _write_page(folder)
        if self.json:
            print_json(summary.record())
        elif summary.is_up_to_date and not self.quiet:
            print(f"{summary.skipped} of {say_count(summary.jobs, 'picture')} up to date")
        elif not self.quiet:
            _print_table(summary, verbose=self.verbose)
        if not (self.quiet or self.json):
            for place in filter(
                None, (page, folder / CONTACT_SHEET_NAME if self.contact_sheet else None)
            ):
                print(f"Look at {place}")
        if summary.given_up:
            print_note(_given_up_text(summary.given_up))
        return 3 if summary.failed else 0

    def _check(self) -> None:
        if not self.output_dir:
            raise OptionError("batch must be told where to write, got no --output-dir")
        if self.engine == "ray" and self.shard:
            raise OptionError("--engine ray deals the jobs out itself, so --shard can't go with it")
        if self.engine != "ray" and (self.address or self.workers):
            raise OptionError("--address and --workers are of a Ray cluster", "Add --engine ray")
        if not 0 <= self.workers <= 100_000:
            raise OptionError(f"workers must be from 0 to 100000, got {self.workers}")
        if self.contact_sheet and is_url(self.output_dir):
            raise OptionError(
                f"--contact-sheet needs a local --output-dir, got {self.output_dir!r}"
            )
        if self.contact_sheet and self.shard:
            raise OptionError("--contact-sheet shows the whole batch, so it can't go with --shard")

    def _render(self, jobs: Sequence[Job]) -> "Summary":
        """Renders where it was asked to; tells what was done also of a run that ends early."""
        if self.engine == "ray":
            from nst_jax.engine.cluster.ray_batch import render_on_ray as render

            where: dict[str, Any] = {"address": self.address, "workers": self.workers}
        else:
            from nst_jax.engine.batch import render_batch as render
            from nst_jax.engine.run.shard import resolve_shard

            where = {"shard": resolve_shard(self.shard)}  # before anything asks for devices
        asked = jobs, self.output_dir, self.options
        is_here, quiet = self.engine == "local", self.quiet or self.json
        told = {"quiet": quiet, "verbose": self.verbose}
        with open_run(self.options, **told, is_here=is_here) as run:
            try:
                return render(*asked, handling=self.handling, **run, **where)
            except NstJaxError as fault:
                if self.json and fault.summary:
                    print_json(fault.summary)
                raise


def _given_up_text(count: int) -> str:
    jobs = "1 job has" if count == 1 else f"{count} jobs have"
    return (
        f"{jobs} failed before by their own fault and nothing has changed since; "
        "--retry-failed tries them again"
    )


def _write_page(folder: Path) -> Path | None:
    """The report; what keeps it from being written is no fault of the batch."""
    from nst_jax.files.report.page import write_report

    try:
        return write_report(folder)
    except WriteError as error:
        print_note(str(error))
        return None


def _check_contact_sheet(jobs: Sequence[Job], output_dir: str) -> None:
    """Refuses a contact sheet that would take the place of a picture that is read."""
    from nst_jax.engine.run.preflight import check_inputs_not_overwritten
    from nst_jax.files.folders import folder_at

    pictures = itertools.chain.from_iterable(job.pictures for job in jobs)
    check_inputs_not_overwritten(pictures, [CONTACT_SHEET_NAME], folder_at(output_dir))


def _print_table(summary: "Summary", *, verbose: bool) -> None:
    """The closing table: jobs, seconds, speed, and if asked for what was compiled."""
    rows = [
        ("pictures", f"{summary.done} done, {summary.failed} failed, {summary.skipped} up to date"),
        *([("shard", summary.shard)] if summary.shard else []),
        ("seconds", f"{summary.seconds:.1f}"),
        ("  of these in steps", f"{summary.step_seconds:.1f}"),
        ("  preparing programs", f"{summary.compile_seconds:.1f}"),
        ("steps of all pictures", str(summary.image_steps)),
        ("  of these a second", f"{summary.image_steps_per_second:.2f}"),
    ]
    for program, seconds in summary.compiled.items() if verbose else ():
        how = "loaded" if program in summary.loaded else "compiled"
        rows.append((f"{how} in {seconds:.1f} s", program))
    print_table(rows)
