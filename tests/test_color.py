"""Colours kept and handed over: against definitions in NumPy, SciPy and by hand, in float64."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.linalg
from engine_jobs import (
    LANDSCAPE,
    STYLE_SIZE,
    content_of,
    image_of,
    one_device,
    own_options,
    style_of,
    tiny_options,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import picture
from test_masks import halves

from nst_jax import Job, render_many
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.solver import State
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.model import color

SEEDS = given(seed=st.integers(0, 10**6))
FEW = settings(max_examples=15, deadline=None, derandomize=True)
MODES = {**color.RECOLOR_OUTPUT, **color.RECOLOR_STYLE}


def linear(value: float) -> float:
    """IEC 61966-2-1, one number at a time."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def luminance(pixels: np.ndarray) -> np.ndarray:
    light = np.vectorize(linear, otypes=[float])(np.float64(pixels))
    return light @ [0.2126, 0.7152, 0.0722]


def lab_of(rgb) -> np.ndarray:
    """CIELAB of one sRGB colour, by the textbook."""
    light = np.array([linear(float(value)) for value in rgb])
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ light / np.sum(to_xyz, axis=1)
    f = [t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in xyz]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def in_range(pixels: np.ndarray) -> bool:
    return pixels.dtype == np.float32 and bool(((pixels >= 0) & (pixels <= 1)).all())


def muted(pixels: np.ndarray) -> np.ndarray:
    """Colours so near to grey that any lightness has room for them."""
    grey = pixels.mean(-1, keepdims=True)
    return np.float32(0.4 + 0.2 * grey + 0.05 * (pixels - grey))


