"""Prepared jobs through the devices, level by level, batch by batch.

    for each level, from coarse to fine
        group the jobs that share a program, fill the slots of batches
        start each image from the level before (or as the job wants)
        step in chunks on the device; after each chunk one small transfer of progress
        take the images back

No file is read or written here. A job that leaves the finite numbers stands still in its
slot and comes out as failed; its neighbours don't notice.
"""

import collections
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine.canvas import Size
from nst_jax.engine.devices import Devices
from nst_jax.engine.levels import Stage
from nst_jax.engine.planner import Plan
from nst_jax.engine.prepared import PreparedJob
from nst_jax.engine.programs import Programs, Taps
from nst_jax.engine.progress import Progress
from nst_jax.engine.solver import Problem, State
from nst_jax.engine.targets import TargetMaker, on_canvas
from nst_jax.files.images import resized
from nst_jax.model.objective import Terms, TermWeights
from nst_jax.model.vgg import VGG
from nst_jax.spec.options import STYLE_TAP_RATIO, JobOptions, shares

# A chunk lasts about this long: often enough for a progress bar and an interrupt, seldom
# enough that the transfer at its end costs nothing.
_CHUNK_S = 2.0

Image = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class Rendered:
    """What the device gave for one job.

    Attributes:
        job: The job.
        image: (h, w, 3) float32 in [0, 1]; the last finite one where the job failed.
        terms: The objective at the last step.
        steps: Steps taken over all levels.
        finite: Whether the job stayed in the finite numbers.
        seconds: Its share of the time in steps.
        compile_seconds: Its share of the time in compilations.
    """

    job: PreparedJob
    image: Image
    terms: Mapping[str, float]
    steps: int
    finite: bool
    seconds: float
    compile_seconds: float


@dataclasses.dataclass
class _Progressing:
    """One job on its way through the levels."""

    job: PreparedJob
    image: Image | None = None
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    steps: int = 0
    finite: bool = True
    seconds: float = 0.0
    compile_seconds: float = 0.0

    def rendered(self) -> Rendered:
        assert self.image is not None
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Rendered(**values)


@dataclasses.dataclass
class Timing:
    """Where the renderer's seconds went, over its life."""

    steps: float = 0.0
    targets: float = 0.0
    compilation: float = 0.0
    image_steps: int = 0


class Renderer:
    """Renders jobs on devices with one network; programs are kept between calls."""

    def __init__(self, network: VGG, devices: Devices, progress: Progress) -> None:
        self.programs = Programs(network, devices, progress)
        self.timing = Timing()
        self._devices = devices
        self._progress = progress
        self._targets = TargetMaker(self.programs)

    def render(self, jobs: Sequence[PreparedJob], plan: Plan) -> Iterator[Rendered]:
        """Renders jobs together; each comes out once, as soon as its last batch is done."""
        underway = [_Progressing(job) for job in jobs]
        levels = sorted({stage.level for job in jobs for stage in job.stages})
        for level in levels:
            here = [one for one in underway if one.job.stage(level) and one.finite]
            for batch in _batches(here, level, plan):
                self._run(batch, level, plan)
                yield from (one.rendered() for one in batch if _is_over(one, level))

    def _run(self, batch: list[_Progressing], level: int, plan: Plan) -> None:
        """Takes a batch through one level."""
        stages = [_stage(one, level) for one in batch]
        canvas, slots = stages[0].canvas, plan.slots[stages[0].canvas]
        compiled_before, began = sum(self.programs.compiled.values()), time.perf_counter()
        problems = self._problems(batch, stages, slots)
        states = self.programs.start(canvas, _images(batch, stages, slots))
        compiling = sum(self.programs.compiled.values()) - compiled_before
        self.timing.targets += time.perf_counter() - began - compiling
        states, seconds = self._step_until_done(canvas, states, problems, batch)
        compilation = sum(self.programs.compiled.values()) - compiled_before
        self._take_back(batch, stages, states)
        for one in batch:
            one.seconds += seconds / len(batch)
            one.compile_seconds += compilation / len(batch)
        self.timing.compilation += compilation

    def _problems(self, batch: list[_Progressing], stages: list[Stage], slots: int) -> Problem:
        """The batch's problems on the devices; padding repeats the first with no steps."""
        made = [
            Problem(
                size=_host(stage.size, np.int32),
                targets=self._targets.targets(one.job, stage),
                weights=_term_weights(one.job.options),
                learning_rate=_host(one.job.options.learning_rate),
                steps=_host(one.job.options.steps, np.int32),
            )
            for one, stage in zip(batch, stages, strict=True)
        ]
        made += [made[0]._replace(steps=_host(0, np.int32))] * (slots - len(batch))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *made)
        return self._devices.put(stacked, self._devices.sharded(slots))

    def _step_until_done(
        self, canvas: Size, states: State, problems: Problem, batch: list[_Progressing]
    ) -> tuple[State, float]:
        """Runs chunks until every job has its steps; returns seconds without compilation."""
        wanted = np.array([one.job.options.steps for one in batch])
        taken = np.zeros_like(wanted)
        chunk, total = 1, 0.0
        while (taken < wanted).any():
            chunk = min(chunk, int((wanted - taken).max()))
            compiled_before, began = sum(self.programs.compiled.values()), time.perf_counter()
            states = self.programs.run_chunk(canvas, states, problems, np.int32(chunk))
            finite = np.asarray(jax.device_get(states.finite))[: len(batch)]  # waits here
            compilation = sum(self.programs.compiled.values()) - compiled_before
            seconds = time.perf_counter() - began - compilation
            now = np.where(finite, np.minimum(taken + chunk, wanted), wanted)
            self._count(int((now - taken).sum()), seconds)
            taken, total = now, total + seconds
            chunk = max(1, round(chunk * _CHUNK_S / max(seconds, 1e-6)))
        return states, total

    def _count(self, image_steps: int, seconds: float) -> None:
        self.timing.steps += seconds
        self.timing.image_steps += image_steps
        self._progress.stepped(image_steps)

    def _take_back(self, batch: list[_Progressing], stages: list[Stage], states: State) -> None:
        images, terms, steps, finite = jax.device_get(
            (states.image, states.terms, states.step, states.finite)
        )
        for slot, (one, stage) in enumerate(zip(batch, stages, strict=True)):
            height, width = stage.size
            one.image = np.array(images[slot, :height, :width])
            one.terms = {name: float(values[slot]) for name, values in _named(terms).items()}
            one.steps += int(steps[slot])
            one.finite = bool(finite[slot])


