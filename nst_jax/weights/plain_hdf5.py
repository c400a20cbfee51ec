"""Reading our format from a plain HDF5 file, without a seal: another program wrote it.

Every claim of the file is checked before it is acted upon, so that a dataset is never more
than the file's own size and no other file is opened. HDF5's reader itself can still be led
astray by a damaged file: leave that to `nst_jax.weights.subprocess_reader`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nst_jax.request.taps import ARCHITECTURES, Architecture
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.network import (
    NetworkWeights,
    Tensor,
    check_convolution_names,
    check_network,
    check_shapes,
)

FORMAT = "nst_jax weights"
VERSION = 1

_LONGEST_TEXT = 2000
_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MEND_A_FOREIGN_FILE = (
    "Another program's weights have to be converted first (nst-jax weights convert). "
    "If it was a known network's file, delete it: it is converted anew."
)


def read_plain(path: Path) -> NetworkWeights:
    """Reads a file that h5py or the like has written after our description.

    Raises:
        InvalidWeights: Or anything else, if the file is damaged or foreign.
    """
    with _opened(path) as file:
        return _network(file, limit_bytes=path.stat().st_size)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    # HDF5 gets the open file, not its name: so it reads the very file that was checked,
    # should another process put a new one in its place meanwhile.
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise InvalidWeights(
                "is no weights file: it does not begin as one", _MEND_A_FOREIGN_FILE
            )
        with h5py.File(file, "r") as hdf5:
            yield hdf5


def _network(file: h5py.File, limit_bytes: int) -> NetworkWeights:
    _check_format(file)
    weights = NetworkWeights(
        architecture=(architecture := _architecture(file)),
        convolutions=_convolutions(file, architecture, limit_bytes),
        mean=_mean(file),
        source=_text(file, "source"),
        source_sha256=_text(file, "source_sha256"),
        licence=_text(file, "licence"),
    )
    check_network(weights)
    _check_content(file, weights)
    return weights


def _check_format(file: h5py.File) -> None:
    if "format" not in file.attrs or _text(file, "format") != FORMAT:
        raise InvalidWeights(
            f"is an HDF5 file, but its format attribute is not {FORMAT!r}",
            "Convert it first (nst-jax weights convert).",
        )
    version = _number(file, "version")
    if version != VERSION:
        raise InvalidWeights(
            f"has version {version} of the format, but only version {VERSION} is read here",
            "Update nst_jax, or convert the weights again with this one.",
        )


def _architecture(file: h5py.File) -> Architecture:
    name = _text(file, "architecture")
    if name not in ARCHITECTURES:
        known = " or ".join(ARCHITECTURES)
        raise InvalidWeights(f"must have {known} as its architecture, got {name!r}")
    return ARCHITECTURES[name]


def _convolutions(
    file: h5py.File, architecture: Architecture, limit_bytes: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """All arrays. Every claim of the file is checked before the first of them is read."""
    check_convolution_names(architecture, dict.fromkeys(file))
    datasets = {
        name: (
            _plain_dataset(file, name, "kernel", limit_bytes),
            _plain_dataset(file, name, "bias", limit_bytes),
        )
        for name in architecture.convolutions
    }
    shapes = {name: (kernel.shape, bias.shape) for name, (kernel, bias) in datasets.items()}
    check_shapes(architecture, shapes)
    return {name: (_array(kernel), _array(bias)) for name, (kernel, bias) in datasets.items()}


def _plain_dataset(file: h5py.File, group: str, name: str, limit_bytes: int) -> h5py.Dataset:
    """A dataset that is sure to read from this file, and not more than the file's size."""
    path = f"{group}/{name}"
    holder = _member(file, group, group)
    if not isinstance(holder, h5py.Group) or name not in holder:
        raise InvalidWeights(f"must hold {path}, but does not")
    dataset = _member(holder, name, path)
    if not isinstance(dataset, h5py.Dataset):
        raise InvalidWeights(f"must hold {path} as a dataset, got something else")
    if dataset.dtype != np.float32:
        raise InvalidWeights(f"must hold {path} as float32, got {dataset.dtype}")
    if dataset.external or dataset.is_virtual or dataset.chunks is not None:
        raise InvalidWeights(
            f"must hold {path} plain, but its data are compressed or lie elsewhere"
        )
    if dataset.shape is None or dataset.nbytes > limit_bytes:
        raise InvalidWeights(f"claims more than its own size for {path}, or nothing at all")
    return dataset


def _member(group: h5py.Group, name: str, path: str) -> object:
    """What a hard link leads to. Soft and external links may lead to any other file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InvalidWeights(f"must hold {path} itself, but has a link in its place")
    return group[name]


def _array(dataset: h5py.Dataset) -> Tensor:
    array = dataset[()]
    array.setflags(write=False)
    return array


def _check_content(file: h5py.File, weights: NetworkWeights) -> None:
    if "content_sha256" in file.attrs and _text(file, "content_sha256") != weights.content_sha256:
        raise InvalidWeights(
            "is damaged: its numbers do not have the checksum that they were written with"
        )


def _mean(file: h5py.File) -> tuple[float, float, float]:
    red, green, blue = map(float, _attribute(file, "mean", shape=(3,), kinds="fiu"))
    return red, green, blue


def _number(file: h5py.File, name: str) -> int:
    return int(_attribute(file, name, shape=(), kinds="iu"))


def _text(file: h5py.File, name: str) -> str:
    value = _attribute(file, name, shape=(), kinds="S")
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise InvalidWeights(f"must have a short text in its attribute {name!r}")
    return text


def _attribute(file: h5py.File, name: str, shape: tuple[int, ...], kinds: str) -> Any:
    """An attribute's value. What it claims to be is checked before it is read."""
    if name not in file.attrs:
        raise InvalidWeights(f"must have the attribute {name!r}, but does not")
    attribute = file.attrs.get_id(name)
    kind = "S" if h5py.check_string_dtype(attribute.dtype) else attribute.dtype.kind
    if attribute.shape != shape or kind not in kinds:
        raise InvalidWeights(f"has a value of another type or shape in its attribute {name!r}")
    return file.attrs[name]
