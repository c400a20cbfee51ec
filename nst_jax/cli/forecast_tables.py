"""What `nst-jax plan` prints: a row a canvas or a compiled step, then a line a figure."""

import collections
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nst_jax.cli.console import print_table, printable, say_duration

if TYPE_CHECKING:
    from nst_jax.forecast.folder_state import FolderState
    from nst_jax.forecast.report import CanvasReport, PlanReport
    from nst_jax.forecast.roofline import StepRoofline, TopologyReport

_CANVAS_HEADINGS = (
    *("canvas", "pictures", "slots", "batches", "waste"),
    *("GFLOP\na step", "MB on\na device"),
)
_MOST_CANVASES = 12
"""More are put together by their long edge, which is a level's."""
_NAMES_SHOWN = 20

# Two lines each, so that ten columns go into eighty characters.
_STEP_HEADINGS = (
    *("canvas", "style", "slots\na chip", "would\nfit", "MB\na chip"),
    *("GFLOP", "GB", "compiled\nin s", "roofline\nms"),
)


def print_plan(made: "PlanReport") -> None:
    """What concerns the whole run, then a row a canvas, or of many canvases a row a level."""
    device = made.device
    memory = device["memory_bytes"]
    room = "" if memory is None else f", {memory / 1e6:.0f} MB each to use"
    dtype, jobs, levels, steps, waste = _common_lines(made)
    lines = [
        jobs,
        ("time", _time_text(made)),
        ("devices", f"{device['count']} x {device['kind']} ({device['platform']}){room}"),
        *(dtype, levels),
        ("programs", f"{made.compilations} to compile at most"),
        *(steps, waste),
        ("operations", f"{made.operations / 1e12:.3f} TFLOP of convolutions"),
        ("memory", _memory_text(made)),
    ]
    _print_lines(lines, made.notes, made)
    if made.folder:
        _print_folder(made.folder)
    if len(made.canvases) > _MOST_CANVASES:
        print_table(
            _level_rows(made.canvases),
            ("level", "canvases", *_CANVAS_HEADINGS[1:]),
            justify="right",
        )
    else:
        print_table(map(_canvas_cells, made.canvases), _CANVAS_HEADINGS, justify="right")


def print_forecast(made: "TopologyReport") -> None:
    """A row a compiled step; operations, bytes and time are those of an image-step."""
    plan, chip, devices = made.plan, made.topology.chip, made.topology.devices
    steps = [(canvas, step) for canvas in plan.canvases for step in made.steps(canvas)]
    caption = "GFLOP, GB and ms: of an image-step. The last column is an estimate."
    rows = ((_size_text(canvas), *_step_cells(step)) for canvas, step in steps)
    print_table(rows, _STEP_HEADINGS, justify="right", caption=caption)
    lines = [
        (
            "topology",
            f"{made.topology.name}: {devices.count} x {devices.kind}, "
            f"{devices.memory_bytes / 1e6:.0f} MB each to use; compiled for it, not run on it",
        ),
        *_common_lines(plan),
        ("collectives", f"{sum(one.collectives or 0 for one in plan.canvases)} in the steps"),
        ("estimated at most", _rate_text(made)),
        ("estimated batch", _batch_text(made)),
        (
            "estimated from",
            f"{chip.bfloat16 / 1e12:.0f} TFLOP/s in bfloat16 and "
            f"{(chip.bytes_per_second or 0) / 1e9:.0f} GB/s a chip ({chip.source}); "
            "a roofline, never measured and not to be reached",
        ),
    ]
    _print_lines(lines, made.notes, plan)


def _print_folder(state: "FolderState") -> None:
    """What the output folder has: counts, and under them names, the first of many."""
    print(f"{'up to date':<22}{state.up_to_date}")
    for name, listed in (
        ("missing", state.missing),
        ("out of date", [f"{one}: {why}" for one, why in state.outdated.items()]),
        ("failed before", [f"{one}: {why}" for one, why in state.failed.items()]),
        ("no longer asked for", state.unasked),
    ):
        print(f"{name:<22}{len(listed)}")
        for text in listed[:_NAMES_SHOWN]:
            print(f"  {printable(text)}")
        if len(listed) > _NAMES_SHOWN:
            print(f"  and {len(listed) - _NAMES_SHOWN} more; --json lists all")


