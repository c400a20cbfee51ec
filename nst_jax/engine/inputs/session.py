"""What all jobs of a run share, and what is known of a job before it is planned."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.targets import TargetCache, TargetProvider
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.plan.devices import Devices, Precision, choose_precision, data_mesh
from nst_jax.engine.plan.levels import Level
from nst_jax.engine.progress import Progress
from nst_jax.engine.schedule.previews import Preview, Previews
from nst_jax.engine.schedule.scheduler import Scheduler
from nst_jax.model.variation import Variation
from nst_jax.model.vgg import VGG
from nst_jax.request.job import Job
from nst_jax.request.options import JobOptions, Options
from nst_jax.request.taps import deepest_tap
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights
from nst_jax.weights.network import NetworkWeights


@dataclasses.dataclass(frozen=True, eq=False)
class Session:
    """What all jobs of a run share, opened and checked.

    Attributes:
        options: The run's.
        weights: The network's.
        devices: What the run uses.
        precision: What the network computes in.
        inputs: What looks at the input pictures.
        retries: How often an input is read again that could not be read.
    """

    options: Options
    weights: NetworkWeights
    devices: Devices
    precision: Precision
    pictures: PictureIndex = dataclasses.field(default_factory=PictureIndex)
    retries: int = 0

    @property
    def use_winograd(self) -> bool:
        """Whether kernels are prepared for Winograd's algorithm where it pays."""
        return self.devices.platform == "cpu" and self.precision.dtype == jnp.float32

    def make_scheduler(
        self,
        requests: Sequence["ExaminedJob"],
        progress: Progress,
        show: Callable[[Preview], None] | None = None,
        targets: Callable[[ProgramCache, Variation], TargetProvider] = TargetCache,
        taps: Iterable[str] = (),
    ) -> Scheduler:
        """A renderer whose network reaches every tap of the requests.

        Args:
            requests: What will be rendered.
            progress: Told what happens.
            show: Gets previews.
            targets: Makes what makes the jobs' targets.
            taps: Canonical taps of requests that will come later.
        """
        needed = {*taps} | {
            tap for one in requests for tap in (*one.options.content_taps, *one.options.style_taps)
        }
        every = self.options.preview_every
        return Scheduler(
            self.network(needed),
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


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class ExaminedJob:
    """A job that was examined and can be planned.

    Attributes:
        index: Its position in the list of jobs.
        job: With its output's name and options filled in.
        own: Its options with canonical taps.
        ladder: Its stages.
        fingerprint: What its picture follows from.
        attempts: How often it has failed before.
    """

    index: int
    job: Job
    options: JobOptions
    levels: tuple[Level, ...]
    fingerprint: str
    attempts: int = 0

    @property
    def image_steps(self) -> int:
        """Steps over all stages, at most."""
        return sum(stage.steps for stage in self.levels)


def open_session(options: Options, devices: Sequence[Any] | Devices | None = None) -> Session:
    """Finds, reads and checks the weights, and lays a mesh over the devices.

    Args:
        options: The run's.
        devices: What to run on; None: all devices of this process.

    Raises:
        WeightsError: There are none, or they are damaged or foreign.
    """
    if not isinstance(devices, Devices):
        devices = data_mesh(jax.local_devices() if devices is None else devices)
    weights = read_weights(find_weights(options.weights))
    inputs = PictureIndex(max_pixels=options.max_input_pixels)
    return Session(options, weights, devices, choose_precision(options, devices), inputs)
