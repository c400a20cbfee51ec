"""`nst-jax plan --topology`: a run on TPU chips that are not at hand, as tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nst_jax.forecast.roofline import StepRoofline, TopologyReport

# Two lines each, so that ten columns go into eighty characters.
_HEADINGS = (
    "canvas",
    "style",
    "slots\na chip",
    "would\nfit",
    "MB\na chip",
    "GFLOP",
    "GB",
    "compiled\nin s",
    "roofline\nms",
)


def forecast_table(made: "TopologyReport") -> Any:
    """A row a compiled step program; operations, bytes and time are those of an image-step."""
    from rich.table import Table

    table = Table(caption="GFLOP, GB and ms: of an image-step. The last column is an estimate.")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for canvas in made.plan.canvases:
        for step in made.steps(canvas):
            table.add_row(f"{canvas.canvas[1]}x{canvas.canvas[0]}", *_cells(step))
    return table


def _cells(step: "StepRoofline") -> Sequence[str]:
    seen = step.step.compiled
    memory, fit, seconds = seen.bytes_per_device, step.slots_that_fit, step.chip_seconds
    return (
        step.step.style_kind,
        str(step.slots_on_each),
        "?" if fit is None else str(fit),
        "?" if memory is None else f"{memory / 1e6:.0f}",
        f"{step.flops_per_image_step / 1e9:.1f}",
        f"{step.bytes_accessed_per_image_step / 1e9:.2f}",
        f"{seen.seconds:.0f}",
        "?" if seconds is None else f"{1e3 * seconds:.2f}",
    )


def forecast_rows(made: "TopologyReport") -> list[tuple[str, str]]:
    """Names and values of what concerns the whole run."""
    plan, chip, devices = made.plan, made.topology.chip, made.topology.devices
    planned = plan.jobs - len(plan.failures)
    return [
        (
            "topology",
            f"{made.topology.name}: {devices.count} x {devices.kind}, "
            f"{devices.memory_bytes / 1e6:.0f} MB each to use; compiled for it, not run on it",
        ),
        ("computes in", plan.dtype),
        ("jobs", f"{planned} planned, {len(plan.failures)} failed"),
        ("levels", str(plan.levels)),
        ("image-steps", str(plan.image_steps)),
        ("wasted pixels", f"{100 * plan.waste:.1f} % (rims of canvases, empty slots)"),
        ("collectives", f"{sum(one.collectives or 0 for one in plan.canvases)} in the steps"),
        ("estimated at most", _rate_text(made)),
        ("estimated batch", _batch_text(made)),
        (
            "estimated from",
            f"{chip.bfloat16 / 1e12:.0f} TFLOP/s in bfloat16 and "
            f"{(chip.bytes_per_second or 0) / 1e9:.0f} GB/s a chip ({chip.source}); "
            "a roofline, never measured and not to be reached",
        ),
        *(("note", note) for note in made.notes),
    ]


def _rate_text(made: "TopologyReport") -> str:
    if made.seconds is None or made.images_per_hour is None:
        return "not known"
    return f"{made.images_per_hour:.0f} images an hour, {made.seconds:.1f} s in steps"


def _batch_text(made: "TopologyReport") -> str:
    fitting = made.batch_that_fits
    if fitting is None:
        return "not known"
    return f"{fitting} slots of the largest canvas would fit, if memory grows as it does up to here"
