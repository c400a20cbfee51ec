"""Small networks from a seed: the shape of a VGG, a hundredth of its work."""

from typing import NamedTuple

import numpy as np

DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
CHANNELS = (4, 8, 8, 12, 12)


class Network(NamedTuple):
    """Constants as a weight file has them, float32.

    Attributes:
        architecture: `vgg16` or `vgg19`.
        convolutions: Kernel (3, 3, c, d) and bias (d,) by name.
        mean: RGB mean in [0, 1].
    """

    architecture: str
    convolutions: dict[str, tuple[np.ndarray, np.ndarray]]
    mean: np.ndarray


def narrow_network(
    architecture: str, *, seed: int = 0, channels: tuple[int, ...] = CHANNELS
) -> Network:
    """A network of few channels whose activations keep their scale with depth (He et al. 2015).

    The biases are large enough that zero padding can be told from any other.
    """
    rng = np.random.default_rng(seed)
    convolutions, width = {}, 3
    for block, (depth, out) in enumerate(zip(DEPTHS[architecture], channels, strict=True), start=1):
        for index in range(1, depth + 1):
            kernel = rng.normal(scale=np.sqrt(2 / (9 * width)), size=(3, 3, width, out))
            bias = rng.normal(scale=0.1, size=out)
            convolutions[f"conv{block}_{index}"] = (
                kernel.astype(np.float32),
                bias.astype(np.float32),
            )
            width = out
    return Network(architecture, convolutions, np.array([0.485, 0.456, 0.406], np.float32))


def picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Noise over a gradient, float32 RGB in [0, 1]."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, height)[:, None, None] * np.linspace(1, 0, width)[None, :, None]
    return (0.5 * ramp + 0.5 * rng.random((height, width, 3))).astype(np.float32)


def on_canvas(image: np.ndarray, canvas: tuple[int, int], *, filler: float = 0) -> np.ndarray:
    """The image in the top left corner of a larger canvas."""
    height, width = image.shape[:2]
    rim = ((0, canvas[0] - height), (0, canvas[1] - width), (0, 0))
    return np.pad(image, rim, constant_values=filler)
