"""Weight files: HDF5 with a group a convolution, whole, checked, and read with no surprise.

    conv1_1/kernel   float32 (3, 3, c, d)      conv1_1/bias   float32 (d,)      conv1_2/...
    attributes       format, version, architecture, source, source_sha256, licence, mean,
                     content_sha256

Every dataset lies plain in the file itself: no links, no compression, no data elsewhere.
Equal networks make equal bytes.

`content_sha256` covers the network and stays the same in whatever file it lies. The seal (see
`nst_jax.weights.seal`) covers the bytes, and our files are read by it without HDF5's reader. A
file of another program, without a seal, has to be converted: see `publishers.ours`.
"""

import dataclasses
import math
from io import BufferedReader
from pathlib import Path

import h5py
import numpy as np

from nst_jax.files.atomic import replace_atomically
from nst_jax.request.errors import WeightsError
from nst_jax.request.taps import ARCHITECTURES
from nst_jax.weights.errors import InvalidWeights, explain_read_errors, explain_write_errors
from nst_jax.weights.network import NetworkWeights, Tensor, check_network
from nst_jax.weights.seal import SEAL_BYTES, is_sealed, read_header, write_seal

SUFFIX = ".h5"
FORMAT = "nst_jax weights"
VERSION = 1


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
    """Reads a weights file by its seal, without HDF5, and checks everything about it.

    Returns:
        The network. Its arrays are read-only.

    Raises:
        WeightsError: The file is missing, damaged, foreign, or not a whole network.
    """
    with explain_read_errors(path):
        if not is_sealed(path):
            raise InvalidWeights(
                "is none that nst-jax has written: it does not begin as one",
                "Convert it first (nst-jax weights convert). If it was a known network's file, "
                "delete it: it is converted anew.",
            )
        with path.open("rb") as file:
            header = read_header(file)
            size = path.stat().st_size
            arrays = {name: _array(file, place, size) for name, place in header["arrays"].items()}
        weights = NetworkWeights(
            architecture=(architecture := ARCHITECTURES[header["architecture"]]),
            convolutions={
                name: (arrays.pop(f"{name}/kernel"), arrays.pop(f"{name}/bias"))
                for name in architecture.convolutions
            },
            mean=tuple(header["mean"]),
            source=header["source"],
            source_sha256=header["source_sha256"],
            licence=header["licence"],
        )
        check_network(weights)
        if arrays or weights.content_sha256 != header["content_sha256"]:
            raise InvalidWeights(
                "is damaged: its numbers do not have the checksum that they were written with"
            )
    return weights


def _array(file: BufferedReader, place: list[int], size: int) -> Tensor:
    offset, *shape = place
    count = math.prod(shape)
    if min(place) < 0 or offset + 4 * count > size:
        raise InvalidWeights("is damaged: an array lies beyond its end")
    file.seek(offset)
    return np.frombuffer(file.read(4 * count), "<f4").astype(np.float32, copy=False).reshape(shape)


def write_weights(path: Path, weights: NetworkWeights) -> None:
    """Writes a weights file, whole or not at all, in place of an older one.

    Raises:
        WeightsError: The name does not end in `.h5`, the folder can't be written, or the
            arrays are no working network.
    """
    check_suffix(path)
    with explain_write_errors(path):
        check_network(weights)
        with replace_atomically(path) as temporary:
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
    header = {
        "architecture": weights.architecture.name,
        "source": weights.source,
        "source_sha256": weights.source_sha256,
        "licence": weights.licence,
        "mean": list(weights.mean),
        "content_sha256": weights.content_sha256,
    }
    # The oldest layout stores no times, so that equal networks make equal files.
    with h5py.File(
        path, "w", libver=("earliest", "v108"), locking=False, userblock_size=SEAL_BYTES
    ) as file:
        file.attrs.update({"format": FORMAT, "version": VERSION} | header)
        places = {}  # where each array starts in the file, and its sides
        for name, tensor in weights.tensors():
            dataset = file.create_dataset(name, data=tensor.astype("<f4"), track_times=False)
            places[name] = [dataset.id.get_offset(), *tensor.shape]
    write_seal(path, header | {"arrays": places})
