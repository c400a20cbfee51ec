"""Manifests: a list of jobs in a file, a row a job, CSV or JSON Lines.

Columns: `content`, `style` (JSON Lines: a string or a list; CSV: several separated by `;`),
`masks` and `style_masks` (likewise), `init_image`, `output`, `width` and `height` of the content
in pixels (a guide to planning), and any per-job option under its own name. An empty CSV cell
and a missing key mean the run's default. Relative inputs resolve against the manifest's folder.
How programs write all that, `manifest_rows.py` knows.
A manifest that is wrong in itself is refused whole, with every fault by its line.
"""

import contextlib
import functools
import gc
import os
import re
import reprlib
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from nst_jax.request.errors import ManifestError, NstJaxError, say_count
from nst_jax.request.job import Job, check_job
from nst_jax.request.layered_options import fill_steps
from nst_jax.request.manifest_rows import OPTION_TYPES, SIZE_COLUMNS, rows_of
from nst_jax.request.options import JOB_FIELDS, JobOptions, Options
from nst_jax.request.outputs import OutputNames, is_url, validate_output
from nst_jax.request.paths import expand_home, find_path, hint_at_spelling, is_absolute
from nst_jax.request.taps import VGG19, canonical_tap

_FAULTS_SHOWN = 20
_FAULT_LETTERS = 500
_CACHE_SIZE = 10_000
"""Of each kind of value, how many are kept for the rows to come."""

_OPTIONS = frozenset(JOB_FIELDS)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def read_manifest(path: Path, options: Options) -> list[Job]:
    """The jobs of a manifest, each with its own options on top of the run's.

    Raises:
        ManifestError: The file can't be read, or something in it is wrong; `faults` lists
            every fault by its line.
    """
    rows_of(str(path))  # a wrong suffix is said first
    path = Path(find_path(str(path)))
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = "it is a folder" if path.is_dir() else (error.strerror or str(error)).lower()
        remedy = hint_at_spelling(str(path)) if isinstance(error, FileNotFoundError) else ""
        raise ManifestError(f"manifest {str(path)!r} can't be read: {reason}", remedy) from error
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
        for line, values in rows_of(name)(content):
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


class RowParser:
    """Makes the jobs of a manifest's rows; what many rows share is made and checked once."""

    def __init__(self, name: str, options: Options) -> None:
        self._folder = name.rpartition("/")[0] if is_url(name) else str(Path(name).parent)
        self._beside = "" if self._folder == "." else os.path.join(self._folder, "")
        self._options = options
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
        return JobOptions(**{**self._defaults, **fill_steps(read, self._options)})

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
        if name.startswith("~"):
            name = expand_home(name)
        beside = "" if is_absolute(name) else self._beside
        is_plain = not ("//" in name or "./" in name or name.endswith(("/", "/.")) or name == ".")
        if is_plain or is_url(beside):
            return beside + name
        shortest = str(Path(beside, name))  # which takes longer
        return f"./{shortest}" if shortest.startswith("~") else shortest


def _read_size(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) of the content in pixels, where a row tells it."""
    told = [name for name in SIZE_COLUMNS if name in values]
    if not told:
        return None
    if len(told) == 1:
        raise ManifestError(f"width and height go together, got {told[0]} alone")
    width, height = (_read_number(name, values[name], int) for name in SIZE_COLUMNS)
    if not (0 < width < 10**9 and 0 < height < 10**9):
        raise ManifestError(f"width and height must be pixels from 1 on, got {width}x{height}")
    return int(height), int(width)


def _read_number(name: str, given: Any, kind: type) -> float | int:
    rule = "a whole number" if kind is int else "a number"
    try:
        if isinstance(given, bool) or not isinstance(given, (str, int, float)):
            raise ValueError
        if isinstance(given, str) and ("_" in given or not given.isascii()):
            raise ValueError  # Python would take 1_0, and digits of every script
        if kind is int:
            return _read_whole(given)
        number = float(given)
        if number != number:
            raise ValueError
        return number
    except (ValueError, OverflowError):
        raise ManifestError(
            f"{name} must be {rule}, got {_SHORT.repr(given)}", _hint_at_number(str(given))
        ) from None


def _read_whole(given: str | float) -> int:
    """A whole number, which spreadsheets and data frames may write as 3.0."""
    if isinstance(given, str):
        whole, _, rest = given.partition(".")
        return int(given if rest.strip("0") else whole)
    if given != int(given):
        raise ValueError
    return int(given)


def _hint_at_number(given: str) -> str:
    if given.lower() == "nan":
        return "Leave it empty where the run's value shall count"
    if re.fullmatch(r"[+-]?[1-9]\d{0,2}([ ,'\u2019\u00a0\u202f]\d{3})+(\.\d*)?", given):
        return "Write thousands without a separator; decimals stand behind a point"
    return "Decimals stand behind a point" if re.fullmatch(r"[+-]?\d+,\d+", given) else ""


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


_READERS = {name: _make_reader(annotation) for name, annotation in OPTION_TYPES.items()}


def _refusal(name: str, faults: list[tuple[int, str]]) -> ManifestError:
    lines = [f"line {line}: {_shorten(fault)}" for line, fault in faults]
    shown = lines[:_FAULTS_SHOWN]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    listed = "\n  ".join(shown)
    count = say_count(len(lines), "fault")
    return ManifestError(f"manifest {name!r} has {count}:\n  {listed}", faults=lines)


def _shorten(fault: str) -> str:
    return fault if len(fault) <= _FAULT_LETTERS else fault[:_FAULT_LETTERS] + "…"
