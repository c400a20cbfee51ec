"""The batch laws: whoever a job travels with, its picture is the same.

Byte for byte where the program is the same; else in close values.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from engine_jobs import (
    BAD,
    LANDSCAPE,
    PORTRAIT,
    Studio,
    assert_same,
    content_of,
    expected_objective,
    image_of,
    one_device,
    same,
    tiny_job,
    tiny_options,
)
from references import relative_error

from nst_jax import Job, render_batch, render_many
from nst_jax.engine.plan import levels
from nst_jax.request.errors import NonFiniteError, PictureError

MIXED = [
    tiny_job(0),
    tiny_job(1, steps=5, style_weight=4.0),
    tiny_job(2, PORTRAIT, content_weight=0.3),
    tiny_job(3, steps=3, init="noise", seed=7),
    tiny_job(4, PORTRAIT, learning_rate=0.05, init="grey"),
    tiny_job(5, (20, 48), tv_weight=0.0),
    tiny_job(6, (33, 47), style_tap_weights=(0.9, 0.1)),
]
"""Two canvases a level, several lengths, starts and sizes; more of one canvas than slots."""


@pytest.fixture(scope="module")
def together(studio):
    """Results of `MIXED`, rendered in one run."""
    return studio.render(MIXED)


def test_jobs_keep_their_bytes_alone_and_in_any_order(studio, together):
    assert_same(studio.render_alone(MIXED), together)
    for shuffled in (list(reversed(range(len(MIXED)))), [3, 6, 0, 5, 2, 1, 4]):
        results = studio.render([MIXED[index] for index in shuffled])
        for index, result in zip(shuffled, results, strict=True):
            assert same(result, together[index]), index


def test_pictures_are_really_changed_and_differ(studio, together):
    """Else equal bytes would prove nothing. Another weight is another picture of the pair."""
    images = [image_of(result).tobytes() for result in together]
    assert len(set(images)) == len(images)
    assert np.abs(image_of(together[0]) - content_of(0)).max() > 0.02
    assert not same(studio.render([tiny_job(0, style_weight=1.01)])[0], together[0])


def test_every_slot_gives_the_same_bytes(studio, together):
    others = [tiny_job(seed) for seed in (20, 21, 22)]
    for slot in range(4):
        jobs = [*others[:slot], MIXED[0], *others[slot:]]
        assert same(studio.render(jobs)[slot], together[0])


@pytest.mark.usefixtures("compiled_anew")
def test_a_fresh_run_gives_the_same_bytes(one_level):
    kept = one_level.render(MIXED[:2])
    results = list(render_many(MIXED[:2], one_level.options, devices=one_device()))
    assert [result.index for result in results] == [1, 0], "the longer job goes first"
    for result in results:
        assert same(result, kept[result.index])


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_other_batch_sizes_end_at_the_same_objective(one_level, batch_size):
    """After a few steps. Over 150 Adam makes 6 % of it on so narrow a network, either way."""
    jobs = [MIXED[0], MIXED[1], MIXED[6]]
    both = one_level.render(jobs), one_level.render(jobs, batch_size=batch_size)
    for usual, other in zip(*both, strict=True):
        assert other.losses["total"] == pytest.approx(usual.losses["total"], rel=0.01)


STEP_JOBS = [
    tiny_job(seed, size, steps=1, init="noise", seed=seed, tv_weight=0.2)
    for seed, size in enumerate([LANDSCAPE, (45, 48), (39, 48)])
]
"""Of one step, with contents that need no scaling at one level."""

CLOSE = 1e-5


def evaluate(studio, jobs=STEP_JOBS, **changes):
    """Loss and gradient of each job at its first image, and the gradient on the whole canvas.

    Adam's first moment is a tenth of it.
    """
    call = studio.calls(jobs, **changes)[0]
    for slot, job in enumerate(jobs):
        height, width = np.asarray(job.content).shape[:2]
        whole = 10 * call.after.optimizer.mu[slot]
        yield call.after.terms.total[slot], whole[:height, :width], whole


def assert_close(evaluations, others):
    for (loss, gradient, _), (other, other_gradient, _) in zip(evaluations, others, strict=True):
        assert other == pytest.approx(loss, rel=CLOSE)
        assert relative_error(other_gradient, gradient) < CLOSE


def test_one_evaluation_is_close_whatever_the_batch_size_and_the_devices(one_level):
    together = list(evaluate(one_level))
    alone = [next(evaluate(one_level, [job], batch_size=1)) for job in STEP_JOBS]
    assert_close(together, alone)
    assert_close(together, evaluate(Studio(one_level.options, jax.devices()[:2])))


def test_one_evaluation_is_the_one_by_hand(one_level):
    """The gradient to 1e-4: float32 against float64, where a ReLU's kink may be crossed."""
    states = one_level.calls(STEP_JOBS)[0].states
    for slot, (loss, gradient, _) in enumerate(evaluate(one_level)):
        height, width = gradient.shape[:2]
        image = states.image[slot, :height, :width]
        total, _, slope = expected_objective(STEP_JOBS[slot], one_level.options, image)
        assert loss == pytest.approx(total, rel=CLOSE)
        assert relative_error(gradient, slope) < 1e-4


