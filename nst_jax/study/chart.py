"""Lines over a logarithmic scale, as shapes that a page can draw."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 640, 280
_LEFT, _BOTTOM = 52, 26
_TONES = ("#2f6f8f", "#b4602f", "#7b8b52", "#8a5a83", "#b39130", "#4b6c5f", "#a8481f", "#5d6a8a")

Series = Sequence[tuple[float, float]]
"""Points (x, y); those whose y is not above 0 are left out."""


class Line(NamedTuple):
    """One series: its name, colour and path."""

    name: str
    tone: str
    path: str


class Chart(NamedTuple):
    """What a page draws.

    Attributes:
        title: Above it.
        lines: In order.
        marks: Heights of the grid's lines, with what they stand for.
        ends: What the left and the right end stand for.
    """

    title: str
    lines: Sequence[Line]
    marks: Sequence[tuple[float, str]]
    ends: tuple[str, str]


def draw_chart(title: str, series: Mapping[str, Series], unit: str = "step") -> Chart | None:
    """A chart of several series; None where there is nothing to draw."""
    shown = {name: [point for point in points if point[1] > 0] for name, points in series.items()}
    points = [point for each in shown.values() for point in each]
    if not points:
        return None
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    low = math.floor(math.log10(min(y for _, y in points)))
    high = max(low + 1, math.ceil(math.log10(max(y for _, y in points))))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first or 1)
        down = (high - math.log10(y)) / (high - low)
        return _LEFT + across * (WIDTH - _LEFT), down * (HEIGHT - _BOTTOM)

    lines = [
        Line(name, _TONES[number % len(_TONES)], _path([place(*point) for point in each]))
        for number, (name, each) in enumerate(shown.items())
        if each
    ]
    every = max(1, math.ceil((high - low) / 6))
    marks = [
        (place(first, 10.0**power)[1], f"{10.0**power:g}") for power in range(low, high + 1, every)
    ]
    return Chart(title, lines, marks, (f"{unit} {first:g}", f"{unit} {last:g}"))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{'L' if n else 'M'}{x:.1f} {y:.1f}" for n, (x, y) in enumerate(points))
