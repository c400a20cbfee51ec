"""PyTorch's and safetensors' files: what is read from them, and that nothing in them runs.

Files are written byte by byte by `torch_files`, without PyTorch; where it is installed, it
says whether they are as it writes and reads them. Our reader never asks it.
"""

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_files
import weight_files
from networks import narrow_network, picture
from pickle_attacks import EXECUTING
from torch_files import FORMATS, LAYOUTS, NUMBERS, State, foreign_file, state_dict, torch_file

from nst_jax.request.errors import WeightsError
from nst_jax.weights.containers import safetensors as safetensors_container
from nst_jax.weights.containers import torch as torch_container
from nst_jax.weights.network import NetworkWeights

CAFFE_CLASSIFIER = ("classifier.1", "classifier.4", "classifier.6")
TIMM_HEAD = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")

ONE_EACH = (1, 1, 1, 1, 1)
"""Channels of a network that is hardly more than its names: most of its file is structure."""


@pytest.fixture(autouse=True)
def no_torch(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Whoever asks for PyTorch fails, but for the tests that compare with it."""
    if "torch" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def write(content: bytes, folder: Path) -> Path:
    source = folder / "source.pth"
    source.write_bytes(content)
    return source


def converted(content: bytes, folder: Path, publisher: str = "") -> NetworkWeights:
    return weight_files.convert_source(write(content, folder), publisher)


def refusal(content: bytes, folder: Path, publisher: str = "") -> WeightsError:
    source = write(content, folder)
    return weight_files.refusal(source, lambda path: weight_files.convert_source(path, publisher))


# The network that the publisher computes, in its own layout, from its own preprocessing.


def torchvision_input(image: np.ndarray) -> np.ndarray:
    """transforms.Normalize on ToTensor's (3, height, width)."""
    mean = np.array([0.485, 0.456, 0.406])[:, None, None]
    deviation = np.array([0.229, 0.224, 0.225])[:, None, None]
    return (image.astype(np.float64).transpose(2, 0, 1) - mean) / deviation


def caffe_input(image: np.ndarray) -> np.ndarray:
    """Blue first, from 0 to 255, minus the mean of the original VGG release."""
    blue_first = 255 * image.astype(np.float64)[:, :, [2, 1, 0]].transpose(2, 0, 1)
    return blue_first - np.array([103.939, 116.779, 123.68])[:, None, None]


def convolution(planes: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """torch.nn.functional.conv2d with padding 1, of one image: (c, h, w) to (d, h, w)."""
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("chwij,dcij->dhw", windows, np.float64(weight)) + bias[:, None, None]


def pooling(planes: np.ndarray) -> np.ndarray:
    channels, height, width = planes.shape
    even = planes[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))


def publishers_features(
    state: State, architecture: str, planes: np.ndarray
) -> dict[str, np.ndarray]:
    """After each ReLU, (height, width, channels), by the layers' own numbers."""
    features = []
    numbers = NUMBERS[architecture]
    for number in range(numbers[-1] + 1):
        if number in numbers:
            kernel, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
            planes = np.maximum(convolution(planes, kernel, bias), 0)
            features.append(planes.transpose(1, 2, 0))
        elif number - 1 not in numbers:  # neither a convolution nor its ReLU
            planes = pooling(planes)
    return dict(zip(weight_files.list_activations(architecture), features, strict=True))


def feature_error(
    weights: NetworkWeights,
    state: State,
    preprocessed: Callable[[np.ndarray], np.ndarray] = torchvision_input,
) -> float:
    """Of all ReLUs, on a picture with odd sides."""
    image = picture(37, 45, seed=3)
    theirs = publishers_features(state, weights.architecture.name, preprocessed(image))
    return weight_files.worst_error(weights, image, theirs)


def published_state(architecture: str, publisher: str = "torchvision") -> State:
    """A narrow network under the publisher's names, at a scale that its input asks for."""
    network = narrow_network(architecture, seed=len(publisher))
    if publisher != "caffe-torch":
        return state_dict(network)
    state = state_dict(network, classifier=CAFFE_CLASSIFIER)
    state["features.0.weight"] = state["features.0.weight"] / np.float32(100)
    return state


PREPROCESSED = {"torchvision": torchvision_input, "caffe-torch": caffe_input}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
@pytest.mark.parametrize("publisher", PREPROCESSED)
def test_a_converted_network_sees_what_the_published_one_saw(
    publisher: str, architecture: str, kind: str, tmp_path: Path
) -> None:
    state = published_state(architecture, publisher)
    weights = converted(foreign_file(state, kind), tmp_path)
    assert weights.architecture.name == architecture
    assert feature_error(weights, state, PREPROCESSED[publisher]) < 1e-4
    licence = {"torchvision": "BSD-3-Clause", "caffe-torch": "CC BY 4.0"}[publisher]
    assert licence in weights.licence


def test_swapped_channels_and_another_input_would_be_noticed(tmp_path: Path) -> None:
    """Proves that the test above can fail."""
    state = published_state("vgg16")
    weights = converted(torch_file(state, "zip"), tmp_path)
    assert feature_error(weights, state, caffe_input) > 0.1
    swapped = state | {"features.0.weight": state["features.0.weight"][:, ::-1]}
    assert feature_error(weights, swapped) > 0.01
    turned = state | {"features.28.weight": state["features.28.weight"].transpose(0, 1, 3, 2)}
    assert feature_error(weights, turned) > 0.01


def test_the_reference_is_torchs_own_convolution(torch: Any) -> None:
    functional = torch.nn.functional
    rng = np.random.default_rng(0)
    planes, weight, bias = rng.random((2, 5, 7)), rng.random((3, 2, 3, 3)), rng.random(3)
    wanted = functional.conv2d(*map(torch.from_numpy, (planes, weight, bias)), padding=1)
    np.testing.assert_allclose(convolution(planes, weight, bias), wanted.numpy(), rtol=1e-12)


# PyTorch's formats.


def torch_saved(torch: Any, state: Any, layout: str) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=layout == "zip")
    return file.getvalue()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_files_written_here_are_what_torch_reads_and_writes(
    layout: str, tmp_path: Path, torch: Any
) -> None:
    state = published_state("vgg16")
    content = torch_file(state, layout)
    loaded = torch.load(io.BytesIO(content), weights_only=True)
    assert list(loaded) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(loaded[name].numpy(), array)
    saved = torch_saved(torch, loaded, layout)
    by_torch, by_hand = converted(saved, tmp_path), converted(content, tmp_path)
    assert by_torch.content_sha256 == by_hand.content_sha256


