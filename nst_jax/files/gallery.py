"""The contact sheet: content, style and result of each job side by side, in one picture."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from nst_jax.files.atomic import write_bytes
from nst_jax.files.contact_sheet import fit_text
from nst_jax.files.images import composite, load_picture
from nst_jax.request.errors import JobError, WriteError

_CELL_PX = 256
_GAP_PX = 12
_CAPTION_PX = 24
_TEXT_PX = 13
_MOST_ROWS = 100

_PAPER = (250, 249, 246)
_INK = (40, 40, 40)
_EMPTY = (225, 223, 218)


class Row(NamedTuple):
    """One job on the sheet."""

    content: Path
    styles: Sequence[Path]
    output: Path


def write_contact_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Writes the sheet as PNG, at most its first 100 rows. A missing picture leaves a blank.

    Raises:
        WriteError: The file can't be written.
    """
    sheet = _sheet(rows[:_MOST_ROWS])
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    try:
        write_bytes(path, encoded.getvalue())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteError(f"contact sheet {str(path)!r} can't be written: {reason}") from error


def _sheet(rows: Sequence[Row]) -> Image.Image:
    """Contents in the first column, results in the last, styles between."""
    columns = 2 + max((len(row.styles) for row in rows), default=1)
    width = columns * (_CELL_PX + _GAP_PX) + _GAP_PX
    height = len(rows) * (_CELL_PX + _CAPTION_PX + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, height), _PAPER)
    for index, row in enumerate(rows):
        top = _GAP_PX + index * (_CELL_PX + _CAPTION_PX + _GAP_PX)
        for column, picture in enumerate((row.content, *row.styles)):
            _draw_cell(sheet, picture, column, top)
        _draw_cell(sheet, row.output, columns - 1, top)
    return sheet


def _draw_cell(sheet: Image.Image, picture: Path, column: int, top: int) -> None:
    left = _GAP_PX + column * (_CELL_PX + _GAP_PX)
    tile = _tile(picture)
    sheet.paste(tile, (left + (_CELL_PX - tile.width) // 2, top + (_CELL_PX - tile.height) // 2))
    font = ImageFont.load_default(_TEXT_PX)
    caption = fit_text(picture.name, font, _CELL_PX)
    centre = left + (_CELL_PX - font.getlength(caption)) / 2
    ImageDraw.Draw(sheet).text((centre, top + _CELL_PX + 5), caption, fill=_INK, font=font)


def _tile(path: Path) -> Image.Image:
    """The picture scaled to fit a cell; an empty cell where there is none."""
    try:
        pixels = composite(load_picture(path), "white")
    except JobError:
        return Image.new("RGB", (_CELL_PX, _CELL_PX), _EMPTY)
    tile = Image.fromarray((pixels * 255).round().astype("uint8"))
    tile.thumbnail((_CELL_PX, _CELL_PX), Image.Resampling.LANCZOS)
    return tile
