"""Excitement of a channel, as something that an image can be moved towards."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from nst_jax.model.region import Region


class ActivationTarget(NamedTuple):
    """Asks an image to excite some channels of one tap; stands where a style's target does.

    Which channels is an array, so that many of them are jobs of one program (activation
    maximisation, Erhan et al. 2009).

    Attributes:
        direction: How much each channel counts; 0 for those that don't.
    """

    direction: Float32[Array, "... c"]

    def distance(self, features: Float[Array, "h w c"], region: Region) -> Float32[Array, ""]:
        """Minus the mean of the features over a region, along the direction.

        Args:
            features: Of the tap, zero outside of the image's own region.
            region: The positions that count.
        """
        mean = region.apply_weights(features).astype(jnp.float32).sum((0, 1)) / region.positions
        return -jnp.sum(mean * self.direction)
