"""Presets: each one's whole objective is its source's published formula, in NumPy and float64."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from engine_jobs import Studio, content_of, style_of, write_narrow_weights
from networks import Network, narrow_network, picture

from nst_jax import Job, Options
from nst_jax.cli.main import run
from nst_jax.cli.option_groups import GROUPS
from nst_jax.engine.device.problem import make_problem
from nst_jax.engine.device.targets import VARIATIONS
from nst_jax.engine.plan.levels import Level
from nst_jax.model.content import ContentTarget
from nst_jax.model.objective import Targets, objective
from nst_jax.model.region import Region
from nst_jax.model.style import GramTarget, Moments
from nst_jax.model.targets import make_style_target
from nst_jax.model.vgg import VGG
from nst_jax.request.errors import OptionError
from nst_jax.request.options import JOB_FIELDS, SHARED_FIELDS, job_options
from nst_jax.request.presets import PRESETS
from nst_jax.request.taps import ARCHITECTURES, DEFAULT_STYLE_TAPS, VGG19
from nst_jax.weights.network import NetworkWeights

SIZE = (48, 35)
IMAGE, CONTENT = picture(*SIZE, seed=0), picture(*SIZE, seed=1)
STYLE, OTHER_STYLE = picture(*SIZE, seed=2) ** 0.5, picture(40, 48, seed=3) ** 0.5
PLAIN = narrow_network("vgg19")


# The sources' formulas.


def flat(features):
    return np.float64(features).reshape(-1, features.shape[-1])


def raw_gram(features):
    return flat(features).T @ flat(features)


def gatys(image, content, style, network):
    """(1), (4), (5) and (7) of the paper, with alpha / beta = 1e-3 and w = 1/5."""
    seen, wanted, asked = (
        references.vgg(one, network, pooling="average") for one in (image, content, style)
    )
    total = ((seen["relu4_2"] - wanted["relu4_2"]) ** 2).sum() / 2
    for tap in DEFAULT_STYLE_TAPS:
        positions, channels = flat(seen[tap]).shape
        error = ((raw_gram(seen[tap]) - raw_gram(asked[tap])) ** 2).sum()
        total += 1e3 / 5 * error / (4 * channels**2 * positions**2)
    return total


def jcjohnson(image, content, style, network):
    """neural_style.lua: ContentLoss, StyleLoss and the function whose slope TVLoss adds."""
    seen, wanted, asked = (references.vgg(one, network) for one in (image, content, style))
    total = 5 * ((seen["relu4_2"] - wanted["relu4_2"]) ** 2).mean()
    for tap in DEFAULT_STYLE_TAPS:
        own, target = raw_gram(seen[tap]) / seen[tap].size, raw_gram(asked[tap]) / asked[tap].size
        total += 1e2 * ((own - target) ** 2).mean()
    levels = 255 * np.float64(image)
    squares = (np.diff(levels, axis=0) ** 2).sum() + (np.diff(levels, axis=1) ** 2).sum()
    return total + 1e-3 * squares / 2


def gaussian(features):
    mean = flat(features).mean(0)
    return mean, references.gram(features) - np.outer(mean, mean) + 1e-4 * np.eye(len(mean))


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def crowsonkb(image, content, style, network):
    """style_transfer.py: ContentLossMSE, StyleLossW2 and TVLoss; replicate padding first."""
    seen, wanted, asked = (
        references.vgg(one, network, padding="replicate") for one in (image, content, style)
    )
    total = 0.015 * ((seen["relu4_2"] - wanted["relu4_2"]) ** 2).mean()
    for tap, weight in zip(DEFAULT_STYLE_TAPS, (256, 64, 16, 4, 1), strict=True):
        (mean, own), (target_mean, target) = gaussian(seen[tap]), gaussian(asked[tap])
        half = root(target)
        spread = np.diagonal(target + own - 2 * root(half @ own @ half)).mean()
        total += weight / 341 * (((mean - target_mean) ** 2).mean() + spread)
    wide = np.pad(np.float64(image), ((1, 1), (1, 1), (0, 0)), mode="edge")
    centre = wide[1:-1, 1:-1]
    straight = ((wide[1:-1, 2:] - centre) ** 2).mean() + ((wide[2:, 1:-1] - centre) ** 2).mean()
    falling, rising = wide[1:, 1:] - wide[:-1, :-1], wide[1:, :-1] - wide[:-1, 1:]
    diagonal = (falling**2).mean() + (rising**2).mean()
    return total + 2.0 * 2 * (straight / 3 + diagonal / 12)


def coursera(image, content, style, network, *, tap, pooling):
    """J = 10 J_content + 40 J_style, with 0.2 for each style layer."""
    seen, wanted, asked = (
        references.vgg(one, network, pooling=pooling) for one in (image, content, style)
    )
    height, width, channels = seen[tap].shape
    total = 10 * ((seen[tap] - wanted[tap]) ** 2).sum() / (4 * height * width * channels)
    for layer in DEFAULT_STYLE_TAPS:
        positions, channels = flat(seen[layer]).shape
        error = ((raw_gram(seen[layer]) - raw_gram(asked[layer])) ** 2).sum()
        total += 40 * 0.2 * error / (4 * channels**2 * positions**2)
    return total


def unprocessed(network: Network) -> Network:
    """What a course's network is: BGR kernels from 0 to 255, given RGB from 0 to 1."""
    kernel, bias = network.convolutions["conv1_1"]
    published = np.stack([kernel[:, :, 2], kernel[:, :, 1], kernel[:, :, 0]], axis=2) / 255
    changed = {**network.convolutions, "conv1_1": (published, bias)}
    return Network(network.architecture, changed, np.zeros(3, np.float32))


