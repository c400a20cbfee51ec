"""What several containers have to say about a file's claims."""

import dataclasses

from nst_jax.weights.containers.arrays import StoredArray
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.network import Tensor

_LONGEST_NAME = 200


@dataclasses.dataclass(frozen=True)
class UnreadableArray(StoredArray):
    """An array of numbers that NumPy has no type for: it can be listed but not read.

    Attributes:
        type_name: What the numbers are stored as. `dtype` only has their size.
    """

    type_name: str = ""

    def float32(self) -> Tensor:
        """Always raises an `InvalidWeights`."""
        raise InvalidWeights(
            f"stores its numbers as {self.type_name}; float16, 32 and 64 are read",
            "Save it as float32 with the program that wrote it.",
        )


def check_name(name: object) -> str:
    """An array's name, which messages can show as it is.

    Raises:
        InvalidWeights: It is no text, very long, or holds what can't be printed on one line.
    """
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise InvalidWeights("holds an array whose name is no line of text")
    return name
