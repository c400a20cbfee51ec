"""How much style, and how it is approached: weights by learning rates, or by steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from nst_jax.request.job import PictureSource
from nst_jax.request.options import Options, job_options
from nst_jax.request.studies import LEARNING_RATES, STYLE_WEIGHTS, study_options
from nst_jax.study.study import HowToRun, Study, Trial, check_values, open_pair, run_trials

_TEXT = (
    "Each row has another weight of the style, each column another way to go there. All else is "
    "the same. The weights are arrays of one program, so the whole grid is one compilation a "
    "level.",
)


def study_balance(
    content: PictureSource,
    style: PictureSource,
    output_dir: str | Path,
    options: Options | None = None,
    *,
    style_weights: Sequence[float] = STYLE_WEIGHTS,
    learning_rates: Sequence[float] = LEARNING_RATES,
    step_counts: Sequence[int] = (),
    **how: Unpack[HowToRun],
) -> Study:
    """Renders every style weight with every learning rate, or with every number of steps.

    Args:
        content: The content picture.
        style: The style picture.
        output_dir: Where pictures and ledger go.
        options: The run's.
        style_weights: A row each.
        learning_rates: A column each, unless there are step counts.
        step_counts: A column each: steps at each level.
        **how: `progress`, `stop` and `measure`, as `open_pair` takes them.

    Raises:
        RequestError: No row or no column, one of them twice, an option out of its range.
        PictureError: A picture is missing, or too small for a tap.
        StoppedError: It was asked to stop.
    """
    options = options or study_options("balance")
    style_weights = check_values("style_weights", style_weights)
    if len(step_counts):
        name, values = "steps", check_values("step_counts", step_counts)
    else:
        name, values = "learning_rate", check_values("learning_rates", learning_rates)
    trials = [
        Trial(
            row,
            column,
            f"style_weight_{value_text(weight)}__{name}_{value_text(value)}.png",
            job_options(options, style_weight=float(weight), **{name: value}),
        )
        for row, weight in enumerate(style_weights)
        for column, value in enumerate(values)
    ]
    pair = open_pair(content, style, output_dir, options, **how)
    return Study(
        kind="balance",
        title="How much style, and how it is approached",
        text=_TEXT,
        rows=[f"style_weight {value_text(weight)}" for weight in style_weights],
        columns=[f"{name} {value_text(value)}" for value in values],
        cells=run_trials(pair, trials),
        inputs={"content": pair.content, "style": pair.style},
        settings={"style_weights": list(style_weights), name: list(values)},
    )


def value_text(value: float | int) -> str:
    """A value in six digits, or in all it has where six are another value: a name of its own."""
    short = f"{value:g}"
    return short if float(short) == value else str(value)
