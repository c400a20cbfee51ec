"""MatConvNet's networks in MAT-files: every layout of them, and files that lie.

The layouts are written by SciPy. What SciPy does not write (another byte order, false claims)
is put together here, element by element.
"""

import struct
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from networks import narrow_network, picture
from references import convolve, layers, pool
from weight_files import convert_by_child, convert_source, refusal, worst_error

from nst_jax.weights.containers.matlab import CONTAINER

MEAN = np.array([123.68, 116.779, 103.939])
WIDE = (4, 8, 8, 12, 12)
NARROW = (1, 2, 3, 2, 1)
PICTURE = picture(37, 21, seed=3)

Convolutions = dict[str, tuple[np.ndarray, np.ndarray]]
Layout = Callable[[Convolutions, np.ndarray], dict[str, object]]


def published(architecture: str, channels: tuple[int, ...] = WIDE) -> Convolutions:
    """Kernels (width, height, c, d) and biases (d,) as a file has them, for pixels up to 255.

    Few channels could all die at an activation: their kernels are made positive.
    """
    network = narrow_network(architecture, seed=1, channels=channels)
    convolutions = {
        name: (kernel if channels == WIDE else np.abs(kernel), bias)
        for name, (kernel, bias) in network.convolutions.items()
    }
    kernel, bias = convolutions["conv1_1"]
    convolutions["conv1_1"] = (kernel / np.float32(128), bias)
    return convolutions


def with_classifier(convolutions: Convolutions) -> Convolutions:
    rng = np.random.default_rng(5)
    [*_, (_, bias)] = convolutions.values()
    shapes = {"fc6": (7, 7, len(bias), 6), "fc7": (1, 1, 6, 6), "fc8": (1, 1, 6, 10)}
    return convolutions | {
        name: (rng.standard_normal(shape, np.float32), rng.standard_normal(shape[3], np.float32))
        for name, shape in shapes.items()
    }


def average_image(mean: np.ndarray = MEAN) -> np.ndarray:
    return np.broadcast_to(mean, (224, 224, 3)).astype(np.float32)


def source_features(convolutions: Convolutions, mean: np.ndarray = MEAN) -> dict[str, np.ndarray]:
    """Every tap as MatConvNet's file means it: stored kernels over a picture, width first."""
    architecture = "vgg19" if "conv5_4" in convolutions else "vgg16"
    value = (255 * np.float64(PICTURE) - mean).transpose(1, 0, 2)
    features = {}
    for name in layers(architecture)[1:]:
        if name.startswith("conv"):
            value = convolve(value, *convolutions[name])
        else:
            value = np.maximum(value, 0) if name.startswith("relu") else pool(value, "max")
        features[name] = value.transpose(1, 0, 2)
    return features


def feature_error(source: Path, convolutions: Convolutions, mean: np.ndarray = MEAN) -> float:
    """The worst of what is made of a file, against what MatConvNet computes."""
    return worst_error(convert_source(source), PICTURE, source_features(convolutions, mean))


# The layouts.


def cells(members: list[object]) -> np.ndarray:
    """A cell array of one row."""
    array = np.empty((1, len(members)), object)
    array[0, :] = members
    return array


def old_layer(name: str, kernel: np.ndarray, bias: np.ndarray) -> dict[str, object]:
    head = {"type": "conv", "name": name}
    return {**head, "filters": kernel, "biases": bias[None], "stride": 1.0, "pad": [1.0] * 4}


def beta_layer(name: str, kernel: np.ndarray, bias: np.ndarray) -> dict[str, object]:
    weights = cells([kernel, bias[None]])
    return {"weights": weights, "pad": 1.0, "type": "conv", "name": name, "stride": [1.0, 1.0]}


def new_layer(name: str, kernel: np.ndarray, bias: np.ndarray) -> dict[str, object]:
    weights = cells([kernel, bias[:, None]])
    rest = {"precious": False, "dilate": 1.0, "opts": cells([])}
    return {"name": name, "type": "conv", "weights": weights, **rest}


def all_layers(convolutions: Convolutions, layer: Callable[..., dict[str, object]]) -> np.ndarray:
    """Convolutions with what stands between them, which holds no numbers of its own."""
    members: list[object] = []
    for name, (kernel, bias) in convolutions.items():
        members.append(layer(name, kernel, bias))
        members.append({"type": "relu", "name": name.replace("conv", "relu")})
    members.append({"type": "pool", "name": "pool5", "weights": cells([]), "method": "max"})
    return cells(members)


CLASSES = {"name": cells(["n01440764", "n01443537"]), "description": cells(["tench", "goldfish"])}


