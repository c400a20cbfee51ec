"""torchvision's VGGs, timm's, which are the same numbers, and jcjohnson's under the same names.

torchvision numbers a VGG's layers straight through, `features.0.weight` and so on. A layer
without weights has a number too, so that the numbers alone tell which VGG it is.

jcjohnson's PyTorch copies of the original VGG release (`vgg16-00b39a1b.pth` and vgg19) are
numbered likewise, but the numbers in them are Caffe's: they expect BGR from 0 to 255. Only the
classifier tells them apart, whose layers stand at 1, 4 and 6 where torchvision's stand at 0, 3
and 6. Many programs rename or drop it. Such a file looks like torchvision's in all but its
values, and has to be called by this publisher's name.
"""

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
    if named is None or _has_caffe_classifier(named):
        return None
    return _network(named, IMAGENET_RGB, "torchvision's ImageNet", "BSD-3-Clause")


def _recognise_caffe(arrays: Arrays) -> PublishedNetwork | None:
    named = _features_and_heads(arrays)
    return _recognise_named_caffe(named) if named and _has_caffe_classifier(named) else None


def _recognise_named_caffe(arrays: Arrays) -> PublishedNetwork | None:
    named = _features_and_heads(arrays)
    source = "the original VGG release, as jcjohnson's"
    return None if named is None else _network(named, CAFFE_BGR, source, "CC BY 4.0 (VGG release)")


def _has_caffe_classifier(named: Arrays) -> bool:
    numbers = {name.split(".")[1] for name in named if name.startswith("classifier.")}
    return {"1", "4"} <= numbers and not {"0", "3"} & numbers


def _features_and_heads(arrays: Arrays) -> Arrays | None:
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
    is_known = all(_FEATURE.fullmatch(name) or _HEADS.fullmatch(name) for name in named)
    return named if is_known else None


def _network(
    named: Arrays, convention: InputConvention, source: str, licence: str
) -> PublishedNetwork:
    """The network under torchvision's own names; its architecture's is put behind its source's.

    Raises:
        InvalidWeights: It is another VGG than those that are read here, or arrays are missing.
    """
    architecture = _architecture(
        {int(match[1]) for name in named if (match := _FEATURE.match(name))}
    )
    layers = {name: f"features.{number}." for name, number in _positions(architecture).items()}
    convolutions = pair_arrays(named, layers, "weight")
    return PublishedNetwork(
        convolutions, (2, 3, 1, 0), convention, f"{source} {architecture.name}", licence
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
    some = ", ".join(map(str, sorted(numbers)[:20]))
    raise InvalidWeights(f"has weights at the layers {some}, which is no VGG", _TAKE_ANOTHER)


TORCHVISION = Publisher(
    "torchvision",
    "torchvision's or timm's vgg16/vgg19 .pth or .safetensors",
    _recognise_torchvision,
)
CAFFE_TORCH = Publisher(
    "caffe-torch", "jcjohnson's vgg16/vgg19 .pth", _recognise_caffe, _recognise_named_caffe
)
