"""What a job carries from stage to stage, on the host: image, Adam's moments, average.

From phase to phase of a level all goes on as it is. From level to level each is enlarged to
the next one's size. The moments are scaled as the gradients are, which
shrink with the number of pixels, and then count as little evidence: a coarse level's
gradients say something about the finer one's, but not much. From 91 to 128 px, 60 steps each,
two pairs, the objective at the end was 1.2 and 5.1 % above that of a fresh start when they kept
all their weight, and 0.3 and 1.0 % when they count as one step (measured at commit ca8d296 by
`scripts/compare_carrying.py` of that commit). L-BFGS begins each level afresh: what it
remembers are differences of images of one size.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optax
from PIL import Image

from nst_jax.engine.device import optimizers
from nst_jax.engine.device.optimizers import OptimizerKind
from nst_jax.engine.device.solver import EarlyStopState, State
from nst_jax.engine.device.targets import place_on_canvas
from nst_jax.engine.plan.canvas import Size
from nst_jax.files.images import resize
from nst_jax.model.objective import Terms
from nst_jax.request.options import JobOptions

Pixels = npt.NDArray[np.float32]

Decays = tuple[float, float]
"""Adam's b1 and b2."""

DECAYS: Decays = (JobOptions().adam_b1, JobOptions().adam_b2)

EVIDENCE_STEPS = 1
"""As how many steps of this level the moments of the level before count."""


class Carried(NamedTuple):
    """A job between two stages; all arrays (h, w, 3) at the size of the stage it comes from.

    Attributes:
        image: Where the optimisation stands, in [0, 1].
        first: Adam's first moment, its bias not corrected; zeros where it was not Adam.
        second: Likewise; not negative.
        evidence: Steps that the moments count as.
        average: The moving average of the image.
        averaged: How much of the average's weight is filled.
    """

    image: Pixels
    first: Pixels
    second: Pixels
    evidence: int
    average: Pixels
    averaged: float


def carried(state: State, size: Size) -> Carried:
    """What a job takes along from its last state, of host arrays without a slot axis."""
    height, width = size
    adam = isinstance(state.optimizer, optax.ScaleByAdamState)
    moments = state.optimizer if adam else optimizers.init_state("adam", size)
    image, first, second, average = (
        np.array(array[:height, :width])
        for array in (state.image, moments.mu, moments.nu, state.average)
    )
    return Carried(image, first, second, int(moments.count), average, float(state.averaged))


def cold_start(image: Pixels, canvas: Size, optimizer: OptimizerKind = "adam") -> State:
    """The state before the first step of all, as host arrays."""
    pixels, _ = place_on_canvas(image, canvas)
    return _state(
        pixels, optimizers.init_state(optimizer, canvas), np.zeros_like(pixels), averaged=0.0
    )


def warm_start(
    before: Carried,
    size: Size,
    canvas: Size,
    *,
    optimizer: OptimizerKind = "adam",
    decays: Decays = DECAYS,
    evidence_steps: int = EVIDENCE_STEPS,
) -> State:
    """The state before the first step of a further stage, as host arrays.

    Args:
        before: What the stage before has left.
        size: Of the image at this stage.
        canvas: That it lies on.
        optimizer: What goes on; L-BFGS takes only the image and the average along.
        decays: Adam's.
        evidence_steps: As how many steps the moments count at another size; 0: a fresh start.
    """
    if before.image.shape[:2] != size:
        before = _enlarged(before, size, decays, evidence_steps)
    pixels, first, second, average = (
        place_on_canvas(array, canvas)[0]
        for array in (before.image, before.first, before.second, before.average)
    )
    going_on = optax.ScaleByAdamState(_host(np.int32(before.evidence)), first, second)
    state = going_on if optimizer == "adam" else optimizers.init_state(optimizer, canvas)
    return _state(pixels, state, average, averaged=before.averaged)


def _enlarged(before: Carried, size: Size, decays: Decays, evidence_steps: int) -> Carried:
    """The same at another size."""
    old_height, old_width = before.image.shape[:2]
    shrinks = old_height * old_width / (size[0] * size[1])
    count = max(before.evidence, 1)
    first_weight, second_weight = (
        (1 - decay**evidence_steps) / (1 - decay**count) for decay in decays
    )
    first = _resampled(before.first, size, Image.Resampling.BICUBIC)
    # Bilinear weights are not negative, so neither is what they make of a second moment.
    second = _resampled(before.second, size, Image.Resampling.BILINEAR)
    return Carried(
        resize(before.image, size),
        _times(first, shrinks * first_weight),
        _times(second, shrinks**2 * second_weight),
        evidence_steps,
        resize(before.average, size),
        before.averaged,
    )


def _state(image: Any, optimizer: Any, average: Any, *, averaged: float) -> State:
    """A state of NumPy arrays: it goes to the device as part of a batch."""
    zero, far, false, true = map(_host, (np.float32(0), np.float32(np.inf), False, True))
    return State(
        image=image,
        optimizer=optimizer,
        average=average,
        averaged=_host(np.float32(averaged)),
        step=_host(np.int32(0)),
        terms=Terms(zero, zero, zero, zero),
        trend=EarlyStopState(far, far, false),
        finite=true,
    )


def _host(value: Any) -> Any:
    """A number as an array that is still on the host."""
    return np.asarray(value)


def _times(pixels: Pixels, factor: float) -> Pixels:
    return pixels * np.float32(factor)


def _resampled(pixels: Pixels, size: Size, resampling: Image.Resampling) -> Pixels:
    height, width = size
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
            (width, height), resampling
        )
        for channel in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(channel, np.float32) for channel in channels], axis=-1)
