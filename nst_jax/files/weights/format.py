"""Weight files: HDF5 with a group a convolution, whole, checked, and read with no surprise.

    conv1_1/kernel   float32 (3, 3, c, d)      conv1_1/bias   float32 (d,)      conv1_2/...
    attributes       format, version, architecture, source, source_sha256, licence, mean,
                     content_sha256

Every dataset lies plain in the file itself: no links, no compression, no data elsewhere.
So what a file claims to hold is never more than its own size, and reading it opens no
other file. Equal networks make equal bytes.

Two checksums, both left out by another program that writes files after this description:
the seal (see `nst_jax.files.weights.seal`) covers the file and is checked before HDF5 reads it;
`content_sha256` covers the network and stays the same in whatever file it lies.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nst_jax.files.atomic import replacing
from nst_jax.files.weights.faults import Fault, reading, writing
from nst_jax.files.weights.network import (
    NetworkWeights,
    Tensor,
    check_convolution_names,
    check_network,
    check_shapes,
)
from nst_jax.files.weights.seal import SEAL_BYTES, check_seal, write_seal
from nst_jax.spec.errors import WeightsError
from nst_jax.spec.taps import ARCHITECTURES, Architecture

FORMAT = "nst_jax weights"
VERSION = 1
SUFFIX = ".h5"

_LONGEST_TEXT = 2000


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """What a sound weights file holds.

    Attributes:
        architecture: `vgg16` or `vgg19`.
        convolutions: How many there are.
        parameters: How many numbers the kernels and biases have together.
        channels: Output channels of each convolution, in order.
        content_sha256: Hash of the numbers, recomputed.
        source: Who published them.
        source_sha256: Hash of the file that they were converted from.
        licence: The publisher's terms.
    """

    architecture: str
    convolutions: int
    parameters: int
    channels: tuple[int, ...]
    content_sha256: str
    source: str
    source_sha256: str
    licence: str


def read_weights(path: Path) -> NetworkWeights:
    """Reads a weights file and checks everything about it.

    Returns:
        The network. Its arrays are read-only.

    Raises:
        WeightsError: The file is missing, damaged, foreign, or not a whole network.
    """
    with reading(path), _opened(path) as file:
        return _network(file, limit_bytes=path.stat().st_size)


def write_weights(path: Path, weights: NetworkWeights) -> None:
    """Writes a weights file, whole or not at all, in place of an older one.

    Raises:
        WeightsError: The name does not end in `.h5`, the folder can't be written, or the
            arrays are no working network.
    """
    check_suffix(path)
    with writing(path):
        check_network(weights)
        with replacing(path) as temporary:
            _write(temporary, weights)


def check_suffix(path: Path) -> None:
    """Refuses a name that does not end as weight files do.

    Raises:
        WeightsError: With the name that would do.
    """
    if path.suffix != SUFFIX:
        raise WeightsError(
            f"weights file {str(path)!r} must end in {SUFFIX}, got {path.suffix!r}",
            f"Call it {path.with_suffix(SUFFIX).name if path.name else 'name' + SUFFIX}.",
        )


def report_of(weights: NetworkWeights) -> WeightsReport:
    """What is in a weights file that has been read."""
    names = weights.architecture.convolutions
    return WeightsReport(
        architecture=weights.architecture.name,
        convolutions=len(names),
        parameters=sum(tensor.size for _, tensor in weights.tensors()),
        channels=tuple(weights.convolutions[name][1].size for name in names),
        content_sha256=weights.content_sha256,
        source=weights.source,
        source_sha256=weights.source_sha256,
        licence=weights.licence,
    )


def _write(path: Path, weights: NetworkWeights) -> None:
    # The oldest layout stores no times, so that equal networks make equal files.
    with h5py.File(
        path, "w", libver=("earliest", "v108"), locking=False, userblock_size=SEAL_BYTES
    ) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["architecture"] = weights.architecture.name
        file.attrs["source"] = weights.source
        file.attrs["source_sha256"] = weights.source_sha256
        file.attrs["licence"] = weights.licence
        file.attrs["mean"] = np.array(weights.mean, np.float64)
        file.attrs["content_sha256"] = weights.content_sha256
        for name, tensor in weights.tensors():
            file.create_dataset(name, data=tensor.astype("<f4"), track_times=False)
    write_seal(path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    # HDF5 gets the open file, not its name: so it reads the very file that was checked,
    # should another process put a new one in its place meanwhile.
    with path.open("rb") as file:
        check_seal(file)
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
        raise Fault(
            f"is an HDF5 file, but its format attribute is not {FORMAT!r}",
            "Convert it first (nst-jax weights convert).",
        )
    version = _number(file, "version")
    if version != VERSION:
        raise Fault(
            f"has version {version} of the format, but only version {VERSION} is read here",
            "Update nst_jax, or convert the weights again with this one.",
        )


def _architecture(file: h5py.File) -> Architecture:
    name = _text(file, "architecture")
    if name not in ARCHITECTURES:
        known = " or ".join(ARCHITECTURES)
        raise Fault(f"must have {known} as its architecture, got {name!r}")
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
        raise Fault(f"must hold {path}, but does not")
    dataset = _member(holder, name, path)
    if not isinstance(dataset, h5py.Dataset):
        raise Fault(f"must hold {path} as a dataset, got something else")
    if dataset.dtype != np.float32:
        raise Fault(f"must hold {path} as float32, got {dataset.dtype}")
    if dataset.external or dataset.is_virtual or dataset.chunks is not None:
        raise Fault(f"must hold {path} plain, but its data are compressed or lie elsewhere")
    if dataset.shape is None or dataset.nbytes > limit_bytes:
        raise Fault(f"claims more than its own size for {path}, or nothing at all")
    return dataset


def _member(group: h5py.Group, name: str, path: str) -> object:
    """What a hard link leads to. Soft and external links may lead to any other file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise Fault(f"must hold {path} itself, but has a link in its place")
    return group[name]


def _array(dataset: h5py.Dataset) -> Tensor:
    array = dataset[()]
    array.setflags(write=False)
    return array


def _check_content(file: h5py.File, weights: NetworkWeights) -> None:
    if "content_sha256" in file.attrs and _text(file, "content_sha256") != weights.content_sha256:
        raise Fault("is damaged: its numbers do not have the checksum that they were written with")


def _mean(file: h5py.File) -> tuple[float, float, float]:
    red, green, blue = map(float, _attribute(file, "mean", shape=(3,), kinds="fiu"))
    return red, green, blue


def _number(file: h5py.File, name: str) -> int:
    return int(_attribute(file, name, shape=(), kinds="iu"))


def _text(file: h5py.File, name: str) -> str:
    value = _attribute(file, name, shape=(), kinds="S")
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise Fault(f"must have a short text in its attribute {name!r}")
    return text


def _attribute(file: h5py.File, name: str, shape: tuple[int, ...], kinds: str) -> Any:
    """An attribute's value. What it claims to be is checked before it is read."""
    if name not in file.attrs:
        raise Fault(f"must have the attribute {name!r}, but does not")
    attribute = file.attrs.get_id(name)
    kind = "S" if h5py.check_string_dtype(attribute.dtype) else attribute.dtype.kind
    if attribute.shape != shape or kind not in kinds:
        raise Fault(f"has a value of another type or shape in its attribute {name!r}")
    return file.attrs[name]
