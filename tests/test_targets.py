"""Targets: on the device, as good as float64's, and the same whether they were kept or not."""

import concurrent.futures
import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from engine_jobs import content_of, style_of, tiny_job
from networks import narrow_network, picture
from references import relative_error
from test_initial_image import load
from test_wasserstein import value_and_gradient

from nst_jax import Job
from nst_jax.engine.device.targets import TargetCache
from nst_jax.engine.inputs import load as loading
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.inputs.recent_cache import RecentCache
from nst_jax.engine.schedule.make_scheduler import make_programs
from nst_jax.model.style import Moments
from nst_jax.model.targets import style_targets
from nst_jax.model.wasserstein import RANK, WassersteinTarget

# A style's directions, in float32 beside float64.

CHANNELS = (4, 8, 16, 24, 32)
TAPS = tuple(f"relu{block}_1" for block in range(1, 6))


@pytest.fixture(scope="module")
def features():
    """By tap, of eleven pictures of 96 px: 36 positions of 32 channels at the deepest."""
    network = narrow_network("vgg16", channels=CHANNELS)
    seen = [
        references.vgg(picture(96, 96, seed=seed) ** (0.3 + 0.2 * seed), network, deepest=TAPS[-1])
        for seed in range(11)
    ]
    return [{tap: np.float32(one[tap]) for tap in TAPS} for one in seen]


@jax.jit
def made_on_device(features):
    flat = features.reshape(-1, features.shape[-1])
    return WassersteinTarget.from_moments(flat.mean(0), flat.T @ flat / len(flat))


@pytest.mark.parametrize("few", [False, True], ids=["whole", "few positions"])
@pytest.mark.parametrize("tap", TAPS)
def test_a_target_s_value_and_gradient_are_those_of_float64(features, tap, few):
    """Also where a picture has fewer positions than channels, so that many directions are empty."""
    image, *styles = (one[tap] for one in features)
    for style in styles:
        seen = style[:2, : style.shape[-1] // 3] if few else style
        target = made_on_device(seen)
        if few:
            positions = seen.shape[0] * seen.shape[1]
            assert np.count_nonzero(target.deviations) < positions, "one less, as they are centred"
        value, slope = value_and_gradient(target, image)
        wanted = WassersteinTarget(*references.strong_directions(seen, RANK))
        expected, exact = value_and_gradient(wanted, image)
        close = 3e-4 if few else 1e-4  # rounding in what is empty is raised as well
        assert value == pytest.approx(expected, rel=close)
        assert np.linalg.norm(slope - exact) < close * np.linalg.norm(exact)


_style_targets = jax.jit(style_targets, static_argnums=2)


@pytest.mark.parametrize("kind", ["gram", "moments", "wasserstein"])
def test_styles_together_ask_what_one_picture_of_their_positions_would(kind):
    """Whose means differ: the mean of their spreads is less than their common spread."""
    rng = np.random.default_rng(0)
    apart = [np.float32(rng.random((count, 6)) + shift) for count, shift in ((30, 0), (10, 2))]
    moments = [{"tap": Moments(one.mean(0), one.T @ one / len(one))} for one in apart]
    whole = np.concatenate(apart)
    [got] = _style_targets(moments, jnp.float32([0.75, 0.25]), kind).values()
    both = {"tap": Moments(whole.mean(0), whole.T @ whole / len(whole))}
    [wanted] = _style_targets([both], jnp.ones(1), kind).values()
    seen = np.float32(rng.random((5, 7, 6)))
    value, slope = value_and_gradient(got, seen)
    expected, other = value_and_gradient(wanted, seen)
    assert value == pytest.approx(expected, rel=1e-4)
    assert relative_error(slope, other) < 1e-4


# The target cache.


def leaves_of(targets):
    return jax.tree.leaves((targets.content, targets.style))


def test_targets_stay_on_the_device_and_are_the_same_bytes_kept_or_made_again(one_level):
    jobs = one_level.examine([tiny_job(0), tiny_job(1), tiny_job(0, style_weight=3.0)])
    first, other, again = (
        loading.load_job(one, one_level.options, one_level.session.pictures) for one in jobs
    )
    programs = make_programs(one_level.session, jobs, one_level.notes)
    cache, level = TargetCache(programs, one_level.options), first.levels[0]
    made = cache.make_targets(first, level)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves_of(made))
    cache.make_targets(other, level)
    kept = cache.make_targets(again, level)
    assert all(one is two for one, two in zip(leaves_of(kept), leaves_of(made), strict=True))
    cache.forget()
    anew = cache.make_targets(again, level)
    for one, two in zip(leaves_of(anew), leaves_of(made), strict=True):
        assert one is not two
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


