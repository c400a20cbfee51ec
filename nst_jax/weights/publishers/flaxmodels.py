"""flaxmodels: torchvision's VGG-16 and VGG-19 in HDF5, named after Caffe's layers."""

import re

from nst_jax.weights.containers.arrays import Arrays
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.publishers.publisher import IMAGENET_RGB, PublishedNetwork, Publisher

# Their own preprocessing is (rgb - mean) / deviation for RGB in [0, 1], with torchvision's
# constants, and their kernels lie as Flax wants them: height, width, input, output.

_NAME = re.compile(r"(?:(conv\d+_\d+)|fc[678])/(?:weight|bias)")


def _recognise(arrays: Arrays) -> PublishedNetwork | None:
    matches = [_NAME.fullmatch(name) for name in arrays]
    names = {match[1] for match in matches if match is not None and match[1] is not None}
    if not names or None in matches:
        return None
    for name in sorted(names):
        for part in ("weight", "bias"):
            if f"{name}/{part}" not in arrays:
                raise InvalidWeights(f"must hold {name}/{part}, but does not")
    return PublishedNetwork(
        {name: (arrays[f"{name}/weight"], arrays[f"{name}/bias"]) for name in sorted(names)},
        kernel_axes=(0, 1, 2, 3),
        convention=IMAGENET_RGB,
        source="torchvision's ImageNet VGG, as flaxmodels carries it",
        licence="BSD-3-Clause: torchvision's; flaxmodels says each model has its own licence",
    )


PUBLISHER = Publisher("flaxmodels", "flaxmodels' vgg16_weights.h5/vgg19_weights.h5", _recognise)
