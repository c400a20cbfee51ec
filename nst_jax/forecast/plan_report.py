"""What a run will be, told before it starts: canvases, batches, memory, operations, time.

Pictures are examined as a run examines them and nothing is rendered. Memory comes from
`estimates`, or from the compiled programs themselves where they are wanted.
"""

import collections
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.session import Session, open_session
from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.plan.demand import measure_demand
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.memory_model import TapPair
from nst_jax.engine.plan.slots import Plan, padding_note
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.scheduler import make_programs
from nst_jax.forecast.compiled_step import CompiledStep, analyze_step
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import Options, StyleLoss
from nst_jax.request.taps import deepest_tap

# A picture of this long edge keeps a device reasonably busy and is soon looked at.
_PROBE_EDGE_PX = {"cpu": 128}
_PROBE_EDGE_ELSEWHERE_PX = 1024
_PROBE_TURNS = 5


@dataclasses.dataclass(frozen=True)
class StepReport:
    """A step program that was compiled for a report.

    Attributes:
        style_kind: How it compares styles.
        slots: Of its batch, over all devices.
        batch_steps: How often all slots are stepped with it.
        compiled: What it says of itself.
    """

    style_kind: StyleLoss
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
        notes: What the user may want to know.
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
            "failures": [_failure_record(result) for result in self.failures],
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
            "device": dict(self.device),
            "dtype": self.dtype,
            "compiled": {name: round(seconds, 3) for name, seconds in self.compiled.items()},
            "notes": list(self.notes),
        }


def make_plan_report(
    jobs: Sequence[Job],
    options: Options | None = None,
    *,
    compile_steps: bool = False,
    measure: bool = True,
    progress: Progress | None = None,
    devices: Sequence[Any] | Devices | None = None,
) -> PlanReport:
    """What rendering these jobs would be. A job that can't be planned is listed as failed.

    Args:
        jobs: As for `render_batch`.
        options: Likewise.
        compile_steps: Whether to compile the step programs, and tell their own memory and
            collectives; it takes as long as in a run, and a run finds them in the cache.
        measure: Whether to measure the device's rate, for an estimate of the time; it takes
            one compilation and some turns of the network over a small picture.
        progress: Told of compilations.
        devices: What to plan for; None: all devices of this process.

    Raises:
        RequestError: The request is wrong in itself, or fits no device.
    """
    options, progress = options or Options(), progress or NullProgress()
    setup = open_session(options, devices)
    listed = fill_defaults(jobs, options)
    examined = examine_jobs(listed, setup, progress)
    whole = measure_demand(listed, options, setup.weights.architecture, setup.pictures.size)
    requests = [one for one in examined if isinstance(one, ExaminedJob)]
    failures = [one for one in examined if isinstance(one, Result)]
    made = setup.make_plan(requests, NullProgress(), whole=whole)
    programs = None
    if requests and (compile_steps or measure):
        programs = make_programs(setup, requests, progress)
    canvases = _canvas_reports(requests, setup, made, programs if compile_steps else None)
    rate = measure_rate(programs, setup, requests) if programs and measure else 0.0
    note = padding_note(len(requests), options)
    return PlanReport(
        jobs=len(examined),
        failures=failures,
        canvases=canvases,
        levels=len({stage.index for one in requests for stage in one.levels}),
        compilations=len(_program_names(requests)),
        device=_device_record(setup),
        dtype=setup.precision.name,
        compiled=dict(programs.compiled) if programs else {},
        flops_per_second=rate,
        notes=[note] if note and requests else [],
    )


def measure_rate(programs: ProgramCache, setup: Session, requests: Sequence[ExaminedJob]) -> float:
    """Model operations a second, as the network looks at a small grey picture, over all devices.

    It compiles the way to the deepest tap and takes the fastest of some turns. A step goes
    the same layers forth and back, so it is a guide to its rate and not its rate.
    """
    taps = {tap for one in requests for tap in (*one.options.content_taps, *one.options.style_taps)}
    deepest = (deepest_tap(taps, setup.weights.architecture),)
    edge = _PROBE_EDGE_PX.get(setup.devices.platform, _PROBE_EDGE_ELSEWHERE_PX)
    image = np.full((edge, edge, 3), 0.5, np.float32)
    size = np.full(2, edge, np.int32)
    seconds = []
    for _ in range(1 + _PROBE_TURNS):  # the first one compiles
        began = time.perf_counter()
        jax.block_until_ready(programs.content_features((edge, edge), deepest, image, size))
        seconds.append(time.perf_counter() - began)
    operations = setup.costs.operations((edge, edge), deepest) / 2
    # Processors that are simulated devices are one and the same.
    parallel = 1 if setup.devices.platform == "cpu" else setup.devices.count
    return parallel * operations / min(seconds[1:])


