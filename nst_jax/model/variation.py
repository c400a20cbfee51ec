"""Smoothness: how much neighbouring pixels differ, in each definition that is in use.

All are means over the pixels and channels of the image's own region, so that a weight means
the same at every size; nothing that lies outside of it counts. Each kind is a tuple without
arrays: it is part of a program's structure, and there is no branch.

Each is a sum over pairs of neighbours, so a pixel's slope needs its own neighbours alone. Value
and slope are computed together, on rows of 3 w numbers: what plain autodiff makes of them, a
padding of each difference with three channels innermost, takes a CPU ten times as long.
"""

import functools
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

_CHANNELS = 3


@runtime_checkable
class Variation(Protocol):
    """A way of measuring how rough an image is."""

    def of(self, image: Float[Array, "h w 3"], size: Int[Array, "2"]) -> Float32[Array, ""]:
        """0 for a constant image.

        Args:
            image: In the top left corner of its canvas.
            size: Height and width of the image on the canvas.
        """
        ...


class SquaredVariation(NamedTuple):
    """Squared differences to the neighbours below and to the right (jcjohnson, anishathalye).

    Pairs that reach over the border don't count. A checkerboard of 0 and 1 has nearly 2.
    """

    def of(self, image: Float[Array, "h w 3"], size: Int[Array, "2"]) -> Float32[Array, ""]:
        """See `Variation`."""
        return _sum_over_pairs(image, size, _PairWeights(1 / _values(size)))


class AbsoluteVariation(NamedTuple):
    """Absolute differences likewise (ProGamerGov, cysmith, TensorFlow): edges may be sharp."""

    def of(self, image: Float[Array, "h w 3"], size: Int[Array, "2"]) -> Float32[Array, ""]:
        """See `Variation`."""
        return _sum_over_pairs(image, size, _PairWeights(1 / _values(size)), True)


class NinePointVariation(NamedTuple):
    """Squared differences to all eight neighbours, the border repeated once around the image.

    Twice the sum of a third of the mean squares down and across and a twelfth of those along
    both diagonals; the diagonals' means are over the windows that lie on the repeated border,
    a row and a column more than pixels (crowsonkb/style-transfer-pytorch). In a window that lies
    across the border both diagonals are the difference of two neighbours along it.
    """

    def of(self, image: Float[Array, "h w 3"], size: Int[Array, "2"]) -> Float32[Array, ""]:
        """See `Variation`."""
        diagonal = 2 / 12 / _values(size + 1)
        weights = _PairWeights(2 / 3 / _values(size), diagonal, 2 * diagonal)
        return _sum_over_pairs(image, size, weights)


class _PairWeights(NamedTuple):
    """What a pair's squared or absolute difference counts.

    Attributes:
        straight: Of a pair in a row or a column.
        diagonal: Of a pair along a diagonal; None: none counts.
        border: What a pair counts more for each border of the image that it lies along.
    """

    straight: Float32[Array, ""]
    diagonal: Float32[Array, ""] | None = None
    border: Float32[Array, ""] | float = 0.0


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _sum_over_pairs(
    image: Float[Array, "h w 3"],
    size: Int[Array, "2"],
    weights: _PairWeights,
    is_absolute: bool = False,
) -> Float32[Array, ""]:
    """The weighted sum over all pairs of neighbours within the image's own region."""
    return _value_and_slope(image, size, weights, is_absolute)[0]


def _value_and_slope(
    image: Float[Array, "h w 3"],
    size: Int[Array, "2"],
    weights: _PairWeights,
    is_absolute: bool,
) -> tuple[Float32[Array, ""], Float32[Array, "h w 3"]]:
    height, width, _ = image.shape
    flat = image.reshape(height, width * _CHANNELS)
    wide = jnp.pad(flat, ((1, 1), (_CHANNELS, _CHANNELS)))
    rows = jnp.arange(height)[:, None]
    columns = (jnp.arange(width * _CHANNELS) // _CHANNELS)[None]
    value, slope = jnp.float32(0), jnp.zeros_like(flat)
    for down, across in ((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)):
        weight = weights.straight if down == 0 or across == 0 else weights.diagonal
        if weight is None:
            continue
        if down == 0:
            weight += weights.border * _count_ends(rows, size[0])
        elif across == 0:
            weight += weights.border * _count_ends(columns, size[1])
        begin = _CHANNELS * (1 + across)
        neighbour = wide[1 + down :, begin:][:height, : width * _CHANNELS]
        is_pair = _is_inside(rows, down, size[0]) & _is_inside(columns, across, size[1])
        difference = jnp.where(is_pair, flat - neighbour, 0)
        if is_absolute:
            # Without a slope at 0: two equal pixels must not be pushed apart.
            value += 0.5 * jnp.sum(weight * jnp.abs(difference))
            slope += weight * jnp.sign(difference)
        else:
            value += 0.5 * jnp.sum(weight * difference**2)
            slope += 2 * weight * difference
    return value, slope.reshape(image.shape)


def _backward(is_absolute, slope, gradient):
    return gradient * slope, None, None


_sum_over_pairs.defvjp(_value_and_slope, _backward)


def _count_ends(places: Int[Array, "..."], length: Int[Array, ""]) -> Float32[Array, "..."]:
    """How many of a row's or a column's two ends each place is."""
    return (places == 0).astype(jnp.float32) + (places == length - 1)


def _is_inside(places: Int[Array, "..."], shift: int, length: Int[Array, ""]) -> Array:
    """Whether a place and the one beside it are both within the length."""
    return (places < length) & (places + shift >= 0) & (places + shift < length)


def _values(size: Int[Array, "2"]) -> Float32[Array, ""]:
    """How many numbers an image of this size has."""
    return (size[0] * size[1] * _CHANNELS).astype(jnp.float32)
