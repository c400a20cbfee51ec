"""What a program will cost, operations and memory, and whether that fits the devices.

Compiling a program only to learn its size takes seconds, so batches are planned with these
sums. The operations are exact; bytes are within a fifth of the compiled program's own memory
analysis on CPU, which `tests/test_memory_model.py` checks; on GPU and TPU that was never done. On a
CPU there is no other moment to ask: where memory runs out, Linux kills the process.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

from nst_jax.engine.plan.canvas import Size, size_text, square_canvas
from nst_jax.model import winograd
from nst_jax.request.errors import OptionError
from nst_jax.request.options import LBFGS_MEMORY, OptimizerKind
from nst_jax.request.taps import PIXELS, Architecture, block_of, deepest_tap, poolings_before

_FLOAT32_BYTES = 4
_PICTURE_BYTES = 3 * _FLOAT32_BYTES
"""Of one pixel of an image, a moment or a gradient."""

PICTURES_OF_A_STATE: Mapping[OptimizerKind, int] = {"adam": 4, "lbfgs": 5 + 2 * LBFGS_MEMORY}
"""Image, moving average and two moments, or with L-BFGS three pictures and two for each step that
it remembers; see `solver.State`. A step needs them twice: its outcome stands beside its start
until both are compared."""

_LARGEST_AT_ONCE = 3
"""Features, gradient and workspace of the widest layer, beside those kept for the way back.

Fitted to `compiled.memory_analysis()` on CPU, where Winograd's tiles take up as much.
"""

_IMAGE_GRADIENT_BYTES = 190
"""Of one pixel in the last product of a step, 27 columns and the padded copy of most of them.

