"""Which layer for the content, how deep for the style: every combination side by side."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack

from nst_jax.request.errors import OptionError
from nst_jax.request.job import PictureSource
from nst_jax.request.options import JobOptions, Options
from nst_jax.request.studies import BALANCE, RAW, study_options
from nst_jax.request.taps import PIXELS
from nst_jax.study.study import HowToRun, Pair, Study, Trial, open_pair, run_trials
from nst_jax.study.units import apply_units, measure_units

Grid = Literal["full", "content", "style", "corners"]

_TEXT = (
    "Each row keeps the content by another tap of the network, from the pixels themselves down "
    "to the last block. Each column takes the style to another depth: pixel by pixel (raw), the "
    "pixels' colours alone, then from relu1_1 up to the tap in the heading, all together.",
    "Every content term is 1 at the style picture and every style term is 1 at the content "
    "picture, so that the cells are comparable. Below each: its distances to the content at "
    "relu4_2, to the style over five taps, and LPIPS to the content, all measured alike.",
)


def study_layers(
    content: PictureSource,
    style: PictureSource,
    output_dir: str | Path,
    options: Options | None = None,
    *,
    grid: Grid = "full",
    balance: float = BALANCE,
    **how: Unpack[HowToRun],
) -> Study:
    """Renders every content tap with every depth of style, as one batch.

    Args:
        content: The content picture.
        style: The style picture.
        output_dir: Where pictures and ledger go.
        options: The run's. `content_taps` are the rows; `style_taps` the columns, among them
            `raw` and `pixels`.
        grid: `full`; `content`: the deepest column alone; `style`: one row alone, relu4_2 or
            the last but one; `corners`: the first and last of both.
        balance: Weight of the style's term in units; see `nst_jax.study.units`.
        **how: `progress`, `stop` and `measure`, as `open_pair` takes them.

    Raises:
        RequestError: A tap that does not exist, an option out of its range.
        PictureError: A picture is missing, or too small for a tap.
        StoppedError: It was asked to stop.
    """
    options = options or study_options("layers")
    rows, depths = options.content_taps, options.style_taps
    check_balance(balance)
    pair = open_pair(content, style, output_dir, _options_of_all_taps(options), **how)
    trials = _trials(pair, len(rows), depths, grid, balance)
    return Study(
        kind="layers",
        title="Which layer for the content, how deep for the style",
        text=_TEXT,
        rows=[f"content {tap}" for tap in rows],
        columns=[_heading(depth) for depth in depths],
        cells=run_trials(pair, trials),
        inputs={"content": pair.content, "style": pair.style},
        settings={"balance": balance, "grid": grid},
    )


def check_balance(balance: float) -> None:
    """Refuses a weight that is none.

    Raises:
        OptionError: It is not finite, or not above 0.
    """
    if not 0 < balance < 1e30:
        raise OptionError(f"balance must be a finite number above 0, got {balance}")


def _options_of_all_taps(options: Options) -> Options:
    """Options that name every tap of the study, the same for all its trials."""
    return dataclasses.replace(
        options,
        content_taps=tuple(dict.fromkeys((*options.content_taps, PIXELS))),
        style_taps=tuple(tap for tap in options.style_taps if tap != RAW) or (PIXELS,),
        content_tap_weights=(),
        style_tap_weights=(),
    )


def _trials(
    pair: Pair, count: int, depths: Sequence[str], grid: Grid, balance: float
) -> list[Trial]:
    own = pair.prepared.options
    units = measure_units(pair)
    rows = own.content_taps[:count]  # behind them may be pixels, for the raw column
    return [
        Trial(row, column, f"{tap}__{depth}.png", options)
        for row, tap in enumerate(rows)
        for column, depth in enumerate(depths)
        if _is_in(grid, row, column, len(rows), len(depths))
        for options in [apply_units(own, units, tap, _up_to(depth, depths, own), balance)]
    ]


def _is_in(grid: Grid, row: int, column: int, rows: int, columns: int) -> bool:
    match grid:
        case "full":
            return True
        case "content":
            return column == columns - 1
        case "style":
            return row == max(0, rows - 2)
        case "corners":
            return row in (0, rows - 1) and column in (0, columns - 1)


def _up_to(depth: str, depths: Sequence[str], own: JobOptions) -> tuple[str, ...]:
    """The style taps of a column: raw and colours stand alone, the others add up."""
    if depth in (RAW, PIXELS):
        return (depth,)
    deep = [tap for tap in depths if tap not in (RAW, PIXELS)]
    names = deep[: deep.index(depth) + 1]
    places = [tap for tap in depths if tap != RAW]
    return tuple(own.style_taps[places.index(name)] for name in names)


def _heading(depth: str) -> str:
    named = {RAW: "style raw pixels", PIXELS: "style colours alone"}
    return named.get(depth, f"style up to {depth}")