def _batches(underway: list[_Progressing], level: int, plan: Plan) -> Iterator[list[_Progressing]]:
    """Jobs that share a program, together; those of like length first, so none waits long."""
    groups: dict[tuple[Size, Taps, Taps], list[_Progressing]] = collections.defaultdict(list)
    for one in underway:
        own = one.job.options
        groups[_stage(one, level).canvas, own.content_taps, own.style_taps].append(one)
    for (canvas, *_), group in groups.items():
        group.sort(key=lambda one: -one.job.options.steps)
        slots = plan.slots[canvas]
        yield from (group[first : first + slots] for first in range(0, len(group), slots))


def _stage(one: _Progressing, level: int) -> Stage:
    stage = one.job.stage(level)
    assert stage is not None
    return stage


def _is_over(one: _Progressing, level: int) -> bool:
    return level == one.job.stages[-1].level or not one.finite


def _images(batch: list[_Progressing], stages: list[Stage], slots: int) -> Image:
    """Where each slot starts, on the canvas; padding repeats the first."""
    own = [
        on_canvas(_first_image(one, stage.size), stage.canvas)[0]
        for one, stage in zip(batch, stages, strict=True)
    ]
    return np.stack(own + own[:1] * (slots - len(own)))


def _first_image(one: _Progressing, size: Size) -> Image:
    """The level before, enlarged; at a job's first level, what its `init` says."""
    if one.image is not None:
        return resized(one.image, size)
    match one.job.options.init:
        case "content":
            return resized(one.job.content.pixels, size)
        case "grey":
            return np.full((*size, 3), 0.5, np.float32)
        case "noise":
            key = np.random.default_rng(one.job.options.seed)
            return key.random((*size, 3), dtype=np.float32)


def _term_weights(own: JobOptions) -> TermWeights:
    return TermWeights(
        content=_host(own.content_weight),
        style=_host(own.style_weight),
        tv=_host(own.tv_weight),
        content_taps=_by_tap(
            own.content_taps, shares(own.content_tap_weights, len(own.content_taps))
        ),
        style_taps=_by_tap(
            own.style_taps,
            shares(own.style_tap_weights, len(own.style_taps), ratio=STYLE_TAP_RATIO),
        ),
    )


def _by_tap(taps: Taps, weights: tuple[float, ...]) -> dict[str, Any]:
    return dict(zip(taps, map(_host, weights), strict=True))


def _host(value: Any, dtype: npt.DTypeLike = np.float32) -> Any:
    """A number or several as an array that is still on the host."""
    return np.asarray(value, dtype)


def _named(terms: Terms) -> dict[str, npt.NDArray[np.float32]]:
    return terms._asdict()
