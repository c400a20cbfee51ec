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
from networks import Network, narrow_network, picture
from references import convolve, layers, pool, relative_error, vgg

from nst_jax.request.errors import WeightsError
from nst_jax.weights import subprocess_reader
from nst_jax.weights.containers.matlab import CONTAINER
from nst_jax.weights.convert import convert, convert_here
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.format import read_weights
from nst_jax.weights.network import NetworkWeights

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


def our_features(weights: NetworkWeights) -> dict[str, np.ndarray]:
    mean = np.array(weights.mean)
    return vgg(PICTURE, Network(weights.architecture.name, dict(weights.convolutions), mean))


def worst_error(weights: NetworkWeights, expected: dict[str, np.ndarray]) -> float:
    """Over every tap after an activation, relative to the tap's largest value."""
    got = our_features(weights)
    taps = [tap for tap in expected if tap.startswith("relu")]
    assert len(taps) == len(weights.convolutions)
    return max(relative_error(got[tap], expected[tap]) for tap in taps)


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


def classes() -> dict[str, object]:
    return {"name": cells(["n01440764", "n01443537"]), "description": cells(["tench", "goldfish"])}


def oldest(convolutions: Convolutions, average: np.ndarray) -> dict[str, object]:
    normalization = {"averageImage": average, "imageSize": [224.0, 224.0, 3.0]}
    stack = all_layers(convolutions, old_layer)
    return {"layers": stack, "classes": classes(), "normalization": normalization}


def beta(convolutions: Convolutions, average: np.ndarray) -> dict[str, object]:
    normalization = {"imageSize": [224.0, 224.0, 3.0], "averageImage": average}
    stack = all_layers(convolutions, beta_layer)
    return {"normalization": normalization, "layers": stack, "classes": classes()}


def newest(convolutions: Convolutions, average: np.ndarray) -> dict[str, object]:
    normalization = {"imageSize": [224.0] * 3, "border": [0.0, 0.0], "averageImage": average}
    meta = {"inputs": {"name": "data"}, "classes": classes(), "normalization": normalization}
    return {"layers": all_layers(convolutions, new_layer), "meta": meta}


def graph(convolutions: Convolutions, average: np.ndarray) -> dict[str, object]:
    """A DagNN: its layers name their parameters, which stand in a struct array of their own."""
    values = {
        f"{name}{part}": array
        for name, (kernel, bias) in convolutions.items()
        for part, array in (("f", kernel), ("b", bias[:, None]))
    }
    params = np.empty((1, len(values)), [("name", object), ("value", object)])
    stack = np.empty((1, len(convolutions)), [("name", object), ("type", object)])
    for index, (name, value) in enumerate(values.items()):
        params[0, index] = (name, value)
    for index, name in enumerate(convolutions):
        stack[0, index] = (name, "dagnn.Conv")
    meta = {"normalization": {"averageImage": average}}
    return {"meta": meta, "params": params, "layers": stack}


LAYOUTS: dict[str, Layout] = {
    "oldest": oldest,
    "beta": beta,
    "newest": newest,
    "graph": graph,
}


def saved(path: Path, variables: Mapping[str, object], *, compressed: bool = False) -> Path:
    scipy.io.savemat(path, dict(variables), do_compression=compressed)
    return path


def converted(source: Path) -> NetworkWeights:
    destination = source.with_suffix(".h5")
    convert_here(source, destination)
    return read_weights(destination)


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
    weights = converted(saved(tmp_path / "vgg.mat", variables, compressed=compressed))
    assert weights.architecture.name == architecture
    assert worst_error(weights, source_features(convolutions)) < 1e-4


def test_the_proof_fails_for_untransposed_kernels_and_for_bgr(tmp_path: Path) -> None:
    convolutions = published("vgg16")
    weights = converted(saved(tmp_path / "vgg.mat", newest(convolutions, average_image())))
    untransposed = {
        name: (kernel.transpose(1, 0, 2, 3), bias) for name, (kernel, bias) in convolutions.items()
    }
    assert worst_error(weights, source_features(untransposed)) > 0.05
    kernel, bias = convolutions["conv1_1"]
    other_order = convolutions | {"conv1_1": (kernel[:, :, ::-1], bias)}
    assert worst_error(weights, source_features(other_order)) > 0.05
    assert worst_error(weights, source_features(convolutions, MEAN[::-1])) > 1e-3


def test_the_convolution_goes_through_a_process_of_its_own_as_well(tmp_path: Path) -> None:
    convolutions = published("vgg19", NARROW)
    source = saved(tmp_path / "vgg.mat", newest(convolutions, average_image()), compressed=True)
    weights = convert(source, tmp_path / "vgg.h5")
    assert worst_error(weights, source_features(convolutions)) < 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vgg.h5", "vgg.mat"]


