"""The terms of the objective: their invariances, their known values, their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from networks import on_canvas

from nst_jax.model import losses
from nst_jax.model.content import ContentTarget
from nst_jax.model.region import Region
from nst_jax.model.style import GramTarget
from nst_jax.model.variation import SquaredVariation

SMALL = {"height": st.integers(1, 7), "width": st.integers(1, 7), "seed": st.integers(0, 10**6)}


def content_loss(value, target):
    """‖F - P‖² / ‖P‖²."""
    made = ContentTarget.from_features(np.asarray(target), target[..., 0].size)
    return jax.tree.map(jnp.asarray, made).distance(value)


def gram_loss(gram, target):
    """‖G - A‖² / ‖A‖², of Gram matrices that are there already."""
    return GramTarget.from_moments(None, np.asarray(target)).scale * losses.squared_distance(
        gram, target
    )


RELATIVE = pytest.mark.parametrize("loss", [content_loss, gram_loss])


def _features(height, width, channels=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(height, width, channels)).astype(np.float32)


def region(positions: int) -> Region:
    return Region(jnp.float32(positions))


_compiled_gram = jax.jit(losses.gram_matrix)


def _gram(features):
    """On a canvas that all small sizes share, for the sake of one compilation."""
    height, width = features.shape[:2]
    wide = on_canvas(features, (max(14, height), max(21, width)))
    return np.asarray(_compiled_gram(wide, region(height * width)))


@jax.jit
def _gram_pulled_back(features, positions, gradient):
    _, pull = jax.vjp(lambda value: losses.gram_matrix(value, Region(positions)), features)
    return pull(gradient)[0]


def _variation(image, size=None):
    return SquaredVariation().of(jnp.asarray(image), jnp.asarray(size or image.shape[:2]))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(**SMALL)
def test_a_gram_matrix_is_its_definition_wherever_a_feature_fires_and_however_often(
    height, width, seed
):
    """On a canvas; symmetric, semi-definite, and the same shuffled or tiled."""
    features = _features(height, width, seed=seed)
    gram = _gram(features)
    assert references.relative_error(gram, references.gram(features)) < 1e-6
    np.testing.assert_array_equal(gram, gram.T)
    assert np.linalg.eigvalsh(np.float64(gram)).min() >= -1e-6 * gram.max()
    shuffled = np.random.default_rng(seed).permutation(features.reshape(-1, 4))
    for other in (shuffled.reshape(features.shape), np.tile(features, (2, 3, 1))):
        assert references.relative_error(_gram(other), gram) < 1e-6


@settings(max_examples=20, deadline=None, derandomize=True)
@given(**SMALL)
def test_the_gram_gradient_equals_the_one_by_hand(height, width, seed):
    features = _features(height, width, seed=seed)
    gradient = np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32)
    wide = on_canvas(features, (7, 7))
    backward = np.asarray(_gram_pulled_back(wide, np.float32(height * width), gradient))
    expected = references.gram_backward(features, np.float64(gradient))
    assert references.relative_error(backward, on_canvas(expected, (7, 7))) < 1e-6


def test_finite_differences_confirm_the_gradients():
    """In float32 a step of 1e-2 on functions of degree 4 and less; hence a tolerance of 2e-2."""
    features, other = _features(3, 4), _features(3, 4, seed=1)
    target = jnp.asarray(_gram(other))
    close = {"order": 1, "modes": ["rev"], "atol": 2e-2, "rtol": 2e-2, "eps": 1e-2}
    for function in (
        lambda value: losses.gram_matrix(value, region(12)),
        lambda value: gram_loss(losses.gram_matrix(value, region(12)), target),
        lambda value: content_loss(value, other),
    ):
        check_grads(jax.jit(function), (features,), **close)


def test_sums_of_bfloat16_are_in_float32():
    """A bfloat16 sum of ones stops at 256; of 0.1s it is 8 % off long before."""
    ones = jnp.ones((128, 128, 2), jnp.bfloat16)
    gram = losses.gram_matrix(ones, region(1))
    assert gram.dtype == jnp.float32
    np.testing.assert_array_equal(gram, np.full((2, 2), 128 * 128))
    tenths = jnp.full((128, 128, 2), 0.1, jnp.bfloat16)
    expected = references.gram(np.asarray(tenths, np.float64))
    gram = losses.gram_matrix(tenths, region(128 * 128))
    # Equal terms are the worst case: their rounding errors all have one sign.
    assert references.relative_error(gram, expected) < 1e-4
    features, target = jnp.ones((64, 64, 4), jnp.bfloat16), jnp.full((64, 64, 4), 2, jnp.bfloat16)
    loss = content_loss(features, target)
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(0.25, rel=1e-6)
    assert float(content_loss(0 * features, target)) == pytest.approx(1, rel=1e-6)


def test_the_gradient_of_bfloat16_features_has_their_type_and_its_precision():
    features = _features(6, 6)
    gradient = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    narrow = jnp.asarray(features, jnp.bfloat16)
    _, pull = jax.vjp(lambda value: losses.gram_matrix(value, region(36)), narrow)
    (backward,) = pull(gradient)
    assert backward.dtype == jnp.bfloat16
    expected = references.gram_backward(np.asarray(narrow, np.float64), np.float64(gradient))
    assert references.relative_error(backward, expected) < 2**-7


def test_sums_over_a_million_values_keep_float32_s_precision():
    features = np.random.default_rng(0).random((512, 512, 3)).astype(np.float32)
    other = np.random.default_rng(1).random((512, 512, 3)).astype(np.float32)
    loss = content_loss(jnp.asarray(features), jnp.asarray(other))
    assert float(loss) == pytest.approx(references.relative_loss(features, other), rel=1e-5)
    assert float(_variation(features)) == pytest.approx(
        references.total_variation(features), rel=1e-5
    )
    wide = _features(512, 512, channels=8)
    assert references.relative_error(_gram(wide), references.gram(wide)) < 1e-5


def _pair(loss, seed=0):
    """A value and a target of the loss: feature maps or Gram matrices."""
    value, target = _features(4, 5, seed=seed), _features(4, 5, seed=seed + 1)
    if loss is gram_loss:
        value, target = _gram(value), _gram(target)
    return jnp.asarray(value), jnp.asarray(target)


@RELATIVE
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e3))
def test_a_loss_is_its_definition_and_has_no_unit(loss, seed, scale):
    value, target = _pair(loss, seed)
    expected = references.relative_loss(np.float64(value), np.float64(target))
    assert float(loss(value, target)) == pytest.approx(expected, rel=1e-5)
    # 1e-8 in the denominator, against a norm of 1e-4 and more.
    assert float(loss(scale * value, scale * target)) == pytest.approx(expected, rel=1e-3)


@RELATIVE
def test_a_loss_is_zero_at_its_target_and_one_at_nothing_and_finite_for_a_black_target(loss):
    value, target = _pair(loss)
    nothing = jnp.zeros_like(value)
    assert float(loss(target, target)) == 0
    assert float(loss(nothing, target)) == pytest.approx(1, rel=1e-6)
    assert not np.any(jax.grad(loss)(target, target))
    for pair in ((nothing, target), (value, nothing), (nothing, nothing)):
        assert np.all(np.isfinite(loss(*pair)))
        assert np.all(np.isfinite(jax.grad(loss)(*pair)))
