"""From level to level: what a job takes along is what it says, by hand and in float64."""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from engine_jobs import LANDSCAPE, expected_objective, own_of, tiny_job
from references import relative_error
from references_resampling import Size, bicubic, lanczos, resample, triangle

from nst_jax.engine.device import optimizers
from nst_jax.engine.device import warm_start as module
from nst_jax.engine.device.solver import LossTrend, State
from nst_jax.engine.device.warm_start import EVIDENCE_STEPS, cold_start
from nst_jax.model.objective import Terms

B1, B2, EPSILON = 0.8, 0.99, 1e-8

_COMPILED = jax.jit(module.warm_start, static_argnames="canvas")


def warm_start(
    state: Any,
    old: Size,
    new: Size,
    canvas: Size,
    decays: tuple[float, float] = (B1, B2),
    *,
    is_grey: bool = False,
) -> Any:
    """The compiled function with nothing but the canvas static; host arrays in and out."""
    sizes = np.int32(old), np.int32(new)
    after = _COMPILED(state, *sizes, canvas, np.float32(decays), np.bool_(is_grey))
    return jax.tree.map(np.array, after)


# The reference.


def _start_by_hand(state: Any, old: Size, new: Size) -> dict[str, np.ndarray]:
    """What the next level begins with, in float64, from the last state of the one before."""
    height, width = old
    average, first, second = (
        np.array(array[:height, :width], np.float64)
        for array in (state.average, state.optimizer.mu, state.optimizer.nu)
    )
    count = int(state.optimizer.count)
    ratio = height * width / (new[0] * new[1])
    first = ratio * resample(bicubic, first / (1 - B1**count), new)
    second = ratio**2 * resample(triangle, second / (1 - B2**count), new)
    return {
        "image": np.clip(resample(lanczos, average, new), 0, 1),
        "mu": (1 - B1) * first,
        "nu": (1 - B2) * second,
    }


def _arrays(state: Any) -> dict[str, np.ndarray]:
    return {
        "image": state.image,
        "mu": state.optimizer.mu,
        "nu": state.optimizer.nu,
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
    assert resample(bicubic, second, new).min() < -1e-5
    state = _state(old, old, count=4)
    moments = optax.ScaleByAdamState(np.int32(4), state.optimizer.mu, second)
    after: Any = warm_start(state._replace(optimizer=moments), old, new, (16, 17))
    assert after.optimizer.nu.min() >= 0
    assert after.optimizer.nu.max() > 0


def test_a_level_begins_at_step_0_with_a_new_trend_and_a_new_average():
    """Where nothing counts yet, it is the image itself."""
    state = _state((8, 12), (16, 16), count=3, outside=9.0)
    after: Any = warm_start(state, (8, 12), (11, 17), (16, 17))
    assert int(after.step) == 0
    assert float(after.averaged) == 0
    assert np.array_equal(after.average, after.image)
    assert np.isinf(after.trend.smoothed)
    assert np.isinf(after.trend.reference)
    assert not after.trend.converged
    assert list(after.terms) == [0] * len(after.terms)
    assert after.finite


def test_the_first_level_begins_without_moments_and_without_an_average():
    pixels = np.random.default_rng(0).random((4, 5, 3), np.float32)
    state: Any = cold_start(pixels, (16, 16))
    assert np.array_equal(state.image[:4, :5], pixels)
    assert not state.image[4:].any()
    assert not state.image[:, 5:].any()
    assert not np.any(state.optimizer.mu)
    assert not np.any(state.optimizer.nu)
    assert (int(state.optimizer.count), int(state.step), float(state.averaged)) == (0, 0, 0.0)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(state)), "on the host"


def test_an_image_stays_in_its_range_where_lanczos_would_leave_it():
    edge = np.zeros((8, 12, 3), np.float32)
    edge[:, 6:] = 1
    assert np.abs(resample(lanczos, edge, (11, 17)) - 0.5).max() > 0.51
    state = _state((8, 12), (8, 12), count=1)._replace(average=edge)
    after: Any = warm_start(state, (8, 12), (11, 17), (16, 17))
    assert after.image.min() == 0
    assert after.image.max() == 1


def test_a_job_that_left_the_finite_numbers_stands_still_at_the_next_level_too():
    state = _state((8, 12), (8, 12), count=3)
    assert not warm_start(
        state._replace(finite=np.bool_(False)), (8, 12), (11, 17), (16, 17)
    ).finite


