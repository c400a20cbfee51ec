"""Options: each field's rule, what the rest of the program makes of them, and their names.

The values here are often of a wrong type, as a caller's are.
"""

import copy
import dataclasses
import math
import operator
import pickle
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from engine_jobs import own_of
from hypothesis import given
from hypothesis import strategies as st

from nst_jax import Job, RunPolicy
from nst_jax.request.errors import OptionError, RequestError, TapError
from nst_jax.request.job import fill_defaults
from nst_jax.request.layered_options import override_options
from nst_jax.request.manifest import read_manifest
from nst_jax.request.options import (
    JOB_FIELDS,
    SHARED_FIELDS,
    JobOptions,
    Options,
    foreign_tap_names,
    job_options,
    normalized_weights,
    with_canonical_taps,
)
from nst_jax.request.presets import PRESETS
from nst_jax.request.taps import VGG16, VGG19

pytestmark = pytest.mark.usefixtures("no_type_checks")

NAN, INF = math.nan, math.inf


def made(**values: Any) -> Options:
    return Options(**values)


def refusal(name: str, value: object) -> str:
    with pytest.raises(RequestError) as caught:
        made(**{name: value})
    assert caught.value.kind == OptionError.kind == "option"
    message = str(caught.value)
    assert message.startswith((f"{name} must be ", f"{name} must have "))
    assert "got " in message
    assert "\n" not in message
    return message


# Names.


def test_the_fields_are_the_pinned_ones():
    assert set(JOB_FIELDS) == {
        *("content_weight", "style_weight", "tv_weight", "content_taps", "style_taps"),
        *("content_tap_weights", "style_tap_weights", "style_blend_weights", "style_scale"),
        *("content_normalization", "style_normalization", "tv_normalization"),
        *("gradient_normalization", "learning_rate", "learning_rate_schedule"),
        *("learning_rate_end", "adam_b1", "adam_b2", "adam_eps", "average_decay", "clip"),
        *("steps", "first_steps", "early_stop", "seed", "init", "color", "alpha"),
        *("style_size", "noise_ratio", "noise_range", "init_blend", "style_tap_ratio"),
        "pixel_blend",
    }
    pinned = {"size", "levels", "style_loss", "pooling", "optimizer", "dtype", "weights"}
    assert set(SHARED_FIELDS) == pinned | {
        *("preset", "preprocessing", "tv_loss", "padding", "bit_depth", "batch_size"),
        *("pooling_scale", "preview_every", "max_input_pixels", "metadata", "level_ratio"),
    }
    assert not set(JOB_FIELDS) & set(SHARED_FIELDS)


def test_options_are_given_by_name_can_be_compared_hashed_and_not_changed():
    for field in dataclasses.fields(Options):
        assert field.kw_only
        assert made(**{field.name: getattr(Options(), field.name)}) == Options()
    assert hash(Options(seed=1)) == hash(Options(seed=1)) != hash(Options(seed=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().steps = 3  # pyright: ignore[reportAttributeAccessIssue]


# What a job does not say is the run's.

RUN: dict[str, Any] = {"preset": "fast", "steps": 7}
"""`fast` says first_steps 24 and adam_b1 0.6, among others."""


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (JobOptions(seed=1), {"seed": 1}),
        (JobOptions(steps=75), {"steps": 75}),  # which is the default
        (dataclasses.replace(JobOptions(steps=75), seed=1), {"steps": 75, "seed": 1}),
        (dataclasses.replace(JobOptions(seed=1), steps=75), {"steps": 75, "seed": 1}),
        (copy.deepcopy(copy.copy(JobOptions(steps=75))), {"steps": 75}),
        (pickle.loads(pickle.dumps(JobOptions(seed=1))), {"seed": 1}),
        (Options(seed=1), {"seed": 1}),
        (pickle.loads(pickle.dumps(Options(preset="gram", steps=9, style_loss="gram"))),
         {**PRESETS["gram"].values, "steps": 9}),
        (job_options(Options(), seed=1), {**dataclasses.asdict(JobOptions()), "seed": 1}),
        (None, {}),
    ],
)  # fmt: skip
def test_a_job_has_the_runs_value_of_whatever_it_does_not_say(own, said):
    run = made(**RUN, style_loss="gram", tv_loss="squared")
    (job,) = fill_defaults([Job("a.png", "b.png", options=own)], run)
    expected = {name: said.get(name, getattr(run, name)) for name in JOB_FIELDS}
    assert dataclasses.asdict(own_of(job)) == expected
    assert fill_defaults([job], made()) == [job], "it is complete"


