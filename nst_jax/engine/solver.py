"""One optimisation step of one job, and the compiled program that runs many of both.

The step is written for one image; `jax.vmap` makes it a batch with the network unmapped.
What differs from job to job is an array in `Problem`, so a sweep over weights, rates or
steps is one compilation, and so is a chunk of any length. Jobs never meet: no sum, mean
or collective goes over slots.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from nst_jax.model.objective import Targets, Terms, TermWeights, objective
from nst_jax.model.vgg import VGG

# The second moment forgets in about 100 steps instead of optax's 1000: schedules here are
# short, and the gradients' size falls by orders of magnitude within one.
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.99, eps=1e-8)


class Problem(NamedTuple):
    """What one job asks of the solver, all traced."""

    size: Int[Array, "2"]
    targets: Targets
    weights: TermWeights
    learning_rate: Float32[Array, ""]
    steps: Int32[Array, ""]


class State(NamedTuple):
    """Where one job stands.

    Attributes:
        image: float32 RGB in [0, 1], in the top left corner of its canvas.
        optimizer: Adam's moments.
        step: Steps taken.
        terms: The objective at the image before the last step.
        finite: False once a step left the finite numbers; the image is the last good one.
    """

    image: Float32[Array, "h w 3"]
    optimizer: optax.OptState
    step: Int32[Array, ""]
    terms: Terms
    finite: Bool[Array, ""]


def start(image: Float[Array, "h w 3"]) -> State:
    """The state before the first step."""
    zero = jnp.float32(0)
    return State(
        image=image,
        optimizer=_ADAM.init(image),
        step=jnp.int32(0),
        terms=Terms(zero, zero, zero, zero),
        finite=jnp.bool_(True),
    )


def advance(state: State, problem: Problem, network: VGG) -> State:
    """One step of one job: gradient, Adam, and back into [0, 1].

    A job that has taken its steps, or has left the finite numbers, stands still.
    """
    (_, terms), gradient = jax.value_and_grad(objective, has_aux=True)(
        state.image, network, problem.size, problem.targets, problem.weights
    )
    direction, optimizer = _ADAM.update(gradient, state.optimizer)
    rate = problem.learning_rate * _remaining(state.step, problem.steps)
    image = jnp.clip(state.image - rate * jnp.asarray(direction), 0, 1)
    finite = _all_finite((terms.total, image, optimizer))
    moved = State(image, optimizer, state.step + 1, terms, finite)
    active = state.finite & (state.step < problem.steps)
    kept = jax.tree.map(lambda new, old: jnp.where(active & finite, new, old), moved, state)
    return kept._replace(finite=state.finite & (finite | ~active))


def _all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number is finite; Adam's too, because an infinite moment stops all motion."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def _remaining(step: Int32[Array, ""], steps: Int32[Array, ""]) -> Float32[Array, ""]:
    """The share of the learning rate that is left: all for half the steps, then ever less.

    At a constant rate Adam never rests, and its last wobble stays in the picture as noise.
    The second half follows a cosine from 1 to nearly 0.
    """
    done = step.astype(jnp.float32) / jnp.maximum(steps, 1).astype(jnp.float32)
    return 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(2 * done - 1, 0, 1)))


def run_chunk(states: State, problems: Problem, network: VGG, num_steps: Int[Array, ""]) -> State:
    """`num_steps` steps of every slot of a batch, without leaving the device.

    The loop is `lax.fori_loop` with a traced bound, which is `lax.scan` without a stacked
    output: chunks of all lengths are one compilation.
    """
    step = jax.vmap(advance, in_axes=(0, 0, None))
    return jax.lax.fori_loop(0, num_steps, lambda _, now: step(now, problems, network), states)
