"""What moves the pixels of one job: Adam or L-BFGS, both optax's, and how fast.

The kind of optimiser is known by its state and so is part of a program's structure. All that
Adam is told is traced and a job's own. L-BFGS has a memory and a line search for each job, and
slots take their steps one after the other.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float32, Int32

from nst_jax.engine.plan.canvas import Size
from nst_jax.request.options import LBFGS_MEMORY, OptimizerKind

_LBFGS = optax.lbfgs(memory_size=LBFGS_MEMORY)
_IMAGE_CHANNELS = 3


class AdamSettings(NamedTuple):
    """Kingma and Ba's β₁, β₂ and ε, as optax calls them."""

    b1: Float32[Array, ""]
    b2: Float32[Array, ""]
    eps: Float32[Array, ""]


class Schedule(NamedTuple):
    """How Adam's rate falls in the course of a level.

    Attributes:
        cosine: 1 where it falls along half a cosine, else 0.
        exponential: 1 where it falls by the same factor at each step, else 0.
        end: What is left of it at the level's end, as a share.
        steps: Steps of the level.
    """

    cosine: Float32[Array, ""]
    exponential: Float32[Array, ""]
    end: Float32[Array, ""]
    steps: Int32[Array, ""]

    def multiplier(self, step: Int32[Array, ""]) -> Float32[Array, ""]:
        """What a step's rate is of the first one's; `step` counts from 0."""
        passed = step / self.steps
        cosine = self.end + (1 - self.end) * (1 + jnp.cos(jnp.pi * passed)) / 2
        exponential = self.end**passed
        constant = 1 - self.cosine - self.exponential
        return constant + self.cosine * cosine + self.exponential * exponential


_DOUBLE_PRECISION = "jax_enable_x64"


def init_state(kind: OptimizerKind, canvas: Size) -> Any:
    """An optimiser's state before its first step, as host arrays of zeros."""
    shapes = _state_shapes(kind, canvas, getattr(jax.config, _DOUBLE_PRECISION))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@functools.lru_cache(maxsize=64)
def _state_shapes(kind: OptimizerKind, canvas: Size, is_double: bool) -> Any:
    del is_double  # but L-BFGS's numbers follow it
    image = jax.ShapeDtypeStruct((*canvas, _IMAGE_CHANNELS), np.float32)
    return jax.eval_shape(_LBFGS.init if kind == "lbfgs" else optax.scale_by_adam().init, image)


def update(
    state: Any,
    image: Float32[Array, "h w 3"],
    gradient: Float32[Array, "h w 3"],
    value: Float32[Array, ""],
    value_of: Callable[[Float32[Array, "h w 3"]], Float32[Array, ""]],
    *,
    rate: Float32[Array, ""],
    adam: AdamSettings,
) -> tuple[Float32[Array, "h w 3"], Any]:
    """What one step adds to an image, and the optimiser's state after it.

    Args:
        state: The optimiser's.
        image: Where it stands.
        gradient: Of the objective there.
        value: Of the objective there.
        value_of: The objective, for a line search.
        rate: Adam's step size.
        adam: Its constants.
    """
    if isinstance(state, optax.ScaleByAdamState):
        direction, state = optax.scale_by_adam(*adam).update(gradient, state)
        return -rate * jnp.asarray(direction), state
    moved, state = _LBFGS.update(
        gradient, state, image, value=value, grad=gradient, value_fn=value_of
    )
    return jnp.asarray(moved), state


def has_line_search(state: Any) -> bool:
    """Whether a step of the optimiser with this state has a line search."""
    return not isinstance(state, optax.ScaleByAdamState)


def moments(state: Any) -> Any:
    """The numbers of a state that must be finite for the next step to be.

    A line search also tells how it ended, and may say infinity.
    """
    return state[0] if has_line_search(state) else state
