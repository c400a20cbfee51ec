"""How near a finished picture is to its content and its style, by the field's measures.

The relative distances that the Gram objective sums up, the Wasserstein distances and the whole
objective of crowsonkb/style-transfer-pytorch at its default weights, LPIPS to the content, and
the distance of colours, all with the ImageNet VGG-16, whatever network made the picture. Matrix
roots are taken in float64 by eigendecomposition. The first convolution sees the border
repeated, as in that program, except for LPIPS, which was made with zeros.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nst_jax.engine.plan.canvas import fit_long_edge, size_text
from nst_jax.files.images import Pixels, composite, load_picture, resize
from nst_jax.files.storage import as_file
from nst_jax.model.losses import gram_matrix
from nst_jax.model.lpips import TAPS as LPIPS_TAPS
from nst_jax.model.lpips import lpips
from nst_jax.model.objective import own_region
from nst_jax.model.vgg import VGG
from nst_jax.request.errors import PictureError
from nst_jax.request.taps import smallest_side
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights
from nst_jax.weights.lpips_heads import read_heads

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
    """Scores a picture; see `load_together`."""
    return compare(*load_together(content, style, output, size=size))


def load_together(
    content: Path, style: Path, output: Path, *, size: int | None = None
) -> tuple[Pixels, Pixels, Pixels]:
    """A picture that is to be scored with what it was made of, at their sizes.

    Args:
        content: Is scaled to the output's size.
        style: Is scaled to the output's long edge.
        output: The picture that is asked about.
        size: Long edge in pixels at which all are compared; None: the output's own.

    Raises:
        PictureError: One can't be read, or they don't fit together.
        WeightsError: The network is missing.
    """
    *inputs, finished = map(as_file, (content, style, output))
    own = composite(load_picture(finished), "white")
    edge = size or max(own.shape[:2])
    wanted, asked = (composite(load_picture(file, edge_px=edge), "white") for file in inputs)
    return _resize_together(wanted, asked, own, size=edge)


def compare(content: Pixels, style: Pixels, output: Pixels) -> Scores:
    """Scores pictures that have their sizes; content and output have the same."""
    network, judge, heads = _networks()
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
        lpips=float(_lpips(jnp.asarray(output), jnp.asarray(content), judge, heads)),
        colors_to_style=wasserstein(output, style, ridge=0.0) * 3,
        colors_to_content=wasserstein(output, content, ridge=0.0) * 3,
    )


class PairScores:
    """Scores many pictures of one content and one style: what of `Scores` compares pictures.

    Args:
        content: (h, w, 3) in [0, 1], as large as the pictures that will be scored.
        style: Of any size that reaches the deepest tap.

    Raises:
        PictureError: A picture is too small for the deepest tap, whatever taps the study names.
        WeightsError: The network is missing.
    """

    def __init__(self, content: Pixels, style: Pixels) -> None:
        _check_size("content", content)
        _check_size("style", style)
        self._network, self._judge, self._heads = _networks()
        self._content = jnp.asarray(content)
        self._content_features = _features_and_grams(self._network, self._content)[0]
        self._grams = _features_and_grams(self._network, jnp.asarray(style))[1]

    def __call__(self, image: Pixels) -> Mapping[str, float]:
        """`content`, `style` (mean of the Gram distances) and `lpips`; 0 is the best of each."""
        features, grams = _features_and_grams(self._network, jnp.asarray(image))
        styles = [_relative(grams[tap], self._grams[tap]) for tap in STYLE_TAPS]
        return {
            "content": _relative(features, self._content_features),
            "style": float(np.mean(styles)),
            "lpips": float(_lpips(jnp.asarray(image), self._content, self._judge, self._heads)),
        }


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
    content: Pixels, style: Pixels, output: Pixels, *, size: int
) -> tuple[Pixels, Pixels, Pixels]:
    """All three at the sizes at which they are compared."""
    height, width = own = fit_long_edge(output.shape[:2], size)
    expected = fit_long_edge(content.shape[:2], size)
    if max(abs(height - expected[0]), abs(width - expected[1])) > 1:
        raise PictureError(
            f"content and output must have one aspect ratio, got {size_text(expected)} and "
            f"{size_text(own)} at a long edge of {size} px",
            "Score an output against the content that it was made from",
        )
    smallest = smallest_side(LPIPS_TAPS)
    asked = fit_long_edge(style.shape[:2], size)
    if min(*own, *asked) < smallest:
        raise PictureError(
            f"pictures must be at least {smallest} px on both sides, got {size_text(own)} and a "
            f"style of {size_text(asked)}",
            "Raise --size",
        )
    return resize(content, own), resize(style, asked), resize(output, own)


def _check_size(name: str, image: Pixels) -> None:
    height, width = image.shape[:2]
    smallest = smallest_side((CONTENT_TAP, *STYLE_TAPS, *LPIPS_TAPS))
    if min(height, width) < smallest:
        raise PictureError(
            f"{name} must be at least {smallest} px on both sides to be measured at the taps up "
            f"to {LPIPS_TAPS[-1]}, got {width}x{height} (width x height)",
            "Raise --size, or crop the picture",
        )


def _networks() -> tuple[VGG, VGG, list[jax.Array]]:
    """The network that compares, the one of LPIPS, and the heads of LPIPS."""
    weights = read_weights(find_weights("vgg16"))
    build = functools.partial(VGG, weights.architecture, weights.convolutions, weights.mean)
    heads = [jnp.asarray(head) for head in read_heads()]
    network = build(deepest=STYLE_TAPS[-1], padding="replicate")
    return network, build(deepest=LPIPS_TAPS[-1]), heads


_lpips = jax.jit(lpips)


def _features(network: VGG, image: Pixels) -> dict[str, npt.NDArray[np.float64]]:
    features = _run(jnp.asarray(image), network, jnp.asarray(image.shape[:2]))
    return {tap: np.asarray(value, np.float64) for tap, value in features.items()}


@jax.jit
def _run(image: jax.Array, network: VGG, size: jax.Array) -> dict[str, jax.Array]:
    return network(image, size, (*STYLE_TAPS, CONTENT_TAP))


@jax.jit
def _features_and_grams(network: VGG, image: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The content's features, and the Gram matrices of the style."""
    size = jnp.asarray(image.shape[:2])
    features = network(image, size, (*STYLE_TAPS, CONTENT_TAP))
    grams = {
        tap: gram_matrix(features[tap], own_region(size, tap, features[tap])) for tap in STYLE_TAPS
    }
    return features[CONTENT_TAP], grams


def _gaussian(features: Any, ridge: float) -> tuple[npt.NDArray[np.float64], Any]:
    flat = np.float64(features).reshape(-1, features.shape[-1])
    mean = flat.mean(0)
    centred = flat - mean
    return mean, centred.T @ centred / len(flat) + ridge * np.eye(len(mean))


def _gram(features: Any) -> npt.NDArray[np.float64]:
    flat = features.reshape(-1, features.shape[-1])
    return flat.T @ flat / len(flat)


def _relative(value: Any, target: Any) -> float:
    """Squared distance over the target's squared norm."""
    value, target = np.float64(value), np.float64(target)
    return float(((value - target) ** 2).sum() / (target**2).sum())