def oldest(convolutions: Convolutions, average: np.ndarray) -> dict[str, object]:
    normalization = {"averageImage": average, "imageSize": [224.0, 224.0, 3.0]}
    stack = all_layers(convolutions, old_layer)
    return {"layers": stack, "classes": CLASSES, "normalization": normalization}


def beta(convolutions: Convolutions, average: np.ndarray) -> dict[str, object]:
    normalization = {"imageSize": [224.0, 224.0, 3.0], "averageImage": average}
    stack = all_layers(convolutions, beta_layer)
    return {"normalization": normalization, "layers": stack, "classes": CLASSES}


def newest(convolutions: Convolutions, average: np.ndarray) -> dict[str, object]:
    normalization = {"imageSize": [224.0] * 3, "border": [0.0, 0.0], "averageImage": average}
    meta = {"inputs": {"name": "data"}, "classes": CLASSES, "normalization": normalization}
    return {"layers": all_layers(convolutions, new_layer), "meta": meta}


def graph(convolutions: Convolutions, average: np.ndarray) -> dict[str, object]:
    """A DagNN: its layers name their parameters, which stand in a struct array of their own."""
    values = {
        f"{name}{part}": array
        for name, (kernel, bias) in convolutions.items()
        for part, array in (("f", kernel), ("b", bias[:, None]))
    }
    params = np.array([list(values.items())], [("name", object), ("value", object)])
    stack = np.empty((1, len(convolutions)), [("name", object), ("type", object)])
    for index, name in enumerate(convolutions):
        stack[0, index] = (name, "dagnn.Conv")
    meta = {"normalization": {"averageImage": average}}
    return {"meta": meta, "params": params, "layers": stack}


LAYOUTS: dict[str, Layout] = {"oldest": oldest, "beta": beta, "newest": newest, "graph": graph}


def saved(folder: Path, variables: Mapping[str, object], *, compressed: bool = False) -> Path:
    path = folder / "vgg.mat"
    scipy.io.savemat(path, dict(variables), do_compression=compressed)
    return path


def saved_newest(folder: Path, convolutions: Convolutions, mean: np.ndarray = MEAN) -> Path:
    return saved(folder, newest(convolutions, average_image(mean)))


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("classifier", [False, True], ids=["convolutions", "classifier"])
@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_features_that_its_file_means(
    tmp_path: Path, layout: str, architecture: str, classifier: bool, compressed: bool
) -> None:
    convolutions = published(architecture)
    content = with_classifier(convolutions) if classifier else convolutions
    variables = LAYOUTS[layout](content, average_image())
    source = saved(tmp_path, variables, compressed=compressed)
    assert feature_error(source, convolutions) < 1e-4


def test_the_proof_fails_for_untransposed_kernels_and_for_bgr(tmp_path: Path) -> None:
    convolutions = published("vgg16")
    source = saved_newest(tmp_path, convolutions)
    untransposed = {
        name: (kernel.transpose(1, 0, 2, 3), bias) for name, (kernel, bias) in convolutions.items()
    }
    assert feature_error(source, untransposed) > 0.05
    kernel, bias = convolutions["conv1_1"]
    assert feature_error(source, convolutions | {"conv1_1": (kernel[:, :, ::-1], bias)}) > 0.05
    assert feature_error(source, convolutions, MEAN[::-1]) > 1e-3


def test_the_file_says_where_it_comes_from_and_its_mean_tells(tmp_path: Path) -> None:
    """VGG-Face has the same layers, another mean and another licence."""
    convolutions = published("vgg16", NARROW)
    weights = convert_by_child(saved_newest(tmp_path, convolutions))
    assert worst_error(weights, PICTURE, source_features(convolutions)) < 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["converted.h5", "vgg.mat"]
    assert "original VGG release" in weights.source
    assert "CC BY 4.0" in weights.licence
    mean = np.array([129.1863, 104.7624, 93.594])
    source = saved_newest(tmp_path, convolutions, mean)
    assert feature_error(source, convolutions, mean) < 1e-4
    assert convert_source(source).licence.startswith("unknown")


PIXEL = np.array([120, 110, 100.5])

MEANS: dict[str, tuple[dict[str, object], np.ndarray]] = {
    "one pixel": ({"averageImage": np.float32(PIXEL[None, None])}, PIXEL),
    "a row": ({"averageImage": PIXEL[None]}, PIXEL),
    "a column": ({"averageImage": PIXEL[:, None]}, PIXEL),
    "integral": ({"averageImage": np.array([[120, 110, 100]], np.uint8)}, np.floor(PIXEL)),
    "an image that varies": (
        {"averageImage": np.array([[[118, 110, 100]], [[122, 110, 101]]], np.float32)},
        PIXEL,
    ),
    "missing": ({}, MEAN),
    "empty": ({"averageImage": np.zeros((0, 0))}, MEAN),
}


