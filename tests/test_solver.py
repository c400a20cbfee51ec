"""The solver: its steps are the ones by hand, and a job ends, or fails, for itself alone."""

import jax
import numpy as np
import optax
import pytest
from engine_jobs import (
    LANDSCAPE,
    Studio,
    copy_to_host,
    expected_objective,
    image_of,
    own_of,
    tiny_job,
    tiny_options,
)
from references import relative_error

from nst_jax.engine.device import solver
from nst_jax.engine.device.slot_batch import ChunkReport
from nst_jax.request.errors import NonFiniteError

STEPS = 3

run_chunk = jax.jit(solver.run_chunk)
"""The solver's program beneath the engine, so that a test may give it anything."""


def advance(studio, states, problems, num_steps):
    """States after so many steps, of which the report says the same."""
    after, told = run_chunk(states, problems, studio.programs.network, np.int32(num_steps))
    report = ChunkReport.read(told)
    np.testing.assert_array_equal(report.steps, after.step)
    np.testing.assert_array_equal(report.is_finite, after.finite)
    np.testing.assert_array_equal(report.ended_early, after.trend.converged | ~after.finite)
    np.testing.assert_array_equal(report.terms, np.stack(after.terms, axis=-1))
    return copy_to_host(after)


def spoil(problems, slot, part):
    """The problems with every number of one part of one slot no number."""

    def without(array):
        array = array.copy()
        array[slot] = np.nan
        return array

    return problems._replace(**{part: jax.tree.map(without, getattr(problems, part))})


def step_by_hand(job, options, image):
    """Image, its average, total and terms after each step of Adam, all in float64."""
    own = own_of(job)
    rate_share = {
        "constant": lambda _: 1.0,
        "cosine": optax.cosine_decay_schedule(1.0, STEPS, own.learning_rate_end),
        "exponential": optax.exponential_decay(1.0, STEPS, own.learning_rate_end),
    }[own.learning_rate_schedule]
    mean, square, average, filled = np.zeros(image.shape), np.zeros(image.shape), 0.0, 0.0
    for step in range(STEPS):
        total, terms, gradient = expected_objective(job, options, image)
        mean = own.adam_b1 * mean + (1 - own.adam_b1) * gradient
        square = own.adam_b2 * square + (1 - own.adam_b2) * gradient**2
        root = np.sqrt(square / (1 - own.adam_b2 ** (step + 1))) + own.adam_eps
        rate = own.learning_rate * float(rate_share(step))
        image = image - rate * mean / (1 - own.adam_b1 ** (step + 1)) / root
        image = np.clip(image, 0, 1) if own.clip == "each_step" else image
        average = own.average_decay * average + (1 - own.average_decay) * image
        filled = own.average_decay * filled + (1 - own.average_decay)
        yield image, average / filled, (total, *terms)


UNSORTED = {
    "content_taps": ("relu2_2", "conv1_2"),
    "style_taps": ("relu3_1", "pool1", "relu1_1"),
    "content_tap_weights": (0.8, 0.2),
    "style_tap_weights": (0.1, 0.3, 0.6),
}
"""Taps neither in the order of their names nor in the network's, each with its own weight."""

ADAMS = [
    {},
    {"tv_weight": 0.5, "style_weight": 2.0, "learning_rate": 0.03},
    {"adam_b1": 0.8, "adam_b2": 0.999, "adam_eps": 1e-3},
    {"learning_rate_schedule": "cosine", "learning_rate_end": 0.2, "adam_b1": 0.0},
    {"learning_rate_schedule": "exponential", "learning_rate_end": 0.01},
    {"clip": "end", "learning_rate": 0.2, "average_decay": 0.5},
    {"average_decay": 0.0},
    {"tv_weight": 0.5, "style_weight": 2.0, "learning_rate": 0.03, **UNSORTED},
]
"""One difference of each kind from job to job, all but the last in one program."""

# On noise, where no pixel is still, and with style taps of equal weight, no gradient of a picture
# is so near zero that rounding turns Adam around.
EVEN = {"init": "noise", "learning_rate": 0.05, "style_tap_weights": (1.0, 1.0)}
ADAM_JOBS = [
    tiny_job(number, steps=STEPS, seed=10 + number, **EVEN | changes)
    for number, changes in enumerate(ADAMS)
]


@pytest.fixture(scope="module")
def adam(narrow_file):
    """An engine, its calls one step each, and the slot in them, by job."""
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=8))
    last = studio.calls(ADAM_JOBS[-1:], one_by_one=True)  # the first, as its taps are the deepest
    calls = studio.calls(ADAM_JOBS[:-1], one_by_one=True)
    assert sum("step" in name for name in studio.programs.compiled) == 2, "taps alone differ"
    return studio, [*((calls, slot) for slot in range(len(ADAMS) - 1)), (last, 0)]


