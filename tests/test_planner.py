"""The plan: how many slots a canvas gets, once and for all."""

import json

import jax
import pytest
from engine_jobs import one_device
from hypothesis import given, settings
from hypothesis import strategies as st

from nst_jax.engine.canvas import canvas_of
from nst_jax.engine.devices import over
from nst_jax.engine.levels import Stage
from nst_jax.engine.planner import Plan, plan
from nst_jax.spec.options import Options

LADDER = (1, 2, 4, 8, 16, 32, 64, 128)
AUTO = Options()


def _ladders(size, jobs):
    """Jobs of one level and one size."""
    return [(Stage(0, size, canvas_of(size), max(size)),)] * jobs


def _slots(size, jobs, options=AUTO, devices=None):
    devices = over(one_device()) if devices is None else devices
    return plan(_ladders(size, jobs), options, devices).slots[canvas_of(size)]


@given(st.integers(16, 2048), st.integers(16, 2048), st.integers(1, 200), st.integers(1, 4096))
def test_a_batch_size_is_the_number_of_slots(height, width, jobs, batch_size):
    assert _slots((height, width), jobs, Options(batch_size=batch_size)) == batch_size


@given(st.integers(16, 2048), st.integers(16, 2048), st.integers(1, 200))
def test_slots_are_a_rung(height, width, jobs):
    assert _slots((height, width), jobs) in LADDER


@given(st.integers(16, 2048), st.integers(16, 2048))
def test_one_job_alone_gets_one_slot(height, width):
    assert _slots((height, width), 1) == 1


@given(st.integers(16, 1024), st.integers(16, 1024), st.integers(1, 32))
def test_padding_never_costs_more_than_a_smaller_rung(height, width, jobs):
    """In pixels that the device computes, where a batch that doesn't fill it counts as full."""
    devices = over(one_device())
    canvas = canvas_of((height, width))
    pixels = canvas[0] * canvas[1]

    def cost(rung):
        return -(-jobs // rung) * max(rung * pixels, devices.fill_pixels)

    chosen = _slots((height, width), jobs)
    assert all(cost(chosen) <= cost(rung) for rung in LADDER if rung < chosen)


@given(st.integers(16, 1024), st.integers(16, 1024), st.integers(1, 32))
def test_no_batch_is_more_than_half_empty_when_all_jobs_fit(height, width, jobs):
    """Slots that no job could ever fill are thrown away in every step."""
    chosen = _slots((height, width), jobs)
    assert chosen < 2 * jobs


def test_the_jobs_of_a_wave_and_not_of_the_run_are_counted():
    assert _slots((128, 128), 1000) == _slots((128, 128), 32)


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (512, 384)])
def test_every_device_gets_a_slot(size):
    devices = over(jax.devices()[:4])
    for jobs in (1, 3, 9):
        assert _slots(size, jobs, devices=devices) % 4 == 0


def test_small_pictures_go_together_and_large_ones_alone():
    assert _slots((64, 64), 16) >= 8
    assert _slots((2048, 2048), 16) == 1


def test_each_canvas_has_its_own_slots():
    small, large = _ladders((64, 64), 5), _ladders((512, 512), 3)
    made = plan([*small, *large], AUTO, over(one_device()))
    assert set(made.slots) == {(64, 64), (512, 512)}
    assert made.slots[64, 64] == _slots((64, 64), 5)
    assert made.slots[512, 512] == _slots((512, 512), 3)


def test_the_order_of_jobs_is_no_other_plan():
    jobs = [*_ladders((64, 48), 3), *_ladders((96, 96), 2), *_ladders((48, 64), 7)]
    devices = over(one_device())
    one, other = plan(jobs, AUTO, devices), plan(reversed(jobs), AUTO, devices)
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())


def test_an_earlier_plan_stays_and_grows():
    earlier = Plan({(64, 64): 2, (32, 32): 16})
    jobs = [*_ladders((64, 64), 20), *_ladders((128, 128), 1)]
    made = plan(jobs, Options(batch_size=4), over(one_device()), earlier)
    assert made.slots == {(64, 64): 2, (32, 32): 16, (128, 128): 4}
    assert earlier.slots == {(64, 64): 2, (32, 32): 16}


plans = st.dictionaries(
    st.tuples(st.integers(1, 9999), st.integers(1, 9999)), st.integers(1, 128), max_size=5
)


@given(plans)
def test_a_plan_survives_its_file(slots):
    written = json.dumps(Plan(slots).to_json())
    assert Plan.from_json(json.loads(written)) == Plan(slots)


ENTRY = {"canvas": [64, 64], "slots": 4}
NONSENSE = {
    "nothing": {},
    "a list": [],
    "null": None,
    "a text": "plan",
    "no canvases": {"version": 1},
    "another version": {"version": 2, "canvases": []},
    "no version": {"canvases": [ENTRY]},
    "canvases that are no list": {"version": 1, "canvases": 3},
    "an entry that is none": {"version": 1, "canvases": [5]},
    "no slots": {"version": 1, "canvases": [{"canvas": [64, 64]}]},
    "slots of null": {"version": 1, "canvases": [ENTRY | {"slots": None}]},
    "slots in words": {"version": 1, "canvases": [ENTRY | {"slots": "four"}]},
    "0 slots": {"version": 1, "canvases": [ENTRY | {"slots": 0}]},
    "endless slots": {"version": 1, "canvases": [ENTRY | {"slots": float("inf")}]},
    "slots that are no number": {"version": 1, "canvases": [ENTRY | {"slots": float("nan")}]},
    "a canvas of three sides": {"version": 1, "canvases": [ENTRY | {"canvas": [64, 64, 3]}]},
    "a canvas of no side": {"version": 1, "canvases": [ENTRY | {"canvas": []}]},
    "a side of 0": {"version": 1, "canvases": [ENTRY | {"canvas": [0, 64]}]},
    "an endless side": {"version": 1, "canvases": [ENTRY | {"canvas": [float("inf"), 64]}]},
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_no_plan(content):
    with pytest.raises(ValueError, match=r"plan|version|invalid literal|NaN"):
        Plan.from_json(json.loads(json.dumps(content)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.lists(json_values, max_size=3) | st.dictionaries(st.text(max_size=5), json_values))
def test_anything_else_is_refused_or_understood(canvases):
    try:
        made = Plan.from_json({"version": 1, "canvases": canvases})
    except ValueError:
        return
    assert len(made.slots) <= len(canvases)
