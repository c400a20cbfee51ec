"""Whether batches fit the devices' memory, asked before anything is compiled.

On a CPU there is no other moment: where memory runs out, Linux kills the process.
"""

import dataclasses
from collections.abc import Callable, Iterable

from nst_jax.engine.plan.canvas import Size, size_text, square_canvas
from nst_jax.engine.plan.memory_model import CostModel
from nst_jax.request.errors import OptionError

TapPair = tuple[tuple[str, ...], tuple[str, ...]]
"""A job's content taps and style taps."""


@dataclasses.dataclass(frozen=True)
class MemoryBudget:
    """The memory of each device, and what the programs of a run need of it.

    Attributes:
        costs: The network's.
        taps: The sets of taps that the jobs use; the most expensive one counts.
        limit_bytes: What each device has; None where nobody tells, and everything fits.
    """

    costs: CostModel
    taps: tuple[TapPair, ...]
    limit_bytes: int | None

    @property
    def text(self) -> str:
        """What each device has, in words."""
        return "unknown size" if self.limit_bytes is None else bytes_text(self.limit_bytes)

    def required_bytes(self, canvas: Size, slots: int) -> int:
        """Bytes that stepping `slots` images on one device needs, by estimate."""
        return max(self.costs.step_bytes(canvas, slots, *pair) for pair in self.taps)

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
