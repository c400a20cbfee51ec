"""Normalisations: each is the published formula of a program of the field, from raw sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import on_canvas
from references import relative_error

from nst_jax.model import losses, normalization
from nst_jax.model.content import ContentTarget
from nst_jax.model.region import Region
from nst_jax.model.style import GramTarget, MomentsTarget, compute_moments

HEIGHT, WIDTH, CHANNELS = 5, 7, 4
POSITIONS = HEIGHT * WIDTH


def features(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(loc=0.5, scale=2, size=(HEIGHT, WIDTH, CHANNELS)).astype(np.float32)


OWN, TARGET = features(0), features(1)


def raw_gram(values: np.ndarray) -> np.ndarray:
    """Sums over positions, as Gatys et al. write it."""
    flat = np.float64(values).reshape(-1, CHANNELS)
    return flat.T @ flat


F, P = np.float64(OWN), np.float64(TARGET)
G, A = raw_gram(OWN), raw_gram(TARGET)
M, C = POSITIONS, CHANNELS

CONTENTS = {
    "relative": ((F - P) ** 2).sum() / (P**2).sum(),
    "mean": ((F - P) ** 2).mean(),  # nn.MSECriterion
    "quarter_mean": ((F - P) ** 2).sum() / (4 * HEIGHT * WIDTH * C),  # Coursera
    "half_sum": ((F - P) ** 2).sum() / 2,  # Gatys et al. 2016, (1)
    "half_root": ((F - P) ** 2).sum() / (2 * C**0.5 * M**0.5),  # cysmith
}
STYLES = {
    "relative": ((G - A) ** 2).sum() / (A**2).sum(),
    "mean": ((G / (C * M) - A / (C * M)) ** 2).sum(),  # gordicaleksa sums them
    "quarter_mean": ((G - A) ** 2).sum() / (4 * C**2 * M**2),  # Gatys et al. 2016, (4)
    "channel_mean": ((G / (C * M) - A / (C * M)) ** 2).mean(),  # jcjohnson
}


def on_device(target):
    return jax.tree.map(jnp.asarray, target)


CANVASES = pytest.mark.parametrize("canvas", [(HEIGHT, WIDTH), (8, 12)])
ALL = Region(jnp.float32(POSITIONS))


def moments_of(values: np.ndarray):
    positions = jnp.float32(values[..., 0].size)
    return jax.device_get(compute_moments(jnp.asarray(values), Region(positions)))


@CANVASES
def test_contents_and_styles_are_compared_as_their_sources_do_on_any_canvas(canvas):
    seen = jnp.asarray(on_canvas(OWN, canvas))
    for name, expected in CONTENTS.items():
        target = on_device(ContentTarget.from_features(on_canvas(TARGET, canvas), POSITIONS, name))
        assert float(target.distance(seen)) == pytest.approx(expected, rel=1e-5), name
    for name, expected in STYLES.items():
        target = on_device(GramTarget.from_moments(*moments_of(TARGET), name))
        assert float(target.distance(seen, ALL)) == pytest.approx(expected, rel=1e-5), name


def test_a_mean_is_also_what_pystiche_and_gatys_notebook_have():
    """Grams over positions, then the mean of squares: the same as sums of Grams over both."""
    assert STYLES["mean"] == pytest.approx(((G / M - A / M) ** 2).mean())
    notebook = 1e3 / C**2 * ((G / M - A / M) ** 2).mean()
    assert 1e3 * STYLES["channel_mean"] == pytest.approx(notebook)


def test_a_style_of_other_size_has_no_say_by_its_positions():
    """A texture tiled twice is the same target, in every normalisation."""
    moments = moments_of(TARGET), moments_of(np.tile(TARGET, (2, 1, 1)))
    for name in STYLES:
        one, other = (GramTarget.from_moments(*each, name) for each in moments)
        assert relative_error(other.gram, one.gram) < 1e-6
        assert float(other.scale) == pytest.approx(float(one.scale), rel=1e-5)


def test_each_scale_is_one_number_and_a_black_target_s_is_finite():
    for name in {*CONTENTS, *STYLES}:
        scale = normalization.scale(name, 0.0, count=12, channels=3)
        assert scale.dtype == np.float32
        assert np.isfinite(scale)
    with pytest.raises(KeyError):
        normalization.scale("median", 1.0, count=1, channels=1)


# Mean and deviation of each channel.


def _statistics(values: np.ndarray) -> np.ndarray:
    flat = np.float64(values).reshape(-1, CHANNELS)
    return np.concatenate([flat.mean(0), np.sqrt(flat.var(0) + 1e-4)])


def _moments_loss(own, target, divisor):
    return ((_statistics(own) - _statistics(target)) ** 2).sum() / divisor


DIVISORS = {
    "relative": (_statistics(TARGET) ** 2).sum(),
    "mean": 2 * C,
    "quarter_mean": 8 * C,
    "channel_mean": 2 * C * C**2,
}

_with_slope = jax.jit(jax.value_and_grad(lambda seen, target, n: target.distance(seen, n)))


@pytest.mark.parametrize("name", DIVISORS)
@CANVASES
def test_moments_and_their_gradient_are_those_of_numpy(name, canvas):
    target = on_device(MomentsTarget.from_moments(*moments_of(TARGET), name))
    value, slope = _with_slope(on_canvas(OWN, canvas), target, ALL)
    expected = _moments_loss(OWN, TARGET, DIVISORS[name])
    assert float(value) == pytest.approx(expected, rel=1e-5)
    step = 1e-5
    for seed in range(4):
        direction = np.random.default_rng(seed).normal(size=OWN.shape)
        ahead, behind = (
            _moments_loss(F + sign * direction, TARGET, DIVISORS[name]) for sign in (step, -step)
        )
        along = float((np.asarray(slope)[:HEIGHT, :WIDTH] * direction).sum())
        assert along == pytest.approx((ahead - behind) / (2 * step), rel=1e-4)


def test_moments_ignore_what_channels_do_together():
    """Shuffling one channel alone keeps its mean and deviation, and changes the Gram matrix."""
    shuffled = TARGET.copy()
    first = np.random.default_rng(2).permutation(TARGET[..., 0].ravel())
    shuffled[..., 0] = first.reshape(HEIGHT, WIDTH)
    of, seen = moments_of(TARGET), jnp.asarray(shuffled)
    assert float(on_device(MomentsTarget.from_moments(*of)).distance(seen, ALL)) < 1e-10
    assert float(on_device(GramTarget.from_moments(*of)).distance(seen, ALL)) > 1e-4


def test_a_channel_that_never_fires_has_a_finite_gradient():
    target = on_device(MomentsTarget.from_moments(*moments_of(TARGET)))
    value, slope = _with_slope(np.zeros_like(OWN), target, ALL)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


# Gradients with a norm of their own.


def _unit(values, mask, strength, gradient):
    _, back = jax.vjp(lambda seen: losses.normalize_gradient(seen, mask, strength), values)
    return np.asarray(back(gradient)[0])


MASK = jnp.asarray(np.indices((HEIGHT, WIDTH)).max(0)[..., None] < 4)


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_a_unit_gradient_is_jcjohnson_s_changes_no_value_and_survives_nothing(strength):
    """gradInput / (its L1 norm + 1e-8) * strength, of the own region alone."""
    slope, seen = features(3), jnp.asarray(OWN)
    got = _unit(seen, MASK, jnp.float32(strength), jnp.asarray(strength * slope))
    own = np.float64(slope) * np.asarray(MASK)
    assert relative_error(got, own / (np.abs(own).sum() + 1e-8) * strength) < 1e-6
    assert np.abs(got).sum() == pytest.approx(strength, rel=1e-5)
    np.testing.assert_array_equal(losses.normalize_gradient(seen, MASK, jnp.float32(3)), OWN)
    for weight in (0.0, 1.0):
        assert not _unit(seen, MASK, jnp.float32(weight), jnp.zeros_like(seen)).any()
