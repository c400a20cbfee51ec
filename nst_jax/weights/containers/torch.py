"""PyTorch's `.pth` files, in both formats that `torch.save` ever wrote.

    since 2020    a zip archive, nothing in it compressed: data.pkl says which tensors there
                  are, data/0, data/1, … are their storages
    before        one stream: a magic number, a version and a description of the machine,
                  the tensors, a list of the storages' keys, each in a pickle of its own;
                  then each storage, its count of numbers before it

Our own reader always goes first. It learns the names, shapes and places of all tensors and
checks them against the file's size. The numbers themselves come from PyTorch, where it is
installed, else straight from the places that were found.
"""

import contextlib
import dataclasses
import functools
import importlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from nst_jax.weights.containers.arrays import Arrays, StoredArray
from nst_jax.weights.containers.claims import UnreadableArray
from nst_jax.weights.containers.container import Container
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
    """What was learnt of a file without PyTorch.

    Attributes:
        state: The tensors.
        starts: Where each storage starts in the file, by its key. All of it lies there.
        byte_order: `<` or `>`.
        may_be_mapped: Whether PyTorch can read it without loading all of it.
    """

    state: StateDict
    starts: Mapping[str, int]
    byte_order: Literal["<", ">"]
    may_be_mapped: bool


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Arrays]:
    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP_START)) == _ZIP_START
        archive = _read_zip(file) if is_zip else _read_stream(file)
    # Once for all tensors, and only when the first is read: PyTorch takes seconds to import.
    reader = functools.cache(lambda: _reader(path, archive))
    yield {
        name: _stored_array(tensor, archive, functools.partial(_read, reader, name))
        for name, tensor in archive.state.tensors.items()
    }


def _read(reader: Callable[[], Callable[[str], np.ndarray]], name: str) -> np.ndarray:
    return reader()(name)


def _stored_array(
    tensor: StoredTensor, archive: _Archive, values: Callable[[], np.ndarray]
) -> StoredArray:
    numbers = tensor.storage.numbers
    if not numbers.is_known_to_numpy:
        return UnreadableArray(tensor.shape, numbers.dtype, values, numbers.name)
    return StoredArray(tensor.shape, numbers.dtype.newbyteorder(archive.byte_order), values)


# The values.


def _reader(path: Path, archive: _Archive) -> Callable[[str], np.ndarray]:
    """Reads a tensor by its name: PyTorch's own reader where it is installed, else ours."""
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError):  # OSError: an installation that lost one of its libraries
        return functools.partial(_values_by_us, path, archive)
    return functools.partial(_values_by_torch, _loaded(torch, path, archive))


def _loaded(torch: Any, path: Path, archive: _Archive) -> Any:
    """The state dictionary as PyTorch understands it."""
    # PyTorch maps files by their name alone, and takes a name for UTF-8.
    by_name = archive.may_be_mapped and str(path).isprintable()
    try:
        with path.open("rb") as file:
            source = path if by_name else file
            tree = torch.load(source, map_location="cpu", weights_only=True, mmap=by_name)
        for key in archive.state.path:
            tree = tree[key]
    except MemoryError:
        raise
    except Exception as error:
        # Broad on purpose: pickle.UnpicklingError, RuntimeError, ValueError, EOFError and others.
        raise InvalidWeights("is a PyTorch file that PyTorch itself refuses to read") from error
    return tree


def _values_by_torch(state: Any, name: str) -> np.ndarray:
    return state[name].detach().numpy()


def _values_by_us(path: Path, archive: _Archive, name: str) -> np.ndarray:
    tensor = archive.state.tensors[name]
    numbers = tensor.storage.numbers.dtype.newbyteorder(archive.byte_order)
    start = archive.starts[tensor.storage.key] + tensor.offset * numbers.itemsize
    count = tensor.storage.count - tensor.offset
    if count == 0:
        return np.empty(tensor.shape, numbers)  # a row of nothing can't be mapped
    row = np.memmap(path, numbers, "r", start, (count,))
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(row, tensor.shape, strides))


# The zip archive.


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a zip's entry lies in the file, in bytes."""

    start: int
    size: int


