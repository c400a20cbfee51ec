"""Previews: shown at the steps that were asked for, and nothing else is changed by them."""

import dataclasses

import numpy as np
import pytest
from engine_jobs import (
    LANDSCAPE,
    PORTRAIT,
    Notes,
    image_of,
    one_device,
    same,
    tiny_job,
    tiny_options,
)
from PIL import Image

from nst_jax import Job, render, render_batch, render_many
from nst_jax.engine.schedule.previews import Previews
from nst_jax.request.errors import OutputError

pytestmark = pytest.mark.usefixtures("compiled_once")

JOBS = [
    tiny_job(0, steps=6),
    tiny_job(1, steps=5),
    tiny_job(2, PORTRAIT),
    tiny_job(3, steps=3, color="content"),
    tiny_job(4, init="noise", seed=3),
    tiny_job(5),
]
"""Two levels each; more jobs of one canvas than slots, so that some start in a freed slot."""
EVERY = 3


@pytest.fixture(scope="module")
def plain(narrow_file, compiled_once):
    return _render(tiny_options(narrow_file))


def _render(options, jobs=JOBS, **watching):
    results = render_many(jobs, options, devices=one_device(), **watching)
    return sorted(results, key=lambda result: result.index)


@pytest.fixture(scope="module")
def shown(narrow_file, compiled_once):
    seen = []
    options = tiny_options(narrow_file, preview_every=EVERY)
    return _render(options, on_preview=seen.append), seen


def test_each_job_is_shown_at_every_so_many_of_its_own_steps(shown):
    results, seen = shown
    for result in results:
        own = [preview for preview in seen if preview.index == result.index]
        assert [one.step for one in own] == list(range(EVERY, result.steps + 1, EVERY))
        assert {one.name for one in own} == {result.job.output}
        for one in own:
            size = image_of(result).shape[:2] if one.step > result.steps // 2 else None
            assert one.image.dtype == np.float32
            assert size in (None, one.image.shape[:2])


def test_previews_change_no_byte_of_the_result(plain, shown):
    for without, watched in zip(plain, shown[0], strict=True):
        assert same(without, watched)


def test_a_preview_at_the_last_step_is_the_result(shown):
    results, seen = shown
    for preview in seen:
        if preview.step == results[preview.index].steps:
            np.testing.assert_array_equal(preview.image, image_of(results[preview.index]))
    assert any(preview.step == results[preview.index].steps for preview in seen)


def test_without_a_listener_or_a_number_nothing_is_shown(narrow_file, plain):
    seen = []
    [result] = _render(tiny_options(narrow_file), JOBS[:1], on_preview=seen.append)
    assert not seen
    assert same(result, plain[0])


def test_the_next_preview_is_that_of_the_nearest_job():
    previews = Previews(10, print)
    assert previews.steps_until_next(np.array([0])) == 10
    assert previews.steps_until_next(np.array([3, 19, 20])) == 1
    before, after = np.array([5, 20, 8, 30]), np.array([10, 20, 11, 40])
    assert previews.list_due(before, after) == [0, 3]


def test_a_batch_keeps_them_in_a_folder_of_their_own(narrow_file, files, tmp_path):
    options = tiny_options(narrow_file, preview_every=3)
    jobs = [Job(*files, output="deep/a.png"), Job(*files, output="b.jpg")]
    render_batch(jobs, tmp_path / "out", options, devices=one_device())
    names = sorted(
        str(path.relative_to(tmp_path / "out/previews"))
        for path in (tmp_path / "out/previews").rglob("*.*")
    )
    steps = ("000003", "000006")
    assert names == [f"{name}.{step}.png" for name in ("b.jpg", "deep/a.png") for step in steps]
    with Image.open(tmp_path / "out/previews/b.jpg.000006.png") as picture:
        assert picture.size == LANDSCAPE[::-1]
    assert "previews" not in (tmp_path / "out/ledger.jsonl").read_text()
    again = render_batch(jobs, tmp_path / "out", options, devices=one_device())
    assert again.skipped == 2


def test_render_keeps_them_beside_the_output(narrow_file, files, tmp_path):
    options = tiny_options(narrow_file, preview_every=4)
    render(Job(*files), tmp_path / "new" / "x.png", options, devices=one_device())
    found = sorted(path.name for path in (tmp_path / "new/previews").iterdir())
    assert found == ["x.png.000004.png", "x.png.000008.png"]


def test_an_output_in_the_folder_of_previews_is_refused(narrow_file, files, tmp_path):
    job = Job(*files, output="Previews/a.png")
    options = tiny_options(narrow_file, preview_every=4)
    with pytest.raises(OutputError, match="folder of previews"):
        render_batch([job], tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    plain = dataclasses.replace(options, preview_every=0)
    assert render_batch([job], tmp_path / "out", plain, devices=one_device()).done == 1


def test_a_preview_that_can_not_be_written_is_a_note_and_the_job_goes_on(
    narrow_file, files, tmp_path
):
    notes = Notes()
    (tmp_path / "previews").write_text("a file where the folder should be")
    options = tiny_options(narrow_file, preview_every=4)
    result = render(Job(*files), tmp_path / "x.png", options, progress=notes, devices=one_device())
    assert result.output
    assert sum(note.startswith("preview left out: ") for note in notes.said) == 2