@dataclasses.dataclass(frozen=True)
class _BucketJobs:
    """The stages that one program steps, with their jobs."""

    group: Bucket
    slots: int
    members: Sequence[tuple[ExaminedJob, Level]]

    @property
    def batches(self) -> int:
        return -(-len(self.members) // self.slots)

    @property
    def batch_steps(self) -> int:
        """How often all slots are stepped."""
        return _batch_steps([stage.steps for _, stage in self.members], self.slots)

    @property
    def taps(self) -> TapPair:
        return self.group.static_options.content_taps, self.group.static_options.style_taps


def _canvas_reports(
    requests: Sequence[ExaminedJob], setup: Session, made: Plan, programs: ProgramCache | None
) -> list[CanvasReport]:
    """One entry a canvas, from small to large."""
    members: dict[Bucket, list[tuple[ExaminedJob, Level]]] = {}
    for one in requests:
        for stage in one.levels:
            members.setdefault(stage.bucket, []).append((one, stage))
    by_canvas: dict[Size, list[_BucketJobs]] = collections.defaultdict(list)
    for group, listed in members.items():
        by_canvas[group.canvas].append(_BucketJobs(group, made.slots[group], listed))
    return [
        _canvas_report(canvas, by_canvas[canvas], setup, programs)
        for canvas in sorted(by_canvas, key=lambda canvas: (canvas[0] * canvas[1], canvas))
    ]


def _canvas_report(
    canvas: Size, parts: Sequence[_BucketJobs], setup: Session, programs: ProgramCache | None
) -> CanvasReport:
    costs, devices = setup.costs, setup.devices
    steps = [_step_report(part, setup, programs) for part in parts] if programs else []
    estimates = [
        costs.step_bytes(canvas, devices.slots_on_each(part.slots), *part.taps) for part in parts
    ]
    told = [one.compiled.bytes_per_device for one in steps] or [None] * len(parts)
    members = [member for part in parts for member in part.members]
    return CanvasReport(
        canvas=canvas,
        jobs=len({one.index for one, _ in members}),
        slots=max(part.slots for part in parts),
        batches=sum(part.batches for part in parts),
        image_steps=sum(stage.steps for _, stage in members),
        own_pixel_steps=sum(stage.steps * stage.size[0] * stage.size[1] for _, stage in members),
        computed_pixel_steps=sum(part.slots * part.batch_steps for part in parts)
        * (canvas[0] * canvas[1]),
        flops_per_image_step=max(
            costs.operations(canvas, (*part.taps[0], *part.taps[1])) for part in parts
        ),
        bytes_per_chip=max(
            known or estimate for known, estimate in zip(told, estimates, strict=True)
        ),
        collectives=sum(len(one.compiled.collectives) for one in steps) if programs else None,
        steps=steps,
    )


def _step_report(part: _BucketJobs, setup: Session, programs: ProgramCache) -> StepReport:
    kind, structure, regions = (
        setup.options.style_loss,
        part.group.static_options,
        part.group.regions,
    )
    asked = structure, kind, regions, setup.options
    seen = analyze_step(programs, setup.devices, part.group.canvas, part.slots, *asked)
    return StepReport(kind, part.slots, part.batch_steps, seen)


def _batch_steps(job_steps: Iterable[int], slots: int) -> int:
    """Steps that batches take for jobs that share a program, if a free slot is filled at once.

    The longest jobs go first; a job takes the slot that is free first.
    """
    busy = [0] * slots
    for steps in sorted(job_steps, reverse=True):
        first = min(range(slots), key=busy.__getitem__)
        busy[first] += steps
    return max(busy)


def _program_names(requests: Sequence[ExaminedJob]) -> set[tuple[Any, ...]]:
    """What tells the programs of a run apart, except those that refill slots."""
    names: set[tuple[Any, ...]] = set()
    for one in requests:
        for stage in one.levels:
            names.add(("step", stage.bucket))
            names.add(("content features", stage.canvas, one.options.content_taps))
            masked = bool(one.job.style_masks)
            names.add(("style moments", stage.style_edge, one.options.style_taps, masked))
    return names


def _device_record(setup: Session) -> dict[str, Any]:
    devices = setup.devices
    return {
        "platform": devices.platform,
        "kind": devices.kind,
        "count": devices.count,
        "memory_bytes": devices.memory_bytes,
    }


def _failure_record(result: Result) -> dict[str, Any]:
    record = result.record()
    return {"job": record["job"], "error": record["error"]}
