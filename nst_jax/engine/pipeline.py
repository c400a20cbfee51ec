"""Jobs in, results out: while one wave is on the device the next one is being decoded.

    examine   headers, sizes, fingerprints; a job that fails here never reaches the device
    plan      canvases and slots for all jobs
    waves     jobs that share programs together, a bounded number at a time
    prepare   decode and scale, in threads, one wave ahead
    render    the device

A failing job becomes a failed result; the others don't notice. The number of pictures in
memory is bounded by the wave, whatever the number of jobs.
"""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from nst_jax.engine.canvas import Size
from nst_jax.engine.devices import Devices, Precision, over, precision_of
from nst_jax.engine.fingerprint import fingerprint
from nst_jax.engine.levels import Stage, stages
from nst_jax.engine.planner import WAVE_JOBS, Plan
from nst_jax.engine.prepared import PreparedJob, check_shapes, prepared, source_size
from nst_jax.engine.previews import Preview, Previews, in_wanted_colours
from nst_jax.engine.programs import Programs
from nst_jax.engine.progress import Progress
from nst_jax.engine.renderer import Rendered, Renderer
from nst_jax.engine.results import Result
from nst_jax.engine.targets import Targeting, TargetMaker
from nst_jax.files.weights.finding import find_weights
from nst_jax.files.weights.format import read_weights
from nst_jax.files.weights.network import NetworkWeights
from nst_jax.model.variation import Variation
from nst_jax.model.vgg import VGG
from nst_jax.spec.errors import JobError, NonFiniteError
from nst_jax.spec.job import Job
from nst_jax.spec.options import JobOptions, Options, Structure, resolved, translated_taps
from nst_jax.spec.taps import deepest_tap

