"""torchvision's VGGs, and timm's, which are the same numbers under the same names.

torchvision numbers a VGG's layers straight through, `features.0.weight` and so on. A layer
without weights has a number too, so that the numbers alone tell which VGG it is.
"""

import re
from collections.abc import Iterable

from nst_jax.request.taps import ARCHITECTURES, Architecture
from nst_jax.weights.containers.arrays import Arrays
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.publishers.publisher import (
    IMAGENET_RGB,
    InputConvention,
    PublishedNetwork,
    Publisher,
)

_FEATURE = re.compile(r"features\.([0-9]{1,4})\.(weight|bias)")

_HEADS = re.compile(r"(classifier|pre_logits|head)\..*")
"""The classifier's arrays, torchvision's and timm's. They are not read."""

_OTHERS = (
    Architecture("vgg11", (1, 1, 2, 2, 2)),
    Architecture("vgg13", (2, 2, 2, 2, 2)),
)
"""What else torchvision publishes."""

_TAKE_ANOTHER = "Take vgg16 or vgg19 of the same publisher."


def features_and_heads(arrays: Arrays) -> Arrays | None:
    """The arrays by torchvision's own names; None if they are not a VGG's of this kind.

    What all names may begin with (`module.`, `vgg.`) is cut off, and what
    `vgg.features.state_dict()` has left out (`0.weight`) is put before them.
    """
    for first, missing in (("features.0.weight", ""), ("0.weight", "features.")):
        for name in arrays:
            prefix = name.removesuffix(first)
            if prefix != name and (not prefix or prefix.endswith(".")):
                named = _strip_prefix(arrays, prefix, missing)
                if named is not None:
                    return named
    return None


def _strip_prefix(arrays: Arrays, prefix: str, missing: str) -> Arrays | None:
    if not all(name.startswith(prefix) for name in arrays):
        return None
    named = {missing + name.removeprefix(prefix): array for name, array in arrays.items()}
    known = all(_FEATURE.fullmatch(name) or _HEADS.fullmatch(name) for name in named)
    return named if known else None


def numbered_network(
    named: Arrays, convention: InputConvention, source: str, licence: str
) -> PublishedNetwork:
    """The network under torchvision's own names.

    Args:
        named: As `features_and_heads` returns them.
        convention: What it expects as its input.
        source: Who published it; the architecture's name is put behind.
        licence: The publisher's terms.

    Raises:
        InvalidWeights: It is another VGG than those that are read here, or arrays are missing.
    """
    numbers = {int(match[1]) for name in named if (match := _FEATURE.fullmatch(name))}
    architecture = _architecture(numbers)
    convolutions = {}
    for name, number in _positions(architecture).items():
        kernel, bias = f"features.{number}.weight", f"features.{number}.bias"
        for needed in (kernel, bias):
            if needed not in named:
                raise InvalidWeights(f"must hold {needed}, but does not")
        convolutions[name] = (named[kernel], named[bias])
    return PublishedNetwork(
        convolutions,
        kernel_axes=(2, 3, 1, 0),
        convention=convention,
        source=f"{source} {architecture.name}",
        licence=licence,
    )


def _positions(architecture: Architecture, *, layers_between: int = 0) -> dict[str, int]:
    """Each convolution's number. Taps are torchvision's layers, but that `pixels` is none."""
    layers = architecture.taps[1:]
    return {
        name: layers.index(name) + layers_between * index
        for index, name in enumerate(architecture.convolutions)
    }


def _architecture(numbers: set[int]) -> Architecture:
    for architecture in ARCHITECTURES.values():
        if numbers == set(_positions(architecture).values()):
            return architecture
    for architecture in (*_OTHERS, *ARCHITECTURES.values()):
        if numbers == set(_positions(architecture).values()):
            raise InvalidWeights(f"is a {architecture.name}, which is not read", _TAKE_ANOTHER)
        convolutions = set(_positions(architecture, layers_between=1).values())
        normalisations = {number + 1 for number in convolutions}
        if convolutions <= numbers <= convolutions | normalisations:
            raise InvalidWeights(
                f"is a {architecture.name} with batch normalisation, told by its layers' numbers, "
                "which is another network",
                "Take the plain vgg16 or vgg19 of the same publisher.",
            )
    raise InvalidWeights(
        f"has weights at the layers {_list_text(numbers)}, which is no VGG", _TAKE_ANOTHER
    )


def _list_text(numbers: Iterable[int]) -> str:
    first = sorted(numbers)[:20]
    return ", ".join(map(str, first)) + (", …" if len(first) == 20 else "")


def has_caffe_classifier(named: Arrays) -> bool:
    """Whether the classifier is numbered as in the copies of the original Caffe networks."""
    numbers = {name.split(".")[1] for name in named if name.startswith("classifier.")}
    return {"1", "4"} <= numbers and not {"0", "3"} & numbers


def _recognise(arrays: Arrays) -> PublishedNetwork | None:
    named = features_and_heads(arrays)
    if named is None or has_caffe_classifier(named):
        return None
    return numbered_network(named, IMAGENET_RGB, "torchvision's ImageNet", "BSD-3-Clause")


PUBLISHER = Publisher(
    "torchvision", "torchvision's or timm's vgg16/vgg19 .pth or .safetensors", _recognise
)
