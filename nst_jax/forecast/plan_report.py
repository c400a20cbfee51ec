"""What a run will be, told before it starts: canvases, batches, memory, operations, time.

Pictures are examined as a run examines them and nothing is rendered. Memory comes from
the engine's own model of it, or from the compiled programs themselves where they are wanted.
"""

import collections
import dataclasses
import heapq
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.memory_model import TapPair
from nst_jax.engine.plan.slots import Plan, padding_note
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.schedule.make_scheduler import make_programs
from nst_jax.files.folders import folder_at
from nst_jax.forecast.compiled_step import analyze_step
from nst_jax.forecast.folder_state import inspect_folder
from nst_jax.forecast.planned_run import plan_run
from nst_jax.forecast.report import CanvasReport, PlanReport, StepReport
from nst_jax.request.job import Job
from nst_jax.request.options import Options
from nst_jax.request.taps import deepest_tap

# A picture of this long edge keeps a device reasonably busy and is soon looked at.
_PROBE_EDGE_PX = {"cpu": 128}
_PROBE_EDGE_ELSEWHERE_PX = 1024
_PROBE_TURNS = 5


def make_plan_report(
    jobs: Sequence[Job],
    options: Options | None = None,
    *,
    compile_steps: bool = False,
    measure: bool = True,
    progress: Progress | None = None,
    devices: Sequence[Any] | Devices | None = None,
    output_dir: str = "",
) -> PlanReport:
    """Reports what rendering these jobs would be. A job that can't be planned is listed as failed.

    Args:
        jobs: As for `render_batch`.
        options: Likewise.
        compile_steps: Whether to compile the step programs, and tell their own memory and
            collectives; it takes as long as in a run, and a run finds them in the cache.
        measure: Whether to measure the device's rate, for an estimate of the time; it takes
            one compilation and some turns of the network over a small picture.
        progress: Told of compilations.
        devices: What to plan for; None: all devices of this process.
        output_dir: Also tell what this folder has of the jobs.

    Raises:
        RequestError: The request is wrong in itself, or fits no device.
    """
    options, progress = options or Options(), progress or NullProgress()
    run = plan_run(jobs, options, progress, devices)
    session, planned = run.session, run.jobs
    programs = None
    if planned and (compile_steps or measure):
        programs = make_programs(session, planned, progress)
    canvases = _canvas_reports(planned, session, run.plan, programs if compile_steps else None)
    probe = measure_rate(programs, session, planned) if programs and measure else Probe(0.0, 0.0)
    note = padding_note(len(planned), options)
    return PlanReport(
        jobs=len(planned) + len(run.failures),
        failures=run.failures,
        canvases=canvases,
        levels=len({level.index for one in planned for level in one.levels}),
        compilations=len(list(run.programs)),
        device={
            name: getattr(session.devices, name)
            for name in ("platform", "kind", "count", "memory_bytes")
        },
        dtype=session.precision.name,
        compiled=dict(programs.compiled) if programs else {},
        flops_per_second=probe.flops_per_second,
        notes=[note] if note and planned else [],
        probe_compile_seconds=probe.compile_seconds,
        folder=inspect_folder(run, folder_at(output_dir)) if output_dir else None,
    )


class Probe(NamedTuple):
    """How fast a forward pass over a small picture is, over all devices, and to compile."""

    flops_per_second: float
    compile_seconds: float


