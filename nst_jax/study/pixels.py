"""What happens without a network: pixels with pixels, colours alone, and hidden layers last."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from nst_jax.files.encode import save_picture
from nst_jax.files.folders import LocalFolder
from nst_jax.files.images import Pixels, resize
from nst_jax.request.errors import OptionError
from nst_jax.request.job import PictureSource
from nst_jax.request.options import Options
from nst_jax.request.studies import BALANCE, RATIOS, RAW, study_options
from nst_jax.request.taps import PIXELS
from nst_jax.study.study import (
    Cell,
    HowToRun,
    Pair,
    Study,
    Trial,
    check_values,
    open_pair,
    run_trials,
)
from nst_jax.study.units import apply_units, measure_units

_ROWS = (
    "plain blend",
    "optimised on pixels",
    "colours of the style",
    "hidden layers",
)

_TEXT = (
    "The first row blends the two pictures; nothing is optimised. The second row optimises a "
    "picture to be near both in its pixels. The sum of two squared distances is a squared "
    "distance to the point between them, so it can only end at the blend above it; the caption "
    "says how far from it the optimiser stopped.",
    "The third row keeps the content's pixels and asks for the style's colours, as means of "
    "products of the three channels, with no sense of where they are: the picture is tinted, and "
    "has no brush. The last row compares hidden layers: the content at its deepest tap, the "
    f"style over all of its taps, the ratio times {BALANCE:g}.",
)


def study_pixels(
    content: PictureSource,
    style: PictureSource,
    output_dir: str | Path,
    options: Options | None = None,
    *,
    ratios: Sequence[float] = RATIOS,
    **how: Unpack[HowToRun],
) -> Study:
    """Blends, raw optimisation, colours and hidden layers, at several ratios, as one batch.

    Args:
        content: The content picture.
        style: The style picture; where pixels meet it is stretched over the content.
        output_dir: Where pictures and ledger go.
        options: The run's; the last of `content_taps` and all `style_taps` make the last row.
        ratios: Shares of the style, a column each.
        **how: `progress`, `stop` and `measure`, as `open_pair` takes them.

    Raises:
        RequestError: A ratio out of (0, 1) or given twice, a tap that does not exist.
        PictureError: A picture is missing, or too small for a tap.
        StoppedError: It was asked to stop.
    """
    options = options or study_options("pixels")
    ratios = _check_ratios(ratios)
    pair = open_pair(content, style, output_dir, _options_of_all_taps(options), **how)
    blends = [_blend(pair, ratio) for ratio in ratios]
    cells = run_trials(pair, _trials(pair, ratios))
    plain = [_write_blend(blend, column, pair) for column, blend in enumerate(blends)]
    return Study(
        kind="pixels",
        title="What happens without a network",
        text=_TEXT,
        rows=_ROWS,
        columns=[f"{100 * ratio:g}% style" for ratio in ratios],
        cells=[*plain, *(_caption_with_error(cell, blends) for cell in cells)],
        inputs={"content": pair.content, "style": pair.style},
        settings={"ratios": list(ratios)},
    )


def _check_ratios(ratios: Sequence[float]) -> tuple[float, ...]:
    ratios = check_values("ratios", ratios)
    if not all(0 < ratio < 1 for ratio in ratios):
        raise OptionError(f"ratios must be numbers between 0 and 1, got {tuple(ratios)}")
    return ratios


def _options_of_all_taps(options: Options) -> Options:
    """Every tap that some row asks for."""
    return dataclasses.replace(
        options,
        content_taps=tuple(dict.fromkeys((PIXELS, *options.content_taps))),
        style_taps=tuple(dict.fromkeys((PIXELS, *options.style_taps))),
        content_tap_weights=(),
        style_tap_weights=(),
    )


def _trials(pair: Pair, ratios: Sequence[float]) -> list[Trial]:
    own, units = pair.prepared.options, measure_units(pair)
    hidden = own.content_taps[-1]
    deep = [tap for tap in own.style_taps if tap != PIXELS] or [PIXELS]
    asked = [(PIXELS, [RAW], 1.0), (PIXELS, [PIXELS], BALANCE), (hidden, deep, BALANCE)]
    names = ("raw", "colours", "hidden")
    return [
        Trial(
            row,
            column,
            f"{names[row - 1]}_{column}.png",
            apply_units(own, units, tap, depth, factor * ratio / (1 - ratio)),
        )
        for row, (tap, depth, factor) in enumerate(asked, start=1)
        for column, ratio in enumerate(ratios)
    ]


def _blend(pair: Pair, ratio: float) -> Pixels:
    """The closed form of the second row."""
    stretched = resize(pair.style, pair.prepared.content.size)
    return np.asarray((1 - ratio) * pair.content + ratio * stretched, np.float32)


def _write_blend(blend: Pixels, column: int, pair: Pair) -> Cell:
    LocalFolder(pair.folder).make()
    output = f"blend_{column}.png"
    save_picture(pair.folder / output, blend)
    return Cell(0, column, output, image=blend, distances=pair.measure(blend))


def _caption_with_error(cell: Cell, blends: Sequence[Pixels]) -> Cell:
    """A cell of the second row says how far it is from the closed form."""
    if cell.row != 1 or cell.image is None:
        return cell
    error = float(np.sqrt(np.mean((cell.image - blends[cell.column]) ** 2)))
    return dataclasses.replace(cell, caption=f"{error:.4f} from the blend (RMS)")
