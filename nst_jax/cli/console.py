"""How the command line talks: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from nst_jax.request.errors import NstJaxError


def print_error(error: NstJaxError) -> None:
    """One fault for the user's eyes, on stderr."""
    print(f"nst-jax: {error}", file=sys.stderr)


def print_note(message: str) -> None:
    """Something worth knowing, on stderr."""
    print(f"nst-jax: {message}", file=sys.stderr)


def printable(name: str) -> str:
    """A name on one line, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def print_json(record: Mapping[str, Any]) -> None:
    """One JSON object on a line of stdout."""
    print(json.dumps(record))
