"""One optimisation step of one job, and the compiled program that runs many steps of many jobs.

The step is written for one image; `jax.vmap` makes it a batch with the network unmapped.
What differs from job to job is an array in `Problem`, so a sweep over weights, rates or
steps is one compilation, and so is a chunk of any length. Jobs never meet: no sum, mean
or collective goes over slots.

The result is not the last image but a moving average of the last ones, ten or so by default:
at a constant rate Adam never rests, and its wobble averages out.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int, Int32

from nst_jax.engine.device import optimizers
from nst_jax.engine.device.optimizers import AdamSettings, Schedule
from nst_jax.model.objective import Targets, Terms, TermWeights, objective
from nst_jax.model.vgg import VGG

_TREND_DECAY = 0.9
"""The memory of the moving average by which a job's progress is judged."""

CHECK_EVERY = 20
"""Steps between two looks at whether a job has converged."""


class Problem(NamedTuple):
    """What one job asks of the solver, all traced.

    Attributes:
        size: Of the image, in pixels.
        targets: What it is compared with.
        weights: Of the terms.
        learning_rate: Adam's step size at the level's beginning.
        schedule: How that falls.
        adam: Adam's constants.
        bounds: The least and the greatest value that a step may leave a pixel at.
        average_decay: The memory of the image's moving average; 0: the last image.
        steps: To take, at most.
        early_stop: Least relative fall of the loss between two looks; 0: never stop early.
    """

    size: Int[Array, "2"]
    targets: Targets
    weights: TermWeights
    learning_rate: Float32[Array, ""]
    schedule: Schedule
    adam: AdamSettings
    bounds: Float32[Array, "2"]
    average_decay: Float32[Array, ""]
    steps: Int32[Array, ""]
    early_stop: Float32[Array, ""]


class LossTrend(NamedTuple):
    """How a job's objective has been falling.

    Attributes:
        smoothed: Moving average of the total.
        reference: The same when it was last looked at.
        converged: Whether it fell by less than `early_stop` between two looks.
    """

    smoothed: Float32[Array, ""]
    reference: Float32[Array, ""]
    converged: Bool[Array, ""]


class State(NamedTuple):
    """Where one job stands.

    Attributes:
        image: float32 RGB in [0, 1], in the top left corner of its canvas.
        optimizer: Adam's moments, an `optax.ScaleByAdamState`, or L-BFGS's memory.
        average: Moving average of the image over the level's steps, at its start the image itself;
            that of the last level is the job's result.
        averaged: How much of the average's weight is filled, from 0 to nearly 1.
        step: Steps taken.
        terms: The objective at the image before the last step.
        trend: How the objective has been falling.
        finite: False once a step left the finite numbers; the image is the last good one.
    """

    image: Float32[Array, "h w 3"]
    optimizer: Any
    average: Float32[Array, "h w 3"]
    averaged: Float32[Array, ""]
    step: Int32[Array, ""]
    terms: Terms
    trend: LossTrend
    finite: Bool[Array, ""]


def is_active(state: State, problem: Problem) -> Bool[Array, ""]:
    """Whether a job still moves: it has steps left, is finite and has not converged."""
    return state.finite & ~state.trend.converged & (state.step < problem.steps)


def take_step(state: State, problem: Problem, network: VGG) -> State:
    """One step of one job: gradient, optimiser, clipping to the job's bounds, and the averages.

    A job that is not active stands still.
    """

    def loss(image: Float32[Array, "h w 3"]) -> tuple[Float32[Array, ""], Terms]:
        return objective(image, network, problem.size, problem.targets, problem.weights)

    (value, terms), gradient = jax.value_and_grad(loss, has_aux=True)(state.image)
    change, optimizer = optimizers.update(
        state.optimizer,
        state.image,
        gradient,
        value,
        lambda image: loss(image)[0],
        rate=problem.learning_rate * problem.schedule.multiplier(state.step),
        adam=problem.adam,
    )
    image = jnp.clip(state.image + change, *problem.bounds)
    finite = _all_finite((terms.total, image, optimizers.moments(optimizer)))
    average, averaged = _update_average(state, image, problem.average_decay)
    moved = State(
        image,
        optimizer,
        average,
        averaged,
        state.step + 1,
        terms,
        _update_trend(state, terms.total, problem.early_stop),
        finite,
    )
    active = is_active(state, problem)
    kept = jax.tree.map(lambda new, old: jnp.where(active & finite, new, old), moved, state)
    return kept._replace(finite=state.finite & (finite | ~active))


def run_chunk(
    states: State, problems: Problem, network: VGG, num_steps: Int[Array, ""]
) -> tuple[State, Float32[Array, "slots 7"]]:
    """`num_steps` steps of every slot of a batch, and a report of it for the host.

    The loop is `lax.fori_loop` with a traced bound, which is `lax.scan` without a stacked
    output: chunks of all lengths are one compilation. The report is an array of its own, so that
    the next chunk may consume the states before anybody has read it.
    """
    after = jax.lax.fori_loop(
        0, num_steps, lambda _, now: _step_all(now, problems, network), states
    )
    told = after.step, after.finite, after.trend.converged, *after.terms
    return after, jnp.stack([one.astype(jnp.float32) for one in told], axis=-1)


def _step_all(states: State, problems: Problem, network: VGG) -> State:
    """One step of every slot: of all together, or one after the other where the
    optimiser has a line search.

    A line search is a loop of its own, of another length for each job. Mapped, it would run as
    long as the longest, and take the network's kernels for one of each image.
    """
    if optimizers.has_line_search(states.optimizer):
        return jax.lax.map(lambda slot: take_step(slot[0], slot[1], network), (states, problems))
    return jax.vmap(take_step, in_axes=(0, 0, None))(states, problems, network)


def _all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number is finite; Adam's too, because an infinite moment stops all motion."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def _update_average(
    state: State, image: Float32[Array, "h w 3"], decay: Float32[Array, ""]
) -> tuple[Float32[Array, "h w 3"], Float32[Array, ""]]:
    """The moving average with one more image in it. It is a true mean from the first on."""
    old = decay * state.averaged
    weight = old + (1 - decay)
    return (old * state.average + (1 - decay) * image) / weight, weight


def _update_trend(
    state: State, total: Float32[Array, ""], early_stop: Float32[Array, ""]
) -> LossTrend:
    """The trend after one more step.

    It follows from the job's own steps alone, so that a job stops at the same step whatever
    the chunks are.
    """
    smoothed = jnp.where(
        state.step == 0,
        total,
        _TREND_DECAY * state.trend.smoothed + (1 - _TREND_DECAY) * total,
    )
    looks = (state.step + 1) % CHECK_EVERY == 0
    fallen = state.trend.reference - smoothed
    stalled = fallen < early_stop * state.trend.reference
    return LossTrend(
        smoothed,
        jnp.where(looks, smoothed, state.trend.reference),
        looks & stalled & (early_stop > 0),
    )
