"""What Python callers get: pictures and paths in, results out, and files where they ask."""

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from engine_jobs import (
    FIRST_TAPS,
    LANDSCAPE,
    content_of,
    image_of,
    one_device,
    own_of,
    own_options,
    same,
    style_of,
    tiny_job,
    tiny_options,
)
from PIL import Image

from nst_jax import Job, render, render_batch, render_many
from nst_jax.model import color
from nst_jax.request.errors import OptionError, OutputError, PictureError, TapError


@pytest.fixture
def options(narrow_file):
    """One level, one slot, two steps: what is tested here is around the steps."""
    return tiny_options(narrow_file, levels=1, batch_size=1, steps=2)


def own(**changes):
    return own_options(**({"steps": 2} | changes))


def rendered(jobs, options):
    """Results in the order of the jobs, all done."""
    results = sorted(
        render_many(jobs, options, devices=one_device()), key=lambda result: result.index
    )
    assert [result.error for result in results] == [None] * len(results)
    return results


def test_paths_texts_images_and_arrays_of_any_depth_are_the_same_job(files, options):
    content, style = files
    pixels = [np.asarray(Image.open(path)) for path in files]
    sources = [
        (content, style),
        (str(content), str(style)),
        tuple(pixels),
        tuple(Image.open(path) for path in files),
        tuple(array.astype(np.uint16) * 257 for array in pixels),
        tuple(array.astype(np.float32) / 255 for array in pixels),
    ]
    first, *others = rendered([Job(*pair) for pair in sources], options)
    for other in others:
        np.testing.assert_allclose(image_of(other), image_of(first), rtol=0, atol=1e-6)
    image = image_of(first)
    assert image.dtype == np.float32
    assert image.shape == (*LANDSCAPE, 3)
    assert image.min() >= 0
    assert image.max() <= 1
    assert first.job.output == "content__style.png"
    assert first.steps == 2
    assert set(first.losses) == {"total", "content", "style", "tv"}
    weighted = [
        getattr(options, f"{name}_weight") * first.losses[name]
        for name in ("content", "style", "tv")
    ]
    assert first.losses["total"] == pytest.approx(sum(weighted), rel=1e-5)


def test_images_of_pillows_go_wherever_a_picture_goes(one_level):
    job = tiny_job(0, init="file")
    arrays = [np.round(255 * one).astype(np.uint8) for one in (content_of(0), style_of(0))]
    white = np.full(LANDSCAPE, 255, np.uint8)
    content, style, mask = map(Image.fromarray, (*arrays, white))
    asked = {"masks": (mask,), "style_masks": [Image.fromarray(white).resize((48, 40))]}
    jobs = [
        dataclasses.replace(job, content=content, style=style, init_image=content, **asked),
        dataclasses.replace(job, content=arrays[0], style=[style], init_image=arrays[0], **asked),
    ]
    assert same(*one_level.render(jobs))
    names = [
        one.job.output for one in one_level.examine([Job(content, style), Job(content, style)])
    ]
    assert names == ["image__image.png", "image__image_2.png"]


def test_a_grey_array_is_a_grey_picture(one_level):
    grey = content_of(0)[..., 0]
    contents = grey, grey[..., None], np.dstack([grey] * 3)
    flat, deep, three = one_level.render([Job(one, style_of(0)) for one in contents])
    assert same(flat, deep)
    assert same(flat, three)


def test_results_come_one_by_one_with_their_jobs_index_whatever_the_order(options):
    assert list(render_many([], options, devices=one_device())) == []
    jobs = [tiny_job(number, steps=steps) for number, steps in enumerate([1, 5, 3])]
    results = render_many(jobs, options, devices=one_device())
    for index in (1, 2, 0):
        result = next(results)
        assert result.image is not None
        assert result.index == index
        assert result.steps == own_of(jobs[index]).steps
        assert result.job.content is jobs[index].content
    assert list(results) == []