def test_what_was_given_by_name_is_no_part_of_the_options_value():
    plain, named = JobOptions(), JobOptions(steps=75)
    assert (plain.given_names, named.given_names) == (frozenset(), {"steps"})
    assert plain == named
    assert hash(plain) == hash(named)
    assert repr(plain) == repr(named) == repr(pickle.loads(pickle.dumps(plain)))
    assert plain.steps == 75


def test_a_jobs_own_value_of_what_all_share_is_refused_unless_it_is_the_runs():
    job = Job("a.png", "b.png", options=Options(size=64))
    with pytest.raises(OptionError, match="size must be the same for all jobs of a run, got 64"):
        fill_defaults([job], made())
    assert own_of(fill_defaults([job], made(size=64, steps=3))[0]).steps == 3


# Rules.

NOT_FINITE = (NAN, INF, -INF)
NO_NUMBER = (*NOT_FINITE, -1e-9, True, None, "1", (1.0,), 1j, 1e39, 10**400)
NO_WHOLE = (True, 20.0, NAN, INF, "20", None, [20], b"20")
NO_TAPS = ((), ("relu4_2", "relu4_2"), "relu4_2", [], [""], None, 4, (4,), ([],), ("",))
NO_WEIGHTS = ((0.0,), (NAN,), (INF,), (-1.0,), (True,), ("1",), (None,), [0.0], 1.0, "1", None)
FROM_0 = ("content_weight", "style_weight", "tv_weight", "early_stop")
ABOVE_0 = ("learning_rate", "adam_eps", "style_tap_ratio")
WHOLE = {
    "steps": (1, 1_000_000),
    "first_steps": (0, 1_000_000),
    "seed": (0, 2**32 - 1),
    "size": (16, 16384),
    "levels": (1, 16),
    "batch_size": (1, 4096),
    "preview_every": (0, 1_000_000),
}
RULES = {
    **dict.fromkeys(FROM_0, ((0, 0.0, 3.4e38), NO_NUMBER, "a number, 0 or more, finite")),
    **dict.fromkeys(ABOVE_0, ((1e-9, 1), (0.0, 0, *NO_NUMBER), "above 0")),
    "style_scale": ((1e-9, 8.0), (0.0, 8.01, *NO_NUMBER), "above 0, at most 8"),
    "pooling_scale": ((1e-9, 16), (0.0, 16.1, *NO_NUMBER), "above 0, at most 16"),
    "level_ratio": ((1.2, 2, 4), (1.19, 4.01, *NO_NUMBER), "a number from 1.2 to 4"),
    **dict.fromkeys(
        ("noise_ratio", "noise_range", "init_blend", "pixel_blend"),
        ((0, 0.0, 0.4, 1), (1 + 1e-9, *NO_NUMBER), "from 0 to 1"),
    ),
    **dict.fromkeys(
        ("adam_b1", "adam_b2", "average_decay"),
        ((0.0, 0, 0.5, 0.999), (1.0, 1, 2.0, *NO_NUMBER), "up to, but not, 1"),
    ),
    "learning_rate_end": ((1e-6, 0.5, 1, 1.0), (0.0, 1.1, *NO_NUMBER), "above 0, at most 1"),
    "style_size": (
        (0, 16, 16384),
        (-1, 1, 15, 16385, *NO_WHOLE),
        "0 or a whole number of pixels from 16",
    ),
    **{
        name: ((first, last), (first - 1, last + 1, *NO_WHOLE), f"from {first} to {last}")
        for name, (first, last) in WHOLE.items()
    },
    **dict.fromkeys(
        ("content_taps", "style_taps"),
        ((("relu4_2",), ("relu1_1", "pool2")), (*NO_TAPS, {"relu4_2"}), "none twice"),
    ),
    **dict.fromkeys(
        ("content_tap_weights", "style_tap_weights", "style_blend_weights"),
        (((),), (*NO_WEIGHTS, (1e308, 1e308)), "not all 0"),
    ),
    "max_input_pixels": ((1, 10**12), (0, -1, *NO_WHOLE), "pixels, 1 or more"),
    "weights": (("vgg16", "a.h5"), ("", None, 5, b"vgg16", ("vgg16",)), "name of a network"),
}
"""By option: values that are taken, values that are refused, and words of the refusal."""

