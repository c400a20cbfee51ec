"""Compilations: as few as there are programs, each with a name, none twice, none unnamed."""

import concurrent.futures
import dataclasses
import gc
import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine_jobs import (
    FIRST_TAPS,
    LANDSCAPE,
    PORTRAIT,
    Studio,
    compilations,
    content_of,
    image_of,
    one_device,
    same,
    style_of,
    tiny_job,
    tiny_options,
    write_narrow_weights,
)

from nst_jax import (
    Job,
    JobOptions,
    RunPolicy,
    forget_programs,
    render,
    render_batch,
    render_many,
)
from nst_jax.engine.device import recent_sessions
from nst_jax.engine.progress import NullProgress

NAMED = {
    *("content_targets", "style_moments", "style_targets"),
    *("open_batch", "run_chunk", "take"),
}
"""Of one level and one job."""

SEVERAL = NAMED | {"place"}
"""Of one level and several jobs."""


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
"""One canvas and two at two levels, and two sets of taps; more jobs than slots."""


def test_one_step_program_for_each_canvas_level_and_set_of_taps(narrow_file, compiled):
    studio = Studio(tiny_options(narrow_file))
    studio.render(JOBS)
    programs = list(studio.programs.compiled)
    # Landscape at 34 and 48 px with both sets of taps, portrait at 48 px, alike at 34, with one.
    assert sum(name.startswith("step") for name in programs) == 5
    assert compiled.count("run_chunk") == 5
    assert len(compiled) == len(programs)
    assert compiled.count("next_level") == 2, "of landscapes and of portraits"
    assert set(compiled) == SEVERAL | {"next_level"}
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
    assert set(compiled) == SEVERAL


# Calls after one another, as in a notebook or a server.


@pytest.fixture
def shallow(narrow_file):
    """A level of shallow taps: what compiles quickly."""
    return tiny_options(narrow_file, levels=1, batch_size=1, steps=2, **FIRST_TAPS)


PAIR = Job(content_of(0), style_of(0))


def test_a_second_call_compiles_nothing_whatever_its_pictures_and_numbers(
    shallow, compiled, tmp_path, files
):
    first = render(PAIR, options=shallow, devices=one_device())
    assert set(compiled) == NAMED
    again = render(PAIR, options=shallow, devices=one_device())
    assert same(again, first)
    assert again.compile_seconds == 0
    own = JobOptions(style_weight=3.0, seed=7, init="noise")
    (other,) = render_many([tiny_job(1, **FIRST_TAPS)], shallow, devices=one_device())
    assert image_of(other).shape == image_of(first).shape
    patient = dataclasses.replace(shallow, steps=3, bit_depth=16)
    render(Job(*files, options=own), tmp_path / "a.png", patient, devices=one_device())
    summary = render_batch([Job(*files)], tmp_path / "out", patient, devices=one_device())
    assert (summary.done, summary.compiled, summary.compile_seconds) == (1, {}, 0)
    assert len(compiled) == len(NAMED)
    forget_programs()
    assert same(render(PAIR, options=shallow, devices=one_device()), first)
    assert len(compiled) == 2 * len(NAMED)


def test_a_session_is_known_by_its_content(shallow, compiled, tmp_path):
    """What makes another program is another session, and its pictures are its own."""
    copied = str(shutil.copy(shallow.weights, tmp_path / "another name.h5"))
    other = write_narrow_weights(tmp_path / "other.h5", seed=1)
    first = render(PAIR, options=shallow, devices=one_device())
    for changes in (
        {"weights": copied},
        {"batch_size": "auto"},
        {"preset": "default", "style_loss": "gram"},
    ):
        before = len(compiled)
        render(PAIR, options=dataclasses.replace(shallow, **changes), devices=one_device())
        assert len(compiled) == before, changes
    for changes in (
        {"weights": other},
        {"padding": "zero"},
        {"tv_loss": "absolute"},
        {"style_loss": "moments"},
        {"dtype": "bfloat16"},
        {"content_taps": ("relu1_2",)},
    ):
        before = len(compiled)
        result = render(PAIR, options=dataclasses.replace(shallow, **changes), devices=one_device())
        assert len(compiled) > before, changes
        assert not same(result, first)


def live() -> tuple[int, int]:
    """Compiled programs and arrays of this process that nobody has freed."""
    gc.collect()
    return len(jax.devices()[0].client.live_executables()), len(jax.live_arrays())


def test_memory_is_flat_over_many_calls_and_free_after_forgetting(shallow, monkeypatch):
    monkeypatch.setattr(recent_sessions, "_KEPT_PROGRAMS", 4)
    kinds = [{"padding": "zero"}, {"size": 40}, {"size": 56}, {"tv_loss": "absolute"}]
    begin, seen = live(), []
    for number in range(12):
        options = dataclasses.replace(shallow, **kinds[number % len(kinds)])
        render(PAIR, options=options, devices=one_device())
        seen.append(live())
    assert seen[4:8] == seen[8:]
    programs, arrays = zip(*seen, strict=True)
    assert max(programs) - begin[0] <= 2 * (4 + len(NAMED))
    del arrays
    forget_programs()
    assert live() == begin


class Compilations(NullProgress):
    """Names of what is compiled, in whatever thread."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_compile(self, name: str) -> None:
        self.names.append(name)


def test_calls_in_several_threads_share_programs_and_get_their_own_pictures(shallow):
    jobs = [Job(content_of(number), style_of(number)) for number in range(3)]
    kinds = [shallow, dataclasses.replace(shallow, padding="zero")]
    calls = [(job, options) for job in jobs for options in kinds]
    progress = Compilations()

    def call(which):
        job, options = which
        return render(job, options=options, progress=progress, devices=one_device())

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        together = list(pool.map(call, calls))
    for result, alone in zip(together, map(call, calls), strict=True):
        assert same(result, alone)
    assert len(progress.names) == len(kinds) * len(NAMED)
    assert len(set(progress.names)) == len(NAMED)


def test_a_failing_device_leaves_nothing_to_later_calls(shallow, compiled, tmp_path):
    render(PAIR, options=shallow, devices=one_device())
    fault = jax.errors.JaxRuntimeError("INTERNAL: the device is gone")
    policy = RunPolicy(retries=0)
    with mock.patch("nst_jax.engine.device.programs.ProgramCache.run_chunk", side_effect=fault):
        summary = render_batch([PAIR], tmp_path, shallow, handling=policy, devices=one_device())
    assert summary.failed == 1
    before = len(compiled)
    render(PAIR, options=shallow, devices=one_device())
    assert len(compiled) == before + len(NAMED)


# Jobs of one call.


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
    assert sorted(compiled) == sorted(SEVERAL)


def test_targets_of_a_pair_are_made_once(one_level):
    """However many jobs ask for a style, and however many batches they make."""
    made = []
    jobs = [Job(content_of(310 + one % 3), style_of(320 + one % 2)) for one in range(6)]
    with (
        one_level.watch("style_moments", lambda *_: made.append("style")),
        one_level.watch("content_targets", lambda *_: made.append("content")),
        one_level.watch("style_targets", lambda *_: made.append("style targets")),
    ):
        one_level.render(jobs)
    assert sorted(made) == ["content"] * 3 + ["style"] * 2 + ["style targets"] * 2


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
