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

The smaller one of YᵀY (channels) and Y Yᵀ (positions) is inverted. Where there are fewer
positions than channels, as in the deep taps of small pictures, that is many times cheaper,
and the singular matrix never appears.

The cost grows with the cube of the channels. So only the `STRONG` directions in which a
style's features vary most are compared as above, all taps up to relu3_1 in full; the weak
rest, some 2 to 8 % of the variance at relu4_1, each by itself, (√c - √s)² for the variances
along it. That is never more than the whole distance, and 0 as well where C is Σ.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from nst_jax.model.inverse_root import inverse_root, product
from nst_jax.model.region import Region

STRONG = 256
"""Directions of a style that are compared together."""

# Variance along a weak direction below which features are taken for constant.
_TINY = 1e-12


class WassersteinTarget(NamedTuple):
    """Compares means and covariances; Σ = L Lᵀ + W diag(s) Wᵀ.

    Attributes:
        mean: μ.
        factor: L, the strong directions times the root of the variance along each.
        weak: W, the weak directions, each of length 1; none where all are strong.
        variances: s, along the weak directions.
    """

    mean: Float32[Array, "... c"]
    factor: Float32[Array, "... c r"]
    weak: Float32[Array, "... c w"]
    variances: Float32[Array, "... w"]

    @classmethod
    def of(cls, mean: Any, second: Any, *, strong: int = STRONG) -> "WassersteinTarget":
        """The target of a style with these moments, on the host and in float64."""
        mean, second = np.float64(mean), np.float64(second)
        variances, directions = np.linalg.eigh(second - np.outer(mean, mean))
        variances = np.maximum(variances, 0)
        rest = max(len(mean) - strong, 0)
        factor = directions[:, rest:] * np.sqrt(variances[rest:])
        return cls(*map(_float32, (mean, factor, directions[:, :rest], variances[:rest])))

    def distance(
        self,
        features: Float[Array, "h w c"],
        region: Region,
        key: PRNGKeyArray,
    ) -> Float32[Array, ""]:
        """W² over the number of channels; see `model.style.StyleTarget`."""
        del key
        flat = features.reshape(-1, features.shape[-1])
        few_positions = len(flat) < self.factor.shape[-1]
        return (_by_positions if few_positions else _by_channels)(flat, region.flat(), self)


@jax.custom_vjp
def _by_channels(
    flat: Float[Array, "p c"], region: Region, target: WassersteinTarget
) -> Float32[Array, ""]:
    """W² over the number of channels, by the covariance.

    Args:
        flat: Features, one row a position; zero rows outside of the image's own region.
        region: Which rows count.
        target: The style's.
    """
    return _by_channels_forward(flat, region, target)[0]


def _by_channels_forward(flat, region, target):
    channels, positions = flat.shape[-1], region.positions
    weighted = region.weighted(flat)
    own_mean = weighted.astype(jnp.float32).sum(0) / positions
    # Centred first: the difference of two moments of a flat picture may be negative.
    centred = (flat - own_mean).astype(flat.dtype)
    shares = (region.weight_of_each()[:, None] * centred).astype(flat.dtype)
    products = jnp.einsum("pc,pd->cd", shares, centred, preferred_element_type=jnp.float32)
    own = products / positions
    factor, weak = target.factor, target.weak
    inner = product(factor.T, product(own, factor))
    inverse = inverse_root(inner)
    along = jnp.sum(weak * product(own, weak), 0)
    common, ratio = _weak(along, target.variances)
    offset = own_mean - target.mean
    value = _distance(offset, jnp.trace(own), jnp.sum(inverse * inner) + common, target)
    pull = product(factor, product(inverse, factor.T)) + product(weak * ratio, weak.T)
    # Both halves of the slope with respect to the features, F (G + Gᵀ) and a row for each.
    by_feature = (2 * jnp.eye(channels) - pull - pull.T) / (channels * positions)
    by_position = 2 * offset / (channels * positions) - own_mean @ by_feature
    return value, (flat, region, by_feature, by_position)


def _by_channels_backward(residuals, gradient):
    """F (G + Gᵀ) and a constant row, weighted; rows outside of the own region mean nothing."""
    flat, region, by_feature, by_position = residuals
    slope = flat @ (gradient * by_feature).astype(flat.dtype)
    slope += (gradient * by_position).astype(flat.dtype)
    return region.weighted(slope), None, None


_by_channels.defvjp(_by_channels_forward, _by_channels_backward)


@jax.custom_vjp
def _by_positions(
    flat: Float[Array, "p c"], region: Region, target: WassersteinTarget
) -> Float32[Array, ""]:
    """The same by the scalar products of positions; see `_by_channels`."""
    return _by_positions_forward(flat, region, target)[0]


def _by_positions_forward(flat, region, target):
    channels, positions = flat.shape[-1], region.positions
    weights = region.weight_of_each()[:, None]
    shares = jnp.sqrt(weights)  # a product of two rows has both weights' roots
    own_mean = (weights * flat).sum(0) / positions
    centred = shares * (flat - own_mean)
    projected = product(centred, target.factor)
    inner = product(projected, projected.T) / positions
    inverse = inverse_root(inner)
    on_weak = product(centred, target.weak)
    common, ratio = _weak(jnp.sum(on_weak**2, 0) / positions, target.variances)
    offset, spread = own_mean - target.mean, jnp.sum(centred**2) / positions
    value = _distance(offset, spread, jnp.sum(inverse * inner) + common, target)
    pull = product(product(inverse, projected), target.factor.T)
    pull += product(on_weak * ratio, target.weak.T)
    slope = 2 * (shares * (centred - pull) + weights * offset) / (channels * positions)
    return value, slope.astype(flat.dtype)


def _by_positions_backward(slope, gradient):
    return gradient.astype(slope.dtype) * slope, None, None


_by_positions.defvjp(_by_positions_forward, _by_positions_backward)


def _weak(
    along: Float32[Array, " w"], variances: Float32[Array, " w"]
) -> tuple[Float32[Array, ""], Float32[Array, " w"]]:
    """Sum of √(c s) over the weak directions, and √(s / c) for each."""
    along = jnp.maximum(along, _TINY)
    return jnp.sum(jnp.sqrt(along * variances)), jnp.sqrt(variances / along)


def _distance(
    offset: Float32[Array, " c"],
    spread: Float32[Array, ""],
    common: Float32[Array, ""],
    target: WassersteinTarget,
) -> Float32[Array, ""]:
    """‖m - μ‖² + tr C + tr Σ - 2 ‖Y‖_*, over the number of channels.

    Args:
        offset: m - μ.
        spread: tr C.
        common: ‖Y‖_*.
        target: The style's.
    """
    asked = jnp.sum(target.factor**2) + jnp.sum(target.variances)
    return (jnp.sum(offset**2) + spread + asked - 2 * common) / len(offset)


def _float32(values: Any) -> Any:
    """As the device has it, still on the host."""
    return np.asarray(values, np.float32)
