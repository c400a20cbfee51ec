"""The plan: how many slots a canvas gets, once and for all, and what `plan.json` keeps of it."""

import json

import jax
import pytest
from engine_jobs import Studio, one_device, tiny_job, tiny_options
from hypothesis import given, settings
from hypothesis import strategies as st

from nst_jax.engine.plan.canvas import padded_shape
from nst_jax.engine.plan.devices import data_mesh
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.slots import Plan, choose_slots
from nst_jax.request.errors import NoRoomError
from nst_jax.request.options import Options, StaticOptions

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
SMALL, OTHER = Bucket((64, 64)), Bucket((32, 32))


def one_level_jobs(size, count):
    """Levels of jobs of one level and one size."""
    return [(Level(0, size, padded_shape(size), max(size), steps=1),)] * count


def count_slots(size, jobs, *, devices=1, batch_size="auto"):
    mesh, options = data_mesh(jax.devices()[:devices]), Options(batch_size=batch_size)
    return choose_slots(one_level_jobs(size, jobs), options, mesh).slots[Bucket(padded_shape(size))]


sides = st.integers(16, 2048)


@settings(deadline=None)
@given(sides, sides, st.integers(1, 200), st.integers(1, 4096))
def test_a_batch_size_is_the_number_of_slots(height, width, jobs, batch_size):
    assert count_slots((height, width), jobs, batch_size=batch_size) == batch_size


@settings(deadline=None)
@given(sides, sides, st.integers(1, 200))
def test_padding_never_costs_more_than_a_smaller_batch_would(height, width, jobs):
    """In pixels that the device computes, where a batch that doesn't fill it counts as full.

    And of slots that no job could ever fill, which are thrown away in every step, there are less
    than half: one job alone gets one.
    """
    chosen = count_slots((height, width), jobs)
    assert chosen in BATCH_SIZES
    assert chosen < 2 * jobs
    (rows, columns), filled = padded_shape((height, width)), data_mesh(one_device()).fill_pixels

    def cost(size):
        return -(-jobs // size) * max(size * rows * columns, filled)

    if jobs <= 32:  # a wave
        assert all(cost(chosen) <= cost(size) for size in BATCH_SIZES if size < chosen)


def test_small_pictures_go_together_by_waves_and_large_ones_alone():
    assert count_slots((64, 64), 16) >= 8
    assert count_slots((2048, 2048), 16) == 1
    assert count_slots((128, 128), 1000) == count_slots((128, 128), 32)
    # What a second wave leaves empty is paid for, unless there are many.
    assert count_slots((64, 91), 32) == 32
    assert count_slots((64, 91), 42) == 16  # 32 and 16, not 32 and 32
    assert count_slots((64, 91), 42 + 4 * 32) == 32


@pytest.mark.parametrize(("jobs", "used"), [(1, 1), (2, 2), (4, 4), (9, 4)])
def test_as_many_devices_as_have_a_job_are_used(jobs, used):
    devices = data_mesh(jax.devices()[:4])
    for size in ((64, 64), (128, 128), (512, 384)):
        assert devices.subset_for(count_slots(size, jobs, devices=4)).count == used


def test_each_canvas_has_its_own_slots_in_any_order_of_the_jobs():
    jobs = [*one_level_jobs((64, 64), 5), *one_level_jobs((512, 512), 3)]
    devices = data_mesh(one_device())
    one, other = (choose_slots(order, Options(), devices) for order in (jobs, list(reversed(jobs))))
    assert one.slots == {
        SMALL: count_slots((64, 64), 5),
        Bucket((512, 512)): count_slots((512, 512), 3),
    }
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())
    assert choose_slots(jobs, Options(), data_mesh(jax.devices()[:4])).devices == 4


def test_jobs_that_cant_share_a_batch_have_slots_of_their_own(narrow_file):
    """One job with other taps, or with masks, does not pay for the slots of the many."""
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size="auto"))
    jobs = [*map(tiny_job, range(8)), tiny_job(8, style_taps=("relu2_1",))]
    slots = studio.plan(studio.examine(jobs)).slots
    assert {bucket.static_options.style_taps: count for bucket, count in slots.items()} == {
        ("relu1_1", "relu2_1"): 8,
        ("relu2_1",): 1,
    }


