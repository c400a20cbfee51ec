"""An array that lies in a file and has not been read: what every container yields."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.network import Shape, Tensor

_READABLE = ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """What a file claims about one array, and how to get its values.

    A container checks every claim against the file's size before it yields the array, so
    that reading never asks for more memory than the values take in the file.

    Attributes:
        shape: Its sides.
        dtype: What its numbers are stored as.
        values: Reads it. Raises `InvalidWeights` or anything else if the file is damaged.
    """

    shape: Shape
    dtype: np.dtype
    values: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of its values in the file, were they stored plain."""
        sides = 1
        for side in self.shape:
            sides *= side
        return sides * self.dtype.itemsize

    def float32(self) -> Tensor:
        """Its values as float32, in the machine's byte order.

        Raises:
            InvalidWeights: It holds something else than half, single or double precision numbers.
        """
        if self.dtype.str not in _READABLE:
            raise InvalidWeights(f"stores its numbers as {self.dtype}; float16, 32 and 64 are read")
        values = self.values()
        if values.shape != self.shape:
            raise InvalidWeights("is damaged: an array is not as large as the file says")
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite: refused later
            return np.asarray(values, np.float32)


Arrays = Mapping[str, StoredArray]
"""A container's content: each array by its name, which may be a path with slashes or dots."""


def total_bytes(arrays: Iterable[StoredArray]) -> int:
    """Bytes of all their values."""
    return sum(array.nbytes for array in arrays)
