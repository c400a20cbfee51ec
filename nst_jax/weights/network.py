"""A VGG's convolutions as arrays, and the rules that every set of them keeps.

One input convention for every source: RGB in [0, 1] minus `mean`. Whatever else a source
did to its input (a scale, another order of channels) is folded into conv1_1's kernel.

A network may be narrower than the published one (pruned): the architecture fixes how many
convolutions there are and in which order, the arrays themselves say how wide each one is.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from nst_jax.request.taps import Architecture
from nst_jax.weights.errors import InvalidWeights

Tensor = npt.NDArray[np.float32]
Shape = tuple[int, ...]

_IMAGE_CHANNELS = 3
_FIRST = "conv1_1"


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkWeights:
    """A trained network and where it comes from.

    Attributes:
        architecture: The table that says what each convolution is for.
        convolutions: Kernel (3, 3, c, d), in the order height, width, input channels, output
            channels, and bias (d,) of each convolution by its name.
        mean: RGB mean in [0, 1], to be subtracted from the image.
        source: Who published these numbers, in words.
        source_sha256: Hash of the file that they were converted from.
        licence: The publisher's terms, in words.
    """

    architecture: Architecture
    convolutions: Mapping[str, tuple[Tensor, Tensor]]
    mean: tuple[float, float, float]
    source: str
    source_sha256: str
    licence: str

    @functools.cached_property
    def content_sha256(self) -> str:
        """Hash of all that the network computes with: names, shapes, numbers and the mean.

        It does not depend on the file format, the source or the machine's byte order.
        """
        digest = hashlib.sha256()
        for name, tensor in self.tensors():
            digest.update(f"{name} {' '.join(map(str, tensor.shape))}\n".encode())
            digest.update(tensor.astype("<f4").tobytes())
        digest.update(np.array(self.mean, "<f8").tobytes())
        return digest.hexdigest()

    def without_preprocessing(self) -> "NetworkWeights":
        """The network as it is when RGB in [0, 1] goes straight to its first published kernel.

        Keras' kernels want BGR, 255 times as large, and less the mean. A kernel here takes RGB
        in [0, 1] less the mean; so its red and blue change places, it is divided by 255, and
        no mean is subtracted. Exact where the publisher's network wants just that.
        """
        kernel, bias = self.convolutions[_FIRST]
        raw = np.ascontiguousarray(kernel[:, :, ::-1] / np.float32(255))
        return dataclasses.replace(
            self,
            convolutions={**self.convolutions, _FIRST: (raw, bias)},
            mean=(0.0, 0.0, 0.0),
        )

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every array by its name in a file, `conv1_1/kernel` first, in a fixed order."""
        for name in self.architecture.convolutions:
            kernel, bias = self.convolutions[name]
            yield f"{name}/kernel", kernel
            yield f"{name}/bias", bias


def check_network(weights: NetworkWeights) -> None:
    """Refuses arrays that do not make a working network of the architecture.

    Raises:
        InvalidWeights: Convolutions are missing or superfluous, shapes do not fit each other, or
            there are numbers that are no float32 or not finite.
    """
    convolutions, architecture = weights.convolutions, weights.architecture
    for name in architecture.convolutions:
        if name not in convolutions:
            raise InvalidWeights(
                f"must hold {name}, because {architecture.name} has it, but does not"
            )
    for name in sorted(set(convolutions) - set(architecture.convolutions)):
        # Not ignored: a vgg19 that is labelled vgg16 would otherwise pass for one.
        raise InvalidWeights(f"holds {name!r}, which {architecture.name} does not have")
    shapes = {name: (kernel.shape, bias.shape) for name, (kernel, bias) in convolutions.items()}
    check_shapes(architecture, shapes)
    for name, tensor in weights.tensors():
        if tensor.dtype != np.float32:
            raise InvalidWeights(f"must hold {name} as float32, got {tensor.dtype}")
        if not np.isfinite(tensor).all():
            raise InvalidWeights(f"holds numbers that are not finite in {name}")
        if name.endswith("/kernel") and not tensor.any():
            raise InvalidWeights(
                f"holds nothing but zeros in {name}, which no picture gets through"
            )
    if len(weights.mean) != _IMAGE_CHANNELS or not all(0 <= value <= 1 for value in weights.mean):
        raise InvalidWeights(f"must have three numbers from 0 to 1 as its mean, got {weights.mean}")


def check_shapes(architecture: Architecture, shapes: Mapping[str, tuple[Shape, Shape]]) -> None:
    """Refuses kernels that are not 3x3 or do not fit the layer before, and ill-fitting biases.

    Args:
        architecture: The order in which the convolutions follow each other.
        shapes: Of kernel and bias, for each of the architecture's convolutions.

    Raises:
        InvalidWeights: The first shape that does not fit.
    """
    channels = _IMAGE_CHANNELS
    for name in architecture.convolutions:
        kernel, bias = shapes[name]
        if len(kernel) != 4 or kernel[:3] != (3, 3, channels) or kernel[3] < 1:
            raise InvalidWeights(
                f"must hold {name}/kernel in the shape (3, 3, {channels}, 1 or more), got {kernel}"
            )
        channels = kernel[3]
        if bias != (channels,):
            raise InvalidWeights(f"must hold {name}/bias in the shape ({channels},), got {bias}")
