"""Optimisers: Adam as each job asks for it, by hand; L-BFGS beside SciPy's, and its laws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from engine_jobs import (
    LANDSCAPE,
    PORTRAIT,
    Studio,
    expected_objective,
    image_of,
    own_of,
    same,
    tiny_job,
    tiny_options,
    write_narrow_weights,
)

from nst_jax.engine.device.optimizers import Schedule
from nst_jax.engine.plan.levels import make_levels
from nst_jax.request.options import JobOptions, Options

STEPS = 3
ADAMS = [
    {},
    {"adam_b1": 0.8, "adam_b2": 0.999, "adam_eps": 1e-3},
    {"learning_rate_schedule": "cosine", "learning_rate_end": 0.2, "adam_b1": 0.0},
    {"learning_rate_schedule": "exponential", "learning_rate_end": 0.01},
    {"clip": "end", "learning_rate": 0.2, "average_decay": 0.5},
    {"average_decay": 0.0},
]
"""One difference of each kind from job to job, all in one program."""

ADAM_JOBS = [
    tiny_job(
        number,
        **{"steps": STEPS, "init": "noise", "seed": number, "learning_rate": 0.05}
        | {"style_tap_weights": (1.0, 1.0)}
        | changes,
    )
    for number, changes in enumerate(ADAMS)
]


@pytest.fixture(scope="module")
def level(narrow_file):
    return Studio(tiny_options(narrow_file, levels=1, batch_size=8))


@pytest.fixture(scope="module")
def last_call(level):
    """First states and problems of the Adam jobs, and the states after their last step."""
    calls = level.calls(ADAM_JOBS)
    return calls[0].states, calls[-1].after


def share(own: JobOptions, step: int) -> float:
    """What a step's rate is of the first one's, from optax's own schedules."""
    if own.learning_rate_schedule == "cosine":
        return float(optax.cosine_decay_schedule(1.0, STEPS, own.learning_rate_end)(step))
    if own.learning_rate_schedule == "exponential":
        return float(optax.exponential_decay(1.0, STEPS, own.learning_rate_end)(step))
    return 1.0


def by_hand(job, options, image):
    """The image and its average after the steps, in float64."""
    own = own_of(job)
    mean, square, average, filled = np.zeros(image.shape), np.zeros(image.shape), 0.0, 0.0
    for step in range(STEPS):
        gradient = expected_objective(job, options, image)[2]
        mean = own.adam_b1 * mean + (1 - own.adam_b1) * gradient
        square = own.adam_b2 * square + (1 - own.adam_b2) * gradient**2
        root = np.sqrt(square / (1 - own.adam_b2 ** (step + 1))) + own.adam_eps
        rate = own.learning_rate * share(own, step)
        image = image - rate * mean / (1 - own.adam_b1 ** (step + 1)) / root
        image = np.clip(image, 0, 1) if own.clip == "each_step" else image
        average = own.average_decay * average + (1 - own.average_decay) * image
        filled = own.average_decay * filled + (1 - own.average_decay)
    return image, average / filled


@pytest.mark.parametrize("index", range(len(ADAMS)), ids=[str(one) for one in ADAMS])
def test_adam_s_steps_are_the_ones_by_hand_whatever_the_job_asks(level, last_call, index):
    first, last = last_call
    job, (height, width) = ADAM_JOBS[index], LANDSCAPE
    start = np.float64(first.image[index, :height, :width])
    image, average = by_hand(job, level.options, start)
    np.testing.assert_allclose(last.image[index, :height, :width], image, rtol=0, atol=2e-4)
    np.testing.assert_allclose(last.average[index, :height, :width], average, rtol=0, atol=2e-4)
    assert np.abs(image - start).max() > 0.03


def test_what_adam_is_told_is_no_compilation(level, last_call):
    assert len([name for name in level.programs.compiled if "step" in name]) == 1