COURSERA_2018 = functools.partial(coursera, tap="relu4_2", pooling="average")
COURSERA_2022 = functools.partial(coursera, tap="relu5_4", pooling="max")

FORMULAS = {
    "gatys2016": (gatys, STYLE, PLAIN),
    "neural-style": (jcjohnson, OTHER_STYLE, PLAIN),
    "crowsonkb": (crowsonkb, OTHER_STYLE, PLAIN),
    "coursera-2018": (COURSERA_2018, STYLE, PLAIN),
    "coursera-2022": (COURSERA_2022, STYLE, unprocessed(PLAIN)),
}
"""By preset: the formula, a style (of the content's size where the formula sums), the network."""


# What the presets make of them here.


def opened_network(options: Options) -> VGG:
    red, green, blue = map(float, PLAIN.mean)
    weights = NetworkWeights(VGG19, PLAIN.convolutions, (red, green, blue), "a test", "", "none")
    if options.preprocessing == "none":
        weights = weights.without_preprocessing()
    return VGG(
        weights.architecture,
        weights.convolutions,
        weights.mean,
        deepest="relu5_4",
        pooling=options.pooling,
        padding=options.padding,
    )


def asked(options: Options, network: Network, style: np.ndarray):
    """The preset's problem at its last stage, with targets from the reference."""
    own = job_options(options)
    wanted, other = (
        references.vgg(one, network, pooling=options.pooling, padding=options.padding)
        for one in (CONTENT, style)
    )
    kind = options.style_loss
    moments = {
        tap: Moments(*map(np.float32, (flat(other[tap]).mean(0), references.gram(other[tap]))))
        for tap in own.style_taps
    }
    targets = Targets(
        {
            tap: ContentTarget.from_features(
                np.float32(wanted[tap]), wanted[tap][..., 0].size, own.content_normalization
            )
            for tap in own.content_taps
        },
        {
            tap: make_style_target(kind, own.style_normalization, one)
            for tap, one in moments.items()
        },
        VARIATIONS[options.tv_loss],
    )
    stage = Level(0, SIZE, SIZE, 48, steps=1)
    return jax.tree.map(jnp.asarray, make_problem(own, stage, targets))


_with_slope = jax.jit(jax.value_and_grad(objective, has_aux=True))


@pytest.mark.parametrize("name", FORMULAS)
def test_a_preset_s_objective_and_its_gradient_are_its_source_s(name):
    formula, style, network = FORMULAS[name]
    options = Options(preset=name)
    problem = asked(options, network, style)
    which = problem.size, problem.targets, problem.weights
    (value, _), slope = _with_slope(jnp.asarray(IMAGE), opened_network(options), *which)
    expected = formula(IMAGE, CONTENT, style, network)
    loose = 1e-3 if name == "crowsonkb" else 1e-4  # its root is iterated, in float32
    assert float(value) == pytest.approx(expected, rel=loose)
    for seed in range(2):
        direction = 1e-5 * np.random.default_rng(seed).normal(size=IMAGE.shape)
        ahead, behind = (
            formula(IMAGE + sign * direction, CONTENT, style, network) for sign in (1, -1)
        )
        along = float((np.float64(slope) * direction).sum())
        assert along == pytest.approx((ahead - behind) / 2, rel=2e-2 if loose > 1e-4 else 2e-3)


def test_every_formula_is_tested_here():
    assert {*FORMULAS, "default", "fast", "gram"} == set(PRESETS)


TENSORS = json.loads((Path(__file__).parent / "golden" / "coursera_tensors.json").read_text())


def test_the_course_s_published_unit_values_come_out():
    """7.0568767 and 14.017805, on the tensors that its notebook draws with seed 1."""
    first, second = (np.float32(TENSORS[name]).reshape(4, 4, 3) for name in ("first", "second"))
    content = ContentTarget.from_features(first, 16, "quarter_mean")
    moments = flat(first).mean(0).astype(np.float32), np.float32(references.gram(first))
    style = GramTarget.from_moments(*moments, "quarter_mean")
    seen = jnp.asarray(second)
    on_device = jax.tree.map(jnp.asarray, (content, style))
    assert float(on_device[0].distance(seen)) == pytest.approx(7.0568767, rel=1e-6)
    far = on_device[1].distance(seen, Region(jnp.float32(16)))
    assert float(far) == pytest.approx(14.017805, rel=1e-6)


