"""Sizes in pixels, and the few canvases in which images of several sizes share a program.

All sizes are (height, width). A canvas follows from a job's own size alone: its long edge
is exact and its short edge is rounded up, so a job meets the same program whoever its
neighbours are.
"""

from collections.abc import Iterable

Size = tuple[int, int]

_SHORT_EDGES_A_LONG_EDGE = 8
_SMALLEST_STEP_PX = 16


def fit_long_edge(size: Size, long_edge: int) -> Size:
    """A size of the same aspect ratio with exactly this long edge; no side falls below 1."""
    longest = max(size)
    height, width = (max(1, round(side * long_edge / longest)) for side in size)
    return height, width


def padded_shape(size: Size) -> Size:
    """The canvas of an image: at most eight for each long edge.

    None is wider than high; a wide image lies on it transposed.
    """
    step = max(_SMALLEST_STEP_PX, -(-max(size) // _SHORT_EDGES_A_LONG_EDGE))
    return max(size), min(max(size), _round_up(min(size), step))


def size_text(size: Size) -> str:
    """Width by height, as people say it."""
    return f"{size[1]}x{size[0]}"


def square_canvas(long_edge: int) -> Size:
    """The canvas on which style pictures are looked at: one for all aspect ratios.

    A style is looked at once a level, so what a square wastes is less than one compilation.
    """
    return long_edge, long_edge


def padding_share(sizes: Iterable[Size]) -> float:
    """Share of the pixels that canvases compute and no image has, 0 to 1."""
    listed = list(sizes)
    own = sum(height * width for height, width in listed)
    whole = sum(height * width for height, width in map(padded_shape, listed))
    return 1 - own / whole if whole else 0.0


def _round_up(side: int, step: int) -> int:
    return -(-side // step) * step
