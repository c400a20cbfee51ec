"""The stages of a job: its resolutions from coarse to fine, each with its canvas.

The long edge grows by the square root of 2 from level to level, so that four levels see
the picture at a third of its final size first. What a coarse level finds is enlarged and
becomes the next one's start.
"""

import dataclasses

from nst_jax.engine.canvas import Size, canvas_of, fitted
from nst_jax.spec.errors import PictureError
from nst_jax.spec.options import JobOptions, Options
from nst_jax.spec.taps import smallest_side

_GROWTH = 2**0.5
_TOO_SMALL_REMEDY = "Raise --size, crop the picture, or use taps of earlier blocks"


@dataclasses.dataclass(frozen=True)
class Stage:
    """One level of one job.

    Attributes:
        level: 0 for the coarsest level of the run. A job too narrow for it starts later.
        size: The image's own size, (height, width) in pixels.
        canvas: The shape it is computed in.
        style_edge: Long edge in pixels at which its styles are looked at.
    """

    level: int
    size: Size
    canvas: Size
    style_edge: int


def long_edges(size: int, levels: int) -> tuple[int, ...]:
    """Long edge of each level in pixels, ending with `size` exactly; equal ones fall away."""
    edges = (max(1, round(size / _GROWTH ** (levels - 1 - level))) for level in range(levels))
    return tuple(sorted(set(edges)))


def stages(picture: Size, options: Options, own: JobOptions) -> tuple[Stage, ...]:
    """The levels that a job goes through, from coarse to fine.

    A level at which the short edge would not reach the job's deepest tap is left out.

    Args:
        picture: Size of the content picture as it was opened.
        options: The run's; `size` and `levels` count.
        own: The job's, with canonical taps.

    Raises:
        PictureError: Even the last level is too small for the deepest tap.
    """
    smallest = smallest_side((*own.content_taps, *own.style_taps))
    made = [
        Stage(level, size, canvas_of(size), max(smallest, round(edge * own.style_scale)))
        for level, edge in enumerate(long_edges(options.size, options.levels))
        if min(size := fitted(picture, edge)) >= smallest
    ]
    if not made:
        raise PictureError(_too_small(picture, options, smallest), _TOO_SMALL_REMEDY)
    return tuple(made)


def _too_small(picture: Size, options: Options, smallest: int) -> str:
    height, width = fitted(picture, options.size)
    return (
        f"the output must be at least {smallest} px on both sides to reach the deepest tap, "
        f"got {width}x{height} (width x height) from a picture of {picture[1]}x{picture[0]}"
    )
