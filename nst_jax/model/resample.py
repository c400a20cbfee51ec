"""An image made larger or smaller on the device, its sizes traced.

Each line of the result is a weighted mean of lines of the source, as Pillow's `resize` has it: the
kernel stands over the centre of the new pixel, is stretched over the source when that shrinks, and
its weights are scaled to sum to 1 at the borders too. They are a matrix for each axis, and two
products of matrices are the resampling. A canvas is static and the size on it is not, so one
program serves all images of a pair of canvases.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32

Kernel = Callable[[Float32[Array, "..."]], Float32[Array, "..."]]
"""What weighs a pixel by its distance, in pixels of the source or of the result, whichever are
larger; 0 beyond the kernel's support."""

_LOBES = 3
"""Of Lanczos."""


def lanczos(distance: Float32[Array, "..."]) -> Float32[Array, "..."]:
    """A sinc under the middle lobe of a three times wider one; swings below 0."""
    inside = jnp.abs(distance) < _LOBES
    return jnp.where(inside, _sinc(distance) * _sinc(distance / _LOBES), 0)


def bicubic(distance: Float32[Array, "..."]) -> Float32[Array, "..."]:
    """The cubic convolution of Keys (1981) with a = -1/2; swings below 0."""
    x = jnp.abs(distance)
    near = (x - 1) * ((1.5 * x - 1) * x - 1)
    far = -0.5 * (x - 1) * (x - 2) ** 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


def bilinear(distance: Float32[Array, "..."]) -> Float32[Array, "..."]:
    """A triangle; never below 0."""
    return jnp.maximum(0, 1 - jnp.abs(distance))


def weights(
    kernel: Kernel, old: Int32[Array, ""], new: Int32[Array, ""], rows_in: int, rows_out: int
) -> Float32[Array, "*kernels {rows_out} {rows_in}"]:
    """How much of each old line goes into each new one; rows sum to 1, and from `new` on are 0.

    Args:
        kernel: One of this module's, or a stack of them.
        old: Lines of the source that count, at most `rows_in`.
        new: Lines of the result that count, at most `rows_out`.
        rows_in: Lines of the source's canvas, below 32768.
        rows_out: Lines of the result's canvas, below 32768.
    """
    sources = jnp.arange(rows_in, dtype=jnp.int32)
    targets = jnp.arange(rows_out, dtype=jnp.int32)[:, None]
    # Whole numbers until the division: a difference of fractions would lose what they share.
    apart = (2 * sources + 1) * new - (2 * targets + 1) * old
    distances = apart.astype(jnp.float32) / (2 * jnp.maximum(old, new)).astype(jnp.float32)
    values = jnp.where(sources < old, kernel(distances), 0)
    values = values / jnp.sum(values, axis=-1, keepdims=True)
    # By the formula too, but for roundings of division and sine, which a copy must not have.
    copies = (sources == targets).astype(jnp.float32)
    return jnp.where(targets < new, jnp.where(old == new, copies, values), 0)


def resample(
    image: Float32[Array, "h w c"],
    old_size: Int32[Array, "2"],
    new_size: Int32[Array, "2"],
    canvas: tuple[int, int],
    kernel: Kernel,
) -> Float32[Array, "H W c"]:
    """An image at another size, on another canvas of which the rest is exactly 0.

    A side that keeps its length is copied exactly. Lanczos and bicubic may leave the image's range.

    Args:
        image: In the top left corner of its canvas; around it may be anything, NaN too.
        old_size: Its height and width in pixels.
        new_size: Those of the result.
        canvas: Height and width that the result has with what is around it.
        kernel: One of this module's.
    """
    return resample_each(image[None], old_size, new_size, canvas, [kernel])[0]


def resample_each(
    images: Float32[Array, "n h w c"],
    old_size: Int32[Array, "2"],
    new_size: Int32[Array, "2"],
    canvas: tuple[int, int],
    kernels: Sequence[Kernel],
) -> Float32[Array, "n H W c"]:
    """Several images of one size, each by a kernel of its own; see `resample`.

    In one piece, and the weights of both axes too, because on CPU that compiles in a third of
    the time.
    """
    (_, height, width, _), (rows, columns) = images.shape, canvas
    inside = (jnp.arange(height)[:, None] < old_size[0]) & (jnp.arange(width) < old_size[1])
    images = jnp.where(inside[..., None], images, 0)

    def stack(distance: Float32[Array, "..."]) -> Float32[Array, "..."]:
        return jnp.stack([kernel(distance) for kernel in kernels])

    def weigh_axis(old: Int32[Array, ""], new: Int32[Array, ""]) -> Float32[Array, "n Y X"]:
        return weights(stack, old, new, max(height, width), max(canvas))

    down, across = jax.vmap(weigh_axis)(old_size, new_size)
    down, across = down[:, :rows, :height], across[:, :columns, :width]
    exactly = jax.lax.Precision.HIGHEST
    lines = jnp.einsum("nyi,nijc->nyjc", down, images, precision=exactly)
    return jnp.einsum("nxj,nyjc->nyxc", across, lines, precision=exactly)


def _sinc(x: Float32[Array, "..."]) -> Float32[Array, "..."]:
    """sin(πx) / πx."""
    angle = jnp.where(x == 0, 1, jnp.pi * x)
    return jnp.where(x == 0, 1, jnp.sin(angle) / angle)
