"""Keras' and flaxmodels' files: every layout, every convention, and files that mean harm.

Each layout is written with h5py from one narrow network. What the network must compute is
computed apart from all of `nst_jax`: the publisher's own preprocessing and a convolution in
float64.
"""

import dataclasses
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from networks import CHANNELS, DEPTHS, Network, narrow_network, picture

from nst_jax.model.vgg import VGG
from nst_jax.request.errors import WeightsError
from nst_jax.weights import subprocess_reader
from nst_jax.weights.containers import hdf5
from nst_jax.weights.convert import convert, convert_here
from nst_jax.weights.format import read_weights
from nst_jax.weights.network import NetworkWeights
from nst_jax.weights.publishers import flax, keras
from nst_jax.weights.publishers.publisher import InputConvention, Publisher

Contents = dict[str, np.ndarray]
Layout = Callable[[Network, bool], Contents]

IMAGE = picture(37, 45)
TOLERANCE = 1e-4


# The layouts.


def keras_name(name: str) -> str:
    return name.replace("conv", "block").replace("_", "_conv")


def classifier(first: str, second: str) -> Contents:
    """Stands for the published one, 25088 by 4096."""
    return {first: np.ones((12, 5), np.float32), second: np.ones(5, np.float32)}


def named(kernel: str, bias: str, classifier_names: tuple[str, str]) -> Layout:
    """A layout whose paths follow from the layers' names, `{}`."""

    def contents(network: Network, with_classifier: bool) -> Contents:
        arrays = classifier(*classifier_names) if with_classifier else {}
        for name, pair in network.convolutions.items():
            for template, array in zip((kernel, bias), pair, strict=True):
                layer = name if template.startswith("{}/weight") else keras_name(name)
                arrays[template.format(layer)] = array
        return arrays

    return contents


def counted(model: str, *, step: int = 1) -> Layout:
    """A layout whose layers are counted: conv2d, conv2d_1, …"""

    def contents(network: Network, with_classifier: bool) -> Contents:
        names = (f"{model}dense/vars/0", f"{model}dense/vars/1")
        arrays = classifier(*names) if with_classifier else {}
        for index, pair in enumerate(network.convolutions.values()):
            layer = f"{model}conv2d_{step * index}" if index else f"{model}conv2d"
            for part, array in enumerate(pair):
                arrays[f"{layer}/vars/{part}"] = array
        return arrays

    return contents


def flaxmodels_layout(network: Network, with_classifier: bool) -> Contents:
    arrays = classifier("fc6/weight", "fc6/bias") if with_classifier else {}
    for name, (kernel, bias) in network.convolutions.items():
        arrays |= {f"{name}/weight": kernel, f"{name}/bias": bias}
    return arrays


KERAS: dict[str, Layout] = {
    "published": named("{0}/{0}_W_1:0", "{0}/{0}_b_1:0", ("fc1/fc1_W_1:0", "fc1/fc1_b_1:0")),
    "Keras 2 weights": named(
        "{0}/{0}/kernel:0", "{0}/{0}/bias:0", ("fc1/fc1/kernel:0", "fc1/fc1/bias:0")
    ),
    "Keras 2 weights, second model of a session": named(
        "{0}/{0}_1/kernel:0", "{0}/{0}_1/bias:0", ("fc1/fc1_1/kernel:0", "fc1/fc1_1/bias:0")
    ),
    "Keras 2 model": named(
        "model_weights/{0}/{0}/kernel:0",
        "model_weights/{0}/{0}/bias:0",
        ("model_weights/fc1/fc1/kernel:0", "model_weights/fc1/fc1/bias:0"),
    ),
    "Keras 3 model": named(
        "model_weights/{0}/{0}/kernel",
        "model_weights/{0}/{0}/bias",
        ("model_weights/fc1/fc1/kernel", "model_weights/fc1/fc1/bias"),
    ),
    "Keras 2 weights, nested": named(
        "vgg/{0}/kernel:0", "vgg/{0}/bias:0", ("dense/dense/kernel:0", "dense/dense/bias:0")
    ),
    "Keras 2 model, nested": named(
        "model_weights/vgg/{0}/kernel:0",
        "model_weights/vgg/{0}/bias:0",
        ("model_weights/dense/dense/kernel:0", "model_weights/dense/dense/bias:0"),
    ),
    "Keras 3 model, nested": named(
        "model_weights/vgg/{0}/kernel",
        "model_weights/vgg/{0}/bias",
        (
            "model_weights/dense/sequential/dense/kernel",
            "model_weights/dense/sequential/dense/bias",
        ),
    ),
    "Keras 3 weights": counted("layers/"),
    "Keras 3 weights, nested": counted("layers/functional/layers/"),
    "TensorFlow 2.12 weights": counted("_layer_checkpoint_dependencies/", step=2),
    "TensorFlow 2.15 weights, Windows": counted("layers\\"),
}