def test_an_earlier_plan_stays_and_grows():
    earlier = Plan({SMALL: 2, OTHER: 16})
    jobs = [*one_level_jobs((64, 64), 20), *one_level_jobs((128, 128), 1)]
    made = choose_slots(jobs, Options(batch_size=4), data_mesh(one_device()), earlier)
    assert made.slots == {SMALL: 2, OTHER: 16, Bucket((128, 128)): 4}
    assert earlier.slots == {SMALL: 2, OTHER: 16}


# Its file.

canvases = st.tuples(st.integers(1, 9999), st.integers(1, 9999))
structures = st.builds(
    StaticOptions,
    *[st.lists(st.text(), max_size=2).map(tuple)] * 2,
    st.sampled_from(["none", "l1"]),
)
plans = st.dictionaries(
    st.builds(Bucket, canvases, st.integers(0, 9), structures), st.integers(1, 128), max_size=5
)


@given(plans, st.integers(1, 8))
def test_a_plan_survives_its_file(slots, devices):
    written = json.dumps(Plan(slots, devices).to_json())
    assert Plan.from_json(json.loads(written)) == Plan(slots, devices)


def test_a_plan_of_the_first_version_has_fixed_nothing():
    """It had slots by canvas alone."""
    first = {"version": 1, "canvases": [{"canvas": [64, 64], "slots": 4}], "batch": "b"}
    assert Plan.from_json(first) == Plan({}, batch="b")


[ENTRY] = Plan({SMALL: 4}).to_json()["groups"]
NO_ENTRIES = [
    *(5, {key: ENTRY[key] for key in ENTRY if key != "slots"}, {"canvas": [64, 64], "slots": 4}),
    *(ENTRY | {"slots": slots} for slots in (None, "four", 0, float("inf"), float("nan"))),
    *(ENTRY | {"canvas": canvas} for canvas in ([], [64, 64, 3], [0, 64], [float("inf"), 64])),
    *(ENTRY | {"style_taps": 3}, ENTRY | {"regions": "two"}),
]
NO_PLANS = [
    *({}, [], None, "plan", {"version": 2}, {"groups": [ENTRY]}, {"version": 2, "groups": 3}),
    {"version": 4, "groups": []},
    *({"version": 2, "groups": [], "devices": devices} for devices in (0, "two", None)),
    *({"version": 2, "groups": [entry]} for entry in NO_ENTRIES),
]


def test_nonsense_is_no_plan():
    for content in NO_PLANS:
        with pytest.raises(ValueError, match=r"plan|version|invalid literal|NaN"):
            Plan.from_json(json.loads(json.dumps(content)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.lists(json_values, max_size=3) | st.dictionaries(st.text(max_size=5), json_values))
def test_anything_else_is_refused_or_understood(groups):
    try:
        made = Plan.from_json({"version": 2, "groups": groups})
    except ValueError:
        return
    assert len(made.slots) <= len(groups)


# After a batch did not fit.


@pytest.mark.parametrize(
    ("devices", "slots"),
    [(1, [32, 16, 8, 4, 2, 1]), (1, [7, 3, 1]), (2, [8, 4, 2]), (2, [3, 2]), (4, [24, 12, 4])],
)
def test_a_plan_is_halved_down_to_one_slot_a_device(devices, slots):
    """Slots that were not spread evenly are so from then on."""
    now = Plan({SMALL: slots[0], OTHER: 5}, devices)
    for fewer in slots[1:]:
        now = now.halve(SMALL)
        assert now == Plan({SMALL: fewer, OTHER: 5}, devices)
    with pytest.raises(NoRoomError, match="64x64"):
        now.halve(SMALL)


def test_a_plan_of_the_version_before_had_wide_canvases_which_are_high_ones_now():
    groups = [{**ENTRY, "canvas": [34, 48], "slots": 2}, {**ENTRY, "canvas": [48, 34], "slots": 4}]
    made = Plan.from_json({"version": 2, "groups": groups})
    assert {bucket.canvas: slots for bucket, slots in made.slots.items()} == {(48, 34): 4}
