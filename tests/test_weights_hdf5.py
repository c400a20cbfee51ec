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
from typing import Any

import h5py
import numpy as np
import pytest
import references
from networks import CHANNELS, DEPTHS, Network, narrow_network, picture
from weight_files import convert_by_child, convert_source, refusal, worst_error

from nst_jax.request.errors import WeightsError
from nst_jax.weights.containers import hdf5
from nst_jax.weights.publishers import flax, keras

Contents = dict[str, np.ndarray]
Layout = Callable[[Network, bool], Contents]

IMAGE = picture(37, 45)
TOLERANCE = 1e-4

CLASSIFIER = np.ones((12, 5), np.float32), np.ones(5, np.float32)
"""Stands for the published one, 25088 by 4096."""


# The layouts.


def keras_name(name: str) -> str:
    return name.replace("conv", "block").replace("_", "_conv")


def named(path: str, dense: str = "", parts: tuple[str, str] = ("kernel", "bias")) -> Layout:
    """A layout whose paths follow from the layers' names, Keras' or Caffe's, and their parts'."""

    def contents(network: Network, with_classifier: bool) -> Contents:
        arrays = {
            path.format(layer=keras_name(name), caffe=name, part=part): array
            for name, pair in network.convolutions.items()
            for part, array in zip(parts, pair, strict=True)
        }
        for part, array in zip(parts, CLASSIFIER if with_classifier else (), strict=False):
            arrays[(dense or path).format(layer="fc1", part=part)] = array
        return arrays

    return contents


def counted(model: str, *, step: int = 1) -> Layout:
    """A layout whose layers are counted: conv2d, conv2d_1, …"""

    def contents(network: Network, with_classifier: bool) -> Contents:
        layers = {
            f"conv2d_{step * index}" if index else "conv2d": pair
            for index, pair in enumerate(network.convolutions.values())
        }
        layers |= {"dense": CLASSIFIER} if with_classifier else {}
        return {
            f"{model}{layer}/vars/{part}": array
            for layer, pair in layers.items()
            for part, array in enumerate(pair)
        }

    return contents


KERAS: dict[str, Layout] = {
    "published": named("{layer}/{layer}_{part}_1:0", parts=("W", "b")),
    "Keras 2 weights": named("{layer}/{layer}/{part}:0"),
    "Keras 2 weights, second model of a session": named("{layer}/{layer}_1/{part}:0"),
    "Keras 2 model": named("model_weights/{layer}/{layer}/{part}:0"),
    "Keras 3 model": named("model_weights/{layer}/{layer}/{part}"),
    "Keras 2 weights, nested": named("vgg/{layer}/{part}:0", "dense/dense/{part}:0"),
    "Keras 2 model, nested": named(
        "model_weights/vgg/{layer}/{part}:0", "model_weights/dense/dense/{part}:0"
    ),
    "Keras 3 model, nested": named(
        "model_weights/vgg/{layer}/{part}", "model_weights/dense/sequential/dense/{part}"
    ),
    "Keras 3 weights": counted("layers/"),
    "Keras 3 weights, nested": counted("layers/functional/layers/"),
    "TensorFlow 2.12 weights": counted("_layer_checkpoint_dependencies/", step=2),
    "TensorFlow 2.15 weights, Windows": counted("layers\\"),
}

FLAXMODELS = named("{caffe}/{part}", "fc6/{part}", ("weight", "bias"))

LAYOUTS: dict[str, Layout] = KERAS | {"flaxmodels": FLAXMODELS}


# What a file's network must compute.


def keras_input(image: np.ndarray) -> np.ndarray:
    """Keras' `preprocess_input` in its mode "caffe", for an image in [0, 1]."""
    return 255 * image[..., ::-1].astype(np.float64) - np.array([103.939, 116.779, 123.68])


