"""The state before a level's first step: from an image, or from the level before.

From level to level image, Adam's moments and average are enlarged. The moments are scaled as the
gradients are, which shrink with the number of pixels, and then count as little evidence: a coarse
level's gradients say something about the finer one's, but not much. From 91 to 128 px, 60 steps
each, two pairs, the objective at the end was 1.2 and 5.1 % above that of a fresh start when they
kept all their weight, and 0.3 and 1.0 % when they count as one step (measured at commit ca8d296
by its `scripts/compare_carrying.py`). L-BFGS begins each level afresh: what it remembers are
differences of images of one size.
"""

from typing import Any

import numpy as np
import optax
from PIL import Image

from nst_jax.engine.device import optimizers
from nst_jax.engine.device.solver import LossTrend, State
from nst_jax.engine.inputs.load import place_on_canvas
from nst_jax.engine.plan.canvas import Size
from nst_jax.files.images import Pixels, resize
from nst_jax.model.objective import Terms
from nst_jax.request.options import JobOptions, OptimizerKind

Decays = tuple[float, float]
"""Adam's b1 and b2."""

DECAYS: Decays = (JobOptions().adam_b1, JobOptions().adam_b2)

EVIDENCE_STEPS = 1
"""As how many steps of this level the moments of the level before count."""


def cold_start(image: Pixels, canvas: Size, optimizer: OptimizerKind = "adam") -> State:
    """The state before the first step of all, as host arrays."""
    pixels, _ = place_on_canvas(image, canvas)
    memory = optimizers.init_state(optimizer, canvas)
    return _first_state(pixels, memory, np.zeros_like(pixels), averaged=0.0)


def warm_start(
    state: State, old_size: Size, size: Size, canvas: Size, decays: Decays = DECAYS
) -> State:
    """The state before the first step of a finer level, as host arrays.

    Args:
        state: Where the coarser level has ended; host arrays without a slot axis.
        old_size: Of the image there.
        size: Of the image at this level.
        canvas: That it lies on.
        decays: Adam's.
    """
    height, width = old_size
    image, average = (
        place_on_canvas(resize(np.asarray(array)[:height, :width], size), canvas)[0]
        for array in (state.image, state.average)
    )
    if isinstance(state.optimizer, optax.ScaleByAdamState):
        memory = _enlarge_moments(state.optimizer, old_size, size, canvas, decays)
    else:
        memory = optimizers.init_state("lbfgs", canvas)
    return _first_state(image, memory, average, averaged=float(state.averaged))


def _enlarge_moments(
    moments: Any, old_size: Size, size: Size, canvas: Size, decays: Decays
) -> optax.ScaleByAdamState:
    (old_height, old_width), (height, width) = old_size, size
    shrinks = old_height * old_width / (height * width)
    count = max(int(moments.count), 1)
    first_weight, second_weight = (
        (1 - decay**EVIDENCE_STEPS) / (1 - decay**count) for decay in decays
    )

    def enlarge(moment: Any, kernel: Image.Resampling, factor: float) -> Pixels:
        pixels = _resample(np.asarray(moment)[:old_height, :old_width], size, kernel)
        return place_on_canvas(pixels * np.float32(factor), canvas)[0]

    # Bilinear weights are not negative, so neither is what they make of a second moment.
    return optax.ScaleByAdamState(
        _host(np.int32(EVIDENCE_STEPS)),
        enlarge(moments.mu, Image.Resampling.BICUBIC, shrinks * first_weight),
        enlarge(moments.nu, Image.Resampling.BILINEAR, shrinks**2 * second_weight),
    )


def _first_state(image: Any, optimizer: Any, average: Any, *, averaged: float) -> State:
    """A state of NumPy arrays: it goes to the device as part of a batch."""
    zero, far, false, true = map(_host, (np.float32(0), np.float32(np.inf), False, True))
    return State(
        image=image,
        optimizer=optimizer,
        average=average,
        averaged=_host(np.float32(averaged)),
        step=_host(np.int32(0)),
        terms=Terms(zero, zero, zero, zero),
        trend=LossTrend(far, far, false),
        finite=true,
    )


def _host(value: Any) -> Any:
    """A number as an array that is still on the host."""
    return np.asarray(value)


def _resample(pixels: Pixels, size: Size, kernel: Image.Resampling) -> Pixels:
    height, width = size
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize((width, height), kernel)
        for channel in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(channel, np.float32) for channel in channels], axis=-1)
