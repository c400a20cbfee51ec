"""Styles compared as Gaussians: the squared Wasserstein-2 distance of means and covariances.

    W² = ‖m - μ‖² + tr C + tr Σ - 2 tr (Σ^½ C Σ^½)^½

m and C are mean and covariance of an image's features at a tap, μ and Σ those of the style
(as in crowsonkb/style-transfer-pytorch; Heitz et al. 2021 for the idea). Unlike the Gram
matrix it knows the mean apart from the spread, and a step against it moves the features
along the straightest way to the style's.

The last trace is the sum of the singular values of Y = X Σ^½ / √n, where X has the centred
features of a position in each of its n rows, because YᵀY = Σ^½ C Σ^½. So the gradient has a
closed form and nothing is differentiated through a matrix root:

    dW²/dX = 2 (X - √n U Σ^½) / n,      U = Y (YᵀY)^-½ = (Y Yᵀ)^-½ Y

The cost grows with the cube of the channels. So only the `RANK` directions in which a
style's features vary most are compared as above; of the weak rest its whole variance alone,
(√t - √τ)² for the image's t and the style's τ. That is never more than the whole distance,
and 0 as well where C is Σ. Features then are projected on the strong directions first, and
the c by c covariance never appears. With as many strong directions as channels it is whole.
"""

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from nst_jax.model.inverse_root import inverse_root, product
from nst_jax.model.region import Region

RANK = 128
"""Directions of a style that are compared together."""

# A direction's variance as a share of the largest, below which it is rounding.
_ROUNDING = 1e-6

# Variance in the weak directions below which features are taken for constant.
_TINY = 1e-12


class WassersteinTarget(NamedTuple):
    """Compares means and covariances; Σ = P diag(d²) Pᵀ and in the other directions τ in all.

    Attributes:
        mean: μ.
        basis: P, the directions of the largest variance, orthonormal.
        deviations: d, the standard deviation along each.
        residual_variance: τ, the variance in all other directions together; 0 where there are none.
    """

    mean: Float32[Array, "... c"]
    basis: Float32[Array, "... c r"]
    deviations: Float32[Array, "... r"]
    residual_variance: Float32[Array, "..."]

    @classmethod
    def from_moments(cls, mean: Any, second: Any, *, rank: int = RANK) -> "WassersteinTarget":
        """The target of a style with these moments, in float32.

        What float32 can't tell from no variance at all counts as none. The root of such a rest
        would be large: 3e-4 of the largest deviation, in all directions that a small picture's
        features don't reach. `scripts/measure/directions.py` measures it beside float64.
        """
        mean, second = jnp.asarray(mean, jnp.float32), jnp.asarray(second, jnp.float32)
        variances, directions = jnp.linalg.eigh(second - jnp.outer(mean, mean))
        variances = jnp.where(variances > _ROUNDING * variances[-1], variances, 0)
        weak = max(len(mean) - rank, 0)
        deviations = jnp.sqrt(variances[weak:])
        return cls(mean, directions[:, weak:], deviations, variances[:weak].sum())

    def distance(self, features: Float[Array, "h w c"], region: Region) -> Float32[Array, ""]:
        """W² over the number of channels; see `model.style.StyleTarget`."""
        return self.distances([self], [features], [region])[0]

    @staticmethod
    def distances(
        targets: "Sequence[WassersteinTarget]",
        features: Sequence[Float[Array, "_ _ _"]],
        regions: Sequence[Region],
    ) -> tuple[Float32[Array, ""], ...]:
        """The same of several taps and regions, whose matrix roots are taken together."""
        flat = tuple(each.reshape(-1, each.shape[-1]) for each in features)
        flat_regions = tuple(region.flatten() for region in regions)
        return _distances(flat, flat_regions, tuple(targets))


