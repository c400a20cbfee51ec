"""Masks: which style applies where. Statistics against NumPy, pictures against the batch laws."""

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
from nst_jax.model.targets import style_moments
from nst_jax.model.wasserstein import WassersteinTarget
from nst_jax.request.errors import PictureError

TAPS = ("pixels", "relu1_2", "relu2_1", "pool2", "relu4_1")


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


def test_a_mask_is_its_grey_and_its_transparency_is_black():
    for array in (np.full((4, 5), 128, np.uint8), np.full((4, 5, 3), 0.5)):
        np.testing.assert_allclose(masks.mask_weights(from_array(array), "m"), 0.5, atol=0.01)
    array = np.ones((4, 6, 4), np.float32)
    array[:, 3:, 3] = 0
    weights = masks.mask_weights(from_array(array), "m")
    np.testing.assert_allclose(weights[:, :3], 1, atol=1e-6)
    assert not weights[:, 3:].any()


# Statistics and distances.


@pytest.mark.usefixtures("more_steps")
def test_a_masked_wasserstein_distance_and_its_gradient_equal_the_definition():
    """The gradient by finite differences of the definition, along directions."""
    features, style = (np.float64(features_of(seed, (8, 9), 6, 0.5)) for seed in (1, 2))
    weights, target = soft_mask((8, 9)), moments_of(style)
    region = region_from_weights(jnp.asarray(weights))
    asked = WassersteinTarget.from_moments(*target), np.float32(features)
    value, slope = value_and_gradient(*asked, weights=region.weights)
    distance = references_masks.wasserstein_distance
    assert value == pytest.approx(distance(features, weights, target), rel=1e-3)
    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=features.shape)
        ahead, behind = (
            distance(features + step * direction, weights, target) for step in (1e-6, -1e-6)
        )
        assert np.vdot(slope, direction) == pytest.approx((ahead - behind) / 2e-6, rel=2e-3)


def test_moments_under_a_mask_equal_the_definition():
    image = np.float32(style_of(0))
    network, size = build(NARROW), jnp.asarray(image.shape[:2])
    mask = soft_mask(STYLE_SIZE)
    weights = {
        tap: one[0] for tap, one in masks.tap_weights([mask], STYLE_SIZE, (48, 48), TAPS).items()
    }
    got = jax.jit(lambda *each: style_moments(*each[:1], network, size, TAPS, *each[1:]))(
        on_canvas(image, (48, 48)), weights
    )
    features = references.vgg(image, NARROW)
    for tap, depth in zip(TAPS, (0, 0, 1, 2, 3), strict=True):
        mean, second = references_masks.moments(features[tap], references_masks.blocks(mask, depth))
        assert references.relative_error(got[tap].mean, mean) < 1e-5
        assert references.relative_error(got[tap].second, second) < 1e-5


def test_the_objective_of_regions_equals_the_definition_through_the_network():
    """Two soft regions that overlap and leave a part out, on a canvas; value and gradient."""
    size, canvas, taps = (33, 41), (48, 48), ("relu1_1", "pool2")
    image = content_of(0, size)
    regions = [soft_mask(size), 0.7 * soft_mask(size, seed=1)[:, ::-1]]
    strengths, shares = (1.4, 0.6), {"relu1_1": 0.25, "pool2": 0.75}
    styles = [references.vgg(style_of(number), NARROW) for number in (0, 1)]
    weights = masks.tap_weights(regions, size, canvas, taps)
    targets = {
        tap: RegionsTarget(
            tuple(GramTarget.from_moments(*moments_of(style[tap])) for style in styles),
            jnp.asarray(weights[tap]),
            jnp.float32(strengths),
        )
        for tap in taps
    }

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


@pytest.mark.parametrize("kind", [GramTarget, WassersteinTarget])
def test_a_white_region_is_what_there_is_without_masks_and_an_unseen_one_asks_nothing(kind):
    """A thin mask may lie in a row that the poolings drop; the gradient stays finite."""
    features = features_of(3, (8, 9), 12)
    target = kind.from_moments(*moments_of(features_of(4, (9, 9), 12)))
    value, slope = value_and_gradient(target, features)
    white, unseen = (
        RegionsTarget((target,), jnp.full((1, 8, 9), weight, jnp.float32), jnp.ones(1))
        for weight in (1, 0)
    )
    again, masked_slope = value_and_gradient(white, features)
    assert again == pytest.approx(value, rel=1e-5)
    assert references.relative_error(masked_slope, slope) < 1e-4
    nothing, still = value_and_gradient(unseen, features)
    assert nothing == 0
    assert not still.any()


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
    return masked_studio.render(MIXED)


