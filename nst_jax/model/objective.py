"""The whole objective of one job, on one screen.

    total = content_weight · Σ_tap content_tap_weight · ‖F - P‖² / ‖P‖²
          + style_weight   · Σ_tap style_tap_weight   · ‖G - A‖² / ‖A‖²
          + tv_weight      · mean squared difference of neighbouring pixels

F are the image's features and G their Gram matrices; P and A are the targets, made once
from the content and the style pictures. Tap weights sum to 1. Written for one image;
`jax.vmap` makes the batch, and the gradient of the sum over jobs keeps jobs apart.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from nst_jax.model import losses
from nst_jax.model.vgg import VGG
from nst_jax.spec.taps import poolings_before


class Targets(NamedTuple):
    """What an image is compared with, by tap: features of the content, Grams of the style."""

    content: Mapping[str, Float[Array, "h w c"]]
    style: Mapping[str, Float32[Array, "c c"]]


class TermWeights(NamedTuple):
    """A job's weights, all traced: a sweep over them is one compilation.

    `content_taps` and `style_taps` have a weight for each tap of the targets; each sums to 1.
    They go by name, because JAX sorts a dictionary by its keys.
    """

    content: Float32[Array, ""]
    style: Float32[Array, ""]
    tv: Float32[Array, ""]
    content_taps: Mapping[str, Float32[Array, ""]]
    style_taps: Mapping[str, Float32[Array, ""]]


class Terms(NamedTuple):
    """The objective and its unweighted parts at one image."""

    total: Float32[Array, ""]
    content: Float32[Array, ""]
    style: Float32[Array, ""]
    tv: Float32[Array, ""]


def objective(
    image: Float[Array, "h w 3"],
    network: VGG,
    size: Int[Array, "2"],
    targets: Targets,
    weights: TermWeights,
) -> tuple[Float32[Array, ""], Terms]:
    """How far one image is from its content and its style; the first value is the total.

    Args:
        image: float32 RGB in [0, 1], in the top left corner of its canvas.
        network: A VGG that reaches every tap of the targets.
        size: Height and width of the image on the canvas.
        targets: Made from pictures of the same size (content) and of any size (style).
        weights: The job's own.
    """
    taps = tuple(dict.fromkeys((*targets.content, *targets.style)))
    features = network(image, size, taps)
    content, style = jnp.float32(0), jnp.float32(0)
    for tap, target in targets.content.items():
        content += weights.content_taps[tap] * losses.content_loss(features[tap], target)
    for tap, target in targets.style.items():
        gram = losses.gram_matrix(features[tap], positions(size, tap))
        style += weights.style_taps[tap] * losses.gram_loss(gram, target)
    tv = losses.total_variation(image, size)
    total = weights.content * content + weights.style * style + weights.tv * tv
    return total, Terms(total, content, style, tv)


def content_features(
    image: Float[Array, "h w 3"], network: VGG, size: Int[Array, "2"], taps: tuple[str, ...]
) -> dict[str, Float[Array, "..."]]:
    """The content's side of the targets."""
    return network(image, size, taps)


def style_grams(
    image: Float[Array, "h w 3"], network: VGG, size: Int[Array, "2"], taps: tuple[str, ...]
) -> dict[str, Float32[Array, "..."]]:
    """The style's side of the targets, for one of a job's style pictures."""
    features = network(image, size, taps)
    return {tap: losses.gram_matrix(features[tap], positions(size, tap)) for tap in taps}


def positions(size: Int[Array, "2"], tap: str) -> Float32[Array, ""]:
    """How many positions of a tap's features lie in the image's own region."""
    own = size // 2 ** poolings_before(tap)
    return (own[0] * own[1]).astype(jnp.float32)
