"""The solver: its steps are the ones by hand, and a job ends, or fails, for itself alone."""

import jax
import numpy as np
import pytest
from engine_jobs import (
    LANDSCAPE,
    Studio,
    expected_objective,
    image_of,
    own_of,
    tiny_job,
    tiny_options,
)
from references import relative_error

from nst_jax.engine.device import solver
from nst_jax.request.errors import NonFiniteError

B1, B2, EPSILON = 0.9, 0.99, 1e-8


@pytest.fixture(scope="module")
def level(narrow_file):
    """An engine of one level, so that a content of 48 px is never scaled."""
    return Studio(tiny_options(narrow_file, levels=1))


TRACES = []


@jax.jit
def _run_chunk(*arguments):
    """The solver's program beneath the engine, so that a test may give it anything."""
    TRACES.append(None)
    return solver.run_chunk(*arguments)


def _advanced(studio, states, problems, num_steps):
    after = _run_chunk(states, problems, studio.programs.network, np.int32(num_steps))
    return jax.tree.map(np.array, jax.device_get(after))


def _spoilt(problems, slot, part):
    """The problems with every number of one part of one slot no number."""

    def without(array):
        array = array.copy()
        array[slot] = np.nan
        return array

    return problems._replace(**{part: jax.tree.map(without, getattr(problems, part))})


def _by_hand(job, options, image, steps):
    """Images and terms after each of `steps` steps in float64: gradient, Adam, clip."""
    mean, square = np.zeros(image.shape), np.zeros(image.shape)
    for step in range(steps):
        total, terms, gradient = expected_objective(job, options, image)
        mean = B1 * mean + (1 - B1) * gradient
        square = B2 * square + (1 - B2) * gradient**2
        corrected = np.sqrt(square / (1 - B2 ** (step + 1))) + EPSILON
        direction = mean / (1 - B1 ** (step + 1)) / corrected
        image = np.clip(image - own_of(job).learning_rate * direction, 0, 1)
        yield image, total, terms


EVEN = {"style_tap_weights": (1.0, 1.0)}
"""With these no gradient of the picture is so near zero that rounding turns Adam around."""

UNSORTED = {
    "content_taps": ("relu2_2", "conv1_2"),
    "style_taps": ("relu3_1", "pool1", "relu1_1"),
    "content_tap_weights": (0.8, 0.2),
    "style_tap_weights": (0.1, 0.3, 0.6),
}
"""Taps neither in the order of their names nor in the network's, each with its own weight."""


@pytest.mark.parametrize("taps", [EVEN, UNSORTED], ids=["two taps", "five in any order"])
def test_steps_equal_the_ones_by_hand(narrow_file, taps):
    """On noise, where no pixel is still and Adam's quotient is not one of two tiny numbers."""
    own = {"init": "noise", "seed": 4, "tv_weight": 0.5, "style_weight": 2.0, "learning_rate": 0.03}
    job = tiny_job(0, steps=3, **own, **taps)
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=1))
    calls = studio.calls([job])
    height, width = LANDSCAPE
    start = np.float64(calls[0].states.image[0, :height, :width])
    expected = list(_by_hand(job, studio.options, start, 3))
    assert int(calls[0].after.step[0]) == 1
    first = calls[0].after.image[0, :height, :width]
    np.testing.assert_allclose(first, expected[0][0], rtol=0, atol=1e-5)
    last = calls[-1].after
    assert int(last.step[0]) == 3
    final, total, terms = expected[2]
    np.testing.assert_allclose(last.image[0, :height, :width], final, rtol=0, atol=1e-4)
    got = [last.terms.total[0], last.terms.content[0], last.terms.style[0], last.terms.tv[0]]
    np.testing.assert_allclose(got, [total, *terms], rtol=1e-4)
    assert np.abs(final - start).max() > 0.03


def test_the_result_is_the_weighted_mean_of_all_iterates(narrow_file):
    """The last counts 1, the one before 0.9, and so on; in float64, from the images alone."""
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=1))
    [result] = studio.render([tiny_job(0, steps=6)])
    call = studio.calls([tiny_job(0, steps=6)])[0]
    states, images = call.states, []
    for _ in range(6):
        states = _advanced(studio, states, call.problems, 1)
        images.append(np.float64(states.image[0]))
    weights = 0.9 ** np.arange(5, -1, -1)
    expected = np.average(images, axis=0, weights=weights)
    np.testing.assert_allclose(states.average[0], expected, rtol=0, atol=1e-6)
    height, width = LANDSCAPE
    assert relative_error(image_of(result), expected[:height, :width]) < 1e-5
    assert relative_error(image_of(result), images[-1][:height, :width]) > 1e-3


