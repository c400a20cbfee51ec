"""Which positions of a tap's features count, and how much: what every style statistic is over.

Without a mask a statistic is over the image's own region, where each position counts alike.
With one each position has its weight, and soft edges belong to both sides in part.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32


class Region(NamedTuple):
    """Where statistics are taken.

    Attributes:
        positions: How many positions count: the sum of the weights. Above 0.
        weights: Of each position, from 0 to 1, 0 outside of the image's own region; None:
            all positions of the own region alike. None or not is part of a program's structure.
        inside: Which positions are in the own region; None where there are weights.
    """

    positions: Float32[Array, ""]
    weights: Float32[Array, "*places"] | None = None
    inside: Bool[Array, "*places"] | None = None

    def flatten(self) -> "Region":
        """The same with one row a position."""
        return jax.tree.map(lambda each: each if each.ndim == 0 else each.ravel(), self)

    def position_weights(self) -> Float32[Array, "*places"]:
        """From 0 to 1, whether there are weights or not."""
        known = self.inside if self.weights is None else self.weights
        assert known is not None
        return known.astype(jnp.float32)

    def root_weights(self) -> Float32[Array, "*places"]:
        """Of the weights: a product of two rows, each by its root, has the whole weight."""
        weights = self.position_weights()
        return weights if self.weights is None else jnp.sqrt(weights)

    def apply_weights(self, features: Float[Array, "*places c"]) -> Float[Array, "*places c"]:
        """Features times their positions' weights; as they are where there are none."""
        if self.weights is None:
            return features
        return features * self.weights[..., None].astype(features.dtype)


def region_from_weights(weights: Float32[Array, "h w"]) -> Region:
    """The region of a map of weights. One without any weight counts as one position of nothing."""
    counted = jnp.sum(weights)
    return Region(jnp.where(counted > 0, counted, 1), weights)
