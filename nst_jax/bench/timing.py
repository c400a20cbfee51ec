"""Timing: warm-up apart, subjects in turns, medians with their spread.

Two programs that are timed one after the other meet different machines: clocks and
neighbours change within minutes. So every round runs all subjects, and a ratio is the
median of the rounds' own ratios, not the ratio of two medians.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

Clock = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Stats:
    """Repeats of one measurement: the median, the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    def map(self, function: Callable[[float], float]) -> "Stats":
        """The spread of a monotonic function's values, rising or falling."""
        ends = sorted((function(self.lowest), function(self.highest)))
        return Stats(function(self.median), ends[0], ends[1])


def summarize(values: Iterable[float]) -> Stats:
    """Median, lowest and highest of at least one value."""
    listed = list(values)
    return Stats(statistics.median(listed), min(listed), max(listed))


def ratio(peer: Sequence[float], ours: Sequence[float]) -> Stats:
    """The rounds' own ratios of the peer's seconds to ours; above 1: ours is faster."""
    return summarize(theirs / own for theirs, own in zip(peer, ours, strict=True))


def interleave(
    subjects: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each subject in each round, after one round of all that is not counted.

    The order turns from round to round, so that nobody always runs on the heels of the same.

    Args:
        subjects: By name; each call does the whole work and waits for its end.
        rounds: How many are timed, 1 or more.
        clock: Tells seconds.
    """
    for subject in subjects.values():
        subject()
    names = list(subjects)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        turn = index % len(names)
        for name in (*names[turn:], *names[:turn]):
            seconds[name].append(time_call(subjects[name], clock=clock))
    return seconds


def time_call(function: Callable[[], object], *, clock: Clock = time.perf_counter) -> float:
    """Seconds of one call."""
    began = clock()
    function()
    return clock() - began


def round_to_digits(value: float, digits: int = 6) -> float:
    """A number rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")