def test_a_picture_is_clipped_at_the_end_where_it_may_leave_its_range(level, last_call):
    index = next(number for number, one in enumerate(ADAMS) if one.get("clip") == "end")
    _, last = last_call
    assert not (last.average[index].min() >= 0 and last.average[index].max() <= 1)
    image = image_of(level.render(ADAM_JOBS)[index])
    assert (image.min(), image.max()) == (0, 1)


def test_without_a_memory_the_result_is_the_last_image(last_call):
    _, last = last_call
    index = next(number for number, one in enumerate(ADAMS) if one.get("average_decay") == 0)
    np.testing.assert_array_equal(last.image[index], last.average[index])


@pytest.mark.parametrize("end", [0.1, 1.0])
@pytest.mark.parametrize("kind", ["constant", "cosine", "exponential"])
def test_a_schedule_is_optax_s(kind, end):
    steps, own = 20, JobOptions(learning_rate_schedule=kind, learning_rate_end=end)
    for step in (0, 7, 19):
        schedule = Schedule(
            jnp.float32(kind == "cosine"),
            jnp.float32(kind == "exponential"),
            jnp.float32(end),
            jnp.int32(steps),
        )
        known = {
            "constant": lambda _: 1.0,
            "cosine": optax.cosine_decay_schedule(1.0, steps, own.learning_rate_end),
            "exponential": optax.exponential_decay(1.0, steps, own.learning_rate_end),
        }
        expected = float(known[kind](step))
        assert float(schedule.multiplier(jnp.int32(step))) == pytest.approx(expected, rel=1e-5)


def test_the_first_level_may_have_steps_of_its_own():
    own = JobOptions(steps=10, first_steps=25, content_taps=("relu5_1",))
    made = make_levels((128, 40), Options(size=128, levels=5), own)
    assert [level.steps for level in made] == [25] + [10] * (len(made) - 1)
    assert made[0].index > 0, "the coarsest levels are too narrow, so another is its first"


# Gradients by their direction alone.


def test_unit_gradients_and_plain_ones_go_through_a_run_each_as_alone(narrow_file):
    """They are two programs; the neighbours of the other kind change nothing."""
    studio = Studio(tiny_options(narrow_file, levels=1))
    jobs = [
        tiny_job(number, gradient_normalization=kind)
        for number, kind in enumerate(["l1", "none", "l1"])
    ]
    together = studio.render(jobs)
    for job, result in zip(jobs, together, strict=True):
        assert same(studio.render([job])[0], result)
    named = [name for name in studio.programs.compiled if name.startswith("step")]
    assert sorted(name.endswith("with unit gradients") for name in named) == [False, True]


def test_a_unit_gradient_does_not_know_how_large_its_loss_is(narrow_file):
    """A quarter of the content's scale: the same picture, where a plain one is another."""
    studio = Studio(tiny_options(narrow_file, levels=1))
    kinds = {"l1": [], "none": []}
    for kind, images in kinds.items():
        for normalization in ("mean", "quarter_mean"):
            job = tiny_job(
                0,
                gradient_normalization=kind,
                content_normalization=normalization,
                style_normalization="relative",
                content_weight=300.0,
                tv_weight=0.0,
                init="noise",
            )
            images.append(image_of(studio.render([job])[0]))
    np.testing.assert_allclose(*kinds["l1"], rtol=0, atol=1e-4)
    assert np.abs(kinds["none"][0] - kinds["none"][1]).max() > 1e-3


# L-BFGS.

LBFGS_STEPS = 12
LBFGS = {"steps": LBFGS_STEPS, "clip": "end", "average_decay": 0.0}
LBFGS_JOBS = [
    tiny_job(0, **LBFGS),
    tiny_job(1, **LBFGS | {"steps": 7}, style_weight=3.0),
    tiny_job(2, PORTRAIT, **LBFGS),
    tiny_job(3, **LBFGS, init="noise", seed=5),
    tiny_job(4, (33, 47), **LBFGS | {"steps": 9}),
]


@pytest.fixture(scope="module")
def lbfgs(narrow_file):
    return Studio(tiny_options(narrow_file, optimizer="lbfgs", batch_size=2))


