"""The pickle inside PyTorch's files: which tensors there are, and where their numbers lie.

PyTorch pickles a tensor as a view of a storage: from which number on, with which sides and
which strides. The storage itself, a row of numbers, lies elsewhere in the file and is only
named here, by a key. Nothing of PyTorch is needed to read that, and nothing of it is run.
"""

import dataclasses
import io
import math
from typing import Any

import numpy as np

from nst_jax.weights.containers.claims import check_name
from nst_jax.weights.containers.pickle_structure import (
    PLAIN_OPCODES,
    AllowedPickle,
    Placeholder,
    unpickle,
)
from nst_jax.weights.errors import InvalidWeights

_MOST_DIMENSIONS = 8

_SAVE_A_STATE_DICT = "Save its state_dict() instead: torch.save(model.state_dict(), 'x.pth')."


@dataclasses.dataclass(frozen=True, eq=False)
class NumberType(Placeholder):
    """What a storage's numbers are.

    Attributes:
        name: As PyTorch calls it.
        dtype: NumPy's, in this machine's byte order. Only the size is right for bfloat16.
    """

    name: str
    dtype: np.dtype

    @property
    def is_known_to_numpy(self) -> bool:
        """Whether `dtype` can be computed with."""
        return self.dtype.kind != "V"


@dataclasses.dataclass(frozen=True, eq=False)
class Storage(Placeholder):
    """A row of `count` numbers, which lies elsewhere in the file under `key`."""

    key: str
    numbers: NumberType
    count: int

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.count * self.numbers.dtype.itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor(Placeholder):
    """A view of a storage, known to lie inside it; offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class StateDict:
    """A network's tensors.

    Attributes:
        tensors: Each by its name.
        storages: What they are views of, by their keys; perhaps more than these need.
        path: The keys that lead to the names: none, or `state_dict` and the like.
    """

    tensors: dict[str, StoredTensor]
    storages: dict[str, Storage]
    path: tuple[str, ...]


def unpickle_plain(stream: io.BytesIO) -> object:
    """The numbers, texts and lists of a pickle that may hold no tensors."""
    return unpickle(stream, _ALLOWED)


def unpickle_state_dict(stream: io.BytesIO) -> StateDict:
    """The tensors of the pickle that starts where `stream` stands.

    Raises:
        InvalidWeights: It is damaged, holds anything but tensors and plain values beside
            them, or a tensor reaches beyond its storage.
    """
    storages: dict[str, Storage] = {}

    def storage_of(identity: object) -> Storage:
        storage = _storage(identity)
        known = storages.setdefault(storage.key, storage)
        if (known.numbers, known.count) != (storage.numbers, storage.count):
            raise InvalidWeights("holds a storage that contradicts itself")
        return known

    tree = unpickle(stream, _ALLOWED, storage_of)
    for path in ((), ("state_dict",), ("model",)):
        if tensors := _tensors_at(tree, path):
            return StateDict(tensors, storages, path)
    raise InvalidWeights("holds no state_dict of tensors", _SAVE_A_STATE_DICT)


def _tensors_at(tree: object, path: tuple[str, ...]) -> dict[str, StoredTensor]:
    node = tree
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return {}
    return {
        check_name(name): value for name, value in node.items() if isinstance(value, StoredTensor)
    }


def _storage(identity: object) -> Storage:
    """('storage', type, key, where it was, count), and None for no view in older files."""
    match identity:
        case ("storage", NumberType() as numbers, str(key), str(), int(count), *view):
            if type(count) is int and count >= 0 and view in ([], [None]):
                return Storage(key, numbers, count)
    raise InvalidWeights("holds a storage that is not laid out as PyTorch does it")


class _OrderedDictionary(dict[object, object], Placeholder):
    """Stands for `collections.OrderedDict`; its attributes, as `_metadata`, are not kept."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Forgets the attributes."""


