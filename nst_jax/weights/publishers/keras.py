"""Keras Applications' VGG-16 and VGG-19, in every way that Keras has written them to HDF5.

    block1_conv1/block1_conv1_W_1:0                    Keras 1, and the published files
    block1_conv1/block1_conv1/kernel:0                 Keras 2, save_weights
    model_weights/block1_conv1/block1_conv1/kernel:0   Keras 2, save ('kernel' in Keras 3)
    model_weights/vgg19/block1_conv1/kernel:0          the same within a larger model
    layers/conv2d_12/vars/0                            Keras 3, .weights.h5
    layers/functional/layers/conv2d_12/vars/0          the same within a larger model
    _layer_checkpoint_dependencies/conv2d_24/vars/0    TensorFlow 2.12 and 2.13, .weights.h5

The last three do not say which convolution is which. They count them in their order, and
TensorFlow 2.12 and 2.13 count each of them twice. So the number of convolutions tells the
architecture, and a gap in the count tells a network that is not whole.

Every layout stores a kernel as height, width, input and output channels, except for
networks of the Theano backend, whose kernels are also mirrored. Those are refused.
"""

import re
from collections.abc import Mapping

from nst_jax.request.taps import ARCHITECTURES, Architecture
from nst_jax.weights.containers.arrays import Arrays, StoredArray
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.network import Shape
from nst_jax.weights.publishers.publisher import CAFFE_BGR, PublishedNetwork, Publisher

Network = dict[str, dict[str, StoredArray]]
"""The arrays of one VGG: of each convolution, by our name for it, its `kernel` and `bias`."""

_NAMED = re.compile(
    r"(?P<model>(?:[^/]+/)*?)block(?P<block>[0-9])_conv(?P<depth>[0-9])/"
    r"(?:[^/]+/)*?(?:block[0-9]_conv[0-9]_)?(?P<part>kernel|bias|W|b)(?:_[0-9]+)?(?::0)?"
)
"""A model keeps its layers in groups, a layer keeps its arrays under their own full names."""

_COUNTED = re.compile(
    r"(?P<model>(?:[^/]+/)*?)conv2d(?:_(?P<number>[0-9]{1,3}))?/vars/(?P<part>[01])"
)

_PARTS = {"W": "kernel", "b": "bias", "0": "kernel", "1": "bias"}

_ALONE = "Save the VGG alone, with Keras: vgg.save_weights('vgg.weights.h5')."


def _recognise(arrays: Arrays) -> PublishedNetwork | None:
    arrays = _model_arrays(arrays)
    networks = _networks_by_name(arrays) or _networks_by_count(arrays)
    if not networks:
        return None
    if len(networks) > 1:
        models = " and ".join(model or "the top" for model in sorted(networks))
        raise InvalidWeights(f"holds more than one VGG: in {models}", _ALONE)
    [network] = networks.values()
    _check_whole(network)
    _refuse_theano(network)
    return PublishedNetwork(
        {name: (parts["kernel"], parts["bias"]) for name, parts in network.items()},
        kernel_axes=(0, 1, 2, 3),
        convention=CAFFE_BGR,
        source="the original ImageNet VGG release, as Keras Applications carries it",
        licence="CC BY 4.0: the original VGG release's, as Keras says",
    )


def _model_arrays(arrays: Arrays) -> Arrays:
    """All but the optimiser's, which names its momenta after the kernels.

    Keras 2 on Windows wrote a backslash into some names where others have a slash.
    """
    slashed = {name.replace("\\", "/"): array for name, array in arrays.items()}
    return {name: array for name, array in slashed.items() if not name.startswith("optimizer")}


def _networks_by_name(arrays: Arrays) -> dict[str, Network]:
    """The VGGs whose layers have Keras' names, by the path of their model."""
    networks: dict[str, Network] = {}
    for path, array in arrays.items():
        if match := _NAMED.fullmatch(path):
            name = f"conv{match['block']}_{match['depth']}"
            convolution = networks.setdefault(match["model"], {}).setdefault(name, {})
            _add_part(convolution, _part(match), array, path)
    return networks


def _networks_by_count(arrays: Arrays) -> dict[str, Network]:
    """The VGGs whose layers are only counted, by the path of their model.

    A model that holds a VGG may have convolutions of its own beside it, counted likewise.
    """
    models: dict[str, dict[int, dict[str, StoredArray]]] = {}
    for path, array in arrays.items():
        if match := _COUNTED.fullmatch(path):
            layer = models.setdefault(match["model"], {}).setdefault(int(match["number"] or 0), {})
            _add_part(layer, _part(match), array, path)
    networks = {}
    for model, layers in models.items():
        if (architecture := _architecture(layers)) is not None:
            ordered = [layers[number] for number in sorted(layers)]
            networks[model] = dict(zip(architecture.convolutions, ordered, strict=True))
    if models and not networks:
        counts = ", ".join(str(len(layers)) for layers in models.values())
        raise InvalidWeights(
            f"counts {counts} convolutions, and they are no VGG-16 or VGG-19", _ALONE
        )
    return networks


def _architecture(layers: Mapping[int, Mapping[str, StoredArray]]) -> Architecture | None:
    """Which VGG has so many convolutions, and as wide as each other in each block."""
    numbers = sorted(layers)
    if numbers not in (list(range(len(numbers))), list(range(0, 2 * len(numbers), 2))):
        return None
    for architecture in ARCHITECTURES.values():
        if len(numbers) == len(architecture.convolutions):
            widths = [_width(layers[number]) for number in numbers]
            return architecture if _fits_blocks(widths, architecture) else None
    return None


def _width(layer: Mapping[str, StoredArray]) -> Shape:
    """A convolution's output channels, as the last side of its kernel; () without a kernel."""
    return layer["kernel"].shape[-1:] if "kernel" in layer else ()


def _fits_blocks(widths: list[Shape], architecture: Architecture) -> bool:
    start = 0
    for depth in architecture.depths:
        if len(set(widths[start : start + depth])) > 1:
            return False
        start += depth
    return True


def _part(match: re.Match[str]) -> str:
    return _PARTS.get(match["part"], match["part"])


def _add_part(
    convolution: dict[str, StoredArray], part: str, array: StoredArray, path: str
) -> None:
    if part in convolution:
        raise InvalidWeights(f"holds {path}, but another {part} of the same convolution as well")
    convolution[part] = array


def _check_whole(network: Network) -> None:
    for name, parts in sorted(network.items()):
        for part in ("kernel", "bias"):
            if part not in parts:
                raise InvalidWeights(f"must hold the {part} of {name}, but does not")


def _refuse_theano(network: Network) -> None:
    for name, parts in network.items():
        shape = parts["kernel"].shape
        if len(shape) == 4 and shape[2:] == (3, 3) != shape[:2]:
            raise InvalidWeights(
                f"has Theano's order of axes: the kernel of {name} has the shape {shape}",
                "Take the publisher's file for TensorFlow: …_tf_dim_ordering_tf_kernels.h5.",
            )


PUBLISHER = Publisher("keras", "Keras' vgg16/vgg19 .h5", _recognise)
