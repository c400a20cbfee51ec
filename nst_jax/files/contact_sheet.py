"""A grid of pictures with headings and captions, as one large picture."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from nst_jax.files.atomic import write_bytes
from nst_jax.request.errors import WriteError

_GAP_PX = 14
_LINE_PX = 19
_TEXT_PX = 13
_TITLE_PX = 24
_HEAD_PX = 30
_MARGIN_PX = 28
_LABEL_PX = 150

_PAPER = (248, 247, 243)
_INK = (31, 30, 26)
_QUIET = (109, 105, 95)
_EMPTY = (239, 237, 230)


class Tile(NamedTuple):
    """A cell: a picture, and lines below it.

    Attributes:
        image: (h, w, 3) float in [0, 1]; None for a blank.
        lines: Captions, the first in full ink.
    """

    image: npt.NDArray[np.float32] | None
    lines: Sequence[str]


def write_grid(
    path: Path,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    tiles: Mapping[tuple[int, int], Tile],
    *,
    cell_px: int = 192,
    suffix: str = "PNG",
) -> None:
    """Writes the sheet. A place without a tile stays empty.

    Args:
        path: The file.
        title: Above all.
        rows: A heading at the left of each row.
        columns: A heading above each column.
        tiles: By (row, column).
        cell_px: Long edge of each picture, which is scaled to it, up or down.
        suffix: Pillow's name of the format.

    Raises:
        WriteError: The file can't be written.
    """
    sheet = draw_grid(title, rows, columns, tiles, cell_px)
    encoded = io.BytesIO()
    sheet.save(encoded, suffix, quality=88)
    try:
        write_bytes(path, encoded.getvalue())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteError(f"contact sheet {str(path)!r} can't be written: {reason}") from error


def draw_grid(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    tiles: Mapping[tuple[int, int], Tile],
    cell_px: int,
) -> Image.Image:
    """The sheet, in memory."""
    captions = max((len(tile.lines) for tile in tiles.values()), default=0) * _LINE_PX
    pictures = {place: _scale(tile.image, cell_px) for place, tile in tiles.items()}
    tall = max((picture.height for picture in pictures.values()), default=cell_px)
    label = _LABEL_PX if any(rows) else 0
    head = _HEAD_PX if any(columns) else 0
    top = _MARGIN_PX + (_TITLE_PX + 18 if title else 0) + head
    width = 2 * _MARGIN_PX + label + len(columns) * (cell_px + _GAP_PX) - _GAP_PX
    height = top + len(rows) * (tall + captions + _GAP_PX) + _MARGIN_PX - _GAP_PX
    sheet = Image.new("RGB", (max(width, 1), max(height, 1)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _draw_text(pen, (_MARGIN_PX, _MARGIN_PX - 6), title, width - 2 * _MARGIN_PX, size=_TITLE_PX)
    for column, heading in enumerate(columns):
        left = _MARGIN_PX + label + column * (cell_px + _GAP_PX)
        _draw_text(pen, (left, top - 24), heading, cell_px)
    for row, heading in enumerate(rows):
        place = top + row * (tall + captions + _GAP_PX)
        _draw_text(pen, (_MARGIN_PX, place + tall // 2 - 8), heading, label - 12)
        for column in range(len(columns)):
            left = _MARGIN_PX + label + column * (cell_px + _GAP_PX)
            if (row, column) in tiles:
                picture = pictures[row, column]
                middle = (cell_px - picture.width) // 2, (tall - picture.height) // 2
                sheet.paste(picture, (left + middle[0], place + middle[1]))
                _draw_caption(pen, (left, place + tall), tiles[row, column].lines, cell_px)
    return sheet


def _draw_caption(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], width: int
) -> None:
    for number, line in enumerate(lines):
        place = at[0], at[1] + 5 + number * _LINE_PX
        _draw_text(pen, place, line, width, ink=_QUIET if number else _INK)


def _scale(image: npt.NDArray[np.float32] | None, cell_px: int) -> Image.Image:
    if image is None:
        return Image.new("RGB", (cell_px, cell_px), _EMPTY)
    pixels = Image.fromarray(np.uint8(np.rint(np.clip(image, 0, 1) * 255)))
    scale = cell_px / max(pixels.size)
    width, height = (max(1, round(side * scale)) for side in pixels.size)
    return pixels.resize((width, height), Image.Resampling.LANCZOS)


def _draw_text(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    width: int,
    *,
    size: int = _TEXT_PX,
    ink: tuple[int, int, int] = _INK,
) -> None:
    font = ImageFont.load_default(size)
    pen.text(at, fit_text(text, font, width), fill=ink, font=font)


def fit_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, shortened until it fits; what can't be shown is a question mark."""
    visible = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(visible) <= width:
        return visible
    while visible and font.getlength(visible + "…") > width:
        visible = visible[:-1]
    return visible + "…"