LAYOUTS: dict[str, Layout] = KERAS | {"flaxmodels": flaxmodels_layout}


# What a file's network must compute.


def keras_input(image: np.ndarray) -> np.ndarray:
    """Keras' `preprocess_input` in its mode "caffe", for an image in [0, 1]."""
    return 255 * image[..., ::-1].astype(np.float64) - np.array([103.939, 116.779, 123.68])


def torchvision_input(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float64) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def source_network(architecture: str, layout: str) -> Network:
    """As its publisher stores it: for an input of some hundreds, Caffe's first kernel is small."""
    network = narrow_network(architecture)
    if layout in KERAS:
        kernel, bias = network.convolutions["conv1_1"]
        network.convolutions["conv1_1"] = (kernel / np.float32(60), bias)
    return network


def expected_features(network: Network, layout: str) -> references.Features:
    preprocessed = keras_input(IMAGE) if layout in KERAS else torchvision_input(IMAGE)
    unshifted = Network(network.architecture, network.convolutions, np.zeros(3, np.float32))
    return references.vgg(preprocessed, unshifted)


def relu_taps(architecture: str) -> tuple[str, ...]:
    return tuple(tap for tap in references.layers(architecture) if tap.startswith("relu"))


@jax.jit
def _activations(network, image):
    return network(image, jnp.array(image.shape[:2]), relu_taps(network.architecture.name))


def worst_error(weights: NetworkWeights, expected: references.Features) -> float:
    """The largest relative error of the converted network's features at any activation."""
    constants = weights.architecture, weights.convolutions, weights.mean
    features = _activations(VGG(*constants, deepest="pool5"), IMAGE)
    taps = relu_taps(weights.architecture.name)
    assert len(taps) == sum(weights.architecture.depths)
    return max(references.relative_error(features[tap], expected[tap]) for tap in taps)


# Files.


def write(path: Path, arrays: Contents, **options: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)
    return path


def keras_file(path: Path, edit: Callable[[h5py.File], object] = lambda file: None) -> Path:
    """A whole VGG-16 of Keras 2, then edited."""
    write(path, KERAS["Keras 2 model"](source_network("vgg16", "published"), True))
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def converted(source: Path, publisher: str = "") -> NetworkWeights:
    destination = source.with_name("converted.h5")
    convert_here(source, destination, publisher=publisher)
    return read_weights(destination)


def refusal(source: Path) -> str:
    """Why a file is refused: one line that names it, or what would have been made of it."""
    destination = source.with_name("converted.h5")
    with pytest.raises(WeightsError) as caught:
        convert_here(source, destination)
    assert not destination.exists()
    message = caught.value.message
    assert repr(str(source)) in message or repr(str(destination)) in message
    assert "\n" not in message
    return message


# Every layout is read as it is meant.