@pytest.mark.parametrize("index", range(len(ADAMS)), ids=[str(one) for one in ADAMS])
def test_steps_equal_the_ones_by_hand_whatever_the_job_asks(adam, index):
    studio, by_job = adam
    calls, slot = by_job[index]
    job, (height, width) = ADAM_JOBS[index], LANDSCAPE
    start = np.float64(calls[0].states.image[slot, :height, :width])
    expected = list(step_by_hand(job, studio.options, start))
    tolerances = (1e-5, 1e-4, 1e-4) if "tv_weight" in ADAMS[index] else (2e-4,) * 3
    for call, by_hand, atol in zip(calls, expected, tolerances, strict=True):
        image, average, losses = by_hand
        after = call.after
        got = after.image[slot, :height, :width], after.average[slot, :height, :width]
        np.testing.assert_allclose(got, (image, average), rtol=0, atol=atol)
        terms = after.terms
        got = [one[slot] for one in (terms.total, terms.content, terms.style, terms.tv)]
        np.testing.assert_allclose(got, losses, rtol=1e-4)
    assert [int(call.after.step[slot]) for call in calls] == [1, 2, 3]
    assert np.abs(image - start).max() > 0.03


def test_the_result_is_the_average_and_clipped_at_the_end_where_it_may_leave_its_range(adam):
    studio, by_job = adam
    results, (height, width) = studio.render(ADAM_JOBS), LANDSCAPE
    for job, result, (calls, slot) in zip(ADAM_JOBS, results, by_job, strict=True):
        average = calls[-1].after.average[slot, :height, :width]
        assert relative_error(image_of(result), np.clip(average, 0, 1)) < 1e-5
        if own_of(job).clip == "end":
            assert not (average.min() >= 0 and average.max() <= 1)
            assert (image_of(result).min(), image_of(result).max()) == (0, 1)
        last = calls[-1].after.image[slot, :height, :width]
        assert np.array_equal(last, average) == (own_of(job).average_decay == 0)


def test_a_job_stands_still_after_its_steps_and_padding_takes_none(one_level):
    short, long = tiny_job(0, steps=2), tiny_job(1, steps=5)
    call = one_level.calls([long, short])[0]
    two = advance(one_level, call.states, call.problems, 2)
    five = advance(one_level, two, call.problems, 3)
    beyond = advance(one_level, five, call.problems, 3)
    assert list(two.step) == [2, 2, 0, 0]
    assert list(five.step) == [5, 2, 0, 0]
    assert five.finite.all()
    assert not np.array_equal(two.image[0], five.image[0])
    for before, after, later in zip(*map(jax.tree.leaves, (two, five, beyond)), strict=True):
        assert before[1].tobytes() == after[1].tobytes()
        assert after.tobytes() == later.tobytes()


def test_pixels_stay_in_range(one_level):
    """A rate of a whole range a step throws every pixel against a wall."""
    result = one_level.render([tiny_job(0, learning_rate=1.0)])[0]
    image = image_of(result)
    assert image.min() == 0
    assert image.max() == 1


@pytest.mark.parametrize("part", ["learning_rate", "targets", "weights"])
def test_a_job_that_leaves_the_finite_numbers_keeps_its_last_finite_image(one_level, part):
    """One job turns bad after two good steps; the neighbours never know."""
    call = one_level.calls([tiny_job(number, steps=5) for number in range(3)])[0]
    good = advance(one_level, call.states, call.problems, 2)
    undisturbed = advance(one_level, good, call.problems, 3)
    spoilt = spoil(call.problems, 1, part)
    after = advance(one_level, good, spoilt, 3)
    assert list(after.finite) == [True, False, True, True]
    assert list(after.step[:3]) == [5, 2, 5]
    assert after.image[1].tobytes() == good.image[1].tobytes()
    assert np.isfinite(after.terms.total).all()
    for one, other in zip(jax.tree.leaves(undisturbed), jax.tree.leaves(after), strict=True):
        for slot in (0, 2, 3):
            assert one[slot].tobytes() == other[slot].tobytes()
    mended = advance(one_level, after, call.problems, 3)
    assert mended.image[1].tobytes() == good.image[1].tobytes(), "a failed job stays failed"
    assert not mended.finite[1]


def test_a_weight_that_overflows_adam_is_reported_or_harmless(one_level):
    """A squared gradient may overflow where the total does not; then no step would move."""
    weights = [{"style_weight": weight} for weight in (1e22, 1e26, 1e30, 1e37)]
    usual, *results = one_level.render(
        tiny_job(0, **own) for own in ({"content_weight": 0.0, "tv_weight": 0.0}, *weights)
    )
    for result in results:
        if result.error:
            assert isinstance(result.error, NonFiniteError)
        else:
            assert relative_error(image_of(result), image_of(usual)) < 0.05