@jax.custom_vjp
def _distances(
    flats: tuple[Float[Array, "_ _"], ...],
    regions: tuple[Region, ...],
    targets: tuple[WassersteinTarget, ...],
) -> tuple[Float32[Array, ""], ...]:
    """W² over the number of channels, of each.

    Args:
        flats: Features, one row a position; zero rows outside of the image's own region.
        regions: Which rows count.
        targets: The styles'.
    """
    return _distances_forward(flats, regions, targets)[0]


def _distances_forward(flats, regions, targets):
    asked = [_ask_root(*each) for each in zip(flats, regions, targets, strict=True)]
    roots = _inverse_roots([one.inner for one in asked])
    answers = [one.answer(root) for one, root in zip(asked, roots, strict=True)]
    values, slopes = zip(*answers, strict=True)
    return values, slopes


def _distances_backward(slopes, gradients):
    pairs = zip(slopes, gradients, strict=True)
    return tuple(slope.times(gradient) for slope, gradient in pairs), None, None


_distances.defvjp(_distances_forward, _distances_backward)


def _ask_root(
    flat: Float[Array, "p c"], region: Region, target: WassersteinTarget
) -> "_ByCovariance | _ByProjection":
    """What is there before the root is; by the covariance where all directions are strong."""
    channels, rank = target.basis.shape[-2:]
    if rank == channels < len(flat):  # no rows of Y: half of the operations
        return _ByCovariance.of(flat, region, target)
    return _ByProjection.of(flat, region, target)


def _inverse_roots(matrices: list[Float32[Array, "_ _"]]) -> list[Float32[Array, "_ _"]]:
    """The inverse root of each; small ones in one batch, which is one program for all.

    Zeros around a matrix change nothing of its root.
    """
    groups: dict[int, list[int]] = collections.defaultdict(list)
    for index, matrix in enumerate(matrices):
        groups[max(len(matrix), RANK)].append(index)
    roots: dict[int, Array] = {}
    for members in groups.values():
        side = max(len(matrices[index]) for index in members)
        padded = [jnp.pad(matrices[index], (0, side - len(matrices[index]))) for index in members]
        found = jax.vmap(inverse_root)(jnp.stack(padded))
        for place, index in enumerate(members):
            own = len(matrices[index])
            roots[index] = found[place, :own, :own]
    return [roots[index] for index in range(len(matrices))]


class _ByCovariance(NamedTuple):
    """A distance before its root is known; with C, the features' covariance."""

    flat: Float[Array, "p c"]
    region: Region
    target: WassersteinTarget
    own_mean: Float32[Array, " c"]
    own: Float32[Array, "c c"]
    inner: Float32[Array, "c c"]

    @classmethod
    def of(cls, flat: Any, region: Region, target: WassersteinTarget) -> "_ByCovariance":
        shares, own_mean = region.root_weights()[:, None], _mean(flat, region)
        # Centred first: the difference of two moments of a flat picture may be negative.
        centred = (shares * (flat - own_mean)).astype(flat.dtype)
        products = jnp.einsum("pc,pd->cd", centred, centred, preferred_element_type=jnp.float32)
        own = products / region.positions
        factor = target.basis * target.deviations
        inner = product(factor.T, product(own, factor))
        return cls(flat, region, target, own_mean, own, inner)

    def answer(
        self, inverse: Float32[Array, "c c"]
    ) -> tuple[Float32[Array, ""], "_SlopeOfCovariance"]:
        """The distance and its slope, by the inverse root of `inner`."""
        target, positions, channels = self.target, self.region.positions, len(self.own)
        common = jnp.sum(inverse * self.inner)
        value = _distance(self.own_mean, jnp.trace(self.own), common, target)
        factor = target.basis * target.deviations
        trace_gradient = product(factor, product(inverse, factor.T))
        # Both halves of the slope with respect to the features: 2 F G, and a row for each.
        slope = 2 * (jnp.eye(channels) - trace_gradient) / (channels * positions)
        row = 2 * (self.own_mean - target.mean) / (channels * positions) - self.own_mean @ slope
        return value, _SlopeOfCovariance(self.flat, self.region, slope, row)


