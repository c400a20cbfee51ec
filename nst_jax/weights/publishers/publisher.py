"""A network as its publisher stored it, and how it becomes one of ours.

A publisher is told apart by the names of its arrays. It says which array is which
convolution, in which order a kernel's axes are stored, and what the network expects as its
input. The rest, here, is the same for all of them.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import numpy as np

from nst_jax.request.taps import ARCHITECTURES, Architecture
from nst_jax.weights.containers.arrays import Arrays, StoredArray
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.network import NetworkWeights, Tensor, check_shapes

Progress = Callable[[int, int], None]
"""Called with the bytes that have been read and the bytes that there are."""


@dataclasses.dataclass(frozen=True)
class InputConvention:
    """What a network expects as its input: `(scale * rgb[order] - mean) / deviation`.

    Attributes:
        order: The channels in the network's order, `RGB` or `BGR`.
        scale: 1 for an image in [0, 1], 255 for one in [0, 255].
        mean: In the network's order and on its scale.
        deviation: Likewise.
    """

    order: str
    scale: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def fold_into(self, kernel: Tensor) -> Tensor:
        """The first kernel, (3, 3, 3, d), for RGB in [0, 1] minus `rgb_mean`.

        A convolution is linear: to reorder and scale its input's channels or its kernel's
        is the same. What is padded around the image is zero either way.
        """
        factors = self.scale / np.array(self.deviation, np.float64)
        return (kernel * factors[:, None])[:, :, self._rgb, :].astype(np.float32)

    @property
    def rgb_mean(self) -> tuple[float, float, float]:
        """The mean of our convention: RGB, in [0, 1]."""
        red, green, blue = (self.mean[channel] / self.scale for channel in self._rgb)
        return red, green, blue

    @property
    def _rgb(self) -> list[int]:
        return [self.order.index(channel) for channel in "RGB"]


IMAGENET_RGB = InputConvention("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""torchvision's, and that of all who took its weights."""

CAFFE_BGR = InputConvention("BGR", 255.0, (103.939, 116.779, 123.68))
"""The original VGG release's, which Keras kept."""


@dataclasses.dataclass(frozen=True)
class PublishedNetwork:
    """A network in its publisher's layout, not read yet.

    Attributes:
        convolutions: Kernel and bias of each convolution, by our names, `conv1_1` first.
        convention: What the network expects as its input.
        source: Who published it, in words.
        licence: The publisher's terms, in words.
        kernel_axes: Which stored axes are height, width, input and output channels.
    """

    convolutions: Mapping[str, tuple[StoredArray, StoredArray]]
    convention: InputConvention
    source: str
    licence: str
    kernel_axes: tuple[int, int, int, int] = (0, 1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Publisher:
    """How one publisher's arrays are told apart from all others'.

    Attributes:
        name: A short word for the command line.
        files: Which files it publishes, in words for a user.
        recognise: The network in a container's arrays, or None if they are not this
            publisher's. Raises `InvalidWeights` if they are, but not of a network that is read.
        recognise_named: The same for one who says that they are this publisher's, where the
            arrays alone could be another's. None where `recognise` needs no such help.
    """

    name: str
    files: str
    recognise: Callable[[Arrays], PublishedNetwork | None]
    recognise_named: Callable[[Arrays], PublishedNetwork | None] | None = None


def pair_arrays(
    arrays: Arrays, layers: Mapping[str, str], kernel: str = "kernel"
) -> dict[str, tuple[StoredArray, StoredArray]]:
    """Kernel and bias of each convolution, by our names.

    Args:
        arrays: All that the file holds.
        layers: What the names of a convolution's arrays begin with, by our name for it.
        kernel: What a kernel's name ends with; a bias' ends with `bias`.

    Raises:
        InvalidWeights: One of them is missing.
    """

    def find(name: str) -> StoredArray:
        if name not in arrays:
            raise InvalidWeights(f"must hold {name}, but does not")
        return arrays[name]

    return {name: (find(layer + kernel), find(f"{layer}bias")) for name, layer in layers.items()}


def read_published(
    published: PublishedNetwork, source_sha256: str, progress: Progress
) -> NetworkWeights:
    """Reads a network and turns it into our layout and our input convention.

    Every shape is checked before the first array is read.

    Raises:
        InvalidWeights: It is no whole VGG-16 or VGG-19, or its arrays do not fit each other.
    """
    architecture = _architecture(published.convolutions)
    _check_published_shapes(architecture, published)
    convolutions = {}
    arrays = itertools.chain.from_iterable(published.convolutions.values())
    done, total = 0, sum(array.nbytes for array in arrays)
    for name in architecture.convolutions:
        kernel, bias = published.convolutions[name]
        convolutions[name] = (
            np.ascontiguousarray(kernel.float32().transpose(published.kernel_axes)),
            bias.float32().reshape(-1),  # MATLAB has no vectors, only matrices of one row or column
        )
        done += kernel.nbytes + bias.nbytes
        progress(done, total)
    kernel, bias = convolutions["conv1_1"]
    convolutions["conv1_1"] = (published.convention.fold_into(kernel), bias)
    return NetworkWeights(
        architecture,
        convolutions,
        published.convention.rgb_mean,
        published.source,
        source_sha256,
        published.licence,
    )


def _architecture(convolutions: Mapping[str, object]) -> Architecture:
    for architecture in ARCHITECTURES.values():
        if set(convolutions) == set(architecture.convolutions):
            return architecture
    depths = [
        sum(name.startswith(f"conv{block}_") for name in convolutions) for block in range(1, 6)
    ]
    known = " or ".join(
        f"{', '.join(map(str, architecture.depths))} ({architecture.name})"
        for architecture in ARCHITECTURES.values()
    )
    raise InvalidWeights(
        f"must have {known} convolutions in its five blocks, "
        f"got {', '.join(map(str, depths))} of {len(convolutions)} in all",
        "Only VGG-16 and VGG-19 are read, whole up to the last convolution.",
    )


def _check_published_shapes(architecture: Architecture, published: PublishedNetwork) -> None:
    shapes = {}
    for name, (kernel, bias) in published.convolutions.items():
        if len(kernel.shape) != 4:
            raise InvalidWeights(
                f"must hold {name}'s kernel with 4 axes, got the shape {kernel.shape}"
            )
        axes = tuple(kernel.shape[axis] for axis in published.kernel_axes)
        sides = tuple(side for side in bias.shape if side != 1) or (1,)
        shapes[name] = (axes, sides)
    check_shapes(architecture, shapes)
