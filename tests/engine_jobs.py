"""Small jobs for the engine: pictures from seeds, a narrow network, an engine that is kept."""

import contextlib
import dataclasses
import logging
import re
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
import pytest
import references
from networks import CHANNELS, narrow_network, picture

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.solver import Problem, State
from nst_jax.engine.device.targets import TargetCache
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.slots import Plan, choose_slots
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.make_scheduler import make_programs, make_scheduler
from nst_jax.engine.schedule.scheduler import NO_RETRIES
from nst_jax.engine.schedule.waves import render_jobs
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import JOB_FIELDS, JobOptions, Options, job_options, normalized_weights
from nst_jax.request.presets import PRESETS
from nst_jax.request.taps import ARCHITECTURES
from nst_jax.weights.format import write_weights
from nst_jax.weights.network import NetworkWeights

NARROW = narrow_network("vgg16")

TAPS: dict[str, Any] = {"content_taps": ("relu2_1",), "style_taps": ("relu1_1", "relu2_1")}
"""Shallow ones, because a step of them compiles quickly."""

FIRST_TAPS: dict[str, Any] = {"content_taps": ("relu1_1",), "style_taps": ("relu1_1",)}
"""Shallower still, for what is around a step."""

LANDSCAPE, PORTRAIT = (34, 48), (48, 30)
"""Sizes in pixels, (height, width), that have two canvases at a long edge of 48 px."""

STYLE_SIZE = (40, 48)


def one_device() -> list[Any]:
    return jax.devices()[:1]


def write_narrow_weights(
    path: Path, *, architecture: str = "vgg16", seed: int = 0, channels: tuple[int, ...] = CHANNELS
) -> str:
    """A narrow network's weight file; its path as options want it."""
    network = narrow_network(architecture, seed=seed, channels=channels)
    red, green, blue = map(float, network.mean)
    weights = NetworkWeights(
        architecture=ARCHITECTURES[network.architecture],
        convolutions=network.convolutions,
        mean=(red, green, blue),
        source="a test",
        source_sha256="0" * 64,
        licence="none",
    )
    write_weights(path, weights)
    return str(path)


def tiny_options(weights: str, **changes: Any) -> Options:
    """Two levels of 34 and 48 px, four steps each, four slots."""
    defaults: dict[str, Any] = {
        "size": 48,
        "levels": 2,
        "level_ratio": 1.4142,
        "steps": 4,
        "batch_size": 4,
        "weights": weights,
    }
    return Options(**({"preset": "gram"} | defaults | TAPS | changes))


def tiny_job(pair: int = 0, size: tuple[int, int] = LANDSCAPE, **own: Any) -> Job:
    """A content and a style by number; `own` options, four steps where they don't say."""
    return Job(content_of(pair, size), style_of(pair), options=own_options(**own))


def own_options(**changes: Any) -> JobOptions:
    gram = {name: value for name, value in PRESETS["gram"].values.items() if name in JOB_FIELDS}
    defaults: dict[str, Any] = {**gram, "steps": 4, **TAPS}
    return JobOptions(**(defaults | changes))


def own_of(job: Job) -> JobOptions:
    """The options of a job that has its own."""
    assert job.options is not None
    return job.options


def content_of(pair: int, size: tuple[int, int] = LANDSCAPE) -> np.ndarray:
    return picture(*size, seed=2 * pair)


def style_of(pair: int) -> np.ndarray:
    """Brighter than a content, or there would be little to do."""
    return picture(*STYLE_SIZE, seed=2 * pair + 1) ** 0.5


def image_of(result: Result) -> np.ndarray:
    """A finished result's pixels."""
    assert result.error is None, result.error
    assert result.image is not None
    return result.image


def same(one: Result, other: Result) -> bool:
    """Whether two results have the same picture, byte for byte, and the same losses."""
    equal_bytes = image_of(one).tobytes() == image_of(other).tobytes()
    return equal_bytes and one.losses == other.losses


def assert_same(results: Sequence[Result], expected: Sequence[Result]) -> None:
    """Each job once, with the picture, losses and steps that are expected."""
    assert [result.index for result in results] == list(range(len(expected)))
    for result, other in zip(results, expected, strict=True):
        assert same(result, other), result.index
        assert result.steps == other.steps


def expected_objective(job: Job, options: Options, image: np.ndarray) -> tuple:
    """Value, terms (content, style, tv) and gradient in float64, at the size of the content.

    Only where content and styles need no scaling: one level, pictures of its long edge.
    """
    own = job_options(job.options or options)
    content = references.vgg(np.asarray(job.content), NARROW, padding=options.padding)
    styles = [
        references.vgg(np.asarray(style), NARROW, padding=options.padding) for style in job.styles
    ]
    blend = normalized_weights(own.style_blend_weights, len(styles))
    grams = {
        tap: sum(
            weight * references.gram(one[tap]) for weight, one in zip(blend, styles, strict=True)
        )
        for tap in own.style_taps
    }
    weights = {
        "content": own.content_weight,
        "style": own.style_weight,
        "tv": own.tv_weight,
        "content_taps": _by_tap(own.content_taps, own.content_tap_weights),
        "style_taps": _by_tap(own.style_taps, own.style_tap_weights, ratio=0.5),
    }
    targets = {tap: content[tap] for tap in own.content_taps}
    return references.objective(image, NARROW, targets, grams, weights, padding=options.padding)