@pytest.mark.parametrize("with_classifier", [False, True], ids=["features", "with classifier"])
@pytest.mark.parametrize("architecture", DEPTHS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_features_are_those_of_the_source(
    tmp_path: Path, layout: str, architecture: str, with_classifier: bool
) -> None:
    network = source_network(architecture, layout)
    source = write(tmp_path / "any.name", LAYOUTS[layout](network, with_classifier))
    weights = converted(source)
    assert weights.architecture.name == architecture
    assert worst_error(weights, expected_features(network, layout)) < TOLERANCE


def swapped(convention: InputConvention) -> InputConvention:
    return dataclasses.replace(convention, order=convention.order[::-1])


def unfolded(convention: InputConvention) -> InputConvention:
    return dataclasses.replace(
        convention,
        scale=1.0,
        deviation=(1.0, 1.0, 1.0),
        mean=tuple(value / convention.scale for value in convention.mean),
    )


def unshifted(convention: InputConvention) -> InputConvention:
    return dataclasses.replace(convention, mean=(0.0, 0.0, 0.0))


MODULES = {"published": keras, "Keras 3 weights": keras, "flaxmodels": flax}


@pytest.mark.parametrize("mistake", [swapped, unfolded, unshifted])
@pytest.mark.parametrize("layout", MODULES)
def test_the_proof_above_notices_a_wrong_input_convention(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    mistake: Callable[[InputConvention], InputConvention],
) -> None:
    name = "IMAGENET_RGB" if layout == "flaxmodels" else "CAFFE_BGR"
    module = MODULES[layout]
    monkeypatch.setattr(module, name, mistake(getattr(module, name)))
    network = source_network("vgg16", layout)
    weights = converted(write(tmp_path / "source", LAYOUTS[layout](network, False)))
    assert worst_error(weights, expected_features(network, layout)) > 100 * TOLERANCE


def test_the_proof_above_notices_a_swap_of_height_and_width(tmp_path: Path) -> None:
    network = source_network("vgg16", "published")
    turned = {
        name: (kernel.transpose(1, 0, 2, 3), bias)
        for name, (kernel, bias) in network.convolutions.items()
    }
    arrays = KERAS["published"](network._replace(convolutions=turned), False)
    weights = converted(write(tmp_path / "source", arrays))
    assert worst_error(weights, expected_features(network, "published")) > 100 * TOLERANCE


def test_the_proof_above_notices_two_convolutions_in_the_wrong_order(tmp_path: Path) -> None:
    """Counted layers must be sorted by number: as texts, conv2d_10 comes before conv2d_2."""
    network = source_network("vgg19", "Keras 3 weights")
    arrays = KERAS["Keras 3 weights"](network, False)
    for part in (0, 1):
        first, second = f"layers/conv2d_9/vars/{part}", f"layers/conv2d_10/vars/{part}"
        arrays[first], arrays[second] = arrays[second], arrays[first]
    weights = converted(write(tmp_path / "source", arrays))
    expected = expected_features(network, "Keras 3 weights")
    assert worst_error(weights, expected) > 100 * TOLERANCE


@pytest.mark.parametrize("number", ["<f2", "<f8", ">f4"])
def test_any_precision_and_byte_order_is_read(tmp_path: Path, number: str) -> None:
    network = source_network("vgg16", "published")
    arrays = KERAS["published"](network, False)
    stored = {name: array.astype(number) for name, array in arrays.items()}
    weights = converted(write(tmp_path / "source", stored))
    error = worst_error(weights, expected_features(network, "published"))
    assert error < (0.02 if number == "<f2" else TOLERANCE)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": True},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf"},
    ],
    ids=str,
)
def test_what_h5py_compresses_is_read(tmp_path: Path, options: dict[str, object]) -> None:
    network = source_network("vgg16", "published")
    source = write(tmp_path / "source", KERAS["published"](network, False), **options)
    assert worst_error(converted(source), expected_features(network, "published")) < TOLERANCE


def test_a_user_block_in_front_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "source"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in KERAS["published"](narrow_network("vgg16"), False).items():
            file[name] = array
    assert converted(path).architecture.name == "vgg16"


def test_the_optimisers_momenta_are_not_the_network(tmp_path: Path) -> None:
    network = source_network("vgg16", "published")
    for layout, momenta in {
        "Keras 2 model": "optimizer_weights/Adam/m/{0}/kernel:0",
        "Keras 3 weights": "optimizer/vars/{1}",
    }.items():
        arrays = KERAS[layout](network, True)
        for index, (name, (kernel, _)) in enumerate(network.convolutions.items()):
            arrays[momenta.format(keras_name(name), index)] = np.zeros_like(kernel)
        weights = converted(write(tmp_path / layout, arrays))
        assert worst_error(weights, expected_features(network, layout)) < TOLERANCE


