"""What a job asks of the solver at one of its levels: its options as arrays on the host."""

from typing import Any

import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.optimizers import AdamSettings, Schedule
from nst_jax.engine.device.solver import Problem
from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.plan.levels import Level
from nst_jax.model.objective import GradientNorms, Targets, TermWeights
from nst_jax.request.options import JobOptions, normalized_weights


def make_problem(own: JobOptions, level: Level, targets: Targets) -> Problem:
    """One job's problem, without a slot axis.

    Args:
        own: The job's options.
        level: Where it is.
        targets: What its image is compared with there.
    """
    return Problem(
        size=_host(level.size_on_canvas, np.int32),
        targets=targets,
        weights=loss_weights(own, level.size),
        learning_rate=_host(own.learning_rate),
        schedule=_schedule(own, level),
        adam=AdamSettings(*map(_host, (own.adam_b1, own.adam_b2, own.adam_eps))),
        bounds=_host((0, 1) if own.clip == "each_step" else (-np.inf, np.inf)),
        average_decay=_host(own.average_decay),
        steps=_host(level.steps, np.int32),
        early_stop=_host(own.early_stop),
    )


def loss_weights(own: JobOptions, size: Size) -> TermWeights:
    """A job's weights as arrays on the host, those of taps by name and summing to 1.

    Args:
        own: The job's options.
        size: Of its image, for a smoothness that counts as a sum.
    """
    content = normalized_weights(own.content_tap_weights, len(own.content_taps))
    style = normalized_weights(
        own.style_tap_weights, len(own.style_taps), ratio=own.style_tap_ratio
    )
    values = 3 * size[0] * size[1] if own.tv_normalization == "sum" else 1
    return TermWeights(
        content=_host(own.content_weight),
        style=_host(own.style_weight),
        tv=_host(own.tv_weight * values),
        content_taps=_by_tap(own.content_taps, content),
        style_taps=_by_tap(own.style_taps, style),
        gradient_norms=None
        if own.gradient_normalization == "none"
        else GradientNorms(
            content=_by_tap(own.content_taps, content, own.content_weight),
            style=_by_tap(own.style_taps, style, own.style_weight),
        ),
    )


def _schedule(own: JobOptions, level: Level) -> Schedule:
    """How the rate falls in a level, as arrays on the host."""
    return Schedule(
        cosine=_host(own.learning_rate_schedule == "cosine"),
        exponential=_host(own.learning_rate_schedule == "exponential"),
        end=_host(own.learning_rate_end),
        steps=_host(level.steps, np.int32),
    )


def _by_tap(
    taps: tuple[str, ...], weights: tuple[float, ...], factor: float = 1.0
) -> dict[str, Any]:
    return {tap: _host(factor * weight) for tap, weight in zip(taps, weights, strict=True)}


def _host(value: Any, dtype: npt.DTypeLike = np.float32) -> Any:
    """A number or several as an array that is still on the host."""
    return np.asarray(value, dtype)
