"""HDF5: a tree of groups whose leaves are arrays. Keras and others keep their weights so.

The format can do far more than hold arrays: links to other files, arrays whose numbers lie in
other files, arrays of any size that were never written, compression without a bound. What
Keras and h5py write by themselves is read. Links are not followed, the rest is refused.
"""

import contextlib
import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from nst_jax.weights.containers.arrays import Arrays, Container, StoredArray, check_name
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.network import Shape

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512  # bytes that HDF5 leaves to others in front of its own
_MATLAB = b"MATLAB 7.3 MAT-file"

_MOST_MEMBERS = 20_000

_LARGEST_CHUNKED = 9 * 512 * 512 * 8
"""Bytes of VGG's largest kernel in double precision.

What comes out of compression has no bound in the file's own size, so its claim gets one
here. A chunk that comes to more than it claims meets the memory limit of the process.
"""

_FILTERS = (
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
)
"""Those that h5py brings with it. HDF5 would look for any other on the disk and load it."""


def _is_hdf5(start: bytes) -> bool:
    # MATLAB's newer files are HDF5 behind a user block that says so.
    is_signed = start.startswith(_SIGNATURE) or start.startswith(_SIGNATURE, _USER_BLOCK)
    return is_signed and not start.startswith(_MATLAB)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Arrays]:
    # HDF5 gets the open file, not its name: so it reads the very file that was recognised.
    with path.open("rb") as file, h5py.File(file, "r") as hdf5:
        limit_bytes = os.fstat(file.fileno()).st_size
        yield {
            name: _describe(dataset, name, limit_bytes)
            for name, dataset in _list_datasets(hdf5)
            if dataset.id.get_type().get_class() == h5py.h5t.FLOAT
        }


def _list_datasets(root: h5py.Group) -> list[tuple[str, h5py.Dataset]]:
    """Every dataset by its path. HDF5 visits each object once, and follows no link to another."""
    datasets: list[tuple[str, h5py.Dataset]] = []
    members = iter(range(_MOST_MEMBERS))

    def visit(path: str, member: object) -> bool | None:
        if isinstance(member, h5py.Dataset):
            datasets.append((check_name(path), member))
        return True if next(members, None) is None else None  # anything but None ends the visit

    if root.visititems(visit):
        raise InvalidWeights(f"holds more than {_MOST_MEMBERS} members, which no network here has")
    return datasets


def _describe(dataset: h5py.Dataset, path: str, limit_bytes: int) -> StoredArray:
    """A dataset whose numbers lie in this file. How many there are is checked on reading.

    The order matters: to ask a virtual dataset for its shape may open other files.
    """
    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise InvalidWeights(f"must hold {path} itself, but its numbers lie in another file")
    if (shape := dataset.shape) is None:
        raise InvalidWeights(f"holds {path} without a shape")
    read = functools.partial(_read, dataset, path, shape, limit_bytes)
    return StoredArray(shape, dataset.dtype, read)


def _read(dataset: h5py.Dataset, path: str, shape: Shape, limit_bytes: int) -> np.ndarray:
    """The dataset's numbers, if so many are in the file and no more come out of it."""
    chunk: Shape | None = dataset.chunks
    if chunk is None:
        # What was never written takes no room, and HDF5 would make up all of its numbers.
        claimed = math.prod(shape) * dataset.dtype.itemsize
        is_there = claimed <= limit_bytes and claimed == dataset.id.get_storage_size()
    else:
        properties = dataset.id.get_create_plist()
        filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
        if not filters <= set(_FILTERS):
            raise InvalidWeights(f"holds {path} compressed in a way that is not read here")
        if max(math.prod(shape), math.prod(chunk)) * dataset.dtype.itemsize > _LARGEST_CHUNKED:
            raise InvalidWeights(
                f"holds {path} in chunks, and it is larger than any kernel of a VGG"
            )
        chunks = math.prod(-(-side // part) for side, part in zip(shape, chunk, strict=True))
        is_there = dataset.id.get_num_chunks() == chunks
    if not is_there:
        raise InvalidWeights(f"claims to hold {path} in the shape {shape}, but does not")
    return np.asarray(dataset[()])


CONTAINER = Container("HDF5", _is_hdf5, _open)
