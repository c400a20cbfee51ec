"""What images are compared with, made once: a style's Grams, a content's features.

A style's statistics are made once per style and level however many jobs use it. They are
kept on the host, bounded, and copied into the slots of each batch that asks for them.
"""

import collections
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine.canvas import Size, fitted, square_canvas
from nst_jax.engine.levels import Stage
from nst_jax.engine.prepared import Picture, PreparedJob
from nst_jax.engine.programs import Programs
from nst_jax.files.images import resized
from nst_jax.model.objective import Targets
from nst_jax.spec.options import shares

_KEPT_BYTES = 2**28

Statistics = Mapping[str, Any]
"""Arrays by tap: features or Gram matrices, on the host."""


class TargetMaker:
    """Makes the targets of jobs and remembers the recent ones."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._recent = _Recent(_KEPT_BYTES)

    def targets(self, job: PreparedJob, stage: Stage) -> Targets:
        """One job's targets at one of its stages, as host arrays on the stage's canvas."""
        return Targets(content=self._content(job, stage), style=self._blended(job, stage))

    def _content(self, job: PreparedJob, stage: Stage) -> Statistics:
        taps = job.options.content_taps
        key = ("content", job.content.key, stage.size, stage.canvas, taps)

        def make() -> Statistics:
            image, size = on_canvas(resized(job.content.pixels, stage.size), stage.canvas)
            return self._programs.content_features(stage.canvas, taps, image, size)

        return self._recent.get(key, make)

    def _blended(self, job: PreparedJob, stage: Stage) -> Statistics:
        """The Grams of a job's styles, averaged by their blend weights."""
        weights = shares(job.options.style_blend_weights, len(job.styles))
        grams = [self._grams(style, job.options.style_taps, stage) for style in job.styles]
        weighted = list(zip(map(np.float32, weights), grams, strict=True))
        return {
            tap: sum(weight * gram[tap] for weight, gram in weighted)
            for tap in job.options.style_taps
        }

    def _grams(self, style: Picture, taps: tuple[str, ...], stage: Stage) -> Statistics:
        canvas = square_canvas(stage.style_edge)

        def make() -> Statistics:
            size = fitted(style.size, stage.style_edge)
            image, own = on_canvas(resized(style.pixels, size), canvas)
            return self._programs.style_grams(canvas, taps, image, own)

        return self._recent.get(("style", style.key, stage.style_edge, taps), make)


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


def _size_bytes(statistics: Statistics) -> int:
    return sum(array.nbytes for array in statistics.values())
