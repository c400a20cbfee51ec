"""Unpickling with nothing of the pickle ever run.

A pickle is a program for a small stack machine, and the machine can call anything it can
import. Here it finds a few names only, and behind each stands not the real object but one that
notes what it is given.
"""

import dataclasses
import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from nst_jax.weights.errors import InvalidWeights


class Placeholder:
    """Stands for something in a pickle: no state can be given to it but where it says so."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise InvalidWeights("holds a pickle that gives a state to what has none")


class _Call(Placeholder):
    """Stands for a function: a pickle could change a bare one's defaults and attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)


@dataclasses.dataclass(frozen=True)
class AllowedPickle:
    """What one kind of file may use of pickle's language.

    Attributes:
        content: What such a file holds, in words, for messages.
        names: What is found under a module's and an object's name: a placeholder, or a function
            of ours that can't do harm, whatever it is given.
        remedy: What to do with a file that asks for another name.
    """

    content: str
    names: Mapping[tuple[str, str], Placeholder | Callable[..., object]]
    remedy: str = ""


def unpickle(
    stream: io.BytesIO, allowed: AllowedPickle, persistent: Callable[[object], object] | None = None
) -> Any:
    """The object of the pickle that starts where `stream` stands, and moves behind its end.

    Args:
        stream: One or more pickles.
        allowed: All that the pickle may use.
        persistent: Finds what the pickle names but does not hold.

    Raises:
        InvalidWeights: The pickle is damaged or asks for what it may not use, memory included.
    """
    start = stream.tell()
    try:
        _check_notes(stream)
        stream.seek(start)
        return _Unpickler(stream, allowed, persistent).load()
    except InvalidWeights:
        raise
    except Exception as error:
        # Broad on purpose: a damaged pickle can make the stack machine raise anything.
        raise InvalidWeights(f"is no sound pickle of {allowed.content}") from error


def _check_notes(stream: io.BytesIO) -> None:
    """Reads the program without running it: is it whole, and are its notes numbered in turn?

    The machine's memory grows to the largest number noted, up to many gigabytes.
    """
    noted = 0
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > noted + 1:
            raise InvalidWeights("holds a pickle that numbers its notes out of turn")
        noted += opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        stream: io.BytesIO,
        allowed: AllowedPickle,
        persistent: Callable[[object], object] | None,
    ) -> None:
        super().__init__(stream)
        self._allowed = allowed
        self._persistent = persistent

    def find_class(self, module_name: str, global_name: str, /) -> Placeholder:
        found = self._allowed.names.get((module_name, global_name))
        if found is None:
            name = f"{module_name}.{global_name}"[:100]
            raise InvalidWeights(
                f"holds a pickle that asks for {name!r}; only {self._allowed.content} are read",
                self._allowed.remedy,
            )
        return found if isinstance(found, Placeholder) else _Call(found)

    def persistent_load(self, pid: object) -> object:
        if self._persistent is None:
            raise InvalidWeights("holds a pickle whose content lies elsewhere")
        return self._persistent(pid)
