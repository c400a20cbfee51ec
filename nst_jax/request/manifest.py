"""Manifests: a list of jobs in a file, a row a job, CSV or JSON Lines.

Columns: `content`, `style` (JSON Lines: a string or a list; CSV: several separated by `;`),
`masks` and `style_masks` (likewise), `init_image`, `output`, `width` and `height` of the content
in pixels (a guide to planning), and any per-job option under its own name. An empty CSV cell
and a missing key mean the run's default. Relative inputs resolve against the manifest's folder.
A manifest that is wrong in itself is refused whole, with every fault by its line.
"""

import contextlib
import csv
import functools
import gc
import io
import json
import os
import re
import reprlib
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from nst_jax.request.errors import ManifestError, NstJaxError
from nst_jax.request.job import Job, check_job
from nst_jax.request.options import JOB_FIELDS, SHARED_FIELDS, JobOptions, Options
from nst_jax.request.outputs import OutputNames, is_url, validate_output
from nst_jax.request.taps import VGG19, canonical_tap
from nst_jax.request.validators import did_you_mean

_SEPARATOR = ";"
_FAULTS_SHOWN = 20
_FAULT_LETTERS = 500
_CACHE_SIZE = 10_000
"""Of each kind of value, how many are kept for the rows to come."""

_SIZE_COLUMNS = ("width", "height")
_OWN_COLUMNS = (
    *("content", "style", "masks", "style_masks", "init_image", "output"),
    *_SIZE_COLUMNS,
)
_OPTIONS = frozenset(JOB_FIELDS)
_COLUMNS = _OPTIONS.union(_OWN_COLUMNS)
_OPTION_TYPES = {name: typing.get_type_hints(JobOptions)[name] for name in JOB_FIELDS}
_LISTS = (
    "style",
    "masks",
    "style_masks",
    *(name for name, kind in _OPTION_TYPES.items() if "tuple" in str(kind)),
)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80

Line = tuple[int, dict[str, Any] | str]
"""A line's number, from 1, and its values, or what is wrong with it."""


def read_manifest(path: Path, options: Options) -> list[Job]:
    """The jobs of a manifest, each with its own options on top of the run's.

    Raises:
        ManifestError: The file can't be read, or something in it is wrong; `faults` lists
            every fault by its line.
    """
    _rows_of(str(path))  # a wrong suffix is said first
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = "it is a folder" if path.is_dir() else (error.strerror or str(error)).lower()
        raise ManifestError(f"manifest {str(path)!r} can't be read: {reason}") from error
    return parse_manifest(content, str(path), options)


def parse_manifest(content: bytes, name: str, options: Options) -> list[Job]:
    """The jobs of a manifest that was read already.

    Args:
        content: The file's bytes.
        name: Its path or address: the suffix says how it is read, relative inputs resolve
            against its folder.
        options: What a row does not say.

    Raises:
        ManifestError: As `read_manifest`.
    """
    faults: list[tuple[int, str]] = []
    jobs: list[Job] = []
    outputs = OutputNames()
    parser = RowParser(name, options)
    _check_text(content, name)
    with _pause_garbage_collection():
        for line, values in _rows_of(name)(content):
            try:
                if isinstance(values, str):
                    raise ManifestError(values)
                job = parser.parse(values)
                if job.output:
                    outputs.claim(job.output, line)
                jobs.append(job)
            except NstJaxError as fault:
                faults.append((line, str(fault)))
    if faults:
        raise _refusal(name, sorted(faults))
    if not jobs:
        raise ManifestError(f"manifest {name!r} must have at least one job, got none")
    return jobs


@contextlib.contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Spares the search for cycles among a million jobs, which have none: a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _rows_of(name: str) -> Callable[[bytes], Iterator[Line]]:
    """What reads the rows of a manifest of that name."""
    suffix = PurePosixPath(name).suffix
    if suffix.lower() not in _ROWS:
        raise ManifestError(
            f"manifest {name!r} must end in .csv or .jsonl, got {suffix!r}",
            "The suffix says how it is read",
        )
    return _ROWS[suffix.lower()]


def _check_text(content: bytes, name: str) -> None:
    try:
        if not content.isascii():  # which is asked without a copy
            content.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"manifest {name!r} must be UTF-8 text, got byte {error.object[error.start]:#04x} "
            f"at offset {error.start}",
            "Save it as UTF-8",
        ) from error
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise ManifestError(f"manifest {name!r} must be text, got a NUL byte in line {line}")


