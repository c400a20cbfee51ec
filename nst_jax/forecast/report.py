"""What is told of a run before it starts: of the whole, of each canvas, of each step program."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.results import Result
from nst_jax.forecast.compiled_step import CompiledStep
from nst_jax.forecast.folder_state import FolderState

_COMPILE_SHARE = 0.5
"""Seconds of the mean program over those of a forward pass, by `--verbose` runs on two cores."""


@dataclasses.dataclass(frozen=True)
class StepReport:
    """A step program that was compiled for a report.

    Attributes:
        style_kind: How it compares styles.
        slots: Of its batch, over all devices.
        batch_steps: How often all slots are stepped with it.
        compiled: What it says of itself.
    """

    style_kind: str
    slots: int
    batch_steps: int
    compiled: CompiledStep


@dataclasses.dataclass(frozen=True)
class CanvasReport:
    """What a run does on one canvas.

    Attributes:
        canvas: Height and width in pixels.
        jobs: How many come by.
        slots: Of its largest batch, over all devices.
        batches: How many batches it takes, with the slots that become free filled again.
        image_steps: Steps of single images.
        own_pixel_steps: Pixels of images, times steps.
        computed_pixel_steps: The same with what canvases and empty slots add.
        flops_per_image_step: Model operations; see `Costs.operations`.
        bytes_per_chip: On each device: the compiled program's where it was compiled, or else
            an estimate.
        collectives: Operations between devices in the step; None: not compiled.
        steps: The step programs, where they were compiled.
    """

    canvas: Size
    jobs: int
    slots: int
    batches: int
    image_steps: int
    own_pixel_steps: int
    computed_pixel_steps: int
    flops_per_image_step: int
    bytes_per_chip: int
    collectives: int | None
    steps: Sequence[StepReport] = ()

    @property
    def waste(self) -> float:
        """Share of the computed pixels that no image has, 0 to 1."""
        return 1 - self.own_pixel_steps / self.computed_pixel_steps

    @property
    def operations(self) -> int:
        """Model operations of all steps, those of empty slots included."""
        height, width = self.canvas
        return self.flops_per_image_step * (self.computed_pixel_steps // (height * width))

    def record(self) -> dict[str, Any]:
        """The canvas as `plan --json` prints it."""
        return {
            "canvas": list(self.canvas),
            "jobs": self.jobs,
            "slots": self.slots,
            "batches": self.batches,
            "waste": round(self.waste, 4),
            "image_steps": self.image_steps,
            "flops_per_image_step": self.flops_per_image_step,
            "bytes_per_chip": self.bytes_per_chip,
            "collectives": self.collectives,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class PlanReport:
    """A run before it starts.

    Attributes:
        jobs: How many were asked for.
        failures: Those that can't be planned, as failed results.
        canvases: From small to large.
        levels: Resolutions, from coarse to fine.
        compilations: Names of programs that a run compiles at most.
        device: Platform, kind, count and memory.
        dtype: What the network computes in.
        compiled: Seconds of what was compiled for this report, by name.
        flops_per_second: Measured just now; see `measure_rate`. 0: not measured.
        probe_compile_seconds: Of the program that measured it, a forward pass; 0: not measured.
        notes: What the user may want to know.
        folder: What the output folder has of the jobs; None: not asked for.
    """

    jobs: int
    failures: Sequence[Result]
    canvases: Sequence[CanvasReport]
    levels: int
    compilations: int
    device: Mapping[str, Any]
    dtype: str
    compiled: Mapping[str, float]
    flops_per_second: float
    notes: Sequence[str]
    probe_compile_seconds: float = 0.0
    folder: FolderState | None = None

    @property
    def image_steps(self) -> int:
        """Steps of single images, of all jobs."""
        return sum(canvas.image_steps for canvas in self.canvases)

    @property
    def operations(self) -> int:
        """Model operations of all steps."""
        return sum(canvas.operations for canvas in self.canvases)

    @property
    def seconds(self) -> float | None:
        """Of steps alone, at the measured rate; None where none was measured."""
        return self.operations / self.flops_per_second if self.flops_per_second else None

    @property
    def preparing_seconds(self) -> float:
        """About how long all programs take to compile, where none is kept."""
        return _COMPILE_SHARE * self.compilations * self.probe_compile_seconds

    @property
    def waste(self) -> float:
        """Share of the computed pixels that no image has, over all steps, 0 to 1."""
        computed = sum(canvas.computed_pixel_steps for canvas in self.canvases)
        own = sum(canvas.own_pixel_steps for canvas in self.canvases)
        return 1 - own / computed if computed else 0.0

    def record(self) -> dict[str, Any]:
        """The report as `plan --json` prints it.

        What stands beside `canvases` and belongs to one of them is that of the largest.
        """
        last = self.canvases[-1].record() if self.canvases else {}
        known = [canvas.collectives for canvas in self.canvases if canvas.collectives is not None]
        return {
            "jobs": self.jobs,
            "failures": [
                {name: result.record()[name] for name in ("job", "error")}
                for result in self.failures
            ],
            "levels": self.levels,
            "compilations": self.compilations,
            "canvases": [canvas.record() for canvas in self.canvases],
            "batch_size": last.get("slots", 0),
            "flops_per_image_step": last.get("flops_per_image_step", 0),
            "bytes_per_chip": max((one.bytes_per_chip for one in self.canvases), default=0),
            "collectives": sum(known) if known else None,
            "waste": round(self.waste, 4),
            "image_steps": self.image_steps,
            "flops": self.operations,
            "flops_per_second": self.flops_per_second or None,
            "seconds": self.seconds,
            "preparing_seconds": round(self.preparing_seconds, 3) if self.seconds else None,
            "device": dict(self.device),
            "dtype": self.dtype,
            "compiled": {name: round(seconds, 3) for name, seconds in self.compiled.items()},
            "notes": list(self.notes),
        } | ({"folder": self.folder.record()} if self.folder else {})