def _common_lines(plan: "PlanReport") -> list[tuple[str, str]]:
    failed = len(plan.failures)
    return [
        ("computes in", plan.dtype),
        ("pictures", f"{plan.jobs - failed} planned, {failed} failed"),
        ("levels", str(plan.levels)),
        ("steps", f"{plan.image_steps} of single pictures"),
        ("wasted pixels", f"{100 * plan.waste:.1f} % (rims of canvases, empty slots)"),
    ]


def _print_lines(
    lines: Sequence[tuple[str, str]], notes: Sequence[str], plan: "PlanReport"
) -> None:
    from rich.console import Console
    from rich.markup import escape

    texts = [f"{name:<22}{text}" for name, text in (*lines, *(("note", note) for note in notes))]
    texts += [f"failed {printable(one.job.output)}: {one.error}" for one in plan.failures]
    for text in texts:
        Console().print(escape(text), highlight=False, soft_wrap=True)


def _size_text(canvas: "CanvasReport") -> str:
    return f"{canvas.canvas[1]}x{canvas.canvas[0]}"


def _canvas_cells(one: "CanvasReport") -> tuple[str, ...]:
    return (
        _size_text(one),
        str(one.jobs),
        str(one.slots),
        str(one.batches),
        f"{100 * one.waste:.0f} %",
        f"{one.flops_per_image_step / 1e9:.2f}",
        f"{one.bytes_per_chip / 1e6:.0f}",
    )


def _level_rows(canvases: Sequence["CanvasReport"]) -> Iterator[tuple[str, ...]]:
    """Canvases put together by their long edge; per step and device the largest counts."""
    by_edge: dict[int, list[CanvasReport]] = collections.defaultdict(list)
    for one in canvases:
        by_edge[max(one.canvas)].append(one)
    for edge, members in sorted(by_edge.items()):
        computed = sum(one.computed_pixel_steps for one in members)
        waste = 1 - sum(one.own_pixel_steps for one in members) / computed
        yield (
            f"{edge} px",
            str(len(members)),
            str(sum(one.jobs for one in members)),
            str(max(one.slots for one in members)),
            str(sum(one.batches for one in members)),
            f"{100 * waste:.0f} %",
            f"{max(one.flops_per_image_step for one in members) / 1e9:.2f}",
            f"{max(one.bytes_per_chip for one in members) / 1e6:.0f}",
        )


def _step_cells(step: "StepRoofline") -> Sequence[str]:
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


def _time_text(made: "PlanReport") -> str:
    if made.seconds is None:
        return "not known: no rate was measured"
    rate = made.flops_per_second / 1e9
    return (
        f"about {say_duration(made.seconds + made.preparing_seconds)} on this machine: "
        f"{say_duration(made.seconds)} in steps, at {rate:.0f} GFLOP/s as measured just now on a "
        f"small picture, {say_duration(made.preparing_seconds)} preparing programs, if none is kept"
    )


def _memory_text(made: "PlanReport") -> str:
    known = [one.collectives for one in made.canvases if one.collectives is not None]
    if not known:
        return "estimated; --compile asks the compiler"
    return f"the compiler's own account; {sum(known)} collectives in the steps"


def _rate_text(made: "TopologyReport") -> str:
    if made.seconds is None or made.images_per_hour is None:
        return "not known"
    return f"{made.images_per_hour:.0f} images an hour, {made.seconds:.1f} s in steps"


def _batch_text(made: "TopologyReport") -> str:
    fitting = made.batch_that_fits
    if fitting is None:
        return "not known"
    return f"{fitting} slots of the largest canvas would fit, if memory grows as it does up to here"
