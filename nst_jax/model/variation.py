"""Smoothness: how much neighbouring pixels differ, in each definition that is in use.

All are means over the pixels and channels of the image's own region, so that a weight means
the same at every size; nothing that lies outside of it counts. Each kind is a tuple without
arrays: it is part of a program's structure, and there is no branch.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from nst_jax.model.layers import region_mask, replicate_border


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
        down, across = _differences(image, size)
        return (jnp.sum(down**2) + jnp.sum(across**2)) / _values(image, size)


class AbsoluteVariation(NamedTuple):
    """Absolute differences likewise (ProGamerGov, cysmith, TensorFlow): edges may be sharp."""

    def of(self, image: Float[Array, "h w 3"], size: Int[Array, "2"]) -> Float32[Array, ""]:
        """See `Variation`."""
        down, across = _differences(image, size)
        return (jnp.sum(_absolute(down)) + jnp.sum(_absolute(across))) / _values(image, size)


class NinePointVariation(NamedTuple):
    """Squared differences to all eight neighbours, the border repeated once around the image.

    Twice the sum of a third of the mean squares down and across and a twelfth of those along
    both diagonals; the diagonals' means are over the windows that lie on the repeated border,
    a row and a column more than pixels (crowsonkb/style-transfer-pytorch).
    """

    def of(self, image: Float[Array, "h w 3"], size: Int[Array, "2"]) -> Float32[Array, ""]:
        """See `Variation`."""
        own = region_mask(size, (image.shape[0], image.shape[1]))
        wide = replicate_border(jnp.where(own, image, 0), size)
        windows = region_mask(size + 1, (wide.shape[0] - 1, wide.shape[1] - 1))
        inner = wide[1:-1, 1:-1]
        straight = jnp.where(own, (wide[2:, 1:-1] - inner) ** 2 + (wide[1:-1, 2:] - inner) ** 2, 0)
        falling, rising = wide[1:, 1:] - wide[:-1, :-1], wide[1:, :-1] - wide[:-1, 1:]
        diagonal = jnp.where(windows, falling**2 + rising**2, 0)
        return 2 * (
            jnp.sum(straight) / _values(image, size) / 3
            + jnp.sum(diagonal) / _values(image, size + 1) / 12
        )


def _differences(
    image: Float[Array, "h w 3"], size: Int[Array, "2"]
) -> tuple[Float[Array, "h-1 w 3"], Float[Array, "h w-1 3"]]:
    """Down and across, zero where a pair is not inside of the own region."""
    inside = region_mask(size, (image.shape[0], image.shape[1]))
    down = jnp.where(inside[1:], image[1:] - image[:-1], 0)
    across = jnp.where(inside[:, 1:], image[:, 1:] - image[:, :-1], 0)
    return down, across


def _absolute(differences: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Without a slope at 0, where JAX's own has 1: two equal pixels must not be pushed apart."""
    return jnp.where(differences == 0, 0, jnp.abs(differences))


def _values(image: Float[Array, "h w 3"], size: Int[Array, "2"]) -> Float32[Array, ""]:
    """How many numbers an image of this size has."""
    return (size[0] * size[1] * image.shape[-1]).astype(jnp.float32)
