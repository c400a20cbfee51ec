"""The state before a level's first step: from an image, or from the level before.

The first is made on the host. The other is made where the level before has ended, on the device, by
one program for each pair of canvases: sizes and decays are traced.

A level begins from the average of the images that the level before has ended with, and with an
average of its own: one that went on would keep the blur of coarser levels. Adam's moments are
enlarged as well. They are scaled as the gradients are, which shrink with the number of pixels, and
then count as little evidence: a coarse level's gradients say something about the finer one's, but
not much. From 91 to 128 px, 60 steps each, two pairs, the objective at the end was 1.2 and
5.1 % above that of a fresh start when they kept all their weight, and 0.3 and 1.0 % when they count
as one step (measured at commit ca8d296 by its `scripts/compare_carrying.py`). L-BFGS begins each
level afresh: what it remembers are differences of images of one size.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float32, Int32

from nst_jax.engine.device import optimizers
from nst_jax.engine.device.solver import LossTrend, State
from nst_jax.engine.inputs.placed_image import place_on_canvas
from nst_jax.engine.plan.canvas import Size
from nst_jax.files.images import Pixels
from nst_jax.model.color import LUMA
from nst_jax.model.objective import Terms
from nst_jax.model.resample import bicubic, bilinear, lanczos, resample_each
from nst_jax.request.options import OptimizerKind

EVIDENCE_STEPS = 1
"""As how many steps of this level the moments of the level before count."""


def cold_start(image: Pixels, canvas: Size, optimizer: OptimizerKind = "adam") -> State:
    """The state before the first step of all, as host arrays; the image as it lies there."""
    pixels, _ = place_on_canvas(image, canvas)
    memory = optimizers.init_state(optimizer, canvas)
    return _first_state(pixels, memory, _host(True))


def warm_start(
    state: State,
    old_size: Int32[Array, "2"],
    size: Int32[Array, "2"],
    canvas: Size,
    decays: Float32[Array, "2"],
    is_grey: Bool[Array, ""],
) -> State:
    """The state before the first step of a finer level; pure, to be compiled.

    What was no longer finite stays so, and takes no step at this level either; its arrays may hold
    anything.

    Args:
        state: Where the coarser level has ended, without a slot axis; around the image there may
            be anything.
        old_size: Of the image there, height and width in pixels.
        size: Of the image at this level.
        canvas: That it lies on; static.
        decays: Adam's b1 and b2.
        is_grey: Whether the job's pictures have no colours. It starts without any again, or they
            would add up to speckle.
    """
    given, kernels = [_without_colours(state.average, is_grey)], [lanczos]
    has_moments = isinstance(state.optimizer, optax.ScaleByAdamState)
    if has_moments:
        given += [state.optimizer.mu, state.optimizer.nu]
        kernels += [bicubic, bilinear]
    large = resample_each(jnp.stack(given), old_size, size, canvas, kernels)
    # Grey once more, because a product of matrices may round equal columns differently.
    image = _without_colours(jnp.clip(large[0], 0, 1), is_grey)
    if has_moments:
        shrinks = jnp.prod(old_size / size)
        memory = _weigh_moments(large[1], large[2], state.optimizer.count, shrinks, decays)
    else:
        memory = jax.tree.map(jnp.zeros_like, optimizers.init_state("lbfgs", canvas))
    return _first_state(image, memory, state.finite)


def _without_colours(
    pixels: Float32[Array, "h w 3"], is_grey: Bool[Array, ""]
) -> Float32[Array, "h w 3"]:
    """Each pixel's luma in all channels, where that is asked for; grey stays to the bit."""
    red, green, blue = jnp.split(pixels, 3, axis=-1)
    of_red, _, of_blue = map(float, LUMA)
    luma = green + of_red * (red - green) + of_blue * (blue - green)
    return jnp.where(is_grey, luma, pixels)


def _weigh_moments(
    first: Float32[Array, "H W 3"],
    second: Float32[Array, "H W 3"],
    count: Int32[Array, ""],
    shrinks: Float32[Array, ""],
    decays: Float32[Array, "2"],
) -> optax.ScaleByAdamState:
    """Moments as they are at the finer level.

    Args:
        first: The first, enlarged.
        second: The second likewise, by weights that are not negative.
        count: Of the steps that are in them.
        shrinks: The pixels of the old size over those of the new one.
        decays: See `warm_start`.
    """
    first_weight, second_weight = _evidence_weights(count, decays)
    return optax.ScaleByAdamState(
        jnp.int32(EVIDENCE_STEPS),
        first * (shrinks * first_weight),
        second * (shrinks**2 * second_weight),
    )


def _evidence_weights(count: Int32[Array, ""], decays: Float32[Array, "2"]) -> Float32[Array, "2"]:
    """What moments of `count` steps are multiplied by to be those of `EVIDENCE_STEPS` steps.

    That is (1 - bᵉ) / (1 - bⁿ), without the digits that 1 - bⁿ loses where b is nearly 1.
    """
    logarithms = jnp.log1p(decays - 1)
    return jnp.expm1(EVIDENCE_STEPS * logarithms) / jnp.expm1(jnp.maximum(count, 1) * logarithms)


def _first_state(image: Any, optimizer: Any, finite: Any) -> State:
    """A state before a step: its numbers are NumPy's, on the host or as a program's constants."""
    zero, far, false = map(_host, (np.float32(0), np.float32(np.inf), False))
    return State(
        image=image,
        optimizer=optimizer,
        average=image,
        averaged=zero,
        step=_host(np.int32(0)),
        terms=Terms(zero, zero, zero, zero),
        trend=LossTrend(far, far, false),
        finite=finite,
    )


def _host(value: Any) -> Any:
    """A number as an array that is still on the host."""
    return np.asarray(value)
