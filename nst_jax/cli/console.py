"""How the command line talks: results on stdout, everything else on stderr."""

import contextlib
import io
import json
import os
import stat
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal


def print_note(message: str) -> None:
    """Something worth knowing, on stderr."""
    print_on_stderr(f"nst-jax: {message}")


def print_on_stderr(line: str) -> None:
    """A line on stderr, if anybody reads it still: work goes on without."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        drop_output(sys.stderr)


def drop_output(stream: Any) -> None:
    """What is printed there from now on is lost; Python fails at its end if it can't be written."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def drop_lost_terminal() -> None:
    """Does so where a stream went to a terminal that was closed."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError):
            is_device = stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
            if is_device and not os.isatty(stream.fileno()):
                drop_output(stream)


def printable(name: str) -> str:
    """A name on one line, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def print_json(record: Mapping[str, Any]) -> None:
    """One JSON object on a line of stdout."""
    print(json.dumps(record))


def print_table(
    rows: Iterable[Sequence[str]],
    headings: Sequence[str] = (),
    *,
    justify: Literal["left", "right"] = "left",
    caption: str | None = None,
) -> None:
    """A table on stdout, as wide as the terminal at most."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=bool(headings), caption=caption)
    for heading in headings:
        table.add_column(heading, justify=justify)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


class WrappedOutput(io.TextIOBase):
    """A stream that breaks long lines between words, but for those of a box or with colours."""

    def __init__(self, stream: Any, width: int) -> None:
        self._stream, self._width = stream, width

    def write(self, text: str) -> int:
        """Writes whole lines, broken where they are longer than the width."""
        for line in text.splitlines(keepends=True):
            body, end = line.rstrip("\n"), "\n" * line.endswith("\n")
            is_text = len(body) > self._width and body.isascii() and "\x1b" not in body
            self._stream.write((textwrap.fill(body, self._width) if is_text else body) + end)
        return len(text)

    def isatty(self) -> bool:
        """Whether colours are seen."""
        return self._stream.isatty()

    def flush(self) -> None:
        """Flushes the stream."""
        self._stream.flush()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The stream's own."""
        return self._stream.encoding


_UNITS = (("day", 86400.0), ("hour", 3600.0), ("min", 60.0))


def say_duration(seconds: float) -> str:
    """A time in the unit that suits it: 31 s, 4.5 min, 3.2 hours, 20 days."""
    for unit, length in _UNITS:
        if (count := seconds / length) >= 1:
            text = f"{count:.0f}" if count >= 10 else f"{count:.1f}".removesuffix(".0")
            return f"{text} {unit}" + "s" * (unit != "min" and text != "1")
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
