"""Compilations: as few as there are programs, each with a name, none twice, none unnamed."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine_jobs import (
    LANDSCAPE,
    PORTRAIT,
    Studio,
    compilations,
    content_of,
    one_device,
    style_of,
    tiny_job,
    tiny_options,
)

from nst_jax import Job, JobOptions, render_many

NAMED = {"content_features", "style_moments", "run_chunk"}
REFILLING = {"place", "take"}
"""Only where jobs of different lengths wait for each other's slots."""


@pytest.fixture
def compiled():
    """Names of what JAX compiles while the test lasts; nothing is remembered from before."""
    with compilations() as names:
        yield names


def test_an_unnamed_program_would_be_seen(compiled):
    def a_new_function(x):
        return x + 1

    twice = jax.jit(a_new_function)
    twice(np.float32(1))
    twice(np.float32(2))
    assert compiled.count("a_new_function") == 1
    twice(np.ones(3, np.float32))
    assert compiled.count("a_new_function") == 2
    jnp.ones(5)[np.int32(2)]
    assert set(compiled) - NAMED - {"a_new_function"}


JOBS = [
    tiny_job(0),
    tiny_job(1, PORTRAIT),
    tiny_job(2, (40, 48)),
    tiny_job(3, style_taps=("relu1_2",)),
    *(tiny_job(number) for number in range(4, 9)),
]
"""Two canvases and two sets of taps at each of two levels; more jobs than slots."""


def test_one_step_program_for_each_canvas_level_and_set_of_taps(narrow_file, compiled):
    studio = Studio(tiny_options(narrow_file))
    studio.render(JOBS)
    programs = list(studio.programs.compiled)
    # Landscape at 34 and 48 px with both sets of taps, portrait at both with one.
    assert sum(name.startswith("step") for name in programs) == 6
    assert compiled.count("run_chunk") == 6
    assert len(compiled) == len(programs)
    assert set(compiled) == NAMED
    studio.render(JOBS)
    studio.render([tiny_job(40), tiny_job(41, PORTRAIT, steps=7)])
    assert len(compiled) == len(programs), "a second run compiles nothing"


def test_a_whole_run_compiles_nothing_without_a_name(narrow_file, compiled):
    """Alpha, colours, noise and several styles included, which work on the host alone."""
    content = np.concatenate([content_of(0), np.full((*LANDSCAPE, 1), 0.5, np.float32)], axis=-1)
    own = JobOptions(steps=2, content_taps=("relu1_2",), style_taps=("relu1_2",))
    jobs = [
        Job(content, (style_of(0), style_of(1)), options=own),
        Job(content_of(1), style_of(1), options=dataclasses.replace(own, color="content")),
        Job(content_of(1), style_of(2), options=dataclasses.replace(own, init="noise")),
    ]
    options = tiny_options(narrow_file, levels=1)
    results = list(render_many(jobs, options, devices=one_device()))
    assert [result.error for result in results] == [None] * 3
    assert set(compiled) == NAMED


def test_a_sweep_of_one_pair_is_one_compilation(narrow_file, compiled):
    studio = Studio(tiny_options(narrow_file, levels=1))
    sweep = [
        {"content_weight": 3.0, "style_weight": 0.0, "tv_weight": 2.0},
        {"style_tap_weights": (0.1, 0.9)},
        {"learning_rate": 0.1},
        {"steps": 9},
        {"seed": 5, "init": "noise"},
        {"init": "grey"},
        {"style_blend_weights": (1.0,)},
        {"color": "content"},
    ]
    results = studio.render([tiny_job(0, **changes) for changes in sweep])
    assert all(result.error is None for result in results)
    assert sorted(compiled) == sorted(NAMED | REFILLING)


def test_targets_of_a_pair_are_made_once(one_level):
    """However many jobs ask for a style, and however many batches they make."""
    made = []
    jobs = [Job(content_of(310 + one % 3), style_of(320 + one % 2)) for one in range(6)]
    with (
        one_level.watch("style_moments", lambda *_: made.append("style")),
        one_level.watch("content_features", lambda *_: made.append("content")),
    ):
        one_level.render(jobs)
    assert sorted(made) == ["content"] * 3 + ["style"] * 2


@pytest.mark.slow
def test_taps_that_change_sides_are_another_program(narrow_file):
    """content a, b with style c must not be taken for content a with style b, c."""
    sides = [
        {"content_taps": ("relu1_1", "relu1_2"), "style_taps": ("relu2_1",)},
        {"content_taps": ("relu1_1",), "style_taps": ("relu1_2", "relu2_1")},
    ]
    studio = Studio(tiny_options(narrow_file, levels=1))
    results = studio.render([tiny_job(0, **taps) for taps in sides])
    assert [result.error for result in results] == [None, None]
    assert sum(name.startswith("step") for name in studio.programs.compiled) == 2


def test_nothing_but_the_step_count_goes_to_the_device_in_a_chunk(one_level):
    one_level.render([tiny_job(0)])
    original, chunks = one_level.programs.run_chunk, []

    def guarded(*arguments):
        chunks.append(arguments)
        with jax.transfer_guard("disallow"):
            return original(*arguments)

    with mock.patch.object(one_level.programs, "run_chunk", guarded):
        one_level.render([tiny_job(1)])
    assert chunks

    plus_one = jax.jit(lambda x: x + 1)
    plus_one(np.ones(3))
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="transfer"):
        plus_one(np.ones(3))  # so the guard would have seen one
