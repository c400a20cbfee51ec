"""Where pictures excite channels: every position's answer, the best patches, telling channels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nst_jax.engine.inputs.placed_image import place_on_canvas
from nst_jax.engine.plan.canvas import square_canvas
from nst_jax.files.images import Pixels
from nst_jax.model.receptive_field import ReceptiveField
from nst_jax.model.vgg import VGG
from nst_jax.request.taps import poolings_before

Responses = npt.NDArray[np.float32]
"""(h, w, c): what each channel of a tap says at each position of a picture."""


class Patch(NamedTuple):
    """A place that excites a channel.

    Attributes:
        picture: Its position in the list of pictures.
        row: Of the tap's positions.
        column: Likewise.
        value: What the channel says there.
    """

    picture: int
    row: int
    column: int
    value: float


def compute_responses(
    network: VGG, images: Sequence[Pixels], taps: Sequence[str], edge_px: int
) -> list[Mapping[str, Responses]]:
    """What every tap says to every picture; one compilation, whatever the pictures' shapes.

    Args:
        network: Reaches every tap.
        images: No edge longer than `edge_px`.
        taps: Canonical.
        edge_px: Both sides of the canvas.
    """
    look = jax.jit(lambda network, image, size: network(image, size, tuple(taps)))
    responses = []
    for image in images:
        pixels, size = place_on_canvas(image, square_canvas(edge_px))
        features = look(network, jnp.asarray(pixels), jnp.asarray(size))
        responses.append(
            {tap: _crop_to_image(np.asarray(features[tap], np.float32), size, tap) for tap in taps}
        )
    return responses


def _crop_to_image(features: Responses, size: npt.NDArray[np.int32], tap: str) -> Responses:
    height, width = (int(side) for side in size // 2 ** poolings_before(tap))
    return features[:height, :width]


def find_patches(
    responses: Sequence[Responses], channel: int, count: int, field: ReceptiveField
) -> list[Patch]:
    """The places that excite a channel most, the best first, no two of a picture on one spot.

    Args:
        responses: Of one tap, a picture each.
        channel: Which one.
        count: How many places at most; those that don't excite it at all are none.
        field: The tap's; half of it is kept free around each place.
    """
    reach = max(1, field.edge // field.stride // 2)
    maps = [each[..., channel].copy() for each in responses]
    found: list[Patch] = []
    while len(found) < count:
        picture = max(range(len(maps)), key=lambda number: maps[number].max(), default=-1)
        if picture < 0 or maps[picture].max() <= 0:
            break
        there = maps[picture]
        row, column = (int(at) for at in np.unravel_index(there.argmax(), there.shape))
        found.append(Patch(picture, row, column, float(there[row, column])))
        rows, columns = (slice(max(0, at - reach), at + reach + 1) for at in (row, column))
        there[rows, columns] = 0
    return found


def selective_channels(responses: Sequence[Responses], count: int) -> list[int]:
    """The channels that say most at one place compared with all others, in order of number.

    Those in the lower half by their loudest answer are left out: their ratio is noise.
    """
    flat = np.concatenate([each.reshape(-1, each.shape[-1]) for each in responses])
    peak, mean = flat.max(0), flat.mean(0)
    ratio = np.where(peak >= np.median(peak), peak / np.maximum(mean, 1e-6), 0)
    return sorted(int(channel) for channel in np.argsort(-ratio, kind="stable")[:count])


def response_deviations(responses: Sequence[Responses]) -> npt.NDArray[np.float32]:
    """(c,): the standard deviation of each channel over all positions of all pictures, above 0."""
    flat = np.concatenate([each.reshape(-1, each.shape[-1]) for each in responses])
    return np.maximum(flat.std(0), 1e-6).astype(np.float32)
