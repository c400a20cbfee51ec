"""The published VGG-16 at every tap against an independent convolution, on a synthetic picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from networks import DEPTHS, Network, picture
from test_vgg import without_convolutions

from nst_jax.bench.workload import Harness, Pair
from nst_jax.engine.progress import NullProgress
from nst_jax.model import winograd
from nst_jax.model.content import ContentTarget
from nst_jax.model.losses import gram_matrix
from nst_jax.model.region import Region
from nst_jax.model.style import GramTarget
from nst_jax.model.vgg import VGG
from nst_jax.request.options import Options
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights
from nst_jax.weights.network import NetworkWeights

pytestmark = pytest.mark.pretrained

IMAGE = picture(37, 45)


@pytest.fixture(scope="module")
def published() -> NetworkWeights:
    return read_weights(find_weights("vgg16"))


@pytest.fixture(scope="module")
def plain(published) -> VGG:
    return _build(published)


@pytest.fixture(scope="module")
def expected(published) -> references.Features:
    mean = np.asarray(published.mean)
    network = Network(published.architecture.name, dict(published.convolutions), mean)
    return references.vgg(IMAGE, network)


def _build(published: NetworkWeights, **options) -> VGG:
    constants = published.architecture, published.convolutions, published.mean
    return VGG(*constants, deepest="pool5", **options)


@jax.jit
def _every_tap(network, image):
    return network(image, jnp.array(image.shape[:2]), network.architecture.taps)


@jax.jit
def _every_activation(network, image):
    taps = without_convolutions(network.architecture.taps)
    return network(image, jnp.array(image.shape[:2]), taps)


def test_the_file_holds_the_published_network(published):
    assert published.architecture.depths == DEPTHS["vgg16"]
    biases = [bias.size for _, bias in published.convolutions.values()]
    assert biases == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(tensor.size for _, tensor in published.tensors()) == 14_714_688


def _check_every_tap(
    network: VGG, expected: references.Features, prepared: int, close: float
) -> None:
    sides = [len(layer.kernel[...]) for layer in network.convolutions.values()]
    assert sides.count(winograd.TILE) == prepared
    for features in (_every_tap(network, IMAGE), _every_activation(network, IMAGE)):
        for tap, value in features.items():
            assert references.relative_error(value, expected[tap]) < close, tap
    assert set(_every_tap(network, IMAGE)) == set(expected)


def test_every_tap_equals_an_independent_convolution(plain, expected):
    _check_every_tap(plain, expected, prepared=0, close=1e-5)


@pytest.mark.slow
def test_every_tap_by_the_algorithm_for_cpus_does_too(published, expected):
    _check_every_tap(_build(published, use_winograd=True), expected, prepared=12, close=1e-4)


def test_features_of_bfloat16_keep_the_losses_within_a_few_percent(published, expected):
    """Single features are off by some percent; Gram matrices and contents by far less."""
    features = _every_tap(_build(published, dtype=jnp.bfloat16), IMAGE)
    for tap in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"):
        own, positions = features[tap], int(np.prod(expected[tap].shape[:2]))
        style = GramTarget.from_moments(None, jnp.float32(references.gram(expected[tap])))
        content = ContentTarget.from_features(jnp.float32(expected[tap]), positions)
        region = Region(jnp.float32(positions))
        assert float(style.distance(own, region)) < 1e-3, tap
        assert float(content.distance(own)) < 1e-3, tap


def test_a_uniform_picture_is_a_target_far_above_the_smallest_denominator(plain):
    """The constant that guards a division by zero must not weigh against any real picture."""
    taps = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1")
    for level in (0.0, 0.5):
        features = _every_tap(plain, np.full_like(IMAGE, level))
        for tap in taps:
            region = Region(jnp.float32(np.prod(features[tap].shape[:2])))
            gram = np.float64(gram_matrix(features[tap], region))
            assert (gram**2).sum() > 1e-3, (tap, level)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["default", "gram"])
def test_a_job_has_the_same_bytes_in_every_slot_of_an_odd_canvas(preset):
    sides = np.random.default_rng(0).random((2, 50, 75, 3), dtype=np.float32)
    studio = Harness(Options(preset=preset), NullProgress())
    workload = studio.workload(Pair(*sides), 75, batch_size=4)
    workload.run(3)
    first, *others = workload.fetch_images()
    for other in others:
        np.testing.assert_array_equal(other, first)