def test_the_file_says_where_it_comes_from_and_another_mean_is_not_the_original_s(
    tmp_path: Path,
) -> None:
    """VGG-Face has the same layers, another mean and another licence."""
    convolutions = published("vgg16", NARROW)
    weights = converted(saved(tmp_path / "vgg.mat", newest(convolutions, average_image())))
    assert "original VGG release" in weights.source
    assert "CC BY 4.0" in weights.licence
    mean = np.array([129.1863, 104.7624, 93.594])
    weights = converted(saved(tmp_path / "vgg.mat", newest(convolutions, average_image(mean))))
    assert worst_error(weights, source_features(convolutions, mean)) < 1e-4
    assert weights.licence.startswith("unknown")


MEANS = {
    "one pixel": np.array([[[120, 110, 100.5]]], np.float32),
    "a row": np.array([[120, 110, 100.5]]),
    "a column": np.array([[120], [110], [100.5]]),
    "integral": np.array([[120, 110, 100]], np.uint8),
    "an image that varies": np.array([[[118, 110, 100]], [[122, 110, 101]]], np.float32),
}


@pytest.mark.parametrize("shape", MEANS)
def test_the_mean_may_be_an_image_or_three_numbers(tmp_path: Path, shape: str) -> None:
    source = saved(tmp_path / "vgg.mat", oldest(published("vgg16", NARROW), MEANS[shape]))
    blue = 100 if shape == "integral" else 100.5
    np.testing.assert_allclose(converted(source).mean, np.array([120, 110, blue]) / 255, rtol=1e-6)


@pytest.mark.parametrize("average", [None, np.zeros((0, 0))], ids=["missing", "empty"])
def test_a_file_without_a_mean_has_the_published_one(
    tmp_path: Path, average: np.ndarray | None
) -> None:
    variables = oldest(published("vgg16", NARROW), average_image())
    variables["normalization"] = {} if average is None else {"averageImage": average}
    np.testing.assert_allclose(
        converted(saved(tmp_path / "vgg.mat", variables)).mean, MEAN / 255, rtol=1e-6
    )


@pytest.mark.parametrize("channels", [(1, 1, 1, 1, 1), NARROW])
def test_axes_of_one_side_that_matlab_drops_are_restored(
    tmp_path: Path, channels: tuple[int, ...]
) -> None:
    convolutions = published("vgg16", channels)
    as_matlab_saves = {
        name: (dropped(kernel), bias) for name, (kernel, bias) in convolutions.items()
    }
    assert any(kernel.ndim < 4 for kernel, _ in as_matlab_saves.values())
    source = saved(tmp_path / "vgg.mat", newest(as_matlab_saves, average_image()))
    assert worst_error(converted(source), source_features(convolutions)) < 1e-4


def dropped(kernel: np.ndarray) -> np.ndarray:
    while kernel.ndim > 2 and kernel.shape[-1] == 1:
        kernel = kernel[..., 0]
    return kernel


def test_double_and_integral_numbers_are_read(tmp_path: Path) -> None:
    """MATLAB stores numbers without a fraction as integers, whatever they are in memory."""
    convolutions = {
        name: (kernel.astype(np.float64), np.rint(8 * bias).astype(np.float64))
        for name, (kernel, bias) in published("vgg16").items()
    }
    source = tmp_path / "vgg.mat"
    source.write_bytes(Writer("<").file(convolutions, integral_biases=True))
    stored = scipy.io.loadmat(source, mat_dtype=False)["layers"][0, 0]["biases"][0, 0]
    assert stored.dtype == np.int8
    assert worst_error(converted(source), source_features(convolutions)) < 1e-4


@pytest.mark.parametrize("rename", ["CONV{}", "Conv{}", "vgg/conv{}", "VGG_conv{}"])
def test_names_may_differ_in_case_or_have_a_prefix(tmp_path: Path, rename: str) -> None:
    convolutions = published("vgg16", NARROW)
    renamed = {rename.format(name[4:]): pair for name, pair in convolutions.items()}
    source = saved(tmp_path / "vgg.mat", newest(renamed, average_image()))
    assert worst_error(converted(source), source_features(convolutions)) < 1e-4


# An own writer, for what SciPy does not write.


