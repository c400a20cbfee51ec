"""Contact sheets: many pictures in one, on a grid with headings and captions."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nst_jax.files.atomic import write_bytes
from nst_jax.files.images import Pixels, load_thumbnail, to_8_bit
from nst_jax.request.errors import JobError, WriteError, reason_of

_TEXT_PX = 13
_TITLE_PX = 24
_HEAD_PX = 30
_LABEL_PX = 150
_QUIET = (109, 105, 95)

_MOST_ROWS = 100

_Color = tuple[int, int, int]


class Tile(NamedTuple):
    """A cell: a picture, and lines below it.

    Attributes:
        image: (h, w, 3) float in [0, 1]; None for a blank.
        lines: Captions, the first in full ink.
    """

    image: Pixels | None
    lines: Sequence[str]


class Row(NamedTuple):
    """One job on a batch's sheet; its result is called by the caption, or else by its file."""

    content: Path
    styles: Sequence[Path]
    output: Path
    caption: str = ""


class _Layout(NamedTuple):
    """Lengths in pixels and colours of a grid.

    Attributes:
        is_square: Cells are as high as wide and captions are centred; else each row is as high
            as the highest picture, and captions begin at the left.
    """

    cell_px: int
    gap_px: int = 14
    margin_px: int = 28
    line_px: int = 19
    paper: _Color = (248, 247, 243)
    ink: _Color = (31, 30, 26)
    empty: _Color = (239, 237, 230)
    is_square: bool = False


_BATCH_LAYOUT = _Layout(
    *(256, 12, 12, 24), (250, 249, 246), (40, 40, 40), (225, 223, 218), is_square=True
)

_Cells = Mapping[tuple[int, int], tuple[Image.Image, Sequence[str]]]
"""Pictures of their final size, and captions, by (row, column)."""


def write_contact_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Writes contents, styles and results of a batch side by side as PNG, at most 100 rows.

    Contents are in the first column, results in the last, styles between. A missing picture
    leaves a blank.

    Raises:
        WriteError: The file can't be written.
    """
    rows = rows[:_MOST_ROWS]
    columns = 2 + max((len(row.styles) for row in rows), default=1)
    places = {
        (index, column): path
        for index, row in enumerate(rows)
        for column, path in [*enumerate((row.content, *row.styles)), (columns - 1, row.output)]
    }
    thumbnails = {picture: _thumbnail(picture) for picture in set(places.values())}
    cells = {place: (thumbnails[path], [path.name]) for place, path in places.items()}
    for index, row in enumerate(rows):
        if row.caption:
            cells[index, columns - 1] = thumbnails[row.output], [row.caption]
    write_sheet(path, _draw("", [""] * len(rows), [""] * columns, cells, _BATCH_LAYOUT))


def write_grid_sheet(
    path: Path,
    rows: Sequence[str],
    columns: Sequence[str],
    pictures: Mapping[tuple[int, int], Path],
    edge_px: int,
) -> None:
    """Writes files as a grid under headings, none enlarged. A missing picture leaves a blank.

    Args:
        path: Of the PNG.
        rows: A heading at the left of each row.
        columns: A heading above each column.
        pictures: By (row, column).
        edge_px: Most that a picture's long edge may have.

    Raises:
        WriteError: The file can't be written.
    """
    layout = _BATCH_LAYOUT._replace(cell_px=edge_px)
    cells = {place: (_thumbnail(one, layout), [one.name]) for place, one in pictures.items()}
    write_sheet(path, _draw("", rows, columns, cells, layout))


def write_sheet(path: Path, sheet: Image.Image) -> None:
    """Writes a sheet as PNG.

    Raises:
        WriteError: The file can't be written.
    """
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    try:
        write_bytes(path, encoded.getvalue())
    except OSError as error:
        message = f"contact sheet {str(path)!r} can't be written: {reason_of(error)}"
        raise WriteError(message) from error


def draw_grid(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    tiles: Mapping[tuple[int, int], Tile],
    cell_px: int = 192,
) -> Image.Image:
    """Draws a sheet in memory. A place without a tile stays empty.

    Args:
        title: Above all.
        rows: A heading at the left of each row.
        columns: A heading above each column.
        tiles: By (row, column).
        cell_px: Long edge of each picture, which is scaled to it, up or down.
    """
    layout = _Layout(cell_px)
    cells = {place: (_scale(tile.image, layout), tile.lines) for place, tile in tiles.items()}
    return _draw(title, rows, columns, cells, layout)


def _draw(
    title: str, rows: Sequence[str], columns: Sequence[str], cells: _Cells, layout: _Layout
) -> Image.Image:
    cell_px, gap_px, margin_px = layout.cell_px, layout.gap_px, layout.margin_px
    captions = max((len(lines) for _, lines in cells.values()), default=0) * layout.line_px
    heights = [] if layout.is_square else [picture.height for picture, _ in cells.values()]
    tall = max(heights, default=cell_px)
    label = _LABEL_PX if any(rows) else 0
    top = margin_px + (_TITLE_PX + 18 if title else 0) + (_HEAD_PX if any(columns) else 0)
    width = 2 * margin_px + label + len(columns) * (cell_px + gap_px) - gap_px
    height = top + len(rows) * (tall + captions + gap_px) + margin_px - gap_px
    sheet = Image.new("RGB", (max(width, 1), max(height, 1)), layout.paper)
    pen = ImageDraw.Draw(sheet)

    def write(
        left: int, top: int, text: str, room: int, size: int = _TEXT_PX, ink: _Color = layout.ink
    ) -> None:
        font = ImageFont.load_default(size)
        text = _fit_text(text, font, room)
        centred = (room - font.getlength(text)) / 2 if layout.is_square else 0
        pen.text((left + centred, top), text, fill=ink, font=font)

    write(margin_px, margin_px - 6, title, width - 2 * margin_px, size=_TITLE_PX)
    lefts = [margin_px + label + column * (cell_px + gap_px) for column in range(len(columns))]
    tops = [top + row * (tall + captions + gap_px) for row in range(len(rows))]
    for left, heading in zip(lefts, columns, strict=True):
        write(left, top - 24, heading, cell_px)
    for place, heading in zip(tops, rows if label else [], strict=False):
        write(margin_px, place + tall // 2 - 8, heading, label - 12)
    for (row, column), (picture, lines) in cells.items():
        left, place = lefts[column], tops[row]
        middle = (cell_px - picture.width) // 2, (tall - picture.height) // 2
        sheet.paste(picture, (left + middle[0], place + middle[1]))
        for number, line in enumerate(lines):
            ink = _QUIET if number else layout.ink
            write(left, place + tall + 5 + number * layout.line_px, line, cell_px, ink=ink)
    return sheet


def _scale(image: Pixels | None, layout: _Layout) -> Image.Image:
    if image is None:
        return Image.new("RGB", (layout.cell_px, layout.cell_px), layout.empty)
    picture = Image.fromarray(to_8_bit(np.clip(image, 0, 1)))
    scale = layout.cell_px / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _thumbnail(path: Path, layout: _Layout = _BATCH_LAYOUT) -> Image.Image:
    try:
        return load_thumbnail(path, layout.cell_px)
    except JobError:
        return _scale(None, layout)


def _fit_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, shortened until it fits; what can't be shown is a question mark."""
    visible = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(visible) <= width:
        return visible
    while visible and font.getlength(visible + "…") > width:
        visible = visible[:-1]
    return visible + "…"
