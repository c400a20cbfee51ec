"""Masks on the host: grey pictures that say which style applies where, as weights of positions.

A mask is 1 where its style applies, 0 where it does not, and between them at soft edges. At
a tap each position has the mean of the mask over the pixels that it stands for, which are
those that its poolings take together.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from nst_jax.engine.canvas import Size, fitted, size_text
from nst_jax.files.images import Picture, composited
from nst_jax.spec.errors import PictureError
from nst_jax.spec.taps import poolings_before

Weights = npt.NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def mask_of(picture: Picture, name: str) -> Weights:
    """The weights of a mask's pixels, (h, w) in [0, 1]: its grey, transparency being black.

    Raises:
        PictureError: It is black everywhere.
    """
    weights = np.clip(composited(picture, "black") @ _LUMA, 0, 1)
    if not weights.any():
        raise PictureError(
            f"mask {name!r} must have a pixel that is not black, got none",
            "White says where the style applies",
        )
    return weights


def check_mask_size(mask: Size, picture: Size, name: str, whose: str) -> None:
    """Refuses a mask of another shape than its picture's; another scale is fine.

    Args:
        mask: Of the mask.
        picture: Of the picture that it belongs to.
        name: The mask's.
        whose: What to call the picture.

    Raises:
        PictureError: Their aspect ratios differ by more than a pixel of the smaller one.
    """
    edge = min(max(mask), max(picture))
    one, other = fitted(mask, edge), fitted(picture, edge)
    if max(abs(one[0] - other[0]), abs(one[1] - other[1])) > 1:
        raise PictureError(
            f"mask {name!r} must have the aspect ratio of the {whose}, which is "
            f"{size_text(picture)}, got {size_text(mask)} (width x height)",
            "Draw it on a copy of that picture, at any scale",
        )


def scaled(mask: Weights, size: Size) -> Weights:
    """A mask at another size. No weight leaves the range of its neighbours, so edges don't ring."""
    if mask.shape == size:
        return mask
    image = Image.fromarray(np.ascontiguousarray(mask))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def by_tap(
    masks: Sequence[Weights], size: Size, canvas: Size, taps: Iterable[str]
) -> dict[str, Weights]:
    """The weights of each tap's positions in each region.

    Args:
        masks: One a region, of any size.
        size: Of the image.
        canvas: That it lies on.
        taps: Canonical names.

    Returns:
        For a tap behind n poolings (regions, canvas height // 2**n, canvas width // 2**n),
        0 outside of the image's own region.
    """
    halved = [np.stack([scaled(mask, size) for mask in masks])]
    depths = {tap: poolings_before(tap) for tap in taps}
    for _ in range(max(depths.values())):
        halved.append(_halved(halved[-1]))
    return {tap: _on_canvas(halved[depth], canvas, depth) for tap, depth in depths.items()}


def _halved(weights: Weights) -> Weights:
    """Means of 2x2 pixels; an odd last row or column is dropped, as the network does."""
    regions, height, width = weights.shape
    even = weights[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(regions, height // 2, 2, width // 2, 2).mean((2, 4), dtype=np.float32)


def _on_canvas(weights: Weights, canvas: Size, depth: int) -> Weights:
    regions, height, width = weights.shape
    wide = np.zeros((regions, canvas[0] >> depth, canvas[1] >> depth), np.float32)
    wide[:, :height, :width] = weights
    return wide
