"""What images are compared with, made of pictures: contents' features, styles' moments.

The targets of a job are made once, before its first step. Nothing here needs the host.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from nst_jax.model.content import ContentTarget
from nst_jax.model.objective import own_region
from nst_jax.model.region import region_from_weights
from nst_jax.model.style import (
    GramTarget,
    Moments,
    MomentsTarget,
    StyleTarget,
    compute_moments,
)
from nst_jax.model.vgg import VGG
from nst_jax.model.wasserstein import WassersteinTarget
from nst_jax.request.options import StyleLoss

Taps = tuple[str, ...]


def content_targets(
    image: Float[Array, "h w 3"],
    network: VGG,
    size: Int[Array, "2"],
    taps: Taps,
    normalized: str = "relative",
) -> dict[str, ContentTarget]:
    """What a content asks, by tap.

    Args:
        image: float32 RGB in [0, 1], in the top left corner of its canvas.
        network: A VGG that reaches every tap.
        size: Height and width of the image on the canvas.
        taps: Where; static.
        normalized: A name in `model.normalization`; static.
    """
    features = network(image, size, taps, use_winograd=False)

    def target(tap: str) -> ContentTarget:
        positions = own_region(size, tap, features[tap]).positions
        return ContentTarget.from_features(features[tap], positions, normalized)

    return {tap: target(tap) for tap in taps}


def style_moments(
    image: Float[Array, "h w 3"],
    network: VGG,
    size: Int[Array, "2"],
    taps: Taps,
    weights: Mapping[str, Float32[Array, "..."]] | None = None,
) -> dict[str, Moments]:
    """What the style's side of the targets is made of, for one of a job's style pictures.

    Args:
        image: As `content_targets` takes it.
        network: Likewise.
        size: Likewise.
        taps: Where; static.
        weights: By tap, of each position; None: the whole picture counts.
    """
    features = network(image, size, taps, use_winograd=False)
    return {
        tap: compute_moments(
            features[tap],
            region_from_weights(weights[tap]) if weights else own_region(size, tap, features[tap]),
        )
        for tap in taps
    }


def style_targets(
    moments: Sequence[Mapping[str, Moments]],
    blend: Float32[Array, " styles"],
    kind: StyleLoss,
    normalized: str = "relative",
) -> dict[str, StyleTarget]:
    """What several styles ask together, by tap: as if they were one picture.

    Args:
        moments: Of each style, by tap.
        blend: Weights of the styles, which sum to 1. Both moments are means over positions, so
            their averages are the moments of all positions together.
        kind: How styles are compared; static.
        normalized: A name in `model.normalization`; static.
    """

    def average(*arrays: Array) -> Array:
        return jnp.tensordot(blend, jnp.stack(arrays), 1, precision=jax.lax.Precision.HIGHEST)

    together = jax.tree.map(average, *moments)
    return {tap: make_style_target(kind, normalized, one) for tap, one in together.items()}


def make_style_target(kind: StyleLoss, normalized: str, moments: Moments) -> StyleTarget:
    """What a style with these moments asks where styles are compared in this way."""
    match kind:
        case "gram":
            return GramTarget.from_moments(*moments, normalized)
        case "moments":
            return MomentsTarget.from_moments(*moments, normalized)
        case "wasserstein":
            return WassersteinTarget.from_moments(*moments)
        case "wasserstein_full":
            return WassersteinTarget.from_moments(*moments, rank=len(moments.mean))