def rows_of(*pictures: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The colours of each position in all pictures."""
    return zip(*(each.reshape(-1, 3) for each in pictures), strict=True)


def test_known_colours_have_their_known_coordinates():
    for rgb, lab in {
        (1, 1, 1): (100, 0, 0),
        (1, 0, 0): (53.24, 80.09, 67.20),
        (0, 0, 1): (32.30, 79.19, -107.86),
    }.items():
        np.testing.assert_allclose(lab_of(rgb), lab, atol=0.05)


# After a rendering.


@FEW
@SEEDS
def test_the_output_s_luminance_is_kept_exactly_and_the_contents_hue(seed):
    output, content = picture(6, 7, seed=seed), picture(6, 7, seed=seed + 1)
    kept = color.take_luminance(output, content)
    assert in_range(kept)
    np.testing.assert_allclose(luminance(kept), luminance(output), atol=1e-5)
    for one, other in rows_of(kept, content):
        chroma, wanted = ([linear(value) for value in each] for each in (one, other))
        chroma = np.array(chroma) - luminance(one)
        wanted = np.array(wanted) - luminance(other)
        share = np.dot(chroma, wanted) / np.dot(wanted, wanted)
        assert -1e-4 < share < 1 + 1e-4
        np.testing.assert_allclose(chroma, share * wanted, atol=1e-4)


def test_colours_that_fit_are_kept_in_full():
    output, content = (muted(picture(6, 7, seed=seed)) for seed in (1, 2))
    for one, made, other in rows_of(content, color.take_luminance(output, content), output):
        expected = [linear(value) for value in one] - luminance(one) + luminance(other)
        np.testing.assert_allclose([linear(value) for value in made], expected, atol=1e-5)
    for one, made, other in rows_of(content, color.take_lightness(output, content), output):
        expected = [lab_of(other)[0], *lab_of(one)[1:]]
        np.testing.assert_allclose(lab_of(made), expected, atol=2e-3)


@FEW
@SEEDS
def test_the_output_s_lightness_is_kept_and_the_contents_hue_in_lab(seed):
    output, content = picture(5, 4, seed=seed), picture(5, 4, seed=seed + 1)
    kept = color.take_lightness(output, content)
    assert in_range(kept)
    for made, light, hue in rows_of(kept, output, content):
        got, wanted = lab_of(made), lab_of(hue)[1:]
        assert got[0] == pytest.approx(lab_of(light)[0], abs=0.02)
        share = np.dot(got[1:], wanted) / np.dot(wanted, wanted)
        assert share < 1.001
        np.testing.assert_allclose(got[1:], share * wanted, atol=0.05)


@pytest.mark.parametrize("keep", color.RECOLOR_OUTPUT.values())
def test_own_colours_grey_contents_and_black_and_white_outputs_are_safe(keep):
    image, other = picture(5, 6), picture(5, 6, seed=1)
    np.testing.assert_allclose(keep(image, image), image, atol=1e-4)
    kept = keep(other, np.repeat(image[..., :1], 3, axis=2))
    np.testing.assert_allclose(kept, kept[..., :1].repeat(3, axis=2), atol=2e-3)
    for level in (0.0, 1.0):
        np.testing.assert_allclose(keep(np.full_like(image, level), image), level, atol=1e-3)


# Before it.


@FEW
@SEEDS
def test_mean_and_covariance_become_the_contents(seed):
    """Where no colour has to be brought back into the gamut."""
    style, content = muted(picture(30, 20, seed=seed)), muted(picture(16, 16, seed=seed + 1))
    made = color.match_mean_and_covariance(style, content)
    rows, wanted = (np.float64(one).reshape(-1, 3) for one in (made, content))
    np.testing.assert_allclose(rows.mean(0), wanted.mean(0), atol=1e-5)
    ridge = 2e-5  # both covariances have a ridge of half of it
    np.testing.assert_allclose(np.cov(rows.T), np.cov(wanted.T), atol=ridge)


def test_the_map_of_colours_is_scipys():
    style, content = (np.float64(muted(picture(9, 8, seed=seed))) for seed in (3, 4))
    source, wanted = (
        np.cov(one.reshape(-1, 3).T, bias=True) + 1e-5 * np.eye(3) for one in (style, content)
    )
    root = scipy.linalg.sqrtm(source).real
    inverse = np.linalg.inv(root)
    matrix = inverse @ scipy.linalg.sqrtm(root @ wanted @ root).real @ inverse
    expected = content.reshape(-1, 3).mean(0) + (style - style.reshape(-1, 3).mean(0)) @ matrix
    made = color.match_mean_and_covariance(np.float32(style), np.float32(content))
    np.testing.assert_allclose(made, expected, atol=1e-6)


@FEW
@SEEDS
def test_every_channel_gets_the_contents_histogram_and_keeps_its_order(seed):
    style, content = picture(12, 10, seed=seed), picture(8, 15, seed=seed + 1)
    made = color.match_histogram(style, content)
    for channel in range(3):
        own, wanted = made[..., channel].ravel(), content[..., channel].ravel()
        np.testing.assert_allclose(np.sort(own), np.sort(wanted), atol=1e-6)
        order = np.argsort(style[..., channel], axis=None)
        assert (np.diff(own[order]) >= 0).all()


def test_equal_values_stay_equal_in_the_middle_of_their_ranks():
    style = np.zeros((2, 4, 3), np.float32)
    style[1] = 0.7
    content = np.linspace(0, 1, 8, dtype=np.float32)[:, None, None].repeat(3, axis=2)
    made = color.match_histogram(style, content)
    np.testing.assert_allclose(made[0], 1.5 / 7, atol=1e-6)
    np.testing.assert_allclose(made[1], 5.5 / 7, atol=1e-6)


def test_plain_and_grey_pictures_are_safe_on_either_side():
    grey = picture(4, 5)[..., :1].repeat(3, axis=2)
    uniform = (np.full((4, 5, 3), rgb, np.float32) for rgb in (0, 1, (0.9, 0.1, 0.3)))
    pictures = [*uniform, grey, picture(4, 5)]
    for transfer in MODES.values():
        for one, other in itertools.product(pictures, repeat=2):
            assert in_range(transfer(one, other))


@pytest.mark.parametrize("match", color.RECOLOR_STYLE.values())
def test_a_plain_style_becomes_plain_in_the_contents_middle(match):
    made = match(np.full((4, 5, 3), (0.9, 0.1, 0.3), np.float32), muted(picture(9, 9)))
    assert np.ptp(made, axis=(0, 1)).max() < 1e-6
    assert 0.4 < made.mean() < 0.62


def test_noise_has_the_moments_of_given_colours_and_a_mask_gives_those_of_the_part():
    mean, spread = color.color_moments(muted(picture(20, 20)))
    noise = np.random.default_rng(0).standard_normal((200, 200, 3))
    got_mean, got = color.color_moments(color.sample_colors(mean, spread, noise))
    np.testing.assert_allclose(got_mean, mean, atol=1e-3)
    np.testing.assert_allclose(got, spread, atol=0.02 * spread.max())
    image, weights = picture(6, 8), np.zeros((6, 8))
    weights[:, 2:5] = 0.5
    part = color.color_moments(image[:, 2:5])
    for got, wanted in zip(color.color_moments(image, weights), part, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


# Grey content and grey styles.


def grey_of(pixels: np.ndarray) -> np.ndarray:
    return np.float32(pixels.mean(-1, keepdims=True)).repeat(3, axis=-1)


def is_without_colours(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def test_a_picture_is_grey_where_no_channel_is_2_of_255_from_another_anywhere():
    pixels = grey_of(picture(100, 9))
    for step, expected in {-2: False, -1: True, 1: True, 2: False}.items():
        tinted = pixels.copy()
        tinted[99, 8, 1] = np.float32(0.5)
        tinted[99, 8, [0, 2]] = np.float32(0.5 + step / 255)
        assert color.is_grey(tinted) == expected
    grey = color.to_grey(pixels)
    assert (grey == pixels).all(), "what is grey stays to the bit"
    coloured = picture(4, 5)
    luma = 0.299 * coloured[..., 0] + 0.587 * coloured[..., 1] + 0.114 * coloured[..., 2]
    np.testing.assert_allclose(color.to_grey(coloured), np.dstack([luma] * 3), atol=1e-6)


@pytest.mark.parametrize(
    "asked",
    [
        *({}, {"init": "noise"}, {"init": "style-statistics"}, {"color": "lab"}),
        *({"color": "match-mean-covariance"}, {"masks": True}, {"alpha": "keep"}),
    ],
    ids=str,
)
def test_of_a_grey_content_and_grey_styles_comes_a_grey_picture(
    narrow_file, monkeypatch, compiled_once, asked
):
    """At each level's start, in each preview and at the end; and coloured before, or why do it."""
    content, style = grey_of(content_of(0)), grey_of(style_of(0))
    if "alpha" in asked:
        opaque = np.linspace(0, 1, content.shape[1], dtype=np.float32)
        content = np.dstack([content, opaque[None].repeat(len(content), axis=0)])
    masks = halves(LANDSCAPE) if "masks" in asked else ()
    own = own_options(**{name: asked[name] for name in asked if name != "masks"})
    job = Job(content, [style] * (len(masks) or 1), masks=masks, options=own)
    ends, starts, shown = [], [], []

    def watch(self, state, programs):
        ends.append(np.asarray(state.image)[0])
        follows = leave_level(self, state, programs)
        if isinstance(follows, State):
            starts.append(np.asarray(follows.image))
        return follows

    leave_level = ActiveJob.leave_level
    monkeypatch.setattr(ActiveJob, "leave_level", watch)
    options = tiny_options(narrow_file, preview_every=3)
    watching = {"on_preview": lambda one: shown.append(one.image), "devices": one_device()}
    (result,) = render_many([job], options, **watching)
    assert not any(map(is_without_colours, ends)), "nothing was taken away"
    assert (len(starts), len(shown)) == (1, 2)
    assert all(map(is_without_colours, [*starts, *shown, image_of(result)]))


@pytest.mark.parametrize("coloured", ["content", "style", "a pixel"])
def test_where_one_picture_has_colours_nothing_is_taken_away(
    narrow_file, monkeypatch, compiled_once, coloured
):
    content, one, other = (grey_of(picture(*STYLE_SIZE, seed=seed)) for seed in range(3))
    if coloured == "a pixel":
        other[5, 6, 0] += np.float32(2 / 255)
    else:
        content, other = (content_of(1), other) if coloured == "content" else (content, style_of(1))
    monkeypatch.setattr("nst_jax.engine.schedule.finish.to_grey", None)
    next_level, are_grey = ProgramCache.next_level, []

    def watch(*arguments, is_grey):
        are_grey.append(is_grey)
        return next_level(*arguments, is_grey=is_grey)

    monkeypatch.setattr(ProgramCache, "next_level", watch)
    job = Job(content, [one, other], options=own_options())
    (result,) = render_many([job], tiny_options(narrow_file), devices=one_device())
    assert are_grey == [False]
    assert not is_without_colours(image_of(result))