def test_a_counted_vgg_is_found_beside_convolutions_of_the_model_around_it(
    tmp_path: Path,
) -> None:
    network = source_network("vgg19", "published")
    arrays = counted("layers/functional/layers/")(network, False)
    arrays["layers/conv2d/vars/0"] = np.ones((1, 1, 12, 3), np.float32)
    arrays["layers/conv2d/vars/1"] = np.ones(3, np.float32)
    weights = converted(write(tmp_path / "source", arrays))
    assert worst_error(weights, expected_features(network, "published")) < TOLERANCE


def test_the_source_and_the_terms_are_kept(tmp_path: Path) -> None:
    network = narrow_network("vgg16")
    terms = {"published": ("Keras", "CC BY 4.0"), "flaxmodels": ("flaxmodels", "BSD-3-Clause")}
    for layout, (publisher, licence) in terms.items():
        weights = converted(write(tmp_path / layout, LAYOUTS[layout](network, False)))
        assert publisher in weights.source
        assert weights.licence.startswith(licence)


@pytest.mark.parametrize("publisher", [keras.PUBLISHER, flax.FLAXMODELS])
def test_the_publisher_may_be_named(tmp_path: Path, publisher: Publisher) -> None:
    layout = "flaxmodels" if publisher.name == "flaxmodels" else "published"
    source = write(tmp_path / "source", LAYOUTS[layout](narrow_network("vgg16"), False))
    assert converted(source, publisher.name).architecture.name == "vgg16"
    other = "keras" if publisher.name == "flaxmodels" else "flaxmodels"
    with pytest.raises(WeightsError, match=f"does not hold what {other} publishes"):
        converted(source, other)


# What is told by its first bytes.


def test_matlab_files_are_left_to_matlab(tmp_path: Path) -> None:
    start = keras_file(tmp_path / "source").read_bytes()[:1024]
    assert hdf5.CONTAINER.is_kind(start)
    assert hdf5.CONTAINER.is_kind(bytes(512) + start)
    assert hdf5.CONTAINER.is_kind(start[:8])
    assert not hdf5.CONTAINER.is_kind(b"MATLAB 7.3 MAT-file".ljust(512, b"\0") + start[:512])
    assert not hdf5.CONTAINER.is_kind(bytes(100) + start)
    assert not hdf5.CONTAINER.is_kind(b"")


# What is no VGG-16 or VGG-19.


def without(*names: str) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        for name in names:
            del file[f"model_weights/{name}"]

    return edit


def added(name: str | bytes, array: object) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__(name, array)


