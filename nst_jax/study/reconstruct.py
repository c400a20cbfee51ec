"""What a tap still knows: the content from each tap alone, the style from each depth alone.

The first figure of Gatys et al. 2016, which begins, as here, with noise.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from nst_jax.request.job import PictureSource
from nst_jax.request.options import JobOptions, Options, job_options
from nst_jax.request.studies import study_options
from nst_jax.study.study import Cell, HowToRun, Pair, Study, Trial, open_pair, run_trials
from nst_jax.study.units import apply_units, measure_units

_TEXT = (
    "Every picture begins as noise. In the first row it is moved until one tap of the network, "
    "and that tap alone, answers as it does to the content; what is then missing is what the tap "
    "does not know. Below, `pixel` is the mean error of a pixel, from 0 to 1.",
    "In the second row it is moved until the statistics of the style agree at the taps from the "
    "first up to one. Nothing says where anything is: what comes out is a texture, and its motifs "
    "are larger the deeper the taps.",
)


def study_reconstruct(
    content: PictureSource,
    style: PictureSource | None,
    output_dir: str | Path,
    options: Options | None = None,
    **how: Unpack[HowToRun],
) -> Study:
    """Reconstructs a content from each content tap, and a style from each depth, from noise.

    Args:
        content: The content picture.
        style: The style picture; None: the content alone is reconstructed.
        output_dir: Where pictures and ledger go.
        options: The run's; a column for each of `content_taps`, and one for each of `style_taps`.
        **how: `progress`, `stop` and `measure`, as `open_pair` takes them.

    Raises:
        RequestError: A tap that does not exist, an option out of its range.
        PictureError: A picture is missing, or too small for a tap.
        StoppedError: It was asked to stop.
    """
    options = options or study_options("reconstruct")
    given = content if style is None else style
    unweighted = dataclasses.replace(options, content_tap_weights=(), style_tap_weights=())
    pair = open_pair(content, given, output_dir, unweighted, **how)
    cells = run_trials(pair, _trials(pair, with_style=style is not None))
    own = pair.prepared.options
    rows = ["content from one tap", "style up to one tap"][: 1 if style is None else 2]
    return Study(
        kind="reconstruct",
        title="What a layer still knows",
        text=_TEXT if style is not None else _TEXT[:1],
        rows=rows,
        columns=_columns(own, with_style=style is not None),
        cells=[_add_caption(cell, own, pair) for cell in cells],
        inputs={"content": pair.content} | ({} if style is None else {"style": pair.style}),
    )


def _trials(pair: Pair, *, with_style: bool) -> list[Trial]:
    own, units = pair.prepared.options, measure_units(pair)
    noise = job_options(own, init="noise")
    contents = [
        Trial(0, column, f"content_{tap}.png", apply_units(noise, units, tap, (), 1.0))
        for column, tap in enumerate(own.content_taps)
    ]
    depths = [own.style_taps[: number + 1] for number in range(len(own.style_taps))]
    styles = [
        Trial(1, column, f"style_{depth[-1]}.png", apply_units(noise, units, "", depth, 1.0))
        for column, depth in enumerate(depths)
    ]
    return contents + (styles if with_style else [])


def _columns(own: JobOptions, *, with_style: bool) -> Sequence[str]:
    """A heading says the tap of both rows, as far as both have one."""
    if not with_style:
        return own.content_taps
    longest = max(len(own.content_taps), len(own.style_taps))
    pairs = (
        [*own.content_taps[place : place + 1], *own.style_taps[place : place + 1]]
        for place in range(longest)
    )
    return [" / ".join(dict.fromkeys(pair)) for pair in pairs]


def _add_caption(cell: Cell, own: JobOptions, pair: Pair) -> Cell:
    if cell.image is None:
        return cell
    if cell.row:
        return dataclasses.replace(cell, caption=f"up to {own.style_taps[cell.column]}")
    error = float(np.abs(cell.image - pair.content).mean())
    return dataclasses.replace(
        cell,
        caption=own.content_taps[cell.column],
        distances={"pixel": error, **cell.distances},
    )