@pytest.mark.parametrize("decays", [(0.8, 0.99), (0.0, 0.999), (0.9, 0.9999)])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 300, 100_000])
def test_evidence_is_counted_to_the_last_digits(decays, count):
    """Of float32 decays, which are Adam's; a count of no step is one of one."""
    b1, b2 = np.float32(decays)
    got = jax.jit(module._evidence_weights)(np.int32(count), np.stack([b1, b2]))
    expected = [(1 - b) / (1 - b ** max(count, 1)) for b in map(float, (b1, b2))]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_grey_job_starts_without_colours_and_grey_pixels_keep_their_grey():
    """Luma before it is enlarged, where what is cut off at the end is another thing."""
    old, new, canvas = (9, 13), (13, 19), (16, 24)
    state = _state(old, (12, 16), count=3, outside=np.nan)
    after = warm_start(state, old, new, canvas, is_grey=True)
    assert (after.image == after.image[..., :1]).all()
    luma = np.float64(state.average[: old[0], : old[1]]) @ [0.299, 0.587, 0.114]
    expected = np.clip(resample(lanczos, luma[..., None].repeat(3, -1), new), 0, 1)
    assert relative_error(after.image[: new[0], : new[1]], expected) < 3e-6
    coloured = warm_start(state, old, new, canvas)
    assert np.ptp(coloured.image, axis=-1).max() > 0.1
    for name in ("mu", "nu", "count"):
        moment, same = (getattr(one.optimizer, name) for one in (after, coloured))
        assert np.array_equal(moment, same)

    grey = _arrays(state)["image"][..., :1].repeat(3, axis=-1)
    state = state._replace(average=grey)
    kept, looked_at = (warm_start(state, old, new, canvas, is_grey=one) for one in (False, True))
    assert np.array_equal(kept.image[..., 0], looked_at.image[..., 0]), "to the bit"


def test_line_searches_begin_with_an_empty_memory_on_the_new_canvas():
    memory = jax.tree.map(lambda leaf: leaf + 1, optimizers.init_state("lbfgs", (8, 16)))
    state = _state((8, 12), (8, 16), count=3)._replace(optimizer=memory)
    after = warm_start(state, (8, 12), (11, 17), (16, 17))
    fresh = cold_start(np.zeros((1, 1, 3), np.float32), (16, 17), "lbfgs")
    jax.tree.map(np.testing.assert_array_equal, after.optimizer, fresh.optimizer)
    expected = resample(lanczos, state.average[:8, :12], (11, 17))
    assert relative_error(after.image[:11, :17], np.clip(expected, 0, 1)) < 3e-6


@pytest.mark.parametrize("kind", ["adam", "lbfgs"])
def test_a_later_level_starts_with_the_types_of_the_first_and_sizes_are_one_program(kind):
    """Or the step would be compiled once more; weak types count there."""
    first = jax.eval_shape(lambda: cold_start(np.zeros((1, 1, 3), np.float32), (16, 24), kind))
    compiled = jax.jit(lambda *given: module.warm_start(*given[:3], (16, 24), *given[3:]))
    state = cold_start(np.ones((5, 6, 3), np.float32), (12, 16), kind)
    for old, new in (((5, 6), (9, 11)), ((12, 16), (16, 24)), ((1, 3), (2, 5))):
        after = compiled(
            state, np.int32(old), np.int32(new), np.float32((B1, B2)), np.bool_(new[0] == 9)
        )
        for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(first), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            assert not one.weak_type
    assert compiled._cache_size() == 1


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
    assert float(first.averaged) == 0

    total, terms, gradient = expected_objective(job, studio.options, start["image"])
    mean = B1 * start["mu"] + (1 - B1) * gradient
    square = B2 * start["nu"] + (1 - B2) * gradient**2
    direction = mean / (1 - B1**2) / (np.sqrt(square / (1 - B2**2)) + EPSILON)
    image = np.clip(start["image"] - own_of(job).learning_rate * direction, 0, 1)

    assert int(after.step) == 1
    got = [after.terms.total, after.terms.content, after.terms.style, after.terms.tv]
    np.testing.assert_allclose(got, [total, *terms], rtol=1e-4)
    assert relative_error(after.optimizer.mu[:height, :width], mean) < 1e-4
    assert relative_error(after.optimizer.nu[:height, :width], square) < 1e-4
    np.testing.assert_allclose(after.image[:height, :width], image, rtol=0, atol=1e-4)
    np.testing.assert_allclose(after.average[:height, :width], image, rtol=0, atol=1e-4)
    assert float(after.averaged) == pytest.approx(0.1)

    alone = start["image"] - own_of(job).learning_rate * np.sign(gradient)
    assert np.abs(image - alone).max() > 0.005, "the moments must matter, or this shows nothing"
