"""Compilations: as few as there are programs, each with a name, none twice, none unnamed."""

import collections
import dataclasses
import logging
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine_jobs import (
    LANDSCAPE,
    PORTRAIT,
    Studio,
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


class _Counter(logging.Handler):
    """Counts what JAX compiles by the function's name."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def emit(self, record):
        text = record.getMessage()
        if match := re.match(r"Finished XLA compilation of jit\((.+?)\) in", text):
            self.counts[match[1]] += 1


@pytest.fixture
def compiled():
    """The counts while the test lasts; nothing is remembered from tests before."""
    jax.clear_caches()
    logger, counter = logging.getLogger("jax._src.dispatch"), _Counter()
    logger.addHandler(counter)
    with jax.log_compiles():
        yield counter.counts
    logger.removeHandler(counter)


def test_the_counter_counts(compiled):
    """What it says of the engine would be worth nothing else."""

    def a_new_function(x):
        return x + 1

    twice = jax.jit(a_new_function)
    twice(np.float32(1))
    twice(np.float32(2))
    assert compiled["a_new_function"] == 1
    twice(np.ones(3, np.float32))
    assert compiled["a_new_function"] == 2
    jnp.ones(5)[np.int32(2)]
    assert set(compiled) - NAMED - {"a_new_function"}, "an unnamed program must show"


JOBS = [
    tiny_job(0),
    tiny_job(1, PORTRAIT),
    tiny_job(2, (40, 48)),
    tiny_job(3, style_taps=("relu1_2",)),
    *(tiny_job(number) for number in range(4, 9)),
]
"""Two canvases and two sets of taps at each of two levels; more jobs than slots."""


def _steps(programs):
    return [name for name in programs if name.startswith("step")]


def test_one_step_program_for_each_canvas_level_and_set_of_taps(narrow_file, compiled):
    studio = Studio(tiny_options(narrow_file))
    studio.render(JOBS)
    programs = studio.programs.compiled
    # Landscape at 34 and 48 px with both sets of taps, portrait at both with one.
    assert len(_steps(programs)) == 6
    assert compiled["run_chunk"] == 6
    assert sum(compiled.values()) == len(programs)
    assert set(compiled) == NAMED
    before = compiled.total()
    studio.render(JOBS)
    studio.render([tiny_job(40), tiny_job(41, PORTRAIT, steps=7)])
    assert compiled.total() == before, "a second run compiles nothing"


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
    assert compiled == dict.fromkeys(NAMED | REFILLING, 1)


def test_targets_of_a_pair_are_made_once(narrow_file):
    """However many jobs ask for a style, and however many batches they make."""
    studio = Studio(tiny_options(narrow_file, levels=1))
    studio.render([tiny_job(0)])
    programs = studio.programs
    made = collections.Counter()

    def counting(name):
        original = getattr(programs, name)

        def call(*arguments):
            made[name] += 1
            return original(*arguments)

        return mock.patch.object(programs, name, call)

    jobs = [Job(content_of(10 + one % 3), style_of(20 + one % 2)) for one in range(6)]
    with counting("style_moments"), counting("content_features"):
        studio.render(jobs)
    assert made == {"style_moments": 2, "content_features": 3}


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
    assert len(_steps(studio.programs.compiled)) == 2


def test_the_order_of_taps_is_no_other_picture(narrow_file):
    """Names and weights move together."""
    taps = ("relu2_1", "relu1_1", "relu1_2")
    weights = (0.7, 0.1, 0.2)
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=1))
    one, other = studio.render(
        [
            tiny_job(0, style_taps=taps, style_tap_weights=weights),
            tiny_job(0, style_taps=taps[::-1], style_tap_weights=weights[::-1]),
        ]
    )
    assert one.losses["style"] == pytest.approx(other.losses["style"], rel=1e-5)
    swapped = studio.render([tiny_job(0, style_taps=taps, style_tap_weights=weights[::-1])])[0]
    assert swapped.losses["style"] != pytest.approx(one.losses["style"], rel=1e-2)


def test_nothing_but_the_step_count_goes_to_the_device_in_a_chunk(narrow_file):
    studio = Studio(tiny_options(narrow_file, levels=1))
    studio.render([tiny_job(0)])
    programs = studio.programs
    original, chunks = programs.run_chunk, []

    def guarded(*arguments):
        chunks.append(arguments)
        with jax.transfer_guard("disallow"):
            return original(*arguments)

    with mock.patch.object(programs, "run_chunk", guarded):
        studio.render([tiny_job(1)])
    assert chunks


def test_the_guard_would_see_a_transfer():
    plus_one = jax.jit(lambda x: x + 1)
    plus_one(np.ones(3))
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="transfer"):
        plus_one(np.ones(3))
