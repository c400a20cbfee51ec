"""MatConvNet: the original VGG release, imported from Caffe into MATLAB.

Its layers go by the release's own names. The network takes RGB in [0, 255] minus an average
image, which for a VGG is the same in every place.
"""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from nst_jax.weights.containers.arrays import Arrays, StoredArray
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.publishers.publisher import (
    InputConvention,
    PublishedNetwork,
    Publisher,
)

# Whoever computes with these files outside of MATLAB swaps a kernel's first two axes and says
# that they are stored as width, height, input and output channels. The same is done here. It
# follows what users of the published files do; it has not been proved here on such a file.
_KERNEL_AXES = (1, 0, 2, 3)

_RELEASED_MEAN = (123.68, 116.779, 103.939)
_AVERAGE = "normalization/averageImage"

_LAYER = re.compile(r"(?:.*[^a-z0-9])?(?P<layer>(?:conv|fc)\d[a-z0-9_]*)/(?P<part>filters|biases)")
_PARAM = re.compile(
    r"params/(?:.*[^a-z0-9])?(?P<layer>(?:conv|fc)\d+(?:_\d+)?)_?(?P<part>f|filters?|b|bias(?:es)?)"
)
_PARTS = {"f": "filters", "b": "biases"}


def _recognise(arrays: Arrays) -> PublishedNetwork | None:
    layers = _layers(arrays)
    if not layers:
        return None
    mean = _mean(arrays.get(_AVERAGE))
    # Other networks come in the same layout, of faces for one: only the mean tells them apart.
    if np.allclose(mean, _RELEASED_MEAN, rtol=0, atol=0.01):
        source = "the original VGG release, as MatConvNet keeps it"
        licence = "CC BY 4.0: the original VGG release"
    else:
        source = "a VGG in MatConvNet's layout, with another mean than the original release"
        licence = "unknown: the file does not say"
    return PublishedNetwork(
        {
            name: (_with_four_axes(parts["filters"]), parts["biases"])
            for name, parts in layers.items()
            if name.startswith("conv")
        },
        kernel_axes=_KERNEL_AXES,
        convention=InputConvention("RGB", 255.0, mean),
        source=source,
        licence=licence,
    )


def _layers(arrays: Arrays) -> Mapping[str, Mapping[str, StoredArray]]:
    """Filters and biases of each layer by its name in small letters; {} if there are none."""
    names = {key: key.lower() for key in arrays if key != _AVERAGE}
    matches = {key: _LAYER.fullmatch(name) or _PARAM.fullmatch(name) for key, name in names.items()}
    if not any(matches.values()):
        return {}
    layers: dict[str, dict[str, StoredArray]] = {}
    for key, match in matches.items():
        if match is None:
            raise InvalidWeights(f"is no plain VGG: it holds {key}, which no VGG has")
        parts = layers.setdefault(match["layer"], {})
        part = _PARTS[match["part"][0]]
        if part in parts:
            raise InvalidWeights(
                f"holds the {part} of {match['layer']} twice, under different names"
            )
        parts[part] = arrays[key]
    for name, parts in layers.items():
        for part in _PARTS.values():
            if part not in parts:
                raise InvalidWeights(f"must hold the {part} of {name}, but does not")
    return layers


def _with_four_axes(kernel: StoredArray) -> StoredArray:
    """The kernel with the axes that MATLAB drops: those at the end that have one side."""
    shape = kernel.shape + (1,) * (4 - len(kernel.shape))
    return dataclasses.replace(kernel, shape=shape, values=lambda: kernel.values().reshape(shape))


def _mean(average: StoredArray | None) -> tuple[float, float, float]:
    """The mean of an average image of shape (h, w, 3), or of three numbers in a row or column."""
    if average is None or 0 in average.shape:
        return _RELEASED_MEAN
    if average.shape[-1] != 3 and average.shape != (3, 1):
        raise InvalidWeights(f"must hold an average image of three channels, got {average.shape}")
    channels = average.float32().reshape(-1, 3).astype(np.float64)
    red, green, blue = channels.mean(axis=0).tolist()
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise InvalidWeights(f"must have a mean from 0 to 255, got {red:g}, {green:g}, {blue:g}")
    return red, green, blue


PUBLISHER = Publisher("matconvnet", "MatConvNet's imagenet-vgg-verydeep-16/19.mat", _recognise)
