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
from collections.abc import Callable, Mapping
from typing import TypeVar

from nst_jax.request.taps import ARCHITECTURES, block_of
from nst_jax.weights.containers.arrays import Arrays, StoredArray
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.publishers.publisher import CAFFE_BGR, PublishedNetwork, Publisher

Layer = TypeVar("Layer", str, int)
Parts = dict[str, StoredArray]
"""The arrays of one convolution: its `kernel` and its `bias`."""

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
    named = _group(arrays, _NAMED, lambda match: f"conv{match['block']}_{match['depth']}")
    networks = named or _networks_by_count(arrays)
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


def _networks_by_count(arrays: Arrays) -> dict[str, dict[str, Parts]]:
    """The VGGs whose layers are only counted, by the path of their model and by our names.

    A model that holds a VGG may have convolutions of its own beside it, counted likewise.
    """
    models = _group(arrays, _COUNTED, lambda match: int(match["number"] or 0))
    named = {model: _name_layers(layers) for model, layers in models.items()}
    networks = {model: network for model, network in named.items() if network}
    if models and not networks:
        counts = ", ".join(str(len(layers)) for layers in models.values())
        raise InvalidWeights(
            f"counts {counts} convolutions, and they are no VGG-16 or VGG-19", _ALONE
        )
    return networks


def _group(
    arrays: Arrays, pattern: re.Pattern[str], layer_of: Callable[[re.Match[str]], Layer]
) -> dict[str, dict[Layer, Parts]]:
    """The arrays that are called so, by the path of their model and by their layer."""
    models: dict[str, dict[Layer, Parts]] = {}
    for path, array in arrays.items():
        if match := pattern.fullmatch(path):
            parts = models.setdefault(match["model"], {}).setdefault(layer_of(match), {})
            part = _PARTS.get(match["part"], match["part"])
            if part in parts:
                raise InvalidWeights(
                    f"holds {path}, but another {part} of the same convolution as well"
                )
            parts[part] = array
    return models


def _name_layers(layers: Mapping[int, Parts]) -> dict[str, Parts]:
    """The VGG with so many convolutions, as wide as each other in each block; {} if none is so."""
    numbers = sorted(layers)
    if numbers not in (list(range(len(numbers))), list(range(0, 2 * len(numbers), 2))):
        return {}
    for architecture in ARCHITECTURES.values():
        if len(numbers) == len(architecture.convolutions):
            ordered = [layers[number] for number in numbers]
            network = dict(zip(architecture.convolutions, ordered, strict=True))
            widths = {
                (block_of(name), parts["kernel"].shape[-1:] if "kernel" in parts else ())
                for name, parts in network.items()
            }
            return network if len(widths) == len(architecture.depths) else {}
    return {}


def _check_whole(network: Mapping[str, Parts]) -> None:
    for name, parts in sorted(network.items()):
        for part in ("kernel", "bias"):
            if part not in parts:
                raise InvalidWeights(f"must hold the {part} of {name}, but does not")


def _refuse_theano(network: Mapping[str, Parts]) -> None:
    for name, parts in network.items():
        shape = parts["kernel"].shape
        if len(shape) == 4 and shape[2:] == (3, 3) != shape[:2]:
            raise InvalidWeights(
                f"has Theano's order of axes: the kernel of {name} has the shape {shape}",
                "Take the publisher's file for TensorFlow: …_tf_dim_ordering_tf_kernels.h5.",
            )


PUBLISHER = Publisher("keras", "Keras' vgg16/vgg19 .h5", _recognise)
