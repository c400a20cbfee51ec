"""PyTorch's `.pth` files, in both formats that `torch.save` ever wrote.

    since 2020    a zip archive, nothing in it compressed: data.pkl says which tensors there
                  are, data/0, data/1, … are their storages
    before        one stream: a magic number, a version and a description of the machine,
                  the tensors, a list of the storages' keys, each in a pickle of its own;
                  then each storage, its count of numbers before it

PyTorch pickles a tensor as a view of a storage: from which number on, with which sides and
which strides. The storage itself, a row of numbers, lies elsewhere in the file and is only
named there, by a key. The pickles' claims are checked against the file's size; the numbers are
then read straight from their places. PyTorch has no part in it, and nothing in a file is run.
"""

import contextlib
import dataclasses
import functools
import io
import math
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from nst_jax.weights.containers.arrays import Arrays, Container, StoredArray, check_name
from nst_jax.weights.containers.pickles import Placeholder, SafeUnpickler
from nst_jax.weights.errors import InvalidWeights

_ZIP_START = b"PK\x03\x04"
_STREAM_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_STREAM_VERSION = 1001

_LARGEST_PICKLE = 2**24
"""Bytes; a VGG's takes a few thousand."""

_MOST_DIMENSIONS = 8

_SAVE_AGAIN = "Save it again: torch.save(model.state_dict(), 'x.pth')."
_SAVE_A_STATE_DICT = "Save its state_dict() instead: torch.save(model.state_dict(), 'x.pth')."

_ByteOrder = Literal["<", ">"]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Arrays]:
    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP_START)) == _ZIP_START
        arrays = _read_zip(path, file) if is_zip else _read_stream(path, file)
    yield arrays


# The pickle of the tensors.


@dataclasses.dataclass(frozen=True, eq=False)
class _NumberType(Placeholder):
    """Stands for a class of storages: what their numbers are, in this machine's byte order."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage(Placeholder):
    """A row of `count` numbers, which lies elsewhere in the file under `key`."""

    key: str
    dtype: np.dtype
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class _Tensor(Placeholder):
    """A view of a storage, known to lie inside it; offset and strides count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _OrderedDictionary(dict[object, object], Placeholder):
    """Stands for `collections.OrderedDict`; its attributes, as `_metadata`, are not kept."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Forgets the attributes."""


def _make_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> _Tensor:
    """Stands for `_rebuild_tensor` of 2016 and `_rebuild_tensor_v2` of today.

    Refuses a tensor that reaches beyond its storage, or is larger than it in memory.
    """
    if not isinstance(storage, _Storage):
        raise InvalidWeights("holds a tensor without a storage")
    if not all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *strides)):
        raise InvalidWeights("holds a tensor with a negative size, stride or offset")
    if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
        raise InvalidWeights(f"holds a tensor of {len(shape)} sides and {len(strides)} strides")
    elements = math.prod(shape)
    reach = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) + 1
    if offset + (reach if elements else 0) > storage.count or elements > storage.count:
        raise InvalidWeights("holds a tensor that reaches beyond its storage")
    return _Tensor(storage, offset, shape, strides)


def _take_tensor(tensor: object, *_: object) -> _Tensor:
    """Stands for `_rebuild_parameter`."""
    if not isinstance(tensor, _Tensor):
        raise InvalidWeights("holds a parameter that is no tensor")
    return tensor


_NUMBER_TYPES = {
    "HalfStorage": "float16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BFloat16Storage": "V2",  # NumPy has no such type: only the size is right
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
}

_NAMES = {
    ("collections", "OrderedDict"): lambda pairs=(): _OrderedDictionary(pairs),
    ("torch", "Size"): lambda sides: sides,
    ("torch._utils", "_rebuild_tensor"): _make_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
    ("torch._utils", "_rebuild_parameter"): _take_tensor,
    **{
        (module, name): _NumberType(np.dtype(numbers))
        for module in ("torch", "torch.cuda")
        for name, numbers in _NUMBER_TYPES.items()
    },
}


class _Unpickler(SafeUnpickler):
    """Reads tensors, and numbers, texts and lists.

    Attributes:
        storages: What the tensors are views of, by their keys; perhaps more than these need.
    """

    content = "plain tensors"
    names = _NAMES
    remedy = f"A whole model is a program. {_SAVE_A_STATE_DICT}"

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: object) -> _Storage:
        """('storage', type, key, where it was, count), and None for no view in older files."""
        match pid:
            case ("storage", _NumberType(dtype=dtype), str(key), str(), int(count), *view):
                if count >= 0 and view in ([], [None]):
                    known = self.storages.setdefault(key, _Storage(key, dtype, count))
                    if (known.dtype, known.count) != (dtype, count):
                        raise InvalidWeights("holds a storage that contradicts itself")
                    return known
        raise InvalidWeights("holds a storage that is not laid out as PyTorch does it")

    def load_state_dict(self) -> dict[str, _Tensor]:
        """The tensors by their names, which may lie beside plain values."""
        tree = self.load()
        nodes = [tree, tree.get("state_dict"), tree.get("model")] if isinstance(tree, dict) else []
        for node in nodes:
            members = node.items() if isinstance(node, dict) else ()
            tensors = {check_name(key): one for key, one in members if isinstance(one, _Tensor)}
            if tensors:
                return tensors
        raise InvalidWeights("holds no state_dict of tensors", _SAVE_A_STATE_DICT)


