"""Content, style and LPIPS distances of many pictures to one content and one style."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nst_jax.model.losses import gram_matrix
from nst_jax.model.lpips import lpips
from nst_jax.model.objective import own_region
from nst_jax.model.vgg import VGG
from nst_jax.request.errors import PictureError
from nst_jax.request.taps import smallest_side
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights
from nst_jax.weights.lpips_heads import read_heads

Image = npt.NDArray[np.float32]

CONTENT_TAP = "relu4_2"
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_LPIPS_TAP = "relu5_3"


class PairScores:
    """Measures pictures with the ImageNet VGG-16, whatever network made them.

    What it gives are those of `scoring.Scores` that can be told from picture to picture: the
    content's at relu4_2, the mean of the Gram distances, and LPIPS to the content.

    Args:
        content: (h, w, 3) in [0, 1], as large as the pictures that will be measured.
        style: Of any size that reaches the deepest tap.

    Raises:
        PictureError: A picture is too small for the deepest tap, whatever taps the study names.
        WeightsError: The network is missing.
    """

    def __init__(self, content: Image, style: Image) -> None:
        _check_size("content", content)
        _check_size("style", style)
        weights = read_weights(find_weights("vgg16"))
        self._network = VGG(
            weights.architecture,
            weights.convolutions,
            weights.mean,
            deepest=STYLE_TAPS[-1],
            padding="replicate",
        )
        self._judge = VGG(
            weights.architecture, weights.convolutions, weights.mean, deepest=_LPIPS_TAP
        )
        self._heads = [jnp.asarray(head) for head in read_heads()]
        self._content = jnp.asarray(content)
        self._content_features = _features_and_grams(self._network, self._content)[0]
        self._grams = _features_and_grams(self._network, jnp.asarray(style))[1]

    def __call__(self, image: Image) -> Mapping[str, float]:
        """`content`, `style` and `lpips`; 0 is the best of each."""
        features, grams = _features_and_grams(self._network, jnp.asarray(image))
        styles = [_relative(grams[tap], self._grams[tap]) for tap in STYLE_TAPS]
        return {
            "content": _relative(features, self._content_features),
            "style": float(np.mean(styles)),
            "lpips": float(_lpips(jnp.asarray(image), self._content, self._judge, self._heads)),
        }


def _check_size(name: str, image: Image) -> None:
    height, width = image.shape[:2]
    smallest = smallest_side((CONTENT_TAP, *STYLE_TAPS, _LPIPS_TAP))
    if min(height, width) < smallest:
        raise PictureError(
            f"{name} must be at least {smallest} px on both sides to be measured at the taps up "
            f"to {_LPIPS_TAP}, got {width}x{height} (width x height)",
            "Raise --size, or crop the picture",
        )


def _relative(value: jax.Array, target: jax.Array) -> float:
    """Squared distance over the target's squared norm."""
    one, other = np.float64(value), np.float64(target)
    return float(((one - other) ** 2).sum() / (other**2).sum())


_lpips = jax.jit(lpips)


@jax.jit
def _features_and_grams(network: VGG, image: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The content's features, and the Gram matrices of the style."""
    size = jnp.asarray(image.shape[:2])
    features = network(image, size, (*STYLE_TAPS, CONTENT_TAP))

    def gram(tap: str) -> jax.Array:
        return gram_matrix(features[tap], own_region(size, tap, features[tap]))

    return features[CONTENT_TAP], {tap: gram(tap) for tap in STYLE_TAPS}