def test_a_job_stands_still_after_its_steps(level):
    short, long = tiny_job(0, steps=2), tiny_job(1, steps=5)
    call = level.calls([long, short])[0]
    two = _advanced(level, call.states, call.problems, 2)
    five = _advanced(level, two, call.problems, 3)
    assert list(two.step[:2]) == [2, 2]
    assert list(five.step[:2]) == [5, 2]
    assert not np.array_equal(two.image[0], five.image[0])
    for before, after in zip(jax.tree.leaves(two), jax.tree.leaves(five), strict=True):
        assert before[1].tobytes() == after[1].tobytes()
    beyond = _advanced(level, five, call.problems, 3)
    for before, after in zip(jax.tree.leaves(five), jax.tree.leaves(beyond), strict=True):
        assert before.tobytes() == after.tobytes()


def test_padding_takes_no_step(level):
    call = level.calls([tiny_job(0)])[-1]
    assert list(call.after.step) == [4, 0, 0, 0]
    assert call.after.finite.all()


def test_pixels_stay_in_range(level):
    """A rate of a whole range a step throws every pixel against a wall."""
    result = level.render([tiny_job(0, learning_rate=1.0)])[0]
    image = image_of(result)
    assert image.min() == 0
    assert image.max() == 1


def test_chunks_of_any_length_are_the_same_steps_and_one_compilation(level):
    call = level.calls([tiny_job(0, steps=6), tiny_job(1, steps=6)])[0]
    at_once = _advanced(level, call.states, call.problems, 6)
    before = len(TRACES)
    for lengths in ((1,) * 6, (2, 4), (5, 1), (3, 9)):
        states = call.states
        for length in lengths:
            states = _advanced(level, states, call.problems, length)
        assert list(states.step[:2]) == [6, 6]
        np.testing.assert_allclose(states.terms.total, at_once.terms.total, rtol=1e-5)
        np.testing.assert_allclose(states.image, at_once.image, rtol=0, atol=1e-4)
    assert len(TRACES) == before


@pytest.mark.parametrize("part", ["learning_rate", "targets", "weights"])
def test_a_job_that_leaves_the_finite_numbers_keeps_its_last_finite_image(level, part):
    """One job turns bad after two good steps; the neighbours never know."""
    call = level.calls([tiny_job(number, steps=5) for number in range(3)])[0]
    good = _advanced(level, call.states, call.problems, 2)
    undisturbed = _advanced(level, good, call.problems, 3)
    spoilt = _spoilt(call.problems, 1, part)
    after = _advanced(level, good, spoilt, 3)
    assert list(after.finite) == [True, False, True, True]
    assert list(after.step[:3]) == [5, 2, 5]
    assert after.image[1].tobytes() == good.image[1].tobytes()
    assert np.isfinite(after.terms.total).all()
    for one, other in zip(jax.tree.leaves(undisturbed), jax.tree.leaves(after), strict=True):
        for slot in (0, 2, 3):
            assert one[slot].tobytes() == other[slot].tobytes()
    mended = _advanced(level, after, call.problems, 3)
    assert mended.image[1].tobytes() == good.image[1].tobytes(), "a failed job stays failed"
    assert not mended.finite[1]


def test_a_total_that_overflows_is_reported(level):
    far = tiny_job(1, init="noise", content_weight=3e38, style_weight=3e38)
    alone = level.render([tiny_job(0)])[0]
    fine, failed = level.render([tiny_job(0), far])
    assert image_of(fine).tobytes() == image_of(alone).tobytes()
    assert fine.losses == alone.losses
    assert isinstance(failed.error, NonFiniteError)
    assert failed.image is None
    assert "finite" in str(failed.error)


@pytest.mark.parametrize("weight", [1e22, 1e26, 1e30, 1e37])
def test_a_weight_that_overflows_adam_is_reported_or_harmless(level, weight):
    """A squared gradient may overflow where the total does not; then no step would move."""
    result = level.render([tiny_job(0, style_weight=weight)])[0]
    usual = level.render([tiny_job(0, content_weight=0.0, tv_weight=0.0)])[0]
    if result.error:
        assert isinstance(result.error, NonFiniteError)
    else:
        assert relative_error(image_of(result), image_of(usual)) < 0.05
