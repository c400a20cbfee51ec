"""What images are compared with, made once: what a style asks, a content's features.

A style's statistics are made once per style and level however many jobs use it. They are
kept on the host, bounded, and copied into the slots of each batch that asks for them.
Several styles of one job meet here, as the average of their statistics.
"""

import collections
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine import masks
from nst_jax.engine.canvas import Size, fitted, square_canvas
from nst_jax.engine.levels import Stage, StyleKind
from nst_jax.engine.prepared import Picture, PreparedJob
from nst_jax.engine.programs import Programs, Taps
from nst_jax.files.images import resized
from nst_jax.model.objective import Targets
from nst_jax.model.style import GramTarget, Moments, RegionsTarget, StyleTarget
from nst_jax.model.wasserstein import WassersteinTarget
from nst_jax.spec.options import shares

_KEPT_BYTES = 2**28

Statistics = Mapping[str, Any]
"""By tap, on the host: features, moments, or targets."""

_TARGETS: Mapping[StyleKind, Callable[..., StyleTarget]] = {
    "gram": GramTarget.of,
    "wasserstein": WassersteinTarget.of,
}


class TargetMaker:
    """Makes the targets of jobs and remembers the recent ones."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._recent = _Recent(_KEPT_BYTES)

    def targets(self, job: PreparedJob, stage: Stage) -> Targets:
        """One job's targets at one of its stages, as host arrays on the stage's canvas."""
        return Targets(content=self._content(job, stage), style=self._style(job, stage))

    def _content(self, job: PreparedJob, stage: Stage) -> Statistics:
        taps = job.options.content_taps
        key = ("content", job.content.key, stage.size, stage.canvas, taps)

        def make() -> Statistics:
            image, size = on_canvas(resized(job.content.pixels, stage.size), stage.canvas)
            return self._programs.content_features(stage.canvas, taps, image, size)

        return self._recent.get(key, make)

    def _style(self, job: PreparedJob, stage: Stage) -> Statistics:
        """What a job's styles ask at a stage: together everywhere, or each in its region."""
        taps = job.options.style_taps
        blend = shares(job.options.style_blend_weights, len(job.styles))
        if not job.masks:
            return self._blended(job.styles, blend, taps, stage)
        apart = [self._blended([style], (1.0,), taps, stage) for style in job.styles]
        weights = masks.by_tap(job.masks, stage.size, stage.canvas, taps)
        strengths = np.asarray(blend, np.float32) * len(blend)  # 1 for each where none are given
        return {
            tap: RegionsTarget.of((one[tap] for one in apart), weights[tap], strengths)
            for tap in taps
        }

    def _blended(
        self, styles: Sequence[Picture], blend: tuple[float, ...], taps: Taps, stage: Stage
    ) -> Statistics:
        """What styles ask together."""
        keys = tuple(style.key for style in styles)
        key = (stage.style_kind, keys, blend, stage.style_edge, taps)

        def make() -> Statistics:
            moments = [self._moments(style, taps, stage) for style in styles]
            return {
                tap: style_target(stage.style_kind, _averaged([one[tap] for one in moments], blend))
                for tap in taps
            }

        return self._recent.get(key, make)

    def _moments(self, style: Picture, taps: Taps, stage: Stage) -> Statistics:
        canvas = square_canvas(stage.style_edge)

        def make() -> Statistics:
            size = fitted(style.size, stage.style_edge)
            image, own = on_canvas(resized(style.pixels, size), canvas)
            weights = None
            if style.mask is not None:
                regions = masks.by_tap([style.mask], size, canvas, taps)
                weights = {tap: region[0] for tap, region in regions.items()}
            return self._programs.style_moments(canvas, taps, image, own, weights)

        return self._recent.get(("style", style.key, stage.style_edge, taps), make)


def style_target(kind: StyleKind, moments: Moments) -> StyleTarget:
    """What a style with these moments asks where styles are compared in this way."""
    return _TARGETS[kind](*map(np.asarray, moments))


def on_canvas(
    pixels: npt.NDArray[np.float32], canvas: Size
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """An image in the top left corner of a canvas of zeros, and its own size."""
    height, width = pixels.shape[:2]
    image = np.zeros((*canvas, 3), np.float32)
    image[:height, :width] = pixels
    return image, np.asarray((height, width), np.int32)


class _Recent:
    """Host copies of the most recently used statistics, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: collections.OrderedDict[Hashable, Statistics] = collections.OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], Any]) -> Statistics:
        if key not in self._kept:
            self._kept[key] = jax.tree.map(np.asarray, jax.device_get(make()))
            self._bytes += _size_bytes(self._kept[key])
        self._kept.move_to_end(key)
        while self._bytes > self._limit_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _size_bytes(dropped)
        return self._kept[key]


def _averaged(moments: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """The moments of several styles as if they were one, each with its weight."""

    def average(*arrays: Any) -> Any:
        weighted = zip(map(np.float32, weights), arrays, strict=True)
        return sum(weight * array for weight, array in weighted)

    return jax.tree.map(average, *moments)


def _size_bytes(statistics: Statistics) -> int:
    return sum(array.nbytes for array in jax.tree.leaves(dict(statistics)))
