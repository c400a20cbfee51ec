"""`nst-jax plan`: what a batch will be, before it starts; nothing is rendered."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from nst_jax.cli.console import print_json, printable
from nst_jax.cli.forecast_tables import forecast_rows, forecast_table
from nst_jax.cli.job_arguments import PicturePaths, Rendering, load_jobs
from nst_jax.cli.progress_bars import open_progress
from nst_jax.request.job import Job

if TYPE_CHECKING:
    from nst_jax.engine.results import Result
    from nst_jax.forecast.plan_report import CanvasReport, PlanReport


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Show canvases, batches, compilations, memory, operations and time; render nothing.

    Without a manifest and pictures it is the plan of one square picture at --size, or with
    --topology of a wave of them.

    Example: nst-jax plan jobs.csv

    Example: nst-jax plan --size 1024 --json

    Example: nst-jax plan --topology v5e:2x2 --preset gram --levels 1
    """

    manifest: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[MANIFEST]")] = ""
    """A file with a row a job."""
    contents: PicturePaths = ()
    """Content pictures: files, folders or patterns."""
    styles: PicturePaths = ()
    """Style pictures: files, folders or patterns."""
    compile: tyro.conf.FlagCreatePairsOff[bool] = False
    """Compile the step programs, for their exact memory and the collectives in them."""
    topology: Annotated[str, tyro.conf.arg(metavar="CHIP:GRID")] = ""
    """Compile the step programs for TPU chips that need not be here: v5e:2x2, v5p:2x2x1, v6e:2x4.
    It needs the extra `tpu` and takes a minute or more a program."""
    options: Rendering
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Say nothing on the way."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the plan as one JSON object."""

    def run(self) -> int:
        """Plans; returns the exit status."""
        if self.topology:
            return self._forecast()
        jobs = self._jobs()
        from nst_jax.engine.device.process import configure_process  # jax takes a second to import
        from nst_jax.forecast.plan_report import make_plan_report

        with open_progress(quiet=self.quiet or self.json) as progress, configure_process():
            made = make_plan_report(
                jobs, self.options, compile_steps=self.compile, progress=progress
            )
        if self.json:
            print_json(made.record())
        else:
            _print_all(_canvas_table(made.canvases), _totals(made), made.failures)
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
            _print_all(forecast_table(made), forecast_rows(made), made.plan.failures)
        return 3 if made.plan.failures else 0

    def _jobs(self) -> Sequence[Job]:
        if self.manifest or self.contents or self.styles:
            return load_jobs("plan", self.manifest, self.contents, self.styles, self.options)
        import numpy as np

        square = np.zeros((64, 64, 3), np.uint8)  # fitted to --size, as every picture is
        return [Job(square, square, f"{number}.png") for number in range(self._squares)]

    @property
    def _squares(self) -> int:
        """How many square pictures stand for a run: one, or as many as go through together."""
        if not self.topology:
            return 1
        from nst_jax.engine.plan.slots import WAVE_JOBS

        asked = self.options.batch_size
        return WAVE_JOBS if asked == "auto" else max(asked, WAVE_JOBS)


def _print_all(table: Any, lines: Sequence[tuple[str, str]], failures: Sequence["Result"]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(table)
    for name, text in lines:
        console.print(f"{name:<22}{escape(text)}", highlight=False, soft_wrap=True)
    for result in failures:
        text = escape(f"failed {printable(result.job.output)}: {result.error}")
        console.print(text, highlight=False, soft_wrap=True)


def _canvas_table(canvases: Sequence["CanvasReport"]) -> Any:
    from rich.table import Table

    table = Table()
    for heading in ("canvas", "jobs", "slots", "batches", "waste", "GFLOP/image-step", "MB/device"):
        table.add_column(heading, justify="right")
    for one in canvases:
        table.add_row(
            f"{one.canvas[1]}x{one.canvas[0]}",
            str(one.jobs),
            str(one.slots),
            str(one.batches),
            f"{100 * one.waste:.0f} %",
            f"{one.flops_per_image_step / 1e9:.2f}",
            f"{one.bytes_per_chip / 1e6:.0f}",
        )
    return table


def _totals(made: "PlanReport") -> list[tuple[str, str]]:
    """Names and values of what concerns the whole run."""
    device = made.device
    memory = device["memory_bytes"]
    room = "" if memory is None else f", {memory / 1e6:.0f} MB each to use"
    rows = [
        ("devices", f"{device['count']} x {device['kind']} ({device['platform']}){room}"),
        ("computes in", made.dtype),
        ("jobs", f"{made.jobs - len(made.failures)} planned, {len(made.failures)} failed"),
        ("levels", str(made.levels)),
        ("compilations", f"{made.compilations}, and 2 small ones a canvas where slots refill"),
        ("image-steps", str(made.image_steps)),
        ("wasted pixels", f"{100 * made.waste:.1f} % (rims of canvases, empty slots)"),
        ("operations", f"{made.operations / 1e12:.3f} TFLOP of convolutions"),
        ("time in steps", _time_text(made)),
        ("memory", _memory_text(made)),
    ]
    return [*rows, *(("note", note) for note in made.notes)]


def _time_text(made: "PlanReport") -> str:
    if made.seconds is None:
        return "not known: no rate was measured"
    rate = made.flops_per_second / 1e9
    return (
        f"about {made.seconds:.0f} s at {rate:.0f} GFLOP/s, measured just now on a forward pass "
        "over a small picture"
    )


def _memory_text(made: "PlanReport") -> str:
    known = [one.collectives for one in made.canvases if one.collectives is not None]
    if not known:
        return "estimated; --compile asks the compiler"
    return f"the compiler's own account; {sum(known)} collectives in the steps"
