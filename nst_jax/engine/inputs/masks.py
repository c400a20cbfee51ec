"""Masks on the host: grey pictures that say which style applies where, as weights of positions.

A mask is 1 where its style applies, 0 where it does not, and between them at soft edges. At
a tap each position has the mean of the mask over the pixels that it stands for, which are
those that its poolings take together.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from nst_jax.engine.plan.canvas import Size
from nst_jax.files.images import Picture, composite
from nst_jax.model.color import luma
from nst_jax.request.errors import PictureError
from nst_jax.request.taps import poolings_before

MaskWeights = npt.NDArray[np.float32]

_DARKEST_WHITE = 1 / 8
"""Of a mask's brightest pixel. Below it a mask holds 0 and 1, or numbers of classes, not greys."""


def mask_weights(picture: Picture, name: str) -> MaskWeights:
    """The weights of a mask's pixels, (h, w) in [0, 1]: its grey, transparency being black.

    Raises:
        PictureError: It is nearly black everywhere; black is a region that is empty.
    """
    weights = np.clip(luma(composite(picture, "black")), 0, 1)
    if 0 < (brightest := float(weights.max())) < _DARKEST_WHITE:
        raise PictureError(
            f"mask {name!r} must have a pixel that is bright, or be black everywhere, its "
            f"brightest value is {255 * brightest:.3g} of 255",
            "White says where the style applies: multiply a mask of 0 and 1 by 255",
        )
    return weights


def check_any_white(masks: Sequence[MaskWeights], whose: str) -> None:
    """Refuses masks that are all black, by a `PictureError`; `whose` they are is said in it."""
    if masks and not any(mask.any() for mask in masks):
        raise PictureError(
            f"{whose} must have a pixel that is not black, all are black everywhere",
            "White says where a style applies",
        )


def resize_mask(mask: MaskWeights, size: Size) -> MaskWeights:
    """A mask at another size. No weight leaves the range of its neighbours, so edges don't ring."""
    if mask.shape == size:
        return mask
    image = Image.fromarray(np.ascontiguousarray(mask))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def tap_weights(
    masks: Sequence[MaskWeights],
    size: Size,
    canvas: Size,
    taps: Iterable[str],
    is_transposed: bool = False,
) -> dict[str, MaskWeights]:
    """The weights of each tap's positions in each region.

    Args:
        masks: One a region, of any size.
        size: Of the image.
        canvas: That it lies on.
        taps: Canonical names.
        is_transposed: Whether it lies there with rows and columns swapped.

    Returns:
        For a tap behind n poolings (regions, canvas height // 2**n, canvas width // 2**n),
        0 outside of the image's own region.
    """
    halved = [np.stack([resize_mask(mask, size) for mask in masks])]
    depths = {tap: poolings_before(tap) for tap in taps}
    for _ in range(max(depths.values())):
        halved.append(_halve(halved[-1]))
    if is_transposed:
        halved = [weights.swapaxes(1, 2) for weights in halved]
    return {tap: _on_canvas(halved[depth], canvas, depth) for tap, depth in depths.items()}


def _halve(weights: MaskWeights) -> MaskWeights:
    """Means of 2x2 pixels; an odd last row or column is dropped, as the network does."""
    regions, height, width = weights.shape
    even = weights[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(regions, height // 2, 2, width // 2, 2).mean((2, 4), dtype=np.float32)


def _on_canvas(weights: MaskWeights, canvas: Size, depth: int) -> MaskWeights:
    regions, height, width = weights.shape
    wide = np.zeros((regions, canvas[0] >> depth, canvas[1] >> depth), np.float32)
    wide[:, :height, :width] = weights
    return wide
