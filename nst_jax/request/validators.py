"""What a single value may be: a rule in words, and the test of it.

The value may be anything, as a caller's mistake has any type.
"""

import difflib
import math
import numbers
import os
import reprlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from nst_jax.request.errors import OptionError

_LARGEST = 3.4e38  # of float32, in which the device computes


class Validator(NamedTuple):
    """What a value must be.

    Attributes:
        words: What follows "must be".
        holds: Whether a value is so.
    """

    words: str
    holds: Callable[[Any], bool]

    def check(self, name: str, value: Any) -> None:
        """Refuses an option's value that is not so.

        Raises:
            OptionError: It is not.
        """
        if not self.holds(value):
            got = " ".join(repr(value).split())  # in one line, whatever it is
            raise OptionError(f"{name} must be {self.words}, got {got}")


def number_where(words: str, holds: Callable[[float], bool]) -> Validator:
    """A number of float32's range that is so; neither a truth value nor NaN."""
    return Validator(
        words, lambda value: _is_number(value) and abs(value) <= _LARGEST and holds(value)
    )


def whole_number(low: int, high: int | None, what: str = "") -> Validator:
    """A whole number within two limits, each of them allowed; None: as large as it may be."""
    kind = f"a whole number of {what}" if what else "a whole number"
    words = f"{kind}, {low} or more" if high is None else f"{kind} from {low} to {high}"
    return Validator(
        words, lambda value: _is_whole(value) and low <= value and (high is None or value <= high)
    )


def value_or(first: Any, rule: Validator) -> Validator:
    """One certain value, or what a rule says."""
    words = f"{first} or {rule.words}"
    return Validator(words, lambda value: _same(value, first) or rule.holds(value))


def one_of(choices: tuple[Any, ...]) -> Validator:
    """One of some values."""
    words = " or ".join(map(str, choices))
    return Validator(words, lambda value: any(_same(value, choice) for choice in choices))


FROM_0 = number_where("a number, 0 or more, finite in float32", lambda value: value >= 0)
ABOVE_0 = number_where("a number above 0, finite in float32", lambda value: value > 0)
FROM_0_TO_1 = number_where("a number from 0 to 1", lambda value: 0 <= value <= 1)
SHARE = number_where("a number above 0, at most 1", lambda value: 0 < value <= 1)
DECAY = number_where("a number from 0 up to, but not, 1", lambda value: 0 <= value < 1)
SECONDS = number_where("0 or more seconds", lambda value: value >= 0)
TEXT = Validator("a text that is not empty", lambda value: isinstance(value, str) and bool(value))


TAPS = Validator(
    "a list of at least one tap, none twice",
    lambda names: _is_tuple_of(TEXT, names) and 0 < len(names) == len(set(names)),
)
WEIGHTS = Validator(
    "a list of numbers from 0, finite in float32, not all 0",
    lambda values: _is_tuple_of(FROM_0, values) and (not values or math.fsum(values) > 0),
)


def to_plain(value: Any) -> Any:
    """The same value without NumPy: its scalars as numbers, short arrays and lists as tuples.

    Those of jax and others too, which all have `tolist`; an array of pixels stays what it is. A
    path is its text. A span of time or a date of NumPy's is no number.
    """
    if type(value) in (str, int, float, bool):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(to_plain, value))
    is_time = getattr(getattr(value, "dtype", None), "kind", None) in ("m", "M")
    if hasattr(value, "tolist") and not is_time and getattr(value, "ndim", 0) <= 1:
        plain = value.tolist()
        if type(plain) is not type(value):
            return to_plain(plain)
        return float(plain) if isinstance(plain, numbers.Real) else plain  # NumPy's long double
    return value


def shorten(value: Any) -> str:
    """A value as a sentence shows it that refuses it: short, and of large things the kind alone."""
    if isinstance(value, (str, bytes, int, float, list, tuple, dict, set, type(None))):
        short = reprlib.Repr()
        short.maxstring = short.maxother = 60
        return " ".join(short.repr(value).split())
    return type(value).__name__


def did_you_mean(name: Any, choices: Iterable[str]) -> str:
    """A question about the nearest of some names, with a space after it; empty: none is near."""
    near = difflib.get_close_matches(str(name), choices, n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def _is_tuple_of(rule: Validator, values: Any) -> bool:
    return isinstance(values, tuple) and all(map(rule.holds, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other
