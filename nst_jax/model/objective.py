"""The whole objective of one job, on one screen.

    total = content_weight · Σ_tap content_tap_weight · ‖F - P‖² / ‖P‖²
          + style_weight   · Σ_tap style_tap_weight   · how far F is from the style's target
          + tv_weight      · mean squared difference of neighbouring pixels

F are the image's features; P and the style's targets are made once, from the content and
the style pictures. How a style compares is its target's own business: with Gram matrices
it is ‖G - A‖² / ‖A‖². Tap weights sum to 1. Written for one image; `jax.vmap` makes the
batch, and the gradient of the sum over jobs keeps jobs apart.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from nst_jax.model import losses
from nst_jax.model.layers import region_mask
from nst_jax.model.region import Region, weighted_region
from nst_jax.model.style import Moments, StyleTarget, moments
from nst_jax.model.vgg import VGG
from nst_jax.spec.taps import poolings_before


class Targets(NamedTuple):
    """What an image is compared with, by tap: features of the content, what the style asks."""

    content: Mapping[str, Float[Array, "h w c"]]
    style: Mapping[str, StyleTarget]


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
    key: PRNGKeyArray,
) -> tuple[Float32[Array, ""], Terms]:
    """How far one image is from its content and its style; the first value is the total.

    Args:
        image: float32 RGB in [0, 1], in the top left corner of its canvas.
        network: A VGG that reaches every tap of the targets.
        size: Height and width of the image on the canvas.
        targets: Made from pictures of the same size (content) and of any size (style).
        weights: The job's own.
        key: For what is random in the comparison of this step.
    """
    taps = tuple(dict.fromkeys((*targets.content, *targets.style)))
    features = network(image, size, taps)
    content, style = jnp.float32(0), jnp.float32(0)
    for tap, target in targets.content.items():
        content += weights.content_taps[tap] * losses.content_loss(features[tap], target)
    for tap, target in targets.style.items():
        distance = target.distance(features[tap], own_region(size, tap, features[tap]), key)
        style += weights.style_taps[tap] * distance
    tv = losses.total_variation(image, size)
    total = weights.content * content + weights.style * style + weights.tv * tv
    return total, Terms(total, content, style, tv)


def content_features(
    image: Float[Array, "h w 3"], network: VGG, size: Int[Array, "2"], taps: tuple[str, ...]
) -> dict[str, Float[Array, "..."]]:
    """The content's side of the targets."""
    return network(image, size, taps)


def style_moments(
    image: Float[Array, "h w 3"],
    network: VGG,
    size: Int[Array, "2"],
    taps: tuple[str, ...],
    weights: Mapping[str, Float32[Array, "..."]] | None = None,
) -> dict[str, Moments]:
    """What the style's side of the targets is made of, for one of a job's style pictures.

    Args:
        image: As `objective` takes it.
        network: Likewise.
        size: Likewise.
        taps: Where; static.
        weights: By tap, of each position; None: the whole picture counts.
    """
    features = network(image, size, taps)
    return {
        tap: moments(
            features[tap],
            weighted_region(weights[tap]) if weights else own_region(size, tap, features[tap]),
        )
        for tap in taps
    }


def own_region(size: Int[Array, "2"], tap: str, features: Float[Array, "h w c"]) -> Region:
    """All positions of a tap's features that lie in the image."""
    own = size // 2 ** poolings_before(tap)
    inside = region_mask(own, (features.shape[0], features.shape[1]))[..., 0]
    return Region((own[0] * own[1]).astype(jnp.float32), inside=inside)