def measure_rate(programs: ProgramCache, session: Session, planned: Sequence[ExaminedJob]) -> Probe:
    """Model operations a second, as the network looks at a small grey picture, over all devices.

    It compiles the way to the deepest tap and takes the fastest of some turns. A step goes
    the same layers forth and back, so it is a guide to its rate and not its rate.
    """
    taps = {tap for one in planned for tap in (*one.options.content_taps, *one.options.style_taps)}
    deepest = (deepest_tap(taps, session.weights.architecture),)
    edge = _PROBE_EDGE_PX.get(session.devices.platform, _PROBE_EDGE_ELSEWHERE_PX)
    image = np.full((edge, edge, 3), 0.5, np.float32)
    size = np.full(2, edge, np.int32)
    seconds = []
    for _ in range(1 + _PROBE_TURNS):  # the first one compiles
        began = time.perf_counter()
        jax.block_until_ready(
            programs.content_targets((edge, edge), deepest, "relative", image, size)
        )
        seconds.append(time.perf_counter() - began)
    operations = session.costs.operations((edge, edge), deepest) / 2
    # Processors that are simulated devices are one and the same.
    parallel = 1 if session.devices.platform == "cpu" else session.devices.count
    return Probe(parallel * operations / min(seconds[1:]), max(seconds[0] - min(seconds[1:]), 0.0))


@dataclasses.dataclass(frozen=True)
class _BucketJobs:
    """The levels that one program steps, with their jobs."""

    bucket: Bucket
    slots: int
    members: Sequence[tuple[ExaminedJob, Level]]

    @property
    def batches(self) -> int:
        return -(-len(self.members) // self.slots)

    @property
    def batch_steps(self) -> int:
        """How often all slots are stepped."""
        return _batch_steps([level.steps for _, level in self.members], self.slots)

    @property
    def taps(self) -> TapPair:
        return self.bucket.static_options.content_taps, self.bucket.static_options.style_taps


def _canvas_reports(
    jobs: Sequence[ExaminedJob], session: Session, plan: Plan, programs: ProgramCache | None
) -> list[CanvasReport]:
    """One entry a canvas, from small to large."""
    members: dict[Bucket, list[tuple[ExaminedJob, Level]]] = collections.defaultdict(list)
    for one in jobs:
        for level in one.levels:
            members[level.bucket].append((one, level))
    by_canvas: dict[Size, list[_BucketJobs]] = collections.defaultdict(list)
    for bucket, listed in members.items():
        by_canvas[bucket.canvas].append(_BucketJobs(bucket, plan.slots[bucket], listed))
    return [
        _canvas_report(canvas, by_canvas[canvas], session, programs)
        for canvas in sorted(by_canvas, key=lambda canvas: (canvas[0] * canvas[1], canvas))
    ]


def _canvas_report(
    canvas: Size, parts: Sequence[_BucketJobs], session: Session, programs: ProgramCache | None
) -> CanvasReport:
    costs, devices = session.costs, session.devices
    steps = [_step_report(part, session, programs) for part in parts] if programs else []
    told = [one.compiled.bytes_per_device for one in steps] or [None] * len(parts)
    members = [member for part in parts for member in part.members]
    return CanvasReport(
        canvas=canvas,
        jobs=len({one.index for one, _ in members}),
        slots=max(part.slots for part in parts),
        batches=sum(part.batches for part in parts),
        image_steps=sum(level.steps for _, level in members),
        own_pixel_steps=sum(level.steps * math.prod(level.size) for _, level in members),
        computed_pixel_steps=sum(part.slots * part.batch_steps for part in parts)
        * math.prod(canvas),
        flops_per_image_step=max(
            costs.operations(canvas, (*part.taps[0], *part.taps[1])) for part in parts
        ),
        bytes_per_chip=max(
            known or costs.step_bytes(canvas, devices.slots_on_each(part.slots), *part.taps)
            for known, part in zip(told, parts, strict=True)
        ),
        collectives=sum(len(one.compiled.collectives) for one in steps) if programs else None,
        steps=steps,
    )


def _step_report(part: _BucketJobs, session: Session, programs: ProgramCache) -> StepReport:
    options = session.options
    seen = analyze_step(programs, part.bucket, part.slots, options)
    return StepReport(options.style_loss, part.slots, part.batch_steps, seen)


def _batch_steps(job_steps: Iterable[int], slots: int) -> int:
    """Steps that batches take for jobs that share a program, if a free slot is filled at once.

    The longest jobs go first; a job takes the slot that is free first.
    """
    busy = [0] * slots
    for steps in sorted(job_steps, reverse=True):
        heapq.heapreplace(busy, busy[0] + steps)
    return max(busy)