_DECODERS = 2
_WAVE_PIXELS = WAVE_JOBS * 512 * 512


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """What all jobs of a run share, opened and checked.

    Attributes:
        options: The run's.
        weights: The network's.
        devices: What the run uses.
        precision: What the network computes in.
    """

    options: Options
    weights: NetworkWeights
    devices: Devices
    precision: Precision

    @property
    def use_winograd(self) -> bool:
        """Whether kernels are prepared for Winograd's algorithm where it pays."""
        return self.devices.platform == "cpu" and self.precision.dtype == jnp.float32

    def renderer(
        self,
        requests: Sequence["Request"],
        progress: Progress,
        show: Callable[[Preview], None] | None = None,
        targets: Callable[[Programs, Variation], Targeting] = TargetMaker,
    ) -> Renderer:
        """A renderer whose network reaches every tap of the requests.

        Args:
            requests: What will be rendered.
            progress: Told what happens.
            show: Gets previews.
            targets: Makes what makes the jobs' targets.
        """
        taps = {tap for one in requests for tap in (*one.own.content_taps, *one.own.style_taps)}
        every = self.options.preview_every
        return Renderer(
            self.network(taps),
            self.devices,
            progress,
            options=self.options,
            products=self.precision.products,
            previews=Previews(every, show) if every and show else None,
            targets=targets,
        )

    def network(self, taps: Iterable[str]) -> VGG:
        """A network that reaches every one of some canonical taps."""
        weights = self.weights
        if self.options.preprocessing == "none":
            weights = weights.without_preprocessing()
        return VGG(
            weights.architecture,
            weights.convolutions,
            weights.mean,
            deepest=deepest_tap(taps, weights.architecture),
            pooling=self.options.pooling,
            pooling_scale=self.options.pooling_scale,
            padding=self.options.padding,
            dtype=self.precision.dtype,
            use_winograd=self.use_winograd,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """A job that was examined and can be planned.

    Attributes:
        index: Its position in the list of jobs.
        job: With its output's name and options filled in.
        own: Its options with canonical taps.
        ladder: Its stages.
        fingerprint: What its picture follows from.
    """

    index: int
    job: Job
    own: JobOptions
    ladder: tuple[Stage, ...]
    fingerprint: str

    @property
    def image_steps(self) -> int:
        """Steps over all stages, at most."""
        return sum(stage.steps for stage in self.ladder)


def open_setup(options: Options, devices: Sequence[Any] | None = None) -> Setup:
    """Finds, reads and checks the weights, and lays a mesh over the devices.

    Args:
        options: The run's.
        devices: What to run on; None: all devices of this process.

    Raises:
        WeightsError: There are none, or they are damaged or foreign.
    """
    mesh = over(jax.local_devices() if devices is None else devices)
    weights = read_weights(find_weights(options.weights))
    return Setup(options, weights, mesh, precision_of(options, mesh))


def examine(jobs: Sequence[Job], setup: Setup, progress: Progress) -> list[Request | Result]:
    """Looks at every job's inputs without decoding them; a job that can't be is a failed result.

    Args:
        jobs: With their output names filled in.
        setup: What they share.
        progress: Told what other programs' names of taps were taken for.

    Raises:
        TapError: A job names a tap that the network does not have.
    """
    architecture = setup.weights.architecture
    wanted = [job.options or setup.options for job in jobs]
    _say_translations(wanted, setup, progress)
    with concurrent.futures.ThreadPoolExecutor(_DECODERS) as pool:
        futures = [
            pool.submit(_examined, index, job, resolved(own, architecture), setup)
            for index, (job, own) in enumerate(zip(jobs, wanted, strict=True))
        ]
        return [future.result() for future in futures]


def _say_translations(wanted: Sequence[JobOptions], setup: Setup, progress: Progress) -> None:
    taken: dict[str, str] = {}
    for own in dict.fromkeys(wanted):
        taken |= translated_taps(own, setup.weights.architecture)
    for name, tap in taken.items():
        progress.note(f"tap {name} is taken for {tap}")


def _examined(index: int, job: Job, own: JobOptions, setup: Setup) -> Request | Result:
    try:
        ladder = stages(source_size(job.content), setup.options, own, regions=len(job.masks))
        check_shapes(job)
        number = _fingerprint(job, own, setup)
    except JobError as error:
        return Result(index, job, error=error)
    return Request(index, job, own, ladder, number)


def _fingerprint(job: Job, own: JobOptions, setup: Setup) -> str:
    return fingerprint(
        job,
        own,
        setup.options,
        dtype=setup.precision.name,
        weights_sha256=setup.weights.content_sha256,
    )


def run(
    requests: Sequence[Request], setup: Setup, renderer: Renderer, plan: Plan
) -> Iterator[Result]:
    """Renders requests; results come as they finish, each with its picture in memory."""
    renderer.plan = plan
    waves = _waves(requests, plan, _wave_jobs(setup.options))
    with concurrent.futures.ThreadPoolExecutor(_DECODERS) as pool:
        decoded = _one_ahead(pool, waves, setup)
        for wave, outcomes in zip(waves, decoded, strict=True):
            yield from (outcome for outcome in outcomes if isinstance(outcome, Result))
            ready = [outcome for outcome in outcomes if isinstance(outcome, PreparedJob)]
            by_index = {request.index: request for request in wave}
            for rendered in renderer.render(ready):
                yield _result(rendered, by_index[rendered.job.index])


def _one_ahead(
    pool: concurrent.futures.Executor, waves: list[list[Request]], setup: Setup
) -> Iterator[list[PreparedJob | Result]]:
    """Each wave's prepared jobs, while the next wave's are already in the making."""
    futures = collections.deque[list[concurrent.futures.Future[PreparedJob | Result]]]()
    for wave in [*waves, []]:
        futures.append([pool.submit(_prepared, request, setup) for request in wave])
        if len(futures) == 2:
            yield [future.result() for future in futures.popleft()]


def _prepared(request: Request, setup: Setup) -> PreparedJob | Result:
    try:
        return prepared(request.index, request.job, request.own, setup.options)
    except JobError as error:
        return Result(request.index, request.job, error=error, fingerprint=request.fingerprint)


def _result(rendered: Rendered, request: Request) -> Result:
    prepared_job = rendered.job
    return Result(
        index=request.index,
        job=request.job,
        image=in_wanted_colours(prepared_job, rendered.image) if rendered.finite else None,
        alpha=prepared_job.content.alpha,
        losses=rendered.terms,
        curve=rendered.curve,
        steps=rendered.steps,
        seconds=rendered.seconds,
        compile_seconds=rendered.compile_seconds,
        error=None if rendered.finite else _nonfinite(request, rendered.steps),
        fingerprint=request.fingerprint,
    )


def _nonfinite(request: Request, steps: int) -> NonFiniteError:
    return NonFiniteError(
        f"job {request.job.output!r} must stay in the finite numbers, got inf or nan after "
        f"{steps} steps",
        "Lower learning_rate or the weights of the terms",
    )


def _wave_jobs(options: Options) -> int:
    return max(1, min(WAVE_JOBS, _WAVE_PIXELS // options.size**2))


def _waves(requests: Sequence[Request], plan: Plan, wave_jobs: int) -> list[list[Request]]:
    """Whole batches of jobs that share a last stage, gathered until a wave is full."""
    groups: dict[tuple[Size, int, Structure], list[Request]] = collections.defaultdict(list)
    for request in requests:
        last = request.ladder[-1]
        groups[last.canvas, last.regions, request.own.structure].append(request)
    waves: list[list[Request]] = [[]]
    for (canvas, *_), group in groups.items():
        for batch in _cut(sorted(group, key=lambda one: -one.own.steps), canvas, plan):
            if len(waves[-1]) + len(batch) > wave_jobs and waves[-1]:
                waves.append([])
            waves[-1] += batch
    return [wave for wave in waves if wave]


def _cut(group: list[Request], canvas: Size, plan: Plan) -> Iterator[list[Request]]:
    slots = plan.slots[canvas]
    return (group[first : first + slots] for first in range(0, len(group), slots))
