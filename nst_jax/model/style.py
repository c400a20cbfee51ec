"""What a style is to the objective: statistics of its features at one tap.

The statistics of every style picture are the same, `Moments`; averages over pictures are
theirs too, because both moments are means over positions. What is compared is made of
them once and is called a target: it knows how far an image's features are
from it. The kind of target is part of a program's structure, so there is no branch.
"""

import collections
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from nst_jax.model import losses, normalization
from nst_jax.model.region import Region, region_from_weights


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

    def distance(self, features: Float[Array, "h w c"], region: Region) -> Float32[Array, ""]:
        """How far the features of one image are; 0 for a perfect match.

        Args:
            features: Activations of the tap, zero outside of the image's own region.
            region: The positions that count.
        """
        ...


class GramTarget(NamedTuple):
    """Compares Gram matrices (Gatys et al. 2016).

    Attributes:
        gram: A.
        scale: Of the squared distance; see `model.normalization`.
    """

    gram: Float32[Array, "... c c"]
    scale: Float32[Array, "..."]

    @classmethod
    def from_moments(cls, mean: Any, second: Any, normalized: str = "relative") -> "GramTarget":
        """The target of a style with these moments; its mean does not count."""
        del mean
        return cls(second, _scale(normalized, second, count=second.size))

    def distance(self, features: Float[Array, "h w c"], region: Region) -> Float32[Array, ""]:
        """‖G - A‖², scaled."""
        gram = losses.gram_matrix(features, region)
        return self.scale * losses.squared_distance(gram, self.gram)


class MomentsTarget(NamedTuple):
    """Compares mean and standard deviation of each channel, no two channels with each other.

    As Li et al. 2017 (1701.01036, batch normalisation statistics) and AdaIN's style loss
    (Huang and Belongie 2017) do. On `pixels` it is the colours alone.

    Attributes:
        mean: Of each channel.
        deviation: Likewise.
        scale: Of the squared distance of both; see `model.normalization`.
    """

    mean: Float32[Array, "... c"]
    deviation: Float32[Array, "... c"]
    scale: Float32[Array, "..."]

    @classmethod
    def from_moments(cls, mean: Any, second: Any, normalized: str = "relative") -> "MomentsTarget":
        """The target of a style with these moments."""
        spread = jnp.diagonal(second) - jnp.square(mean)
        deviation = jnp.sqrt(jnp.maximum(spread, 0) + _SMALLEST_VARIANCE)
        return cls(mean, deviation, _scale(normalized, mean, deviation, count=2 * len(mean)))

    def distance(self, features: Float[Array, "h w c"], region: Region) -> Float32[Array, ""]:
        """‖mean - μ‖² + ‖deviation - that of the style‖², scaled; see `StyleTarget`."""
        values = features.astype(jnp.float32)
        mean, square = (
            region.apply_weights(each).sum((0, 1)) / region.positions
            for each in (values, values**2)
        )
        deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0) + _SMALLEST_VARIANCE)
        means = losses.squared_distance(mean, self.mean)
        return self.scale * (means + losses.squared_distance(deviation, self.deviation))


# Under the root of a variance, so that a channel that never fires has a gradient.
_SMALLEST_VARIANCE = 1e-4


def _scale(normalized: str, *arrays: Any, count: int) -> Any:
    squares, channels = normalization.sum_of_squares(*arrays), arrays[0].shape[-1]
    return normalization.scale(normalized, squares, count=count, channels=channels)


class RegionsTarget(NamedTuple):
    """Compares each region of an image with a style of its own (Gatys et al. 2017, 1611.07865).

    A region counts by the share of the image's positions that it covers, so that one region
    of all positions is what there would be without it, and a pixel is drawn to its style as
    strongly in a small region as in a large one. Where regions overlap a pixel is drawn to
    both styles; outside of all of them to none.

    Attributes:
        targets: Of each region, all of one kind.
        masks: Of each position in each region, from 0 to 1.
        region_weights: A factor on each region's distance.
    """

    targets: tuple[StyleTarget, ...]
    masks: Float32[Array, "... r h w"]
    region_weights: Float32[Array, "... r"]

    @classmethod
    def of(cls, targets: Any, masks: Any, region_weights: Any) -> "RegionsTarget":
        """The target of regions."""
        return cls(tuple(targets), masks, region_weights)

    def distance(self, features: Float[Array, "h w c"], region: Region) -> Float32[Array, ""]:
        """Sum over regions of weight, share of the positions, and distance in the region."""
        return sum_distances([(jnp.float32(1), Comparison(self, features, region))])

    def split(
        self, features: Float[Array, "h w c"], region: Region
    ) -> "list[tuple[Float32[Array, ''], Comparison]]":
        """The comparison of each region, and the factor on its distance."""
        parts = []
        for number, target in enumerate(self.targets):
            share = jnp.sum(self.masks[number]) / region.positions
            part = Comparison(target, features, region_from_weights(self.masks[number]))
            parts.append((self.region_weights[number] * share, part))
        return parts


class Comparison(NamedTuple):
    """Features of one tap, what they are compared with, and where."""

    target: StyleTarget
    features: Float[Array, "h w c"]
    region: Region


def sum_distances(
    weighted: Iterable[tuple[Float32[Array, ""], Comparison]],
) -> Float32[Array, ""]:
    """The weighted sum of distances; those of one kind are asked together where it knows how."""
    kinds: dict[Any, list[tuple[Array, Comparison]]] = collections.defaultdict(list)
    for weight, one in weighted:
        if isinstance(one.target, RegionsTarget):
            parts = one.target.split(one.features, one.region)
        else:
            parts = [(jnp.float32(1), one)]
        for factor, part in parts:
            kinds[type(part.target)].append((weight * factor, part))
    total = jnp.float32(0)
    for kind, members in kinds.items():
        weights, comparisons = zip(*members, strict=True)
        if hasattr(kind, "distances"):
            found = kind.distances(*zip(*comparisons, strict=True))
        else:
            found = [one.target.distance(one.features, one.region) for one in comparisons]
        for weight, distance in zip(weights, found, strict=True):
            total += weight * distance
    return total


def compute_moments(features: Float[Array, "h w c"], region: Region) -> Moments:
    """The statistics of one picture's features at a tap.

    Args:
        features: Zero outside of the picture's own region.
        region: The positions that count.
    """
    mean = region.apply_weights(features).astype(jnp.float32).sum((0, 1)) / region.positions
    return Moments(mean, losses.gram_matrix(features, region))
