"""Which pixels a position of a tap sees: its receptive field, by the network's table alone."""

from typing import NamedTuple

from nst_jax.request.taps import PIXELS, Architecture


class ReceptiveField(NamedTuple):
    """The field of every position of a tap; all in pixels.

    Attributes:
        stride: From one position's field to the next one's.
        offset: Where the first position's field begins; 0 or less, beyond the border.
        edge: Both sides of a field.
    """

    stride: int
    offset: int
    edge: int

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of a position's field; may reach over the border."""
        top, left = (self.offset + place * self.stride for place in (row, column))
        return top, left, top + self.edge, left + self.edge


def receptive_field(tap: str, architecture: Architecture) -> ReceptiveField:
    """The field of a canonical tap: 3x3 convolutions with one pixel of padding, 2x2 poolings."""
    stride, offset, edge = 1, 0, 1
    for name in architecture.taps:
        if name.startswith("conv"):
            edge += 2 * stride
            offset -= stride
        elif name.startswith("pool"):
            edge += stride
            stride *= 2
        if name == tap or tap == PIXELS:
            break
    return ReceptiveField(stride, offset, edge)
