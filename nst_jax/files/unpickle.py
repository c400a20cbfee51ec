"""Arrays out of a pickle, with nothing of the pickle ever run.

A pickle is a program for a small stack machine, and the machine can call anything it can
import. Here it finds three names only, and behind each stands not NumPy's own object but
an inert one of ours that notes what it is given. Those notes are then checked and turned
into arrays. The program is read through before it is run, so that it can't ask for memory
or for machinery that arrays do not need.

What comes out is nested dictionaries of float32 arrays, as Flax's parameters are pickled.
"""

import io
import pickle
import pickletools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nst_jax.files.faults import Fault

_OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BINBYTES", "SHORT_BINBYTES", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
        *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
    )
)
_DEEPEST_DICTIONARY = 4
_MOST_DIMENSIONS = 4


def unpickle_arrays(content: bytes) -> dict[tuple[str, ...], npt.NDArray[np.float32]]:
    """The float32 arrays of a pickle by their path of dictionary keys.

    The arrays are read-only.

    Raises:
        Fault: The pickle is damaged, or holds anything else than nested dictionaries of
            little-endian float32 arrays. None of it has been run then.
    """
    try:
        _check_opcodes(content)
        tree = _ArrayUnpickler(io.BytesIO(content)).load()
        return dict(_leaves(tree, (), set()))
    except Fault:
        raise
    except Exception as error:
        # Broad on purpose: a damaged pickle can make the stack machine raise anything.
        raise Fault("is no sound pickle of float32 arrays") from error


class _Inert:
    """Nothing can be set on it or called of it that is not written here."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise Fault("holds a pickle that gives a state to what has none")


class _ArrayClass(_Inert):
    """Stands for `numpy.ndarray`, which only `_reconstruct` may be given."""


class _PickledType(_Inert):
    """Stands for one `numpy.dtype`: notes its code and its byte order."""

    __slots__ = ("byte_order", "code")

    def __init__(self, code: object) -> None:
        self.code = code
        self.byte_order: object = None

    def __setstate__(self, state: object) -> None:
        _, self.byte_order, *_ = _as_tuple(state)


class _PickledArray(_Inert):
    """Stands for one array: notes its values once they come."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: npt.NDArray[np.float32] | None = None

    def __setstate__(self, state: object) -> None:
        _, shape, dtype, in_fortran_order, data = _as_tuple(state)
        self.values = _float32_array(
            _as_tuple(shape), dtype, data, in_fortran_order=bool(in_fortran_order)
        )


class _TypeMaker(_Inert):
    def __call__(self, code: object, *_flags: object) -> _PickledType:
        return _PickledType(code)


class _ArrayMaker(_Inert):
    def __call__(self, kind: object, _shape: object, _code: object) -> _PickledArray:
        if not isinstance(kind, _ArrayClass):
            raise Fault("holds a pickle of a kind of array that is not read here")
        return _PickledArray()


_STAND_INS = {
    ("numpy", "ndarray"): _ArrayClass(),
    ("numpy", "dtype"): _TypeMaker(),
    ("numpy.core.multiarray", "_reconstruct"): _ArrayMaker(),  # as NumPy 1 wrote it
    ("numpy._core.multiarray", "_reconstruct"): _ArrayMaker(),  # as NumPy 2 does
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> _Inert:
        if (module_name, global_name) not in _STAND_INS:
            name = f"{module_name}.{global_name}"
            raise Fault(f"holds a pickle that asks for {name!r}; only plain arrays are read")
        return _STAND_INS[module_name, global_name]


def _check_opcodes(content: bytes) -> None:
    """Reads the program without running it and refuses what plain arrays do not need."""
    noted = 0
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in _OPCODES:
            raise Fault(f"holds a pickle with {opcode.name}, which plain arrays do not need")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and argument != noted:
            # The machine's memory grows to the largest number noted, up to many gigabytes.
            raise Fault("holds a pickle that numbers its notes out of turn")
        noted += opcode.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE")


def _as_tuple(value: object) -> tuple[object, ...]:
    if not isinstance(value, tuple):
        raise Fault("holds a pickle whose arrays are not laid out as NumPy does it")
    return value


def _float32_array(
    shape: tuple[object, ...], dtype: object, data: object, *, in_fortran_order: bool
) -> npt.NDArray[np.float32]:
    if not isinstance(dtype, _PickledType) or (dtype.code, dtype.byte_order) != ("f4", "<"):
        raise Fault("holds a pickle of arrays that are not little-endian float32")
    sides = [side for side in shape if type(side) is int and side >= 0]
    if len(sides) != len(shape) or len(sides) > _MOST_DIMENSIONS or not isinstance(data, bytes):
        raise Fault("holds a pickled array without a sound shape or without bytes")
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
                raise Fault("holds a pickled dictionary with a key that is no text")
            yield from _leaves(value, (*path, key), seen)
    else:
        raise Fault("holds a pickle of something else than nested dictionaries of arrays")