def replaced(name: str, array: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[f"model_weights/{name}"]
        file[f"model_weights/{name}"] = array

    return edit


KERNEL = "block1_conv1/block1_conv1/kernel:0"
BIAS = "block1_conv1/block1_conv1/bias:0"

OTHERS: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "a layer less": (without("block4_conv2"), "got 2, 2, 3, 2, 3 of 12 in all"),
    "the last layer less": (without("block5_conv3"), "got 2, 2, 3, 3, 2 of 12 in all"),
    "a layer more": (
        added("model_weights/block6_conv1/kernel:0", np.ones((3, 3, 12, 2), "f4")),
        "must hold the bias of conv6_1",
    ),
    "VGG-13": (
        without("block3_conv3", "block4_conv3", "block5_conv3"),
        "got 2, 2, 2, 2, 2 of 10 in all",
    ),
    "no bias": (without("block3_conv1/block3_conv1/bias:0"), "must hold the bias of conv3_1"),
    "no kernel": (without("block3_conv1/block3_conv1/kernel:0"), "the kernel of conv3_1"),
    "two kernels": (
        added("model_weights/block1_conv1/kernel:0", np.ones((3, 3, 3, 4), "f4")),
        "another kernel of the same convolution",
    ),
    "two networks": (
        added("vgg/block1_conv1/kernel:0", np.ones((3, 3, 3, 4), "f4")),
        "holds more than one VGG: in model_weights/ and vgg/",
    ),
    "Theano's axes": (
        replaced(KERNEL, np.ones((4, 3, 3, 3), "f4")),
        "has Theano's order of axes: the kernel of conv1_1 has the shape (4, 3, 3, 3)",
    ),
    "five by five": (replaced(KERNEL, np.ones((5, 5, 3, 4), "f4")), "got (5, 5, 3, 4)"),
    "gray input": (replaced(KERNEL, np.ones((3, 3, 1, 4), "f4")), "got (3, 3, 1, 4)"),
    "broken chain": (replaced(KERNEL, np.ones((3, 3, 3, 5), "f4")), "the shape (5,), got (4,)"),
    "three axes": (replaced(KERNEL, np.ones((3, 3, 3), "f4")), "with 4 axes"),
    "a scalar": (replaced(BIAS, np.float32(1)), "must hold conv1_1/bias in the shape (4,)"),
    "whole numbers": (replaced(BIAS, np.ones(4, "i4")), "must hold the bias of conv1_1"),
    "text": (replaced(BIAS, "one"), "must hold the bias of conv1_1"),
    "not a number": (replaced(BIAS, np.full(4, np.nan, "f4")), "not finite in conv1_1/bias"),
    "too large": (replaced(BIAS, np.full(4, 1e300)), "not finite in conv1_1/bias"),
    "batch norm": (
        added("model_weights/block1_bn/gamma:0", np.ones(4, "f4")),
        "a VGG with batch normalisation (it holds model_weights/block1_bn/gamma:0)",
    ),
    "moving mean": (
        added("model_weights/bn/moving_mean:0", np.ones(4, "f4")),
        "a VGG with batch normalisation",
    ),
}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("other", OTHERS)
def test_other_networks_are_refused_by_name(tmp_path: Path, other: str) -> None:
    edit, words = OTHERS[other]
    assert words in refusal(keras_file(tmp_path / "source", edit))


def test_the_file_that_the_others_are_made_of_is_sound(tmp_path: Path) -> None:
    assert converted(keras_file(tmp_path / "source")).architecture.name == "vgg16"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_missing_array_is_noticed(tmp_path: Path, layout: str) -> None:
    whole = LAYOUTS[layout](narrow_network("vgg16"), False)
    for missing in random.Random(0).sample(sorted(whole), 6):
        arrays = {name: array for name, array in whole.items() if name != missing}
        refusal(write(tmp_path / "source", arrays))


def counted_without(*numbers: int, channels: tuple[int, ...] = (4, 4, 4, 4, 4)) -> Contents:
    """VGG-19 of Keras 3, less some of its layers."""
    arrays = KERAS["Keras 3 weights"](narrow_network("vgg19", channels=channels), False)
    gone = tuple(f"layers/conv2d_{number}/" for number in numbers)
    return {name: array for name, array in arrays.items() if not name.startswith(gone)}


def test_a_counted_network_with_a_gap_or_other_widths_is_not_taken_for_a_smaller_one(
    tmp_path: Path,
) -> None:
    """Three layers less make thirteen, as many as VGG-16 has."""
    source = write(tmp_path / "source", counted_without(7, 11, 14))
    assert "counts 13 convolutions, and they are no VGG-16 or VGG-19" in refusal(source)
    wide = counted_without(13, 14, 15, channels=CHANNELS)
    assert "are no VGG-16 or VGG-19" in refusal(write(tmp_path / "source", wide))
    # Were they the last three, the count would have no gap, and nothing tells them apart.
    source = write(tmp_path / "source", counted_without(13, 14, 15))
    assert converted(source).architecture.name == "vgg16"


def test_a_flaxmodels_file_without_a_bias_or_with_other_names_is_refused(tmp_path: Path) -> None:
    arrays = flaxmodels_layout(narrow_network("vgg16"), True)
    others = {**arrays, "conv9/weight": np.ones(3, np.float32)}
    assert "holds no network that is known" in refusal(write(tmp_path / "source", others))
    del arrays["conv3_1/bias"]
    assert "must hold conv3_1/bias, but does not" in refusal(write(tmp_path / "source", arrays))


