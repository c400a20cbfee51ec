"""PyTorch's `.pth` files, in both formats that `torch.save` ever wrote.

    since 2020    a zip archive, nothing in it compressed: data.pkl says which tensors there
                  are, data/0, data/1, … are their storages
    before        one stream: a magic number, a version and a description of the machine,
                  the tensors, a list of the storages' keys, each in a pickle of its own;
                  then each storage, its count of numbers before it

The pickles tell the names, shapes and places of all tensors, which are checked against the file's
size; the numbers are then read straight from those places. PyTorch has no part in it.
"""

import contextlib
import dataclasses
import functools
import io
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from nst_jax.weights.containers.arrays import Arrays, Container, StoredArray
from nst_jax.weights.containers.torch_pickle import (
    StateDict,
    StoredTensor,
    unpickle_plain,
    unpickle_state_dict,
)
from nst_jax.weights.errors import InvalidWeights

_ZIP_START = b"PK\x03\x04"
_STREAM_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_STREAM_VERSION = 1001

_LARGEST_PICKLE = 2**24
"""Bytes; a VGG's takes a few thousand."""

_SAVE_AGAIN = "Save it again: torch.save(model.state_dict(), 'x.pth')."


@dataclasses.dataclass(frozen=True)
class _Archive:
    """What the pickles of a file tell.

    Attributes:
        state: The tensors.
        starts: Where each storage starts in the file, by its key. All of it lies there.
        byte_order: `<` or `>`.
    """

    state: StateDict
    starts: Mapping[str, int]
    byte_order: Literal["<", ">"]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Arrays]:
    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP_START)) == _ZIP_START
        archive = _read_zip(file) if is_zip else _read_stream(file)
    yield {name: _describe(path, archive, tensor) for name, tensor in archive.state.tensors.items()}


def _describe(path: Path, archive: _Archive, tensor: StoredTensor) -> StoredArray:
    numbers = tensor.storage.numbers
    type_name = numbers.name if numbers.dtype.kind == "V" else ""
    dtype = numbers.dtype.newbyteorder(archive.byte_order)
    start = archive.starts[tensor.storage.key] + tensor.offset * dtype.itemsize
    values = functools.partial(_read, path, start, dtype, tensor)
    return StoredArray(tensor.shape, dtype, values, type_name)


def _read(path: Path, start: int, dtype: np.dtype, tensor: StoredTensor) -> np.ndarray:
    count = tensor.storage.count - tensor.offset
    if count == 0:
        return np.empty(tensor.shape, dtype)  # a row of nothing can't be mapped
    row = np.memmap(path, dtype, "r", start, (count,))
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(row, tensor.shape, strides))


# The zip archive.


def _read_zip(file: BinaryIO) -> _Archive:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    _check_names(entries)
    root = _root(entries)
    state = unpickle_state_dict(io.BytesIO(_read_entry(file, entries[f"{root}/data.pkl"])))
    starts = {}
    for key, storage in state.storages.items():
        entry = entries.get(f"{root}/data/{key}")
        if entry is None or entry.file_size != storage.nbytes:
            raise InvalidWeights(
                "is damaged: a storage is missing or not as large as its tensors say"
            )
        starts[key] = _start_of_data(file, entry)
    order = entries.get(f"{root}/byteorder")
    # Archives of before 2023 do not say: the machines that wrote them were little-endian.
    orders: dict[bytes, Literal["<", ">"]] = {b"little": "<", b"big": ">"}
    return _Archive(state, starts, orders[b"little" if order is None else _read_entry(file, order)])


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


def _check_names(names: Collection[str]) -> None:
    if any(name.endswith("/constants.pkl") for name in names):
        raise InvalidWeights("is a TorchScript archive, that is a program", _SAVE_AGAIN)
    if any(name.endswith("/data.pkl") for name in names):
        return
    if {"config.json", "model.weights.h5"} <= set(names):
        raise InvalidWeights(
            "is a whole Keras model",
            "Save its weights alone: model.save_weights('x.weights.h5').",
        )
    raise InvalidWeights(
        "is a zip, but no archive of PyTorch's",
        "If the weights are packed in it, unpack it and name the file inside.",
    )


def _root(names: Collection[str]) -> str:
    """The folder in which everything of a PyTorch archive lies."""
    folders = {name.partition("/")[0] for name in names}
    if len(folders) != 1 or f"{(root := folders.pop())}/data.pkl" not in names:
        raise InvalidWeights("is a zip, but not laid out as PyTorch does it", _SAVE_AGAIN)
    return root


# The stream.


def _read_stream(file: BinaryIO) -> _Archive:
    file.seek(0)
    stream = io.BytesIO(file.read(_LARGEST_PICKLE))
    stream.seek(len(_STREAM_START))
    if unpickle_plain(stream) != _STREAM_VERSION:
        raise InvalidWeights(
            f"is a PyTorch stream of another version than {_STREAM_VERSION}", _SAVE_AGAIN
        )
    unpickle_plain(stream)  # the writer's machine; the numbers are little-endian on every one
    state = unpickle_state_dict(stream)
    keys = unpickle_plain(stream)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(state.storages):
        raise InvalidWeights("is damaged: its list of storages is not that of its tensors")
    return _Archive(state, _starts(file, stream.tell(), keys, state), "<")


def _starts(file: BinaryIO, start: int, keys: list[str], state: StateDict) -> dict[str, int]:
    """Where the storages start, of which the first lies at `start`, its count before it."""
    size = file.seek(0, os.SEEK_END)
    starts = {}
    for key in keys:
        storage = state.storages[key]
        file.seek(start)
        if int.from_bytes(file.read(8), "little", signed=True) != storage.count:
            raise InvalidWeights("is damaged: a storage is not as large as its tensors say")
        starts[key] = start + 8
        start += 8 + storage.nbytes
        if start > size:
            raise InvalidWeights("is cut short: a storage reaches beyond the file")
    return starts


def _is_torch(start: bytes) -> bool:
    return start.startswith((_ZIP_START, _STREAM_START))


CONTAINER = Container("PyTorch", _is_torch, _open)
