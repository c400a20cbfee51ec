"""What images are compared with, made once: what a style asks, a content's features.

A style's statistics are made once per style and level however many jobs use it. They are
kept on the host, bounded, and copied into the slots of each batch that asks for them.
Several styles of one job meet here, as the average of their statistics.
"""

import collections
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.programs import ProgramCache, Taps
from nst_jax.engine.inputs import masks
from nst_jax.engine.inputs.load import LoadedJob, LoadedPicture, place_on_canvas
from nst_jax.engine.plan.canvas import Size, fit_long_edge, square_canvas
from nst_jax.engine.plan.levels import Level
from nst_jax.files.images import resize
from nst_jax.model.content import ContentTarget
from nst_jax.model.objective import Targets
from nst_jax.model.style import GramTarget, Moments, MomentsTarget, RegionsTarget, StyleTarget
from nst_jax.model.variation import (
    AbsoluteVariation,
    NinePointVariation,
    SquaredVariation,
    Variation,
)
from nst_jax.model.wasserstein import WassersteinTarget
from nst_jax.request.options import JobOptions, Options, StyleLoss, normalized_weights
from nst_jax.request.taps import PIXELS, poolings_before

_KEPT_BYTES = 2**28

Statistics = Mapping[str, Any]
"""By tap, on the host: features, moments, or targets."""

VARIATIONS: Mapping[str, Variation] = {
    "squared": SquaredVariation(),
    "absolute": AbsoluteVariation(),
    "nine_point": NinePointVariation(),
}
"""By the option `tv_loss`."""


@runtime_checkable
class TargetProvider(Protocol):
    """Says what a job's images are compared with."""

    def make_targets(self, job: LoadedJob, level: Level) -> Targets:
        """One job's targets at one of its levels, as host arrays on the level's canvas."""
        ...


class TargetCache:
    """Makes the targets of jobs and remembers the recent ones."""

    def __init__(self, programs: ProgramCache, options: Options) -> None:
        """Starts empty; of the run's options `style_loss` and `tv_loss` count."""
        self._programs = programs
        self._style_loss: StyleLoss = options.style_loss
        self._variation = VARIATIONS[options.tv_loss]
        self._recent = _LRUCache(_KEPT_BYTES)

    def make_targets(self, job: LoadedJob, level: Level) -> Targets:
        """One job's targets at one of its levels, as host arrays on the level's canvas."""
        return Targets(
            self._content_targets(job, level), self._style_targets(job, level), self._variation
        )

    def _content_targets(self, job: LoadedJob, level: Level) -> Statistics:
        normalized = job.options.content_normalization
        return {
            tap: ContentTarget.from_features(features, _positions(level.size, tap), normalized)
            for tap, features in self._content_features(job, level).items()
        }

    def _content_features(self, job: LoadedJob, level: Level) -> Statistics:
        taps = job.options.content_taps
        mixed = bool(job.options.pixel_blend) and PIXELS in taps
        others = (job.options, *(style.key for style in job.styles)) if mixed else ()
        key = ("content", job.content.key, level.size, level.canvas, taps, others)

        def make() -> Statistics:
            image, size = place_on_canvas(job.content_at(level.size), level.canvas)
            features = self._programs.content_features(level.canvas, taps, image, size)
            if mixed:
                features[PIXELS], _ = place_on_canvas(_pixel_target(job, level.size), level.canvas)
            return features

        return self._recent.get(key, make)

    def _style_targets(self, job: LoadedJob, level: Level) -> Statistics:
        """What a job's styles ask at a level: together everywhere, or each in its region."""
        own = job.options
        blend = normalized_weights(own.style_blend_weights, len(job.styles))
        if not job.masks:
            return self._blend_styles(job.styles, blend, own, level)
        apart = [self._blend_styles([style], (1.0,), own, level) for style in job.styles]
        weights = masks.tap_weights(job.masks, level.size, level.canvas, own.style_taps)
        strengths = np.asarray(blend, np.float32) * len(blend)  # 1 for each where none are given
        return {
            tap: RegionsTarget.of((one[tap] for one in apart), weights[tap], strengths)
            for tap in own.style_taps
        }

    def _blend_styles(
        self,
        styles: Sequence[LoadedPicture],
        blend: tuple[float, ...],
        own: JobOptions,
        level: Level,
    ) -> Statistics:
        """What styles ask together."""
        taps = own.style_taps
        asked = self._style_loss, own.style_normalization
        keys = tuple(style.key for style in styles)
        key = (*asked, keys, blend, level.style_edge, taps)

        def make() -> Statistics:
            moments = [self._moments(style, taps, level) for style in styles]
            return {
                tap: make_style_target(
                    *asked, _average_moments([one[tap] for one in moments], blend)
                )
                for tap in taps
            }

        return self._recent.get(key, make)

    def _moments(self, style: LoadedPicture, taps: Taps, level: Level) -> Statistics:
        canvas = square_canvas(level.style_edge)

        def make() -> Statistics:
            size = fit_long_edge(style.size, level.style_edge)
            image, own = place_on_canvas(resize(style.pixels, size), canvas)
            weights = None
            if style.mask is not None:
                regions = masks.tap_weights([style.mask], size, canvas, taps)
                weights = {tap: region[0] for tap, region in regions.items()}
            return self._programs.style_moments(canvas, taps, image, own, weights)

        return self._recent.get(("style", style.key, level.style_edge, taps), make)


def make_style_target(kind: StyleLoss, normalized: str, moments: Moments) -> StyleTarget:
    """What a style with these moments asks where styles are compared in this way."""
    on_host = np.asarray(moments.mean), np.asarray(moments.second)
    match kind:
        case "gram":
            return GramTarget.from_moments(*on_host, normalized)
        case "moments":
            return MomentsTarget.from_moments(*on_host, normalized)
        case "wasserstein":
            return WassersteinTarget.from_moments(*on_host)
        case "wasserstein_full":
            return WassersteinTarget.from_moments(*on_host, rank=len(on_host[0]))


def _pixel_target(job: LoadedJob, size: Size) -> npt.NDArray[np.float32]:
    """Content and styles blended pixel by pixel, the styles stretched to the content's shape."""
    blend = job.options.pixel_blend
    weights = normalized_weights(job.options.style_blend_weights, len(job.styles))
    styles = sum(
        np.float32(weight) * resize(style.pixels, size)
        for weight, style in zip(weights, job.styles, strict=True)
    )
    mixed = (1 - blend) * job.content_at(size) + blend * styles
    return np.asarray(mixed, np.float32)


class _LRUCache:
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


def _average_moments(moments: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """The moments of several styles as if they were one, each with its weight."""

    def average(*arrays: Any) -> Any:
        weighted = zip(map(np.float32, weights), arrays, strict=True)
        return sum(weight * array for weight, array in weighted)

    return jax.tree.map(average, *moments)


def _positions(size: Size, tap: str) -> int:
    """How many positions an image of this size has at a tap."""
    height, width = (side >> poolings_before(tap) for side in size)
    return height * width


def _size_bytes(statistics: Statistics) -> int:
    return sum(array.nbytes for array in jax.tree.leaves(dict(statistics)))
