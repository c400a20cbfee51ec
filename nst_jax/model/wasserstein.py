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
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from nst_jax.model.inverse_root import inverse_root, product
from nst_jax.model.region import Region


class WassersteinTarget(NamedTuple):
    """Compares means and covariances.

    Attributes:
        mean: μ.
        root: Σ^½.
    """

    mean: Float32[Array, "... c"]
    root: Float32[Array, "... c c"]

    @classmethod
    def of(cls, mean: Any, second: Any) -> "WassersteinTarget":
        """The target of a style with these moments, on the host and in float64."""
        mean, second = np.float64(mean), np.float64(second)
        values, vectors = np.linalg.eigh(second - np.outer(mean, mean))
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        return cls(np.float32(mean), np.float32(root))

    def distance(
        self,
        features: Float[Array, "h w c"],
        region: Region,
        key: PRNGKeyArray,
    ) -> Float32[Array, ""]:
        """W² over the number of channels; see `model.style.StyleTarget`."""
        del key
        flat = features.reshape(-1, features.shape[-1])
        positions, channels = flat.shape
        distance = _by_positions if positions < channels else _by_channels
        return distance(flat, region.flat(), self.mean, self.root)


@jax.custom_vjp
def _by_channels(
    flat: Float[Array, "p c"],
    region: Region,
    mean: Float32[Array, " c"],
    root: Float32[Array, "c c"],
) -> Float32[Array, ""]:
    """W² over the number of channels, by the covariance.

    Args:
        flat: Features, one row a position; zero rows outside of the image's own region.
        region: Which rows count.
        mean: μ.
        root: Σ^½.
    """
    return _by_channels_forward(flat, region, mean, root)[0]


def _by_channels_forward(flat, region, mean, root):
    channels, positions = flat.shape[-1], region.positions
    weighted = region.weighted(flat)
    own_mean = weighted.astype(jnp.float32).sum(0) / positions
    products = jnp.einsum("pc,pd->cd", weighted, flat, preferred_element_type=jnp.float32)
    own = products / positions - jnp.outer(own_mean, own_mean)
    inner = product(product(root, own), root)
    inverse = inverse_root(inner)
    value = _distance(own_mean - mean, jnp.trace(own), root, inverse, inner)
    transport = product(product(root, inverse), root)
    # Both halves of the slope with respect to the features, F (G + Gᵀ) and a row for each.
    by_feature = (2 * jnp.eye(channels) - transport - transport.T) / (channels * positions)
    by_position = 2 * (own_mean - mean) / (channels * positions) - own_mean @ by_feature
    return value, (flat, region, by_feature, by_position)


def _by_channels_backward(residuals, gradient):
    """F (G + Gᵀ) and a constant row, weighted; rows outside of the own region mean nothing."""
    flat, region, by_feature, by_position = residuals
    slope = flat @ (gradient * by_feature).astype(flat.dtype)
    slope += (gradient * by_position).astype(flat.dtype)
    return region.weighted(slope), None, None, None


_by_channels.defvjp(_by_channels_forward, _by_channels_backward)


@jax.custom_vjp
def _by_positions(
    flat: Float[Array, "p c"],
    region: Region,
    mean: Float32[Array, " c"],
    root: Float32[Array, "c c"],
) -> Float32[Array, ""]:
    """The same by the scalar products of positions; see `_by_channels`."""
    return _by_positions_forward(flat, region, mean, root)[0]


def _by_positions_forward(flat, region, mean, root):
    channels, positions = flat.shape[-1], region.positions
    weights = region.weight_of_each()[:, None]
    shares = jnp.sqrt(weights)  # a product of two rows has both weights' roots
    own_mean = (weights * flat).sum(0) / positions
    centred = shares * (flat - own_mean)
    projected = product(centred, root) / jnp.sqrt(positions)
    inner = product(projected, projected.T)
    inverse = inverse_root(inner)
    value = _distance(own_mean - mean, jnp.sum(centred**2) / positions, root, inverse, inner)
    pull = product(product(inverse, projected), root) * jnp.sqrt(positions)
    slope = 2 * (shares * (centred - pull) + weights * (own_mean - mean)) / (channels * positions)
    return value, slope.astype(flat.dtype)


def _by_positions_backward(slope, gradient):
    return gradient.astype(slope.dtype) * slope, None, None, None


_by_positions.defvjp(_by_positions_forward, _by_positions_backward)


def _distance(
    offset: Float32[Array, " c"],
    spread: Float32[Array, ""],
    root: Float32[Array, "c c"],
    inverse: Float32[Array, "n n"],
    inner: Float32[Array, "n n"],
) -> Float32[Array, ""]:
    """‖m - μ‖² + tr C + tr Σ - 2 ‖Y‖_*, over the number of channels.

    Args:
        offset: m - μ.
        spread: tr C.
        root: Σ^½.
        inverse: Of `inner`, to the power of -½.
        inner: YᵀY or Y Yᵀ, whose root's trace is ‖Y‖_*.
    """
    common = jnp.sum(inverse * inner)
    return (jnp.sum(offset**2) + spread + jnp.sum(root**2) - 2 * common) / len(offset)
