"""The fingerprint: a change of anything that changes the picture, and of nothing else."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from engine_jobs import content_of, one_device, style_of, tiny_options, write_narrow_weights

from nst_jax import Job, Options
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.fingerprint import fingerprint, shared_options
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import METHOD_VERSION
from nst_jax.request.job import fill_defaults
from nst_jax.request.options import JOB_FIELDS, SHARED_FIELDS, job_options


def numbers(jobs, options):
    """Fingerprints as a batch has them."""
    session = open_session(options, one_device())
    examined = examine_jobs(fill_defaults(jobs, options), session, NullProgress())
    assert all(isinstance(one, ExaminedJob) for one in examined), examined
    return [one.fingerprint for one in examined]


@pytest.fixture
def options(narrow_file):
    return tiny_options(narrow_file)


def test_it_is_a_sha256_and_repeats(files, options):
    one, other = (numbers([Job(*files)], options)[0] for _ in range(2))
    assert one == other
    assert re.fullmatch("[0-9a-f]{64}", one)


@pytest.mark.parametrize("which", [0, 1])
def test_one_bit_of_an_input_changes_it(files, options, which):
    before = numbers([Job(*files)], options)
    data = bytearray(files[which].read_bytes())
    data[-1] ^= 1  # in the end mark's checksum, which no pixel follows from
    files[which].write_bytes(data)
    assert numbers([Job(*files)], options) != before


def test_one_value_type_or_shape_of_an_array_changes_it(options):
    content, style = ((255 * one(0)).astype(np.uint8) for one in (content_of, style_of))
    changed = content.copy()
    changed[3, 4, 1] ^= 1
    turned = np.ascontiguousarray(content.reshape(content.shape[1], content.shape[0], 3))
    wide = content.astype(np.uint16) * 257
    same, *others = numbers([Job(one, style) for one in (content, changed, turned, wide)], options)
    assert len({same, *others}) == 4
    assert numbers([Job(content.copy(), style)], options) == [same]
    strided = np.repeat(content, 2, axis=1)[:, ::2]
    assert numbers([Job(strided, style)], options) == [same]


def test_styles_count_each_in_its_place(options):
    content, a, b = content_of(0), style_of(0), style_of(1)
    styles = [a, b, (a, b), (b, a), (a, a)]
    assert len(set(numbers([Job(content, style) for style in styles], options))) == 5
    assert len(set(numbers([Job(content, a), Job(content, (a,))], options))) == 1


def test_masks_count_each_in_its_place_and_for_its_picture(options):
    """A content and styles of one size, so that one mask would do for either."""
    content, style = content_of(0), content_of(1)
    one, other = (np.full(content.shape[:2], value, np.float32) for value in (1.0, 0.5))
    plain = Job(content, (style, style))
    jobs = [plain] + [
        dataclasses.replace(plain, **{name: masks})
        for name in ("masks", "style_masks")
        for masks in ((one, one), (one, other), (other, one))
    ]
    assert len(set(numbers(jobs, options))) == len(jobs)


def test_a_picture_to_start_from_counts(options):
    jobs = [
        Job(content_of(0), style_of(0), options=job_options(options, init="file"), init_image=image)
        for image in (content_of(0), content_of(1))
    ]
    assert len(set(numbers(jobs, options))) == 2


CHANGES = {
    "content_weight": 2.0,
    "style_weight": 2.0,
    "tv_weight": 2.0,
    "content_taps": ("relu1_2",),
    "style_taps": ("relu2_1", "relu1_1"),
    "content_tap_weights": (2.0,),
    "style_tap_weights": (1.0, 2.0),
    "style_tap_ratio": 0.3,
    "style_blend_weights": (2.0,),
    "pixel_blend": 0.5,
    "style_scale": 0.9,
    "style_size": 40,
    "learning_rate": 0.03,
    "content_normalization": "mean",
    "style_normalization": "channel_mean",
    "tv_normalization": "sum",
    "gradient_normalization": "l1",
    "learning_rate_schedule": "cosine",
    "learning_rate_end": 0.3,
    "adam_b1": 0.8,
    "adam_b2": 0.999,
    "adam_eps": 1e-7,
    "average_decay": 0.5,
    "clip": "end",
    "steps": 5,
    "first_steps": 7,
    "early_stop": 0.1,
    "seed": 1,
    "init": "noise",
    "noise_ratio": 0.6,
    "noise_range": 0.1,
    "init_blend": 0.4,
    "color": "content",
    "alpha": "black",
    "size": 64,
    "levels": 1,
    "level_ratio": 3.0,
    "pooling": "average",
    "pooling_scale": 2.0,
    "padding": "zero",
    "style_loss": "wasserstein",
    "tv_loss": "absolute",
    "optimizer": "lbfgs",
    "preprocessing": "none",
    "dtype": "bfloat16",
    "bit_depth": 16,
}
NOT_COUNTED = {
    *("weights", "preset", "batch_size", "preview_every", "max_input_pixels", "metadata")
}


def test_every_option_is_thought_of_here():
    assert {*CHANGES, *NOT_COUNTED} == {*JOB_FIELDS, *SHARED_FIELDS}


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_that_matters_changes_it_be_it_the_runs_or_the_jobs_own(files, options, name):
    changed = numbers([Job(*files)], dataclasses.replace(options, **{name: CHANGES[name]}))
    assert changed != numbers([Job(*files)], options)
    if name in JOB_FIELDS:
        own = job_options(options, **{name: CHANGES[name]})
        assert changed == numbers([Job(*files, options=own)], options)


@pytest.mark.parametrize("word", [{"content_taps": ("block2_conv1",)}, {"dtype": "float32"}])
def test_a_taps_other_name_and_what_auto_stands_for_are_the_same(files, options, word):
    named = dataclasses.replace(options, **word)
    assert numbers([Job(*files)], named) == numbers([Job(*files)], options)


def test_how_levels_grow_counts_where_there_are_several_and_as_it_always_was_not_at_all(
    files, options
):
    """What an older method has made is known by a number that knew nothing of the option."""
    by_ratio = {
        (levels, ratio): numbers(
            [Job(*files)], dataclasses.replace(options, levels=levels, level_ratio=ratio)
        )
        for levels in (1, 2)
        for ratio in (1.4142, 2.0, 3.0)
    }
    assert len({tuple(one) for one in by_ratio.values()}) == 4
    assert by_ratio[1, 1.4142] == by_ratio[1, 2.0] == by_ratio[1, 3.0]
    for shared in (Options(levels=1), Options(level_ratio=1.4142)):
        assert "level_ratio" not in shared_options(shared)


def test_the_suffix_counts_and_the_name_does_not(files, options):
    names = ["a.png", "deep/b.png", "c.PNG", "d.tif", "e.jpg"]
    made = numbers([Job(*files, output=name) for name in names], options)
    assert made[0] == made[1] == made[2]
    assert len(set(made)) == 3


def test_the_weights_count_by_content_and_not_by_name(files, options, tmp_path):
    copied = shutil.copy(options.weights, tmp_path / "another_name.h5")
    other = write_narrow_weights(tmp_path / "other.h5", seed=1)
    deeper = write_narrow_weights(tmp_path / "deeper.h5", architecture="vgg19")
    same, *others = (
        numbers([Job(*files)], dataclasses.replace(options, weights=str(weights)))
        for weights in (copied, other, deeper)
    )
    assert same == numbers([Job(*files)], options)
    assert same not in others
    assert others[0] != others[1]


def test_the_batch_size_the_order_and_the_files_names_do_not_count(files, options, tmp_path):
    jobs = [Job(*files), Job(content_of(1), style_of(1)), Job(files[1], files[0])]
    before = numbers(jobs, options)
    assert len(set(before)) == 3
    assert numbers(jobs[::-1], options) == before[::-1]
    for size in ("auto", 1, 7):
        assert numbers(jobs, dataclasses.replace(options, batch_size=size)) == before
    for handling in ({"preview_every": 3}, {"metadata": "none"}):
        assert numbers(jobs, dataclasses.replace(options, **handling)) == before
    moved = [tmp_path / f"moved_{index}.bin" for index in range(2)]
    for path, other in zip(files, moved, strict=True):
        shutil.copy(path, other)
    assert numbers([Job(*moved)], options) == before[:1]


def test_the_method_counts():
    options = Options()
    job = Job(content_of(0), style_of(0), output="a.png")
    common = {"dtype": "float32", "weights_sha256": "0" * 64}
    seen = {
        fingerprint(job, job_options(options), options, PictureIndex(), **common | method)
        for method in ({}, {"method": METHOD_VERSION}, {"method": 7})
    }
    assert len(seen) == 2