@pytest.mark.parametrize("what", MEANS)
def test_the_mean_may_be_an_image_or_three_numbers_and_without_one_is_the_published(
    tmp_path: Path, what: str
) -> None:
    normalization, mean = MEANS[what]
    variables = oldest(published("vgg16", NARROW), MEAN) | {"normalization": normalization}
    weights = convert_source(saved(tmp_path, variables))
    np.testing.assert_allclose(weights.mean, mean / 255, rtol=1e-6)


@pytest.mark.parametrize("channels", [(1, 1, 1, 1, 1), NARROW])
def test_axes_of_one_side_that_matlab_drops_are_restored(
    tmp_path: Path, channels: tuple[int, ...]
) -> None:
    convolutions = published("vgg16", channels)
    as_matlab_saves = {
        name: (dropped(kernel), bias) for name, (kernel, bias) in convolutions.items()
    }
    assert any(kernel.ndim < 4 for kernel, _ in as_matlab_saves.values())
    assert feature_error(saved_newest(tmp_path, as_matlab_saves), convolutions) < 1e-4


def dropped(kernel: np.ndarray) -> np.ndarray:
    while kernel.ndim > 2 and kernel.shape[-1] == 1:
        kernel = kernel[..., 0]
    return kernel


@pytest.mark.parametrize("rename", ["CONV{}", "Conv{}", "vgg/conv{}", "VGG_conv{}"])
def test_names_may_differ_in_case_or_have_a_prefix(tmp_path: Path, rename: str) -> None:
    convolutions = published("vgg16", NARROW)
    renamed = {rename.format(name[4:]): pair for name, pair in convolutions.items()}
    assert feature_error(saved_newest(tmp_path, renamed), convolutions) < 1e-4


# An own writer, for what SciPy does not write.

NUMBERS = {"f4": (7, 7), "f8": (6, 9), "i1": (6, 1)}
"""An array's class and how its numbers are stored: doubles without a fraction as bytes."""


class Writer:
    """MAT-files of version 5, element by element, with any claim that one likes."""

    def __init__(self, order: str = "<") -> None:
        self.order = order

    def header(self) -> bytes:
        text = b"MATLAB 5.0 MAT-file, written by a test".ljust(124)
        return text + struct.pack(f"{self.order}2H", 0x0100, 0x4D49)

    def element(self, kind: int, content: bytes, size: int | None = None) -> bytes:
        count = len(content) if size is None else size
        return struct.pack(f"{self.order}II", kind, count) + content + b"\0" * (-len(content) % 8)

    def matrix(self, kind: int, sides: tuple[int, ...], *parts: bytes, name: bytes = b"") -> bytes:
        head = self.element(6, struct.pack(f"{self.order}II", kind, 0))
        shape = self.element(5, struct.pack(f"{self.order}{len(sides)}i", *sides))
        return self.element(14, head + shape + self.element(1, name) + b"".join(parts))

    def numbers(self, array: np.ndarray) -> bytes:
        number = array.dtype.str[1:]
        kind, stored = NUMBERS[number]
        content = array.astype(self.order + number).tobytes(order="F")
        return self.matrix(kind, np.atleast_2d(array).shape, self.element(stored, content))

    def text(self, text: str) -> bytes:
        content = text.encode(f"utf-16-{'le' if self.order == '<' else 'be'}")
        return self.matrix(4, (1, len(text)), self.element(4, content))

    def field_names(self, length: int, *names: str) -> bytes:
        """A struct's, whose lengths are told by a number in the element's own tag."""
        told = struct.pack(f"{self.order}Ii", 4 << 16 | 5, length)
        return told + self.element(
            1, b"".join(name.encode().ljust(length, b"\0") for name in names)
        )

    def struct(self, fields: dict[str, bytes], name: bytes = b"") -> bytes:
        return self.matrix(2, (1, 1), self.field_names(32, *fields), *fields.values(), name=name)

    def cells(self, members: list[bytes], name: bytes = b"") -> bytes:
        return self.matrix(1, (1, len(members)), *members, name=name)

    def file(self, convolutions: Convolutions) -> bytes:
        members = []
        for name, (kernel, bias) in convolutions.items():
            fields = {"filters": self.numbers(kernel), "biases": self.numbers(bias)}
            members.append(self.struct({**fields, "name": self.text(name)}))
        average = {"averageImage": self.numbers(MEAN.astype(np.float32))}
        stack = self.cells(members, b"layers")
        return self.header() + stack + self.struct(average, b"normalization")


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_is_read(tmp_path: Path, order: str) -> None:
    convolutions = published("vgg16", NARROW)
    source = tmp_path / "vgg.mat"
    source.write_bytes(Writer(order).file(convolutions))
    assert feature_error(source, convolutions) < 1e-4