# Through the engine and the command line.


def test_a_network_without_preprocessing_goes_through_the_engine(tmp_path):
    weights = write_narrow_weights(tmp_path / "narrow19.h5", architecture="vgg19")
    changes = {"weights": weights, "size": 48, "steps": 1, "style_taps": ("relu1_1", "relu2_1")}
    options = Options(
        preset="coursera-2022",
        content_taps=("relu2_1",),
        style_tap_weights=(1.0, 1.0),
        **changes,
    )
    studio = Studio(options)
    call = studio.calls([Job(content_of(0), style_of(0))])[0]
    seen, wanted, other = (
        references.vgg(one, unprocessed(PLAIN), deepest="relu2_1")
        for one in (np.asarray(call.states.image[0, :34]), content_of(0), style_of(0))
    )
    total = 10 * ((seen["relu2_1"] - wanted["relu2_1"]) ** 2).mean() / 4
    for tap in options.style_taps:
        error = ((references.gram(seen[tap]) - references.gram(other[tap])) ** 2).mean() / 4
        total += 40 * error / 2
    assert float(call.after.terms.total[0]) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_a_preset_s_values_are_options_that_its_network_has(preset):
    options = Options(preset=preset.name)
    assert options.preset == preset.name
    for name, value in preset.values.items():
        assert getattr(options, name) == value
    if preset.network:
        taps = ARCHITECTURES[preset.network.split("-")[0]].taps
        assert {*options.content_taps, *options.style_taps} <= set(taps)
        assert preset.source
        assert preset.departures


def test_what_is_given_by_name_goes_before_a_preset():
    options = Options(preset="crowsonkb", size=256, style_loss="gram")
    assert (options.size, options.style_loss) == (256, "gram")
    assert (options.levels, options.first_steps) == ("auto", 1000)
    assert dataclasses.replace(options, steps=7).first_steps == 1000
    assert Options(preset="default") == Options()


@pytest.mark.parametrize("name", ["", "Gatys", None, 5, ["default"], {}, "krowsonkb"])
def test_an_unknown_preset_is_refused_with_those_there_are_and_a_near_one_is_guessed(name):
    told = r"preset must be one of default, .*coursera-2022, got"
    with pytest.raises(OptionError, match=told) as caught:
        Options(preset=name)
    guessed = "got 'krowsonkb'. Did you mean 'crowsonkb'? nst-jax" in str(caught.value)
    assert guessed == (name == "krowsonkb")


def test_the_command_line_tells_every_preset(capsys):
    assert run(["presets", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == list(PRESETS)
    assert told["crowsonkb"]["values"]["tv_loss"] == "nine_point"
    assert run(["presets"]) == 0
    text = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert f"{name}: {preset.summary}" in text
        assert all(departure in text for departure in preset.departures)


@pytest.mark.parametrize("line", ["--preset crowsonkb --help-all", "--help-all --preset=crowsonkb"])
def test_help_shows_a_preset_s_own_defaults(capsys, monkeypatch, line):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit, match="0"):
        run(["render", *line.split()])
    text = capsys.readouterr().out
    assert "(default: crowsonkb)" in text
    assert "(default: 500)" in text.split("--steps INT")[1][:600]
    assert "(default: 256.0 64.0 16.0 4.0 1.0)" in text


def test_flags_go_before_a_preset_wherever_they_stand(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr("nst_jax.cli.plan.Plan.run", lambda self: seen.append(self.options) or 0)
    assert run(["plan", "--steps", "3", "--preset", "crowsonkb", "--size", "64"]) == 0
    assert run(["plan", "--preset", "crowsonkb"]) == 0
    assert seen == [Options(preset="crowsonkb", steps=3, size=64), Options(preset="crowsonkb")]


def test_help_shows_the_first_groups_and_all_of_them_if_asked(capsys, monkeypatch):
    """None is left out of them, and none is in two."""
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted({*JOB_FIELDS, *SHARED_FIELDS})
    monkeypatch.setenv("COLUMNS", "80")
    shown = {}
    for asked in ("--help", "--help-all"):
        with pytest.raises(SystemExit, match="0"):
            run(["batch", asked])
        shown[asked] = capsys.readouterr().out
    for name in listed:
        flag = f"--{name.replace('_', '-')} "
        assert flag in shown["--help-all"], name
        is_first = any(name in GROUPS[group] for group in ("look", "strokes and colours", "start"))
        assert (flag in shown["--help"]) == is_first, name
    assert "(default: )" not in shown["--help-all"]
    assert max(map(len, shown["--help-all"].splitlines())) <= 80
