"""Phases of a level: each a stage with a program of its own, and nothing lost in between."""

import numpy as np
import pytest
from engine_jobs import LANDSCAPE, Studio, same, tiny_job, tiny_options

from nst_jax.engine.plan import levels
from nst_jax.engine.plan.levels import PHASES, pyramid
from nst_jax.request.options import JobOptions, Options

JOBS = [tiny_job(number, LANDSCAPE, steps=steps) for number, steps in enumerate((7, 4, 4, 1, 6))]


@pytest.fixture(scope="module")
def studio(narrow_file) -> Studio:
    return Studio(tiny_options(narrow_file, levels=2, batch_size=2))


def test_a_level_cut_in_two_alike_phases_gives_the_same_bytes(studio, monkeypatch):
    """Image, moments, their count and the average go on as they are."""
    whole = studio.render(JOBS)
    monkeypatch.setitem(PHASES, "gram", (("gram", 0.6), ("gram", 0.4)))
    cut = studio.render(JOBS)
    for result, other in zip(whole, cut, strict=True):
        assert same(result, other)
        assert result.steps == other.steps


def test_the_steps_of_a_level_are_dealt_out_and_none_is_lost():
    for steps in range(1, 30):
        for loss in PHASES:
            options = Options(size=64, levels=2, style_loss=loss, steps=steps)
            made = pyramid((64, 48), options, options)
            for level in (0, 1):
                here = [stage for stage in made if stage.index == level]
                assert sum(stage.steps for stage in here) == steps
                assert min(stage.steps for stage in here) > 0
                assert [stage.style_kind for stage in here][-1] in (loss, PHASES[loss][0][0])


TWO_KINDS = (("gram", 0.75), ("wasserstein", 0.25))
"""A cheap comparison first, another one last."""


def test_stages_are_in_order_and_share_what_a_level_has(monkeypatch):
    monkeypatch.setitem(PHASES, "wasserstein", TWO_KINDS)
    made = pyramid((640, 480), Options(levels=3, style_loss="wasserstein"), JobOptions())
    places = [stage.place for stage in made]
    assert places == sorted(places)
    assert len(places) == len(set(places)) == 6
    for first, second in zip(made[::2], made[1::2], strict=True):
        assert (first.size, first.canvas, first.style_edge) == (
            second.size,
            second.canvas,
            second.style_edge,
        )
        assert first.style_kind != second.style_kind


def test_every_style_loss_has_phases_whose_shares_are_a_whole():
    for phases in levels.PHASES.values():
        assert sum(share for _, share in phases) == pytest.approx(1)


def test_each_phase_has_a_program_of_its_own_and_jobs_refill_within_it(narrow_file, monkeypatch):
    monkeypatch.setitem(PHASES, "wasserstein", TWO_KINDS)
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=2, style_loss="wasserstein"))
    calls = studio.calls(JOBS)
    kinds = [type(next(iter(call.problems.targets.style.values()))).__name__ for call in calls]
    assert kinds == sorted(kinds), "all jobs go through the first phase, then all through the next"
    assert set(kinds) == {"GramTarget", "WassersteinTarget"}
    named = [name for name in studio.renderer.programs.compiled if name.startswith("step")]
    assert len(named) == 2


def test_a_job_s_random_choices_are_its_own(narrow_file):
    """Same bytes with other neighbours and in another order; other seeds, other bytes."""
    studio = Studio(tiny_options(narrow_file, levels=2, batch_size=2, style_loss="wasserstein"))
    together = studio.render(JOBS)
    again = studio.render(JOBS[::-1])[::-1]
    for result, other in zip(together, again, strict=True):
        np.testing.assert_array_equal(result.image, other.image)