def test_one_evaluation_is_close_on_any_canvas_and_nothing_moves_outside(one_level, monkeypatch):
    before = list(evaluate(one_level))
    monkeypatch.setattr("nst_jax.engine.plan.levels.padded_shape", lambda _: (80, 64))
    levels.make_levels.cache_clear()
    after = list(evaluate(one_level))
    assert_close(before, after)
    for _, gradient, whole in after:
        assert whole.shape == (64, 80, 3)
        outside = whole.copy()
        outside[: gradient.shape[0], : gradient.shape[1]] = 0
        assert not outside.any()


def test_a_failing_neighbour_changes_no_byte(narrow_file, together):
    missing = Job("nowhere.png", content_of(0), output="missing.png")
    infinite = tiny_job(30, **BAD)
    small = Job(np.zeros((1, 48, 3), np.uint8), content_of(1), output="small.png")
    jobs = [missing, infinite, MIXED[0], small, MIXED[1]]
    results = list(render_many(jobs, tiny_options(narrow_file), devices=one_device()))
    by_index = {result.index: result for result in results}
    assert len(results) == len(by_index) == len(jobs)
    for failed, kind in ((0, PictureError), (1, NonFiniteError), (3, PictureError)):
        assert by_index[failed].status == "failed"
        assert isinstance(by_index[failed].error, kind)
        assert by_index[failed].image is None
    assert "finite" in str(by_index[1].error)
    assert same(by_index[2], together[0])
    assert same(by_index[4], together[1])


RESUMED = [dataclasses.replace(MIXED[index], output=f"{index}.png") for index in (0, 1, 3, 6)]


@pytest.fixture(scope="module")
def unbroken(narrow_file, tmp_path_factory):
    """A folder that was rendered in one go, its slots left to the plan."""
    options = tiny_options(narrow_file, batch_size="auto", bit_depth=16)
    folder = tmp_path_factory.mktemp("unbroken")
    summary = render_batch(RESUMED, folder, options, devices=one_device())
    assert (summary.done, summary.failed, summary.skipped) == (4, 0, 0)
    return folder, options


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_resumed_batch_ends_with_the_bytes_of_an_unbroken_one(unbroken, tmp_path, kept):
    """The second run has fewer jobs, and must not plan their slots anew."""
    whole, options = unbroken
    broken = _cut_short(shutil.copytree(whole, tmp_path / "broken"), kept)
    second = render_batch(RESUMED, broken, options, devices=one_device())
    assert (second.done, second.failed, second.skipped) == (4 - kept, 0, kept)
    for name in (*(job.output for job in RESUMED), "plan.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    third = render_batch(RESUMED, broken, options, devices=one_device())
    assert (third.done, third.failed, third.skipped) == (0, 0, 4)
    assert not third.compiled


def _cut_short(folder: Path, kept: int) -> Path:
    """A folder as a kill leaves it: some lines whole, the next one torn, the rest not there."""
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:kept]) + lines[kept][:40])
    for line in lines[kept + 1 :]:
        (folder / json.loads(line)["job"]).unlink()
    return folder