def torchvision_input(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float64) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def source_network(architecture: str, layout: str = "published") -> Network:
    """As its publisher stores it: for an input of some hundreds, Caffe's first kernel is small."""
    network = narrow_network(architecture)
    if layout in KERAS:
        kernel, bias = network.convolutions["conv1_1"]
        network.convolutions["conv1_1"] = (kernel / np.float32(60), bias)
    return network


def feature_error(source: Path, network: Network, layout: str = "published") -> float:
    """The worst of what is made of a file, against what its publisher's network computes."""
    preprocessed = keras_input(IMAGE) if layout in KERAS else torchvision_input(IMAGE)
    unshifted = network._replace(mean=np.zeros(3, np.float32))
    weights = convert_source(source)
    assert weights.architecture.name == network.architecture
    return worst_error(weights, IMAGE, references.vgg(preprocessed, unshifted))


# Files.


def write(
    path: Path, arrays: Contents, *, user_block: int | None = None, **options: object
) -> Path:
    with h5py.File(path, "w", userblock_size=user_block) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)
    return path


def keras_file(path: Path, edit: Callable[[Any], object] = lambda file: None) -> Path:
    """A whole VGG-16 of Keras 2, then edited."""
    write(path, KERAS["Keras 2 model"](source_network("vgg16"), True))
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


# Every layout is read as it is meant.


@pytest.mark.parametrize("with_classifier", [False, True], ids=["features", "with classifier"])
@pytest.mark.parametrize("architecture", DEPTHS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_features_are_those_of_the_source(
    tmp_path: Path, layout: str, architecture: str, with_classifier: bool
) -> None:
    network = source_network(architecture, layout)
    source = write(tmp_path / "any.name", LAYOUTS[layout](network, with_classifier))
    assert feature_error(source, network, layout) < TOLERANCE


MISTAKES: dict[str, Callable[[Any], dict[str, object]]] = {
    "swapped": lambda convention: {"order": convention.order[::-1]},
    "unfolded": lambda convention: {
        "scale": 1.0,
        "deviation": (1.0, 1.0, 1.0),
        "mean": tuple(value / convention.scale for value in convention.mean),
    },
    "unshifted": lambda convention: {"mean": (0.0, 0.0, 0.0)},
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("layout", ["published", "flaxmodels"])
def test_the_proof_above_notices_a_wrong_input_convention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, mistake: str
) -> None:
    module, name = (keras, "CAFFE_BGR") if layout in KERAS else (flax, "IMAGENET_RGB")
    convention = getattr(module, name)
    wrong = dataclasses.replace(convention, **MISTAKES[mistake](convention))
    monkeypatch.setattr(module, name, wrong)
    network = source_network("vgg16", layout)
    source = write(tmp_path / "source", LAYOUTS[layout](network, False))
    assert feature_error(source, network, layout) > 100 * TOLERANCE


def test_the_proof_above_notices_turned_kernels_and_a_wrong_order(tmp_path: Path) -> None:
    """Counted layers must be sorted by number: as texts, conv2d_10 comes before conv2d_2."""
    network = source_network("vgg19")
    turned = {
        name: (kernel.transpose(1, 0, 2, 3), bias)
        for name, (kernel, bias) in network.convolutions.items()
    }
    turned_arrays = KERAS["published"](network._replace(convolutions=turned), False)
    disordered_arrays = KERAS["Keras 3 weights"](network, False)
    for part in (0, 1):
        first, second = f"layers/conv2d_9/vars/{part}", f"layers/conv2d_10/vars/{part}"
        pair = disordered_arrays[second], disordered_arrays[first]
        disordered_arrays[first], disordered_arrays[second] = pair
    for arrays in (turned_arrays, disordered_arrays):
        assert feature_error(write(tmp_path / "source", arrays), network) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("number", "options"),
    [
        ("<f2", {}),
        ("<f8", {}),
        (">f4", {}),
        ("<f4", {"chunks": True}),
        ("<f4", {"compression": "gzip", "shuffle": True, "fletcher32": True}),
        ("<f4", {"compression": "lzf"}),
        ("<f4", {"user_block": 512}),
    ],
    ids=str,
)
def test_any_precision_byte_order_and_compression_of_h5py_s_is_read(
    tmp_path: Path, number: str, options: dict[str, Any]
) -> None:
    network = source_network("vgg16")
    arrays = KERAS["published"](network, False)
    stored = {name: array.astype(number) for name, array in arrays.items()}
    error = feature_error(write(tmp_path / "source", stored, **options), network)
    assert error < (0.02 if number == "<f2" else TOLERANCE)