def arrays_of(content: bytes, folder: Path) -> dict[str, np.ndarray]:
    with torch_container.CONTAINER.open(write(content, folder)) as arrays:
        return {name: array.float32() for name, array in arrays.items()}


def narrow_state(**options: Any) -> State:
    return state_dict(narrow_network("vgg16", channels=ONE_EACH), **options)


def pickled_view(
    layout: str,
    count: int = 12,
    offset: int = 0,
    shape: tuple[int, ...] = (2,),
    strides: tuple[int, ...] = (1,),
    name: str = "a",
    key: str = "0",
) -> bytes:
    """The pickle of one view of a storage of `count` numbers."""
    view = torch_files.tensor(torch_files.storage(key, count, layout), offset, shape, strides)
    return torch_files.pickled(torch_files.dictionary({name: view}))


ROW = {"0": np.ones(12, np.float32)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_view_of_a_storage_is_read(layout: str, tmp_path: Path) -> None:
    row = np.arange(12, dtype=np.float32)
    stored = torch_files.storage("7", 12, layout)
    part = torch_files.tensor(stored, 2, (2,), (1,))
    views = {
        "whole": (torch_files.tensor(stored, 0, (3, 4), (4, 1)), row.reshape(3, 4)),
        "turned": (torch_files.tensor(stored, 0, (4, 3), (1, 4)), row.reshape(3, 4).T),
        "part": (torch_files.tensor(stored, 5, (2, 2), (4, 2)), np.array([[5, 7], [9, 11]])),
        "old": (torch_files.old_tensor(stored, 1, (3,), (1,)), row[1:4]),
        "parameter": (torch_files.parameter(part), row[2:4]),
        "scalar": (torch_files.tensor(stored, 11, (), ()), row[11]),
        "empty": (torch_files.tensor(stored, 12, (0, 3), (3, 1)), np.empty((0, 3))),
    }
    tree = torch_files.ordered({name: view for name, (view, _) in views.items()})
    content = torch_files.written(torch_files.pickled(tree), {"7": row}, layout)
    arrays = arrays_of(content, tmp_path)
    assert set(arrays) == set(views)
    for name, (_, wanted) in views.items():
        np.testing.assert_array_equal(arrays[name], wanted)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("dtype", "prefix"),
    [("f2", ""), ("f8", ""), ("f4", "module."), ("f4", "vgg."), ("f4", "module.model.")],
)
def test_half_and_double_precision_become_float32_and_a_prefix_of_all_names_is_cut_off(
    dtype: str, prefix: str, kind: str, tmp_path: Path
) -> None:
    state = {name: array.astype(dtype) for name, array in published_state("vgg19").items()}
    prefixed = {prefix + name: array for name, array in state.items()}
    assert feature_error(converted(foreign_file(prefixed, kind), tmp_path), state) < 1e-4


