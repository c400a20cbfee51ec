"""Step programs compiled and looked at without a picture: their memory and what they exchange."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from nst_jax.engine.device.problem import make_problem
from nst_jax.engine.device.programs import ProgramCache, bytes_on_each_device, collectives_in
from nst_jax.engine.device.targets import VARIATIONS, make_style_target
from nst_jax.engine.device.warm_start import cold_start
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.model.content import ContentTarget
from nst_jax.model.objective import Targets, content_features
from nst_jax.model.style import Moments, RegionsTarget
from nst_jax.model.vgg import VGG
from nst_jax.request.options import JobOptions, Options, job_options


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What a compiled step program says of itself.

    Attributes:
        bytes_per_device: Arguments, results and temporary memory; None where the backend
            does not tell.
        collectives: Operations that make devices wait for each other, one for each.
        flops_per_device: Operations of one step on each device, as the compiler counts them:
            a loop's body once, and of a batch what one device does. None where untold.
        bytes_accessed_per_device: Likewise what its operations read and write. It counts each
            operand of each fused operation, wherever that lies.
        network_bytes: The part of `bytes_per_device` that is the network, whatever the batch.
        seconds: Of compilation; of loading, where a cache had the program.
    """

    bytes_per_device: int | None
    collectives: list[str]
    flops_per_device: float | None = None
    bytes_accessed_per_device: float | None = None
    network_bytes: int = 0
    seconds: float = 0.0


def analyze_step(
    programs: ProgramCache, devices: Devices, bucket: Bucket, slots: int, options: Options
) -> CompiledStep:
    """Compiles a step program, or takes the one that is there, and looks at it.

    Args:
        programs: Where the network is.
        devices: What the batch is laid over.
        bucket: What its jobs have alike.
        slots: How many there are.
        options: The run's.
    """
    states, problems = batch_shapes(programs.network, devices, bucket, slots, options)
    program = programs.compiled_step(bucket.canvas, states, problems)
    costs = program.cost_analysis() or {}
    return CompiledStep(
        bytes_on_each_device(program),
        collectives_in(program.as_text()),
        costs.get("flops"),
        costs.get("bytes accessed"),
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(programs.network)),
        programs.compiled[programs.step_name(bucket.canvas, problems)],
    )


def batch_shapes(
    network: VGG, devices: Devices, bucket: Bucket, slots: int, options: Options
) -> tuple[Any, Any]:
    """States and problems of a batch, as shapes and shardings without a value."""
    canvas, regions, structure = bucket
    own = dataclasses.replace(
        job_options(options),
        **structure._asdict(),
        content_tap_weights=(),
        style_tap_weights=(),
    )
    level = Level(0, canvas, canvas, max(canvas), steps=1, regions=regions)
    state = cold_start(np.zeros((1, 1, 3), np.float32), canvas, options.optimizer)
    problem = make_problem(own, level, _target_shapes(network, level, own, options))
    sharding = devices.slot_sharding(slots)

    def add_slots(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype, sharding=sharding)

    return jax.tree.map(add_slots, (state, problem))


def _target_shapes(network: VGG, level: Level, own: JobOptions, options: Options) -> Targets:
    """A job's targets: as shapes what is as large as a picture, and the rest made of zeros."""
    look = functools.partial(content_features, taps=(*own.content_taps, *own.style_taps))
    image = jax.ShapeDtypeStruct((*level.canvas, 3), np.float32)
    features = jax.eval_shape(look, image, network, jax.ShapeDtypeStruct((2,), np.int32))
    scale: Any = np.float32(0)

    def style(tap: str) -> Any:
        height, width, channels = features[tap].shape
        zeros: Any = [np.zeros(shape, np.float32) for shape in ((channels,), (channels,) * 2)]
        target = make_style_target(options.style_loss, own.style_normalization, Moments(*zeros))
        if not level.regions:
            return target
        masks: Any = jax.ShapeDtypeStruct((level.regions, height, width), np.float32)
        weights: Any = np.zeros(level.regions, np.float32)
        return RegionsTarget((target,) * level.regions, masks, weights)

    return Targets(
        content={tap: ContentTarget(features[tap], scale) for tap in own.content_taps},
        style={tap: style(tap) for tap in own.style_taps},
        variation=VARIATIONS[options.tv_loss],
    )
