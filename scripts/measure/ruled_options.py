"""Options of scripts that follow a rule each, refused in one line and with status 2."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from nst_jax.request.validators import Validator


class Parser(argparse.ArgumentParser):
    """One that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def following(rule: Validator, kind: type) -> Callable[[str], Any]:
    """What reads an option's value and refuses one that breaks a rule."""

    def value(text: str) -> Any:
        try:
            found = kind(text)
        except ValueError:
            found = None
        if not rule.holds(found):
            raise argparse.ArgumentTypeError(f"must be {rule.words}, got {text[:20]!r}")
        return found

    return value
