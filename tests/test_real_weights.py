"""The published VGG-16 at every tap against an independent convolution, on a synthetic picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from networks import DEPTHS, Network, picture

from nst_jax.files.finding import find_weights
from nst_jax.files.network import NetworkWeights
from nst_jax.files.weights import read_weights
from nst_jax.model import winograd
from nst_jax.model.losses import content_loss, gram_loss, gram_matrix
from nst_jax.model.vgg import VGG

pytestmark = pytest.mark.pretrained

IMAGE = picture(37, 45)


@pytest.fixture(scope="module")
def published() -> NetworkWeights:
    return read_weights(find_weights("vgg16"))


@pytest.fixture(scope="module")
def expected(published) -> references.Features:
    mean = np.asarray(published.mean)
    network = Network(published.architecture.name, dict(published.convolutions), mean)
    return references.vgg(IMAGE, network)


def _build(published: NetworkWeights, deepest: str = "pool5", **options) -> VGG:
    return VGG(
        published.architecture, published.convolutions, published.mean, deepest=deepest, **options
    )


@jax.jit
def _every_tap(network, image):
    return network(image, jnp.array(image.shape[:2]), network.architecture.taps)


def test_the_file_holds_the_published_network(published):
    assert published.architecture.depths == DEPTHS["vgg16"]
    biases = [bias.size for _, bias in published.convolutions.values()]
    assert biases == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(tensor.size for _, tensor in published.tensors()) == 14_714_688


@pytest.mark.parametrize("use_winograd", [False, True], ids=["plain", "winograd"])
def test_every_tap_equals_an_independent_convolution(published, expected, use_winograd):
    network = _build(published, use_winograd=use_winograd)
    prepared = [len(layer.kernel[...]) == winograd.TILE for layer in network.convolutions.values()]
    assert sum(prepared) == (11 if use_winograd else 0)
    features = _every_tap(network, IMAGE)
    assert set(features) == set(expected)
    for tap, value in expected.items():
        assert references.relative_error(features[tap], value) < 1e-4, tap


def test_features_of_bfloat16_keep_the_losses_within_a_few_percent(published, expected):
    """Single features are off by some percent; Gram matrices and contents by far less."""
    features = _every_tap(_build(published, dtype=jnp.bfloat16), IMAGE)
    for tap in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"):
        own, positions = features[tap], jnp.float32(np.prod(expected[tap].shape[:2]))
        target = jnp.asarray(references.gram(expected[tap]), jnp.float32)
        assert float(gram_loss(gram_matrix(own, positions), target)) < 1e-3, tap
        assert float(content_loss(own, jnp.asarray(expected[tap], jnp.float32))) < 1e-3, tap


def test_a_uniform_picture_is_a_target_far_above_the_smallest_denominator(published):
    """The constant that guards a division by zero must not weigh against any real picture."""
    taps = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1")
    for level in (0.0, 0.5):
        features = _every_tap(_build(published), np.full_like(IMAGE, level))
        for tap in taps:
            positions = jnp.float32(np.prod(features[tap].shape[:2]))
            gram = np.float64(gram_matrix(features[tap], positions))
            assert (gram**2).sum() > 1e-3, (tap, level)
