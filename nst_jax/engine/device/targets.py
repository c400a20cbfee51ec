"""What images are compared with, made once: what a style asks, a content's features.

A style's statistics are made once per style and level however many jobs use it. They are made on
the first device and stay there, bounded, until they are copied into the slots that ask for them.
Several styles of one job meet here, as the average of their statistics.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from nst_jax.engine.device.programs import ProgramCache, Taps
from nst_jax.engine.inputs import masks
from nst_jax.engine.inputs.load import LoadedJob, LoadedPicture
from nst_jax.engine.inputs.placed_image import PlacedImage, place_on_canvas
from nst_jax.engine.inputs.recent_cache import RecentCache
from nst_jax.engine.plan.canvas import fit_long_edge, square_canvas
from nst_jax.engine.plan.levels import Level
from nst_jax.engine.plan.memory_model import target_cache_bytes
from nst_jax.files.images import resize
from nst_jax.model.content import ContentTarget
from nst_jax.model.objective import Targets
from nst_jax.model.style import Moments, RegionsTarget, StyleTarget
from nst_jax.model.variation import (
    AbsoluteVariation,
    NinePointVariation,
    SquaredVariation,
    Variation,
)
from nst_jax.request.options import JobOptions, Options, StyleLoss, normalized_weights
from nst_jax.request.taps import PIXELS

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
        """One job's targets at one of its levels, on its canvas: arrays of host or device."""
        ...

    def forget(self) -> None:
        """Drops what it remembers on the devices: one of them has failed, or needs the memory."""
        ...


class TargetCache:
    """Makes the targets of jobs on the first device and remembers the recent ones there.

    A target follows from its key alone: it has the same bytes whether it was kept or made again.
    """

    def __init__(self, programs: ProgramCache, options: Options) -> None:
        """Starts empty; of the run's options `style_loss` and `tv_loss` count."""
        self._programs = programs
        self._style_loss: StyleLoss = options.style_loss
        self._variation = VARIATIONS[options.tv_loss]
        self._recent = RecentCache(target_cache_bytes(programs.devices.memory_bytes), _size_bytes)

    def make_targets(self, job: LoadedJob, level: Level) -> Targets:
        """One job's targets at one of its levels; only masks are arrays of the host."""
        return Targets(
            self._content_targets(job, level), self._style_targets(job, level), self._variation
        )

    def forget(self) -> None:
        """Drops all targets, as after a fault of the device that holds them."""
        self._recent.forget()

    def _content_targets(self, job: LoadedJob, level: Level) -> Mapping[str, ContentTarget]:
        own, content = job.options, job.content
        taps, normalized = own.content_taps, own.content_normalization
        mixed = bool(own.pixel_blend) and PIXELS in taps
        others = (own, *(style.key for style in job.styles)) if mixed else ()
        place = level.size, level.canvas
        key = ("content", content.key, content.size, place, taps, normalized, others)

        def look_at(placed: PlacedImage, taps: Taps) -> dict[str, ContentTarget]:
            turned = level.is_transposed
            return self._programs.content_targets(level.canvas, taps, normalized, *placed, turned)

        def make() -> Mapping[str, ContentTarget]:
            asked = look_at(content.place(*place), taps)
            return asked | look_at(_pixel_target(job, level), (PIXELS,)) if mixed else asked

        return self._recent.get(key, make)

    def _style_targets(self, job: LoadedJob, level: Level) -> Mapping[str, StyleTarget]:
        """What a job's styles ask at a level: together everywhere, or each in its region."""
        own = job.options
        blend = normalized_weights(own.style_blend_weights, len(job.styles))
        if not job.masks:
            return self._blend_styles(job.styles, blend, own, level)
        apart = [self._blend_styles([style], (1.0,), own, level) for style in job.styles]
        weights = masks.tap_weights(
            job.masks, level.size, level.canvas, own.style_taps, level.is_transposed
        )
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
    ) -> Mapping[str, StyleTarget]:
        """What styles ask together."""
        how = own.style_taps, self._style_loss, own.style_normalization
        keys = tuple(style.key for style in styles)

        def make() -> Mapping[str, StyleTarget]:
            moments = [self._moments(style, own.style_taps, level) for style in styles]
            return self._programs.style_targets(*how, moments, np.asarray(blend, np.float32))

        return self._recent.get((*how, keys, blend, level.style_edge), make)

    def _moments(self, style: LoadedPicture, taps: Taps, level: Level) -> Mapping[str, Moments]:
        canvas = square_canvas(level.style_edge)

        def make() -> Mapping[str, Moments]:
            size = fit_long_edge(style.size, level.style_edge)
            weights = None
            if style.mask is not None:
                regions = masks.tap_weights([style.mask], size, canvas, taps)
                weights = {tap: region[0] for tap, region in regions.items()}
            return self._programs.style_moments(canvas, taps, *style.place(size, canvas), weights)

        return self._recent.get(("style", style.key, level.style_edge, taps), make)


def _pixel_target(job: LoadedJob, level: Level) -> PlacedImage:
    """Content and styles blended pixel by pixel, the styles stretched to the content's shape."""
    blend, size = job.options.pixel_blend, level.size
    weights = normalized_weights(job.options.style_blend_weights, len(job.styles))
    styles = sum(
        np.float32(weight) * resize(style.pixels, size)
        for weight, style in zip(weights, job.styles, strict=True)
    )
    mixed = (1 - blend) * job.content_at(size) + blend * styles
    return place_on_canvas(np.asarray(mixed, np.float32), level.canvas, level.is_transposed)


def _size_bytes(statistics: Mapping[str, Any]) -> int:
    return sum(array.nbytes for array in jax.tree.leaves(dict(statistics)))
