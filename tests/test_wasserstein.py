"""The Wasserstein distance of features against the definition by SVD, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import on_canvas
from references import relative_error

from nst_jax.model import wasserstein
from nst_jax.model.region import Region
from nst_jax.model.wasserstein import WassersteinTarget


def features_of(seed: int, size: tuple[int, int], channels: int, decay: float = 3.0) -> np.ndarray:
    """Rectified mixtures of a few strong and many weak sources, as a network's features are."""
    rng = np.random.default_rng(seed)
    sources = rng.normal(size=(*size, channels)) * np.geomspace(1, 10**-decay, channels)
    mixed = sources @ rng.normal(size=(channels, channels)) / np.sqrt(channels)
    return np.float32(np.maximum(mixed + 0.3 * rng.normal(size=channels), 0))


def moments_of(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = np.float64(features).reshape(-1, features.shape[-1])
    return flat.mean(0), flat.T @ flat / len(flat)


def covariance_of(mean: np.ndarray, second: np.ndarray) -> np.ndarray:
    return second - np.outer(mean, mean)


def root_of(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def expected(features: np.ndarray, moments: tuple[np.ndarray, np.ndarray]) -> float:
    """The definition, with matrix roots by eigendecomposition."""
    mean, second = moments_of(features)
    own, asked = covariance_of(mean, second), covariance_of(*moments)
    root = root_of(asked)
    inner = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ own @ root), 0)).sum()
    spread = np.trace(own + asked) - 2 * inner
    return float(((mean - moments[0]) ** 2).sum() + spread) / len(mean)


def expected_gradient(features: np.ndarray, moments: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """With the polar factor from an SVD."""
    flat = np.float64(features).reshape(-1, features.shape[-1])
    root = root_of(covariance_of(*moments))
    left, values, right = np.linalg.svd((flat - flat.mean(0)) @ root, full_matrices=False)
    pull = (left * (values > 1e-9 * values.max())) @ right @ root * np.sqrt(len(flat))
    by_row = 2 * (flat.mean(0) - moments[0]) + 2 * (flat - flat.mean(0) - pull)
    return (by_row / flat.size).reshape(features.shape)


def target_of(style: np.ndarray, **options) -> WassersteinTarget:
    return WassersteinTarget.from_moments(*moments_of(style), **options)


def value_and_gradient(target, features, *, own=None, weights=None):
    """Own: (height, width) of the own region; None: all."""
    height, width = own or features.shape[:2]
    inside = np.zeros(features.shape[:2], bool)
    inside[:height, :width] = True
    counted = height * width if weights is None else np.sum(weights)
    region = Region(jnp.float32(counted), weights, jnp.asarray(inside))
    value, slope = jax.jit(_value_and_gradient)(jnp.asarray(features), target, region)
    return float(value), np.asarray(slope)


def _value_and_gradient(features, target, region):
    return jax.value_and_grad(lambda one: target.distance(one, region))(features)


@pytest.mark.usefixtures("more_steps")
@pytest.mark.parametrize(("channels", "bound"), [(4, 3e-3), (32, 3e-3), (250, 0.04)])
def test_value_and_gradient_equal_the_definition(channels, bound):
    """By the covariance where there are more positions than channels, else by projection.

    192 positions in 250 channels have singular values that float32 does not know any more.
    """
    features, style = (features_of(seed, (16, 12), channels, 1.0) for seed in (1, 2))
    moments = moments_of(style)
    value, slope = value_and_gradient(target_of(style, rank=channels), features)
    assert value == pytest.approx(expected(features, moments), rel=1e-3)
    assert relative_error(slope, expected_gradient(features, moments)) < bound


def test_the_gradient_of_the_definition_is_the_one_by_finite_differences():
    """So the closed form above is no copy of a mistake."""
    for size, channels in (((6, 7), 3), ((2, 2), 6)):
        features = np.float64(features_of(3, size, channels, 0.5))
        style = np.float64(features_of(4, (9, 9), channels, 0.5))
        moments = moments_of(style)
        gradient = expected_gradient(features, moments)
        for seed in range(3):
            direction = np.random.default_rng(seed).normal(size=features.shape)
            ahead, behind = (expected(features + s * direction, moments) for s in (1e-4, -1e-4))
            assert (ahead - behind) / 2e-4 == pytest.approx(np.vdot(gradient, direction), rel=1e-3)


@pytest.mark.usefixtures("more_steps")
def test_both_ways_are_one_distance(monkeypatch):
    features, style = (features_of(seed, (12, 12), 100, 1.0) for seed in (8, 9))
    value, slope = value_and_gradient(target_of(style), features)
    monkeypatch.setattr(wasserstein, "_ByCovariance", wasserstein._ByProjection)
    again, other = value_and_gradient(target_of(style), features)
    assert again == pytest.approx(value, rel=1e-4)
    assert relative_error(other, slope) < 3e-3


def test_a_style_is_at_no_distance_of_itself():
    style = features_of(5, (16, 16), 16, 1.0)
    moments = moments_of(style)
    value, slope = value_and_gradient(WassersteinTarget.from_moments(*moments), style)
    scale = np.trace(covariance_of(*moments)) / 16
    assert abs(value) < 0.01 * scale
    assert np.abs(slope).max() < 0.05 * np.abs(expected_gradient(0 * style, moments)).max()


@pytest.mark.parametrize("positions", [(10, 10), (32, 32)])
def test_what_the_shipped_steps_leave_out_is_small(positions):
    features, style = (features_of(seed, positions, 512) for seed in (6, 7))
    moments = moments_of(style)
    value, slope = value_and_gradient(target_of(style, rank=512), features)
    assert value == pytest.approx(expected(features, moments), rel=0.01)
    gradient = expected_gradient(features, moments)
    assert np.linalg.norm(slope - gradient) < 0.1 * np.linalg.norm(gradient)


def nearly_flat(seed: int) -> np.ndarray:
    """Large features that are all but alike: what is left of a difference may be negative."""
    rng = np.random.default_rng(seed)
    return rng.uniform(1, 9, 16) * np.ones((32, 32, 1)) * (1 + 1e-7 * rng.random())


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((4, 4, 8)),
        np.full((4, 4, 8), 2.0),
        np.ones((1, 1, 8)),
        features_of(8, (2, 2), 200),
        np.zeros((4, 4, 40)),
        *map(nearly_flat, range(6)),
    ],
    ids=["nothing", "constant", "one position", "few positions", "nothing at few positions"]
    + 6 * ["covariance is rounding"],
)
def test_poor_pictures_have_finite_values_and_gradients(features):
    for style in (features_of(9, (9, 9), features.shape[-1]), features):
        value, slope = value_and_gradient(target_of(style), np.float32(features))
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("channels", [12, 90])
def test_a_canvas_changes_nothing(channels):
    features = features_of(10, (7, 9), channels, 1.0)
    target = target_of(features_of(11, (9, 9), channels, 1.0))
    value, slope = value_and_gradient(target, features)
    again, wide_slope = value_and_gradient(target, on_canvas(features, (8, 10)), own=(7, 9))
    assert again == pytest.approx(value, rel=1e-5)
    assert relative_error(wide_slope[:7, :9], slope) < 1e-3


