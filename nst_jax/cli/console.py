"""How the command line talks: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal


def print_note(message: str) -> None:
    """Something worth knowing, on stderr."""
    print(f"nst-jax: {message}", file=sys.stderr)


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