class Writer:
    """MAT-files of version 5, element by element, with any claim that one likes."""

    def __init__(self, order: str = "<") -> None:
        self.order = order

    def header(self) -> bytes:
        text = b"MATLAB 5.0 MAT-file, written by a test".ljust(124)
        return (
            text + struct.pack(f"{self.order}H", 0x0100) + (b"IM" if self.order == "<" else b"MI")
        )

    def element(self, kind: int, content: bytes, size: int | None = None) -> bytes:
        count = len(content) if size is None else size
        return struct.pack(f"{self.order}II", kind, count) + content + b"\0" * (-len(content) % 8)

    def small(self, kind: int, content: bytes) -> bytes:
        tag = struct.pack(f"{self.order}I", len(content) << 16 | kind)
        return tag + content.ljust(4, b"\0")

    def matrix(
        self, kind: int, sides: tuple[int, ...], *parts: bytes, name: bytes = b"", flags: int = 0
    ) -> bytes:
        head = self.element(6, struct.pack(f"{self.order}II", flags << 8 | kind, 0))
        shape = self.element(5, struct.pack(f"{self.order}{len(sides)}i", *sides))
        return self.element(14, head + shape + self.element(1, name) + b"".join(parts))

    def numbers(self, array: np.ndarray, name: bytes = b"") -> bytes:
        kind, data = (6, 9) if array.dtype == np.float64 else (7, 7)
        wide = "f8" if array.dtype == np.float64 else "f4"
        content = array.astype(self.order + wide).tobytes(order="F")
        return self.matrix(kind, np.atleast_2d(array).shape, self.element(data, content), name=name)

    def integral(self, array: np.ndarray) -> bytes:
        """Doubles that are stored as bytes."""
        content = self.element(1, array.astype(np.int8).tobytes(order="F"))
        return self.matrix(6, np.atleast_2d(array).shape, content)

    def text(self, text: str) -> bytes:
        content = text.encode(f"utf-16-{'le' if self.order == '<' else 'be'}")
        return self.matrix(4, (1, len(text)), self.element(4, content))

    def struct(self, fields: dict[str, bytes], name: bytes = b"") -> bytes:
        names = b"".join(field.encode().ljust(32, b"\0") for field in fields)
        head = self.small(5, struct.pack(f"{self.order}i", 32)) + self.element(1, names)
        return self.matrix(2, (1, 1), head, *fields.values(), name=name)

    def cells(self, members: list[bytes], name: bytes = b"") -> bytes:
        return self.matrix(1, (1, len(members)), *members, name=name)

    def file(self, convolutions: Convolutions, *, integral_biases: bool = False) -> bytes:
        members = []
        for name, (kernel, bias) in convolutions.items():
            biases = self.integral(bias) if integral_biases else self.numbers(bias)
            fields = {"filters": self.numbers(kernel), "biases": biases}
            members.append(self.struct({**fields, "name": self.text(name)}))
        average = self.struct(
            {"averageImage": self.numbers(MEAN.astype(np.float32))}, b"normalization"
        )
        return self.header() + self.cells(members, b"layers") + average


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_is_read(tmp_path: Path, order: str) -> None:
    convolutions = published("vgg16", NARROW)
    source = tmp_path / "vgg.mat"
    source.write_bytes(Writer(order).file(convolutions))
    assert worst_error(converted(source), source_features(convolutions)) < 1e-4


# What is told apart and refused.


def refusal(source: Path, change: Callable[..., object] = convert_here) -> WeightsError:
    """The one line that a file is refused with. It leaves nothing behind."""
    destination = source.parent / "refused.h5"
    with pytest.raises(WeightsError) as caught:
        change(source, destination)
    assert sorted(source.parent.iterdir()) == [source]
    error = caught.value
    assert not isinstance(error, InvalidWeights)
    assert repr(str(source)) in error.message
    assert error.remedy
    assert "\n" not in str(error)
    return error


def test_kinds_of_mat_file_are_told_by_their_first_bytes_and_version_7_3_is_refused(
    tmp_path: Path,
) -> None:
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
            source = saved(tmp_path / "vgg.mat", layout(convolutions, average_image()))
            assert "must have 2, 2, 3, 3, 3 (vgg16)" in refusal(source).message
    stack = {"layers": all_layers(whole | {"score": few["conv1"]}, new_layer)}
    assert "score/" in refusal(saved(tmp_path / "vgg.mat", stack)).message
    source = saved(tmp_path / "vgg.mat", {"layers": 1.0, "classes": classes()})
    assert "none of its variables is 'layers'" in refusal(source).message


