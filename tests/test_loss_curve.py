"""The curve of a job: few points, in order, from the first to the last, and never in the way."""

import itertools
import json
import math
import os
from collections.abc import Iterable

import numpy as np
import pytest
from engine_jobs import tiny_job

from nst_jax.engine.results import MOST_POINTS, LossCurve, LossPoint, Result
from nst_jax.request.job import Job
from nst_jax.request.options import JobOptions


def keep_steps(steps: Iterable[int]) -> list[int]:
    """Which of these looks a curve has in the end."""
    curve = LossCurve()
    for step in steps:
        curve.add(step, [1 / step, 0.5, 0.25, 0.125])
    return [point.step for point in curve.points]


@pytest.mark.parametrize("stride", [1, 2, 7, 25])
@pytest.mark.parametrize("looks", [1, 2, MOST_POINTS, MOST_POINTS + 1, 1000, 20_001])
def test_a_curve_is_bounded_ordered_and_keeps_both_ends(stride, looks):
    steps = keep_steps(range(1, 1 + looks * stride, stride))
    assert len(steps) <= MOST_POINTS
    assert len(steps) >= min(looks, MOST_POINTS // 2)
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 1 + (looks - 1) * stride)


def test_points_of_a_long_curve_stand_at_nearly_equal_distances():
    steps = keep_steps(range(1, 10_001))
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert max(gaps) <= 4 * 10_000 / MOST_POINTS
    assert max(gaps[:-1]) <= 4 * min(gaps[:-1])


def test_a_batch_that_is_run_again_replaces_its_points():
    assert keep_steps([1, 5, 9, 6, 8]) == [1, 5, 6, 8]


def test_a_rendered_job_has_a_curve_that_ends_where_it_ends(studio):
    (result,) = studio.render([tiny_job(steps=4)])
    first, last = result.curve[0], result.curve[-1]
    assert (first.step, last.step) == (1, result.steps)
    assert last._asdict() == {"step": 8, **{k: pytest.approx(v) for k, v in result.losses.items()}}
    assert all(np.isfinite(point).all() for point in result.curve)


def test_a_record_has_a_curve_that_json_can_hold_and_options_that_are_not_at_their_defaults():
    points = (LossPoint(1, 0.123456789, 1, 2, 3), LossPoint(2, math.inf, math.nan, 2, 3))
    job = Job("a.png", ["b.png", "c.png"], "x.png", JobOptions(style_weight=7.0, seed=3))
    record = Result(0, job, curve=points).record()
    assert record["curve"] == [[1, 0.12346, 1, 2, 3], [2, None, None, 2, 3]]
    assert json.loads(json.dumps(record, allow_nan=False))["curve"] == record["curve"]
    paths = [record["content"], *record["style"]]
    assert paths == [os.path.abspath(f"{name}.png") for name in "abc"]
    assert record["options"] == {"style_weight": 7.0, "seed": 3}
