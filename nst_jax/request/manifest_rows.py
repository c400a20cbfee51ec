"""Rows of manifests, as people, spreadsheets and data frames write them: CSV and JSON Lines.

What is beyond doubt is taken: `;` or tabs between cells, a first line `sep=;`, blank lines, a
column without a name that numbers the rows, empty columns and cells at the end, and the words for
no value.
"""

import csv
import io
import itertools
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from nst_jax.request.errors import ManifestError
from nst_jax.request.options import JOB_FIELDS, SHARED_FIELDS, JobOptions
from nst_jax.request.validators import did_you_mean

SIZE_COLUMNS = ("width", "height")
_OWN_COLUMNS = (
    *("content", "style", "masks", "style_masks", "init_image", "output"),
    *SIZE_COLUMNS,
)
_COLUMNS = frozenset((*JOB_FIELDS, *_OWN_COLUMNS))
_HINTS = typing.get_type_hints(JobOptions)
OPTION_TYPES = {name: _HINTS[name] for name in JOB_FIELDS}
_LISTS = (
    "style",
    "masks",
    "style_masks",
    *(name for name, kind in OPTION_TYPES.items() if "tuple" in str(kind)),
)
_PICTURES = frozenset(("content", "style"))
"""What every row must name, so that no word there means nothing."""

_NUMBER_TYPES = (int, float, tuple[float, ...])
_NUMBERS = frozenset(
    (*SIZE_COLUMNS, *(name for name, kind in OPTION_TYPES.items() if kind in _NUMBER_TYPES))
)
"""Where not-a-number may be a mistake in a calculation, and not a missing value."""

_SEPARATOR = ";"
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?\s*', re.IGNORECASE)
_NAMELESS = re.compile(r"|Unnamed: [\d.]+")
"""Names of columns that have none: that of a data frame's index, and of a spreadsheet's rest."""

_NO_NUMBER = frozenset(("nan", "NaN"))
_NO_VALUE = frozenset(("", "null", "Null", "NULL", "None", "NA", "N/A", "#N/A", "<NA>"))
_EMPTY = _NO_NUMBER | _NO_VALUE

Line = tuple[int, dict[str, Any] | str]
"""A line's number, from 1, and its values, or what is wrong with it."""


def rows_of(name: str) -> Callable[[bytes], Iterator[Line]]:
    """What reads the rows of a manifest of that name.

    Raises:
        ManifestError: Its suffix says nothing.
    """
    suffix = PurePosixPath(name).suffix
    if suffix.lower() not in _ROWS:
        raise ManifestError(
            f"manifest {name!r} must end in .csv, .tsv or .jsonl, got {suffix!r}",
            "The suffix says how it is read",
        )
    return _ROWS[suffix.lower()]


def _lines(content: bytes, newline: str) -> Iterator[str]:
    """Lines with their ends, decoded one by one: a manifest may be large."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=newline)


def _csv_rows(content: bytes) -> Iterator[Line]:
    """Rows of a CSV file, or what is wrong with one as text."""
    lines, end, separator = _find_separator(_lines(content, newline=""))
    reader = csv.reader(lines, strict=True, delimiter=separator, skipinitialspace=True)
    before = end
    try:
        header = ["" if _NAMELESS.fullmatch(name) else name for name in _strip(next(reader, []))]
        if fault := _header_fault(header):
            yield before + 1, fault
            return
        read = _make_row_reader(header, separator)
        end = before + reader.line_num
        for row in reader:
            line, end = end + 1, before + reader.line_num
            cells = _strip(row)
            if any(cells):
                yield line, read(cells)
    except csv.Error as error:
        yield end + 1, f"the row that begins here is not valid CSV: {error}"


def _strip(row: Iterable[str]) -> list[str]:
    return [cell.strip() for cell in row]


def _find_separator(lines: Iterator[str]) -> tuple[Iterable[str], int, str]:
    """The lines of a table, how many stood before them, and what separates its cells."""
    told = ""
    for before, line in enumerate(lines):
        if found := _SEPARATOR_LINE.fullmatch(line):
            told = found[1]
        elif line.strip(" ,;\t\r\n"):
            separator = told or next((one for one in ",;\t" if one in line), ",")
            return itertools.chain([line], lines), before, separator
    return (), 0, ","


def _make_row_reader(header: list[str], separator: str) -> Callable[[list[str]], Any]:
    """What makes values of a row's cells, or says what is wrong with them."""
    width, lists = len(header), [name for name in header if name in _LISTS]
    nameless = [place for place, name in enumerate(header) if not name]
    numbered = len(list(itertools.takewhile(lambda name: not name, header)))

    def read(cells: list[str]) -> dict[str, Any] | str:
        if len(cells) != width:
            if len(cells) < width or any(cells[width:]):
                return _length_fault(len(cells), width, separator)
            del cells[width:]
        for place in nameless:
            if cells[place] and not (place < numbered and cells[place].isdecimal()):
                return (
                    "a column without a name must be empty, or the first and number the rows, "
                    f"got {cells[place][:80]!r}. Name it, or delete it"
                )
        values: dict[str, Any] = dict(zip(header, cells, strict=True))
        if nameless or not _EMPTY.isdisjoint(cells):
            values = {name: cell for name, cell in values.items() if not _is_empty(name, cell)}
        for name in lists:
            cell = values.get(name, "")
            if _SEPARATOR in cell:
                values[name] = cell.split(_SEPARATOR)
            elif cell.startswith(("['", '["')) and cell.endswith("]"):
                return f"{name} must be written with ; between several, got {cell[:80]!r}"
        return values

    return read