CHOICES = [name for name in (*JOB_FIELDS, *SHARED_FIELDS) if name not in (*RULES, "preset")]


@pytest.mark.parametrize("name", RULES)
def test_an_option_takes_what_its_rule_says_and_refuses_the_rest_in_its_words(name):
    taken, wrong, words = RULES[name]
    for value in taken:
        assert getattr(made(**{name: value}), name) == value
    for value in wrong:
        assert words in refusal(name, value)


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("style_weight", np.float32(0.1), float(np.float32(0.1))),
        ("style_weight", np.float64(0.1), 0.1),
        ("style_weight", np.int64(2), 2),
        ("style_weight", np.longdouble(2), 2.0),
        ("weights", Path("some", "vgg.h5"), str(Path("some", "vgg.h5"))),
        ("learning_rate", jnp.float32(0.5), 0.5),
        ("steps", np.int64(7), 7),
        ("steps", np.array(7, np.uint8), 7),
        ("seed", jnp.uint32(3), 3),
        ("levels", np.int8(2), 2),
        ("init", np.str_("noise"), "noise"),
        ("style_blend_weights", np.array([1, 2], np.float32), (1.0, 2.0)),
        ("style_blend_weights", [np.float64(1)], (1.0,)),
        ("content_taps", np.array(["relu1_1"]), ("relu1_1",)),
    ],
)
def test_values_of_numpy_and_jax_are_kept_as_plain_ones(name, value, plain):
    options = made(**{name: value})
    assert repr(getattr(options, name)) == repr(plain)
    assert options == made(**{name: plain})


@pytest.mark.parametrize(
    "value",
    [
        *(np.bool_(True), np.float32(np.nan), np.array([1, 2]), np.ones((2, 2))),
        *(np.timedelta64(3, "ns"), np.array(3, "m8[ns]"), np.datetime64(3, "ns")),
    ],
)
def test_values_of_numpy_are_refused_as_plain_ones_are(value):
    refusal("steps", value)
    refusal("style_blend_weights", np.array([1, 2], "m8[ns]"))


def test_a_runs_policy_and_a_jobs_size_are_plain_too():
    policy = RunPolicy(retries=np.int64(3), checkpoint_every=np.float32(0.5), verify=np.bool_(True))
    assert repr(policy) == repr(RunPolicy(retries=3, checkpoint_every=0.5, verify=True))
    sizes = ((np.int64(480), np.int64(640)), np.array([480, 640]), [480, 640])
    jobs = fill_defaults([Job("a.png", "b.png", size=size) for size in sizes], made())
    assert [repr(job.size) for job in jobs] == ["(480, 640)"] * 3
    assert all(map(operator.is_, fill_defaults(jobs, made()), jobs)), "they are complete"
    for wrong in (480, (480,), (0, 640), (480.0, 640.0), "480x640"):
        with pytest.raises(OptionError, match=r"must be its content's height"):
            fill_defaults([Job("a.png", "b.png", size=wrong)], made())


@given(st.floats(min_value=0, max_value=3.4e38), st.sampled_from(FROM_0))
def test_any_finite_weight_from_0_is_taken_and_any_below_is_refused(value, name):
    assert getattr(made(**{name: value}), name) == value
    if value:
        refusal(name, -value)


