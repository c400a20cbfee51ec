"""The whole objective of one job, on one screen.

    total = content_weight · Σ_tap content_tap_weight · how far F is from the content's target
          + style_weight   · Σ_tap style_tap_weight   · how far F is from the style's target
          + tv_weight      · how much neighbouring pixels differ

F are the image's features; the targets are made once, from the content and the style
pictures (`model/targets.py`). How features compare is their target's own business: for contents
it is ‖F - P‖² / ‖P‖², for styles the Wasserstein-2 distance (`model/wasserstein.py`), or Gram
matrices ‖G - A‖² / ‖A‖², unless another normalisation was asked for. Tap weights sum to 1. Written
for one image; `jax.vmap` makes the batch, and the gradient of the sum over jobs keeps jobs apart.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from nst_jax.model import losses
from nst_jax.model.content import ContentTarget
from nst_jax.model.layers import region_mask
from nst_jax.model.region import Region
from nst_jax.model.style import Comparison, StyleTarget, sum_distances
from nst_jax.model.variation import SquaredVariation, Variation
from nst_jax.model.vgg import VGG
from nst_jax.request.taps import poolings_before


class Targets(NamedTuple):
    """What an image is compared with, by tap, and how its smoothness is measured."""

    content: Mapping[str, ContentTarget]
    style: Mapping[str, StyleTarget]
    variation: Variation = SquaredVariation()


class GradientNorms(NamedTuple):
    """L1 norms that the terms' gradients get at their taps; see `losses.normalize_gradient`."""

    content: Mapping[str, Float32[Array, ""]]
    style: Mapping[str, Float32[Array, ""]]


class TermWeights(NamedTuple):
    """A job's weights, all traced: a sweep over them is one compilation.

    `content_taps` and `style_taps` have a weight for each tap of the targets; each sums to 1.
    They go by name, because JAX sorts a dictionary by its keys.

    Where there are `gradient_norms`, a term's gradient has that norm instead of its own; whether
    there are is part of a program's structure.
    """

    content: Float32[Array, ""]
    style: Float32[Array, ""]
    tv: Float32[Array, ""]
    content_taps: Mapping[str, Float32[Array, ""]]
    style_taps: Mapping[str, Float32[Array, ""]]
    gradient_norms: GradientNorms | None = None


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
    content_seen, style_seen = _normalize_gradients(features, size, weights.gradient_norms)
    content = jnp.float32(0)
    for tap, target in targets.content.items():
        content += weights.content_taps[tap] * target.distance(content_seen[tap])
    asked = {
        tap: Comparison(target, seen := style_seen[tap], own_region(size, tap, seen))
        for tap, target in targets.style.items()
    }
    style = sum_distances((weights.style_taps[tap], one) for tap, one in asked.items())
    tv = targets.variation.of(image, size)
    total = weights.content * content + weights.style * style + weights.tv * tv
    return total, Terms(total, content, style, tv)


def _normalize_gradients(
    features: Mapping[str, Float[Array, "..."]],
    size: Int[Array, "2"],
    norms: GradientNorms | None,
) -> tuple[Mapping[str, Float[Array, "..."]], Mapping[str, Float[Array, "..."]]]:
    """The features by tap for the content and for the style, with what becomes of gradients."""
    if norms is None:
        return features, features

    def normalize(tap: str, strength: Float32[Array, ""]) -> Float[Array, "..."]:
        height, width, _ = features[tap].shape
        mask = region_mask(size // 2 ** poolings_before(tap), (height, width))
        return losses.normalize_gradient(features[tap], mask, strength)

    content, style = ({tap: normalize(tap, one) for tap, one in side.items()} for side in norms)
    return content, style


def own_region(size: Int[Array, "2"], tap: str, features: Float[Array, "h w c"]) -> Region:
    """All positions of a tap's features that lie in the image."""
    own = size // 2 ** poolings_before(tap)
    inside = region_mask(own, (features.shape[0], features.shape[1]))[..., 0]
    return Region((own[0] * own[1]).astype(jnp.float32), inside=inside)
