"""How a picture lies on its canvas: in the top left corner, a wide one transposed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.plan.levels import Level
from nst_jax.files import images


class PlacedImage(NamedTuple):
    """An image in the top left corner of a canvas of zeros.

    Attributes:
        image: (canvas height, canvas width, 3) float32.
        size: (2,) int32, the image's own height and width.
    """

    image: images.Pixels
    size: npt.NDArray[np.int32]

    @property
    def pixels(self) -> images.Pixels:
        """The image alone as it lies, (h, w, 3); a view."""
        height, width = self.size
        return self.image[:height, :width]


def turn(pixels: images.Pixels, is_transposed: bool) -> images.Pixels:
    """A picture as it lies on its canvas, from the picture as it is; and back. A view."""
    return pixels.swapaxes(0, 1) if is_transposed else pixels


def lift_from_canvas(image: images.Pixels, level: Level) -> images.Pixels:
    """A level's picture as it is, from its canvas; a view."""
    height, width = level.size_on_canvas
    return turn(image[:height, :width], level.is_transposed)


def place_on_canvas(
    pixels: images.Pixels, canvas: Size, is_transposed: bool = False
) -> PlacedImage:
    """An image in the top left corner of a canvas of zeros, and its own size there."""
    pixels = turn(pixels, is_transposed)
    height, width = pixels.shape[:2]
    image = np.zeros((*canvas, 3), np.float32)
    image[:height, :width] = pixels
    return PlacedImage(image, np.asarray((height, width), np.int32))
