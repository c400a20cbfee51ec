"""Small jobs for the engine: pictures from seeds, a narrow network, an engine that is kept."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
import references
from networks import CHANNELS, narrow_network, picture

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.solver import Problem, State
from nst_jax.engine.device.targets import TargetCache
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.slots import Plan, choose_slots
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.scheduler import NO_RETRIES, make_programs, make_scheduler
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

LANDSCAPE, PORTRAIT = (34, 48), (48, 30)
"""Sizes in pixels, (height, width), that have two canvases at a long edge of 48 px."""

STYLE_SIZE = (40, 48)


def one_device() -> list[Any]:
    return jax.devices()[:1]


def write_narrow_weights(
    path: Path,
    *,
    architecture: str = "vgg16",
    seed: int = 0,
    channels: tuple[int, ...] = CHANNELS,
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
def compiling_as_shipped() -> Iterator[None]:
    """What is compiled in this `with` block is optimised as it is for users; see `conftest.py`."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, False)
    try:
        yield
    finally:
        jax.config.update(name, before)


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


class Call(NamedTuple):
    """What a step program was given, on the host, and what it gave."""

    canvas: tuple[int, int]
    states: State
    problems: Problem
    after: State


def _copied(tree: Any) -> Any:
    """Device arrays on the host, where donation can't reach them."""
    return jax.tree.map(np.array, jax.device_get(tree))


def by_canvas(plan: Plan) -> dict[tuple[int, int], int]:
    """A plan's slots, where jobs of a canvas are all in one group."""
    slots = {group.canvas: count for group, count in plan.slots.items()}
    assert len(slots) == len(plan.slots)
    return slots


class Studio:
    """What `render_many` does, but programs and targets are kept from one call to the next.

    Attributes:
        session: What the jobs share.
        progress: Told what happens.
        policy: What is done about accidents.
        scheduler: Of the last call.
    """

    def __init__(self, options: Options, devices: Sequence[Any] | None = None) -> None:
        self.options = options
        self.session = open_session(options, devices or one_device())
        self.progress: Progress = NullProgress()
        self.policy = NO_RETRIES
        self.scheduler: Any = None
        self._programs: ProgramCache | None = None

    @property
    def programs(self) -> ProgramCache:
        assert self._programs is not None, "nothing was rendered yet"
        return self._programs

    def open(self, requests: Sequence[ExaminedJob]) -> None:
        """Makes the network ready, to the depth that these jobs need."""
        self._programs = make_programs(self.session, requests, self.progress)
        self._targets = TargetCache(self._programs, self.options)

    def requests(self, jobs: Iterable[Job]) -> list[ExaminedJob]:
        examined = examine_jobs(fill_defaults(jobs, self.options), self.session, NullProgress())
        return [one for one in examined if isinstance(one, ExaminedJob)]

    def plan(self, requests: Sequence[ExaminedJob], **changes: Any) -> Plan:
        options = dataclasses.replace(self.options, **changes)
        return choose_slots([one.levels for one in requests], options, self.session.devices)

    def results(self, requests: Sequence[ExaminedJob], plan: Plan) -> Iterator[Result]:
        """Results as they come."""
        if self._programs is None:
            self.open(requests)
        self.scheduler = make_scheduler(
            self.session,
            requests,
            plan,
            self.progress,
            programs=self._programs,
            targets=self._targets,
            policy=self.policy,
        )
        return render_jobs(requests, self.session, self.scheduler)

    def render(self, jobs: Iterable[Job], **changes: Any) -> list[Result]:
        """Results in the order of the jobs; `changes` may give another `batch_size`."""
        requests = self.requests(jobs)
        results = self.results(requests, self.plan(requests, **changes))
        return sorted(results, key=lambda result: result.index)

    def calls(self, jobs: Iterable[Job], **changes: Any) -> list[Call]:
        """Renders, and tells what went into the step programs and came out, call by call."""
        jobs, seen = list(jobs), []
        if self._programs is None:
            self.open(self.requests(jobs))
        original = self.programs.run_chunk

        def spy(canvas, states, problems, num_steps):
            before, asked = map(_copied, (states, problems))
            after = original(canvas, states, problems, num_steps)
            seen.append(Call(canvas, before, asked, _copied(after)))
            return after

        with mock.patch.object(self.programs, "run_chunk", spy):
            self.render(jobs, **changes)
        return seen
