"""3x3 convolutions by Winograd's F(4x4, 3x3): 36 products where the direct form takes 144.

A 6x6 tile of the input gives a 4x4 tile of the output:

    Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        (Lavin and Gray 2016, arXiv 1509.09308)

The products of all tiles and channels become 36 matrix products. The kernel's transform
is made beforehand. Only worth it where direct convolution already runs at the arithmetic
limit, that is on CPUs, and where channels are many enough to pay for the transforms, which
go through an image strip by strip; `nst-jax bench` measures it. The error is about 1e-5 of the
largest value, in float32; in bfloat16 it would be too large.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float, Int

TILE = 6
"""Side of a transformed kernel; a kernel's side tells a transformed one from a plain one."""

_OUT = 4

# As measured: of numbers in a transformed kernel, and of tiles in a strip.
_LARGEST_KERNEL = 36 * 256 * 256
_FEWEST_TILES = 64

# The transforms for interpolation at 0, 1, -1, 2, -2 and infinity.
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_OUTPUT = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
)


def is_profitable(channels_in: int, channels_out: int) -> bool:
    """Whether a convolution of these channels is faster this way on a CPU, as measured."""
    return min(channels_in, channels_out) >= 64


def transform_kernel(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """G g Gᵀ for each pair of channels: (3, 3, c, d) to (6, 6, c, d), computed in float64."""
    *_, channels_in, channels_out = kernel.shape
    by_columns = kernel.swapaxes(0, 1).astype(np.float64).reshape(3, -1)
    by_column = (_KERNEL @ by_columns).reshape(TILE, 3, -1)
    transformed = np.empty((TILE, TILE, channels_in * channels_out), np.float32)
    for column, rows in zip(transformed, by_column, strict=True):
        column[:] = _KERNEL @ rows
    return transformed.reshape(TILE, TILE, channels_in, channels_out)


@jax.custom_batching.custom_vmap
def correlate(
    features: Float[Array, "h w c"], kernel: Float[Array, "6 6 c d"]
) -> Float[Array, "h w d"]:
    """What a 3x3 convolution with zero padding gives, from its transformed kernel."""
    return _correlate_batch(features[None], kernel)[0]


@correlate.def_vmap
def _correlate_vmap(_, in_batched, features, kernel):
    """The batch by hand: plain `vmap` puts its axis first and transposes every tile for it."""
    assert in_batched == [True, False], "the kernels of the network are shared by all images"
    return _correlate_batch(features, kernel), True


@jax.jit
def _correlate_batch(
    features: Float[Array, "b h w c"], kernel: Float[Array, "6 6 c d"]
) -> Float[Array, "b h w d"]:
    batch, height, width, _ = features.shape
    down, across = -(-height // _OUT), -(-width // _OUT)
    rows = _rows_of_strip(kernel.size, batch, down, across)
    strips = -(-down // rows)
    rim = ((0, 0), (1, _OUT * strips * rows + 1 - height), (1, _OUT * across + 1 - width), (0, 0))
    padded = jnp.pad(features, rim)
    if strips == 1:
        return _correlate_strip(padded, kernel, down, across)[:, :height, :width]

    def add_strip(index: Int[Array, ""], images: Array) -> Array:
        top = index * rows * _OUT
        strip = jax.lax.dynamic_slice_in_dim(padded, top, rows * _OUT + 2, axis=1)
        found = _correlate_strip(strip, kernel, rows, across)
        return jax.lax.dynamic_update_slice_in_dim(images, found, top, axis=1)

    # Filled with anything of this layer: of zeros XLA would keep one array, and copy it each time.
    whole = (batch, strips * rows * _OUT, across * _OUT, kernel.shape[-1])
    empty = jnp.broadcast_to(features[:, :1, :1, :1], whole)
    images = jax.lax.fori_loop(0, strips, add_strip, empty)
    return images[:, :height, :width]


def _rows_of_strip(kernel_size: int, batch: int, down: int, across: int) -> int:
    """How many rows of tiles are transformed together.

    Few, so that a strip's tiles, more than twice its features, stay in a core's own cache until
    they are images. All of them where the kernel is so large that to read it again for each
    strip costs more, and for one picture alone, whose operations are shared out to all cores.
    """
    if batch == 1 or kernel_size > _LARGEST_KERNEL:
        return down
    strips = -(-down // min(down, -(-_FEWEST_TILES // (batch * across))))
    return -(-down // strips)


def _correlate_strip(
    padded: Float[Array, "b m n c"], kernel: Float[Array, "6 6 c d"], down: int, across: int
) -> Float[Array, "b h w d"]:
    batch, *_, channels = padded.shape
    tiles = _input_tiles(padded, down, across)
    products = jnp.einsum(
        "ktc,kcd->ktd",
        tiles.reshape(TILE * TILE, batch * down * across, channels),
        kernel.reshape(TILE * TILE, channels, -1),
    )
    return _output_images(products.reshape(TILE, TILE, batch, down, across, -1))


def _input_tiles(padded: Array, down: int, across: int) -> Float[Array, "6 6 b down across c"]:
    """Bᵀ d B for each tile d; the column index comes first."""
    rows = [padded[:, i : i + _OUT * (down - 1) + 1 : _OUT] for i in range(TILE)]
    by_row = jnp.stack([_weighted_sum(weights, rows) for weights in _INPUT])
    columns = [by_row[..., j : j + _OUT * (across - 1) + 1 : _OUT, :] for j in range(TILE)]
    return jnp.stack([_weighted_sum(weights, columns) for weights in _INPUT])


def _output_images(products: Float[Array, "6 6 b down across d"]) -> Float[Array, "b h w d"]:
    """Aᵀ M A for each tile M, laid side by side."""
    _, _, batch, down, across, channels = products.shape
    by_column = jnp.stack([_weighted_sum(weights, list(products)) for weights in _OUTPUT])
    rows = [by_column[:, a] for a in range(TILE)]
    pixels = jnp.stack([_weighted_sum(weights, rows) for weights in _OUTPUT])
    images = pixels.transpose(2, 3, 0, 4, 1, 5)
    return images.reshape(batch, _OUT * down, _OUT * across, channels)


def _weighted_sum(weights: npt.NDArray[np.number], arrays: list[Array]) -> Array:
    """The weighted sum of arrays, spelled out so that zeros and ones cost nothing.

    By `jax.lax`: a program has thousands of these terms, and `jax.numpy` is slower to trace.
    """
    terms = [
        array if weight == 1 else jax.lax.mul(array, float(weight))
        for weight, array in zip(weights, arrays, strict=True)
        if weight != 0
    ]
    return functools.reduce(jax.lax.add, terms)
