"""How many operations one step of one image is: by the network's table, and as really run.

A multiplication or an addition is one operation. A step is the forward pass and the
gradient with respect to the image: two convolutions of equal work a layer, none for the
kernels, which are constants. Counted are convolutions and Gram products; activations,
pooling, total variation and the optimiser are a few operations a value and are left out.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.plan.memory_model import CostModel
from nst_jax.model import winograd
from nst_jax.request.taps import Architecture, poolings_before

_KERNEL_POSITIONS = 9
_PASSES = 2  # forward, and the gradient with respect to the layer's input
_TILE_OUT = 4  # side of the output that one of Winograd's tiles gives

# Additions, and multiplications by other than 1 and -1, to apply one of Winograd's 1D
# transforms to one vector: `winograd._INPUT` takes 6 values to 6, `winograd._OUTPUT` 6 to 4.
INPUT_TRANSFORM_OPERATIONS = 28
OUTPUT_TRANSFORM_OPERATIONS = 20


@dataclasses.dataclass(frozen=True)
class Operations:
    """Operations of one step of one image.

    Attributes:
        direct_convolutions: Convolutions by their definition, on the image's own region:
            what others publish, and what the task takes without a faster algorithm.
        grams: Gram products, on the own region.
        executed: What the program really does on the canvas: convolutions as they are run,
            Winograd's transforms included, and Gram products.
    """

    direct_convolutions: int
    grams: int
    executed: int

    def record(self) -> dict[str, int]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def step_operations(
    architecture: Architecture,
    channels: Mapping[str, Size],
    *,
    content_taps: Sequence[str],
    style_taps: Sequence[str],
    size: Size,
    canvas: Size,
    use_winograd: bool,
) -> Operations:
    """Counts one step.

    Args:
        architecture: The network's table.
        channels: Input and output channels of each convolution by its name.
        content_taps: Canonical names.
        style_taps: Canonical names.
        size: Height and width of the image in pixels.
        canvas: Height and width of the shape it is computed in.
        use_winograd: Whether the network is prepared for Winograd's algorithm where it pays.
    """
    costs = CostModel(architecture, channels, 4, use_winograd)
    run = sum(
        _winograd(pair, side)
        if use_winograd and winograd.is_profitable(*pair)
        else 2 * _KERNEL_POSITIONS * math.prod(pair) * math.prod(side)
        for side, pair in costs.convolutions(canvas, (*content_taps, *style_taps))
    )
    return Operations(
        direct_convolutions=costs.operations(size, (*content_taps, *style_taps)),
        grams=_grams(style_taps, channels, size),
        executed=_PASSES * run + _grams(style_taps, channels, canvas),
    )


def _winograd(channels: Size, size: Size) -> int:
    """The same by F(4x4, 3x3): 36 products for 16 outputs, and the transforms around them.

    Mirrors `winograd.correlate`: neighbouring tiles share the input's first transform along
    whole rows; the output's two transforms go tile by tile. The kernel's is made beforehand.
    """
    down, across = (-(-side // _TILE_OUT) for side in size)
    tiles, tile_side = down * across, winograd.TILE
    products = 2 * tile_side**2 * channels[0] * channels[1] * tiles
    padded_width = _TILE_OUT * across + tile_side - _TILE_OUT
    inputs = INPUT_TRANSFORM_OPERATIONS * (down * padded_width + tile_side * tiles) * channels[0]
    outputs = OUTPUT_TRANSFORM_OPERATIONS * (tile_side + _TILE_OUT) * tiles * channels[1]
    return products + inputs + outputs


def _grams(taps: Sequence[str], channels: Mapping[str, Size], size: Size) -> int:
    """FᵀF forward and F (Ḡ + Ḡᵀ) backward: the same number of products."""
    total = 0
    for tap in taps:
        _, width = channels[tap.replace("relu", "conv")]
        positions = math.prod(side >> poolings_before(tap) for side in size)
        total += _PASSES * 2 * width**2 * positions
    return total
