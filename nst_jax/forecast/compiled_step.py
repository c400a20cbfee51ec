"""Step programs compiled and looked at without a picture: their memory and what they exchange."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from nst_jax.engine.device.compiled_facts import bytes_on_each_device, collectives_in
from nst_jax.engine.device.problem import make_problem
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.targets import VARIATIONS
from nst_jax.engine.device.warm_start import cold_start
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.model.objective import Targets
from nst_jax.model.style import RegionsTarget
from nst_jax.model.targets import content_targets, style_moments, style_targets
from nst_jax.model.vgg import VGG
from nst_jax.request.options import JobOptions, Options, job_options
from nst_jax.request.taps import poolings_before


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
    """A job's targets, as shapes without a value."""
    image = jax.ShapeDtypeStruct((*level.canvas, 3), np.float32)
    size = jax.ShapeDtypeStruct((2,), np.int32)
    look = functools.partial(content_targets, taps=own.content_taps)
    moments = jax.eval_shape(
        functools.partial(style_moments, taps=own.style_taps), image, network, size
    )
    blend = functools.partial(
        style_targets, kind=options.style_loss, normalized=own.style_normalization
    )
    style: Any = jax.eval_shape(blend, (moments,), jax.ShapeDtypeStruct((1,), np.float32))
    if level.regions:
        style = {tap: _region_shapes(target, tap, level) for tap, target in style.items()}
    return Targets(
        content=jax.eval_shape(look, image, network, size),
        style=style,
        variation=VARIATIONS[options.tv_loss],
    )


def _region_shapes(target: Any, tap: str, level: Level) -> RegionsTarget:
    height, width = (side >> poolings_before(tap) for side in level.canvas)
    masks: Any = jax.ShapeDtypeStruct((level.regions, height, width), np.float32)
    weights: Any = jax.ShapeDtypeStruct((level.regions,), np.float32)
    return RegionsTarget((target,) * level.regions, masks, weights)
