"""What every container yields: arrays that lie in a file and have not been read.

A container is a way to lay named arrays into a file. It knows nothing of what the names mean.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.network import Shape, Tensor

START_BYTES = 1024
"""So many bytes of a file, or as many as it has, tell its container."""

_READABLE = ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")
_LONGEST_NAME = 500


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """What a file claims about one array, and how to get its values.

    Attributes:
        shape: Its sides.
        dtype: What its numbers are stored as. Only its size is right where NumPy has no such type.
        values: Reads it. Raises `InvalidWeights` or anything else if the file is damaged.
        type_name: What messages call the numbers, where NumPy has no name for them.
    """

    shape: Shape
    dtype: np.dtype
    values: Callable[[], np.ndarray]
    type_name: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of its values in the file, were they stored plain."""
        return math.prod(self.shape) * self.dtype.itemsize

    def float32(self) -> Tensor:
        """Its values as float32, in the machine's byte order.

        Raises:
            InvalidWeights: It holds something else than half, single or double precision
                numbers, or not as many as the file says.
        """
        if self.dtype.str not in _READABLE:
            kind = self.type_name or self.dtype
            raise InvalidWeights(
                f"stores its numbers as {kind}; float16, 32 and 64 are read",
                "Save it as float32 with the program that wrote it.",
            )
        values = self.values()
        if values.shape != self.shape:
            raise InvalidWeights("is damaged: an array is not as large as the file says")
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite: refused later
            return np.asarray(values, np.float32)


Arrays = Mapping[str, StoredArray]
"""A container's content: each array by its name, which may be a path with slashes or dots."""


@dataclasses.dataclass(frozen=True)
class Container:
    """How one kind of file is told and opened.

    Attributes:
        name: What it is called, in words for a user.
        is_kind: Whether a file that starts with these bytes is of this kind.
        open: Its arrays, to be read while the context lasts. Raises `InvalidWeights` or anything
            else if the file is damaged or claims more than it holds.
    """

    name: str
    is_kind: Callable[[bytes], bool]
    open: Callable[[Path], AbstractContextManager[Arrays]]


def check_name(name: object) -> str:
    """An array's name, which messages can show as it is.

    Raises:
        InvalidWeights: It is no text, very long, or holds what can't be printed on one line.
    """
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise InvalidWeights("holds an array whose name is no line of text")
    return name
