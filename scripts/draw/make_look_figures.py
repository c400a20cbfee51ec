"""Makes the pictures of docs/choose-a-look.md and docs/start.md from the project's own examples.

    python scripts/draw/make_look_figures.py [FIGURE ...] [--work FOLDER]

Renders the examples by `render_many` and lays the results side by side into small JPEG files in
docs/images. What is rendered is kept as PNG in FOLDER (renders/looks), so that a second run only
draws. `presets` renders at 256 and 512 px, the others at 256 px.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from nst_jax import Job, JobOptions, Options, render_many
from nst_jax.files.contact_sheet import Tile, draw_grid

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
LARGEST_BYTES = 250_000


class Cell(NamedTuple):
    """One picture of a figure.

    Attributes:
        content: Name of an example.
        style: Likewise.
        caption: What stands below; as a rule the flag that made it.
        options: Of the job alone.
        run: Options that all jobs of a run share.
    """

    content: str
    style: str
    caption: str
    options: dict[str, Any] = {}  # noqa: RUF012, never changed
    run: dict[str, Any] = {"size": 256}  # noqa: RUF012

    @property
    def name(self) -> str:
        """A file name that tells all of it."""
        given = {**self.run, **self.options}
        words = (f"{name}-{value}" for name, value in sorted(given.items()))
        return "_".join((self.content, self.style, *words)) + ".png"

    def job(self) -> Job:
        """What is rendered."""
        content, style = EXAMPLES / "contents" / self.content, EXAMPLES / "styles" / self.style
        paths = (str(path.with_suffix(".jpg")) for path in (content, style))
        return Job(*paths, options=JobOptions(**self.options) if self.options else None)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A grid of pictures.

    Attributes:
        rows: Cells, row by row.
        cell_px: Long edge of a picture on the sheet.
    """

    rows: Sequence[Sequence[Cell]]
    cell_px: int = 256


def _dial(pair: tuple[str, str], option: str, values: Sequence[Any]) -> list[Cell]:
    """A row in which one option changes."""
    flag = f"--{option.replace('_', '-')}"
    texts = [f"{value:g}" if isinstance(value, float) else value for value in values]
    given = zip(texts, values, strict=True)
    return [Cell(*pair, f"{flag} {text}", {option: value}) for text, value in given]


def _presets(pair: tuple[str, str], size: int) -> list[Cell]:
    names = ("default", "gram", "fast")
    return [
        Cell(*pair, f"--preset {name} --size {size}", run={"preset": name, "size": size})
        for name in names
    ]


LIGHTHOUSE, STILL_LIFE, LAKE = ("lighthouse", "flow"), ("still_life", "mosaic"), ("lake", "woodcut")

FIGURES = {
    "start": Figure(
        [
            [
                *_dial(LIGHTHOUSE, "style_weight", (1.0, 4.0)),
                *_dial(LIGHTHOUSE, "color", ("content",)),
            ]
        ],
    ),
    "presets": Figure(
        [_presets(LIGHTHOUSE, size) for size in (256, 512)],
        cell_px=320,
    ),
    "weights": Figure(
        [
            _dial(LIGHTHOUSE, "style_weight", (0.25, 1.0, 4.0)),
            _dial(LAKE, "content_weight", (0.004, 0.015, 0.06)),
        ]
    ),
    "strokes": Figure(
        [
            _dial(STILL_LIFE, "style_scale", (0.5, 1.0, 2.0)),
            _dial(LIGHTHOUSE, "style_tap_ratio", (0.1, 0.25, 1.0)),
        ]
    ),
    "colours": Figure([_dial(LIGHTHOUSE, "color", ("style", "content", "match-mean-covariance"))]),
}


def render_missing(cells: Sequence[Cell], folder: Path) -> None:
    """Renders what the folder does not have, one run for all cells that share its options."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [cell for cell in cells if not (folder / cell.name).exists()]
    for run in {tuple(sorted(cell.run.items())) for cell in missing}:
        asked = list({cell.name: cell for cell in missing if cell.run == dict(run)}.values())
        jobs = [cell.job() for cell in asked]
        options = Options(**dict(run))
        for result in render_many(jobs, options, on_error="raise", progress=True):
            result.save(folder / asked[result.index].name)


def draw(figure: Figure, folder: Path) -> Image.Image:
    """The sheet of a figure: its rows one below the other, each as high as its pictures."""
    sheets = [_draw_row(cells, folder, figure.cell_px) for cells in figure.rows]
    width, height = max(one.width for one in sheets), sum(one.height for one in sheets)
    whole, top = Image.new("RGB", (width, height), sheets[0].getpixel((0, 0))), 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def _draw_row(cells: Sequence[Cell], folder: Path, cell_px: int) -> Image.Image:
    tiles = {}
    for column, cell in enumerate(cells):
        with Image.open(folder / cell.name) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(np.float32) / np.float32(255)
        tiles[0, column] = Tile(pixels, [cell.caption])
    return draw_grid("", [""], [""] * len(cells), tiles, cell_px)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--work", type=Path, default=ROOT / "renders" / "looks")
    given = parser.parse_args()
    for name in given.figures or FIGURES:
        figure = FIGURES[name]
        render_missing([cell for row in figure.rows for cell in row], given.work)
        path = ROOT / "docs" / "images" / f"look_{name}.jpg"
        draw(figure, given.work).save(path, quality=80, optimize=True)
        size = path.stat().st_size
        print(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB")
        if size > LARGEST_BYTES:
            raise SystemExit(f"{path.name} is too large for a page")


if __name__ == "__main__":
    main()
