"""The layers of a VGG for one image, each with the gradient that loops and devices like best.

Contract: one image `h w c`, no batch axis (batch with `jax.vmap`, the weights unmapped);
float32 or bfloat16 features; an image lies in the top left corner of its canvas and every
layer keeps exact zeros outside of the image's own region. That is what zero padding would
be for the image alone, so the canvas changes nothing inside the region.

Only gradients with respect to features exist. The weights of the network are constants.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int

from nst_jax.model import winograd

Pooling = Literal["max", "average", "l2"]
Padding = Literal["replicate", "zero"]

_IMAGE_CHANNELS = 3


def region_mask(size: Int[Array, "2"], canvas: tuple[int, int]) -> Bool[Array, "h w 1"]:
    """True inside the image's own region of its canvas.

    Args:
        size: Height and width of the image, a traced value that may differ in each slot.
        canvas: Height and width of the canvas, static.
    """
    rows = jnp.arange(canvas[0]) < size[0]
    columns = jnp.arange(canvas[1]) < size[1]
    return (rows[:, None] & columns[None, :])[..., None]


def flip_kernel(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The kernel whose forward convolution is the backward pass of `kernel`'s own.

    Shapes (3, 3, c, d) to (3, 3, d, c).
    """
    return np.ascontiguousarray(kernel[::-1, ::-1].swapaxes(2, 3))


@jax.custom_vjp
def replicate_border(
    features: Float[Array, "h w c"], size: Int[Array, "2"]
) -> Float[Array, "h+2 w+2 c"]:
    """An image whose border is repeated once on every side, in the top left corner as before.

    The way back adds the rim to the border by slices alone; plain autodiff would pad each.

    Args:
        features: Zero outside of the image's own region.
        size: Height and width of the own region, which grows by 2 each.
    """
    wide = jnp.pad(features, ((1, 1), (1, 1), (0, 0)))
    for axis in (0, 1):
        place = jnp.expand_dims(jnp.arange(wide.shape[axis]), (1 - axis, 2))
        after, before = jnp.roll(wide, -1, axis), jnp.roll(wide, 1, axis)
        wide = jnp.where(place == 0, after, jnp.where(place == size[axis] + 1, before, wide))
    return wide


def _replicate_backward(size, gradient):
    for axis in (0, 1):
        rows = jnp.moveaxis(gradient, axis, 0)
        place = jnp.arange(len(rows) - 2)[:, None, None]
        above, own, below = rows[:-2], rows[1:-1], rows[2:]
        own = jnp.where(place < size[axis], own, 0)
        own += jnp.where(place == 0, above, 0) + jnp.where(place == size[axis] - 1, below, 0)
        gradient = jnp.moveaxis(own, 0, axis)
    return gradient, None


replicate_border.defvjp(
    lambda features, size: (replicate_border(features, size), size), _replicate_backward
)


