"""Gram matrices and distances, of which the terms of the objective are made, for one image.

Axis letters: `h w` space, `c d` channels. Features of a tap are zero outside of the
image's own region, which holds `positions` of them; every mean is over the own region, so
a canvas changes no value. All sums are accumulated in float32, whatever the features are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

from nst_jax.model.region import Region

# jcjohnson's; it keeps a term that is at its target from dividing by nothing.
_SMALLEST_NORM = 1e-8


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
    flat, weighted = (_flat(each) for each in (features, region.apply_weights(features)))
    products = jnp.einsum("pc,pd->cd", weighted, flat, preferred_element_type=jnp.float32)
    return products / region.positions


def _gram_forward(features, region):
    return gram_matrix(features, region), (features, region)


def _gram_backward(residuals, gradient):
    """F (Ḡ + Ḡᵀ) / positions, weighted: one product where plain autodiff makes two."""
    features, region = residuals
    both = ((gradient + gradient.T) / region.positions).astype(features.dtype)
    return region.apply_weights((_flat(features) @ both).reshape(features.shape)), None


gram_matrix.defvjp(_gram_forward, _gram_backward)


def squared_distance(value: Float[Array, "..."], target: Float[Array, "..."]) -> Float32[Array, ""]:
    """‖value - target‖², of two feature maps or two statistics of one shape."""
    return jnp.sum((value.astype(jnp.float32) - target.astype(jnp.float32)) ** 2)


@jax.custom_vjp
def normalize_gradient(
    features: Float[Array, "h w c"], mask: Bool[Array, "h w 1"], norm: Float32[Array, ""]
) -> Float[Array, "h w c"]:
    """The features themselves; on the way back their gradient has an L1 norm of `norm`.

    jcjohnson/neural-style's -normalize_gradients, which weighs terms by what they do and not
    by what they are worth. Only the image's own region counts.

    Args:
        features: Of one tap, as one term sees them.
        mask: The image's own region.
        norm: The term's weight, which the gradient that comes back has as a factor.
    """
    del mask, norm
    return features


def _normalize_gradient_forward(features, mask, norm):
    return features, (mask, norm)


def _normalize_gradient_backward(residuals, gradient):
    mask, norm = residuals
    own = jnp.where(mask, gradient, 0).astype(jnp.float32)
    own_norm = jnp.sum(jnp.abs(own)) + norm * _SMALLEST_NORM
    scaled = own * jnp.where(own_norm > 0, norm / own_norm, 0)
    return scaled.astype(gradient.dtype), None, None


normalize_gradient.defvjp(_normalize_gradient_forward, _normalize_gradient_backward)


def _flat(features: Float[Array, "h w c"]) -> Float[Array, "p c"]:
    return features.reshape(-1, features.shape[-1])
