"""Wide pictures lie transposed, on transposed kernels: the same programs, the same pictures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine_jobs import LANDSCAPE, content_of, image_of, own_options, style_of, tiny_job
from networks import narrow_network, on_canvas, picture
from test_vgg import build

from nst_jax.engine.inputs import masks
from nst_jax.engine.plan.levels import count_buckets, make_levels
from nst_jax.engine.schedule.active_job import ActiveJob, restore_job
from nst_jax.engine.schedule.waves import load_job
from nst_jax.model import winograd
from nst_jax.model.objective import Targets, TermWeights, objective
from nst_jax.model.style import RegionsTarget
from nst_jax.model.targets import content_targets, style_moments, style_targets
from nst_jax.model.variation import NinePointVariation
from nst_jax.model.vgg import transpose_network
from nst_jax.request.job import Job
from nst_jax.request.options import JobOptions, Options

CONTENT, STYLE = ("relu3_1",), ("relu1_1", "relu2_1", "relu4_1")
SIZE, CANVAS = (34, 50), (40, 50)
CLOSE = 1e-5


def swap(tree, *axes):
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, *axes), tree)


def make_problem(network, image, content, mask, size, canvas, style_network, kind):
    """Value and gradient of a job with two regions, on pictures as they lie."""
    styles = [picture(44, 37, seed=seed) for seed in (5, 6)]
    moments = [
        style_moments(jnp.asarray(style), style_network, jnp.asarray(style.shape[:2]), STYLE)
        for style in styles
    ]
    apart = [style_targets((one,), jnp.ones(1), kind, "relative") for one in moments]
    style = {
        tap: RegionsTarget.of((one[tap] for one in apart), jnp.asarray(mask[tap]), jnp.ones(2))
        for tap in STYLE
    }
    size = jnp.asarray(size)
    seen = content_targets(jnp.asarray(on_canvas(content, canvas)), network, size, CONTENT, "mean")
    weights = TermWeights(
        *map(jnp.float32, (0.02, 1.0, 2.0)),
        dict.fromkeys(CONTENT, jnp.float32(1)),
        dict.fromkeys(STYLE, jnp.float32(1 / len(STYLE))),
    )
    targets = Targets(seen, style, NinePointVariation())
    run = jax.jit(jax.value_and_grad(objective, has_aux=True))
    (value, _), gradient = run(
        jnp.asarray(on_canvas(image, canvas)), network, size, targets, weights
    )
    return float(value), np.asarray(gradient)


@pytest.mark.parametrize("kind", ["gram", "wasserstein"])
@pytest.mark.parametrize("use_winograd", [False, True])
def test_transposed_content_mask_and_start_give_the_transposed_gradient(
    monkeypatch, kind, use_winograd
):
    monkeypatch.setattr(winograd, "is_profitable", lambda channels_in, _: channels_in > 3)
    network = build(narrow_network("vgg16"), use_winograd=use_winograd, padding="replicate")
    rng = np.random.default_rng(0)
    left = rng.random((20, 30)).astype(np.float32)
    weights = masks.tap_weights([left, 1 - left], SIZE, CANVAS, STYLE)
    turned = masks.tap_weights([left, 1 - left], SIZE, CANVAS[::-1], STYLE, is_transposed=True)
    for tap in STYLE:
        np.testing.assert_array_equal(turned[tap], weights[tap].swapaxes(1, 2))
    image, content = picture(*SIZE, seed=1), picture(*SIZE, seed=2)
    value, gradient = make_problem(network, image, content, weights, SIZE, CANVAS, network, kind)
    other, transposed = make_problem(
        jax.device_put(transpose_network(network)),
        *(one.swapaxes(0, 1) for one in (image, content)),
        turned,
        SIZE[::-1],
        CANVAS[::-1],
        network,
        kind,
    )
    assert other == pytest.approx(value, rel=CLOSE)
    largest = np.abs(gradient).max()
    assert largest > 0
    np.testing.assert_allclose(transposed.swapaxes(0, 1), gradient, rtol=0, atol=CLOSE * largest)


def test_features_of_a_transposed_picture_differ_without_transposed_kernels():
    network, image = build(narrow_network("vgg16")), picture(*SIZE)
    size, turned = jnp.asarray(SIZE), image.swapaxes(0, 1)
    upright = network(jnp.asarray(image), size, STYLE)
    same = network(jnp.asarray(turned), size[::-1], STYLE)
    lying = jax.device_put(transpose_network(network))(jnp.asarray(turned), size[::-1], STYLE)
    for tap in STYLE:
        largest = float(jnp.abs(upright[tap]).max())
        np.testing.assert_allclose(swap(lying[tap], 0, 1), upright[tap], atol=CLOSE * largest)
        assert np.abs(swap(same[tap], 0, 1) - upright[tap]).max() > 0.01 * largest


TURNED = JobOptions(init="content")


def turn(job: Job) -> Job:
    """The same job on its side."""
    content, style = (np.asarray(one).swapaxes(0, 1) for one in (job.content, job.styles[0]))
    options = dataclasses.replace(job.options or TURNED)
    return Job(np.ascontiguousarray(content), np.ascontiguousarray(style), options=options)


def test_wide_and_high_jobs_share_every_program_and_no_batch(studio):
    wide = [tiny_job(number) for number in range(3)]
    results = studio.render(wide)
    programs = set(studio.programs.compiled)
    results += studio.render([turn(job) for job in wide])
    assert set(studio.programs.compiled) == programs
    for result, shape in zip(results, [LANDSCAPE] * 3 + [LANDSCAPE[::-1]] * 3, strict=True):
        assert image_of(result).shape == (*shape, 3)
        assert image_of(result).flags.c_contiguous


def test_a_batch_of_both_gives_the_bytes_of_each_alone(studio):
    jobs = [tiny_job(0), turn(tiny_job(1)), tiny_job(2), turn(tiny_job(3)), tiny_job(4)]
    together, alone = studio.render(jobs), studio.render_alone(jobs)
    for one, other in zip(together, alone, strict=True):
        assert image_of(one).tobytes() == image_of(other).tobytes()


def test_masks_noise_and_previews_lie_as_their_picture_does(studio):
    left = np.zeros(LANDSCAPE, np.float32)
    left[:, :20] = 1
    bright, dark = style_of(0), style_of(0) * 0.2
    own = own_options(steps=8, content_weight=0.0)
    job = Job(content_of(0), (bright, dark), masks=(left, 1 - left), options=own)
    image = image_of(studio.render([job])[0])
    assert image.shape == (*LANDSCAPE, 3)
    assert image[:, :16].mean() > image[:, 26:].mean() + 0.02


def test_a_square_level_of_a_wide_picture_lies_as_its_other_levels():
    options = Options(size=512, content_taps=("relu1_1",), style_taps=("relu1_1",))
    levels = make_levels((500, 501), options, JobOptions())
    assert len({level.is_transposed for level in levels}) == 1
    assert levels[0].is_transposed
    assert levels[0].size[0] == levels[0].size[1]
    assert levels[-1].size_on_canvas == levels[-1].size[::-1]
    assert not make_levels((501, 500), options, JobOptions())[0].is_transposed
    assert not make_levels((500, 500), options, JobOptions())[0].is_transposed


def test_slots_are_for_the_more_of_both_orientations():
    options = Options(size=48, levels=1, content_taps=("relu1_1",), style_taps=("relu1_1",))
    wide, high = (make_levels(size, options, JobOptions()) for size in ((34, 48), (48, 34)))
    assert wide[0].bucket == high[0].bucket
    assert count_buckets([wide] * 3 + [high] * 5) == {wide[0].bucket: 5}


def test_a_snapshot_that_lies_otherwise_is_begun_again(studio):
    [examined] = studio.examine([tiny_job(0, (48, 48))])
    loaded = load_job(examined, studio.options, studio.session.pictures)
    first = ActiveJob(loaded)
    first.keep(1, first.pop_start("adam"))
    first.levels_done, first.loaded = 1, loaded
    snapshot = first.snapshot()
    assert snapshot is not None
    assert not snapshot.is_transposed
    lying = dataclasses.replace(snapshot, is_transposed=True)
    assert restore_job(loaded, lying, "adam").levels_done == 0
