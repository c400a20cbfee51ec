"""Masks: which style applies where. Statistics against NumPy, pictures against the batch laws."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
import references_masks
from engine_jobs import (
    LANDSCAPE,
    NARROW,
    STYLE_SIZE,
    Studio,
    compiling_as_shipped,
    content_of,
    image_of,
    one_device,
    own_options,
    same,
    style_of,
    tiny_job,
    tiny_options,
)
from networks import on_canvas
from test_vgg import build
from test_wasserstein import features_of, moments_of, value_and_gradient

from nst_jax import Job, render_many
from nst_jax.engine.inputs import masks
from nst_jax.files.images import from_array
from nst_jax.model import objective as model
from nst_jax.model.region import region_from_weights
from nst_jax.model.style import GramTarget, RegionsTarget
from nst_jax.model.wasserstein import WassersteinTarget
from nst_jax.request.errors import OptionError, PictureError

TAPS = ("pixels", "relu1_2", "relu2_1", "pool2", "relu4_1")
KINDS = pytest.mark.parametrize("kind", [GramTarget, WassersteinTarget])


def soft_mask(size: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """White on one side, black on the other, something between in the middle."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(-1, 2, size[1])[None, :] + 0.2 * rng.normal(size=size)
    return np.clip(ramp, 0, 1).astype(np.float32)