def _is_empty(column: str, cell: str) -> bool:
    """Whether a cell says nothing, so that the run's value counts."""
    if not column or not cell:
        return True
    if column in _PICTURES:
        return False
    return cell in _NO_VALUE or (cell in _NO_NUMBER and column not in _NUMBERS)


def _length_fault(got: int, width: int, separator: str) -> str:
    name = {",": "comma", ";": "semicolon", "\t": "tab"}.get(separator, separator)
    remedy = f". A cell with a {name} in it stands in quotes" if got > width else ""
    return f"a row must have {width} cells as the header, got {got}{remedy}"


def _header_fault(header: list[str]) -> str:
    named = [name for name in header if name]
    unknown = [name for name in named if name not in _COLUMNS]
    if unknown:
        return _unknown_column(unknown[0])
    repeated = [name for name in named if named.count(name) > 1]
    if repeated:
        return f"a column may stand only once, got {repeated[0]!r} twice"
    missing = [name for name in ("content", "style") if name not in named]
    return f"the header must name content and style, {missing[0]!r} is missing" if missing else ""


def _json_rows(content: bytes) -> Iterator[Line]:
    """Rows of a JSON Lines file, or what is wrong with one as text."""
    for line, text in enumerate(_lines(content, newline="\n"), start=1):
        if text.isspace():
            continue
        try:
            values = _JSON.decode(text)
        except (ValueError, RecursionError) as error:
            yield line, f"not valid JSON: {error}"
            continue
        if not isinstance(values, dict):
            remedy = ". Write an object a line, and no list" if isinstance(values, list) else ""
            yield line, f"a line must be a JSON object, got {text.strip()[:40]!r}{remedy}"
            continue
        if not values.keys() <= _COLUMNS:
            yield line, _unknown_column(next(name for name in values if name not in _COLUMNS))
            continue
        told = values.values()
        if None in told or "" in told or _NAN in told:  # which is but one object
            values = {name: value for name, value in values.items() if not _is_unsaid(name, value)}
        yield line, values


def _is_unsaid(key: str, value: Any) -> bool:
    """Whether a value is none, as a data frame writes it."""
    return value is None or value == "" or (value is _NAN and key not in _NUMBERS)


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"a key may stand only once, got {repeated!r} twice")
    return values


_NAN = float("nan")
_CONSTANTS = {"NaN": _NAN, "Infinity": float("inf"), "-Infinity": float("-inf")}
_JSON = json.JSONDecoder(object_pairs_hook=_refuse_repeats, parse_constant=_CONSTANTS.__getitem__)
_ROWS = {".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}


def _unknown_column(name: str) -> str:
    if name in SHARED_FIELDS:
        return (
            f"{name!r} is the same for all jobs of a run, so it can't be a column. "
            f"Give it on the command line"
        )
    there = _OWN_COLUMNS + JOB_FIELDS
    guess = did_you_mean(name, there)
    shown = repr(name if len(name) <= 80 else name[:80] + "…")
    return f"unknown column {shown}. {guess}There are {', '.join(there)}"