@pytest.fixture(scope="module")
def lbfgs_together(lbfgs):
    return lbfgs.render(LBFGS_JOBS)


def test_l_bfgs_gets_as_far_as_scipy_s(narrow_file):
    """From the same start, with as many steps; SciPy in float64 with a line search of its own."""
    studio = Studio(tiny_options(narrow_file, optimizer="lbfgs", levels=1, batch_size=1))
    job = tiny_job(3, **LBFGS, init="noise", seed=5, tv_weight=0.1)
    call = studio.calls([job])[0]
    height, width = LANDSCAPE
    start = np.float64(call.states.image[0, :height, :width])
    final = np.float64(studio.calls([job])[-1].after.image[0, :height, :width])

    def value_and_slope(flat):
        total, _, slope = expected_objective(job, studio.options, flat.reshape(start.shape))
        return total, slope.ravel()

    best = scipy.optimize.minimize(
        value_and_slope,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": LBFGS_STEPS, "maxcor": 10},
    )
    before, after = (expected_objective(job, studio.options, one)[0] for one in (start, final))
    assert best.fun < 0.2 * before
    assert after < 1.15 * best.fun


def test_l_bfgs_never_rises(narrow_file):
    studio = Studio(tiny_options(narrow_file, optimizer="lbfgs", levels=1, batch_size=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nst_jax.engine.schedule.scheduler._CHUNK_S", 0.0)
        calls = studio.calls([tiny_job(0, **LBFGS)])
    totals = [float(call.after.terms.total[0]) for call in calls]
    assert len(totals) == LBFGS_STEPS
    for earlier, later in itertools.pairwise(totals):
        assert later <= earlier * (1 + 1e-5)
    assert totals[-1] < 0.7 * totals[0]


@pytest.mark.parametrize("index", range(len(LBFGS_JOBS)))
def test_a_job_by_l_bfgs_alone_gives_the_bytes_it_gives_among_others(lbfgs, lbfgs_together, index):
    """In whatever slot, and where it refills one: no memory and no line search is shared."""
    assert same(lbfgs.render([LBFGS_JOBS[index]])[0], lbfgs_together[index])


def test_the_order_of_jobs_by_l_bfgs_changes_no_byte(lbfgs, lbfgs_together):
    again = lbfgs.render(LBFGS_JOBS[::-1])[::-1]
    for one, other in zip(again, lbfgs_together, strict=True):
        assert same(one, other)


def test_a_neighbour_by_l_bfgs_that_leaves_the_finite_numbers_is_not_noticed(lbfgs, lbfgs_together):
    far = tiny_job(1, **LBFGS, content_weight=3e38, style_weight=3e38)
    fine, failed = lbfgs.render([LBFGS_JOBS[0], far])
    assert failed.error
    assert same(fine, lbfgs_together[0])


def test_l_bfgs_begins_each_level_afresh_where_the_image_of_the_last_is(lbfgs):
    calls = lbfgs.calls(LBFGS_JOBS[:1])
    coarse = [call for call in calls if call.canvas[1] == 34]
    fine = [call for call in calls if call.canvas[1] == 48]
    assert np.abs(coarse[-1].after.optimizer[0].diff_params_memory[0]).max() > 0
    for leaf in jax.tree.leaves(fine[0].states.optimizer):
        assert not np.any(leaf)
    assert np.abs(fine[0].states.image).max() > 0
    assert not np.array_equal(fine[0].states.image[0, :34, :48], np.asarray(LBFGS_JOBS[0].content))


def test_l_bfgs_goes_with_winograd(tmp_path):
    """On a CPU and from 64 channels on; kernels have a form of their own there."""
    wide = write_narrow_weights(tmp_path / "wide.h5", channels=(4, 64, 128, 12, 12))
    options = tiny_options(wide, optimizer="lbfgs", levels=1, steps=2, batch_size=1)
    (result,) = Studio(options).render([tiny_job(0, steps=2)])
    assert result.error is None
    assert result.steps == 2
