"""What a container is: a way to lay named arrays into a file."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from nst_jax.weights.containers.arrays import Arrays

START_BYTES = 1024
"""So many bytes of a file, or as many as it has, tell its container."""


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