Fitted likewise; only a network narrower than any published one needs more here than for its
widest layer.
"""


WAVE_JOBS = 32
"""Jobs that go through the levels together; bounds host memory and the wait for the first."""

WAVE_PIXELS = WAVE_JOBS * 512 * 512
"""That their pictures have together, unless a single one has more."""

_TARGET_CACHE_BYTES = 2**28

_TARGETS_OF_A_JOB = 8
"""As many targets as of its last level a job leaves at the most: those of each level, and the
moments of its styles."""

_VARIATION_BYTES = {"nine_point": 60}
"""Of one pixel, for its differences to all neighbours; fitted likewise."""


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Costs of a network's programs, up to the deepest of some taps.

    Attributes:
        architecture: The network's table.
        channels: Channels in and out of each convolution by its name; a weight file may be
            narrower than its architecture.
        value_bytes: Of one feature: 4 in float32, 2 in bfloat16.
        use_winograd: Whether kernels are prepared for Winograd's algorithm where it pays.
        optimizer: Whose state a step keeps.
        tv_loss: How neighbouring pixels are compared.
    """

    architecture: Architecture
    channels: Mapping[str, tuple[int, int]]
    value_bytes: int
    use_winograd: bool
    optimizer: OptimizerKind = "adam"
    tv_loss: str = "squared"

    def operations(self, canvas: Size, taps: tuple[str, ...]) -> int:
        """Floating point operations of one step of one image, forth and back.

        A multiplication and an addition of the direct convolution count as two, whatever
        algorithm computes it; Gram matrices, some 6 % more, don't count. So it is what the
        literature calls model operations.
        """
        forward = sum(
            2 * 9 * channels_in * channels_out * height * width
            for (height, width), (channels_in, channels_out) in self.convolutions(canvas, taps)
        )
        return 2 * forward

    def step_bytes(
        self,
        canvas: Size,
        slots: int,
        content_taps: tuple[str, ...],
        style_taps: tuple[str, ...],
    ) -> int:
        """Bytes on one device while it steps `slots` images: arguments and temporary memory."""
        taps = (*content_taps, *style_taps)
        pixels = canvas[0] * canvas[1]
        pictures = 2 * PICTURES_OF_A_STATE[self.optimizer] * _PICTURE_BYTES * pixels
        pictures += _VARIATION_BYTES.get(self.tv_loss, 0) * pixels
        features = self._features(canvas, taps)
        at_once = max(_LARGEST_AT_ONCE * max(features, default=0), _IMAGE_GRADIENT_BYTES * pixels)
        working = sum(features) + at_once
        targets = self.target_bytes(canvas, content_taps, style_taps)
        return self.network_bytes(taps) + slots * (pictures + working + targets)

    def target_bytes(
        self, canvas: Size, content_taps: tuple[str, ...], style_taps: tuple[str, ...]
    ) -> int:
        """Bytes of what one image is compared with."""
        targets = sum(self._features_at(tap, canvas) for tap in content_taps)
        return targets + sum(_FLOAT32_BYTES * self._channels_at(tap) ** 2 for tap in style_taps)

    def style_bytes(self, canvas: Size, taps: tuple[str, ...]) -> int:
        """Bytes on one device while a style is looked at, which goes forth alone."""
        pixels = canvas[0] * canvas[1]
        working = _LARGEST_AT_ONCE * max(self._features(canvas, taps), default=0)
        grams = sum(_FLOAT32_BYTES * self._channels_at(tap) ** 2 for tap in taps)
        pictures = 2 * _PICTURE_BYTES * pixels  # as it is, and less the mean
        return self.network_bytes(taps) + pictures + working + grams

    def network_bytes(self, taps: tuple[str, ...]) -> int:
        """Bytes of the kernels up to the deepest tap, prepared for both directions."""
        return sum(
            self.value_bytes * (self._kernel_numbers(pair) * pair[0] * pair[1] + pair[1])
            for _, pair in self.convolutions((1, 1), taps)
        )

    def _kernel_numbers(self, pair: tuple[int, int]) -> int:
        """For each pair of channels: both ways, and a plain one where those are transformed."""
        is_transformed = self.use_winograd and winograd.is_profitable(*pair)
        return 2 * winograd.TILE**2 + 9 if is_transformed else 2 * 9

    def convolutions(
        self, canvas: Size, taps: tuple[str, ...]
    ) -> Iterator[tuple[Size, tuple[int, int]]]:
        """Size and channels of each convolution that the taps need."""
        names = self.architecture.taps
        deepest = names.index(deepest_tap(taps, self.architecture))
        for name in names[: deepest + 1]:
            if name.startswith("conv"):
                yield _size_at(name, canvas), self.channels[name]

    def _features(self, canvas: Size, taps: tuple[str, ...]) -> list[int]:
        """Bytes of each convolution's output; all of them are kept for the way back."""
        return [
            self.value_bytes * height * width * channels_out
            for (height, width), (_, channels_out) in self.convolutions(canvas, taps)
        ]

    def _features_at(self, tap: str, canvas: Size) -> int:
        height, width = _size_at(tap, canvas)
        value_bytes = _FLOAT32_BYTES if tap == PIXELS else self.value_bytes
        return value_bytes * height * width * self._channels_at(tap)

    def _channels_at(self, tap: str) -> int:
        if tap == PIXELS:
            return 3
        block = block_of(tap)
        depth = self.architecture.depths[block - 1] if tap.startswith("pool") else tap[-1]
        return self.channels[f"conv{block}_{depth}"][1]


def _size_at(tap: str, canvas: Size) -> Size:
    poolings = poolings_before(tap)
    return canvas[0] >> poolings, canvas[1] >> poolings


TapPair = tuple[tuple[str, ...], tuple[str, ...]]
"""A job's content taps and style taps."""


