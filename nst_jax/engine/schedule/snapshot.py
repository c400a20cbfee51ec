"""Where a job stands between two chunks: all that its further steps follow from.

A job is either inside a stage, then this is the device's state, or between two, then it is
what the job carries along. Both are trees of arrays; here they are plain host arrays by name,
so that a file can hold them whatever the optimiser is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from nst_jax.engine.curve import LossPoint

Place = tuple[int, int]
"""Where a stage stands in the order of all: level, then phase."""

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True, eq=False)
class JobSnapshot:
    """Where one job stands.

    Attributes:
        index: The job's position in the run's list.
        place: The stage that it is in, or the one that it enters next.
        within: Whether it is inside that stage.
        steps: Steps taken in the stages before.
        seconds: Its share of the time in steps so far.
        compile_seconds: Its share of the time in compilations so far.
        terms: The objective at the end of the stage before.
        curve: The objective on the way, as far as it was looked at.
        arrays: The device's state within a stage, else what the job carries, by name.
    """

    index: int
    place: Place
    within: bool
    steps: int
    seconds: float
    compile_seconds: float
    terms: Mapping[str, float]
    curve: Sequence[LossPoint]
    arrays: Mapping[str, np.ndarray]


def to_named_leaves(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree as host arrays, by their paths in it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def from_named_leaves(template: Tree, arrays: Mapping[str, np.ndarray]) -> Tree:
    """A tree like the template with other values; Python numbers stay such.

    Raises:
        ValueError: The arrays are those of another tree.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    if sorted(names) != sorted(arrays):
        raise ValueError("the arrays have other names")
    values = [_like(leaf, arrays[name]) for name, (_, leaf) in zip(names, leaves, strict=True)]
    return jax.tree_util.tree_unflatten(structure, values)


def _like(leaf: Any, array: np.ndarray) -> Any:
    wanted = np.asarray(leaf)
    if array.shape != wanted.shape or array.dtype != wanted.dtype:
        raise ValueError("an array has another shape or type")
    return type(leaf)(array) if isinstance(leaf, (int, float)) else array
