"""Where a job stands between two chunks: all that its further steps follow from.

That is the level it is in and the solver's state there. The state is a tree of arrays; here they
are plain host arrays by name, so that a file can hold them whatever the optimiser is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from nst_jax.engine.results import LossPoint

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True, eq=False)
class JobSnapshot:
    """Where one job stands.

    Attributes:
        index: The job's position in the run's list.
        level: The index of the level that it is in.
        steps: Steps taken in the levels before.
        seconds: Its share of the time in steps so far.
        compile_seconds: Its share of the time in compilations so far.
        losses: The objective at the end of the level before.
        curve: The objective on the way, as far as it was looked at.
        arrays: The solver's state in the level, by name; images as they lie on their canvas.
        is_transposed: Whether that is with rows and columns swapped.
    """

    index: int
    level: int
    steps: int
    seconds: float
    compile_seconds: float
    losses: Mapping[str, float]
    curve: Sequence[LossPoint]
    arrays: Mapping[str, np.ndarray]
    is_transposed: bool = False

    @property
    def step_count(self) -> int:
        """Steps taken over all levels; of a foreign state those of the levels behind it."""
        step = np.asarray(self.arrays.get(".step", 0))
        is_count = step.ndim == 0 and step.dtype.kind in "iu"
        return self.steps + (int(step) if is_count else 0)


def to_named_leaves(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree as host arrays, by their paths in it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def from_named_leaves(template: Tree, arrays: Mapping[str, np.ndarray]) -> Tree:
    """A tree like the template with other values.

    Raises:
        ValueError: The arrays are those of another tree.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    if sorted(names) != sorted(arrays):
        raise ValueError("the arrays have other names")
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if (arrays[name].shape, arrays[name].dtype) != (leaf.shape, leaf.dtype):
            raise ValueError("an array has another shape or type")
    return jax.tree_util.tree_unflatten(structure, [arrays[name] for name in names])