@pytest.mark.parametrize(
    ("byte_order", "dtype"), [("big", ">f4"), ("little", "<f4"), (None, "<f4")]
)
def test_an_archive_is_read_in_the_byte_order_of_its_machine(
    byte_order: str | None, dtype: str, tmp_path: Path
) -> None:
    row = np.arange(4, dtype=dtype)
    program = pickled_view("zip", 4, 0, (2, 2), (2, 1))
    content = torch_files.zipped(program, {"0": row}, byte_order=byte_order)
    np.testing.assert_array_equal(arrays_of(content, tmp_path)["a"], row.reshape(2, 2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_may_lie_beside_plain_values(key: str, layout: str, tmp_path: Path) -> None:
    state = published_state("vgg16")
    views, rows = torch_files.tensors(state, layout)
    beside = {
        "epoch": torch_files.number(90),
        "arch": torch_files.text("vgg16"),
        "best": b"G" + struct.pack(">d", 71.5),
        "nothing": b"N",
        "losses": b"](" + torch_files.number(1) + torch_files.number(2) + b"e",
    }
    tree = torch_files.dictionary({**beside, key: torch_files.ordered(views)})
    weights = converted(torch_files.written(torch_files.pickled(tree), rows, layout), tmp_path)
    plain = converted(torch_file(state, layout), tmp_path)
    assert weights.content_sha256 == plain.content_sha256


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_features_alone_are_known_by_their_numbers_and_timms_by_their_names(
    prefix: str, tmp_path: Path
) -> None:
    state = state_dict(narrow_network("vgg19"), classifier=())
    bare = {prefix + name.removeprefix("features."): array for name, array in state.items()}
    timms = state_dict(narrow_network("vgg19"), classifier=TIMM_HEAD)
    for content in (torch_file(bare, "zip"), foreign_file(timms, "safetensors")):
        weights = converted(content, tmp_path)
        assert weights.architecture.name == "vgg19"
        assert feature_error(weights, state) < 1e-4


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    state = narrow_state(classifier=())
    both = state | {f"vgg.{name}": 2 * array for name, array in state.items()}
    for names in (list(both), list(reversed(both))):
        content = torch_file({name: both[name] for name in names}, "zip")
        assert "holds no network that is known" in refusal(content, tmp_path).message


def test_caffes_network_without_a_classifier_needs_its_publishers_name(tmp_path: Path) -> None:
    state = published_state("vgg16", "caffe-torch")
    error = refusal(torch_file(state, "zip"), tmp_path, "torchvision")
    assert "does not hold what torchvision publishes" in error.message
    bare = {name: array for name, array in state.items() if name.startswith("features")}
    named = converted(torch_file(bare, "zip"), tmp_path, "caffe-torch")
    assert feature_error(named, state, caffe_input) < 1e-4
    unnamed = converted(torch_file(bare, "zip"), tmp_path)
    assert feature_error(unnamed, state) < 1e-4  # it can't be told


def bytes_text(value: str) -> bytes:
    """A text as Python 2 had them."""
    return b"U" + bytes([len(value)]) + value.encode()


def test_a_stream_that_python_2_wrote_is_read(tmp_path: Path) -> None:
    """Texts of bytes, long numbers, notes from 1 on, and an OrderedDict made of a list."""
    identity = bytes_text("storage") + torch_files.name("torch", "FloatStorage")
    identity += bytes_text("7") + bytes_text("cpu") + b"\x8a\x01\x04" + b"N"
    view = torch_files.old_tensor(b"(" + identity + b"tQ", 0, (2, 2), (2, 1))
    pair = b"]q\x02(" + bytes_text("a") + b"q\x03" + view + b"e"
    tree = torch_files.call("collections", "OrderedDict", b"]q\x01(" + pair + b"e")
    rows = {"7": np.arange(4, dtype=np.float32)}
    arrays = arrays_of(torch_files.streamed(torch_files.pickled(tree), rows), tmp_path)
    np.testing.assert_array_equal(arrays["a"], [[0, 1], [2, 3]])


# What is another network.

VGG11 = [0, 3, 6, 8, 11, 13, 16, 18]
VGG13 = [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
VGG16_BN = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
ALEXNET = [0, 3, 6, 8, 10]
CUT_OFF = [0, 2, 5, 7, 10, 12, 14, 17, 19]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (VGG11, "is a vgg11, which is not read"),
        (VGG13, "is a vgg13, which is not read"),
        (VGG16_BN, "is a vgg16 with batch normalisation, told by its layers' numbers"),
        (ALEXNET, "has weights at the layers 0, 3, 6, 8, 10, which is no VGG"),
        (CUT_OFF, "has weights at the layers 0, 2, 5, 7, 10, 12, 14, 17, 19, which is no VGG"),
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_another_network_is_refused_by_its_layers_numbers(
    numbers: list[int], words: str, kind: str, tmp_path: Path
) -> None:
    state = narrow_state(numbers=numbers, classifier=())
    error = refusal(foreign_file(state, kind), tmp_path)
    assert words in error.message
    assert "vgg16 or vgg19" in error.remedy


def test_batch_normalisation_is_refused_with_and_without_its_averages(tmp_path: Path) -> None:
    state = narrow_state(numbers=VGG16_BN, classifier=())
    for number in VGG16_BN:
        state[f"features.{number + 1}.weight"] = np.ones(1, np.float32)
        state[f"features.{number + 1}.bias"] = np.ones(1, np.float32)
    assert "batch normalisation" in refusal(torch_file(state, "zip"), tmp_path).message
    state["features.1.running_mean"] = np.ones(1, np.float32)
    assert "running_mean" in refusal(torch_file(state, "zip"), tmp_path).message


def changed(name: str, array: np.ndarray | None) -> State:
    state = narrow_state()
    del state[name]
    return state if array is None else state | {name: array}


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("state", "words"),
    [
        (changed("features.5.bias", None), "must hold features.5.bias"),
        (changed("features.0.weight", None), "holds no network that is known"),
        (changed("features.5.bias", np.ones(2, np.float32)), "must hold conv2_1/bias"),
        (changed("features.5.bias", ONE * np.float32(np.nan)), "not finite in conv2_1/bias"),
        (changed("features.5.bias", np.ones(1, np.int64)), "stores its numbers as "),
        (changed("features.5.weight", np.ones(9, np.float32)), "kernel with 4 axes"),
        (changed("features.5.weight", np.ones((1, 1, 3, 5), np.float32)), "conv2_1/kernel in the"),
        ({"decoder.0.weight": ONE}, "no VGG"),
        ({"fc.weight": ONE}, "it has fc.weight"),
        (narrow_state() | {"decoder.0.weight": ONE}, "holds no network that is known"),
    ],
)
def test_a_network_that_is_not_whole_is_refused(
    state: State, words: str, kind: str, tmp_path: Path
) -> None:
    assert words in refusal(foreign_file(state, kind), tmp_path).message


# Hostile files. Nothing in them is run, and none makes the reader ask for memory.


def attacked(attack: bytes, place: str) -> bytes:
    """A file of PyTorch's with the attack in place of one of its pickles."""
    views, rows = torch_files.tensors(narrow_state(), "stream")
    program = torch_files.pickled(torch_files.ordered(views))
    return {
        "archive": torch_files.zipped(attack, {}),
        "version": torch_files.STREAM_MAGIC + attack,
        "machine": torch_files.STREAM_START + attack,
        "tensors": torch_files.streamed(attack, rows),
        "keys": torch_files.streamed(program, rows, keys=attack),
    }[place]


@pytest.mark.parametrize("place", ["archive", "version", "machine", "tensors", "keys"])
@pytest.mark.parametrize("attack", EXECUTING)
def test_no_pickle_in_a_torch_file_runs_anything(attack: str, place: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    refusal(attacked(EXECUTING[attack](marker), place), tmp_path)
    assert not marker.exists()


def test_the_attacks_reach_the_reader(tmp_path: Path) -> None:
    """Proves that the test above can fail: what is harmless in these places is read on."""
    views, rows = torch_files.tensors(narrow_state(), "stream")
    converted(attacked(pickle.dumps(list(rows), protocol=2), "keys"), tmp_path)
    program = torch_files.pickled(torch_files.ordered(views))
    converted(attacked(program, "tensors"), tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_model_is_refused_as_a_program(layout: str, tmp_path: Path, torch: Any) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    for tree in (model, {"model": model, "epoch": 3}):
        error = refusal(torch_saved(torch, tree, layout), tmp_path)
        assert "asks for 'torch.nn.modules.container.Sequential'" in error.message
        assert "state_dict()" in error.remedy


def test_a_whole_model_written_by_hand_is_refused_likewise(tmp_path: Path) -> None:
    error = refusal(program(torch_files.name("models", "Net"), b")\x81}b"), tmp_path)
    assert "asks for 'models.Net'; only plain tensors are read" in error.message
    assert error.remedy.startswith("A whole model is a program. Save its state_dict()")


LIES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "beyond its storage": (0, (13,), (1,)),
    "an offset beyond": (1, (12,), (1,)),
    "a stride beyond": (0, (3, 4), (5, 1)),
    "a negative size": (0, (-3, -4), (4, 1)),
    "a negative stride": (11, (3, 4), (-4, -1)),
    "a negative offset": (-1, (12,), (1,)),
    "a number repeated": (0, (2**40,), (0,)),
    "sides beyond 64 bits": (0, (2**62, 2**62), (1, 1)),
    "strides beyond 64 bits": (0, (2, 2), (2**200, 1)),
    "fewer strides than sides": (0, (3, 4), (1,)),
    "many dimensions": (0, (1,) * 65, (1,) * 65),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lie", LIES)
def test_a_tensor_that_leaves_its_storage_is_refused(lie: str, layout: str, tmp_path: Path) -> None:
    content = torch_files.written(pickled_view(layout, 12, *LIES[lie]), ROW, layout)
    assert "holds a tensor" in refusal(content, tmp_path).message


@pytest.mark.parametrize("count", [13, 2**20, 2**61, 2**200, 11, -12])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_storage_of_another_size_than_the_file_has_is_refused(
    layout: str, count: int, tmp_path: Path
) -> None:
    content = torch_files.written(pickled_view(layout, count, 0, (1,)), ROW, layout)
    assert "a storage" in refusal(content, tmp_path).message


def test_a_stream_that_agrees_on_more_than_it_holds_is_cut_short(tmp_path: Path) -> None:
    content = torch_files.streamed(pickled_view("stream", 2**40, 0, (2**40,)), {"0": np.empty(0)})
    error = refusal(content[:-8] + struct.pack("<q", 2**40) + bytes(99), tmp_path)
    assert "is cut short: a storage reaches beyond the file" in error.message


def declared(size: int) -> bytes:
    """The storage's entry claims `size` bytes, packed and unpacked."""
    content = bytearray(torch_files.zipped(pickled_view("zip", count=size // 4), ROW))
    entry = content.rindex(b"archive/data/0") - 46
    content[entry + 20 : entry + 28] = struct.pack("<II", size, size)
    return bytes(content)


def with_name(name: str) -> bytes:
    return torch_files.zipped(pickled_view("zip", name=name), ROW)


def program(*parts: bytes) -> bytes:
    return torch_files.zipped(torch_files.pickled(b"".join(parts)), {})


UNSOUND: dict[str, tuple[bytes, str]] = {
    "compressed entries": (
        torch_files.zipped(pickled_view("zip"), ROW, compression=zipfile.ZIP_DEFLATED),
        "compressed entries",
    ),
    "a storage of two gigabytes": (declared(2**31), "is cut short"),
    "no storage": (torch_files.zipped(pickled_view("zip"), {}), "a storage is missing"),
    "a storage elsewhere": (
        torch_files.zipped(pickled_view("zip", key="../0"), ROW), "a storage is missing",
    ),
    "a strange byte order": (
        torch_files.zipped(pickled_view("zip"), ROW, byte_order="middle"), "is damaged",
    ),
    "a huge pickle": (torch_files.zipped(bytes(2**24 + 1), ROW), "far too much"),
    "a TorchScript archive": (
        torch_files.zipped(pickled_view("zip"), ROW, more={"constants.pkl": b""}), "TorchScript",
    ),
    "two roots": (torch_files.packed({"a/data.pkl": b"", "b/x": b""}), "not laid out as PyTorch"),
    "a keras model": (
        torch_files.packed({"config.json": b"", "metadata.json": b"", "model.weights.h5": b""}),
        "is a whole Keras model",
    ),
    "another zip": (torch_files.packed({"readme": b""}), "is a zip, but no archive of PyTorch's"),
    "an empty zip's start": (b"PK\x03\x04", "is damaged or cut short"),
    "no tensors": (program(b"}"), "holds no state_dict"),
    "a list": (program(b"]"), "holds no state_dict"),
    "a name of two lines": (with_name("a\nb"), "name is no line of text"),
    "a name of no end": (with_name("a" * 1000), "name is no line of text"),
    "a key that is no text": (
        program(
            b"}", torch_files.number(1),
            torch_files.tensor(torch_files.storage("0", 0, "zip"), 0, (0,), (1,)), b"s",
        ),
        "name is no line of text",
    ),
    "a state for a tensor": (
        program(torch_files.tensor(torch_files.storage("0", 0, "zip"), 0, (0,), (1,)), b"}b"),
        "gives a state to what has none",
    ),
    "attributes for a storage": (
        program(torch_files.storage("0", 0, "zip"), b"N}", torch_files.text("count"),
                torch_files.number(9), b"s\x86b"),
        "gives a state to what has none",
    ),
    "a storage type that is called": (program(torch_files.call("torch", "FloatStorage")), "sound"),
    "a tensor without a storage": (
        program(torch_files.tensor(torch_files.number(1), 0, (1,), (1,))), "without a storage",
    ),
    "a parameter that is a number": (
        program(torch_files.parameter(torch_files.number(1))), "parameter that is no tensor",
    ),
    "a storage of no kind": (program(torch_files.number(1), b"Q"), "not laid out as PyTorch"),
    "a storage that changes": (
        program(torch_files.storage("0", 1, "zip"), torch_files.storage("0", 2, "zip"), b"\x86"),
        "contradicts itself",
    ),
    "a far note": (program(b"}r\xff\xff\xff\xff"), "numbers its notes out of turn"),
    "a long text": (program(b"X\xff\xff\xff\xff"), "no sound pickle of plain tensors"),
    "a view of a storage": (
        torch_files.streamed(pickled_view("stream").replace(b"NtQ", b"}tQ"), ROW), "not laid out",
    ),
    "another version": (
        torch_files.STREAM_MAGIC + pickle.dumps(1002, protocol=2), "another version than 1001",
    ),
    "a stream of four bytes less": (
        torch_files.streamed(pickled_view("stream"), ROW)[:-4], "cut short",
    ),
    "another count": (
        torch_files.streamed(pickled_view("stream"), {"0": np.ones(6, np.float64)}),
        "not as large as its tensors say",
    ),
    **{
        f"keys {keys!r}": (
            torch_files.streamed(
                pickled_view("stream"), ROW, keys=pickle.dumps(keys, protocol=2)
            ),
            "its list of storages",
        )
        for keys in ([], ["0", "0"], ["1"], ("0",), [["0"]], 7)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_torch_file_is_refused(name: str, tmp_path: Path) -> None:
    content, words = UNSOUND[name]
    assert words in refusal(content, tmp_path).message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_is_listed_but_refused_by_its_name(layout: str, tmp_path: Path) -> None:
    halves = {name: array.astype(np.float16) for name, array in narrow_state().items()}
    views, rows = torch_files.tensors(halves, layout)
    program = torch_files.pickled(torch_files.ordered(views))
    program = program.replace(b"ctorch\nHalfStorage\n", b"ctorch\nBFloat16Storage\n")
    content = torch_files.written(program, rows, layout)
    assert "stores its numbers as bfloat16" in refusal(content, tmp_path).message


# Safetensors.


def with_header(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def one_array(
    name: str = "a", dtype: str = "F32", shape: str = "[2]", offsets: str = "[0,8]"
) -> bytes:
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'.encode()


ARRAY = b"{" + one_array() + b"}"

SAFETENSORS_UNSOUND = {
    "offsets beyond the file": with_header(b"{" + one_array(offsets="[0,800]") + b"}", bytes(8)),
    "more than the shape": with_header(b"{" + one_array(shape="[2,3]") + b"}", bytes(8)),
    "a header beyond the file": with_header(ARRAY, bytes(8), 50_000_000),
    "a header that is no JSON": with_header(b"{" + b"[" * 200, bytes(8)),
    "a header of brackets": with_header(b'{"a":' + b"[" * 100_000, bytes(8)),
    "nothing behind the header": with_header(ARRAY),
    "more behind the arrays": with_header(ARRAY, bytes(9)),
}


@pytest.mark.parametrize("name", SAFETENSORS_UNSOUND)
def test_an_unsound_safetensors_file_is_refused(name: str, tmp_path: Path) -> None:
    error = refusal(SAFETENSORS_UNSOUND[name], tmp_path)
    assert "is damaged, cut short or no safetensors file" in error.message


def test_the_safetensors_header_written_by_hand_is_sound(tmp_path: Path) -> None:
    """Proves that the test above can fail."""
    content = with_header(ARRAY, np.array([1, 2], np.float32).tobytes())
    assert safetensors_container.CONTAINER.is_kind(content)
    with safetensors_container.CONTAINER.open(write(content, tmp_path)) as arrays:
        np.testing.assert_array_equal(arrays["a"].float32(), [1, 2])


def test_an_impossible_header_is_no_safetensors_and_a_name_is_one_line(tmp_path: Path) -> None:
    for length in (0, 1, 100_000_001, 2**63):
        content = with_header(ARRAY, bytes(8), length)
        assert "is of no kind that can be converted" in refusal(content, tmp_path).message
    content = with_header(b"{" + one_array(r"a\nb") + b"}", bytes(8))
    assert "name is no line of text" in refusal(content, tmp_path).message


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1)])
def test_a_safetensors_type_that_numpy_lacks_is_refused_by_its_name(
    dtype: str, size: int, tmp_path: Path
) -> None:
    header, end = [], 0
    for name, array in narrow_state(classifier=()).items():
        start, end = end, end + array.size * size
        header.append(one_array(name, dtype, str(list(array.shape)), f"[{start},{end}]"))
    content = with_header(b"{" + b",".join(header) + b"}", bytes(end))
    assert f"stores its numbers as {dtype}" in refusal(content, tmp_path).message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_child_reads_a_torch_file_as_this_process_does(layout: str, tmp_path: Path) -> None:
    content = torch_file(published_state("vgg16"), layout)
    here = converted(content, tmp_path)
    there = weight_files.convert_by_child(tmp_path / "source.pth")
    assert there.content_sha256 == here.content_sha256