@pytest.mark.parametrize("which", ["content", "style"])
def test_a_failure_is_a_result_or_an_exception_as_one_likes(options, tmp_path, which):
    bad = dataclasses.replace(tiny_job(2), **{which: tmp_path / "missing.png"})
    jobs = [tiny_job(0), bad, tiny_job(1)]
    results = list(render_many(jobs, options, devices=one_device()))
    assert sorted(result.index for result in results) == [0, 1, 2]
    (failed,) = (result for result in results if result.error)
    assert (failed.index, failed.status, failed.image) == (1, "failed", None)
    assert isinstance(failed.error, PictureError)
    assert "missing.png" in failed.error.message
    with pytest.raises(PictureError, match=r"missing\.png"):
        list(render_many(jobs, options, on_error="raise", devices=one_device()))
    with pytest.raises(PictureError, match=r"missing\.png"):
        render(bad, options=options, devices=one_device())


@pytest.mark.parametrize(
    ("jobs", "error"),
    [
        ([Job(content_of(0), ())], OptionError),
        ([Job(content_of(0), style_of(0), options=own(content_taps=("relu9_9",)))], TapError),
        ([tiny_job(0, style_blend_weights=(1.0, 2.0))], OptionError),
        ([Job(content_of(0), style_of(0), output="a.png")] * 2, OutputError),
        # Of one letter, or it would have too many of them.
        ([Job(content_of(0), style_of(0), masks="m")], OptionError),
        ([Job(content_of(0), style_of(0), style_masks="m")], OptionError),
    ],
    ids=[
        *("no style", "no such tap", "weights for two styles", "one name twice"),
        *("masks that are no list", "style masks that are no list"),
    ],
)
def test_a_wrong_request_raises_before_anything_is_rendered(options, jobs, error):
    with pytest.raises(error):
        list(render_many(jobs, options, devices=one_device()))


UNTYPED = """
from nst_jax import Job, JobOptions, Options
from nst_jax.request.errors import OptionError
from nst_jax.request.job import fill_defaults

def refused(make):
    try:
        make()
    except OptionError as error:
        print(error)

refused(lambda: fill_defaults(Job("a.png", "b.png"), Options()))
refused(lambda: fill_defaults([5], Options()))
refused(lambda: fill_defaults([Job([[0.5]], "b.png")], Options()))
refused(lambda: fill_defaults([Job("a.png", None)], Options()))
refused(lambda: fill_defaults([Job("a.png", "b.png", 5)], Options()))
refused(lambda: fill_defaults([Job("a.png", "b.png", options={"steps": 3})], Options()))
refused(lambda: fill_defaults([Job("a.png", "b.png")], JobOptions()))
refused(lambda: Options(content_taps=[]))
assert Options(content_taps=["relu1_1"]) == Options(content_taps=("relu1_1",))
"""
"""What a caller without a type checker may do; the tests' own one would refuse it first."""