def test_double_and_integral_numbers_are_read(tmp_path: Path) -> None:
    """MATLAB stores numbers without a fraction as integers, whatever they are in memory."""
    convolutions = {
        name: (kernel.astype(np.float64), np.rint(8 * bias).astype(np.int8))
        for name, (kernel, bias) in published("vgg16").items()
    }
    source = tmp_path / "vgg.mat"
    source.write_bytes(Writer().file(convolutions))
    stored = scipy.io.loadmat(source, mat_dtype=False)["layers"][0, 0]["biases"][0, 0]
    assert stored.dtype == np.int8
    assert feature_error(source, convolutions) < 1e-4


# What is told apart and refused.


def test_mat_files_are_told_by_their_first_bytes_and_7_3_is_refused(tmp_path: Path) -> None:
    newer = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512)
    for start in (Writer("<").header(), Writer(">").header(), newer):
        assert CONTAINER.is_kind(start)
    wrong_version = Writer().header()[:124] + b"\x00\x02IM"
    for start in (b"", b"MATLAB", wrong_version, bytes(1024), b"\x80\x04K\x01.", b"PK\x03\x04"):
        assert not CONTAINER.is_kind(start)
    source = tmp_path / "new.mat"
    source.write_bytes(newer + b"\x89HDF\r\n\x1a\n")
    error = refusal(source)
    assert "version 7.3" in error.message
    assert "-v7'" in error.remedy


def test_other_networks_of_the_same_makers_are_refused(tmp_path: Path) -> None:
    whole = published("vgg16")
    few = {f"conv{index}": pair for index, pair in enumerate(whole.values(), 1)}
    cut = (("conv3_3", "conv4_3"), ("conv1_1",), ("conv4_2",), ("conv5_3",))  # the first: VGG-13
    less = [{name: whole[name] for name in whole if name not in missing} for missing in cut]
    for layout in (newest, beta):
        for convolutions in (few, *less):
            source = saved(tmp_path, layout(convolutions, average_image()))
            assert "must have 2, 2, 3, 3, 3 (vgg16)" in refusal(source).message
    source = saved_newest(tmp_path, whole | {"score": few["conv1"]})
    assert "score/" in refusal(source).message
    source = saved(tmp_path, {"layers": 1.0, "classes": CLASSES})
    assert "none of its variables is 'layers'" in refusal(source).message
    variables = newest(whole, average_image())
    norm = {"type": "bnorm", "name": "bn1_1", "weights": cells([np.ones((4, 1))] * 3)}
    variables["layers"] = cells([norm, *np.asarray(variables["layers"]).flat])
    assert "batch normalisation" in refusal(saved(tmp_path, variables)).message
    stack = whole | {"bn1_1": (np.ones((4, 2)), np.ones(4))}
    source = saved(tmp_path, graph(stack, average_image()))
    assert "params/bn1_1f" in refusal(source).message


Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

