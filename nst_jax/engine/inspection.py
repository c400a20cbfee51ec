"""Step programs compiled and looked at without a picture: their memory and what they exchange."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from nst_jax.engine.canvas import Size
from nst_jax.engine.carrying import started
from nst_jax.engine.devices import Devices
from nst_jax.engine.levels import StyleKind
from nst_jax.engine.masks import by_tap
from nst_jax.engine.programs import Programs, Taps, bytes_on_each_device, collectives_in
from nst_jax.engine.solver import Problem
from nst_jax.engine.targets import style_target
from nst_jax.model import objective
from nst_jax.model.objective import Targets, TermWeights
from nst_jax.model.style import RegionsTarget
from nst_jax.model.vgg import VGG


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a compiled step program says of itself.

    Attributes:
        bytes_per_device: Arguments, results and temporary memory; None where the backend
            does not tell.
        collectives: Operations that make devices wait for each other, one for each.
    """

    bytes_per_device: int | None
    collectives: list[str]


def inspected(
    programs: Programs,
    devices: Devices,
    canvas: Size,
    slots: int,
    content_taps: Taps,
    style_taps: Taps,
    style_kind: StyleKind = "gram",
    regions: int = 0,
) -> Inspection:
    """Compiles a step program, or takes the one that is there, and looks at it."""
    states, problems = batch_shapes(
        programs.network, devices, canvas, slots, content_taps, style_taps, style_kind, regions
    )
    program = programs.compiled_step(canvas, states, problems)
    return Inspection(bytes_on_each_device(program), collectives_in(program.as_text()))


def batch_shapes(
    network: VGG,
    devices: Devices,
    canvas: Size,
    slots: int,
    content_taps: Taps,
    style_taps: Taps,
    style_kind: StyleKind = "gram",
    regions: int = 0,
) -> tuple[Any, Any]:
    """States and problems of a batch, as shapes and shardings without a value."""
    state = started(np.zeros((1, 1, 3), np.float32), canvas)
    targets = _target_shapes(network, canvas, content_taps, style_taps, style_kind, regions)
    problem = _problem_shapes(targets)
    sharding = devices.sharded(slots)

    def batched(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype, sharding=sharding)

    return jax.tree.map(batched, (state, problem))


def _problem_shapes(targets: Targets) -> Any:
    """One job's problem, every array as its shape."""
    number: Any = jax.ShapeDtypeStruct((), np.float32)
    count: Any = jax.ShapeDtypeStruct((), np.int32)
    size: Any = jax.ShapeDtypeStruct((2,), np.int32)
    seed: Any = jax.ShapeDtypeStruct((), np.uint32)
    return Problem(
        size=size,
        targets=targets,
        weights=TermWeights(
            content=number,
            style=number,
            tv=number,
            content_taps=_each(targets.content, number),
            style_taps=_each(targets.style, number),
        ),
        learning_rate=number,
        steps=count,
        early_stop=number,
        seed=seed,
    )


def _each(taps: Iterable[str], value: Any) -> dict[str, Any]:
    return dict.fromkeys(taps, value)


def _target_shapes(
    network: VGG,
    canvas: Size,
    content_taps: Taps,
    style_taps: Taps,
    style_kind: StyleKind,
    regions: int,
) -> Any:
    image = jax.ShapeDtypeStruct((*canvas, 3), np.float32)
    size = jax.ShapeDtypeStruct((2,), np.int32)

    def targets(image, size):
        moments = objective.style_moments(image, network, size, style_taps)
        return objective.content_features(image, network, size, content_taps), moments

    content, moments = jax.eval_shape(targets, image, size)
    # Made on the host, of zeros: a target is more than its moments' shapes.
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), moments)
    style: dict[str, Any] = {tap: style_target(style_kind, one) for tap, one in zeros.items()}
    if regions:
        weights = by_tap([np.zeros(canvas, np.float32)] * regions, canvas, canvas, style_taps)
        strengths = np.zeros(regions, np.float32)
        style = {
            tap: RegionsTarget.of([one] * regions, weights[tap], strengths)
            for tap, one in style.items()
        }
    return Targets(
        content, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), style)
    )
