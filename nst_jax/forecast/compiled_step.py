"""Step programs compiled and looked at without a picture: their memory and what they exchange."""

import dataclasses
from typing import Any

import jax
import numpy as np

from nst_jax.engine.device.problem import make_problem
from nst_jax.engine.device.programs import ProgramCache, bytes_on_each_device, collectives_in
from nst_jax.engine.device.targets import VARIATIONS, make_style_target
from nst_jax.engine.device.warm_start import cold_start
from nst_jax.engine.inputs.masks import tap_weights
from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.levels import Level
from nst_jax.model import objective
from nst_jax.model.content import ContentTarget
from nst_jax.model.objective import Targets
from nst_jax.model.style import RegionsTarget
from nst_jax.model.variation import Variation
from nst_jax.model.vgg import VGG
from nst_jax.request.options import JobOptions, Options, StaticOptions, StyleLoss, job_options


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
    programs: ProgramCache,
    devices: Devices,
    canvas: Size,
    slots: int,
    structure: StaticOptions,
    style_kind: StyleLoss = "gram",
    regions: int = 0,
    options: Options | None = None,
) -> CompiledStep:
    """Compiles a step program, or takes the one that is there, and looks at it.

    Args:
        programs: Where the network is.
        devices: What the batch is laid over.
        canvas: Every slot's.
        slots: How many there are.
        structure: The jobs'.
        style_kind: How their stage compares styles.
        regions: How many masks they have.
        options: The run's; None: the defaults.
    """
    states, problems = batch_shapes(
        programs.network, devices, canvas, slots, structure, style_kind, regions, options
    )
    program = programs.compiled_step(canvas, states, problems)
    costs = program.cost_analysis() or {}
    return CompiledStep(
        bytes_on_each_device(program),
        collectives_in(program.as_text()),
        costs.get("flops"),
        costs.get("bytes accessed"),
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(programs.network)),
        programs.compiled[programs.step_name(canvas, problems)],
    )


def batch_shapes(
    network: VGG,
    devices: Devices,
    canvas: Size,
    slots: int,
    structure: StaticOptions,
    style_kind: StyleLoss = "gram",
    regions: int = 0,
    options: Options | None = None,
) -> tuple[Any, Any]:
    """States and problems of a batch, as shapes and shardings without a value."""
    options = options or Options()
    state = cold_start(np.zeros((1, 1, 3), np.float32), canvas, options.optimizer)
    own = dataclasses.replace(
        job_options(options),
        **structure._asdict(),
        content_tap_weights=(),
        style_tap_weights=(),
    )
    stage = Level(
        0,
        canvas,
        canvas,
        max(canvas),
        steps=1,
        regions=regions,
    )
    targets = _target_shapes(network, stage, own, style_kind, VARIATIONS[options.tv_loss])
    problem = make_problem(own, stage, targets)
    sharding = devices.slot_sharding(slots)

    def batched(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype, sharding=sharding)

    return jax.tree.map(batched, (state, problem))


def _target_shapes(
    network: VGG, stage: Level, own: JobOptions, style_kind: StyleLoss, variation: Variation
) -> Any:
    """A job's targets, every array as its shape."""
    image = jax.ShapeDtypeStruct((*stage.canvas, 3), np.float32)
    size = jax.ShapeDtypeStruct((2,), np.int32)

    def looked_at(network, image, size):
        features = objective.content_features(image, network, size, own.content_taps)
        return features, objective.style_moments(image, network, size, own.style_taps)

    content, moments = jax.eval_shape(looked_at, network, image, size)
    # Made on the host, of zeros: a target is more than its moments' shapes.
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), moments)
    style: dict[str, Any] = {
        tap: make_style_target(style_kind, own.style_normalization, one)
        for tap, one in zeros.items()
    }
    if stage.regions:
        style = _in_regions(style, stage)
    scale: Any = jax.ShapeDtypeStruct((), np.float32)
    return Targets(
        content={tap: ContentTarget(features, scale) for tap, features in content.items()},
        style=style,
        variation=variation,
    )


def _in_regions(style: dict[str, Any], stage: Level) -> dict[str, Any]:
    """Targets of as many regions as a stage has, made of zeros."""
    masks = [np.zeros(stage.canvas, np.float32)] * stage.regions
    weights = tap_weights(masks, stage.canvas, stage.canvas, tuple(style))
    strengths = np.zeros(stage.regions, np.float32)
    return {
        tap: RegionsTarget.of([one] * stage.regions, weights[tap], strengths)
        for tap, one in style.items()
    }
