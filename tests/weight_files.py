"""What tests of weight files share: a small network of ours, and how a file is read or refused."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import references
from networks import Network

from nst_jax.request.errors import WeightsError
from nst_jax.request.taps import VGG16, Architecture
from nst_jax.weights.convert import convert, convert_here
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.format import read_weights
from nst_jax.weights.network import NetworkWeights

MEAN = (0.485, 0.456, 0.406)


def make_weights(architecture: Architecture = VGG16, seed: int = 0) -> NetworkWeights:
    """One to three channels a layer, so that a file is a few dozen kilobytes."""
    generator = np.random.default_rng(seed)
    convolutions = {}
    channels = 3
    for name in architecture.convolutions:
        width = int(generator.integers(1, 4))
        kernel = generator.standard_normal((3, 3, channels, width), np.float32)
        convolutions[name] = (kernel, generator.standard_normal(width, np.float32))
        channels = width
    return NetworkWeights(architecture, convolutions, MEAN, "a test", "0" * 64, "none")


def convert_source(source: Path, publisher: str = "") -> NetworkWeights:
    """What is made of another program's file, here and not in a child."""
    destination = source.with_name("converted.h5")
    convert_here(source, destination, publisher=publisher)
    return read_weights(destination)


def convert_by_child(source: Path) -> NetworkWeights:
    """The same as users have it."""
    return convert(source, source.with_name("converted.h5"))


def refusal(path: Path, read: Callable[[Path], object] = convert_source) -> WeightsError:
    """The error of reading a file, fit for a user's eyes. It leaves nothing behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert sorted(path.parent.iterdir()) == before
    error = caught.value
    assert not isinstance(error, InvalidWeights), "the file's name is missing"
    assert repr(str(path)) in error.message
    assert error.remedy
    for insides in ("\n", "Error", "Unable"):
        assert insides not in str(error)
    assert error.__cause__ is not None
    return error


def worst_error(
    weights: NetworkWeights, image: np.ndarray, expected: Mapping[str, np.ndarray]
) -> float:
    """Of all activations, in float64, relative to each one's largest expected feature."""
    network = Network(weights.architecture.name, dict(weights.convolutions), np.array(weights.mean))
    features = references.vgg(image, network)
    taps = list_activations(network.architecture)
    assert [tap for tap in expected if tap.startswith("relu")] == taps
    return max(references.relative_error(features[tap], expected[tap]) for tap in taps)


def list_activations(architecture: str) -> list[str]:
    return [tap for tap in references.layers(architecture) if tap.startswith("relu")]