def _correlate(
    features: Float[Array, "h w c"], kernel: Float[Array, "k k c d"], margin: int = 1
) -> Float[Array, "m n d"]:
    """A 3x3 convolution, by a plain kernel or one in Winograd's domain.

    Args:
        features: The input.
        kernel: A tile of 6x6 in Winograd's domain; it takes a margin of 1 alone.
        margin: How many zeros to put around the input; 1 keeps its size.
    """
    if kernel.shape[0] == winograd.TILE:
        return winograd.correlate(features, kernel)
    margins = ((margin, margin), (margin, margin))
    return jax.lax.conv_general_dilated(
        features[None], kernel, (1, 1), margins, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def _correlate_to_few(
    features: Float[Array, "h w c"], kernel: Float[Array, "3 3 c k"], margin: int = 1
) -> Float[Array, "m n k"]:
    """The same for a handful of output channels: one matrix product, then nine shifted sums.

    Three channels, as the image has, fill neither a vector register nor the lanes of a
    matrix unit; the nine taps together are 27 columns of one product.
    """
    height, width, channels = features.shape
    columns = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    by_tap = jnp.matmul(
        features.reshape(height * width, channels), columns, preferred_element_type=jnp.float32
    ).reshape(height, width, *kernel.shape[:2], -1)
    padded = jnp.pad(by_tap, ((margin, margin), (margin, margin), (0, 0), (0, 0), (0, 0)))
    height, width = height + 2 * margin - 2, width + 2 * margin - 2
    shifted = [
        padded[i : i + height, j : j + width, i, j] for i, j in np.ndindex(*kernel.shape[:2])
    ]
    return sum(shifted[1:], start=shifted[0]).astype(features.dtype)


def _backward(
    gradient: Float[Array, "h w d"], flipped: Float[Array, "k k d c"], rim: int
) -> Float[Array, "m n c"]:
    """The gradient of a convolution's input: a forward convolution with the flipped kernel."""
    few = flipped.shape[-1] == _IMAGE_CHANNELS
    return (_correlate_to_few if few else _correlate)(gradient, flipped, 1 + rim)


def _convolve(
    features: Float[Array, "m n c"],
    kernel: Float[Array, "k k c d"],
    flipped: Float[Array, "l l d c"],
    bias: Float[Array, " d"],
    mask: Bool[Array, "h w 1"],
    rim: int = 0,
    activate: bool = False,
) -> Float[Array, "h w d"]:
    """A 3x3 convolution (`conv4_2`), or with its activation as one operation (`relu4_2`).

    Features with a `rim` of one bring their own padding; without it there are zeros around.
    The backward pass is a forward convolution with `flipped`, prepared beforehand. XLA's
    CPU backend runs the transposed convolution of plain autodiff, once inside a loop, on a
    naive kernel that is three times slower than the whole step.

    With the activation the only thing kept for the backward pass is the output, which the next
    layer keeps anyway: the gradient flows where the output is positive, hence inside the mask.
    """
    value = _correlate(features, kernel, 1 - rim) + bias
    return jnp.where(mask, jax.nn.relu(value) if activate else value, 0)


convolve = jax.custom_vjp(_convolve, nondiff_argnums=(5, 6))
convolve_relu = functools.partial(convolve, activate=True)


def _convolve_forward(features, kernel, flipped, bias, mask, rim, activate):
    output = convolve(features, kernel, flipped, bias, mask, rim, activate)
    return output, (flipped, output if activate else mask)


def _convolve_backward(rim, activate, residuals, gradient):
    flipped, seen = residuals
    flows = seen > 0 if activate else seen
    return _backward(jnp.where(flows, gradient, 0), flipped, rim), None, None, None, None


convolve.defvjp(_convolve_forward, _convolve_backward)


def pool(
    features: Float[Array, "h w c"], kind: Pooling, scale: float = 1.0
) -> Float[Array, "h//2 w//2 c"]:
    """Halves both sides; an odd last row or column is dropped (as Caffe, Keras, PyTorch do).

    Args:
        features: The input.
        kind: The maximum of each 2x2 window, its average, or the root of its sum of squares.
        scale: A factor on the output.
    """
    if kind == "max" and scale != 1:
        return _pool(features, kind, 1.0) * scale
    return _pool(features, kind, scale)


def _pool_of(
    features: Float[Array, "h w c"], kind: Pooling, scale: float
) -> Float[Array, "h//2 w//2 c"]:
    """The maximum without a scale; the root of the sum of squares, which are summed in float32.

    The largest of a window share its gradient equally. Its backward pass compares each value
    with its window's maximum. On a CPU that is many times cheaper than the backward pass of
    `lax.reduce_window`, and twice as cheap as that of pairwise maxima.
    """
    first, second, third, fourth = corners = _corners(features)
    match kind:
        case "max":
            return jnp.maximum(jnp.maximum(first, second), jnp.maximum(third, fourth))
        case "average":
            return sum(corners[1:], start=first) * (0.25 * scale)
        case "l2":
            squares = [jnp.square(corner.astype(jnp.float32)) for corner in corners]
            root = jnp.sqrt(sum(squares[1:], start=squares[0]))
            return (root * scale).astype(features.dtype)


_pool = jax.custom_vjp(_pool_of, nondiff_argnums=(1, 2))


def _pool_forward(features, kind, scale):
    pooled = _pool(features, kind, scale)
    return pooled, (features, pooled)


def _pool_backward(kind: Pooling, scale, residuals, gradient):
    """To the largest of a window alike; a quarter to each; or x / ‖x‖, and 0 where all are 0."""
    features, pooled = residuals
    even = features[: 2 * pooled.shape[0], : 2 * pooled.shape[1]]
    match kind:
        case "max":
            holders = sum(
                (corner == pooled).astype(gradient.dtype) for corner in _corners(features)
            )
            slope = jnp.where(even == _upsample(pooled), _upsample(gradient / holders), 0)
        case "average":
            slope = _upsample(gradient * (0.25 * scale))
        case "l2":
            by_norm = jnp.where(
                pooled > 0, scale**2 * gradient / jnp.where(pooled > 0, pooled, 1), 0
            )
            slope = even * _upsample(by_norm.astype(features.dtype))
    return (_pad_like(slope, features),)


_pool.defvjp(_pool_forward, _pool_backward)


def _corners(features: Float[Array, "h w c"]) -> list[Float[Array, "h//2 w//2 c"]]:
    """The four values of each 2x2 window, as four arrays."""
    height, width = features.shape[0] // 2 * 2, features.shape[1] // 2 * 2
    return [features[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


def _upsample(features: Float[Array, "h w c"]) -> Float[Array, "2*h 2*w c"]:
    return features.repeat(2, axis=0).repeat(2, axis=1)


def _pad_like(even: Float[Array, "m n c"], whole: Float[Array, "h w c"]) -> Array:
    """Zeros where the pooling has dropped a last row or column."""
    dropped = (whole.shape[0] - even.shape[0], whole.shape[1] - even.shape[1])
    return jnp.pad(even, ((0, dropped[0]), (0, dropped[1]), (0, 0)))