def test_jobs_with_and_without_masks_keep_their_bytes_alone_and_in_any_order(
    masked_studio, together
):
    order = [5, 2, 6, 1, 4, 0, 3]
    shuffled = masked_studio.render([MIXED[index] for index in order])
    for index, result in zip(order, shuffled, strict=True):
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


def test_what_no_mask_has_is_the_content_itself(one_level):
    """Farther from the mask than the network looks nothing asks for a change.

    Smoothing would move pixels even so, and does by halves where a mask is grey.
    """
    left, right = halves(LANDSCAPE)
    half_grey = np.zeros(LANDSCAPE, np.float32)
    half_grey[:, :16], half_grey[:, 16:32] = 1, 0.5

    def render_change(mask, **own):
        job = dataclasses.replace(masked_job(0, **own), style=(style_of(0),), masks=(mask,))
        return np.abs(image_of(one_level.render([job])[0]) - content_of(0))

    change = render_change(left, tv_weight=0.0, content_weight=0.0)
    np.testing.assert_allclose(change[:, 34:], 0, atol=1e-6)
    assert change[:, :24].mean() > 0.01
    assert not render_change(left, tv_weight=50.0)[right > 0].any()
    change = render_change(half_grey, tv_weight=50.0)
    assert not change[:, 32:].any()
    assert change[:, 16:32].mean() < change[:, :16].mean()


@pytest.mark.parametrize("style_loss", ["gram", "wasserstein"])
def test_a_region_that_is_empty_leaves_the_picture_to_the_others(narrow_file, style_loss):
    """Masks may be of truth values too."""
    empty, whole = np.zeros(LANDSCAPE, bool), np.ones(LANDSCAPE, bool)
    beside = dataclasses.replace(masked_job(0), masks=(empty, whole), style_masks=())
    alone = dataclasses.replace(beside, style=beside.styles[1:], masks=(whole,))
    options = tiny_options(narrow_file, levels=1, style_loss=style_loss)
    results = render_many([beside, alone], options, on_error="raise", devices=one_device())
    one, other = (image_of(result) for result in sorted(results, key=lambda one: one.index))
    np.testing.assert_allclose(one, other, atol=2e-3)
    assert np.abs(one - content_of(0)).max() > 0.01


def test_masks_change_sides_with_their_styles(one_level):
    job = masked_job(0, steps=3)
    first, swapped, otherwise = one_level.render(
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
    (np.zeros(LANDSCAPE, np.float32), "all are black everywhere"),
    (np.uint8(halves(LANDSCAPE)[0] > 0), "brightest value is 1 of 255"),
    (np.uint16(halves(LANDSCAPE)[0] > 0), "be black everywhere, its brightest value is 0.0"),
    (np.full(LANDSCAPE, np.nan, np.float32), "finite"),
    (np.ones((2, 2, 2, 2), np.float32), "shape"),
]


def test_a_wrong_mask_is_the_jobs_own_fault(narrow_file):
    """Others are not touched; it is the same for a style's mask."""
    style_masks = np.ones(STYLE_SIZE), np.ones((48, 48))
    jobs = [
        *(dataclasses.replace(tiny_job(0), masks=(mask,)) for mask, _ in WRONG),
        dataclasses.replace(masked_job(0), style_masks=style_masks),
        dataclasses.replace(tiny_job(0), style_masks=(np.zeros(STYLE_SIZE, bool),)),
        tiny_job(1),
    ]
    results = render_many(jobs, tiny_options(narrow_file, levels=1), devices=one_device())
    *faulty, good = sorted(results, key=lambda result: result.index)
    assert good.error is None
    said = [*(text for _, text in WRONG), "aspect ratio of the style 'array', which is 48x40"]
    said += ["style mask 'array' must have a pixel that is not black"]
    for result, text in zip(faulty, said, strict=True):
        assert isinstance(result.error, PictureError)
        assert text in str(result.error)