def test_what_was_used_last_is_kept_up_to_the_bound():
    cache, made = RecentCache(10, len), []

    def get(key, size):
        return cache.get(key, lambda: made.append(key) or "x" * size)

    for key, size in (("a", 4), ("b", 4), ("a", 4), ("c", 4), ("a", 4), ("b", 4)):
        assert get(key, size) == "x" * size
    assert made == ["a", "b", "c", "b"], "b was used before a"
    assert get("large", 11) == "x" * 11
    get("b", 4)
    get("large", 11)
    assert made[4:] == ["large", "large"], "it is not kept, and drives nobody out"
    cache.forget()
    get("b", 4)
    assert made[6:] == ["b"]


def test_one_thread_makes_and_others_wait_for_it_and_for_its_fault():
    cache, made, may_end = RecentCache(10, len), [], threading.Event()

    def make():
        made.append("once")
        assert may_end.wait(20)
        if len(made) == 1:
            raise ValueError("the first one fails")
        return "value"

    for _ in range(2):
        may_end.clear()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(cache.get, "key", make) for _ in range(3)]
            concurrent.futures.wait(calls, timeout=0.2)
            may_end.set()
        faults = [call.exception() for call in calls]
        if len(made) == 1:
            assert all(isinstance(one, ValueError) for one in faults)
    assert [call.result() for call in calls] == ["value"] * 3
    assert len(made) == 2


# What loading threads do of it.


def test_pictures_that_jobs_share_are_loaded_once_and_lie_on_the_canvas_of_each_level(
    studio, monkeypatch
):
    opened, original = [], loading._open

    def spy(source, *how):
        opened.append(source)
        return original(source, *how)

    monkeypatch.setattr(loading, "_open", spy)
    contents, style = [content_of(0), content_of(1)], style_of(0)
    jobs = studio.examine([Job(contents[number], style) for number in (0, 1, 0)])
    pictures = PictureIndex()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        ready = list(pool.map(lambda one: loading.load_job(one, studio.options, pictures), jobs))
    assert len(opened) == 3
    assert ready[0].styles[0] is ready[1].styles[0]
    assert ready[0].content is ready[2].content
    for one in ready:
        for level in one.levels:
            placed = one.content.placed[level.size]
            assert placed.image.shape[:2] == level.canvas
            assert tuple(placed.size) == level.size_on_canvas == level.size[::-1]
            upright = placed.pixels.swapaxes(0, 1)
            np.testing.assert_array_equal(one.content_at(level.size), upright)
        edges = {max(size) for size in one.styles[0].placed}
        assert edges == {level.style_edge for level in one.levels}


def test_a_style_of_other_colours_or_edges_is_another_one():
    job, pictures = tiny_job(0), PictureIndex()
    kinds = [{}, {"color": "match-histogram"}, {"style_scale": 0.9}, {}]
    keys = []
    for own in kinds:
        loaded = load(job, pictures=pictures, **own)
        keys.append((loaded.styles[0].key, *loaded.styles[0].placed))
    assert len(set(keys)) == 3
    assert keys[0] == keys[3]
    plain, recoloured = (load(job, pictures=pictures, **own) for own in kinds[:2])
    assert not np.array_equal(plain.styles[0].pixels, recoloured.styles[0].pixels)
    darker = dataclasses.replace(job, content=content_of(7))
    other = load(darker, pictures=pictures, color="match-histogram")
    assert not np.array_equal(other.styles[0].pixels, recoloured.styles[0].pixels)
