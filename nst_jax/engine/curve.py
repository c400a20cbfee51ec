"""How a job's objective fell: a few points on its way, taken where the host looks anyway."""

from collections.abc import Sequence
from typing import NamedTuple

MOST_POINTS = 48
"""Points kept of a job, however long it takes."""

LOOKS_A_STAGE = 8
"""A chunk of a long stage is at most this part of what is left, so that a curve has a shape."""


class LossPoint(NamedTuple):
    """The objective after so many steps over all levels; the parts are unweighted."""

    step: int
    total: float
    content: float
    style: float
    tv: float


class LossCurve:
    """A job's points in order; where there are too many, every second one goes."""

    def __init__(self) -> None:
        self._points: list[LossPoint] = []
        self._gap = 1

    @property
    def points(self) -> tuple[LossPoint, ...]:
        """From the first step to the last one that was looked at."""
        return tuple(self._points)

    def add(self, step: int, terms: Sequence[float]) -> None:
        """Adds a look; one that follows too closely takes the place of the last.

        A step that was there before, because a batch is run again, replaces what followed it.

        Args:
            step: Steps taken over all levels.
            terms: total, content, style, tv.
        """
        total, content, style, tv = map(float, terms)
        point = LossPoint(step, total, content, style, tv)
        while self._points and self._points[-1].step >= step:
            self._points.pop()
        if len(self._points) > 1 and step - self._points[-2].step < self._gap:
            self._points[-1] = point
        else:
            self._points.append(point)
        if len(self._points) > MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        last = self._points[-1:] if len(self._points) % 2 == 0 else []
        self._points = self._points[::2] + last
        span = self._points[-1].step - self._points[0].step
        self._gap = max(1, span // (len(self._points) - 1))
