"""The plan: how many slots a canvas gets, once and for all, and whether they fit the memory."""

import dataclasses
import json
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine_jobs import Studio, by_canvas, one_device, tiny_job, tiny_options, write_narrow_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CHANNELS, DEPTHS, narrow_network

from nst_jax.engine.device.programs import ProgramCache, bytes_on_each_device
from nst_jax.engine.plan import host_memory
from nst_jax.engine.plan.canvas import padded_shape
from nst_jax.engine.plan.devices import Devices, data_mesh
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.memory_model import CostModel, MemoryBudget, largest_that_fits
from nst_jax.engine.plan.slots import Plan, choose_slots
from nst_jax.engine.progress import NullProgress
from nst_jax.forecast.compiled_step import analyze_step
from nst_jax.model import objective
from nst_jax.model.vgg import VGG
from nst_jax.request.errors import NoRoomError, OptionError
from nst_jax.request.options import Options, StaticOptions
from nst_jax.request.taps import (
    ARCHITECTURES,
    DEFAULT_CONTENT_TAPS,
    DEFAULT_STYLE_TAPS,
    VGG16,
    deepest_tap,
)

LADDER = (1, 2, 4, 8, 16, 32, 64, 128)
AUTO = Options()


def _ladders(size, jobs):
    """Jobs of one level and one size."""
    return [(Level(0, size, padded_shape(size), max(size), steps=1),)] * jobs


def _slots(size, jobs, options=AUTO, devices=None):
    devices = data_mesh(one_device()) if devices is None else devices
    return choose_slots(_ladders(size, jobs), options, devices).slots[Bucket(padded_shape(size))]


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
    devices = data_mesh(one_device())
    canvas = padded_shape((height, width))
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
@pytest.mark.parametrize(("jobs", "used"), [(1, 1), (2, 2), (4, 4), (9, 4)])
def test_as_many_devices_as_have_a_job_are_used(size, jobs, used):
    devices = data_mesh(jax.devices()[:4])
    assert devices.subset_for(_slots(size, jobs, devices=devices)).count == used


def test_small_pictures_go_together_and_large_ones_alone():
    assert _slots((64, 64), 16) >= 8
    assert _slots((2048, 2048), 16) == 1


def test_what_a_second_wave_leaves_empty_is_paid_for():
    assert _slots((64, 91), 32) == 32
    assert _slots((64, 91), 42) == 16  # 32 and 16, not 32 and 32
    assert _slots((64, 91), 42 + 4 * 32) == 32


def test_each_canvas_has_its_own_slots():
    small, large = _ladders((64, 64), 5), _ladders((512, 512), 3)
    made = choose_slots([*small, *large], AUTO, data_mesh(one_device()))
    assert set(made.slots) == {Bucket((64, 64)), Bucket((512, 512))}
    assert made.slots[Bucket((64, 64))] == _slots((64, 64), 5)
    assert made.slots[Bucket((512, 512))] == _slots((512, 512), 3)


def test_the_order_of_jobs_is_no_other_plan():
    jobs = [*_ladders((64, 48), 3), *_ladders((96, 96), 2), *_ladders((48, 64), 7)]
    devices = data_mesh(one_device())
    one, other = choose_slots(jobs, AUTO, devices), choose_slots(reversed(jobs), AUTO, devices)
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())


def test_jobs_that_cant_share_a_batch_have_slots_of_their_own(narrow_file):
    """One job with other taps, or with masks, does not pay for the slots of the many."""
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size="auto"))
    jobs = [*map(tiny_job, range(8)), tiny_job(8, style_taps=("relu2_1",))]
    slots = studio.plan(studio.requests(jobs)).slots
    assert {group.static_options.style_taps: count for group, count in slots.items()} == {
        ("relu1_1", "relu2_1"): 8,
        ("relu2_1",): 1,
    }


def test_an_earlier_plan_stays_and_grows():
    earlier = Plan({Bucket((64, 64)): 2, Bucket((32, 32)): 16})
    jobs = [*_ladders((64, 64), 20), *_ladders((128, 128), 1)]
    made = choose_slots(jobs, Options(batch_size=4), data_mesh(one_device()), earlier)
    assert made.slots == {Bucket((64, 64)): 2, Bucket((32, 32)): 16, Bucket((128, 128)): 4}
    assert earlier.slots == {Bucket((64, 64)): 2, Bucket((32, 32)): 16}


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