def test_what_is_of_a_wrong_type_is_refused_in_words():
    told = subprocess.run(
        [sys.executable, "-c", UNTYPED], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [
        "jobs must be a list of Job, got Job",
        "jobs must be a list of Job, got int in it",
        "content of a job must be a path, an array or an image, got list. Make an array of nested "
        "lists by numpy.asarray(..., dtype)",
        "style of a job must be a path, an array, an image or a list of them, got NoneType",
        "output of a job must be a text, got int",
        "options of a job must be JobOptions, got dict",
        "options of a run must be Options, got JobOptions",
        "content_taps must be a list of at least one tap, none twice, got ()",
    ]


def test_transparency_is_kept_or_laid_on_white_or_black(one_level):
    alpha = np.linspace(0, 1, LANDSCAPE[1], dtype=np.float32) * np.ones(LANDSCAPE, np.float32)
    content, style = content_of(0), style_of(0)
    seen = np.dstack([content, alpha])
    on_black = content * alpha[..., None]
    on_white = on_black + 1 - alpha[..., None]
    flat = on_white, on_black, np.dstack([content, np.ones_like(alpha)])
    jobs = [Job(seen, style, options=own(alpha=mode)) for mode in ("keep", "white", "black")]
    jobs += [Job(picture, style, options=own()) for picture in flat]
    kept, white, black, plain_white, plain_black, opaque = one_level.render(jobs)
    assert kept.alpha is not None
    np.testing.assert_allclose(kept.alpha, alpha, atol=1e-6)
    assert [one.alpha for one in (white, black, opaque)] == [None] * 3
    close = {"rtol": 0, "atol": 0.02}  # rounding of the mixture, which Adam may amplify
    np.testing.assert_allclose(image_of(kept), image_of(white))
    np.testing.assert_allclose(image_of(white), image_of(plain_white), **close)
    np.testing.assert_allclose(image_of(black), image_of(plain_black), **close)
    assert np.abs(image_of(white) - image_of(black)).max() > 0.5


@pytest.mark.parametrize("mode", color.RECOLOR_OUTPUT)
def test_the_contents_colours_are_laid_over_the_finished_picture(studio, mode):
    plain, kept = studio.render([tiny_job(0), tiny_job(0, color=mode)])
    expected = color.RECOLOR_OUTPUT[mode](image_of(plain), content_of(0))
    np.testing.assert_array_equal(image_of(kept), expected)
    assert np.abs(image_of(kept) - image_of(plain)).max() > 0.02


@pytest.mark.parametrize("mode", color.RECOLOR_STYLE)
def test_a_style_may_get_the_contents_colours_before_it_is_looked_at(studio, mode):
    """For each content its own, though the style is the same."""
    for number in (0, 1):
        style = color.RECOLOR_STYLE[mode](style_of(0), content_of(number))
        by_hand = Job(content_of(number), style, options=own(steps=4))
        asked = Job(content_of(number), style_of(0), options=own(steps=4, color=mode))
        assert same(*studio.render([by_hand, asked]))


def test_a_start_is_the_content_noise_or_grey(one_level):
    """At a rate of next to nothing the end is the start."""
    still = {"steps": 1, "learning_rate": 1e-9}
    jobs = [tiny_job(0, init=init, **still) for init in ("content", "noise", "grey")]
    jobs.append(tiny_job(0, init="noise", seed=1, **still))
    content, noise, grey, other_noise = map(image_of, one_level.render(jobs))
    np.testing.assert_allclose(content, content_of(0), atol=1e-6)
    np.testing.assert_allclose(grey, 0.5, atol=1e-6)
    assert noise.std() == pytest.approx(12**-0.5, rel=0.05), "uniform over the whole range"
    assert abs(np.corrcoef(noise.ravel(), other_noise.ravel())[0, 1]) < 0.1


def test_styles_are_blended_by_their_weights(studio):
    content, a, b = content_of(0), style_of(0), 1 - style_of(3)
    blends = [(a, ()), (b, ()), ((a, b), (1.0, 0.0)), ((a, b), (0.0, 5.0)), ((a, b), ()),
              ((a, b), (2.0, 2.0)), ((b, a), (1.0, 3.0)), ((a, b), (3.0, 1.0))]  # fmt: skip
    jobs = [
        Job(content, style, options=own(style_blend_weights=weights)) for style, weights in blends
    ]
    one, two, first, second, both, evenly, swapped, mostly = studio.render(jobs)
    assert same(one, first)
    assert same(two, second)
    assert same(both, evenly)
    assert swapped.losses["style"] == pytest.approx(mostly.losses["style"], rel=1e-5)
    for result, other in itertools.combinations((one, two, both, mostly), 2):
        assert not same(result, other)


def test_levels_are_gone_through_and_count(studio, one_level):
    jobs = [tiny_job(0, init="noise", steps=6)]
    (two,), (single,) = studio.render(jobs), one_level.render(jobs)
    assert (two.steps, single.steps) == (12, 6)
    assert image_of(two).shape == image_of(single).shape == (*LANDSCAPE, 3)
    assert two.losses["total"] < single.losses["total"]


def test_the_long_edge_is_the_size(narrow_file):
    sizes = [(30, 20), (90, 61), (64, 64)]
    shallow = own(steps=1, **FIRST_TAPS)
    jobs = [Job(content_of(0, size), style_of(0), options=shallow) for size in sizes]
    results = rendered(jobs, tiny_options(narrow_file, size=32, levels=1))
    assert [image_of(result).shape[:2] for result in results] == [(32, 21), (32, 22), (32, 32)]


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_render_writes_what_it_returns(files, options, tmp_path, bit_depth):
    output = tmp_path / "new folder" / "picture.tif"
    options = dataclasses.replace(options, bit_depth=bit_depth)
    result = render(Job(*files), output, options, devices=one_device())
    assert result.output == str(output)
    assert result.job.output == "picture.tif"
    written, highest = tifffile.imread(output), 2**bit_depth - 1
    assert written.dtype == f"uint{bit_depth}"
    np.testing.assert_allclose(written / highest, image_of(result), rtol=0, atol=0.51 / highest)
    assert [path.name for path in output.parent.iterdir()] == ["picture.tif"]


def test_render_without_an_output_writes_nothing(files, options, tmp_path):
    before = sorted(tmp_path.iterdir())
    result = render(Job(*files), options=options, devices=one_device())
    assert image_of(result).shape == (*LANDSCAPE, 3)
    assert (result.output, result.sha256) == ("", "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "bit_depth", "said"), [("a.gif", 8, "gif"), ("a.jpg", 16, "16 bits")]
)
def test_an_output_that_can_not_be_is_refused_first(options, tmp_path, name, bit_depth, said):
    options = dataclasses.replace(options, bit_depth=bit_depth)
    with pytest.raises(OutputError, match=said):
        render(tiny_job(0), tmp_path / name, options, devices=one_device())


def test_a_batch_leaves_pictures_ledger_plan_and_run(files, options, tmp_path):
    folder = tmp_path / "out"
    jobs = [
        Job(*files),
        Job(content_of(1), style_of(1), output="deep/b.tif", options=own(steps=3)),
        Job(tmp_path / "missing.png", files[1], output="c.png"),
    ]
    summary = render_batch(jobs, folder, options, devices=one_device())
    counts = (summary.jobs, summary.done, summary.failed, summary.skipped)
    assert counts == (3, 2, 1, 0)
    assert summary.image_steps == 5
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert {line["job"]: line["status"] for line in lines} == {
        "content__style.png": "done",
        "deep/b.tif": "done",
        "c.png": "failed",
    }
    direct = rendered(jobs[:2], options)
    for name, result in zip(("content__style.png", "deep/b.tif"), direct, strict=True):
        pixels = np.asarray(Image.open(folder / name)) / 255
        np.testing.assert_allclose(pixels, image_of(result), rtol=0, atol=0.51 / 255)
    assert json.loads((folder / "plan.json").read_text())["groups"]
    assert json.loads((folder / "run.json").read_text())["summary"]["done"] == 2


_LEFT_OPEN = """
import sys
import numpy as np
from nst_jax import Job, Options, render_many
content, style = np.random.default_rng(0).random((2, 24, 24, 3), np.float32)
taps = {"content_taps": ("relu1_1",), "style_taps": ("relu1_1",)}
options = Options(weights=sys.argv[1], size=24, levels=1, steps=3, batch_size=1, **taps)
results = render_many([Job(content, style)] * 3, options)
print(next(results).error)
"""


def test_a_script_may_end_with_results_left_open(narrow_file):
    told = subprocess.run(
        [sys.executable, "-c", _LEFT_OPEN, narrow_file], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "None\n", "")