def _by_tap(taps: tuple[str, ...], weights: tuple[float, ...], ratio=1.0) -> dict[str, float]:
    return dict(zip(taps, normalized_weights(weights, len(taps), ratio=ratio), strict=True))


@contextlib.contextmanager
def shared_programs() -> Iterator[None]:
    """Programs of one name are compiled once in this `with` block, whatever runs are in it.

    So the runs in it must share the network and all that is static.
    """
    kept: dict[str, Any] = {}
    original = ProgramCache.__init__

    def share(self: ProgramCache, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self._programs = kept

    with mock.patch.object(ProgramCache, "__init__", share):
        yield


BAD: dict[str, Any] = {"init": "noise", "content_weight": 3e38, "style_weight": 3e38}
"""What no float32 holds: the job fails at its first step."""

LENGTHS = (3, 17, 1, 8, 25, 2, 2, 11, 6, 1, 13, 4)
_SIZES = (LANDSCAPE, (41, 48), (33, 47))
_STARTS: tuple[dict[str, Any], ...] = (
    {},
    {"init": "noise", "seed": 5, "learning_rate": 0.04},
    {"style_weight": 4.0, "tv_weight": 0.0},
    {"init": "grey", "content_weight": 3.0},
)
JOBS = [
    tiny_job(number, _SIZES[number % 3], steps=length, **_STARTS[number % 4])
    for number, length in enumerate(LENGTHS)
]
"""Of many lengths, and different in all that may differ on one canvas."""


class Call(NamedTuple):
    """What a step program was given, on the host, and what it gave."""

    canvas: tuple[int, int]
    states: State
    problems: Problem
    after: State


class Chunk(NamedTuple):
    """The size of one call of a step program."""

    canvas: tuple[int, int]
    slots: int
    num_steps: int


def copy_to_host(tree: Any) -> Any:
    """Device arrays on the host, where donation can't reach them."""
    return jax.tree.map(np.array, jax.device_get(tree))


def slots_by_canvas(plan: Plan) -> dict[tuple[int, int], int]:
    """A plan's slots, where jobs of a canvas are all in one bucket."""
    slots = {bucket.canvas: count for bucket, count in plan.slots.items()}
    assert len(slots) == len(plan.slots)
    return slots


class Notes(NullProgress):
    """A `Progress` that remembers what was said and counted."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.image_steps = 0

    def note(self, message: str) -> None:
        self.said.append(message)

    def on_step(self, image_steps: int) -> None:
        self.image_steps += image_steps


def turn_upright(call: Call) -> Call:
    """A call whose images lay transposed, as if they had not."""

    def turn(path: Any, leaf: np.ndarray) -> np.ndarray:
        if ".masks" in jax.tree_util.keystr(path):
            return leaf.swapaxes(2, 3)
        return leaf.swapaxes(1, 2) if leaf.ndim == 4 else leaf

    states, problems, after = jax.tree_util.tree_map_with_path(
        turn, (call.states, call.problems, call.after)
    )
    problems = problems._replace(size=problems.size[:, ::-1])
    return Call(call.canvas[::-1], states, problems, after)


class Studio:
    """What `render_many` does, but programs and targets are kept from one call to the next.

    Attributes:
        session: What the jobs share.
        notes: What was said and counted.
        policy: What is done about accidents.
        scheduler: Of the last call.
    """

    def __init__(self, options: Options, devices: Sequence[Any] | None = None) -> None:
        self.options = options
        self.session = open_session(options, devices or one_device())
        self.notes = Notes()
        self.policy = NO_RETRIES
        self.scheduler: Any = None
        self._programs: ProgramCache | None = None

    @property
    def programs(self) -> ProgramCache:
        """Reaching the taps of the first jobs, or of a tiny one where nothing was rendered."""
        return self._programs or self._make_programs(self.examine([tiny_job(0)]))

    def _make_programs(self, jobs: Sequence[ExaminedJob]) -> ProgramCache:
        self._programs = make_programs(self.session, jobs, self.notes)
        self._targets = TargetCache(self._programs, self.options)
        return self._programs

    def examine(self, jobs: Iterable[Job]) -> list[ExaminedJob]:
        examined = examine_jobs(fill_defaults(jobs, self.options), self.session, NullProgress())
        return [one for one in examined if isinstance(one, ExaminedJob)]

    def plan(self, jobs: Sequence[ExaminedJob], **changes: Any) -> Plan:
        options = dataclasses.replace(self.options, **changes)
        return choose_slots([one.levels for one in jobs], options, self.session.devices)

    def results(self, jobs: Sequence[ExaminedJob], plan: Plan) -> Iterator[Result]:
        """Results as they come."""
        self.scheduler = make_scheduler(
            self.session,
            jobs,
            plan,
            self.notes,
            programs=self._programs or self._make_programs(jobs),
            targets=self._targets,
            policy=self.policy,
        )
        return render_jobs(jobs, self.session, self.scheduler)

    def render(self, jobs: Iterable[Job], **changes: Any) -> list[Result]:
        """Results in the order of the jobs; `changes` may give another `batch_size`."""
        examined = self.examine(jobs)
        results = self.results(examined, self.plan(examined, **changes))
        return sorted(results, key=lambda result: result.index)

    def render_alone(self, jobs: Iterable[Job], **changes: Any) -> list[Result]:
        """Results of a run for each job."""
        results = [self.render([job], **changes)[0] for job in jobs]
        return [dataclasses.replace(one, index=index) for index, one in enumerate(results)]

    def calls(self, jobs: Iterable[Job], *, one_by_one: bool = False, **changes: Any) -> list[Call]:
        """Renders, and tells what went into the step programs and came out, call by call.

        All upright, whichever way it lay.

        Args:
            one_by_one: Whether each call takes one step.
        """
        jobs, seen = list(jobs), []
        programs = self._programs or self._make_programs(self.examine(jobs))
        original = programs.run_chunk

        def spy(canvas, states, problems, num_steps, is_transposed):
            before, asked = map(copy_to_host, (states, problems))
            after, report = original(canvas, states, problems, num_steps, is_transposed)
            call = Call(canvas, before, asked, copy_to_host(after))
            seen.append(turn_upright(call) if is_transposed else call)
            return after, report

        with mock.patch.object(programs, "run_chunk", spy), pytest.MonkeyPatch.context() as patch:
            if one_by_one:
                patch.setattr("nst_jax.engine.schedule.scheduler._CHUNK_S", 0.0)
            self.render(jobs, **changes)
        return seen

    @contextlib.contextmanager
    def watch(self, name: str, before: Callable[..., object]) -> Iterator[None]:
        """Calls `before` with the arguments of each call of one kind of program."""
        original = getattr(self.programs, name)

        def spy(*arguments: Any) -> Any:
            before(*arguments)
            return original(*arguments)

        with mock.patch.object(self.programs, name, spy):
            yield

    @contextlib.contextmanager
    def chunks(self) -> Iterator[list[Chunk]]:
        """What the step programs were told while this lasts."""
        seen: list[Chunk] = []

        def note(canvas: Any, _: Any, problems: Any, num_steps: Any, *__: Any) -> None:
            seen.append(Chunk(canvas, len(problems.steps), int(num_steps)))

        with self.watch("run_chunk", note):
            yield seen

    @contextlib.contextmanager
    def refills(self) -> Iterator[list[int]]:
        """Which slots were filled anew while this lasts."""
        seen: list[int] = []
        with self.watch("place", lambda canvas, batch, slot, one: seen.append(slot)):
            yield seen


class _TimedReport:
    """A chunk's report that moves a clock when it is read, as a device's time passes."""

    def __init__(self, report: Any, passes: Callable[[], None]) -> None:
        self._report, self._passes = report, passes

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        self._passes()
        return np.asarray(self._report)


def set_pace(
    monkeypatch: pytest.MonkeyPatch, studio: Studio, seconds: float | Callable[[int], float]
) -> None:
    """A clock that only steps move, so that chunks are as long as the pace says.

    Args:
        seconds: Of one step of the batch; or a function of the number of steps made before.
    """
    clock = types.SimpleNamespace(now=0.0, steps=0)
    time = types.SimpleNamespace(perf_counter=lambda: clock.now, thread_time=lambda: clock.now)
    monkeypatch.setattr("nst_jax.engine.schedule.timing.time", time)
    monkeypatch.setattr("nst_jax.engine.device.compiled_programs.time", time)
    original = studio.programs.run_chunk

    def run_chunk(canvas: Any, states: Any, problems: Any, num_steps: Any, *how: Any) -> Any:
        def passes() -> None:
            for _ in range(int(num_steps)):
                clock.now += seconds(clock.steps) if callable(seconds) else seconds
                clock.steps += 1

        states, report = original(canvas, states, problems, num_steps, *how)
        return states, _TimedReport(report, passes)

    monkeypatch.setattr(studio.programs, "run_chunk", run_chunk)


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Names of the functions that XLA compiles; nothing is remembered from before."""
    seen: list[str] = []

    def note(record: logging.LogRecord) -> None:
        text = record.getMessage()
        if match := re.match(r"Finished XLA compilation of jit\((.+?)\) in", text):
            seen.append(match[1])

    jax.clear_caches()
    logger, handler = logging.getLogger("jax._src.dispatch"), logging.Handler()
    handler.emit = note
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield seen
    finally:
        logger.removeHandler(handler)