@dataclasses.dataclass(frozen=True)
class MemoryBudget:
    """The memory of each device, and what the programs of a run need of it.

    Attributes:
        costs: The network's.
        taps: The sets of taps that the jobs use; the most expensive one counts.
        limit_bytes: What each device has; None where nobody tells, and everything fits.
        jobs: How many there are; those that are not in a slot wait on the first device.
    """

    costs: CostModel
    taps: tuple[TapPair, ...]
    limit_bytes: int | None
    jobs: int = 0

    @property
    def text(self) -> str:
        """What each device has, in words."""
        return "unknown size" if self.limit_bytes is None else bytes_text(self.limit_bytes)

    def required_bytes(self, canvas: Size, slots: int) -> int:
        """Bytes that stepping `slots` images on one device needs, by estimate.

        The network is there twice: pictures that lie transposed have kernels of their own.
        """
        stepping = max(self.costs.step_bytes(canvas, slots, *pair) for pair in self.taps)
        transposed = max(self.costs.network_bytes((*ours, *theirs)) for ours, theirs in self.taps)
        return self.resident_bytes(canvas) + transposed + stepping

    def resident_bytes(self, canvas: Size) -> int:
        """Bytes that stay on the first device whatever it steps.

        They are the target cache, as far as these jobs can fill it, and of each job that waits
        between two levels its state and its content.
        """
        targets = max(self.costs.target_bytes(canvas, *pair) for pair in self.taps)
        cache = target_cache_bytes(self.limit_bytes)
        pictures = PICTURES_OF_A_STATE[self.costs.optimizer] + 1
        waiting = pictures * _PICTURE_BYTES * self._waiting_pixels(canvas)
        return min(cache, self.jobs * _TARGETS_OF_A_JOB * targets) + waiting

    def _waiting_pixels(self, canvas: Size) -> int:
        """Of the jobs that go through the levels together: many small ones, or few large ones."""
        pixels = canvas[0] * canvas[1]
        return min(self.jobs * pixels, max(WAVE_PIXELS, pixels))

    def fits(self, canvas: Size, slots: int) -> bool:
        """Whether one device can step `slots` images of a canvas together."""
        return self.limit_bytes is None or self.required_bytes(canvas, slots) <= self.limit_bytes

    def check_pictures(self, canvases: Iterable[Size]) -> None:
        """Refuses canvases of which not even one fits a device.

        Raises:
            OptionError: The largest does not fit.
        """
        largest = max(canvases, key=lambda canvas: self.required_bytes(canvas, 1), default=(1, 1))
        if self.fits(largest, 1):
            return

        def fits(edge: int) -> bool:
            height, width = (max(1, side * edge // max(largest)) for side in largest)
            return self.fits((height, width), 1)

        size = largest_that_fits(fits, max(largest)) // 16 * 16
        raise OptionError(
            f"a picture must fit the device's memory of {self.text}, got a canvas of "
            f"{size_text(largest)}, which needs {bytes_text(self.required_bytes(largest, 1))}",
            f"--size {size} would fit" if size else "Use a machine with more memory",
        )

    def check_styles(self, edges: Iterable[int]) -> None:
        """Refuses style pictures too large to be looked at.

        Args:
            edges: Long edges in pixels at which the jobs' styles are looked at.

        Raises:
            OptionError: The largest does not fit.
        """
        edge = max(edges, default=0)
        if self._style_fits(edge):
            return
        fitting = largest_that_fits(self._style_fits, edge)
        raise OptionError(
            f"a style must fit the device's memory of {self.text}, got a long edge of {edge} px, "
            f"which needs {bytes_text(self._style_bytes(edge))}",
            f"Lower --size or style_scale, so that their product is at most {fitting}",
        )

    def _style_bytes(self, edge: int) -> int:
        canvas = square_canvas(edge)
        return max(self.costs.style_bytes(canvas, style_taps) for _, style_taps in self.taps)

    def _style_fits(self, edge: int) -> bool:
        return self.limit_bytes is None or self._style_bytes(edge) <= self.limit_bytes


def target_cache_bytes(limit_bytes: int | None) -> int:
    """How much a device may hold of targets that are wanted again.

    Args:
        limit_bytes: What the device has; None where nobody tells.
    """
    if limit_bytes is None:
        return _TARGET_CACHE_BYTES
    return min(_TARGET_CACHE_BYTES, limit_bytes // 16)


def largest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 0 to `most` that fits, where every smaller one fits as well."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def bytes_text(count: int) -> str:
    """Bytes as people say them."""
    if count >= 10**9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.1f} MB"