def halves(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two masks that share a picture, left and right, with hard edges."""
    left = np.zeros(size, np.float32)
    left[:, : size[1] // 2] = 1
    return left, 1 - left


# Weights of positions.


@pytest.mark.parametrize("size", [LANDSCAPE, (33, 47), (16, 16)])
def test_a_position_has_the_mean_of_the_pixels_that_it_stands_for(size):
    regions = [soft_mask(size), 1 - soft_mask(size, seed=1)]
    got = masks.tap_weights(regions, size, (48, 48), TAPS)
    for tap, depth in zip(TAPS, (0, 0, 1, 2, 3), strict=True):
        assert got[tap].shape == (2, 48 >> depth, 48 >> depth)
        for number, region in enumerate(regions):
            expected = references_masks.blocks(region, depth)
            height, width = expected.shape
            np.testing.assert_allclose(got[tap][number, :height, :width], expected, atol=1e-6)
        rest = got[tap].copy()
        rest[:, :height, :width] = 0
        assert not rest.any(), "outside of the image nothing counts"


def test_masks_that_share_a_picture_share_it_at_every_size():
    one = soft_mask((90, 128))
    for size in (LANDSCAPE, (90, 128), (180, 256)):
        scaled = [masks.resize_mask(mask, size) for mask in (one, 1 - one)]
        np.testing.assert_allclose(sum(scaled), 1, atol=1e-6)
        assert min(mask.min() for mask in scaled) >= 0


@pytest.mark.parametrize("array", [np.full((4, 5), 128, np.uint8), np.full((4, 5, 3), 0.5)])
def test_a_mask_is_its_grey(array):
    np.testing.assert_allclose(masks.mask_weights(from_array(array), "m"), 0.5, atol=0.01)


def test_transparency_of_a_mask_is_black():
    array = np.ones((4, 6, 4), np.float32)
    array[:, 3:, 3] = 0
    weights = masks.mask_weights(from_array(array), "m")
    np.testing.assert_allclose(weights[:, :3], 1, atol=1e-6)
    assert not weights[:, 3:].any()


# Statistics and distances.


def expected_distance(kind, features, weights, target) -> float:
    if kind is GramTarget:
        return references_masks.gram_distance(features, weights, target[1])
    return references_masks.wasserstein_distance(features, weights, target)


@pytest.mark.usefixtures("more_steps")
@KINDS
def test_a_masked_distance_and_its_gradient_equal_the_definition(kind):
    """The gradient by finite differences of the definition, along directions."""
    features, style = (np.float64(features_of(seed, (8, 9), 6, 0.5)) for seed in (1, 2))
    weights, target = soft_mask((8, 9)), moments_of(style)
    region = region_from_weights(jnp.asarray(weights))
    value, slope = value_and_gradient(
        kind.from_moments(*target),
        np.float32(features),
        weights=region.weights,
    )
    assert value == pytest.approx(expected_distance(kind, features, weights, target), rel=1e-3)
    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=features.shape)
        ahead, behind = (
            expected_distance(kind, features + step * direction, weights, target)
            for step in (1e-6, -1e-6)
        )
        assert np.vdot(slope, direction) == pytest.approx((ahead - behind) / 2e-6, rel=2e-3)


def test_moments_under_a_mask_equal_the_definition():
    image = np.float32(style_of(0))
    network, size = build(NARROW), jnp.asarray(image.shape[:2])
    mask = soft_mask(STYLE_SIZE)
    weights = {
        tap: one[0] for tap, one in masks.tap_weights([mask], STYLE_SIZE, (48, 48), TAPS).items()
    }
    got = jax.jit(lambda *each: model.style_moments(*each[:1], network, size, TAPS, *each[1:]))(
        on_canvas(image, (48, 48)), weights
    )
    features = references.vgg(image, NARROW)
    for tap, depth in zip(TAPS, (0, 0, 1, 2, 3), strict=True):
        mean, second = references_masks.moments(features[tap], references_masks.blocks(mask, depth))
        assert references.relative_error(got[tap].mean, mean) < 1e-5
        assert references.relative_error(got[tap].second, second) < 1e-5


def regions_target(tap, kind, styles, weights, strengths) -> RegionsTarget:
    targets = tuple(kind.from_moments(*moments_of(style[tap])) for style in styles)
    return RegionsTarget(targets, jnp.asarray(weights[tap]), jnp.float32(strengths))


def test_the_objective_of_regions_equals_the_definition_through_the_network():
    """Two soft regions that overlap and leave a part out, on a canvas; value and gradient."""
    size, canvas, taps = (33, 41), (48, 48), ("relu1_1", "pool2")
    image = content_of(0, size)
    regions = [soft_mask(size), 0.7 * soft_mask(size, seed=1)[:, ::-1]]
    strengths, shares = (1.4, 0.6), {"relu1_1": 0.25, "pool2": 0.75}
    styles = [references.vgg(style_of(number), NARROW) for number in (0, 1)]
    weights = masks.tap_weights(regions, size, canvas, taps)
    targets = {tap: regions_target(tap, GramTarget, styles, weights, strengths) for tap in taps}

    features = references.vgg(image, NARROW, deepest="pool2")
    value, gradients = 0.0, {}
    for tap, depth in (("relu1_1", 0), ("pool2", 2)):
        for region, strength, style in zip(regions, strengths, styles, strict=True):
            own = references_masks.blocks(region, depth)
            factor = shares[tap] * strength * own.sum() / own.size
            asked = features[tap], own, references.gram(style[tap])
            value += factor * references_masks.gram_distance(*asked)
            slope = factor * references_masks.gram_distance_backward(*asked)
            gradients[tap] = gradients.get(tap, 0) + slope
    expected = references.vgg_backward(features, gradients, NARROW)

    network, none = build(NARROW), jnp.float32(0)
    by_tap = {tap: jnp.float32(share) for tap, share in shares.items()}
    term_weights = model.TermWeights(none, jnp.float32(1), none, {}, by_tap)
    (got, _), gradient = jax.jit(jax.value_and_grad(model.objective, has_aux=True))(
        jnp.asarray(on_canvas(image, canvas)),
        network,
        jnp.asarray(size),
        model.Targets({}, targets),
        term_weights,
    )
    assert float(got) == pytest.approx(value, rel=1e-5)
    assert references.relative_error(gradient[:33, :41], expected) < 1e-4


@KINDS
def test_one_white_region_is_what_there_is_without_masks(kind):
    features = features_of(3, (8, 9), 12)
    target = kind.from_moments(*moments_of(features_of(4, (9, 9), 12)))
    whole = RegionsTarget((target,), jnp.ones((1, 8, 9)), jnp.ones(1))
    value, slope = value_and_gradient(target, features)
    again, masked_slope = value_and_gradient(whole, features)
    assert again == pytest.approx(value, rel=1e-5)
    assert references.relative_error(masked_slope, slope) < 1e-4


@KINDS
def test_a_region_that_a_tap_does_not_see_asks_nothing_and_stays_finite(kind):
    """A thin mask may lie in a row that the poolings drop."""
    features = features_of(5, (4, 4), 8)
    target = kind.from_moments(*moments_of(features_of(6, (9, 9), 8)))
    unseen = RegionsTarget((target,), jnp.zeros((1, 4, 4)), jnp.ones(1))
    value, slope = value_and_gradient(unseen, features)
    assert value == 0
    assert not slope.any()


# Pictures.


def masked_job(pair: int, size: tuple[int, int] = LANDSCAPE, **own) -> Job:
    """Two styles, each in its half of the picture."""
    styles = (style_of(pair), style_of(pair + 1))
    return Job(content_of(pair, size), styles, options=own_options(**own), masks=halves(size))


MIXED = [
    masked_job(0),
    tiny_job(1),
    masked_job(2, style_blend_weights=(1.0, 3.0), steps=5),
    masked_job(3, (33, 47)),
    dataclasses.replace(tiny_job(4), masks=(soft_mask(LANDSCAPE),)),
    dataclasses.replace(masked_job(5), style_masks=halves(STYLE_SIZE)),
    dataclasses.replace(masked_job(6), masks=[255 * np.uint8(one > 0) for one in halves((68, 96))]),
]
"""With and without masks, one region and two, two sizes, masks of another scale."""


@pytest.fixture(scope="module", params=[("gram", 2), ("wasserstein", 1)], ids=lambda one: one[0])
def masked_studio(narrow_file, request):
    style_loss, levels = request.param
    return Studio(tiny_options(narrow_file, style_loss=style_loss, levels=levels))


@pytest.fixture(scope="module")
def together(masked_studio):
    one_level = masked_studio.options.levels == 1
    with compiling_as_shipped() if one_level else contextlib.nullcontext():
        return masked_studio.render(MIXED)


def test_jobs_with_and_without_masks_keep_their_bytes_alone_and_in_any_order(
    masked_studio, together
):
    order = [5, 2, 6, 1, 4, 0, 3]
    for index, result in zip(
        order, masked_studio.render([MIXED[index] for index in order]), strict=True
    ):
        assert same(result, together[index]), index
    for index in (0, 1, 4):
        assert same(masked_studio.render([MIXED[index]])[0], together[index]), index
    assert len({image_of(result).tobytes() for result in together}) == len(MIXED)


def test_other_masks_are_no_other_program(masked_studio, together):
    before = len(masked_studio.programs.compiled)
    jobs = [
        dataclasses.replace(masked_job(8), masks=(soft_mask(LANDSCAPE), soft_mask(LANDSCAPE))),
        dataclasses.replace(tiny_job(9), masks=(1 - soft_mask(LANDSCAPE),)),
    ]
    assert all(result.error is None for result in masked_studio.render(jobs))
    assert len(masked_studio.programs.compiled) == before


def test_outside_of_all_regions_the_content_stays(narrow_file):
    """What lies farther from the mask than the network looks is not moved by one bit."""
    studio = Studio(tiny_options(narrow_file, levels=1))
    job = masked_job(0, tv_weight=0.0, content_weight=0.0)
    left, _ = halves(LANDSCAPE)
    (one,) = studio.render([dataclasses.replace(job, style=(style_of(0),), masks=(left,))])
    change = np.abs(image_of(one) - content_of(0))
    np.testing.assert_allclose(change[:, 34:], 0, atol=1e-6)
    assert change[:, :24].mean() > 0.01


def test_what_is_black_in_all_masks_is_the_content_itself(narrow_file):
    """Though smoothing moves its pixels, and by halves where a mask is grey."""
    studio = Studio(tiny_options(narrow_file, levels=1))
    job = dataclasses.replace(masked_job(0, tv_weight=50.0), style=(style_of(0),))
    half_grey = np.zeros(LANDSCAPE, np.float32)
    half_grey[:, :16], half_grey[:, 16:32] = 1, 0.5
    whole, mixed = (
        image_of(studio.render([dataclasses.replace(job, masks=(mask,))])[0])
        for mask in (halves(LANDSCAPE)[0], half_grey)
    )
    content = content_of(0)
    np.testing.assert_allclose(whole[:, LANDSCAPE[1] // 2 :], content[:, LANDSCAPE[1] // 2 :])
    np.testing.assert_allclose(mixed[:, 32:], content[:, 32:])
    change = np.abs(mixed - content).mean((0, 2))
    assert change[16:32].mean() < change[:16].mean()


def test_masks_change_sides_with_their_styles(narrow_file):
    studio = Studio(tiny_options(narrow_file, levels=1, steps=3))
    job = masked_job(0)
    first, swapped, otherwise = studio.render(
        [
            job,
            dataclasses.replace(job, style=job.styles[::-1], masks=job.masks[::-1]),
            dataclasses.replace(job, masks=job.masks[::-1]),
        ]
    )
    np.testing.assert_allclose(image_of(swapped), image_of(first), atol=1e-3)
    assert np.abs(image_of(otherwise) - image_of(first)).max() > 0.01


# Faults.


WRONG = [
    (np.ones((34, 40), np.float32), "aspect ratio of the content 'array', which is 48x34"),
    (np.ones((48, 34), np.float32), "got 34x48"),
    (np.zeros(LANDSCAPE, np.float32), "not black"),
    (np.full(LANDSCAPE, np.nan, np.float32), "finite"),
    (np.ones((2, 2, 2, 2), np.float32), "shape"),
]


def test_a_wrong_mask_is_the_jobs_own_fault(narrow_file):
    """Others are not touched; it is the same for a style's mask."""
    wrong = [dataclasses.replace(tiny_job(0), masks=(mask,)) for mask, _ in WRONG]
    of_a_style = dataclasses.replace(
        masked_job(0), style_masks=(np.ones(STYLE_SIZE), np.ones((48, 48)))
    )
    run = render_many(
        [*wrong, of_a_style, tiny_job(1)], tiny_options(narrow_file), devices=one_device()
    )
    *faulty, good = sorted(run, key=lambda result: result.index)
    assert good.error is None
    said = [*(text for _, text in WRONG), "aspect ratio of the style 'array', which is 48x40"]
    for result, text in zip(faulty, said, strict=True):
        assert isinstance(result.error, PictureError)
        assert text in str(result.error)


@pytest.mark.parametrize("name", ["masks", "style_masks"])
def test_masks_that_do_not_match_the_styles_are_refused_before_any_rendering(name, narrow_file):
    for given in ((np.ones(LANDSCAPE),) * 3, "mask.png"):
        job = dataclasses.replace(masked_job(0), **{name: given})
        with pytest.raises(OptionError, match=f"^{name} must"):
            next(render_many([job], tiny_options(narrow_file)))
