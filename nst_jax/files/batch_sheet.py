"""A batch's contact sheet: a grid where its jobs make one, else rows of content, styles, result."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nst_jax.files.contact_sheet import Row, write_contact_sheet, write_grid_sheet
from nst_jax.request.job import Job, picture_name
from nst_jax.request.options import JobOptions, non_default_options
from nst_jax.request.paths import find_path

_MOST_CELLS = 400
_MOST_EDGE_PX = 512
_LEAST_EDGE_PX = 160
"""Of a cell, or no heading would fit."""

_Key = Callable[[Job], Any]


def write_batch_sheet(path: Path, jobs: Sequence[Job], *, size: int) -> None:
    """Writes the sheet of a batch whose jobs have their options and output names filled in.

    Contents by styles are a grid, and so are pairs by an option, and of one pair two options by
    each other. All else is a row a job, with what tells it apart under its result.

    Args:
        path: Of the PNG.
        jobs: In their order.
        size: Long edge of the results in pixels: they are shown at it, up to 512 px.

    Raises:
        WriteError: The file can't be written.
    """
    folder, names = path.parent, differing_options(jobs)
    axes = _find_axes(jobs, names) if 1 < len(jobs) <= _MOST_CELLS else None
    if axes is None:
        rows = [
            Row(
                content=_path(job.content),
                styles=[_path(style) for style in job.styles],
                output=folder / job.output,
                caption=_sweep_text(job, names) or job.output,
            )
            for job in jobs
        ]
        write_contact_sheet(path, rows)
        return
    row, column = axes
    rows_of, columns_of = _places(jobs, row), _places(jobs, column)
    cells = {
        (rows_of[str(row(job))], columns_of[str(column(job))]): folder / job.output for job in jobs
    }
    cell_px = max(_LEAST_EDGE_PX, min(size, _MOST_EDGE_PX))
    write_grid_sheet(path, list(rows_of), list(columns_of), cells, cell_px)


def differing_options(jobs: Sequence[Job]) -> list[str]:
    """Names of the per-job options that are not the same for all of these jobs."""
    found: dict[str, set[str]] = {}
    told = [non_default_options(job.options or JobOptions()) for job in jobs]
    names = sorted({name for one in told for name in one})
    for one in told:
        for name in names:
            found.setdefault(name, set()).add(repr(one.get(name)))
    return [name for name in names if len(found[name]) > 1]


def _find_axes(jobs: Sequence[Job], names: Sequence[str]) -> tuple[_Key, _Key] | None:
    """What rows and columns are; None where jobs make no grid, or two would share a cell."""
    contents, styles = _content_of, _styles_of
    pairs = len({(contents(job), styles(job)) for job in jobs})
    if not names:
        axes = contents, styles
    elif len(names) == 1:
        axes = (lambda job: f"{contents(job)}, {styles(job)}"), _option(names[0])
    elif pairs == 1 and len(names) == 2:
        axes = _option(names[0]), _option(names[1])
    else:
        return None
    cells = {(str(axes[0](job)), str(axes[1](job))) for job in jobs}
    return axes if len(cells) == len(jobs) else None


def _option(name: str) -> _Key:
    return lambda job: f"{name} {_value(job, name)}"


def _value(job: Job, name: str) -> str:
    value = getattr(job.options or JobOptions(), name)
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _content_of(job: Job) -> str:
    return Path(picture_name(job.content)).stem


def _styles_of(job: Job) -> str:
    return " + ".join(Path(picture_name(style)).stem for style in job.styles)


def _places(jobs: Sequence[Job], key: _Key) -> Mapping[str, int]:
    """Headings in the order in which they come first, each with its place."""
    return {name: place for place, name in enumerate(dict.fromkeys(str(key(job)) for job in jobs))}


def _sweep_text(job: Job, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {_value(job, name)}" for name in names)


def _path(source: Any) -> Path:
    return Path(find_path(picture_name(source)))
