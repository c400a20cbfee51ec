"""Styles compared as Gaussians: the squared Wasserstein-2 distance of means and covariances.

    W² = ‖m - μ‖² + tr C + tr Σ - 2 tr (Σ^½ C Σ^½)^½

m and C are mean and covariance of an image's features at a tap, μ and Σ those of the style
(as in crowsonkb/style-transfer-pytorch; Heitz et al. 2021 for the idea). Unlike the Gram
matrix it knows the mean apart from the spread, and a step against it moves the features
along the straightest way to the style's.

The gradient has a closed form, so nothing is differentiated through the matrix root:

    dW²/dC = 1 - Σ^½ (Σ^½ C Σ^½)^-½ Σ^½

One coupled Newton-Schulz iteration gives the root and its inverse together. It stops early,
which leaves out the smallest eigenvalues: float32 does not know them anyway.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from nst_jax.model.region import Region

RIDGE = 1e-4
"""Added to the diagonal of every covariance, so that flat pictures have a gradient."""

ITERATIONS = 12
"""Of Newton and Schulz. `tests/test_wasserstein.py` bounds what is left."""

SUBSET = 128
"""Channels that a step against a `SubsetTarget` looks at."""


class WassersteinTarget(NamedTuple):
    """Compares all channels of a tap.

    Attributes:
        mean: μ.
        covariance: Σ, the ridge included.
        root: Σ^½.
    """

    mean: Float32[Array, "... c"]
    covariance: Float32[Array, "... c c"]
    root: Float32[Array, "... c c"]

    @classmethod
    def of(cls, mean: Any, second: Any) -> "WassersteinTarget":
        """The target of a style with these moments, on the host and in float64."""
        covariance = _covariance_on_host(mean, second)
        values, vectors = np.linalg.eigh(covariance)
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        return cls(*map(_float32, (mean, covariance, root)))

    def distance(
        self,
        features: Float[Array, "h w c"],
        region: Region,
        key: PRNGKeyArray,
    ) -> Float32[Array, ""]:
        """W² over the number of channels; see `model.style.StyleTarget`."""
        del key
        return _distance(*_flat(features, region), self.mean, self.covariance, self.root)


class SubsetTarget(NamedTuple):
    """Compares a few random channels of a tap, others at each step.

    Most of the cost of the whole comparison is in products of square matrices of all
    channels; those of 128 of 512 cost a sixtieth, and over the steps all pairs meet.

    Attributes:
        mean: μ.
        covariance: Σ, the ridge included.
    """

    mean: Float32[Array, "... c"]
    covariance: Float32[Array, "... c c"]

    @classmethod
    def of(cls, mean: Any, second: Any) -> "SubsetTarget":
        """The target of a style with these moments, on the host and in float64."""
        return cls(_float32(mean), _float32(_covariance_on_host(mean, second)))

    def distance(
        self,
        features: Float[Array, "h w c"],
        region: Region,
        key: PRNGKeyArray,
    ) -> Float32[Array, ""]:
        """W² of the subset over its number of channels; see `model.style.StyleTarget`."""
        flat, rows = _flat(features, region)
        mean, covariance = self.mean, self.covariance
        if flat.shape[-1] > SUBSET:
            order = jax.random.permutation(key, flat.shape[-1])
            chosen, places = order[:SUBSET], jnp.argsort(order)
            flat = _selected(flat, chosen, places)
            mean, covariance = mean[chosen], covariance[chosen][:, chosen]
        return _distance(flat, rows, mean, covariance, None)


def _flat(features: Float[Array, "h w c"], region: Region) -> tuple[Float[Array, "p c"], Region]:
    """Features and the weights of their positions, one row a position."""
    weights = None if region.weights is None else region.weights.ravel()
    return features.reshape(-1, features.shape[-1]), region._replace(weights=weights)


@jax.custom_vjp
def _distance(
    flat: Float[Array, "p c"],
    rows: Region,
    mean: Float32[Array, " c"],
    covariance: Float32[Array, "c c"],
    root: Float32[Array, "c c"] | None,
) -> Float32[Array, ""]:
    """W² of features to a target, over the number of channels.

    Args:
        flat: Features, one row a position; zero rows outside of the image's own region.
        rows: Those that count.
        mean: μ.
        covariance: Σ.
        root: Σ^½; without it the product C Σ is iterated, which has the same eigenvalues as
            Σ^½ C Σ^½ but is not symmetric and rounds a little worse.
    """
    return _distance_forward(flat, rows, mean, covariance, root)[0]


def _distance_forward(flat, rows, mean, covariance, root):
    channels, positions = flat.shape[-1], rows.positions
    weighted = rows.weighted(flat)
    own_mean = weighted.astype(jnp.float32).sum(0) / positions
    products = jnp.einsum("pc,pd->cd", weighted, flat, preferred_element_type=jnp.float32)
    second = products / positions
    own = second - jnp.outer(own_mean, own_mean) + RIDGE * jnp.eye(channels)
    if root is None:
        inner, inverse = _root_and_inverse(_product(own, covariance))
        transport = _product(covariance, inverse)
    else:
        inner, inverse = _root_and_inverse(_product(_product(root, own), root))
        transport = _product(_product(root, inverse), root)
    offset = own_mean - mean
    spread = jnp.trace(own) + jnp.trace(covariance) - 2 * jnp.trace(inner)
    # Both halves of the slope with respect to the features, F (G + Gᵀ) and a row for each.
    by_feature = (2 * jnp.eye(channels) - transport - transport.T) / (channels * positions)
    by_position = 2 * offset / (channels * positions) - own_mean @ by_feature
    value = (jnp.sum(offset**2) + spread) / channels
    return value, (flat, rows, by_feature, by_position)


def _distance_backward(residuals, gradient):
    """F (G + Gᵀ) and a constant row, weighted; rows outside of the own region mean nothing."""
    flat, rows, by_feature, by_position = residuals
    slope = flat @ (gradient * by_feature).astype(flat.dtype)
    slope += (gradient * by_position).astype(flat.dtype)
    return rows.weighted(slope), None, None, None, None


_distance.defvjp(_distance_forward, _distance_backward)


@jax.custom_vjp
def _selected(
    flat: Float[Array, "p c"], chosen: Int[Array, " k"], places: Int[Array, " c"]
) -> Float[Array, "p k"]:
    """Some columns. The way back reads as well, where plain autodiff would scatter.

    Args:
        flat: All columns.
        chosen: Numbers of those wanted.
        places: For each column its place among those wanted; k or more: it is not.
    """
    del places
    return flat[:, chosen]


def _selected_forward(flat, chosen, places):
    return flat[:, chosen], places


def _selected_backward(places, gradient):
    count = gradient.shape[-1]
    spread = gradient[:, jnp.minimum(places, count - 1)]
    return jnp.where(places < count, spread, 0), None, None


_selected.defvjp(_selected_forward, _selected_backward)


def _root_and_inverse(
    matrix: Float32[Array, "c c"],
) -> tuple[Float32[Array, "c c"], Float32[Array, "c c"]]:
    """A^½ and A^-½ of a matrix with positive eigenvalues, by the coupled iteration

        Y ← Y (3 - Z Y) / 2,   Z ← (3 - Z Y) Z / 2,   from Y = A / ‖A‖ and Z = 1

    (Higham 2008, 6.35), whose small eigenvalues rise from step to step and arrive late.
    """
    identity = jnp.eye(len(matrix))
    norm = jnp.sqrt(jnp.sum(matrix**2))
    root = matrix / norm
    half = 1.5 * identity - 0.5 * root  # the first step, whose Z is 1
    root, inverse = _product(root, half), half
    for _ in range(ITERATIONS - 1):
        half = 1.5 * identity - 0.5 * _product(inverse, root)
        root, inverse = _product(root, half), _product(half, inverse)
    return root * jnp.sqrt(norm), inverse / jnp.sqrt(norm)


def _product(one: Float32[Array, "c c"], other: Float32[Array, "c c"]) -> Float32[Array, "c c"]:
    """In full float32 everywhere: the iteration amplifies what a shorter factor loses."""
    return jnp.matmul(one, other, precision=jax.lax.Precision.HIGHEST)


def _covariance_on_host(mean: Any, second: Any) -> np.ndarray:
    mean, second = np.float64(mean), np.float64(second)
    return second - np.outer(mean, mean) + RIDGE * np.eye(len(mean))


def _float32(values: Any) -> Any:
    return np.asarray(values, np.float32)