class _DictionaryMaker(Placeholder):
    def __call__(self, pairs: Any = ()) -> _OrderedDictionary:
        return _OrderedDictionary(pairs)  # Python 2 gave it a list of names and values


class _SizeMaker(Placeholder):
    def __call__(self, sides: object) -> object:
        return sides


class _TensorMaker(Placeholder):
    """Stands for `_rebuild_tensor` of 2016 and `_rebuild_tensor_v2` of today."""

    def __call__(
        self, storage: object, offset: object, shape: object, strides: object, *_: object
    ) -> StoredTensor:
        if not isinstance(storage, Storage):
            raise InvalidWeights("holds a tensor without a storage")
        [start], sides, steps = _whole((offset,)), _whole(shape), _whole(strides)
        if len(sides) != len(steps) or len(sides) > _MOST_DIMENSIONS:
            raise InvalidWeights(f"holds a tensor of {len(sides)} sides and {len(steps)} strides")
        _check_extent(storage, start, sides, steps)
        return StoredTensor(storage, start, sides, steps)


class _ParameterMaker(Placeholder):
    def __call__(self, tensor: object, *_: object) -> StoredTensor:
        if not isinstance(tensor, StoredTensor):
            raise InvalidWeights("holds a parameter that is no tensor")
        return tensor


def _whole(values: object) -> tuple[int, ...]:
    """The values, if all are numbers that sizes, strides and offsets can be."""
    if not isinstance(values, tuple):
        raise InvalidWeights("holds a tensor that is not laid out as PyTorch does it")
    # `type` and not `isinstance`, for which True is a number.
    whole = tuple(value for value in values if type(value) is int and value >= 0)
    if len(whole) != len(values):
        raise InvalidWeights("holds a tensor with a negative size, stride or offset")
    return whole


def _check_extent(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """Refuses what reaches beyond its storage, and what would be larger than it in memory."""
    elements = math.prod(shape)
    reach = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) + 1
    if offset + (reach if elements else 0) > storage.count or elements > storage.count:
        raise InvalidWeights("holds a tensor that reaches beyond its storage")


_NUMBER_TYPES = {
    "HalfStorage": NumberType("float16", np.dtype(np.float16)),
    "FloatStorage": NumberType("float32", np.dtype(np.float32)),
    "DoubleStorage": NumberType("float64", np.dtype(np.float64)),
    "BFloat16Storage": NumberType("bfloat16", np.dtype("V2")),
    "ByteStorage": NumberType("uint8", np.dtype(np.uint8)),
    "CharStorage": NumberType("int8", np.dtype(np.int8)),
    "ShortStorage": NumberType("int16", np.dtype(np.int16)),
    "IntStorage": NumberType("int32", np.dtype(np.int32)),
    "LongStorage": NumberType("int64", np.dtype(np.int64)),
    "BoolStorage": NumberType("bool", np.dtype(np.bool_)),
}

_PLACEHOLDERS: dict[tuple[str, str], Placeholder] = {
    ("collections", "OrderedDict"): _DictionaryMaker(),
    ("torch", "Size"): _SizeMaker(),
    ("torch._utils", "_rebuild_tensor"): _TensorMaker(),
    ("torch._utils", "_rebuild_tensor_v2"): _TensorMaker(),
    ("torch._utils", "_rebuild_parameter"): _ParameterMaker(),
    **{("torch", name): numbers for name, numbers in _NUMBER_TYPES.items()},
    **{("torch.cuda", name): numbers for name, numbers in _NUMBER_TYPES.items()},
}

_ALLOWED = AllowedPickle(
    "plain tensors",
    # Those of pickle's second protocol, as PyTorch's own careful reader has them.
    PLAIN_OPCODES
    | {"EMPTY_TUPLE", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"BINFLOAT", "LONG1", "SHORT_BINSTRING", "BINPERSID"},
    _PLACEHOLDERS,
    ("holds a whole model, that is a program, not its numbers alone", _SAVE_A_STATE_DICT),
)