def test_the_optimisers_momenta_are_not_the_network(tmp_path: Path) -> None:
    network = source_network("vgg16")
    for layout, momenta in {
        "Keras 2 model": "optimizer_weights/Adam/m/{0}/kernel:0",
        "Keras 3 weights": "optimizer/vars/{1}",
    }.items():
        arrays = KERAS[layout](network, True)
        for index, (name, (kernel, _)) in enumerate(network.convolutions.items()):
            arrays[momenta.format(keras_name(name), index)] = np.zeros_like(kernel)
        assert feature_error(write(tmp_path / layout, arrays), network) < TOLERANCE


def test_a_counted_vgg_is_found_beside_convolutions_around_it(tmp_path: Path) -> None:
    network = source_network("vgg19")
    arrays = counted("layers/functional/layers/")(network, False)
    arrays["layers/conv2d/vars/0"] = np.ones((1, 1, 12, 3), np.float32)
    arrays["layers/conv2d/vars/1"] = np.ones(3, np.float32)
    assert feature_error(write(tmp_path / "source", arrays), network) < TOLERANCE


@pytest.mark.parametrize(
    ("publisher", "layout", "source", "licence", "other"),
    [
        ("keras", "published", "Keras", "CC BY 4.0", "flaxmodels"),
        ("flaxmodels", "flaxmodels", "flaxmodels", "BSD-3-Clause", "keras"),
    ],
)
def test_the_source_and_the_terms_are_kept_and_the_publisher_may_be_named(
    tmp_path: Path, publisher: str, layout: str, source: str, licence: str, other: str
) -> None:
    path = write(tmp_path / "source", LAYOUTS[layout](narrow_network("vgg16"), False))
    for name in ("", publisher):
        weights = convert_source(path, name)
        assert weights.architecture.name == "vgg16"
        assert source in weights.source
        assert weights.licence.startswith(licence)
    with pytest.raises(WeightsError, match=f"does not hold what {other} publishes"):
        convert_source(path, other)


# What is told by its first bytes.


def test_matlab_files_are_left_to_matlab(tmp_path: Path) -> None:
    start = keras_file(tmp_path / "source").read_bytes()[:1024]
    for sound in (start, bytes(512) + start, start[:8]):
        assert hdf5.CONTAINER.is_kind(sound)
    matlab = b"MATLAB 7.3 MAT-file".ljust(512, b"\0") + start[:512]
    for other in (matlab, bytes(100) + start, b""):
        assert not hdf5.CONTAINER.is_kind(other)


# What is no VGG-16 or VGG-19, and files that mean harm.

KERNEL = "model_weights/block1_conv1/block1_conv1/kernel:0"
BIAS = "model_weights/block1_conv1/block1_conv1/bias:0"


def without(*names: str) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        for name in names:
            del file[f"model_weights/{name}"]

    return edit


def added(name: str | bytes, array: object) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__(name, array)


def replaced(name: str, array: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = array

    return edit


def claimed(name: str, shape: tuple[int, ...], **options: Any) -> Callable[[h5py.File], None]:
    """An array that is claimed, and takes no room in the file."""

    def edit(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, "f4", **options)

    return edit


def virtual(file: h5py.File) -> None:
    del file[BIAS]
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "data", (4,))
    file.create_virtual_dataset(BIAS, layout)