def test_bfloat16_features_are_summed_in_float32():
    features, style = (features_of(seed, (24, 24), 16, 1.0) for seed in (12, 13))
    value, slope = value_and_gradient(target_of(style), features)
    narrow, narrow_slope = value_and_gradient(target_of(style), jnp.asarray(features, jnp.bfloat16))
    assert narrow == pytest.approx(value, rel=0.02)
    assert relative_error(narrow_slope, slope) < 0.05


@pytest.mark.parametrize("channels", [20, 150])
def test_a_mapped_batch_equals_one_by_one(channels):
    batch = np.stack([features_of(seed, (9, 8), channels) for seed in (20, 21, 22)])
    targets = [target_of(features_of(seed, (9, 9), channels)) for seed in (23, 24, 25)]
    region = Region(jnp.float32(72), None, jnp.ones((9, 8), bool))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *targets)
    mapped = jax.vmap(_value_and_gradient, (0, 0, None))
    values, slopes = jax.jit(mapped)(batch, stacked, region)
    for slot in range(3):
        value, slope = value_and_gradient(targets[slot], batch[slot])
        assert values[slot] == pytest.approx(value, rel=1e-4)
        assert relative_error(slopes[slot], slope) < 1e-3


@pytest.mark.parametrize("size", [(16, 16), (3, 4)], ids=["many positions", "few positions"])
def test_of_weak_directions_the_whole_variance_counts(size):
    """The strong part by the definition, and the weak part's (√t - √τ)² by hand."""
    style, features = features_of(31, (20, 20), 40, 1.0), features_of(30, size, 40, 1.0)
    mean, second = moments_of(style)
    variances, directions = np.linalg.eigh(covariance_of(mean, second))
    weak, strong = directions[:, :24], directions[:, 24:]
    flat = np.float64(features).reshape(-1, 40) - mean
    together = (flat @ strong).reshape(*size, 16), (np.zeros(16), np.diag(variances[24:]))
    beside = flat @ weak
    centred = beside - beside.mean(0)
    own, asked = (centred**2).sum() / len(flat), variances[:24].sum()
    wanted = 16 * expected(*together) + (beside.mean(0) ** 2).sum()
    wanted += (np.sqrt(own) - np.sqrt(asked)) ** 2
    gradient = 16 * expected_gradient(*together).reshape(len(flat), -1) @ strong.T
    by_row = beside.mean(0) + (1 - np.sqrt(asked / own)) * centred
    gradient += 2 / len(flat) * by_row @ weak.T
    target = WassersteinTarget.from_moments(mean, second, rank=16)
    value, slope = value_and_gradient(target, features)
    assert value == pytest.approx(wanted / 40, rel=5e-3)
    gradient = (gradient / 40).reshape(features.shape)
    assert np.linalg.norm(slope - gradient) < 0.05 * np.linalg.norm(gradient)


def test_the_shipped_distance_is_below_the_whole_one():
    """Flatter spectra than a network's, whose bias `compare_directions.py` prints."""
    features, style = (features_of(seed, (24, 24), 512, 1.0) for seed in (32, 33))
    value, _ = value_and_gradient(target_of(style), features)
    whole = expected(features, moments_of(style))
    assert 0.6 * whole < value < 1.001 * whole