def _lines(content: bytes, newline: str) -> Iterator[str]:
    """Lines with their ends, decoded one by one: a manifest may be large."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=newline)


def _csv_rows(content: bytes) -> Iterator[Line]:
    """Rows of a CSV file, or what is wrong with one as text."""
    reader = csv.reader(_lines(content, newline=""), strict=True)
    end = 0
    try:
        header = [name.strip() for name in next(reader, [])]
        if fault := _header_fault(header):
            yield 1, fault
            return
        lists = [name for name in header if name in _LISTS]
        end = reader.line_num
        for row in reader:
            line, end = end + 1, reader.line_num
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if len(cells) != len(header):
                yield line, f"a row must have {len(header)} cells as the header, got {len(cells)}"
                continue
            values: dict[str, Any] = dict(zip(header, cells, strict=True))
            if "" in cells:
                values = {name: cell for name, cell in values.items() if cell}
            for name in lists:
                if _SEPARATOR in values.get(name, ""):
                    values[name] = values[name].split(_SEPARATOR)
            yield line, values
    except csv.Error as error:
        yield end + 1, f"the row that begins here is not valid CSV: {error}"


def _header_fault(header: list[str]) -> str:
    unknown = [name for name in header if name not in _COLUMNS]
    if unknown:
        return _unknown_column(unknown[0])
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        return f"a column may stand only once, got {repeated[0]!r} twice"
    missing = [name for name in ("content", "style") if name not in header]
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
            yield line, f"a line must be a JSON object, got {text.strip()[:40]!r}"
            continue
        if values.keys() <= _COLUMNS:
            yield line, values
        else:
            yield line, _unknown_column(next(name for name in values if name not in _COLUMNS))


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"a key may stand only once, got {repeated!r} twice")
    return values


_JSON = json.JSONDecoder(object_pairs_hook=_refuse_repeats)
_ROWS = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}


def _unknown_column(name: str) -> str:
    if name in SHARED_FIELDS:
        return (
            f"{name!r} is the same for all jobs of a run, so it can't be a column. "
            f"Give it on the command line"
        )
    there = _OWN_COLUMNS + JOB_FIELDS
    guess = did_you_mean(name, there)
    return f"unknown column {_SHORT.repr(name)}. {guess}There are {', '.join(there)}"


class RowParser:
    """Makes the jobs of a manifest's rows; what many rows share is made and checked once."""

    def __init__(self, name: str, options: Options) -> None:
        self._folder = name.rpartition("/")[0] if is_url(name) else str(Path(name).parent)
        self._beside = "" if self._folder == "." else os.path.join(self._folder, "")
        self._bit_depth = options.bit_depth
        self._defaults = {name: getattr(options, name) for name in JOB_FIELDS}
        self._chosen: dict[str, JobOptions] = {}
        self._locate = functools.lru_cache(_CACHE_SIZE)(self._locate_now)
        self._one_picture = functools.lru_cache(_CACHE_SIZE)(lambda *cell: (self._picture(*cell),))

    def parse(self, values: Mapping[str, Any]) -> Job:
        """One row's job.

        Raises:
            NstJaxError: Something in the row is wrong.
        """
        for name in ("content", "style"):
            if not values.get(name):
                raise ManifestError(f"{name} must name a picture, got nothing")
        chosen = self._job_options(values)
        output = _read_text("output", values["output"]) if "output" in values else ""
        if output:
            output = validate_output(output, bit_depth=self._bit_depth)
        job = Job(
            self._picture("content", values["content"]),
            self._pictures(values, "style"),
            output,
            chosen,
            masks=self._pictures(values, "masks"),
            style_masks=self._pictures(values, "style_masks"),
            init_image=self._picture("init_image", values["init_image"])
            if "init_image" in values
            else None,
            size=_read_size(values),
        )
        check_job(job, chosen)
        return job

    def _job_options(self, values: Mapping[str, Any]) -> JobOptions:
        own = {name: value for name, value in values.items() if name in _OPTIONS}
        try:
            key = repr(own)  # it tells True, 1 and 1.0 apart, and a list can be in it
        except RecursionError:
            return self._parse_options(own)
        if key not in self._chosen:
            if len(self._chosen) >= _CACHE_SIZE:
                self._chosen.clear()
            self._chosen[key] = self._parse_options(own)
        return self._chosen[key]

    def _parse_options(self, own: Mapping[str, Any]) -> JobOptions:
        read = {name: _READERS[name](name, given) for name, given in own.items()}
        for tap in (*read.get("content_taps", ()), *read.get("style_taps", ())):
            canonical_tap(tap, VGG19)  # which has all that VGG-16 has
        return JobOptions(**{**self._defaults, **read})

    def _pictures(self, values: Mapping[str, Any], name: str) -> tuple[str, ...]:
        if name not in values:
            return ()
        given = values[name]
        if isinstance(given, str):
            return self._one_picture(name, given)
        return tuple(self._locate(one) for one in _read_texts(name, given))

    def _picture(self, name: str, given: Any) -> str:
        return self._locate(_read_text(name, given))

    def _locate_now(self, name: str) -> str:
        """Where a picture lies that a row names: absolute, an address, or beside the manifest."""
        if is_url(name):
            return name
        if is_url(self._folder):
            return name if name.startswith("/") else f"{self._folder}/{name}"
        if "//" in name or "./" in name or name.endswith(("/", "/.")) or name == ".":
            return str(Path(self._folder, name))  # in its shortest spelling, which takes longer
        return name if name.startswith("/") else self._beside + name