def virtual_without_end(file: h5py.File) -> None:
    """Its shape follows from other files: who asks for it opens them."""
    layout = h5py.VirtualLayout((4,), "f4", maxshape=(None,))
    source = h5py.VirtualSource("other.h5", "data", (4,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED :] = source[: h5py.h5s.UNLIMITED :]
    file.create_virtual_dataset("model_weights/data", layout)


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


def cycle(file: h5py.File) -> None:
    file["model_weights/block1_conv1/round"] = file["model_weights"]
    file["model_weights/again"] = file["/"]


def unknown_filter(file: h5py.File) -> None:
    """HDF5 would look for the library of a filter that it does not know, and load it."""
    del file[BIAS]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)  # Zstandard
    space = h5py.h5s.create_simple((4,))
    made = h5py.h5d.create(file.id, BIAS.encode(), h5py.h5t.IEEE_F32LE, space, dcpl=properties)
    made.write_direct_chunk((0,), bytes(16))


REFUSED: dict[str, tuple[Callable[[h5py.File], object], str]] = {
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
    "gray input": (replaced(KERNEL, np.ones((3, 3, 1, 4), "f4")), "got (3, 3, 1, 4)"),
    "broken chain": (replaced(KERNEL, np.ones((3, 3, 3, 5), "f4")), "the shape (5,), got (4,)"),
    "three axes": (replaced(KERNEL, np.ones((3, 3, 3), "f4")), "with 4 axes"),
    "a scalar": (replaced(BIAS, np.float32(1)), "must hold conv1_1/bias in the shape (4,)"),
    "whole numbers": (replaced(BIAS, np.ones(4, "i4")), "must hold the bias of conv1_1"),
    "text": (replaced(BIAS, "one"), "must hold the bias of conv1_1"),
    "too large": (replaced(BIAS, np.full(4, 1e300)), "not finite in conv1_1/bias"),
    "batch norm": (
        added("model_weights/block1_bn/gamma:0", np.ones(4, "f4")),
        "a VGG with batch normalisation (it holds model_weights/block1_bn/gamma:0)",
    ),
    "moving mean": (
        added("model_weights/bn/moving_mean:0", np.ones(4, "f4")),
        "a VGG with batch normalisation",
    ),
    "a soft link": (replaced(KERNEL, h5py.SoftLink("/model_weights/fc1")), "the kernel of conv1_1"),
    "a dangling link": (replaced(KERNEL, h5py.SoftLink("/nowhere")), "the kernel of conv1_1"),
    "a link to itself": (replaced(KERNEL, h5py.SoftLink(f"/{KERNEL}")), "the kernel of conv1_1"),
    "an external link": (
        replaced(KERNEL, h5py.ExternalLink("other.h5", "data")),
        "the kernel of conv1_1",
    ),
    "a link for a group": (
        replaced("model_weights/block1_conv1", h5py.SoftLink("/")),
        "got 1, 2, 3, 3, 3 of 12",
    ),
    "numbers elsewhere": (
        claimed(BIAS, (4,), external=[("/dev/zero", 0, 16)]),
        "but its numbers lie in another file",
    ),
    "virtual numbers": (virtual, "but its numbers lie in another file"),
    "a shape elsewhere": (virtual_without_end, "but its numbers lie in another file"),
    "nothing written": (claimed(KERNEL, (3, 3, 3, 4)), "in the shape (3, 3, 3, 4), but does not"),
    "huge": (claimed(KERNEL, (3, 3, 3, 1 << 40)), "must hold conv1_1/bias in the shape"),
    "huge on all sides": (claimed(KERNEL, (1 << 20, 1 << 20, 1 << 15, 4)), "in the shape"),
    "no chunk written": (claimed(KERNEL, (3, 3, 3, 4), chunks=(3, 3, 3, 2)), "but does not"),
    "a large chunk": (
        claimed(BIAS, (4,), maxshape=(None,), chunks=(1 << 28,)),
        "larger than any kernel of a VGG",
    ),
    "a wide network of nothing": (wide(4096), "but does not"),
    "a wide network of air": (wide(1024, compression="gzip"), "larger than any kernel"),
    "a line feed in a name": (added("a\nb", np.ones(2)), "name is no line of text"),
    "a name of no alphabet": (added(b"a\xff", np.ones(2)), "is damaged"),
    "a long name": (added("a" * 5000, np.ones(2)), "name is no line of text"),
    "nothing at all": (added("empty", h5py.Empty("f4")), "holds empty without a shape"),
    "a strange filter": (unknown_filter, "compressed in a way that is not read here"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_networks_and_harmful_files_are_refused_by_name(tmp_path: Path, what: str) -> None:
    edit, words = REFUSED[what]
    assert words in refusal(keras_file(tmp_path / "source", edit)).message


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


def test_a_count_with_a_gap_or_other_widths_is_no_smaller_network(tmp_path: Path) -> None:
    """Three layers less make thirteen, as many as VGG-16 has."""
    source = write(tmp_path / "source", counted_without(7, 11, 14))
    message = refusal(source).message
    assert "counts 13 convolutions, and they are no VGG-16 or VGG-19" in message
    other_widths = counted_without(13, 14, 15, channels=CHANNELS)
    assert "are no VGG-16 or VGG-19" in refusal(write(source, other_widths)).message
    # Were they the last three, the count would have no gap, and nothing tells them apart.
    write(source, counted_without(13, 14, 15))
    assert convert_source(source).architecture.name == "vgg16"


def test_a_flaxmodels_file_without_a_bias_or_with_other_names_is_refused(tmp_path: Path) -> None:
    arrays = FLAXMODELS(narrow_network("vgg16"), True)
    source = write(tmp_path / "source", {**arrays, "conv9/weight": np.ones(3, np.float32)})
    assert "holds no network that is known" in refusal(source).message
    del arrays["conv3_1/bias"]
    assert "must hold conv3_1/bias, but does not" in refusal(write(source, arrays)).message


def test_more_members_than_any_network_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = keras_file(tmp_path / "source")
    monkeypatch.setattr(hdf5, "_MOST_MEMBERS", 40)
    assert "more than 40 members" in refusal(source).message


def test_hard_links_in_circles_are_walked_once(tmp_path: Path) -> None:
    source = keras_file(tmp_path / "source", cycle)
    assert feature_error(source, source_network("vgg16")) < TOLERANCE


def test_a_link_is_not_followed_even_to_a_sound_file(tmp_path: Path) -> None:
    sound = keras_file(tmp_path / "sound.h5")
    link = replaced("model_weights", h5py.ExternalLink(str(sound), "model_weights"))
    message = refusal(keras_file(tmp_path / "source", link)).message
    assert "holds no network that is known" in message


def test_what_is_never_read_may_be_of_any_size(tmp_path: Path) -> None:
    """A classifier may be larger than all that is read here, and is not asked for."""
    edit = claimed("model_weights/fc1/fc1/kernel:0", (25088, 4096))
    assert convert_source(keras_file(tmp_path / "source", edit)).architecture.name == "vgg16"


def bomb(file: h5py.File) -> None:
    """Four numbers by its claim, one GiB of zeros in truth."""
    del file[BIAS]
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    dataset = file.create_dataset(BIAS, (4,), "f4", chunks=(4,), compression="gzip")
    dataset.id.write_direct_chunk((0,), packed)


@pytest.mark.usefixtures("impatient_reader")
def test_a_bomb_is_refused_for_its_memory(tmp_path: Path) -> None:
    source = keras_file(tmp_path / "source", bomb)
    assert "is damaged" in refusal(source, convert_by_child).message
