"""Optimisers beside others: schedules and optax, L-BFGS and SciPy. Adam is in `test_solver.py`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from engine_jobs import (
    LANDSCAPE,
    Studio,
    assert_same,
    expected_objective,
    image_of,
    same,
    tiny_job,
    tiny_options,
    write_narrow_weights,
)

from nst_jax.engine.device.optimizers import Schedule
from nst_jax.engine.plan.levels import make_levels
from nst_jax.request.options import JobOptions, Options


@pytest.mark.parametrize("end", [0.1, 1.0])
@pytest.mark.parametrize("kind", ["constant", "cosine", "exponential"])
def test_a_schedule_is_optax_s(kind, end):
    known = {
        "constant": lambda _: 1.0,
        "cosine": optax.cosine_decay_schedule(1.0, 20, end),
        "exponential": optax.exponential_decay(1.0, 20, end),
    }
    flags = (jnp.float32(kind == name) for name in ("cosine", "exponential"))
    schedule = Schedule(*flags, jnp.float32(end), jnp.int32(20))
    for step in (0, 7, 19):
        got = float(schedule.multiplier(jnp.int32(step)))
        assert got == pytest.approx(float(known[kind](step)), rel=1e-5)


def test_the_first_level_may_have_steps_of_its_own():
    own = JobOptions(steps=10, first_steps=25, content_taps=("relu5_1",))
    made = make_levels((128, 40), Options(size=128, levels=5), own)
    assert [level.steps for level in made] == [25] + [10] * (len(made) - 1)
    assert made[0].index > 0, "the coarsest levels are too narrow, so another is its first"


# Gradients by their direction alone.


def test_unit_gradients_and_plain_ones_go_through_a_run_each_as_alone(one_level):
    """They are two programs; the neighbours of the other kind change nothing."""
    kinds = ["l1", "none", "l1"]
    jobs = [tiny_job(number, gradient_normalization=kind) for number, kind in enumerate(kinds)]
    assert_same(one_level.render(jobs), one_level.render_alone(jobs))
    named = [name for name in one_level.programs.compiled if name.startswith("step 48x48 x 4 ")]
    assert {name.endswith("with unit gradients") for name in named} == {False, True}


def test_a_unit_gradient_does_not_know_how_large_its_loss_is(one_level):
    """A quarter of the content's scale: the same picture, where a plain one is another."""
    own = {
        "style_normalization": "relative",
        "content_weight": 300.0,
        "tv_weight": 0.0,
        "init": "noise",
    }
    unit, again, plain, other = map(
        image_of,
        one_level.render(
            tiny_job(0, gradient_normalization=kind, content_normalization=scale, **own)
            for kind in ("l1", "none")
            for scale in ("mean", "quarter_mean")
        ),
    )
    np.testing.assert_allclose(unit, again, rtol=0, atol=1e-4)
    assert np.abs(plain - other).max() > 1e-3


# L-BFGS.

LBFGS_STEPS = 12
LBFGS = {"steps": LBFGS_STEPS, "clip": "end", "average_decay": 0.0}
LBFGS_JOBS = [
    tiny_job(0, **LBFGS),
    tiny_job(1, **LBFGS | {"steps": 7}, style_weight=3.0),
    tiny_job(2, (40, 48), **LBFGS),
    tiny_job(3, **LBFGS, init="noise", seed=5),
    tiny_job(4, (33, 47), **LBFGS | {"steps": 9}),
]


@pytest.fixture(scope="module")
def lbfgs(narrow_file):
    return Studio(tiny_options(narrow_file, optimizer="lbfgs", batch_size=2))


@pytest.fixture(scope="module")
def lbfgs_alone(narrow_file):
    return Studio(tiny_options(narrow_file, optimizer="lbfgs", levels=1, batch_size=2))


def test_l_bfgs_gets_as_far_as_scipy_s(lbfgs_alone):
    """From the same start, with as many steps; SciPy in float64 with a line search of its own."""
    job = tiny_job(3, **LBFGS, init="noise", seed=5, tv_weight=0.1)
    calls, (height, width) = lbfgs_alone.calls([job]), LANDSCAPE
    start, final = (
        np.float64(state.image[0, :height, :width]) for state in (calls[0].states, calls[-1].after)
    )

    def value_and_slope(flat):
        total, _, slope = expected_objective(job, lbfgs_alone.options, flat.reshape(start.shape))
        return total, slope.ravel()

    best = scipy.optimize.minimize(
        value_and_slope,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": LBFGS_STEPS, "maxcor": 10},
    )
    assert best.fun < 0.2 * value_and_slope(start)[0]
    assert value_and_slope(final)[0] < 1.15 * best.fun


def test_l_bfgs_never_rises(lbfgs_alone):
    calls = lbfgs_alone.calls([tiny_job(0, **LBFGS)], one_by_one=True)
    totals = [float(call.after.terms.total[0]) for call in calls]
    assert len(totals) == LBFGS_STEPS
    for earlier, later in itertools.pairwise(totals):
        assert later <= earlier * (1 + 1e-5)
    assert totals[-1] < 0.7 * totals[0]


def test_jobs_by_l_bfgs_keep_their_bytes_alone_and_in_any_order(lbfgs):
    """In whatever slot, and where one refills it: no memory and no line search is shared.

    A neighbour that leaves the finite numbers is not noticed either.
    """
    together = lbfgs.render(LBFGS_JOBS)
    assert_same(lbfgs.render_alone(LBFGS_JOBS), together)
    far = tiny_job(1, **LBFGS, content_weight=3e38, style_weight=3e38)
    failed, *again = lbfgs.render([far, *LBFGS_JOBS[::-1]])
    assert failed.error
    assert all(same(*pair) for pair in zip(again, together[::-1], strict=True))


def test_l_bfgs_begins_each_level_afresh_where_the_image_of_the_last_is(lbfgs):
    calls = lbfgs.calls(LBFGS_JOBS[:1])
    coarse, fine = ([call for call in calls if call.canvas[1] == edge] for edge in (34, 48))
    assert np.abs(coarse[-1].after.optimizer[0].diff_params_memory[0]).max() > 0
    first = fine[0].states
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(first.optimizer))
    assert np.abs(first.image).max() > 0
    assert not np.array_equal(first.image[0, :34, :48], np.asarray(LBFGS_JOBS[0].content))


def test_l_bfgs_goes_with_winograd(tmp_path):
    """On a CPU and from 64 channels on; kernels have a form of their own there."""
    wide = write_narrow_weights(tmp_path / "wide.h5", channels=(4, 64, 128, 12, 12))
    options = tiny_options(wide, optimizer="lbfgs", levels=1, steps=2, batch_size=1)
    (result,) = Studio(options).render([tiny_job(0, steps=2)])
    assert result.error is None
    assert result.steps == 2