# Files that mean harm.


def cycle(file: h5py.File) -> None:
    file["model_weights/block1_conv1/round"] = file["model_weights"]
    file["model_weights/again"] = file["/"]


def elsewhere(file: h5py.File) -> None:
    del file[f"model_weights/{BIAS}"]
    file.create_dataset(f"model_weights/{BIAS}", (4,), "f4", external=[("/dev/zero", 0, 16)])


def virtual(file: h5py.File) -> None:
    del file[f"model_weights/{BIAS}"]
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "data", (4,))
    file.create_virtual_dataset(f"model_weights/{BIAS}", layout)


def virtual_without_end(file: h5py.File) -> None:
    """Its shape follows from other files: who asks for it opens them."""
    layout = h5py.VirtualLayout((4,), "f4", maxshape=(None,))
    source = h5py.VirtualSource("other.h5", "data", (4,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED :] = source[: h5py.h5s.UNLIMITED :]
    file.create_virtual_dataset("model_weights/data", layout)


def unwritten(shape: tuple[int, ...], **options: object) -> Callable[[h5py.File], None]:
    """An array that is claimed, and takes no room in the file."""

    def edit(file: h5py.File) -> None:
        del file[f"model_weights/{BIAS}"], file[f"model_weights/{KERNEL}"]
        file[f"model_weights/{BIAS}"] = np.ones(shape[3], "f4") if shape[3] < 99999 else 1.0
        file.create_dataset(f"model_weights/{KERNEL}", shape, "f4", **options)

    return edit


def wide(width: int, **options: object) -> Callable[[h5py.File], None]:
    """A network that is as wide as that in all its layers, of which only two are written."""

    def edit(file: h5py.File) -> None:
        del file["model_weights"]
        channels = 3
        for index, name in enumerate(narrow_network("vgg16").convolutions):
            layer = f"{keras_name(name)}/"
            shape = (3, 3, channels, width)
            kernel = file.create_dataset(f"{layer}kernel:0", shape, "f4", **options)
            if options and index < 2:
                kernel[...] = 1.0
            file[f"{layer}bias:0"] = np.ones(width, "f4")
            channels = width

    return edit


def large_chunk(file: h5py.File) -> None:
    """Its own shape is small, but a part of it is as large as may be."""
    del file[f"model_weights/{BIAS}"]
    file.create_dataset(f"model_weights/{BIAS}", (4,), "f4", maxshape=(None,), chunks=(1 << 28,))


HARMFUL: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "a soft link": (replaced(KERNEL, h5py.SoftLink("/model_weights/fc1")), "the kernel of conv1_1"),
    "a dangling link": (replaced(KERNEL, h5py.SoftLink("/nowhere")), "the kernel of conv1_1"),
    "a link to itself": (
        replaced(KERNEL, h5py.SoftLink(f"/model_weights/{KERNEL}")),
        "the kernel of conv1_1",
    ),
    "an external link": (
        replaced(KERNEL, h5py.ExternalLink("other.h5", "data")),
        "the kernel of conv1_1",
    ),
    "a link for a group": (replaced("block1_conv1", h5py.SoftLink("/")), "got 1, 2, 3, 3, 3 of 12"),
    "numbers elsewhere": (elsewhere, "but its numbers lie in another file"),
    "virtual numbers": (virtual, "but its numbers lie in another file"),
    "a shape elsewhere": (virtual_without_end, "but its numbers lie in another file"),
    "nothing written": (unwritten((3, 3, 3, 4)), "in the shape (3, 3, 3, 4), but does not"),
    "huge": (unwritten((3, 3, 3, 1 << 40)), "must hold conv1_1/bias in the shape"),
    "huge on all sides": (unwritten((1 << 20, 1 << 20, 1 << 15, 4)), "in the shape"),
    "no chunk written": (unwritten((3, 3, 3, 4), chunks=(3, 3, 3, 2)), "but does not"),
    "a large chunk": (large_chunk, "larger than any kernel of a VGG"),
    "a wide network of nothing": (wide(4096), "but does not"),
    "a wide network of air": (wide(1024, compression="gzip"), "larger than any kernel"),
    "a line feed in a name": (added("a\nb", np.ones(2)), "name is no line of text"),
    "a name of no alphabet": (added(b"a\xff", np.ones(2)), "is damaged"),
    "a long name": (added("a" * 5000, np.ones(2)), "name is no line of text"),
    "nothing at all": (added("empty", h5py.Empty("f4")), "holds empty without a shape"),
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_a_harmful_file_is_refused_and_the_harm_is_named(tmp_path: Path, harm: str) -> None:
    edit, words = HARMFUL[harm]
    assert words in refusal(keras_file(tmp_path / "source", edit))


def test_more_members_than_any_network_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = keras_file(tmp_path / "source")
    monkeypatch.setattr(hdf5, "_MOST_MEMBERS", 40)
    assert "more than 40 members" in refusal(source)


def test_hard_links_in_circles_are_walked_once(tmp_path: Path) -> None:
    network = source_network("vgg16", "published")
    weights = converted(keras_file(tmp_path / "source", cycle))
    assert worst_error(weights, expected_features(network, "published")) < TOLERANCE


def test_a_link_is_not_followed_even_to_a_sound_file(tmp_path: Path) -> None:
    keras_file(tmp_path / "sound.h5")
    link = h5py.ExternalLink(str(tmp_path / "sound.h5"), "model_weights")

    def edit(file: h5py.File) -> None:
        del file["model_weights"]
        file["model_weights"] = link

    assert "holds no network that is known" in refusal(keras_file(tmp_path / "source", edit))


def test_what_is_never_read_may_be_of_any_size(tmp_path: Path) -> None:
    """A classifier may be larger than all that is read here, and is not asked for."""

    def edit(file: h5py.File) -> None:
        del file["model_weights/fc1"]
        file.create_dataset("model_weights/fc1/fc1/kernel:0", (25088, 4096), "f4")

    assert converted(keras_file(tmp_path / "source", edit)).architecture.name == "vgg16"


def unknown_filter(file: h5py.File) -> None:
    """HDF5 would look for the library of a filter that it does not know, and load it."""
    del file[f"model_weights/{BIAS}"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)  # Zstandard
    space = h5py.h5s.create_simple((4,))
    name = f"model_weights/{BIAS}".encode()
    made = h5py.h5d.create(file.id, name, h5py.h5t.IEEE_F32LE, space, dcpl=properties)
    made.write_direct_chunk((0,), bytes(16))


def test_no_library_is_loaded_for_a_filter(tmp_path: Path) -> None:
    source = keras_file(tmp_path / "source", unknown_filter)
    assert "compressed in a way that is not read here" in refusal(source)


@pytest.fixture
def only_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder. A child that says nothing is ended soon, and must not need much memory."""
    monkeypatch.setattr(subprocess_reader, "LONGEST_SILENCE_S", 20.0)
    monkeypatch.setattr(subprocess_reader, "_MEMORY_OF_A_READER", 2**29)
    return tmp_path


def bomb(file: h5py.File) -> None:
    """Four numbers by its claim, one GiB of zeros in truth."""
    del file[f"model_weights/{BIAS}"]
    packed, packer = b"", zlib.compressobj(1)
    for _ in range(64):
        packed += packer.compress(bytes(1 << 24))
    packed += packer.flush()
    dataset = file.create_dataset(
        f"model_weights/{BIAS}", (4,), "f4", chunks=(4,), compression="gzip"
    )
    dataset.id.write_direct_chunk((0,), packed)


def test_a_bomb_is_refused_for_its_memory(tmp_path: Path, only_the_child: Path) -> None:
    source = keras_file(only_the_child / "source", bomb)
    with pytest.raises(WeightsError, match="is damaged"):
        convert(source, only_the_child / "converted.h5")
    assert [path.name for path in only_the_child.iterdir()] == ["source"]
