"""What a style is to the objective: statistics of its features at one tap.

The statistics of every style picture are the same, `Moments`; averages over pictures are
theirs too, because both moments are means over positions. What is compared is made of
them once, on the host, and is called a target: it knows how far an image's features are
from it. The kind of target is part of a program's structure, so there is no branch.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from nst_jax.model import losses


class Moments(NamedTuple):
    """First and second moments of the features of one tap, over the image's own region.

    Attributes:
        mean: E[x].
        second: E[x xᵀ], which is the Gram matrix.
    """

    mean: Float32[Array, "... c"]
    second: Float32[Array, "... c c"]


@runtime_checkable
class StyleTarget(Protocol):
    """What a style asks of one tap; a tuple of arrays, so it goes wherever arrays go."""

    def distance(
        self,
        features: Float[Array, "h w c"],
        positions: Float32[Array, ""],
        key: PRNGKeyArray,
    ) -> Float32[Array, ""]:
        """How far the features of one image are; 0 for a perfect match.

        Args:
            features: Activations of the tap, zero outside of the image's own region.
            positions: How many positions the own region has.
            key: For what is random in the comparison, another one at each step.
        """
        ...


class GramTarget(NamedTuple):
    """Compares Gram matrices, relative to the target's norm (Gatys et al. 2016)."""

    gram: Float32[Array, "... c c"]

    @classmethod
    def of(cls, mean: Any, second: Any) -> "GramTarget":
        """The target of a style with these moments, on the host; its mean does not count."""
        del mean
        return cls(second)

    def distance(
        self,
        features: Float[Array, "h w c"],
        positions: Float32[Array, ""],
        key: PRNGKeyArray,
    ) -> Float32[Array, ""]:
        """‖G - A‖² / ‖A‖²; see `losses.gram_loss`."""
        del key
        return losses.gram_loss(losses.gram_matrix(features, positions), self.gram)


def moments(features: Float[Array, "h w c"], positions: Float32[Array, ""]) -> Moments:
    """The statistics of one picture's features at a tap.

    Args:
        features: Zero outside of the picture's own region.
        positions: How many positions the own region has.
    """
    mean = features.astype(jnp.float32).sum((0, 1)) / positions
    return Moments(mean, losses.gram_matrix(features, positions))
