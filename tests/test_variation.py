"""Smoothness in each definition, and its gradient, against NumPy on any canvas."""

import jax
import numpy as np
import pytest
import references
from networks import on_canvas, picture

from nst_jax.model.variation import AbsoluteVariation, NinePointVariation, SquaredVariation


def absolute(image):
    return np.abs(np.diff(image, axis=0)).sum() / image.size + (
        np.abs(np.diff(image, axis=1)).sum() / image.size
    )


def nine_point(image):
    """crowsonkb's TVLoss: replicate one pixel; d1/3 + d2/3 + d3/12 + d4/12, twice."""
    wide = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    centre, right, below = wide[1:-1, 1:-1], wide[1:-1, 2:], wide[2:, 1:-1]
    d1, d2 = ((right - centre) ** 2).mean() / 3, ((below - centre) ** 2).mean() / 3
    d3 = ((wide[1:, 1:] - wide[:-1, :-1]) ** 2).mean() / 12
    d4 = ((wide[1:, :-1] - wide[:-1, 1:]) ** 2).mean() / 12
    return 2 * (d1 + d2 + d3 + d4)


KINDS = {
    "squared": (SquaredVariation(), references.total_variation),
    "absolute": (AbsoluteVariation(), absolute),
    "nine_point": (NinePointVariation(), nine_point),
}
KIND = pytest.mark.parametrize(("kind", "reference"), KINDS.values(), ids=KINDS)

_with_slope = jax.jit(
    jax.value_and_grad(lambda image, kind, size: kind.of(image, size)), static_argnums=1
)


@KIND
@pytest.mark.parametrize("size", [(5, 7), (8, 8), (1, 6), (6, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("filler", [0.0, 0.7])
def test_a_variation_is_its_definition_on_any_canvas_whatever_lies_outside(
    kind, reference, size, filler
):
    image = picture(*size)
    value, slope = _with_slope(on_canvas(image, (8, 8), filler=filler), kind, np.array(size))
    assert float(value) == pytest.approx(reference(np.float64(image)), rel=1e-5, abs=1e-9)
    rest = np.array(slope)
    if isinstance(kind, SquaredVariation):
        own, by_hand = rest[: size[0], : size[1]], references.total_variation_backward(image)
        np.testing.assert_allclose(own, by_hand, rtol=1e-5, atol=1e-6 / image.size)
    rest[: size[0], : size[1]] = 0
    assert not rest.any()


@KIND
def test_finite_differences_confirm_the_gradient(kind, reference):
    image = picture(5, 7)
    _, slope = _with_slope(on_canvas(image, (8, 8)), kind, np.array([5, 7]))
    slope, step = np.float64(slope)[:5, :7], 1e-6
    for seed in range(4):
        direction = np.random.default_rng(seed).normal(size=image.shape)
        ahead, behind = (reference(np.float64(image) + sign * direction) for sign in (step, -step))
        along = (slope * direction).sum()
        assert along == pytest.approx((ahead - behind) / (2 * step), rel=1e-4)


@KIND
def test_a_constant_has_none_and_a_finite_gradient(kind, reference):
    value, slope = _with_slope(np.full((8, 8, 3), 0.3, np.float32), kind, np.array([5, 7]))
    assert float(value) == reference(np.full((5, 7, 3), 0.3)) == 0
    assert not np.any(slope)


def test_a_checkerboard_tells_the_kinds_apart():
    """Every neighbour differs by 1, no diagonal one does."""
    board = np.repeat((np.indices((8, 8)).sum(0) % 2)[..., None], 3, axis=2).astype(np.float32)
    size = np.array([8, 8])
    whole, half = (
        {name: float(_with_slope(one, kind, size)[0]) for name, (kind, _) in KINDS.items()}
        for one in (board, board / 2)
    )
    pairs = 2 * 7 * 8 / 64
    assert whole["squared"] == whole["absolute"] == pytest.approx(pairs)
    assert whole["nine_point"] == pytest.approx(nine_point(np.float64(board)), rel=1e-6)
    assert half["absolute"] == pytest.approx(whole["absolute"] / 2)
    assert half["squared"] == pytest.approx(whole["squared"] / 4)
