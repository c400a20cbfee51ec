"""Unpickling with nothing of the pickle ever run.

A pickle is a program for a small stack machine, and the machine can call anything it can
import. Here it finds a few names only, and behind each stands not the real object but one that
notes what it is given.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from nst_jax.weights.errors import InvalidWeights

_NOTES = ("PUT", "BINPUT", "LONG_BINPUT")


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


class SafeUnpickler(pickle.Unpickler):
    """Reads one pickle, of several perhaps, from where a stream stands up to its end.

    Attributes:
        content: What such a file holds, in words, for messages.
        names: All that a pickle finds under a module's and an object's name: a placeholder, or a
            function of ours that can't do harm, whatever it is given.
        remedy: What to do with a file that asks for another name.
    """

    content: ClassVar[str]
    names: ClassVar[Mapping[tuple[str, str], Placeholder | Callable[..., object]]]
    remedy: ClassVar[str] = ""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._stream = stream

    def load(self) -> Any:
        """The object that is pickled.

        Raises:
            InvalidWeights: The pickle is damaged or asks for what it may not use, memory included.
        """
        start = self._stream.tell()
        try:
            self._check_notes()
            self._stream.seek(start)
            return super().load()
        except InvalidWeights:
            raise
        except Exception as error:
            # Broad on purpose: a damaged pickle can make the stack machine raise anything.
            raise InvalidWeights(f"is no sound pickle of {self.content}") from error

    def find_class(self, module_name: str, global_name: str, /) -> Placeholder:
        found = self.names.get((module_name, global_name))
        if found is None:
            name = f"{module_name}.{global_name}"[:100]
            raise InvalidWeights(
                f"holds a pickle that asks for {name!r}; only {self.content} are read", self.remedy
            )
        return found if isinstance(found, Placeholder) else _Call(found)

    def persistent_load(self, pid: object) -> object:
        raise InvalidWeights("holds a pickle whose content lies elsewhere")

    def _check_notes(self) -> None:
        """Reads the program without running it: is it whole, are its notes numbered in turn?

        The machine's memory grows to the largest number noted, up to many gigabytes.
        """
        noted = 0
        for opcode, argument, _ in pickletools.genops(self._stream):
            if opcode.name in _NOTES and (argument or 0) > noted + 1:
                raise InvalidWeights("holds a pickle that numbers its notes out of turn")
            noted += opcode.name in (*_NOTES, "MEMOIZE")
