"""How near a finished picture is to its content and its style, by several measures.

The measures are the field's: the relative distances that the Gram objective sums up, the
Wasserstein distances and the whole objective of crowsonkb/style-transfer-pytorch at its
default weights, LPIPS to the content, and the distance of colours. Matrix roots are taken in
float64 by eigendecomposition. The first convolution sees the border repeated, as in that
program, except for LPIPS, which was made with zeros.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nst_jax.engine.plan.canvas import fit_long_edge, size_text
from nst_jax.files.images import composite, load_picture, resize
from nst_jax.model.lpips import lpips
from nst_jax.model.vgg import VGG
from nst_jax.request.errors import PictureError
from nst_jax.request.taps import smallest_side
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights
from nst_jax.weights.lpips_heads import read_heads
from nst_jax.weights.network import NetworkWeights

Image = npt.NDArray[np.float32]

CONTENT_TAP = "relu4_2"
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_CROWSONKB_TAP_WEIGHTS = np.array([256, 64, 16, 4, 1]) / 341
_CROWSONKB_CONTENT_WEIGHT = 0.015
_CROWSONKB_TV_WEIGHT = 2.0
_RIDGE = 1e-4
"""On the diagonal of every covariance, as in that program."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Distances of a picture; 0 is the best of each.

    Attributes:
        content: ‖F - P‖² / ‖P‖² at relu4_2.
        content_mse: Mean squared difference there.
        gram: By style tap, ‖G - A‖² / ‖A‖².
        wasserstein: By style tap, W² over the number of channels.
        crowsonkb: That program's objective at its default weights.
        lpips: To the content.
        colors_to_style: W² of the pixels' RGB, in units of the full range.
        colors_to_content: Likewise.
    """

    content: float
    content_mse: float
    gram: dict[str, float]
    wasserstein: dict[str, float]
    crowsonkb: float
    lpips: float
    colors_to_style: float
    colors_to_content: float


def score(content: Path, style: Path, output: Path, *, size: int | None = None) -> Scores:
    """Scores a picture, with the ImageNet VGG-16.

    Args:
        content: Is scaled to the output's size.
        style: Is scaled to the output's long edge.
        output: The picture that is asked about.
        size: Long edge in pixels at which all are compared; None: the output's own.

    Raises:
        PictureError: One can't be read, or they don't fit together.
        WeightsError: The network is missing.
    """
    opened = (composite(load_picture(path), "white") for path in (content, style, output))
    shown, asked, made = opened
    return compare(*_resize_together(shown, asked, made, size))


def compare(content: Image, style: Image, output: Image) -> Scores:
    """Scores pictures that have their sizes; content and output have the same."""
    weights = read_weights(find_weights("vgg16"))
    network = _network(weights, deepest=STYLE_TAPS[-1], padding="replicate")
    wanted, asked, own = (_features(network, image) for image in (content, style, output))
    gram = {tap: _relative(_gram(own[tap]), _gram(asked[tap])) for tap in STYLE_TAPS}
    transport = {tap: wasserstein(own[tap], asked[tap]) for tap in STYLE_TAPS}
    content_mse = float(((own[CONTENT_TAP] - wanted[CONTENT_TAP]) ** 2).mean())
    styles = np.array([transport[tap] for tap in STYLE_TAPS])
    return Scores(
        content=_relative(own[CONTENT_TAP], wanted[CONTENT_TAP]),
        content_mse=content_mse,
        gram=gram,
        wasserstein=transport,
        crowsonkb=float(
            _CROWSONKB_CONTENT_WEIGHT * content_mse
            + _CROWSONKB_TAP_WEIGHTS @ styles
            + _CROWSONKB_TV_WEIGHT * nine_point_variation(output)
        ),
        lpips=_lpips(weights, output, content),
        colors_to_style=wasserstein(output, style, ridge=0.0) * 3,
        colors_to_content=wasserstein(output, content, ridge=0.0) * 3,
    )


def wasserstein(one: Any, other: Any, *, ridge: float = _RIDGE) -> float:
    """W² of two sets of features (h, w, c) as Gaussians, over the number of channels."""
    (mean, covariance), (target_mean, target) = (_gaussian(each, ridge) for each in (one, other))
    values, vectors = np.linalg.eigh(target)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance @ root), 0)).sum()
    spread = np.trace(covariance) + np.trace(target) - 2 * inner
    return float(((mean - target_mean) ** 2).sum() + spread) / len(mean)


def nine_point_variation(image: Any) -> float:
    """Mean squared differences to the eight neighbours, the border repeated.

    Beside and below count a third each, the diagonals a twelfth, and the sum twice.
    """
    wide = np.pad(np.float64(image), ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = ((wide[1:-1, 1:] - wide[1:-1, :-1])[:, 1:] ** 2).mean()
    down = ((wide[1:, 1:-1] - wide[:-1, 1:-1])[1:] ** 2).mean()
    falling = ((wide[1:, 1:] - wide[:-1, :-1]) ** 2).mean()
    rising = ((wide[1:, :-1] - wide[:-1, 1:]) ** 2).mean()
    return float(2 * ((across + down) / 3 + (falling + rising) / 12))


def _resize_together(
    content: Image, style: Image, output: Image, size: int | None
) -> tuple[Image, Image, Image]:
    """All three at the sizes at which they are compared."""
    height, width = output.shape[:2]
    edge = size or max(height, width)
    height, width = own = fit_long_edge((height, width), edge)
    expected = fit_long_edge(content.shape[:2], edge)
    if max(abs(height - expected[0]), abs(width - expected[1])) > 1:
        raise PictureError(
            f"content and output must have one aspect ratio, got {size_text(expected)} and "
            f"{size_text(own)} at a long edge of {edge} px",
            "Score an output against the content that it was made from",
        )
    smallest = smallest_side(("relu5_3",))
    asked = fit_long_edge(style.shape[:2], edge)
    if min(*own, *asked) < smallest:
        raise PictureError(
            f"pictures must be at least {smallest} px on both sides, got {size_text(own)} and a "
            f"style of {size_text(asked)}",
            "Raise --size",
        )
    return resize(content, own), resize(style, asked), resize(output, own)


def _network(weights: NetworkWeights, *, deepest: str, padding: Any) -> VGG:
    return VGG(
        weights.architecture, weights.convolutions, weights.mean, deepest=deepest, padding=padding
    )


def _features(network: VGG, image: Image) -> dict[str, npt.NDArray[np.float64]]:
    size = jnp.asarray(image.shape[:2])
    features = _at_taps(jnp.asarray(image), network, size)
    return {tap: np.asarray(value, np.float64) for tap, value in features.items()}


@jax.jit
def _at_taps(image: jax.Array, network: VGG, size: jax.Array) -> dict[str, jax.Array]:
    return network(image, size, (*STYLE_TAPS, CONTENT_TAP))


def _lpips(weights: NetworkWeights, one: Image, other: Image) -> float:
    network = _network(weights, deepest="relu5_3", padding="zero")
    heads = [jnp.asarray(head) for head in read_heads()]
    return float(jax.jit(lpips)(jnp.asarray(one), jnp.asarray(other), network, heads))


def _gaussian(features: Any, ridge: float) -> tuple[npt.NDArray[np.float64], Any]:
    flat = np.float64(features).reshape(-1, features.shape[-1])
    mean = flat.mean(0)
    centred = flat - mean
    return mean, centred.T @ centred / len(flat) + ridge * np.eye(len(mean))


def _gram(features: Any) -> npt.NDArray[np.float64]:
    flat = features.reshape(-1, features.shape[-1])
    return flat.T @ flat / len(flat)


def _relative(value: Any, target: Any) -> float:
    return float(((value - target) ** 2).sum() / (target**2).sum())
