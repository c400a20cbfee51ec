"""A study on disk, beside its pictures:

index.html      the page: the grid, the curves, the numbers
contact_sheet.png
study.json      everything but the pixels
study.csv       a row a cell
inputs/*.png    what went in, as it was seen
report/         the batch's own report, where there was a batch
"""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from nst_jax.files.atomic import write_bytes
from nst_jax.files.contact_sheet import Tile, draw_grid, write_sheet
from nst_jax.files.encode import save_picture
from nst_jax.files.report.page import render_template, write_report
from nst_jax.request.errors import WriteError
from nst_jax.study.chart import HEIGHT, WIDTH, Chart, draw_chart
from nst_jax.study.study import Cell, Study

SHEET_NAME = "contact_sheet.png"

_INPUTS = frozenset(("content", "style"))
"""What studies call their inputs."""


def write_study(study: Study, folder: Path) -> Path:
    """Writes what a person and what a program wants of a study; returns the page.

    Raises:
        WriteError: A file can't be written.
    """
    tiles = {(cell.row, cell.column): Tile(cell.image, caption_lines(cell)) for cell in study.cells}
    try:
        (folder / "inputs").mkdir(parents=True, exist_ok=True)
        for name in _INPUTS - study.inputs.keys():  # of an older study in the same folder
            (folder / "inputs" / f"{name}.png").unlink(missing_ok=True)
        for name, image in study.inputs.items():
            save_picture(folder / "inputs" / f"{name}.png", image)
        write_bytes(
            folder / "study.json",
            (json.dumps(study_record(study), indent=2, allow_nan=False) + "\n").encode(),
        )
        write_bytes(folder / "study.csv", _csv(study))
        sheet = draw_grid(study.title, study.rows, study.columns, tiles)
        write_sheet(folder / SHEET_NAME, sheet)
        if any(folder.glob("ledger*.jsonl")):
            write_report(folder)
        write_bytes(folder / "index.html", _page(study, folder))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteError(f"study {str(folder)!r} can't be written: {reason}") from error
    return folder / "index.html"


def study_record(study: Study) -> dict[str, Any]:
    """The study without its pixels, as JSON can hold it: None for what is no number."""
    return _replace_non_finite(
        {
            "study": study.kind,
            "title": study.title,
            "settings": dict(study.settings),
            "rows": list(study.rows),
            "columns": list(study.columns),
            "cells": [_cell_record(cell, study) for cell in study.cells],
        }
    )


def _replace_non_finite(value: Any) -> Any:
    """The same, however deep, with None in place of NaN and infinities."""
    if isinstance(value, dict):
        return {key: _replace_non_finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_non_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell_record(cell: Cell, study: Study) -> dict[str, Any]:
    return {
        "row": study.rows[cell.row],
        "column": study.columns[cell.column],
        "output": cell.output,
        "caption": cell.caption,
        "distances": {name: float(f"{value:.6g}") for name, value in cell.distances.items()},
        "losses": dict(cell.losses),
        "curve": [list(point) for point in cell.curve],
        "seconds": cell.seconds,
        "error": cell.error,
    }


def _csv(study: Study) -> bytes:
    """Row, column, picture, then every distance and loss by name."""
    cells = study_record(study)["cells"]
    distances = list(dict.fromkeys(name for cell in cells for name in cell["distances"]))
    losses = list(dict.fromkeys(name for cell in cells for name in cell["losses"]))
    text = io.StringIO()
    table = csv.writer(text)
    names = ["row", "column", "output", "seconds", "error"]
    table.writerow([*names, *distances, *(f"{name}_loss" for name in losses)])
    for cell in cells:
        table.writerow(
            [cell[name] for name in names]
            + [cell["distances"].get(name) for name in distances]
            + [cell["losses"].get(name) for name in losses]
        )
    return text.getvalue().encode()


def caption_lines(cell: Cell) -> list[str]:
    """What stands below a cell's picture."""
    told = [f"{name} {value:.3g}" for name, value in cell.distances.items()]
    said = [" · ".join(told[first : first + 2]) for first in range(0, len(told), 2)]
    return [line for line in (cell.caption, *said, cell.error) if line]


def _page(study: Study, folder: Path) -> bytes:
    return render_template(
        "study.html.j2",
        title=study.title,
        study=study,
        lines=caption_lines,
        inputs=[(name, f"inputs/{name}.png") for name in study.inputs],
        sheet=SHEET_NAME,
        report="report/index.html" if (folder / "report/index.html").exists() else "",
        charts=_charts(study),
        names=list(dict.fromkeys(name for cell in study.cells for name in cell.distances)),
        chart_size=(WIDTH, HEIGHT),
    )


def _charts(study: Study) -> list[Chart]:
    """A chart of the total loss a row, a line a column."""
    charts = []
    for row, heading in enumerate(study.rows):
        cells = [cell for cell in study.cells if cell.row == row and len(cell.curve) > 1]
        series = {
            study.columns[cell.column]: [
                (float(step or 0), float(total))
                for step, total, *_ in cell.curve
                if total is not None
            ]
            for cell in cells
        }
        charts.append(draw_chart(f"{heading}: total loss", series))
    return [chart for chart in charts if chart]
