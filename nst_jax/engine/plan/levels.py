"""The stages of a job: its resolutions from coarse to fine, each in one or several phases.

The long edge grows by the square root of 2 from level to level, so that four levels see
the picture at a third of its final size first. What a coarse level finds is enlarged and
becomes the next one's start.

A phase compares the style in its own way: early steps may do with a cheap one. A level and
a phase of it are a stage, and a stage is one program; nothing in it branches on the step.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from nst_jax.engine.plan.canvas import Size, fit_long_edge, padded_shape
from nst_jax.request.errors import PictureError
from nst_jax.request.options import JobOptions, Options, StaticOptions
from nst_jax.request.taps import smallest_side

StyleKind = Literal["gram", "moments", "wasserstein", "wasserstein_full"]
"""How a stage compares styles; each is a kind of target in the model."""

PHASES: Mapping[str, tuple[tuple[StyleKind, float], ...]] = {
    "gram": (("gram", 1.0),),
    "moments": (("moments", 1.0),),
    "wasserstein": (("wasserstein", 1.0),),
    "wasserstein_full": (("wasserstein_full", 1.0),),
}
"""By the option `style_loss`: the phases of each level, with their shares of its steps."""

_GROWTH = 2**0.5
_COARSEST_PX = 128
"""Long edge at which levels begin of themselves; below it strokes get as large as things."""
_ROUNDING = 0.01  # of a level, so that 181 px, for one, is one level above 128 px
_TOO_SMALL_REMEDY = "Raise --size, crop the picture, or use taps of earlier blocks"


_NO_TAPS = StaticOptions((), ())


class Bucket(NamedTuple):
    """What jobs must have alike to share slots: their stages at a place are one program.

    Attributes:
        canvas: See `Level`.
        regions: Likewise.
        structure: Likewise.
    """

    canvas: Size
    regions: int = 0
    structure: StaticOptions = _NO_TAPS


@dataclasses.dataclass(frozen=True)
class Level:
    """A phase of one level of one job.

    Attributes:
        level: 0 for the coarsest level of the run. A job too narrow for it starts later.
        phase: 0 for the first phase of the level.
        steps: Of the optimiser, at most.
        level_steps: Those of all phases of the level.
        steps_before: Those of its earlier phases.
        style_kind: How it compares styles.
        size: The image's own size, (height, width) in pixels.
        canvas: The shape it is computed in.
        style_edge: Long edge in pixels at which its styles are looked at.
        regions: Into how many parts masks cut the image, each with a style of its own; 0: no
            masks.
        structure: The job's options that are no arrays.
    """

    index: int
    size: Size
    canvas: Size
    style_edge: int
    steps: int
    level_steps: int
    steps_before: int = 0
    phase: int = 0
    style_kind: StyleKind = "gram"
    regions: int = 0
    structure: StaticOptions = _NO_TAPS

    @property
    def bucket(self) -> Bucket:
        """Who it may share a batch with."""
        return Bucket(self.canvas, self.regions, self.structure)

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in the order of the run's stages: level, then phase."""
        return self.index, self.phase


@functools.lru_cache(maxsize=4096)
def level_edges(size: int, levels: int | Literal["auto"]) -> tuple[int, ...]:
    """Long edge of each level in pixels, ending with `size` exactly; equal ones fall away."""
    if levels == "auto":
        levels = 1 + max(0, math.floor(math.log(size / _COARSEST_PX, _GROWTH) + _ROUNDING))
    edges = (max(1, round(size / _GROWTH ** (levels - 1 - level))) for level in range(levels))
    return tuple(sorted(set(edges)))


@functools.lru_cache(maxsize=4096)
def pyramid(
    picture: Size, options: Options, own: JobOptions, *, regions: int = 0
) -> tuple[Level, ...]:
    """The stages that a job goes through, from coarse to fine; jobs alike share them in memory.

    A level at which the short edge would not reach the job's deepest tap is left out.

    Args:
        picture: Size of the content picture as it was opened.
        options: The run's; `size`, `levels`, `style_loss` and `optimizer` count.
        own: The job's, with canonical taps.
        regions: How many masks the job has.

    Raises:
        PictureError: Even the last level is too small for the deepest tap.
    """
    smallest = smallest_side((*own.content_taps, *own.style_taps))
    scale = own.style_size / options.size if own.style_size else own.style_scale
    edges = [
        (level, edge, size)
        for level, edge in enumerate(level_edges(options.size, options.levels))
        if min(size := fit_long_edge(picture, edge)) >= smallest
    ]
    if not edges:
        raise PictureError(_too_small(picture, options, smallest), _TOO_SMALL_REMEDY)
    first, *_ = edges
    return tuple(
        Level(
            index=level,
            size=size,
            canvas=padded_shape(size),
            style_edge=max(smallest, round(edge * scale)),
            steps=steps,
            level_steps=level_steps,
            steps_before=before,
            phase=phase,
            style_kind=kind,
            regions=regions,
            structure=own.static_options,
        )
        for level, edge, size in edges
        for level_steps in [own.first_steps if level == first[0] and own.first_steps else own.steps]
        for phase, (kind, steps, before) in enumerate(_phases(options, level_steps))
    )


def _phases(options: Options, level_steps: int) -> list[tuple[StyleKind, int, int]]:
    """Kind, steps, and steps before, of each phase of a level; one without steps falls away."""
    shares: tuple[tuple[StyleKind, float], ...] = PHASES[options.style_loss]
    if options.optimizer == "lbfgs":  # what it remembers must be of one and the same objective
        shares = ((shares[-1][0], 1.0),)
    kinds: list[StyleKind] = [kind for kind, _ in shares]
    early = [round(level_steps * share) for _, share in shares[:-1]]
    steps = [*early, level_steps - sum(early)]
    before = itertools.accumulate(steps, initial=0)
    dealt = zip(kinds, steps, before, strict=False)
    return [one for one in dealt if one[1] > 0]


def _too_small(picture: Size, options: Options, smallest: int) -> str:
    height, width = fit_long_edge(picture, options.size)
    return (
        f"the output must be at least {smallest} px on both sides to reach the deepest tap, "
        f"got {width}x{height} (width x height) from a picture of {picture[1]}x{picture[0]}"
    )
