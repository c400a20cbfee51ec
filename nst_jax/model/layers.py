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

Pooling = Literal["max", "average"]


def region_mask(size: Int[Array, "2"], canvas: tuple[int, int]) -> Bool[Array, "h w 1"]:
    """True inside the image's own region of its canvas.

    Args:
        size: Height and width of the image, a traced value that may differ in each slot.
        canvas: Height and width of the canvas, static.
    """
    rows = jnp.arange(canvas[0]) < size[0]
    columns = jnp.arange(canvas[1]) < size[1]
    return (rows[:, None] & columns[None, :])[..., None]


def flipped_kernel(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The kernel whose forward convolution is the backward pass of `kernel`'s own.

    Shapes (3, 3, c, d) to (3, 3, d, c).
    """
    return np.ascontiguousarray(kernel[::-1, ::-1].swapaxes(2, 3))


def _correlate(
    features: Float[Array, "h w c"], kernel: Float[Array, "k k c d"]
) -> Float[Array, "h w d"]:
    """A 3x3 convolution with zero padding, by a plain kernel or one in Winograd's domain."""
    if kernel.shape[0] == winograd.TILE:
        return winograd.correlate(features, kernel)
    return jax.lax.conv_general_dilated(
        features[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


@jax.custom_vjp
def convolve(
    features: Float[Array, "h w c"],
    kernel: Float[Array, "k k c d"],
    flipped: Float[Array, "k k d c"],
    bias: Float[Array, " d"],
    mask: Bool[Array, "h w 1"],
) -> Float[Array, "h w d"]:
    """A 3x3 convolution with zero padding: the value before the activation (`conv4_2`).

    Its backward pass is a forward convolution with `flipped`, prepared beforehand. XLA's
    CPU backend runs the transposed convolution of plain autodiff, once inside a loop, on a
    naive kernel that is three times slower than the whole step.
    """
    return jnp.where(mask, _correlate(features, kernel) + bias, 0)


def _convolve_forward(features, kernel, flipped, bias, mask):
    return convolve(features, kernel, flipped, bias, mask), (flipped, mask)


def _convolve_backward(residuals, gradient):
    flipped, mask = residuals
    return _correlate(jnp.where(mask, gradient, 0), flipped), None, None, None, None


convolve.defvjp(_convolve_forward, _convolve_backward)


@jax.custom_vjp
def convolve_relu(
    features: Float[Array, "h w c"],
    kernel: Float[Array, "k k c d"],
    flipped: Float[Array, "k k d c"],
    bias: Float[Array, " d"],
    mask: Bool[Array, "h w 1"],
) -> Float[Array, "h w d"]:
    """`convolve` and its activation as one operation (`relu4_2`).

    The only thing kept for the backward pass is the output, which the next layer keeps
    anyway: the gradient flows where the output is positive, hence inside the mask.
    """
    return jnp.where(mask, jax.nn.relu(_correlate(features, kernel) + bias), 0)


def _convolve_relu_forward(features, kernel, flipped, bias, mask):
    output = convolve_relu(features, kernel, flipped, bias, mask)
    return output, (flipped, output)


def _convolve_relu_backward(residuals, gradient):
    flipped, output = residuals
    return _correlate(jnp.where(output > 0, gradient, 0), flipped), None, None, None, None


convolve_relu.defvjp(_convolve_relu_forward, _convolve_relu_backward)


def pool(features: Float[Array, "h w c"], kind: Pooling) -> Float[Array, "h//2 w//2 c"]:
    """Halves both sides; an odd last row or column is dropped (as Caffe, Keras, PyTorch do).

    The maximum is taken pairwise over the four strided slices: on a CPU its backward pass
    is 18 times cheaper than that of `lax.reduce_window`. A tie shares the gradient.
    """
    height, width = features.shape[0] // 2 * 2, features.shape[1] // 2 * 2
    corners = [features[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]
    if kind == "average":
        return sum(corners[1:], start=corners[0]) * 0.25
    return jnp.maximum(jnp.maximum(corners[0], corners[1]), jnp.maximum(corners[2], corners[3]))
