"""LPIPS: how different two pictures look, by what a network makes of them.

    Σ_tap mean over positions of Σ_channel head · (x̂ - ŷ)²        (Zhang et al. 2018)

x̂ and ŷ are features whose vector at each position has length 1; the heads were learned
from people's answers.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from nst_jax.model.vgg import VGG

TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
_TINY = 1e-10


def lpips(
    one: Float[Array, "h w 3"],
    other: Float[Array, "h w 3"],
    network: VGG,
    heads: Sequence[Float32[Array, "..."]],
) -> Float32[Array, ""]:
    """The distance of two pictures; 0: the same, 1: nothing in common.

    Args:
        one: float32 RGB in [0, 1].
        other: Of the same size.
        network: An ImageNet VGG-16 to relu5_3, its first convolution padded with zeros.
        heads: (c,) each: a weight for each channel of each of `TAPS`.
    """
    size = jnp.asarray(one.shape[:2])
    first, second = (network(image, size, TAPS) for image in (one, other))
    distance = jnp.float32(0)
    for tap, head in zip(TAPS, heads, strict=True):
        squares = (_unit(first[tap]) - _unit(second[tap])) ** 2
        distance += (squares @ head).mean()
    return distance


def _unit(features: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    return features / (jnp.sqrt(jnp.sum(features**2, axis=-1, keepdims=True)) + _TINY)