WRONG: dict[str, tuple[Change, str]] = {
    "a wide kernel": (lambda k, b: (np.tile(k, (2, 1, 1, 1)), b), "conv3_2/kernel"),
    "too few axes": (lambda k, b: (k[0], b), "conv3_2"),
    "five axes": (lambda k, b: (k[..., None] * np.ones(2, np.float32), b), "4 axes"),
    "a long bias": (lambda k, b: (k, np.append(b, b)), "conv3_2/bias"),
    "no bias": (lambda k, b: (k, b[:0]), "conv3_2/bias"),
    "an empty kernel": (lambda k, b: (k[:0], b), "conv3_2"),
    "text": (lambda k, b: (np.array(["kernel"]), b), "filters of conv3_2"),
    "complex numbers": (lambda k, b: (k * 1j, b), "filters of conv3_2"),
    "no numbers": (lambda k, b: (k * np.nan, b), "not finite in conv3_2"),
    "infinity": (lambda k, b: (k, np.append(b[:-1], np.inf)), "not finite in conv3_2"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("layout", ["oldest", "newest"])
def test_wrong_arrays_are_refused(tmp_path: Path, layout: str, what: str) -> None:
    change, part = WRONG[what]
    convolutions = published("vgg16")
    convolutions["conv3_2"] = change(*convolutions["conv3_2"])
    source = saved(tmp_path, LAYOUTS[layout](convolutions, average_image()))
    assert part in refusal(source).message


@pytest.mark.parametrize(
    "average",
    [np.full((4, 4, 3), np.nan), np.full((4, 4, 1), 99.0), np.full((1, 3), -5.0), np.ones((2, 2))],
)
def test_a_wrong_mean_is_refused(tmp_path: Path, average: np.ndarray) -> None:
    source = saved(tmp_path, newest(published("vgg16", NARROW), average))
    assert any(word in refusal(source).message for word in ("mean", "average image"))


def test_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    for twin in ("conv2_1", "CONV2_1", "other/conv2_1"):
        convolutions = published("vgg16")
        members: list[object] = [old_layer(name, *pair) for name, pair in convolutions.items()]
        members.append(old_layer(twin, *convolutions["conv2_1"]))
        assert "conv2_1" in refusal(saved(tmp_path, {"layers": cells(members)})).message


def test_a_name_that_is_no_name_stays_out_of_the_message(tmp_path: Path) -> None:
    for name in ("a\nb", "x" * 100_000, "\x1b[31m"):
        layer = old_layer(name, np.ones((3, 3)), np.ones(2))
        error = refusal(saved(tmp_path, {"layers": cells([layer])}))
        assert "layer 1" in error.message
        assert len(str(error)) < 500 + len(str(tmp_path))


# What lies about itself.

W = Writer()
VALUES = W.element(7, struct.pack("<4f", 1, 2, 3, 4))


def empty_cells(depth: int) -> bytes:
    member = W.cells([])
    for _ in range(depth):
        member = W.cells([member])
    return member


def claim(kind: int, sides: tuple[int, ...], *parts: bytes) -> bytes:
    return W.matrix(kind, sides, *parts, name=b"layers")


LIES: dict[str, bytes] = {
    "a cell array of 2**31 members": claim(1, (1, 2**31 - 1)),
    "a struct array of 2**31 members": claim(2, (1, 2**31 - 1), W.field_names(8, "a")),
    "fewer numbers than it says": claim(7, (1, 5), VALUES),
    "forty dimensions": claim(7, (1,) * 39 + (4,), VALUES),
    "a text of 2**31 blanks": claim(4, (1, 2**31 - 1), W.element(16, b"")),
    "values that claim 4 GB": claim(7, (2, 2), W.element(7, bytes(16), size=2**32 - 8)),
    "cells in cells": W.cells([empty_cells(5000)], b"layers"),
    "an unknown class": claim(99, (1, 1), VALUES),
    "half a stream": W.element(15, zlib.compress(W.numbers(np.ones(999)))[:20]),
}


@pytest.mark.usefixtures("impatient_reader")
@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_claims_what_it_does_not_hold_is_refused(tmp_path: Path, lie: str) -> None:
    """SciPy believes it. Whatever becomes of that, it ends in one line, and leaves nothing."""
    source = tmp_path / "lie.mat"
    source.write_bytes(W.header() + LIES[lie])
    refusal(source, convert_by_child)


@pytest.mark.usefixtures("impatient_reader")
def test_a_bomb_is_refused_for_its_memory(tmp_path: Path) -> None:
    """Two megabytes that are inflated to two gigabytes."""
    size = 2**31
    packer = zlib.compressobj(9)
    head = claim(7, (1, size // 4), W.element(7, b"", size=size))
    head = W.element(14, head[8:], size=len(head) - 8 + size)
    content = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    content += zeros * (size // 2**20)  # after a full flush, each repetition inflates alike
    source = tmp_path / "bomb.mat"
    source.write_bytes(W.header() + W.element(15, content))
    assert "needs more memory than there is" in refusal(source, convert_by_child).message


# Memory.


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("classifier", [0, 300], ids=["convolutions", "classifier"])
def test_a_conversion_takes_at_most_twice_the_plain_file(
    tmp_path: Path, classifier: int, compressed: bool
) -> None:
    convolutions = published("vgg16", (16, 32, 64, 128, 256))
    if classifier:
        rng = np.random.default_rng(0)
        fully_connected = rng.standard_normal((7, 7, 256, classifier), np.float32)
        convolutions["fc6"] = (fully_connected, np.ones(classifier, np.float32))
    variables = newest(convolutions, average_image())
    plain = saved(tmp_path, variables).stat().st_size
    source = saved(tmp_path, variables, compressed=compressed)
    assert plain > 5e6
    del convolutions, variables
    convert_source(source)  # imports what it needs
    tracemalloc.start()
    convert_source(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * plain + 2e6
