"""The levels of a job: its resolutions from coarse to fine, an image pyramid.

The long edge grows by the run's `level_ratio` from level to level. What a coarse level finds
is enlarged and becomes the next one's start. A level is one program; nothing in it branches on
the step.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from nst_jax.engine.plan.canvas import Size, fit_long_edge, padded_shape
from nst_jax.request.errors import PictureError
from nst_jax.request.options import JobOptions, Options, StaticOptions
from nst_jax.request.taps import smallest_side

_COARSEST_PX = 128
"""Long edge near which levels begin of themselves; below it strokes get as large as things."""
_TOO_SMALL_REMEDY = "Raise --size, crop the picture, or use taps of earlier blocks"


_NO_TAPS = StaticOptions((), ())


class Bucket(NamedTuple):
    """What jobs must have alike at a level to share slots: their step is one program.

    Attributes:
        canvas: See `Level`.
        regions: Likewise.
        static_options: Likewise.
    """

    canvas: Size
    regions: int = 0
    static_options: StaticOptions = _NO_TAPS


class BatchKey(NamedTuple):
    """What jobs must have alike at a level to be in one batch: a network is upright or transposed.

    Attributes:
        bucket: Of their program.
        is_transposed: See `Level`.
    """

    bucket: Bucket
    is_transposed: bool


@dataclasses.dataclass(frozen=True)
class Level:
    """One resolution of one job.

    Attributes:
        index: 0 for the coarsest level of the run. A job too narrow for it starts later.
        size: The image's own size, (height, width) in pixels.
        canvas: The shape it is computed in, never wider than high.
        style_edge: Long edge in pixels at which its styles are looked at.
        steps: Of the optimiser, at most.
        regions: Into how many parts masks cut the image, each with a style of its own; 0: no
            masks.
        static_options: The job's options that are no arrays.
        is_transposed: Whether the image lies on its canvas with rows and columns swapped. Wide
            pictures do, at all their levels, so that they share programs with high ones.
    """

    index: int
    size: Size
    canvas: Size
    style_edge: int
    steps: int
    regions: int = 0
    static_options: StaticOptions = _NO_TAPS
    is_transposed: bool = False

    @property
    def size_on_canvas(self) -> Size:
        """The image's height and width as it lies there."""
        height, width = self.size
        return (width, height) if self.is_transposed else (height, width)

    @property
    def bucket(self) -> Bucket:
        """Whose program it shares."""
        return Bucket(self.canvas, self.regions, self.static_options)

    @property
    def batch_key(self) -> BatchKey:
        """Who it may share a batch with."""
        return BatchKey(self.bucket, self.is_transposed)


@functools.lru_cache(maxsize=4096)
def level_edges(size: int, levels: int | Literal["auto"], ratio: float) -> tuple[int, ...]:
    """Long edge of each level in pixels, ending with `size` exactly; equal ones fall away.

    Args:
        size: Long edge of the last level.
        levels: How many; auto: as many as bring the first one's long edge nearest to 128 px.
        ratio: How much larger each is than the one before.
    """
    if levels == "auto":
        most = max(0, math.ceil(math.log(size / _COARSEST_PX, ratio)))
        above = min(range(most + 1), key=lambda above: abs(size / ratio**above - _COARSEST_PX))
        levels = 1 + above
    edges = (max(1, round(size / ratio ** (levels - 1 - level))) for level in range(levels))
    return tuple(sorted(set(edges)))


@functools.lru_cache(maxsize=4096)
def make_levels(
    picture: Size, options: Options, own: JobOptions, *, regions: int = 0
) -> tuple[Level, ...]:
    """The levels that a job goes through, from coarse to fine; jobs alike share them in memory.

    A level at which the short edge would not reach the job's deepest tap is left out.

    Args:
        picture: Size of the content picture as it was opened.
        options: The run's; `size`, `levels` and `level_ratio` count.
        own: The job's, with canonical taps.
        regions: How many masks the job has.

    Raises:
        PictureError: Even the last level is too small for the deepest tap.
    """
    smallest = smallest_side((*own.content_taps, *own.style_taps))
    scale = own.style_size / options.size if own.style_size else own.style_scale
    edges = [
        (index, edge, size)
        for index, edge in enumerate(level_edges(options.size, options.levels, options.level_ratio))
        if min(size := fit_long_edge(picture, edge)) >= smallest
    ]
    if not edges:
        raise PictureError(_too_small(picture, options, smallest), _TOO_SMALL_REMEDY)
    coarsest = edges[0][0]
    return tuple(
        Level(
            index=index,
            size=size,
            canvas=padded_shape(size),
            style_edge=max(smallest, round(edge * scale)),
            steps=own.first_steps if index == coarsest and own.first_steps else own.steps,
            regions=regions,
            static_options=own.static_options,
            is_transposed=picture[0] < picture[1],
        )
        for index, edge, size in edges
    )


def count_buckets(jobs: Iterable[tuple[Level, ...]]) -> dict[Bucket, int]:
    """How many of the jobs are in each bucket; of both orientations the more, as no batch has two.

    Args:
        jobs: The levels of each.
    """
    counts: collections.Counter[BatchKey] = collections.Counter()
    for levels in jobs:
        counts.update({level.batch_key for level in levels})
    most: dict[Bucket, int] = collections.defaultdict(int)
    for (bucket, _), count in counts.items():
        most[bucket] = max(most[bucket], count)
    return dict(most)


def _too_small(picture: Size, options: Options, smallest: int) -> str:
    height, width = fit_long_edge(picture, options.size)
    return (
        f"the output must be at least {smallest} px on both sides to reach the deepest tap, "
        f"got {width}x{height} (width x height) from a picture of {picture[1]}x{picture[0]}"
    )