class _SlopeOfCovariance(NamedTuple):
    """The slope of a distance, as a product that is still to be made."""

    flat: Float[Array, "p c"]
    region: Region
    slope: Float32[Array, "c c"]
    row: Float32[Array, " c"]

    def times(self, gradient: Float32[Array, ""]) -> Float[Array, "p c"]:
        """Weighted; rows outside of the own region mean nothing."""
        slopes = self.flat @ (gradient * self.slope).astype(self.flat.dtype)
        whole = slopes + (gradient * self.row).astype(self.flat.dtype)
        return self.region.apply_weights(whole)


class _ByProjection(NamedTuple):
    """A distance before its root is known; with Y, the features on the strong directions.

    The smaller one of both products of Y with its transpose is inverted: the larger is singular.
    """

    flat: Float[Array, "p c"]
    region: Region
    target: WassersteinTarget
    own_mean: Float32[Array, " c"]
    centred: Float32[Array, "p c"]
    projected: Float32[Array, "p r"]
    matrix: Float32[Array, "p r"]
    inner: Float32[Array, "n n"]

    @classmethod
    def of(cls, flat: Any, region: Region, target: WassersteinTarget) -> "_ByProjection":
        shares, own_mean = region.root_weights()[:, None], _mean(flat, region)
        centred = shares * (flat - own_mean)
        projected = product(centred, target.basis)
        matrix = projected * target.deviations / jnp.sqrt(region.positions)
        few = _has_few_rows(matrix)
        inner = product(matrix, matrix.T) if few else product(matrix.T, matrix)
        return cls(flat, region, target, own_mean, centred, projected, matrix, inner)

    def answer(self, inverse: Float32[Array, "n n"]) -> tuple[Float32[Array, ""], "_Slope"]:
        """The distance and its slope, by the inverse root of `inner`."""
        target, (channels, positions) = self.target, (self.flat.shape[-1], self.region.positions)
        few = _has_few_rows(self.matrix)
        # Y with all of its singular values made 1, and their sum.
        polar = product(inverse, self.matrix) if few else product(self.matrix, inverse)
        common = jnp.sum(inverse * self.inner)
        spread = jnp.sum(self.centred**2) / positions
        rest = jnp.maximum(spread - jnp.sum(self.projected**2) / positions, _TINY)
        ratio = jnp.sqrt(target.residual_variance / rest)
        value = _distance(self.own_mean, spread, common + ratio * rest, target)
        strong = jnp.sqrt(positions) * polar * target.deviations - ratio * self.projected
        moved = (1 - ratio) * self.centred - product(strong, target.basis.T)
        shares = self.region.root_weights()[:, None]
        offset = shares**2 * (self.own_mean - target.mean)
        slope = 2 * (shares * moved + offset) / (channels * positions)
        return value, _Slope(slope.astype(self.flat.dtype))


def _has_few_rows(matrix: Float32[Array, "p r"]) -> bool:
    return matrix.shape[0] <= matrix.shape[1]


class _Slope(NamedTuple):
    """The slope of a distance."""

    slope: Float[Array, "p c"]

    def times(self, gradient: Float32[Array, ""]) -> Float[Array, "p c"]:
        """Weighted."""
        return gradient.astype(self.slope.dtype) * self.slope


def _mean(flat: Float[Array, "p c"], region: Region) -> Float32[Array, " c"]:
    return region.apply_weights(flat).astype(jnp.float32).sum(0) / region.positions


def _distance(
    own_mean: Float32[Array, " c"],
    spread: Float32[Array, ""],
    common: Float32[Array, ""],
    target: WassersteinTarget,
) -> Float32[Array, ""]:
    """‖m - μ‖² + tr C + tr Σ - 2 ‖Y‖_*, over the number of channels.

    Args:
        own_mean: m.
        spread: tr C.
        common: ‖Y‖_*, with what the weak directions add to it.
        target: The style's.
    """
    asked = jnp.sum(target.deviations**2) + target.residual_variance
    offset = own_mean - target.mean
    return (jnp.sum(offset**2) + spread + asked - 2 * common) / len(offset)
