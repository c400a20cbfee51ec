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

from nst_jax.weights.containers.arrays import check_name
from nst_jax.weights.containers.pickles import AllowedPickle, Placeholder, unpickle
from nst_jax.weights.errors import InvalidWeights

_MOST_DIMENSIONS = 8

_SAVE_A_STATE_DICT = "Save its state_dict() instead: torch.save(model.state_dict(), 'x.pth')."


@dataclasses.dataclass(frozen=True, eq=False)
class NumberType(Placeholder):
    """What a storage's numbers are, as PyTorch calls it."""

    name: str

    @property
    def dtype(self) -> np.dtype:
        """NumPy's, in this machine's byte order. Only the size is right for bfloat16."""
        return np.dtype("V2" if self.name == "bfloat16" else self.name)


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
    """

    tensors: dict[str, StoredTensor]
    storages: dict[str, Storage]


def unpickle_plain(stream: io.BytesIO) -> object:
    """The numbers, texts and lists of a pickle that may hold no tensors."""
    return unpickle(stream, _PLAIN_TENSORS)


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

    tree = unpickle(stream, _PLAIN_TENSORS, storage_of)
    nodes = [tree, tree.get("state_dict"), tree.get("model")] if isinstance(tree, dict) else []
    for node in nodes:
        members = node.items() if isinstance(node, dict) else ()
        tensors = {check_name(key): one for key, one in members if isinstance(one, StoredTensor)}
        if tensors:
            return StateDict(tensors, storages)
    raise InvalidWeights("holds no state_dict of tensors", _SAVE_A_STATE_DICT)


def _storage(identity: object) -> Storage:
    """('storage', type, key, where it was, count), and None for no view in older files."""
    match identity:
        case ("storage", NumberType() as numbers, str(key), str(), int(count), *view):
            if count >= 0 and view in ([], [None]):
                return Storage(key, numbers, count)
    raise InvalidWeights("holds a storage that is not laid out as PyTorch does it")


class _OrderedDictionary(dict[object, object], Placeholder):
    """Stands for `collections.OrderedDict`; its attributes, as `_metadata`, are not kept."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Forgets the attributes."""


def _make_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> StoredTensor:
    """Stands for `_rebuild_tensor` of 2016 and `_rebuild_tensor_v2` of today.

    Raises:
        InvalidWeights: It reaches beyond its storage, or is larger than it in memory.
    """
    if not isinstance(storage, Storage):
        raise InvalidWeights("holds a tensor without a storage")
    if not all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *strides)):
        raise InvalidWeights("holds a tensor with a negative size, stride or offset")
    if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
        raise InvalidWeights(f"holds a tensor of {len(shape)} sides and {len(strides)} strides")
    elements = math.prod(shape)
    reach = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) + 1
    if offset + (reach if elements else 0) > storage.count or elements > storage.count:
        raise InvalidWeights("holds a tensor that reaches beyond its storage")
    return StoredTensor(storage, offset, shape, strides)


def _take_tensor(tensor: object, *_: object) -> StoredTensor:
    """Stands for `_rebuild_parameter`."""
    if not isinstance(tensor, StoredTensor):
        raise InvalidWeights("holds a parameter that is no tensor")
    return tensor


_NUMBER_TYPES = {
    "HalfStorage": NumberType("float16"),
    "FloatStorage": NumberType("float32"),
    "DoubleStorage": NumberType("float64"),
    "BFloat16Storage": NumberType("bfloat16"),
    "ByteStorage": NumberType("uint8"),
    "CharStorage": NumberType("int8"),
    "ShortStorage": NumberType("int16"),
    "IntStorage": NumberType("int32"),
    "LongStorage": NumberType("int64"),
    "BoolStorage": NumberType("bool"),
}

_PLAIN_TENSORS = AllowedPickle(
    "plain tensors",
    {
        ("collections", "OrderedDict"): lambda pairs=(): _OrderedDictionary(pairs),
        ("torch", "Size"): lambda sides: sides,
        ("torch._utils", "_rebuild_tensor"): _make_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
        ("torch._utils", "_rebuild_parameter"): _take_tensor,
        **{("torch", name): numbers for name, numbers in _NUMBER_TYPES.items()},
        **{("torch.cuda", name): numbers for name, numbers in _NUMBER_TYPES.items()},
    },
    f"A whole model is a program. {_SAVE_A_STATE_DICT}",
)