ENTRY = {
    "canvas": [64, 64],
    "regions": 0,
    "content_taps": [],
    "style_taps": [],
    "gradient_normalization": "none",
    "slots": 4,
}
NONSENSE = {
    "nothing": {},
    "a list": [],
    "null": None,
    "a text": "plan",
    "no groups": {"version": 2},
    "another version": {"version": 3, "groups": []},
    "no version": {"groups": [ENTRY]},
    "groups that are no list": {"version": 2, "groups": 3},
    "an entry that is none": {"version": 2, "groups": [5]},
    "no slots": {"version": 2, "groups": [{key: ENTRY[key] for key in ENTRY if key != "slots"}]},
    "slots of null": {"version": 2, "groups": [ENTRY | {"slots": None}]},
    "slots in words": {"version": 2, "groups": [ENTRY | {"slots": "four"}]},
    "0 slots": {"version": 2, "groups": [ENTRY | {"slots": 0}]},
    "endless slots": {"version": 2, "groups": [ENTRY | {"slots": float("inf")}]},
    "slots that are no number": {"version": 2, "groups": [ENTRY | {"slots": float("nan")}]},
    "no structure": {"version": 2, "groups": [{"canvas": [64, 64], "slots": 4, "regions": 0}]},
    "taps that are no list": {"version": 2, "groups": [ENTRY | {"style_taps": 3}]},
    "regions in words": {"version": 2, "groups": [ENTRY | {"regions": "two"}]},
    "a canvas of three sides": {"version": 2, "groups": [ENTRY | {"canvas": [64, 64, 3]}]},
    "a canvas of no side": {"version": 2, "groups": [ENTRY | {"canvas": []}]},
    "a side of 0": {"version": 2, "groups": [ENTRY | {"canvas": [0, 64]}]},
    "no device": {"version": 2, "devices": 0, "groups": []},
    "devices in words": {"version": 2, "devices": "two", "groups": []},
    "devices of null": {"version": 2, "devices": None, "groups": []},
    "an endless side": {"version": 2, "groups": [ENTRY | {"canvas": [float("inf"), 64]}]},
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
def test_anything_else_is_refused_or_understood(groups):
    try:
        made = Plan.from_json({"version": 2, "groups": groups})
    except ValueError:
        return
    assert len(made.slots) <= len(groups)


# After a batch did not fit.


@pytest.mark.parametrize(
    ("devices", "slots"),
    [(1, [32, 16, 8, 4, 2, 1]), (1, [7, 3, 1]), (2, [8, 4, 2]), (4, [24, 12, 4])],
)
def test_a_plan_is_halved_down_to_one_slot_a_device(devices, slots):
    now = Plan({Bucket((64, 64)): slots[0], Bucket((32, 32)): 5}, devices)
    for fewer in slots[1:]:
        now = now.halve(Bucket((64, 64)))
        assert now == Plan({Bucket((64, 64)): fewer, Bucket((32, 32)): 5}, devices)
    with pytest.raises(NoRoomError, match="64x64"):
        now.halve(Bucket((64, 64)))


def test_slots_that_were_not_spread_are_spread_when_halved():
    assert Plan({Bucket((64, 64)): 3}, devices=2).halve(Bucket((64, 64))).slots == {
        Bucket((64, 64)): 2
    }


def test_the_plan_knows_its_devices():
    devices = data_mesh(jax.devices()[:4])
    made = choose_slots(_ladders((64, 64), 100), AUTO, devices)
    assert made.devices == 4
    while made.slots[Bucket((64, 64))] > 4:
        made = made.halve(Bucket((64, 64)))
        assert made.slots[Bucket((64, 64))] % 4 == 0


# Costs, against those of compiled programs and of the literature.


def _costs(channels, *, use_winograd=False):
    network = narrow_network("vgg16", channels=channels)
    return CostModel(
        VGG16,
        {name: kernel.shape[2:] for name, (kernel, _) in network.convolutions.items()},
        value_bytes=4,
        use_winograd=use_winograd,
    )


def _programs(channels, *, use_winograd=False):
    network = narrow_network("vgg16", channels=channels)
    vgg = VGG(
        VGG16,
        network.convolutions,
        [float(value) for value in network.mean],
        deepest="relu5_1",
        use_winograd=use_winograd,
    )
    return ProgramCache(vgg, data_mesh(one_device()), NullProgress())


TAPS = (DEFAULT_CONTENT_TAPS, DEFAULT_STYLE_TAPS)


def test_operations_of_the_published_network_are_those_of_the_literature():
    """VGG-16 up to conv5_1 at 512 px, twice the forward pass: 301 GFLOP."""
    sides = dict(zip(range(5), VGG16.channels, strict=True))
    channels, width = {}, 3
    for block, depth in enumerate(VGG16.depths):
        for index in range(1, depth + 1):
            channels[f"conv{block + 1}_{index}"] = (width, sides[block])
            width = sides[block]
    costs = CostModel(VGG16, channels, value_bytes=4, use_winograd=False)
    assert costs.operations((512, 512), ("relu5_1", "relu1_1")) == pytest.approx(301.4e9, rel=1e-3)
    assert costs.operations((224, 224), ("relu5_3",)) / 2 == pytest.approx(30.7e9, rel=2e-3)
    assert costs.operations((512, 512), ("pixels",)) == 0


def test_a_deeper_tap_costs_more_and_a_shallower_beside_it_nothing():
    costs = _costs(CHANNELS)
    taps = [f"relu{block}_1" for block in range(1, 6)]
    deeper = [costs.operations((64, 64), (tap,)) for tap in taps]
    assert deeper == sorted(set(deeper))
    assert costs.operations((64, 64), tuple(taps)) == deeper[-1]


@pytest.fixture(scope="module")
def narrow_programs():
    return _programs(CHANNELS)


@pytest.mark.parametrize("tv_loss", ["squared", "nine_point"])
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("canvas", [(48, 64), (128, 96)])
def test_bytes_of_a_step_are_the_compilers_within_a_fifth(canvas, slots, tv_loss):
    options = Options(preset="gram", tv_loss=tv_loss)
    where = data_mesh(one_device()), Bucket(canvas, static_options=StaticOptions(*TAPS)), slots
    seen = analyze_step(_programs(CHANNELS), *where, options)
    costs = dataclasses.replace(_costs(CHANNELS), tv_loss=tv_loss)
    estimate = costs.step_bytes(canvas, slots, *TAPS)
    assert seen.bytes_per_device is not None
    assert 0.95 < estimate / seen.bytes_per_device < 1.2


@pytest.mark.slow
def test_bytes_of_a_step_by_winograd_are_the_compilers_within_a_fifth():
    channels = (16, 64, 128, 128, 128)
    programs = _programs(channels, use_winograd=True)
    where = data_mesh(one_device()), Bucket((96, 128), static_options=StaticOptions(*TAPS)), 2
    seen = analyze_step(programs, *where, Options(preset="gram"))
    costs = _costs(channels, use_winograd=True)
    network = sum(leaf.nbytes for leaf in jax.tree.leaves(programs.network))
    assert costs.network_bytes(("relu5_1",)) == pytest.approx(network, rel=1e-3)
    assert seen.bytes_per_device is not None
    working = costs.step_bytes((96, 128), 2, *TAPS) - network
    assert 0.8 < working / (seen.bytes_per_device - network) < 1.2


@pytest.mark.parametrize("edge", [64, 160])
def test_bytes_of_a_look_at_a_style_are_the_compilers_within_a_fifth(narrow_programs, edge):
    def grams(image, size, network):
        return objective.style_moments(image, network, size, DEFAULT_STYLE_TAPS)

    image, size = jnp.zeros((edge, edge, 3)), jnp.zeros(2, jnp.int32)
    needed = bytes_on_each_device(
        jax.jit(grams).lower(image, size, narrow_programs.network).compile()
    )
    assert needed is not None
    estimate = _costs(CHANNELS).style_bytes((edge, edge), DEFAULT_STYLE_TAPS)
    assert 0.8 < estimate / needed < 1.25


@pytest.mark.parametrize("architecture", DEPTHS)
def test_every_tap_has_a_cost(architecture):
    network = narrow_network(architecture)
    channels = {name: kernel.shape[2:] for name, (kernel, _) in network.convolutions.items()}
    costs = CostModel(ARCHITECTURES[architecture], channels, value_bytes=2, use_winograd=False)
    for tap in ARCHITECTURES[architecture].taps:
        deepest = deepest_tap((tap, "relu1_1"), ARCHITECTURES[architecture])
        one = costs.step_bytes((32, 32), 1, (tap,), ("relu1_1",))
        assert 0 < one < costs.step_bytes((32, 32), 2, (tap,), ("relu1_1",))
        assert costs.operations((32, 32), (tap, "relu1_1")) == costs.operations(
            (32, 32), (deepest,)
        )


def test_a_compiled_program_is_remembered_with_its_memory(narrow_programs):
    bucket = Bucket((48, 64), static_options=StaticOptions(*TAPS))
    analyze_step(narrow_programs, data_mesh(one_device()), bucket, 1, Options(preset="gram"))
    (name,) = (name for name in narrow_programs.memory if name.startswith("step 64x48 x 1 "))
    assert narrow_programs.memory[name] > 48 * 64 * 3 * 4
    assert set(narrow_programs.memory) == set(narrow_programs.compiled)


def test_what_is_compiled_beforehand_is_the_program_of_the_run(narrow_file):
    """Else `plan --compile` would tell of another program, and warm the cache for nothing."""
    options = tiny_options(narrow_file, levels=1, batch_size=2)
    studio, job = Studio(options), tiny_job(0)
    studio.render([job])
    programs = studio.programs
    before = dict(programs.compiled)
    (request,) = studio.requests([job])
    devices = studio.session.devices
    seen = analyze_step(programs, devices, request.levels[0].bucket, 2, options)
    assert programs.compiled == before
    assert seen.bytes_per_device in programs.memory.values()


# The memory at hand.


def _room(limit_bytes, taps=TAPS):
    return MemoryBudget(_costs(CHANNELS), (taps,), limit_bytes)


def _planned(size, jobs, limit_bytes, options=AUTO, devices=None, earlier=None):
    devices = data_mesh(one_device()) if devices is None else devices
    return choose_slots(_ladders(size, jobs), options, devices, earlier, budget=_room(limit_bytes))


def test_slots_are_as_many_as_the_memory_holds():
    canvas = (64, 64)
    whole = _slots(canvas, 16)
    for slots in (1, 2, 4, 8):
        limit = _room(None).required_bytes(canvas, slots)
        assert slots < whole
        assert _planned(canvas, 16, limit).slots[Bucket(canvas)] == slots
        assert _planned(canvas, 16, 2 * limit).slots[Bucket(canvas)] > slots
    assert _planned(canvas, 16, None).slots[Bucket(canvas)] == whole


def test_several_devices_hold_several_times_as_much_unless_they_are_of_one_host():
    limit = _room(None).required_bytes((64, 64), 2)
    devices = data_mesh(jax.devices()[:4])
    assert _planned((64, 64), 32, limit, devices=devices).slots[Bucket((64, 64))] == 2
    with mock.patch.object(Devices, "platform", "gpu"):
        assert _planned((64, 64), 32, limit, devices=devices).slots[Bucket((64, 64))] == 8


def test_a_picture_that_fits_no_device_is_refused_with_a_size_that_would_fit():
    limit = _room(None).required_bytes((256, 192), 1)
    _planned((256, 192), 1, limit)
    with pytest.raises(OptionError, match=r"512x384") as refused:
        _planned((384, 512), 3, limit)
    assert "MB" in refused.value.message
    assert "--size 256" in refused.value.remedy
    _planned((256, 192), 3, limit)


def test_a_batch_that_fits_no_device_is_refused_with_one_that_would():
    limit = _room(None).required_bytes((64, 64), 5)
    with pytest.raises(OptionError, match="6 slots of 64x64") as refused:
        _planned((64, 64), 1, limit, Options(batch_size=6))
    assert "--batch-size 5" in refused.value.remedy
    assert _planned((64, 64), 1, limit, Options(batch_size=5)).slots[Bucket((64, 64))] == 5


def test_the_batch_size_that_would_fit_does_so_on_every_canvas():
    room = _room(_room(None).required_bytes((128, 128), 3))
    ladders = [*_ladders((64, 64), 1), *_ladders((128, 128), 1)]
    with pytest.raises(OptionError, match="128x128") as refused:
        choose_slots(ladders, Options(batch_size=64), data_mesh(one_device()), budget=room)
    assert "--batch-size 3 " in refused.value.remedy


def test_a_resume_on_a_smaller_machine_is_refused():
    limit = _room(None).required_bytes((64, 64), 2)
    with pytest.raises(OptionError, match=r"4 slots.*plan\.json"):
        _planned((64, 64), 4, limit, earlier=Plan({Bucket((64, 64)): 4}))


def test_a_style_that_fits_no_device_is_refused():
    stage = Level(0, (64, 64), (64, 64), style_edge=512, steps=1)
    room = _room(_room(None).required_bytes((64, 64), 1))
    with pytest.raises(OptionError, match="long edge of 512 px") as refused:
        choose_slots([(stage,)], AUTO, data_mesh(one_device()), budget=room)
    largest = int(refused.value.remedy.split()[-1])
    choose_slots(
        [(dataclasses.replace(stage, style_edge=largest),)],
        AUTO,
        data_mesh(one_device()),
        budget=room,
    )


def test_the_most_expensive_taps_of_a_run_count():
    cheap, dear = (("relu1_1",), ("relu1_1",)), TAPS
    both = MemoryBudget(_costs(CHANNELS), (cheap, dear), None)
    assert both.required_bytes((64, 64), 2) == _room(None, dear).required_bytes((64, 64), 2)
    assert both.required_bytes((64, 64), 2) > _room(None, cheap).required_bytes((64, 64), 2)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_the_largest_that_fits_is_found(most, limit):
    assert largest_that_fits(lambda value: value <= limit, most) == min(most, limit)


class _Notes(NullProgress):
    def __init__(self):
        self.said = []

    def note(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize(("jobs", "said"), [(1, 1), (3, 1), (4, 0), (5, 0)])
def test_a_batch_size_beyond_the_jobs_is_said(narrow_file, jobs, said):
    studio, notes = Studio(tiny_options(narrow_file)), _Notes()
    requests = studio.requests(tiny_job(number) for number in range(jobs))
    made = studio.session.make_plan(requests, notes)
    assert set(made.slots.values()) == {4}
    assert len(notes.said) == said
    assert all("batch size of 4" in note for note in notes.said)


def test_jobs_are_planned_within_the_devices_memory(narrow_file):
    studio = Studio(tiny_options(narrow_file, batch_size="auto"))
    requests = studio.requests(tiny_job(number) for number in range(8))
    free = studio.session.make_plan(requests, NullProgress())
    needed = studio.session.costs.step_bytes((48, 48), 2, ("relu2_1",), ("relu1_1", "relu2_1"))
    with mock.patch.object(Devices, "memory_bytes", needed):
        tight = studio.session.make_plan(requests, NullProgress())
    assert by_canvas(free)[48, 48] == 8
    assert by_canvas(tight)[48, 48] == 2


def test_no_job_is_planned_as_nothing(narrow_file):
    studio = Studio(tiny_options(narrow_file))
    assert studio.session.make_plan([], NullProgress()).slots == {}


def test_costs_are_those_of_the_weight_file(tmp_path):
    channels = (2, 3, 5, 7, 9)
    studio = Studio(tiny_options(write_narrow_weights(tmp_path / "odd.h5", channels=channels)))
    costs = studio.session.costs
    assert costs.channels["conv1_1"] == (3, 2)
    assert costs.channels["conv4_1"] == (5, 7)
    assert costs.value_bytes == np.dtype(np.float32).itemsize
    assert costs.use_winograd


# What the machine says.


def test_devices_of_the_host_share_its_memory():
    one, four = data_mesh(one_device()), data_mesh(jax.devices()[:4])
    assert one.memory_bytes is not None
    assert four.memory_bytes == one.memory_bytes
    assert one.memory_bytes < (host_memory.host_bytes() or 0)
    with mock.patch("nst_jax.engine.plan.devices.host_bytes", return_value=None):
        assert one.memory_bytes is None


@pytest.mark.parametrize(("slots", "each"), [(1, 1), (2, 1), (3, 3), (4, 2)])
def test_slots_on_each_of_two_devices(slots, each):
    assert data_mesh(jax.devices()[:2]).slots_on_each(slots) == each


@pytest.mark.parametrize(
    ("lines", "files", "limit"),
    [
        ("0::/app/job\n", {"app/job/memory.max": "4096", "memory.max": "max"}, 4096),
        ("0::/app/job\n", {"app/job/memory.max": "max", "app/memory.max": "2048"}, 2048),
        ("0::/\n", {"memory.max": "1024\n"}, 1024),
        ("0::/not/seen\n", {"memory.max": "1024"}, 1024),
        ("3:cpu:/\n4:memory:/job\n", {"memory/job/memory.limit_in_bytes": "512"}, 512),
        ("4:cpu,memory:/job\n", {"memory/memory.limit_in_bytes": "256"}, 256),
        ("0::/\n", {}, None),
        ("", {}, None),
    ],
)
def test_a_control_group_limits_the_memory(tmp_path: Path, lines, files, limit):
    own, groups = tmp_path / "own", tmp_path / "groups"
    own.write_text(lines)
    groups.mkdir()
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    with (
        mock.patch.object(host_memory, "_OWN_GROUPS", own),
        mock.patch.object(host_memory, "_GROUPS", groups),
    ):
        found = host_memory.host_bytes()
    if limit is None:
        assert found is None or found > 2**24
    else:
        assert found == limit


def test_a_system_without_control_groups_has_all_its_memory(tmp_path: Path):
    with mock.patch.object(host_memory, "_OWN_GROUPS", tmp_path / "none"):
        assert (host_memory.host_bytes() or 0) > 2**24