def test_batch_normalisation_is_refused(tmp_path: Path) -> None:
    variables = newest(published("vgg16"), average_image())
    norm = {"type": "bnorm", "name": "bn1_1", "weights": cells([np.ones((4, 1))] * 3)}
    variables["layers"] = cells([norm, *np.asarray(variables["layers"]).flat])
    assert "batch normalisation" in refusal(saved(tmp_path / "vgg.mat", variables)).message
    stack = published("vgg16") | {"bn1_1": (np.ones((4, 2)), np.ones(4))}
    source = saved(tmp_path / "vgg.mat", graph(stack, average_image()))
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
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("layout", ["oldest", "newest"])
def test_wrong_arrays_are_refused(tmp_path: Path, layout: str, what: str) -> None:
    change, part = WRONG[what]
    convolutions = published("vgg16")
    convolutions["conv3_2"] = change(*convolutions["conv3_2"])
    source = saved(tmp_path / "vgg.mat", LAYOUTS[layout](convolutions, average_image()))
    assert part in refusal(source).message


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    for part in (0, 1):
        convolutions = published("vgg16")
        convolutions["conv3_2"][part].flat[5] = number
        source = saved(tmp_path / "vgg.mat", newest(convolutions, average_image()))
        with pytest.raises(WeightsError, match="not finite in conv3_2"):
            convert_here(source, tmp_path / "refused.h5")
        assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    "average",
    [np.full((4, 4, 3), np.nan), np.full((4, 4, 1), 99.0), np.full((1, 3), -5.0), np.ones((2, 2))],
)
def test_a_wrong_mean_is_refused(tmp_path: Path, average: np.ndarray) -> None:
    source = saved(tmp_path / "vgg.mat", newest(published("vgg16", NARROW), average))
    assert any(word in refusal(source).message for word in ("mean", "average image"))


def test_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    for twin in ("conv2_1", "CONV2_1", "other/conv2_1"):
        convolutions = published("vgg16")
        members: list[object] = [old_layer(name, *pair) for name, pair in convolutions.items()]
        members.append(old_layer(twin, *convolutions["conv2_1"]))
        source = saved(tmp_path / "vgg.mat", {"layers": cells(members)})
        assert "conv2_1" in refusal(source).message


def test_a_name_that_is_no_name_stays_out_of_the_message(tmp_path: Path) -> None:
    for name in ("a\nb", "x" * 100_000, "\x1b[31m"):
        members: list[object] = [old_layer(name, np.ones((3, 3)), np.ones(2))]
        error = refusal(saved(tmp_path / "vgg.mat", {"layers": cells(members)}))
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


def struct_head(length: int, names: bytes) -> bytes:
    return W.small(5, struct.pack("<i", length)) + W.element(1, names)


def claim(kind: int, sides: tuple[int, ...], *parts: bytes) -> bytes:
    return W.matrix(kind, sides, *parts, name=b"layers")


LIES: dict[str, bytes] = {
    "a cell array of 2**31 members": claim(1, (1, 2**31 - 1)),
    "a struct array of 2**31 members": claim(2, (1, 2**31 - 1), struct_head(8, b"a".ljust(8))),
    "fewer numbers than it says": claim(7, (1, 5), VALUES),
    "forty dimensions": claim(7, (1,) * 39 + (4,), VALUES),
    "a text of 2**31 blanks": claim(4, (1, 2**31 - 1), W.element(16, b"")),
    "values that claim 4 GB": claim(7, (2, 2), W.element(7, bytes(16), size=2**32 - 8)),
    "cells in cells": W.cells([empty_cells(5000)], b"layers"),
    "an unknown class": claim(99, (1, 1), VALUES),
    "half a stream": W.element(15, zlib.compress(W.numbers(np.ones(999)))[:20]),
}


@pytest.fixture
def only_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder. A child that says nothing is ended soon, and must not need much memory."""
    monkeypatch.setattr(subprocess_reader, "LONGEST_SILENCE_S", 20.0)
    monkeypatch.setattr(subprocess_reader, "_MEMORY_OF_A_READER", 2**29)
    return tmp_path


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_claims_what_it_does_not_hold_is_refused(
    only_the_child: Path, lie: str
) -> None:
    """SciPy believes it. Whatever becomes of that, it ends in one line, and leaves nothing."""
    source = only_the_child / "lie.mat"
    source.write_bytes(W.header() + LIES[lie])
    refusal(source, convert)


def test_a_bomb_is_refused_for_its_memory(only_the_child: Path) -> None:
    """Two megabytes that are inflated to two gigabytes."""
    size = 2**31
    packer = zlib.compressobj(9)
    head = claim(7, (1, size // 4), W.element(7, b"", size=size))
    head = W.element(14, head[8:], size=len(head) - 8 + size)
    content = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    content += zeros * (size // 2**20)  # after a full flush, each repetition inflates alike
    source = only_the_child / "bomb.mat"
    source.write_bytes(W.header() + W.element(15, content))
    assert "needs more memory than there is" in refusal(source, convert).message


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
    plain = saved(tmp_path / "plain.mat", variables).stat().st_size
    source = saved(tmp_path / "vgg.mat", variables, compressed=compressed)
    assert plain > 5e6
    del convolutions, variables
    converted(source)  # imports what it needs
    tracemalloc.start()
    converted(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * plain + 2e6
