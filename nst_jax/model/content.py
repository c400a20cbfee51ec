"""What a content is to the objective: its features at one tap."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from nst_jax.model import losses, normalization


class ContentTarget(NamedTuple):
    """Compares features position by position.

    Attributes:
        features: Of the content, zero outside of its own region.
        scale: Of the squared distance; see `model.normalization`.
    """

    features: Float[Array, "... h w c"]
    scale: Float32[Array, "..."]

    @classmethod
    def from_features(
        cls, features: Any, positions: Any, normalized: str = "relative"
    ) -> "ContentTarget":
        """The target of a content with these features.

        Args:
            features: (h, w, c), zero outside of the content's own region.
            positions: How many positions the own region has.
            normalized: A name in `model.normalization`.
        """
        channels = features.shape[-1]
        squares = normalization.sum_of_squares(features)
        count = jnp.float32(positions) * channels  # may be more than an int32 holds
        return cls(
            features, normalization.scale(normalized, squares, count=count, channels=channels)
        )

    def distance(self, features: Float[Array, "h w c"]) -> Float32[Array, ""]:
        """How far the features of one image are; 0 for a perfect match."""
        return self.scale * losses.squared_distance(features, self.features)
