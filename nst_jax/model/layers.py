"""The layers of a VGG for one image, each with the gradient that loops and devices like best.

Contract: one image `h w c`, no batch axis (batch with `jax.vmap`, the weights unmapped);
float32 or bfloat16 features; an image lies in the top left corner of its canvas and every
layer keeps exact zeros outside of the image's own region. That is what zero padding would
be for the image alone, so the canvas changes nothing inside the region.

Only gradients with respect to features exist. The weights of the network are constants.
"""

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


def replicate_border(
    features: Float[Array, "h w c"], size: Int[Array, "2"]
) -> Float[Array, "h+2 w+2 c"]:
    """An image whose border is repeated once on every side, in the top left corner as before.

    Sums of selected neighbours, so that the way back is cheap as well.

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
    flipped: Float[Array, "k k d c"],
    bias: Float[Array, " d"],
    mask: Bool[Array, "h w 1"],
    rim: int = 0,
) -> Float[Array, "h w d"]:
    """A 3x3 convolution: the value before the activation (`conv4_2`).

    Features with a `rim` of one bring their own padding; without it there are zeros around.
    The backward pass is a forward convolution with `flipped`, prepared beforehand. XLA's
    CPU backend runs the transposed convolution of plain autodiff, once inside a loop, on a
    naive kernel that is three times slower than the whole step.
    """
    return jnp.where(mask, _correlate(features, kernel, 1 - rim) + bias, 0)


convolve = jax.custom_vjp(_convolve, nondiff_argnums=(5,))


def _convolve_forward(features, kernel, flipped, bias, mask, rim):
    return convolve(features, kernel, flipped, bias, mask, rim), (flipped, mask)


def _convolve_backward(rim, residuals, gradient):
    flipped, mask = residuals
    return _backward(jnp.where(mask, gradient, 0), flipped, rim), None, None, None, None


convolve.defvjp(_convolve_forward, _convolve_backward)


def _convolve_relu(
    features: Float[Array, "m n c"],
    kernel: Float[Array, "k k c d"],
    flipped: Float[Array, "k k d c"],
    bias: Float[Array, " d"],
    mask: Bool[Array, "h w 1"],
    rim: int = 0,
) -> Float[Array, "h w d"]:
    """`convolve` and its activation as one operation (`relu4_2`).

    The only thing kept for the backward pass is the output, which the next layer keeps
    anyway: the gradient flows where the output is positive, hence inside the mask.
    """
    return jnp.where(mask, jax.nn.relu(_correlate(features, kernel, 1 - rim) + bias), 0)


convolve_relu = jax.custom_vjp(_convolve_relu, nondiff_argnums=(5,))


def _convolve_relu_forward(features, kernel, flipped, bias, mask, rim):
    output = convolve_relu(features, kernel, flipped, bias, mask, rim)
    return output, (flipped, output)


def _convolve_relu_backward(rim, residuals, gradient):
    flipped, output = residuals
    return _backward(jnp.where(output > 0, gradient, 0), flipped, rim), None, None, None, None


convolve_relu.defvjp(_convolve_relu_forward, _convolve_relu_backward)


def pool(
    features: Float[Array, "h w c"], kind: Pooling, scale: float = 1.0
) -> Float[Array, "h//2 w//2 c"]:
    """Halves both sides; an odd last row or column is dropped (as Caffe, Keras, PyTorch do).

    Args:
        features: The input.
        kind: The maximum of each 2x2 window, its average, or the root of its sum of squares.
        scale: A factor on the output.
    """
    match kind:
        case "max":
            largest = _maximum_pool(features)
            return largest if scale == 1 else largest * scale
        case "average":
            return _average_pool(features, scale)
        case "l2":
            return _norm_pool(features, scale)


def _average_pool_of(features: Float[Array, "h w c"], scale: float) -> Float[Array, "h//2 w//2 c"]:
    first, *others = _corners(features)
    return sum(others, start=first) * (0.25 * scale)


_average_pool = jax.custom_vjp(_average_pool_of, nondiff_argnums=(1,))


def _average_pool_forward(features, scale):
    return _average_pool(features, scale), features


def _average_pool_backward(scale, features, gradient):
    return (_pad_like(_upsample(gradient * (0.25 * scale)), features),)


_average_pool.defvjp(_average_pool_forward, _average_pool_backward)


def _norm_pool_of(features: Float[Array, "h w c"], scale: float) -> Float[Array, "h//2 w//2 c"]:
    """The root of the sum of squares, which are summed in float32."""
    squares = [jnp.square(corner.astype(jnp.float32)) for corner in _corners(features)]
    return (jnp.sqrt(sum(squares[1:], start=squares[0])) * scale).astype(features.dtype)


_norm_pool = jax.custom_vjp(_norm_pool_of, nondiff_argnums=(1,))


def _norm_pool_forward(features, scale):
    norm = _norm_pool(features, scale)
    return norm, (features, norm)


def _norm_pool_backward(scale, residuals, gradient):
    """x / ‖x‖; where the whole window is 0 there is no way down or up, and the gradient is 0."""
    features, norm = residuals
    by_norm = jnp.where(norm > 0, scale**2 * gradient / jnp.where(norm > 0, norm, 1), 0)
    doubled = _upsample(by_norm.astype(features.dtype))
    height, width = doubled.shape[:2]
    return (_pad_like(features[:height, :width] * doubled, features),)


_norm_pool.defvjp(_norm_pool_forward, _norm_pool_backward)


@jax.custom_vjp
def _maximum_pool(features: Float[Array, "h w c"]) -> Float[Array, "h//2 w//2 c"]:
    """The maximum of each 2x2 window. The largest share the gradient equally.

    Its backward pass compares each value with its window's maximum. On a CPU that is many
    times cheaper than the backward pass of `lax.reduce_window`, and twice as cheap as that
    of pairwise maxima.
    """
    first, second, third, fourth = _corners(features)
    return jnp.maximum(jnp.maximum(first, second), jnp.maximum(third, fourth))


def _maximum_pool_forward(features):
    largest = _maximum_pool(features)
    return largest, (features, largest)


def _maximum_pool_backward(residuals, gradient):
    features, largest = residuals
    holders = sum((corner == largest).astype(gradient.dtype) for corner in _corners(features))
    height, width = 2 * largest.shape[0], 2 * largest.shape[1]
    is_largest = features[:height, :width] == _upsample(largest)
    shares = jnp.where(is_largest, _upsample(gradient / holders), 0)
    return (_pad_like(shares, features),)


_maximum_pool.defvjp(_maximum_pool_forward, _maximum_pool_backward)


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
