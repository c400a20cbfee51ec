"""A pickle's structure, with nothing of the pickle ever run.

A pickle is a program for a small stack machine, and the machine can call anything it can
import. Here it finds the few names of a `AllowedPickle` only, and behind each stands not the real
object but an inert one of ours that notes what it is given. The program is read through
before it is run, so that it can't ask for memory or for machinery that arrays do not need.
"""

import dataclasses
import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from nst_jax.weights.errors import InvalidWeights

PLAIN_OPCODES = frozenset(
    (
        *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("BININT", "BININT1", "BININT2", "BINUNICODE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "REDUCE", "BUILD"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    )
)
"""What every such pickle needs: constants, tuples, dictionaries, calls and notes."""

_NOTING = ("BINPUT", "LONG_BINPUT", "MEMOIZE")
_RECALLING = ("BINGET", "LONG_BINGET")

_MOST_TUPLES_RECALLED = 20
"""A tuple of a tuple of …, each twice in the next, takes for ever to hash when it is a key."""


class Placeholder:
    """Stands for something in a pickle: no state can be given to it but where it says so."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise InvalidWeights("holds a pickle that gives a state to what has none")


@dataclasses.dataclass(frozen=True)
class AllowedPickle:
    """The part of pickle's language that one kind of file needs.

    Attributes:
        content: What such a file holds, in words, for messages.
        opcodes: The instructions it needs.
        placeholders: What is found under a module's and an object's name.
        program: What to say of a pickle that makes objects of classes: message and remedy.
    """

    content: str
    opcodes: frozenset[str]
    placeholders: Mapping[tuple[str, str], Placeholder]
    program: tuple[str, str] = ("", "")


def unpickle(
    stream: io.BytesIO, allowed: AllowedPickle, persistent: Callable[[object], object] | None = None
) -> Any:
    """The object of the pickle that starts where `stream` stands, and moves behind its end.

    Args:
        stream: One or more pickles.
        allowed: All that the pickle may use.
        persistent: Finds what the pickle names but does not hold.

    Raises:
        InvalidWeights: The pickle is damaged or needs more than it may use. Then
            nothing of it has been run.
    """
    start = stream.tell()
    try:
        _check_opcodes(stream, allowed)
        end = stream.tell()
        stream.seek(start)
        tree = _Unpickler(stream, allowed, persistent).load()
    except InvalidWeights:
        raise
    except Exception as error:
        # Broad on purpose: a damaged pickle can make the stack machine raise anything.
        raise InvalidWeights(f"is no sound pickle of {allowed.content}") from error
    stream.seek(end)
    return tree


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
        stand_ins = self._allowed.placeholders
        if (module_name, global_name) not in stand_ins:
            name = f"{module_name}.{global_name}"[:100]
            raise InvalidWeights(
                f"holds a pickle that asks for {name!r}; only {self._allowed.content} are read"
            )
        return stand_ins[module_name, global_name]

    def persistent_load(self, pid: object) -> object:
        if self._persistent is None:
            raise InvalidWeights("holds a pickle whose content lies elsewhere")
        return self._persistent(pid)


def _check_opcodes(stream: io.BytesIO, allowed: AllowedPickle) -> None:
    """Reads the program without running it and refuses what it may not use."""
    noted, before = 0, ""
    tuples: set[object] = set()
    recalled = 0
    for opcode, argument, _ in pickletools.genops(stream):
        _check_opcode(opcode.name, allowed)
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            # The machine's memory grows to the largest number noted, up to many gigabytes.
            # Python 2 numbered its notes from 1.
            if argument not in (noted, noted + 1):
                raise InvalidWeights("holds a pickle that numbers its notes out of turn")
            if before.startswith("TUPLE"):
                tuples.add(argument)
        recalled += opcode.name in _RECALLING and argument in tuples
        noted += opcode.name in _NOTING
        before = opcode.name
    if recalled > _MOST_TUPLES_RECALLED:
        raise InvalidWeights("holds a pickle that nests its tuples endlessly")


def _check_opcode(name: str, allowed: AllowedPickle) -> None:
    message, remedy = allowed.program
    if message and name in ("NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"):
        raise InvalidWeights(message, remedy)
    if name not in allowed.opcodes:
        raise InvalidWeights(f"holds a pickle with {name}, which {allowed.content} do not need")
