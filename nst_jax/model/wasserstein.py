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
        flat = features.reshape(-1, features.shape[-1])
        channels, rank = self.basis.shape[-2:]
        by_covariance = rank == channels < len(flat)  # no rows of Y: half of the operations
        return (_by_covariance if by_covariance else _by_projection)(flat, region.flatten(), self)


@jax.custom_vjp
def _by_covariance(
    flat: Float[Array, "p c"], region: Region, target: WassersteinTarget
) -> Float32[Array, ""]:
    """W² over the number of channels, where all directions are strong.

    Args:
        flat: Features, one row a position; zero rows outside of the image's own region.
        region: Which rows count.
        target: The style's.
    """
    return _by_covariance_forward(flat, region, target)[0]


def _by_covariance_forward(flat, region, target):
    positions, shares = region.positions, region.root_weights()[:, None]
    own_mean = _mean(flat, region)
    # Centred first: the difference of two moments of a flat picture may be negative.
    centred = (shares * (flat - own_mean)).astype(flat.dtype)
    products = jnp.einsum("pc,pd->cd", centred, centred, preferred_element_type=jnp.float32)
    own = products / positions
    factor = target.basis * target.deviations
    inner = product(factor.T, product(own, factor))
    inverse = inverse_root(inner)
    value = _distance(own_mean, jnp.trace(own), jnp.sum(inverse * inner), target)
    trace_gradient = product(factor, product(inverse, factor.T))
    # Both halves of the slope with respect to the features: 2 F G, and a row for each.
    slope = 2 * (jnp.eye(len(trace_gradient)) - trace_gradient) / (len(trace_gradient) * positions)
    row = 2 * (own_mean - target.mean) / (len(trace_gradient) * positions) - own_mean @ slope
    return value, (flat, region, slope, row)


def _by_covariance_backward(residuals, gradient):
    """Weighted; rows outside of the own region mean nothing."""
    flat, region, slope, row = residuals
    slopes = flat @ (gradient * slope).astype(flat.dtype)
    return region.apply_weights(slopes + (gradient * row).astype(flat.dtype)), None, None


_by_covariance.defvjp(_by_covariance_forward, _by_covariance_backward)


@jax.custom_vjp
def _by_projection(
    flat: Float[Array, "p c"], region: Region, target: WassersteinTarget
) -> Float32[Array, ""]:
    """The same by the features' projections on the strong directions."""
    return _by_projection_forward(flat, region, target)[0]


def _by_projection_forward(flat, region, target):
    channels, positions, shares = flat.shape[-1], region.positions, region.root_weights()[:, None]
    own_mean = _mean(flat, region)
    centred = shares * (flat - own_mean)
    projected = product(centred, target.basis)
    common, polar = _polar(projected * target.deviations / jnp.sqrt(positions))
    spread = jnp.sum(centred**2) / positions
    rest = jnp.maximum(spread - jnp.sum(projected**2) / positions, _TINY)
    ratio = jnp.sqrt(target.residual_variance / rest)
    value = _distance(own_mean, spread, common + ratio * rest, target)
    trace_gradient = jnp.sqrt(positions) * polar * target.deviations - ratio * projected
    moved = (1 - ratio) * centred - product(trace_gradient, target.basis.T)
    offset = shares**2 * (own_mean - target.mean)
    slope = 2 * (shares * moved + offset) / (channels * positions)
    return value, slope.astype(flat.dtype)


def _by_projection_backward(slope, gradient):
    return gradient.astype(slope.dtype) * slope, None, None


_by_projection.defvjp(_by_projection_forward, _by_projection_backward)


def _polar(matrix: Float32[Array, "p r"]) -> tuple[Float32[Array, ""], Float32[Array, "p r"]]:
    """The sum of a matrix's singular values, and the matrix with all of them made 1.

    The smaller one of both products with its transpose is inverted: the larger is singular.
    """
    rows, columns = matrix.shape
    if rows <= columns:
        inner = product(matrix, matrix.T)
        inverse = inverse_root(inner)
        polar = product(inverse, matrix)
    else:
        inner = product(matrix.T, matrix)
        inverse = inverse_root(inner)
        polar = product(matrix, inverse)
    return jnp.sum(inverse * inner), polar


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