@pytest.mark.parametrize("kind", ["content", "style"])
def test_there_is_one_weight_a_tap_or_none_at_all(kind):
    taps = {f"{kind}_taps": ("relu1_1", "relu2_1")}
    for weights in ((), (1.0, 0.0), (3.0, 5.0)):
        made(**taps, **{f"{kind}_tap_weights": weights})
    for weights in ((1.0,), (1.0, 1.0, 1.0)):
        with pytest.raises(OptionError, match=f"{kind}_tap_weights must have one number for each"):
            made(**taps, **{f"{kind}_tap_weights": weights})


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_those_that_are_listed(name):
    for value in ("sideways", "", None, ["content"], 5, {}):
        assert str(getattr(Options(), name)) in refusal(name, value)


# What becomes of them.


@given(st.lists(st.floats(0, 1e6), max_size=6).map(tuple), st.integers(1, 6))
def test_shares_sum_to_1_keep_proportions_and_are_equal_where_none_are_given(weights, count):
    if weights and not sum(weights):
        return
    got = normalized_weights(weights, count)
    assert len(got) == (len(weights) or count)
    assert math.isclose(math.fsum(got), 1)
    assert all(share >= 0 for share in got)
    assert normalized_weights((1.0, 3.0), 2) == (0.25, 0.75)
    assert normalized_weights((0.0, 2.0), 2) == (0.0, 1.0)
    assert normalized_weights((), 4) == (0.25,) * 4


def test_resolved_gives_canonical_taps_and_changes_nothing_else():
    own = job_options(
        Options(
            content_taps=("block4_conv2",),
            style_taps=("r11", "Relu2_1", "p4"),
            style_tap_weights=(1.0, 2.0, 3.0),
            seed=7,
        )
    )
    got = with_canonical_taps(own, VGG19)
    assert got.content_taps == ("relu4_2",)
    assert got.style_taps == ("relu1_1", "relu2_1", "pool4")
    assert got == dataclasses.replace(own, content_taps=got.content_taps, style_taps=got.style_taps)


def test_a_tap_that_the_network_lacks_is_refused_and_one_of_the_deeper_network_not():
    own = JobOptions(content_taps=("relu4_4",))
    assert with_canonical_taps(own, VGG19) == own
    with pytest.raises(TapError, match="relu4_1 to relu4_3"):
        with_canonical_taps(own, VGG16)


def test_other_programs_names_are_told_with_what_they_were_taken_for():
    own = JobOptions(content_taps=("block4_conv2", "pixels"), style_taps=("r11", "relu2_1"))
    assert foreign_tap_names(own, VGG16) == {"block4_conv2": "relu4_2", "r11": "relu1_1"}
    assert foreign_tap_names(JobOptions(), VGG16) == {}


def test_job_options_keep_what_differs_from_job_to_job_and_check_what_is_changed():
    own = job_options(Options(size=64, steps=9, seed=2), seed=5)
    assert type(own) is JobOptions
    assert (own.steps, own.seed) == (9, 5)
    with pytest.raises(OptionError, match="steps"):
        job_options(own, steps=0)
    with pytest.raises(OptionError, match="style_tap_weights"):
        job_options(own, style_tap_weights=(1.0,))


def test_steps_that_are_said_are_kept_wherever_they_are_said(tmp_path):
    """A preset's `first_steps` would be the only ones of a small picture."""
    fast, said = Options(preset="fast"), JobOptions(steps=200)
    assert (fast.steps, fast.first_steps) == (8, 24)
    for made in (
        Options(preset="fast", steps=200),
        override_options(fast, {"steps": 200}),
        fill_defaults([Job("a.png", "b.png", options=said)], fast)[0].options,
    ):
        assert made
        assert (made.steps, made.first_steps) == (200, 0)
    (tmp_path / "jobs.csv").write_text("content,style,steps\na.png,b.png,200\nc.png,b.png,\n")
    own = [job.options for job in read_manifest(tmp_path / "jobs.csv", fast)]
    assert [(one.steps, one.first_steps) for one in own if one] == [(200, 0), (8, 24)]
    both = override_options(fast, {"steps": 200, "first_steps": 7})
    assert (both.steps, both.first_steps) == (200, 7)
