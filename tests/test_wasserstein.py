"""The Wasserstein distance of features against SciPy's matrix root, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from networks import on_canvas
from references import relative_error

from nst_jax.model import wasserstein
from nst_jax.model.region import Region
from nst_jax.model.wasserstein import RIDGE, SUBSET, SubsetTarget, WassersteinTarget

KEY = jax.random.key(0)
BOTH = pytest.mark.parametrize("kind", [WassersteinTarget, SubsetTarget])
ENOUGH = 30
"""Iterations after which nothing is left to gain."""


def features_of(seed: int, size: tuple[int, int], channels: int, decay: float = 3.0) -> np.ndarray:
    """Rectified mixtures of a few strong and many weak sources, as a network's features are."""
    rng = np.random.default_rng(seed)
    sources = rng.normal(size=(*size, channels)) * np.geomspace(1, 10**-decay, channels)
    mixed = sources @ rng.normal(size=(channels, channels)) / np.sqrt(channels)
    return np.float32(np.maximum(mixed + 0.3 * rng.normal(size=channels), 0))


def moments_of(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = np.float64(features).reshape(-1, features.shape[-1])
    return flat.mean(0), flat.T @ flat / len(flat)


def gaussian_of(mean: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return mean, second - np.outer(mean, mean) + RIDGE * np.eye(len(mean))


def expected(features: np.ndarray, moments: tuple[np.ndarray, np.ndarray]) -> float:
    """The definition, with SciPy's root."""
    (mean, covariance), (other, target) = gaussian_of(*moments_of(features)), gaussian_of(*moments)
    root = scipy.linalg.sqrtm(target).real
    inner = scipy.linalg.sqrtm(root @ covariance @ root).real
    spread = np.trace(covariance + target - 2 * inner)
    return float(((mean - other) ** 2).sum() + spread) / len(mean)


def expected_gradient(features: np.ndarray, moments: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The closed form, with SciPy's root and inverse."""
    flat = np.float64(features).reshape(-1, features.shape[-1])
    (mean, covariance), (other, target) = gaussian_of(*moments_of(features)), gaussian_of(*moments)
    root = scipy.linalg.sqrtm(target).real
    inner = scipy.linalg.sqrtm(root @ covariance @ root).real
    slope = np.eye(len(mean)) - root @ np.linalg.inv(inner) @ root
    by_row = 2 * (mean - other) + 2 * (flat - mean) @ slope
    return (by_row / flat.size).reshape(features.shape)


def value_and_gradient(target, features, *, positions=None, weights=None, key=KEY):
    region = Region(jnp.float32(positions or features.shape[0] * features.shape[1]), weights)
    value, slope = jax.jit(lambda *each: _value_and_gradient(*each))(
        jnp.asarray(features), target, region, key
    )
    return float(value), np.asarray(slope)


def _value_and_gradient(features, target, region, key):
    return jax.value_and_grad(lambda one: target.distance(one, region, key))(features)


@BOTH
@pytest.mark.parametrize("channels", [4, 32])
def test_value_and_gradient_equal_the_definition(monkeypatch, kind, channels):
    monkeypatch.setattr(wasserstein, "ITERATIONS", ENOUGH)
    features, style = (features_of(seed, (16, 12), channels, 1.0) for seed in (1, 2))
    moments = moments_of(style)
    value, slope = value_and_gradient(kind.of(*moments), features)
    assert value == pytest.approx(expected(features, moments), rel=1e-3)
    assert relative_error(slope, expected_gradient(features, moments)) < 1e-3


def test_the_gradient_of_the_definition_is_the_one_by_finite_differences():
    """So the closed form above is no copy of a mistake."""
    features, style = (np.float64(features_of(seed, (6, 7), 3, 0.5)) for seed in (3, 4))
    moments, gradient = moments_of(style), None
    gradient = expected_gradient(features, moments)
    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=features.shape)
        ahead, behind = (expected(features + s * direction, moments) for s in (1e-6, -1e-6))
        assert (ahead - behind) / 2e-6 == pytest.approx(np.vdot(gradient, direction), rel=1e-5)


def test_a_style_is_at_no_distance_of_itself():
    style = features_of(5, (16, 16), 16, 1.0)
    moments = moments_of(style)
    value, slope = value_and_gradient(WassersteinTarget.of(*moments), style)
    scale = np.trace(gaussian_of(*moments)[1]) / 16
    assert abs(value) < 0.01 * scale
    assert np.abs(slope).max() < 0.05 * np.abs(expected_gradient(0 * style, moments)).max()


@pytest.mark.parametrize("positions", [(10, 10), (32, 32)])
def test_what_the_shipped_iterations_leave_out_is_small(positions):
    """512 channels, of which 100 positions know a fifth: the value is 1 to 2 % too large."""
    features, style = (features_of(seed, positions, 512) for seed in (6, 7))
    moments = moments_of(style)
    exact = expected(features, moments)
    value, slope = value_and_gradient(WassersteinTarget.of(*moments), features)
    assert exact < value < 1.1 * exact
    assert np.isfinite(slope).all()


@BOTH
@pytest.mark.parametrize(
    "features",
    [np.zeros((4, 4, 8)), np.full((4, 4, 8), 2.0), np.ones((1, 1, 8)), features_of(8, (2, 2), 200)],
    ids=["nothing", "constant", "one position", "more channels than positions"],
)
def test_poor_pictures_have_finite_values_and_gradients(kind, features):
    for style in (features_of(9, (9, 9), features.shape[-1]), features):
        value, slope = value_and_gradient(kind.of(*moments_of(style)), np.float32(features))
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


@BOTH
def test_a_canvas_changes_nothing(kind):
    features = features_of(10, (7, 9), 12)
    target = kind.of(*moments_of(features_of(11, (9, 9), 12)))
    value, slope = value_and_gradient(target, features)
    wide = on_canvas(features, (10, 11))
    again, wide_slope = value_and_gradient(target, wide, positions=63)
    assert again == pytest.approx(value, rel=1e-5)
    assert relative_error(wide_slope[:7, :9], slope) < 1e-4


@BOTH
def test_bfloat16_features_are_summed_in_float32(kind):
    features = features_of(12, (24, 24), 16, 1.0)
    target = kind.of(*moments_of(features_of(13, (24, 24), 16, 1.0)))
    value, slope = value_and_gradient(target, features)
    narrow, narrow_slope = value_and_gradient(target, jnp.asarray(features, jnp.bfloat16))
    assert narrow == pytest.approx(value, rel=0.02)
    assert relative_error(narrow_slope, slope) < 0.05


def test_a_subset_of_all_channels_is_the_whole():
    features, style = (features_of(seed, (16, 16), 24, 1.0) for seed in (14, 15))
    moments = moments_of(style)
    whole, _ = value_and_gradient(WassersteinTarget.of(*moments), features)
    part, _ = value_and_gradient(SubsetTarget.of(*moments), features)
    assert part == pytest.approx(whole, rel=0.01)


def test_subsets_are_on_average_a_little_below_the_whole():
    """The distance of parts never exceeds that of the whole; Gaussians with fewer channels."""
    features, style = (features_of(seed, (40, 40), 2 * SUBSET, 1.0) for seed in (16, 17))
    moments = moments_of(style)
    whole, _ = value_and_gradient(WassersteinTarget.of(*moments), features)
    target = SubsetTarget.of(*moments)
    parts = [
        value_and_gradient(target, features, key=jax.random.key(seed))[0] for seed in range(12)
    ]
    assert 0.5 * whole < np.mean(parts) < 1.02 * whole
    assert len(set(parts)) == 12


def test_a_subset_moves_its_channels_alone_and_the_key_decides():
    features, style = (features_of(seed, (12, 12), SUBSET + 40) for seed in (18, 19))
    target = SubsetTarget.of(*moments_of(style))
    value, slope = value_and_gradient(target, features)
    moved = np.abs(slope).max((0, 1)) > 0
    assert moved.sum() == SUBSET
    chosen = np.sort(np.asarray(jax.random.permutation(KEY, SUBSET + 40))[:SUBSET])
    np.testing.assert_array_equal(np.flatnonzero(moved), chosen)
    part = (moments_of(style)[0][chosen], moments_of(style)[1][np.ix_(chosen, chosen)])
    assert value == pytest.approx(expected(features[..., chosen], part), rel=0.05)
    np.testing.assert_array_equal(value_and_gradient(target, features)[1], slope)


@BOTH
def test_a_mapped_batch_equals_one_by_one(kind):
    batch = np.stack([features_of(seed, (9, 8), 150) for seed in (20, 21, 22)])
    targets = [kind.of(*moments_of(features_of(seed, (9, 9), 150))) for seed in (23, 24, 25)]
    keys = jax.random.split(KEY, 3)

    def one(target, features, key):
        return jax.value_and_grad(
            lambda value: target.distance(value, Region(jnp.float32(72)), key)
        )(features)

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *targets)
    values, slopes = jax.jit(jax.vmap(one))(stacked, batch, keys)
    for slot in range(3):
        value, slope = jax.jit(one)(targets[slot], batch[slot], keys[slot])
        assert values[slot] == pytest.approx(float(value), rel=1e-4)
        assert relative_error(slopes[slot], slope) < 1e-3
