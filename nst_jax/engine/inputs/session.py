"""What all jobs of a run share: weights, devices, precision and the pictures that were read."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.plan.demand import Demand
from nst_jax.engine.plan.devices import Devices, Precision, choose_precision, data_mesh
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.local_devices import find_devices
from nst_jax.engine.plan.memory_model import CostModel
from nst_jax.engine.plan.slots import Plan, make_plan
from nst_jax.engine.progress import Progress
from nst_jax.model.vgg import VGG
from nst_jax.request.options import Options
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
        pictures: What looks at the input pictures.
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

    @property
    def costs(self) -> CostModel:
        """What the programs of this network cost in this session."""
        return CostModel(
            architecture=self.weights.architecture,
            channels={
                name: (kernel.shape[2], kernel.shape[3])
                for name, (kernel, _) in self.weights.convolutions.items()
            },
            value_bytes=self.precision.dtype.itemsize,
            use_winograd=self.use_winograd,
            optimizer=self.options.optimizer,
            tv_loss=self.options.tv_loss,
        )

    def make_plan(
        self,
        jobs: Sequence[ExaminedJob],
        progress: Progress,
        earlier: Plan | None = None,
        *,
        whole: Demand | None = None,
    ) -> Plan:
        """Slots for every bucket of the jobs; see `plan.slots.make_plan`."""
        return make_plan(
            jobs, self.options, self.devices, self.costs, progress, earlier, whole=whole
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


def open_session(options: Options, devices: Sequence[Any] | Devices | None = None) -> Session:
    """Finds, reads and checks the weights, and lays a mesh over the devices.

    Args:
        options: The run's.
        devices: What to run on; None: see `find_devices`.

    Raises:
        OptionError: JAX is told to use a platform that is not here.
        WeightsError: There are none, or they are damaged or foreign.
    """
    if not isinstance(devices, Devices):
        devices = data_mesh(find_devices() if devices is None else devices)
    weights = read_weights(find_weights(options.weights))
    pictures = PictureIndex(max_pixels=options.max_input_pixels)
    return Session(options, weights, devices, choose_precision(options, devices), pictures)