def _read_zip(file: BinaryIO) -> _Archive:
    places = _places(file)
    root = _root(places)
    state = unpickle_state_dict(io.BytesIO(_small_entry(file, places[f"{root}/data.pkl"])))
    starts = {}
    for key, storage in state.storages.items():
        place = places.get(f"{root}/data/{key}")
        if place is None or place.size != storage.nbytes:
            raise InvalidWeights(
                "is damaged: a storage is missing or not as large as its tensors say"
            )
        starts[key] = place.start
    return _Archive(state, starts, _byte_order(file, places, root), may_be_mapped=True)


def _places(file: BinaryIO) -> dict[str, _Place]:
    """Every entry's place by its name; all lie one behind the other and none is compressed."""
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    _check_names({entry.filename for entry in entries}, len(entries))
    places, end = {}, 0
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise InvalidWeights(
                "is a zip with compressed entries, as PyTorch never writes", _SAVE_AGAIN
            )
        if entry.header_offset < end:
            raise InvalidWeights("is a zip whose entries overlap")
        place = _Place(_start_of_data(file, entry.header_offset), entry.file_size)
        places[entry.filename] = place
        end = place.start + place.size
    if end > file.seek(0, os.SEEK_END):
        raise InvalidWeights("is cut short: a zip's entry reaches beyond the file")
    return places


def _check_names(names: set[str], count: int) -> None:
    if len(names) != count:
        raise InvalidWeights("is a zip with two entries of one name")
    if any(name.endswith("/constants.pkl") for name in names):
        raise InvalidWeights("is a TorchScript archive, that is a program", _SAVE_AGAIN)
    if any(name.endswith("/data.pkl") for name in names):
        return
    if {"config.json", "model.weights.h5"} <= names:
        raise InvalidWeights(
            "is a whole Keras model",
            "Save its weights alone: model.save_weights('x.weights.h5').",
        )
    if names and all(name.endswith(".npy") for name in names):
        raise InvalidWeights(
            "is an archive of NumPy arrays (.npz), which nobody publishes a VGG in",
            "Save it with the program that made it: as .pth, .safetensors or .weights.h5.",
        )
    raise InvalidWeights(
        "is a zip, but no archive of PyTorch's",
        "If the weights are packed in it, unpack it and name the file inside.",
    )


def _root(places: Mapping[str, _Place]) -> str:
    """The folder in which everything of a PyTorch archive lies."""
    folders = {name.partition("/")[0] for name in places}
    if len(folders) != 1 or f"{(root := folders.pop())}/data.pkl" not in places:
        raise InvalidWeights("is a zip, but not laid out as PyTorch does it", _SAVE_AGAIN)
    return root


def _start_of_data(file: BinaryIO, header_offset: int) -> int:
    """A zip says of each entry where its header starts; its name and extras lie between."""
    file.seek(header_offset)
    header = file.read(30)
    if len(header) < 30 or not header.startswith(_ZIP_START):
        raise InvalidWeights("is a zip whose entries are not where it says")
    name_length, extra_length = np.frombuffer(header, "<u2", 2, 26).tolist()
    return header_offset + 30 + name_length + extra_length


def _small_entry(file: BinaryIO, place: _Place) -> bytes:
    if place.size > _LARGEST_PICKLE:
        raise InvalidWeights(f"describes its tensors in {place.size} bytes, which is far too much")
    file.seek(place.start)
    return file.read(place.size)


def _byte_order(file: BinaryIO, places: Mapping[str, _Place], root: str) -> Literal["<", ">"]:
    """Archives of before 2023 do not say: the machines that wrote them were little-endian."""
    place = places.get(f"{root}/byteorder")
    order = b"little" if place is None else _small_entry(file, place)
    if order not in (b"little", b"big"):
        raise InvalidWeights("is damaged: its byte order is neither little nor big")
    return "<" if order == b"little" else ">"


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
    keys = _check_keys(unpickle_plain(stream), state)
    return _Archive(state, _starts(file, stream.tell(), keys, state), "<", may_be_mapped=False)


def _check_keys(listed: object, state: StateDict) -> list[str]:
    keys = [key for key in listed if isinstance(key, str)] if isinstance(listed, list) else []
    if listed != keys or sorted(keys) != sorted(state.storages):
        raise InvalidWeights("is damaged: its list of storages is not that of its tensors")
    return keys


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
