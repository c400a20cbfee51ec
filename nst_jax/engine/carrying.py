"""What a job carries from stage to stage, on the host: image, Adam's moments, average.

From phase to phase of a level all goes on as it is. From level to level each is enlarged to
the next one's size. The moments are scaled as the gradients are, which
shrink with the number of pixels, and then count as little evidence: a coarse level's
gradients say something about the finer one's, but not much. From 91 to 128 px, 60 steps each,
two pairs, the objective at the end was 1.2 and 5.1 % above that of a fresh start when they kept
all their weight, and 0.3 and 1.0 % when they count as one step
(`python scripts/compare_carrying.py`).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optax
from PIL import Image

from nst_jax.engine.canvas import Size
from nst_jax.engine.solver import FIRST_DECAY, SECOND_DECAY, State, Trend
from nst_jax.engine.targets import on_canvas
from nst_jax.files.images import resized
from nst_jax.model.objective import Terms

Pixels = npt.NDArray[np.float32]

EVIDENCE_STEPS = 1
"""As how many steps of this level the moments of the level before count."""


class Carried(NamedTuple):
    """A job between two stages; all arrays (h, w, 3) at the size of the stage it comes from.

    Attributes:
        image: Where the optimisation stands, in [0, 1].
        first: Adam's first moment, its bias not corrected.
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
    image, first, second, average = (
        np.array(array[:height, :width])
        for array in (state.image, state.optimizer.mu, state.optimizer.nu, state.average)
    )
    count = int(state.optimizer.count)
    return Carried(image, first, second, count, average, float(state.averaged))


def started(image: Pixels, canvas: Size) -> State:
    """The state before the first step of all, as host arrays."""
    pixels, _ = on_canvas(image, canvas)
    zeros = np.zeros_like(pixels)
    return _state(pixels, zeros, zeros, zeros, averaged=0.0, count=0)


def continued(
    before: Carried, size: Size, canvas: Size, *, evidence_steps: int = EVIDENCE_STEPS
) -> State:
    """The state before the first step of a further stage, as host arrays.

    Args:
        before: What the stage before has left.
        size: Of the image at this stage.
        canvas: That it lies on.
        evidence_steps: As how many steps the moments count at another size; 0: a fresh start.
    """
    if before.image.shape[:2] != size:
        before = _enlarged(before, size, evidence_steps)
    pixels, first, second, average = (
        on_canvas(array, canvas)[0]
        for array in (before.image, before.first, before.second, before.average)
    )
    return _state(pixels, first, second, average, averaged=before.averaged, count=before.evidence)


def _enlarged(before: Carried, size: Size, evidence_steps: int) -> Carried:
    """The same at another size."""
    old_height, old_width = before.image.shape[:2]
    shrinks = old_height * old_width / (size[0] * size[1])
    count = max(before.evidence, 1)
    first_weight = (1 - FIRST_DECAY**evidence_steps) / (1 - FIRST_DECAY**count)
    second_weight = (1 - SECOND_DECAY**evidence_steps) / (1 - SECOND_DECAY**count)
    first = _resampled(before.first, size, Image.Resampling.BICUBIC)
    # Bilinear weights are not negative, so neither is what they make of a second moment.
    second = _resampled(before.second, size, Image.Resampling.BILINEAR)
    return Carried(
        resized(before.image, size),
        _times(first, shrinks * first_weight),
        _times(second, shrinks**2 * second_weight),
        evidence_steps,
        resized(before.average, size),
        before.averaged,
    )


def _state(
    image: Any, first: Any, second: Any, average: Any, *, averaged: float, count: int
) -> State:
    """A state of NumPy arrays: it goes to the device as part of a batch."""
    zero, far, false, true = map(_host, (np.float32(0), np.float32(np.inf), False, True))
    return State(
        image=image,
        optimizer=optax.ScaleByAdamState(_host(np.int32(count)), first, second),
        average=average,
        averaged=_host(np.float32(averaged)),
        step=_host(np.int32(0)),
        terms=Terms(zero, zero, zero, zero),
        trend=Trend(far, far, false),
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