def _read_size(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) of the content in pixels, where a row tells it."""
    told = [name for name in _SIZE_COLUMNS if name in values]
    if not told:
        return None
    if len(told) == 1:
        raise ManifestError(f"width and height go together, got {told[0]} alone")
    width, height = (_read_number(name, values[name], int) for name in _SIZE_COLUMNS)
    if not (0 < width < 10**9 and 0 < height < 10**9):
        raise ManifestError(f"width and height must be pixels from 1 on, got {width}x{height}")
    return int(height), int(width)


def _read_number(name: str, given: Any, kind: type) -> float | int:
    rule = "a whole number" if kind is int else "a number"
    try:
        if isinstance(given, bool) or not isinstance(given, (str, int, float)):
            raise ValueError
        if kind is int and isinstance(given, float):
            raise ValueError
        if isinstance(given, str) and ("_" in given or not given.isascii()):
            raise ValueError  # Python would take 1_0, and digits of every script
        return kind(given)
    except (ValueError, OverflowError):
        raise ManifestError(f"{name} must be {rule}, got {_SHORT.repr(given)}") from None


def _read_texts(name: str, given: Any) -> list[str]:
    return [_read_text(name, item) for item in _read_list(name, given)]


def _read_list(name: str, given: Any) -> list[Any]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise ManifestError(f"{name} must be a text or a list, got {_SHORT.repr(given)}")
    return given


def _read_text(name: str, given: Any) -> str:
    rule = "a text" if name == "output" else "a text that is not empty"
    if not isinstance(given, str) or (name != "output" and not given.strip()):
        raise ManifestError(f"{name} must be {rule}, got {_SHORT.repr(given)}")
    odd = "\0" in given if given.isascii() else re.search("[\0\ud800-\udfff]", given)
    if odd:  # JSON can write them as escapes
        raise ManifestError(f"{name} must hold no NUL and no half a letter, got {given[:80]!r}")
    return given.strip()


def _make_reader(annotation: Any) -> Callable[[str, Any], Any]:
    """What reads the values of an option of that type."""
    if annotation == tuple[str, ...]:
        return lambda name, given: tuple(_read_texts(name, given))
    if annotation == tuple[float, ...]:
        return lambda name, given: tuple(
            _read_number(name, item, float) for item in _read_list(name, given)
        )
    if typing.get_origin(annotation) is Literal:
        return _read_text
    return functools.partial(_read_number, kind=annotation)


_READERS = {name: _make_reader(annotation) for name, annotation in _OPTION_TYPES.items()}


def _refusal(name: str, faults: list[tuple[int, str]]) -> ManifestError:
    lines = [f"line {line}: {_shorten(fault)}" for line, fault in faults]
    shown = lines[:_FAULTS_SHOWN]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    listed = "\n  ".join(shown)
    return ManifestError(f"manifest {name!r} has {count}:\n  {listed}", faults=lines)


def _shorten(fault: str) -> str:
    return fault if len(fault) <= _FAULT_LETTERS else fault[:_FAULT_LETTERS] + "…"
