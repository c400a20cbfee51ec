"""Sizes: what fits into what, and what it costs."""

import itertools
from typing import Any

import numpy as np
import pytest
from engine_jobs import content_of, image_of, one_device, own_options, style_of, tiny_options
from hypothesis import given, settings
from hypothesis import strategies as st

from nst_jax import Job, render_many
from nst_jax.engine.inputs.load import fit_styles
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.plan.canvas import fit_long_edge, padded_shape, padding_share, square_canvas
from nst_jax.engine.plan.levels import level_edges, make_levels
from nst_jax.request.errors import PictureError
from nst_jax.request.options import JobOptions, Options

sides = st.integers(1, 5000)
sizes = st.tuples(sides, sides)
edges = st.integers(16, 4096)


@given(sizes, edges)
def test_a_fitted_size_has_the_long_edge_and_the_aspect_ratio(size, edge):
    height, width = fit_long_edge(size, edge)
    assert max(height, width) == edge
    assert min(height, width) >= 1
    assert (height >= width) == (size[0] >= size[1]) or height == width
    exact = min(size) * edge / max(size)
    assert abs(min(height, width) - max(exact, 1)) <= 0.5


@given(sizes)
def test_a_canvas_keeps_the_long_edge_and_rounds_up_the_short_one_by_less_than_a_step(size):
    canvas, step = padded_shape(size), max(16, -(-max(size) // 8))
    assert fit_long_edge(size, max(size)) == size
    assert max(canvas) == max(size)
    assert 0 <= min(canvas) - min(size) < step
    assert canvas[0] >= canvas[1], "wide ones lie transposed"
    assert padded_shape(canvas) == canvas
    assert padded_shape(size[::-1]) == canvas


@settings(max_examples=25, deadline=None)
@given(edges)
def test_an_edge_has_at_most_eight_canvases(edge):
    canvases = {padded_shape((edge, short)) for short in range(1, edge + 1)}
    assert len(canvases) <= 8


def test_photographs_waste_less_than_fifteen_percent():
    """Sizes as cameras and phones give them, both ways up, and crops by hand."""
    common = [*(ratios := ((3, 2), (4, 3), (16, 9), (1, 1))), *((b, a) for a, b in ratios)]
    crops = np.random.default_rng(0).integers(600, 4000, size=(200, 2)).tolist()
    assert padding_share(fit_long_edge((a, b), 512) for a, b in crops) < 0.15
    for edge in (256, 362, 512, 768, 1024, 2048):
        assert padding_share(fit_long_edge(size, edge) for size in common) < 0.15, edge


def test_waste_is_a_share_of_the_canvas():
    assert padding_share([]) == 0
    assert padding_share([(512, 512)]) == 0
    assert padding_share([(512, 384), (384, 512)]) == 0
    assert padding_share([(512, 321)]) == pytest.approx(1 - 321 / 384)
    assert square_canvas(300) == (300, 300), "styles share a square"


SHALLOW: dict[str, Any] = {"content_taps": ("relu2_1",), "style_taps": ("relu1_1",)}


ratios = st.floats(1.2, 4)


@given(st.integers(16, 16384), st.integers(1, 16), ratios)
def test_levels_grow_by_the_ratio_and_end_at_the_size(size, levels, ratio):
    made = level_edges(size, levels, ratio)
    assert made[-1] == size
    assert list(made) == sorted(set(made))
    assert len(made) <= levels
    assert len(made) == levels or made[0] < 8, "only the tiniest ones are alike"
    for level, edge in enumerate(reversed(made)):
        assert abs(edge - size / ratio**level) <= 0.5 or made[0] < 8
    for before, after in itertools.pairwise(made):
        assert after / before == pytest.approx(ratio, rel=1.3 / before)


@given(st.integers(16, 16384), ratios)
def test_levels_begin_nearest_to_128_px_of_themselves(size, ratio):
    made = level_edges(size, "auto", ratio)
    chosen = abs(size / ratio ** (len(made) - 1) - 128)
    others = [abs(size / ratio**levels - 128) for levels in range(30)]
    assert chosen == pytest.approx(min(others))
    assert made == level_edges(size, len(made), ratio)


@pytest.mark.parametrize(
    ("size", "ratio", "edges"),
    [
        (64, 2.0, (64,)),
        (170, 2.0, (170,)),
        (171, 2.0, (86, 171)),
        (256, 2.0, (128, 256)),
        (300, 2.0, (150, 300)),
        (512, 2.0, (128, 256, 512)),
        (180, 1.4142, (127, 180)),
        (300, 1.4142, (106, 150, 212, 300)),
        (512, 1.4142, (128, 181, 256, 362, 512)),
        (1024, 4.0, (64, 256, 1024)),
    ],
)
def test_levels_by_hand(size, ratio, edges):
    assert level_edges(size, "auto", ratio) == edges


@given(sizes, st.integers(64, 1024), st.integers(1, 6), st.floats(0.25, 4), ratios)
def test_levels_follow_from_the_own_size_alone(size, edge, levels, scale, ratio):
    options = Options(size=edge, levels=levels, level_ratio=ratio, **SHALLOW)
    own = JobOptions(style_scale=scale, **SHALLOW)
    if min(fit_long_edge(size, edge)) < 2:
        with pytest.raises(PictureError, match="at least 2 px"):
            make_levels(size, options, own)
        return
    made = make_levels(size, options, own)
    assert made == make_levels(size, options, own)
    assert made[-1].size == fit_long_edge(size, edge)
    assert made[-1].index == len(level_edges(edge, levels, ratio)) - 1
    for level in made:
        assert level.size == fit_long_edge(size, level_edges(edge, levels, ratio)[level.index])
        assert level.canvas == padded_shape(level.size)
        assert level.style_edge == max(2, round(max(level.size) * scale))
    assert [level.index for level in made] == list(range(made[0].index, made[-1].index + 1))


def test_a_narrow_picture_leaves_the_coarse_levels_out_and_a_narrower_one_is_refused():
    """relu5_1 needs 16 px: 1000x40 has 10, 14 and 20 px at 256, 362 and 512 px."""
    options = Options(size=512, levels=3)
    assert [level.index for level in make_levels((1000, 40), options, options)] == [2]
    assert [level.index for level in make_levels((1000, 800), options, options)] == [0, 1, 2]
    with pytest.raises(PictureError, match="16 px") as caught:
        make_levels((1000, 30), options, options)
    assert "15x512" in str(caught.value)
    assert "30x1000" in str(caught.value)
    assert "--size" in caught.value.remedy


@pytest.mark.parametrize(
    ("size", "style", "edges"),
    [
        (512, (400, 500), (128, 256, 512)),
        (512, (200, 2000), (160, 256, 512)),  # 128x13 would not reach relu5_1
        (512, (2000, 64), (500, 500, 512)),
        (64, (200, 2000), (160,)),
        (512, (50, 2000), None),
        (64, (20, 30000), None),
        (64, (10, 100), None),  # it would have to be enlarged
    ],
)
def test_a_long_style_is_looked_at_larger_and_a_longer_one_is_refused(size, style, edges):
    options = Options(size=size)
    levels = make_levels((300, 400), options, options)
    asked = Job("a", np.zeros(style, np.uint8)), options, levels, PictureIndex()
    if edges is None:
        with pytest.raises(PictureError, match=r"at least 16 px on both sides.* at the last level"):
            fit_styles(*asked)
    else:
        assert tuple(level.style_edge for level in fit_styles(*asked)) == edges


def test_a_long_style_is_rendered(narrow_file):
    job = Job(content_of(0), np.repeat(style_of(0)[:4], 10, axis=1), options=own_options())
    (result,) = render_many([job], tiny_options(narrow_file, levels=1), devices=one_device())
    assert image_of(result).shape == (34, 48, 3)
