"""Where the optimisation starts: each `init` by its definition, at the picture's own size."""

import dataclasses

import numpy as np
import pytest
from engine_jobs import LANDSCAPE, content_of, own_options, style_of, tiny_job, tiny_options
from networks import picture
from PIL import Image

from nst_jax import Job
from nst_jax.engine.inputs.initial_image import initial_image
from nst_jax.engine.inputs.load import LoadedJob, check_shapes, load_job
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import make_levels
from nst_jax.files.images import resize
from nst_jax.model.color import color_moments
from nst_jax.request.errors import PictureError

FIRST = (24, 34)
"""Size at the first of two levels."""


def start(size=FIRST, *, job: Job | None = None, init_image=None, **own) -> np.ndarray:
    return initial_image(load(job or tiny_job(0), init_image, **own), size)


def load(job: Job, init_image=None, max_input_pixels=10**6, pictures=None, **own) -> LoadedJob:
    own = own_options(**own)
    job = dataclasses.replace(job, init_image=init_image)
    options = tiny_options("none", max_input_pixels=max_input_pixels)
    pictures = pictures or PictureIndex(max_pixels=max_input_pixels)
    levels = make_levels(pictures.size(job.content), options, own, regions=len(job.masks))
    check_shapes(job, pictures)
    return load_job(ExaminedJob(0, job, own, levels, ""), options, pictures)


CONTENT = resize(content_of(0), FIRST)


def test_the_content_grey_and_a_file_are_what_they_are_called():
    np.testing.assert_array_equal(start(), CONTENT)
    np.testing.assert_array_equal(start(init="grey"), 0.5)
    other = content_of(7, (68, 96))
    made = start(init="file", init_image=other)
    np.testing.assert_array_equal(made, resize(resize(other, LANDSCAPE), FIRST))


def test_noise_replaces_its_share_of_the_content_and_reaches_as_far_as_it_is_told():
    noise = np.random.default_rng(5).random((*FIRST, 3), dtype=np.float32)
    for ratio in (0.0, 0.6, 1.0):
        made = start(init="noise", noise_ratio=ratio, seed=5)
        np.testing.assert_allclose(made, (1 - ratio) * CONTENT + ratio * noise, atol=1e-6)
    made = start(init="noise", noise_range=0.1)
    assert 0.4 <= made.min() < 0.41
    assert 0.59 < made.max() <= 0.6
    around = start(init="noisy-content", noise_range=0.25)
    unclipped = (around > 0) & (around < 1)
    assert np.abs(around - CONTENT).max() <= 0.25 + 1e-6
    assert (around - CONTENT)[unclipped].std() == pytest.approx(0.25 / 3**0.5, rel=0.1)
    assert ((around >= 0) & (around <= 1)).all()


@pytest.mark.parametrize("init", ["noise", "noisy-content", "style-statistics"])
def test_the_seed_alone_decides_at_every_size(init):
    for size in (FIRST, LANDSCAPE):
        one, same, other = (start(size, init=init, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert np.abs(one - other).max() > 0.05
        assert one.shape == (*size, 3)
        assert one.dtype == np.float32


def blended(**own) -> Job:
    return Job(content_of(0), (style_of(0), 1 - style_of(1)), options=own_options(**own))


def test_style_statistics_are_the_blended_mean_and_covariance():
    weights = {"style_blend_weights": (1.0, 3.0)}
    job = load(blended(), init="style-statistics", **weights)
    (mean, spread), (other_mean, other) = (color_moments(one.pixels) for one in job.styles)
    made_mean, made = color_moments(initial_image(job, (400, 300)))
    np.testing.assert_allclose(made_mean, 0.25 * mean + 0.75 * other_mean, atol=0.02)
    np.testing.assert_allclose(made, 0.25 * spread + 0.75 * other, atol=0.01)  # clipped a little


def test_style_statistics_are_those_of_the_masked_part():
    style = np.full((40, 48, 3), 0.9, np.float32)
    style[:, :20] = (0.2, 0.4, 0.3)
    mask = np.zeros((40, 48), np.float32)
    mask[:, :20] = 1
    job = dataclasses.replace(tiny_job(0), style=style, style_masks=(mask,))
    made = start(job=job, init="style-statistics")
    np.testing.assert_allclose(made, np.broadcast_to((0.2, 0.4, 0.3), made.shape), atol=0.02)


def test_a_blend_mixes_the_content_with_styles_that_cover_it():
    nothing, half, whole = (start(init="blend", init_blend=share) for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(nothing, CONTENT, atol=1e-6)
    np.testing.assert_allclose(half, (CONTENT + whole) / 2, atol=1e-6)
    # A style of 40x48 covers 24x34 at 28x34; four rows fall away.
    scaled = resize(load(tiny_job(0)).styles[0].pixels, (28, 34))
    np.testing.assert_allclose(whole, scaled[2:26], atol=1e-6)
    one, other, both = (
        start(job=blended(), init="blend", init_blend=1.0, style_blend_weights=weights)
        for weights in ((1.0, 0.0), (0.0, 1.0), (1.0, 3.0))
    )
    np.testing.assert_allclose(both, 0.25 * one + 0.75 * other, atol=1e-6)


def test_style_size_is_the_long_edge_at_the_last_level():
    edges = [
        [level.style_edge for level in load(tiny_job(0), **own).levels]
        for own in ({"style_size": 24}, {"style_scale": 0.5}, {"style_size": 96}, {})
    ]
    assert edges == [[17, 24], [17, 24], [68, 96], [34, 48]]


def test_each_picture_of_a_job_is_decoded_at_the_scale_that_its_use_asks_for(tmp_path):
    """At 48 px a quarter of 400 px is enough, for a style at its double a half."""
    photo, drawing = str(tmp_path / "photo.jpg"), tmp_path / "drawing.png"
    image = Image.fromarray(np.uint8(255 * picture(320, 400)))
    image.save(photo)
    image.resize((50, 40)).save(drawing)
    for job in (
        Job(photo, drawing, masks=(photo,)),
        Job(drawing, photo, style_masks=(photo,)),
        Job(drawing, drawing),
    ):
        start = photo if job.content == drawing else None
        own = {"init": "file"} if start else {}
        loaded = load(job, start, max_input_pixels=100 * 80, **own)
        assert loaded.content.size == loaded.styles[0].size == (38, 48)
        with pytest.raises(PictureError, match="at 1/4 of its size"):
            load(job, start, max_input_pixels=100 * 80 - 1, **own)
    half = Job(drawing, photo)
    assert load(half, max_input_pixels=200 * 160, style_scale=2.0).styles[0].size == (77, 96)
    with pytest.raises(PictureError, match="at 1/2 of its size"):
        load(half, max_input_pixels=200 * 160 - 1, style_scale=2.0)
