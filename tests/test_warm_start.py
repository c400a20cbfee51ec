"""From level to level: what a job takes along is what it says, by hand and in float64.

The interpolation weights here are written from the kernels' formulas (Keys 1981 with a = -1/2,
a triangle, Lanczos with three lobes), with the centre of a pixel at one half and the weights
scaled to sum to 1 at the borders. No Pillow, no jax.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from engine_jobs import LANDSCAPE, expected_objective, own_of, tiny_job
from references import relative_error

from nst_jax.engine.device.solver import LossTrend, State
from nst_jax.engine.device.warm_start import EVIDENCE_STEPS, cold_start, warm_start
from nst_jax.model.objective import Terms

B1, B2, EPSILON = 0.8, 0.99, 1e-8

Kernel = Callable[[np.ndarray], np.ndarray]
Size = tuple[int, int]


# The reference.


def _bicubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def _weights(kernel: Kernel, old: int, new: int) -> np.ndarray:
    """(new, old): how much of each old pixel of a line goes into each new one."""
    assert new >= old, "kernels are not stretched here, so this only enlarges"
    centres = (np.arange(new) + 0.5) * old / new
    weights = kernel(np.arange(old) + 0.5 - centres[:, None])
    return weights / weights.sum(axis=1, keepdims=True)


def _enlarge(kernel: Kernel, pixels: np.ndarray, size: Size) -> np.ndarray:
    down, across = (
        _weights(kernel, old, new) for old, new in zip(pixels.shape[:2], size, strict=True)
    )
    return np.einsum("yi,xj,ijc->yxc", down, across, np.float64(pixels))


def _start_by_hand(state: Any, old: Size, new: Size) -> dict[str, np.ndarray]:
    """What the next level begins with, in float64, from the last state of the one before."""
    height, width = old
    image, first, second, average = (
        np.array(array[:height, :width], np.float64)
        for array in (state.image, state.optimizer.mu, state.optimizer.nu, state.average)
    )
    count = int(state.optimizer.count)
    ratio = height * width / (new[0] * new[1])
    first = ratio * _enlarge(_bicubic, first / (1 - B1**count), new)
    second = ratio**2 * _enlarge(_triangle, second / (1 - B2**count), new)
    return {
        "image": np.clip(_enlarge(_lanczos, image, new), 0, 1),
        "mu": (1 - B1) * first,
        "nu": (1 - B2) * second,
        "average": np.clip(_enlarge(_lanczos, average, new), 0, 1),
    }


def _arrays(state: Any) -> dict[str, np.ndarray]:
    return {
        "image": state.image,
        "mu": state.optimizer.mu,
        "nu": state.optimizer.nu,
        "average": state.average,
    }


def _state(size: Size, canvas: Size, *, count: int, outside: float = 0.0, seed: int = 0) -> Any:
    """A state of random arrays in their ranges, with something else outside of the image."""
    rng = np.random.default_rng(seed)

    def within(values: np.ndarray) -> Any:
        whole = np.full((*canvas, 3), outside, np.float32)
        whole[: size[0], : size[1]] = values
        return whole

    shape = (*size, 3)
    gradient = rng.normal(scale=1e-3, size=shape)
    zero: Any = np.float32(0)
    number: Any = np.int32(count)
    return State(
        image=within(rng.random(shape)),
        optimizer=optax.ScaleByAdamState(
            number, within(gradient), within(rng.random(shape) * 1e-6)
        ),
        average=within(rng.random(shape)),
        averaged=zero + np.float32(1 - 0.9**count),
        step=number,
        terms=Terms(zero, zero, zero, zero),
        trend=LossTrend(zero + 3, zero + 4, zero == 0),
        finite=zero == 0,
    )


# A level's start from made-up states.

SIZES = {
    "even": ((24, 34), (34, 48), (48, 48)),
    "odd": ((17, 23), (25, 33), (32, 33)),
    "a large canvas": ((13, 9), (19, 13), (80, 64)),
    "narrow": ((1, 9), (1, 13), (16, 13)),
    "one side stays": ((3, 11), (3, 16), (16, 16)),
    "much larger": ((5, 7), (31, 43), (32, 43)),
}


"""An old size, a new one and the canvas of the new one."""


@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("count", [1, 7, 300])
def test_a_level_begins_with_what_the_formulas_say(sizes, count):
    """And with exact zeros around the image, whatever the old canvas held there."""
    old, new, canvas = sizes
    state = _state(old, (old[0] + 5, old[1] + 2), count=count, outside=np.nan)
    after: Any = warm_start(state, old, new, canvas)
    for name, expected in _start_by_hand(state, old, new).items():
        got = _arrays(after)[name]
        assert got.shape == (*canvas, 3)
        assert got.dtype == np.float32
        assert relative_error(got[: new[0], : new[1]], expected) < 3e-6, name
        outside = got.copy()
        outside[: new[0], : new[1]] = 0
        assert not outside.any(), name


@pytest.mark.parametrize("count", [1, 5, 60, 1000])
def test_moments_shrink_with_the_pixels_lose_their_bias_and_count_as_one_step(count):
    """Those of a gradient that never changed are that gradient; to a quarter, its square a 16th.

    It is flat, so that no interpolation matters.
    """
    size, gradient = (6, 10), np.full((6, 10, 3), -3e-4, np.float32)
    moments = gradient * (1 - B1**count), gradient**2 * (1 - B2**count)
    state = _state(size, size, count=count)._replace(
        optimizer=optax.ScaleByAdamState(np.int32(count), *map(np.float32, moments))
    )
    after: Any = warm_start(state, size, (12, 20), (12, 20), (B1, B2))
    shrunk = gradient[0, 0, 0] / 4
    assert int(after.optimizer.count) == EVIDENCE_STEPS == 1
    np.testing.assert_allclose(after.optimizer.mu, (1 - B1) * shrunk, rtol=1e-5)
    np.testing.assert_allclose(after.optimizer.nu, (1 - B2) * shrunk**2, rtol=1e-5)


def test_a_second_moment_never_falls_below_zero():
    """Lone bright pixels, beside which bicubic interpolation would swing under zero."""
    old, new = (9, 11), (13, 17)
    second = np.zeros((*old, 3), np.float32)
    second[::4, ::5] = 1e-3
    assert _enlarge(_bicubic, second, new).min() < -1e-5
    state = _state(old, old, count=4)
    moments = optax.ScaleByAdamState(np.int32(4), state.optimizer.mu, second)
    after: Any = warm_start(state._replace(optimizer=moments), old, new, (16, 17))
    assert after.optimizer.nu.min() >= 0
    assert after.optimizer.nu.max() > 0


def test_a_level_begins_at_step_0_with_a_new_trend_a_filled_average_and_arrays_of_its_own():
    state = _state((8, 12), (16, 16), count=3, outside=9.0)
    after: Any = warm_start(state, (8, 12), (11, 17), (16, 17))
    assert int(after.step) == 0
    assert float(after.averaged) == pytest.approx(1 - 0.9**3)
    assert np.isinf(after.trend.smoothed)
    assert np.isinf(after.trend.reference)
    assert not after.trend.converged
    assert after.finite
    before = {name: np.array(part) for name, part in _arrays(after).items()}
    for array in _arrays(state).values():
        array[:] = -1
    for name, part in _arrays(after).items():
        assert np.array_equal(part, before[name])


def test_the_first_level_begins_without_moments_and_without_an_average():
    pixels = np.random.default_rng(0).random((4, 5, 3), np.float32)
    state: Any = cold_start(pixels, (16, 16))
    assert np.array_equal(state.image[:4, :5], pixels)
    assert not state.image[4:].any()
    assert not state.image[:, 5:].any()
    assert not np.any(state.optimizer.mu)
    assert not np.any(state.optimizer.nu)
    assert (int(state.optimizer.count), int(state.step), float(state.averaged)) == (0, 0, 0.0)


def test_an_image_stays_in_its_range_where_lanczos_would_leave_it():
    edge = np.zeros((8, 12, 3), np.float32)
    edge[:, 6:] = 1
    assert np.abs(_enlarge(_lanczos, edge, (11, 17)) - 0.5).max() > 0.51
    state = _state((8, 12), (8, 12), count=1)._replace(image=edge, average=edge)
    after: Any = warm_start(state, (8, 12), (11, 17), (16, 17))
    for array in (after.image, after.average):
        assert array.min() == 0
        assert array.max() == 1


# Through the engine.


COARSE_STEPS = 5
JOBS = [
    tiny_job(
        0, steps=COARSE_STEPS, init="noise", seed=3, style_weight=2.0, tv_weight=0.5, adam_b1=B1
    ),
    tiny_job(1, (41, 48), steps=2),
    tiny_job(2, (33, 47), steps=3),
]
"""All on one canvas a level, the first the longest; more than slots, so that one refills."""

COARSE, FINE = (24, 34), LANDSCAPE
"""Sizes of the first job at its two levels."""


def _first_slot(tree):
    """One slot's leaves of a state of a batch."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def test_the_fine_level_begins_where_the_coarse_one_ended_and_steps_on_by_hand(studio):
    """From the coarse level's last state on, all in float64: warm start, gradient, Adam, average.

    Adam's bias is corrected for two steps: the one that the moments taken along count as, and this.
    """
    calls = studio.calls(JOBS, one_by_one=True, batch_size=2)
    coarse, fine = ([call for call in calls if call.canvas[1] == edge] for edge in (34, 48))
    assert len(coarse) == len(fine) == COARSE_STEPS
    job, (height, width) = JOBS[0], FINE
    last, first, after = map(_first_slot, (coarse[-1].after, fine[0].states, fine[0].after))
    start = _start_by_hand(last, COARSE, FINE)
    assert int(last.step) == COARSE_STEPS
    for name, expected in start.items():
        got = _arrays(first)[name]
        assert relative_error(got[:height, :width], expected) < 3e-6, name
        assert not got[height:].any(), name
    assert (int(first.optimizer.count), int(first.step)) == (1, 0)
    assert float(first.averaged) == pytest.approx(1 - 0.9**COARSE_STEPS)

    total, terms, gradient = expected_objective(job, studio.options, start["image"])
    mean = B1 * start["mu"] + (1 - B1) * gradient
    square = B2 * start["nu"] + (1 - B2) * gradient**2
    direction = mean / (1 - B1**2) / (np.sqrt(square / (1 - B2**2)) + EPSILON)
    image = np.clip(start["image"] - own_of(job).learning_rate * direction, 0, 1)
    filled = 0.9 * (1 - 0.9**COARSE_STEPS)
    average = (filled * start["average"] + 0.1 * image) / (filled + 0.1)

    assert int(after.step) == 1
    got = [after.terms.total, after.terms.content, after.terms.style, after.terms.tv]
    np.testing.assert_allclose(got, [total, *terms], rtol=1e-4)
    assert relative_error(after.optimizer.mu[:height, :width], mean) < 1e-4
    assert relative_error(after.optimizer.nu[:height, :width], square) < 1e-4
    np.testing.assert_allclose(after.image[:height, :width], image, rtol=0, atol=1e-4)
    np.testing.assert_allclose(after.average[:height, :width], average, rtol=0, atol=1e-4)
    assert float(after.averaged) == pytest.approx(filled + 0.1)

    alone = start["image"] - own_of(job).learning_rate * np.sign(gradient)
    assert np.abs(image - alone).max() > 0.005, "the moments must matter, or this shows nothing"
