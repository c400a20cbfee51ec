"""The terms of the objective for one image, each dimensionless or in units of pixels.

Axis letters: `h w` space, `c d` channels. Features of a tap are zero outside of the
image's own region, which holds `positions` of them; every mean is over the own region, so
a canvas changes no value. All sums are accumulated in float32, whatever the features are.

Content and style are measured *relative* to their targets: 0 is a perfect match and 1 is
as far away as nothing at all. Thus a weight means the same at every size, for every
picture and for every publisher's scaling of the network. (Gatys et al. 2016 divide by
counts of channels and positions instead; their balance depends on all three.)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from nst_jax.model.region import Region

# Keeps a black target (all features zero) from dividing by nothing; far below any real one.
_TINY = 1e-8


@jax.custom_vjp
def gram_matrix(features: Float[Array, "h w c"], region: Region) -> Float32[Array, "c c"]:
    """How strongly each pair of channels fires together, position discarded.

    Averages over the positions instead of summing, so that a texture tiled twice has the
    Gram matrix of a single tile. Symmetric and positive semi-definite.

    Args:
        features: Activations of one tap, zero outside of the image's own region. bfloat16
            is fine: products are accumulated in float32.
        region: The positions that count.
    """
    flat, weighted = (_flat(each) for each in (features, region.weighted(features)))
    products = jnp.einsum("pc,pd->cd", weighted, flat, preferred_element_type=jnp.float32)
    return products / region.positions


def _gram_forward(features, region):
    return gram_matrix(features, region), (features, region)


def _gram_backward(residuals, gradient):
    """F (Ḡ + Ḡᵀ) / positions, weighted: one product where plain autodiff makes two."""
    features, region = residuals
    both = ((gradient + gradient.T) / region.positions).astype(features.dtype)
    return region.weighted((_flat(features) @ both).reshape(features.shape)), None


gram_matrix.defvjp(_gram_forward, _gram_backward)


def content_loss(
    features: Float[Array, "h w c"], target: Float[Array, "h w c"]
) -> Float32[Array, ""]:
    """Squared distance of two feature maps over the target's squared norm: ‖F - P‖² / ‖P‖²."""
    return _relative_squared_distance(features, target)


def gram_loss(gram: Float[Array, "c c"], target: Float[Array, "c c"]) -> Float32[Array, ""]:
    """Squared distance of two Gram matrices over the target's squared norm: ‖G - A‖² / ‖A‖²."""
    return _relative_squared_distance(gram, target)


def total_variation(image: Float[Array, "h w 3"], size: Int[Array, "2"]) -> Float32[Array, ""]:
    """Mean squared difference of neighbouring pixels, down plus across.

    The mean is over all pixels and channels of the image's own region; pairs that reach
    over its border don't count. A checkerboard of 0 and 1 has nearly 2, a constant 0.
    """
    rows = jnp.arange(image.shape[0])[:, None, None]
    columns = jnp.arange(image.shape[1])[None, :, None]
    inside = (rows < size[0]) & (columns < size[1])
    down = jnp.where(inside[1:], image[1:] - image[:-1], 0)
    across = jnp.where(inside[:, 1:], image[:, 1:] - image[:, :-1], 0)
    values = (size[0] * size[1] * image.shape[-1]).astype(jnp.float32)
    return (jnp.sum(down**2) + jnp.sum(across**2)) / values


def _flat(features: Float[Array, "h w c"]) -> Float[Array, "p c"]:
    return features.reshape(-1, features.shape[-1])


def _relative_squared_distance(value: Array, target: Array) -> Float32[Array, ""]:
    value, target = value.astype(jnp.float32), target.astype(jnp.float32)
    return jnp.sum((value - target) ** 2) / (jnp.sum(target**2) + _TINY)
