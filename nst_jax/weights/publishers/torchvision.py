"""torchvision's VGGs, timm's, which are the same numbers, and jcjohnson's under the same names.

torchvision numbers a VGG's layers straight through, `features.0.weight` and so on. A layer
without weights has a number too, so that the numbers alone tell which VGG it is.

jcjohnson's PyTorch copies of the original VGG release (`vgg16-00b39a1b.pth` and vgg19) are
numbered likewise, but the numbers in them are Caffe's: they expect BGR from 0 to 255. Only the
classifier tells them apart, whose layers stand at 1, 4 and 6 where torchvision's stand at 0, 3
and 6. Many programs rename or drop it. Such a file looks like torchvision's in all but its
values, and has to be called by this publisher's name.
"""

import functools
import re

from nst_jax.request.taps import ARCHITECTURES, Architecture
from nst_jax.weights.containers.arrays import Arrays
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.publishers.publisher import (
    CAFFE_BGR,
    IMAGENET_RGB,
    InputConvention,
    PublishedNetwork,
    Publisher,
    pair_arrays,
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


def _recognise_torchvision(arrays: Arrays) -> PublishedNetwork | None:
    named = _features_and_heads(arrays)
    if not named or _has_caffe_classifier(named):
        return None
    return _network(named, IMAGENET_RGB, "torchvision's ImageNet", "BSD-3-Clause")


def _recognise_caffe(arrays: Arrays, *, is_told: bool = False) -> PublishedNetwork | None:
    named = _features_and_heads(arrays)
    if not named or not (is_told or _has_caffe_classifier(named)):
        return None
    source = "the original VGG release, as jcjohnson's"
    return _network(named, CAFFE_BGR, source, "CC BY 4.0 (VGG release)")


def _has_caffe_classifier(named: Arrays) -> bool:
    numbers = {name.split(".")[1] for name in named if name.startswith("classifier.")}
    return {"1", "4"} <= numbers and not {"0", "3"} & numbers


def _features_and_heads(arrays: Arrays) -> Arrays:
    """The arrays by torchvision's own names; none if they are not a VGG's of this kind.

    What all names may begin with (`module.`, `vgg.`) is cut off, and what
    `vgg.features.state_dict()` has left out (`0.weight`) is put before them.
    """
    for first, missing in (("features.0.weight", ""), ("0.weight", "features.")):
        for prefix in [name.removesuffix(first) for name in arrays if name.endswith(first)]:
            is_path = not prefix or prefix.endswith(".")
            if is_path and all(name.startswith(prefix) for name in arrays):
                named = {missing + name.removeprefix(prefix): arrays[name] for name in arrays}
                if all(_FEATURE.fullmatch(name) or _HEADS.fullmatch(name) for name in named):
                    return named
    return {}


def _network(
    named: Arrays, convention: InputConvention, source: str, licence: str
) -> PublishedNetwork:
    """The network under torchvision's own names; its architecture's is put behind its source's."""
    matches = [match for name in named if (match := _FEATURE.fullmatch(name))]
    architecture = _architecture({int(match[1]) for match in matches})
    layers = {name: f"features.{number}." for name, number in _positions(architecture).items()}
    return PublishedNetwork(
        pair_arrays(named, layers, "weight"),
        convention,
        f"{source} {architecture.name}",
        licence,
        kernel_axes=(2, 3, 1, 0),
    )


def _positions(architecture: Architecture, *, layers_between: int = 0) -> dict[str, int]:
    """Each convolution's number. Taps are torchvision's layers, but that `pixels` is none."""
    layers = architecture.taps[1:]
    return {
        name: layers.index(name) + layers_between * index
        for index, name in enumerate(architecture.convolutions)
    }


def _architecture(numbers: set[int]) -> Architecture:
    """The VGG whose layers stand at these numbers."""
    for architecture in (*ARCHITECTURES.values(), *_OTHERS):
        if numbers == set(_positions(architecture).values()):
            if architecture in _OTHERS:
                raise InvalidWeights(f"is a {architecture.name}, which is not read", _TAKE_ANOTHER)
            return architecture
        convolutions = set(_positions(architecture, layers_between=1).values())
        normalisations = {number + 1 for number in convolutions}
        if convolutions <= numbers <= convolutions | normalisations:
            raise InvalidWeights(
                f"is a {architecture.name} with batch normalisation, told by its layers' numbers, "
                "which is another network",
                "Take the plain vgg16 or vgg19 of the same publisher.",
            )
    some = ", ".join(map(str, sorted(numbers)[:20]))
    raise InvalidWeights(f"has weights at the layers {some}, which is no VGG", _TAKE_ANOTHER)


TORCHVISION = Publisher(
    "torchvision",
    "torchvision's or timm's vgg16/vgg19 .pth or .safetensors",
    _recognise_torchvision,
)
CAFFE_TORCH = Publisher(
    "caffe-torch",
    "jcjohnson's vgg16/vgg19 .pth",
    _recognise_caffe,
    functools.partial(_recognise_caffe, is_told=True),
)
