"""Covering arrays: few rows in which every value of a factor meets every value of every other."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

_CANDIDATES = 12

Pair = tuple[tuple[str, Hashable], tuple[str, Hashable]]
"""Two factors, in the order of their names, with the place of a value of each."""


def covering(factors: Mapping[str, Sequence[Any]], *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with a value for each factor; the best of some random ones, again and again."""
    rng = np.random.default_rng(seed)
    places = {name: range(len(values)) for name, values in sorted(factors.items())}
    missing = dict.fromkeys(
        pair
        for one, other in itertools.combinations(places, 2)
        for pair in itertools.product(_with(one, places[one]), _with(other, places[other]))
    )
    rows = []
    while missing:
        wanted = dict(next(iter(missing)))
        candidates = [
            {name: int(rng.integers(len(each))) for name, each in places.items()} | wanted
            for _ in range(_CANDIDATES)
        ]
        best = max(candidates, key=lambda row: sum(pair in missing for pair in pairs_of(row)))
        for pair in pairs_of(best):
            missing.pop(pair, None)
        rows.append({name: factors[name][place] for name, place in best.items()})
    return rows


def pairs_of(row: Mapping[str, Hashable]) -> list[Pair]:
    return list(itertools.combinations(sorted(row.items()), 2))


def _with(name: str, places: range) -> list[tuple[str, int]]:
    return [(name, place) for place in places]
