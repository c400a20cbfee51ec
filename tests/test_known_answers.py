"""The known answer: every usual mistake in a conversion is caught and named.

The mistakes are made here, with arrays, on the real network; nothing of the code that mends
them is used. The answer itself is checked against an independent convolution.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import networks
import numpy as np
import pytest
import references

from nst_jax.request.errors import WeightsError
from nst_jax.request.taps import VGG16, VGG19, Architecture
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights, write_weights
from nst_jax.weights.network import NetworkWeights
from nst_jax.weights.verify import (
    activation_stats,
    identify,
    relu_taps,
    synthetic_picture,
    verify_file,
)

DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None]
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)


@pytest.fixture(scope="module")
def vgg16() -> NetworkWeights:
    return read_weights(find_weights("vgg16"))


def with_first_kernel(
    weights: NetworkWeights, change: Callable[[np.ndarray], np.ndarray]
) -> NetworkWeights:
    kernel, bias = weights.convolutions["conv1_1"]
    first = np.ascontiguousarray(change(kernel), np.float32)
    return dataclasses.replace(
        weights, convolutions={**weights.convolutions, "conv1_1": (first, bias)}
    )


def turned(weights: NetworkWeights, turn: Callable[[np.ndarray], np.ndarray]) -> NetworkWeights:
    convolutions = {
        name: (np.ascontiguousarray(turn(kernel)), bias)
        for name, (kernel, bias) in weights.convolutions.items()
    }
    return dataclasses.replace(weights, convolutions=convolutions)


def narrow(architecture: Architecture = VGG16) -> NetworkWeights:
    kernels = networks.narrow_network(architecture.name).convolutions
    mean = (0.485, 0.456, 0.406)
    return NetworkWeights(architecture, kernels, mean, "a test", "0" * 64, "none")


def test_an_answer_is_the_mean_and_deviation_of_each_activation() -> None:
    got = activation_stats(narrow(), relu_taps(VGG16))
    features = references.vgg(synthetic_picture(), networks.narrow_network("vgg16"))
    assert list(got) == list(relu_taps(VGG16))
    for tap, (mean, deviation) in got.items():
        np.testing.assert_allclose(mean, features[tap].mean(), rtol=1e-4)
        np.testing.assert_allclose(deviation, features[tap].std(), rtol=1e-4)


def test_the_synthetic_picture_is_no_other_when_turned_or_swapped() -> None:
    picture = synthetic_picture()
    assert picture.min() >= 0
    assert picture.max() <= 1
    turns = picture[::-1], picture[:, ::-1], picture.swapaxes(0, 1)
    for other in (*turns, picture[..., ::-1], picture[..., [1, 0, 2]]):
        assert np.abs(other - picture).mean() > 0.1


MISTAKES = {
    "channels": (
        lambda w: with_first_kernel(w, lambda k: k[:, :, ::-1]),
        "conv1_1's input channels are in the order BGR",
    ),
    "mean of Caffe": (
        lambda w: dataclasses.replace(w, mean=CAFFE_MEAN),
        "the mean is 0.485, 0.458, 0.408 and not 0.485, 0.456, 0.406",
    ),
    "no mean": (
        lambda w: dataclasses.replace(w, mean=(0.0, 0.0, 0.0)),
        "the mean is 0.000, 0.000, 0.000 and not 0.485, 0.456, 0.406",
    ),
    "mean backwards": (
        lambda w: dataclasses.replace(w, mean=(0.406, 0.456, 0.485)),
        "the mean is 0.406, 0.456, 0.485 and not",
    ),
    "no deviation": (
        lambda w: with_first_kernel(w, lambda k: k * DEVIATION),
        "conv1_1 was not divided by the channels' deviation",
    ),
    "deviation twice": (
        lambda w: with_first_kernel(w, lambda k: k / DEVIATION),
        "conv1_1 was divided by the channels' deviation",
    ),
    "for 0 to 255": (
        lambda w: with_first_kernel(w, lambda k: k / 255),
        "conv1_1 was not multiplied by 255",
    ),
    "times 255": (
        lambda w: with_first_kernel(w, lambda k: k * 255),
        "conv1_1 was multiplied by 255",
    ),
    "transposed": (
        lambda w: turned(w, lambda k: k.swapaxes(0, 1)),
        "the kernels' height and width are swapped",
    ),
    "Theano's convolution": (
        lambda w: turned(w, lambda k: k[::-1, ::-1]),
        "the kernels are turned by half a circle",
    ),
    "mirrored": (lambda w: turned(w, lambda k: k[:, ::-1]), "the kernels are mirrored"),
    "two at once": (
        lambda w: dataclasses.replace(
            with_first_kernel(w, lambda k: k[:, :, ::-1]), mean=(0.406, 0.456, 0.485)
        ),
        "conv1_1's input channels are in the order BGR and the mean is",
    ),
}


@pytest.mark.pretrained
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_usual_mistake_is_named(vgg16: NetworkWeights, mistake: str) -> None:
    make, words = MISTAKES[mistake]
    with pytest.raises(InvalidWeights) as caught:
        identify(make(vgg16))
    assert "holds vgg16" in caught.value.message
    assert words in caught.value.message
    assert caught.value.remedy


@pytest.mark.pretrained
def test_the_real_network_is_recognised_by_its_answer_and_other_numbers_are_refused(
    vgg16: NetworkWeights,
) -> None:
    assert identify(vgg16) == "vgg16"
    assert identify(dataclasses.replace(vgg16, source="somebody's copy")) == "vgg16"
    noisy = with_first_kernel(vgg16, lambda k: k + np.float32(0.05) * np.sign(k))
    with pytest.raises(InvalidWeights, match="does not answer as that does"):
        identify(noisy)
    assert identify(dataclasses.replace(noisy, source_sha256="1" * 64)) == ""


@pytest.mark.parametrize("factor", [1e30, 1e-30])
def test_a_network_that_computes_nothing_of_use_is_refused(tmp_path: Path, factor: float) -> None:
    path = tmp_path / "useless.h5"
    scaled = {
        name: (kernel * np.float32(factor), np.zeros_like(bias))
        for name, (kernel, bias) in narrow().convolutions.items()
    }
    write_weights(path, dataclasses.replace(narrow(), convolutions=scaled))
    with pytest.raises(WeightsError, match="computes nothing of use: at relu"):
        verify_file(path)


def test_a_network_of_other_widths_is_not_known() -> None:
    assert identify(narrow()) == identify(narrow(VGG19)) == ""


@pytest.mark.pretrained
def test_the_error_names_the_file(vgg16: NetworkWeights, tmp_path: Path) -> None:
    path = tmp_path / "dull.h5"
    write_weights(path, with_first_kernel(vgg16, lambda k: k[:, :, ::-1]))
    with pytest.raises(WeightsError) as caught:
        verify_file(path)
    assert str(caught.value).startswith(f"weights file {str(path)!r} holds vgg16, but conv1_1's")
