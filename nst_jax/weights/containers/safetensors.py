"""Safetensors: a header of JSON that says where each array lies, then the arrays.

The format has no magic number. It starts with the header's length as 8 bytes, and the
header starts with a brace. The library checks that the arrays fill the file without gaps.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax.weights.containers.arrays import Arrays, Container, StoredArray, check_name
from nst_jax.weights.errors import InvalidWeights

_LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

_TYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Arrays]:
    import safetensors

    try:
        opened = safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise InvalidWeights("is damaged, cut short or no safetensors file") from error
    with opened as file:
        yield {check_name(name): _describe(file, name) for name in file.keys()}  # noqa: SIM118


def _describe(file: Any, name: str) -> StoredArray:
    claim = file.get_slice(name)
    type_name = claim.get_dtype()
    dtype = _TYPES.get(type_name, np.dtype("V1"))
    values = functools.partial(file.get_tensor, name)
    return StoredArray(tuple(claim.get_shape()), dtype, values, type_name)


def _is_safetensors(start: bytes) -> bool:
    length = int.from_bytes(start[:8], "little")
    return 2 <= length <= _LARGEST_HEADER and start[8:9] == b"{"


CONTAINER = Container("safetensors", _is_safetensors, _open)