# The numbers of the tensors.


def _describe(
    path: Path,
    tensors: Mapping[str, _Tensor],
    starts: Mapping[str, int],
    byte_order: _ByteOrder = "<",
) -> Arrays:
    """The tensors as arrays of the file in which each storage starts there, whole."""
    arrays = {}
    for name, tensor in tensors.items():
        dtype = tensor.storage.dtype.newbyteorder(byte_order)
        start = starts[tensor.storage.key] + tensor.offset * dtype.itemsize
        read = functools.partial(_read, path, start, dtype, tensor)
        type_name = "bfloat16" if dtype.kind == "V" else ""
        arrays[name] = StoredArray(tensor.shape, dtype, read, type_name)
    return arrays


def _read(path: Path, start: int, dtype: np.dtype, tensor: _Tensor) -> np.ndarray:
    count = tensor.storage.count - tensor.offset
    if count == 0:
        return np.empty(tensor.shape, dtype)  # a row of nothing can't be mapped
    row = np.memmap(path, dtype, "r", start, (count,))
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(row, tensor.shape, strides))


# The zip archive.


def _read_zip(path: Path, file: BinaryIO) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    root = _find_root(entries)
    unpickler = _Unpickler(io.BytesIO(_read_entry(file, entries[f"{root}/data.pkl"])))
    tensors, starts = unpickler.load_state_dict(), {}
    for key, storage in unpickler.storages.items():
        entry = entries.get(f"{root}/data/{key}")
        if entry is None or entry.file_size != storage.nbytes:
            raise InvalidWeights(
                "is damaged: a storage is missing or not as large as its tensors say"
            )
        starts[key] = _start_of_data(file, entry)
    order = entries.get(f"{root}/byteorder")
    # Archives of before 2023 do not say: the machines that wrote them were little-endian.
    orders: dict[bytes, _ByteOrder] = {b"little": "<", b"big": ">"}
    byte_order = orders[_read_entry(file, order) if order else b"little"]
    return _describe(path, tensors, starts, byte_order)


def _find_root(names: Collection[str]) -> str:
    """The folder in which everything of a PyTorch archive lies."""
    if any(name.endswith("/constants.pkl") for name in names):
        raise InvalidWeights("is a TorchScript archive, that is a program", _SAVE_AGAIN)
    if not any(name.endswith("/data.pkl") for name in names):
        if {"config.json", "model.weights.h5"} <= set(names):
            raise InvalidWeights(
                "is a whole Keras model",
                "Save its weights alone: model.save_weights('x.weights.h5').",
            )
        raise InvalidWeights(
            "is a zip, but no archive of PyTorch's",
            "If the weights are packed in it, unpack it and name the file inside.",
        )
    folders = {name.partition("/")[0] for name in names}
    if len(folders) != 1 or f"{(root := folders.pop())}/data.pkl" not in names:
        raise InvalidWeights("is a zip, but not laid out as PyTorch does it", _SAVE_AGAIN)
    return root


def _read_entry(file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > _LARGEST_PICKLE:
        raise InvalidWeights(f"describes its tensors in {entry.file_size} bytes, far too much")
    file.seek(_start_of_data(file, entry))
    return file.read(entry.file_size)


def _start_of_data(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes lie, all of them: behind its header, its name and its extras."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise InvalidWeights(
            "is a zip with compressed entries, as PyTorch never writes", _SAVE_AGAIN
        )
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or not header.startswith(_ZIP_START):
        raise InvalidWeights("is a zip whose entries are not where it says")
    name_length, extra_length = np.frombuffer(header, "<u2", 2, 26).tolist()
    start = entry.header_offset + 30 + name_length + extra_length
    if start + entry.file_size > file.seek(0, os.SEEK_END):
        raise InvalidWeights("is cut short: a zip's entry reaches beyond the file")
    return start


# The stream.


def _read_stream(path: Path, file: BinaryIO) -> Arrays:
    file.seek(0)
    stream = io.BytesIO(file.read(_LARGEST_PICKLE))
    stream.seek(len(_STREAM_START))
    if _Unpickler(stream).load() != _STREAM_VERSION:
        raise InvalidWeights(
            f"is a PyTorch stream of another version than {_STREAM_VERSION}", _SAVE_AGAIN
        )
    _Unpickler(stream).load()  # the writer's machine; the numbers are little-endian on every one
    unpickler = _Unpickler(stream)
    tensors, storages = unpickler.load_state_dict(), unpickler.storages
    keys = _Unpickler(stream).load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise InvalidWeights("is damaged: its list of storages is not that of its tensors")
    size, start, starts = file.seek(0, os.SEEK_END), stream.tell(), {}
    for key in keys:
        file.seek(start)
        if int.from_bytes(file.read(8), "little", signed=True) != storages[key].count:
            raise InvalidWeights("is damaged: a storage is not as large as its tensors say")
        starts[key] = start + 8
        start += 8 + storages[key].nbytes
        if start > size:
            raise InvalidWeights("is cut short: a storage reaches beyond the file")
    return _describe(path, tensors, starts)


def _is_torch(start: bytes) -> bool:
    return start.startswith((_ZIP_START, _STREAM_START))


CONTAINER = Container("PyTorch", _is_torch, _open)
