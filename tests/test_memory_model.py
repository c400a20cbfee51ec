"""Memory and operations: the model beside compiled programs, and plans within what is at hand."""

import dataclasses
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine_jobs import (
    Notes,
    Studio,
    one_device,
    slots_by_canvas,
    tiny_job,
    tiny_options,
    write_narrow_weights,
)
from hypothesis import given
from hypothesis import strategies as st
from networks import CHANNELS, DEPTHS, narrow_network
from test_slots import BATCH_SIZES, SMALL, one_level_jobs

from nst_jax.engine.device.compiled_facts import bytes_on_each_device
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.plan import host_limits
from nst_jax.engine.plan.devices import Devices, data_mesh
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.memory_model import CostModel, MemoryBudget, largest_that_fits
from nst_jax.engine.plan.slots import Plan, choose_slots
from nst_jax.engine.progress import NullProgress
from nst_jax.forecast.compiled_step import analyze_step
from nst_jax.model.targets import style_moments
from nst_jax.model.vgg import VGG
from nst_jax.request.errors import OptionError
from nst_jax.request.options import Options, StaticOptions
from nst_jax.request.taps import ARCHITECTURES, VGG16, deepest_tap

TAPS = (Options().content_taps, Options().style_taps)


def make_costs(channels=CHANNELS, *, architecture="vgg16", use_winograd=False):
    network = narrow_network(architecture, channels=channels)
    return CostModel(
        ARCHITECTURES[architecture],
        {name: kernel.shape[2:] for name, (kernel, _) in network.convolutions.items()},
        value_bytes=4,
        use_winograd=use_winograd,
    )


def make_programs(channels=CHANNELS, *, use_winograd=False):
    network = narrow_network("vgg16", channels=channels)
    mean = [float(value) for value in network.mean]
    vgg = VGG(VGG16, network.convolutions, mean, deepest="relu5_1", use_winograd=use_winograd)
    return ProgramCache(vgg, data_mesh(one_device()), NullProgress())


# Beside compiled programs. Operations of published networks are in `test_bench.py`.


@pytest.mark.parametrize("architecture", DEPTHS)
def test_every_tap_has_a_cost_and_a_shallower_beside_it_none(architecture):
    network, costs = ARCHITECTURES[architecture], make_costs(architecture=architecture)
    deeper = [costs.operations((64, 64), (f"relu{block}_1",)) for block in range(1, 6)]
    assert deeper == sorted(set(deeper))
    for tap in network.taps:
        one = costs.step_bytes((32, 32), 1, (tap,), ("relu1_1",))
        assert 0 < one < costs.step_bytes((32, 32), 2, (tap,), ("relu1_1",))
        deepest = deepest_tap((tap, "relu1_1"), network)
        both = costs.operations((32, 32), (tap, "relu1_1"))
        assert both == costs.operations((32, 32), (deepest,))
    assert costs.operations((512, 512), ("pixels",)) == 0


@pytest.mark.parametrize(
    ("canvas", "slots", "tv_loss"),
    [
        *(((48, 64), 1, "squared"), ((48, 64), 4, "nine_point")),
        *(((128, 96), 4, "squared"), ((128, 96), 1, "nine_point")),
    ],
)
def test_bytes_of_a_step_are_the_compilers_within_a_fifth(canvas, slots, tv_loss):
    options = Options(preset="gram", tv_loss=tv_loss)
    where = Bucket(canvas, static_options=StaticOptions(*TAPS)), slots
    seen = analyze_step(make_programs(), *where, options)
    costs = dataclasses.replace(make_costs(), tv_loss=tv_loss)
    assert seen.bytes_per_device is not None
    assert 0.95 < costs.step_bytes(canvas, slots, *TAPS) / seen.bytes_per_device < 1.2


@pytest.mark.slow
def test_bytes_of_a_step_by_winograd_are_the_compilers_within_a_fifth():
    channels = (16, 64, 128, 128, 128)
    programs = make_programs(channels, use_winograd=True)
    where = Bucket((96, 128), static_options=StaticOptions(*TAPS)), 2
    seen = analyze_step(programs, *where, Options(preset="gram"))
    costs = make_costs(channels, use_winograd=True)
    network = sum(leaf.nbytes for leaf in jax.tree.leaves(programs.network))
    assert costs.network_bytes(("relu5_1",)) == pytest.approx(network, rel=1e-3)
    assert seen.bytes_per_device is not None
    working = costs.step_bytes((96, 128), 2, *TAPS) - network
    assert 0.8 < working / (seen.bytes_per_device - network) < 1.2


@pytest.mark.parametrize("edge", [64, 160])
def test_bytes_of_a_look_at_a_style_are_the_compilers_within_a_fifth(edge):
    def moments(image, size, network):
        return style_moments(image, network, size, TAPS[1])

    image, size = jnp.zeros((edge, edge, 3)), jnp.zeros(2, jnp.int32)
    needed = bytes_on_each_device(
        jax.jit(moments).lower(image, size, make_programs().network).compile()
    )
    assert needed is not None
    assert 0.8 < make_costs().style_bytes((edge, edge), TAPS[1]) / needed < 1.25


def test_what_is_compiled_beforehand_is_the_program_of_the_run_and_its_memory_is_known(one_level):
    """Else `plan --compile` would tell of another program, and warm the cache for nothing."""
    job = tiny_job(0)
    one_level.render([job], batch_size=2)
    programs, before = one_level.programs, dict(one_level.programs.compiled)
    [level] = one_level.examine([job])[0].levels
    seen = analyze_step(programs, level.bucket, 2, one_level.options)
    assert programs.compiled == before
    assert set(programs.memory) == set(programs.compiled)
    assert seen.bytes_per_device in programs.memory.values()
    assert seen.bytes_per_device > 2 * level.canvas[0] * level.canvas[1] * 3 * 4


def test_costs_are_those_of_the_weight_file(tmp_path):
    channels = (2, 3, 5, 7, 9)
    studio = Studio(tiny_options(write_narrow_weights(tmp_path / "odd.h5", channels=channels)))
    costs = studio.session.costs
    assert costs.channels["conv1_1"] == (3, 2)
    assert costs.channels["conv4_1"] == (5, 7)
    assert costs.value_bytes == np.dtype(np.float32).itemsize
    assert costs.use_winograd


# Plans within the memory at hand.


def make_budget(limit_bytes, taps=TAPS):
    return MemoryBudget(make_costs(), (taps,), limit_bytes)


def bytes_of(canvas, slots):
    return make_budget(None).required_bytes(canvas, slots)


def plan_within(limit_bytes, *jobs, devices=1, batch_size="auto", earlier=None):
    """Slots for jobs, told as (size, count)."""
    return choose_slots(
        [levels for size, count in jobs for levels in one_level_jobs(size, count)],
        Options(batch_size=batch_size),
        data_mesh(jax.devices()[:devices]),
        earlier,
        budget=make_budget(limit_bytes),
    ).slots


def test_slots_are_as_many_as_the_memory_of_all_devices_holds_but_of_one_host_once():
    for slots in BATCH_SIZES[:4]:
        limit = bytes_of((64, 64), slots)
        assert plan_within(limit, ((64, 64), 16))[SMALL] == slots
        assert plan_within(2 * limit, ((64, 64), 16))[SMALL] > slots
    assert plan_within(None, ((64, 64), 16))[SMALL] > 8
    limit = bytes_of((64, 64), 2)
    assert plan_within(limit, ((64, 64), 32), devices=4)[SMALL] == 2
    with mock.patch.object(Devices, "platform", "gpu"):
        assert plan_within(limit, ((64, 64), 32), devices=4)[SMALL] == 8


def test_a_picture_that_fits_no_device_is_refused_with_a_size_that_would_fit():
    limit = bytes_of((256, 192), 1)
    with pytest.raises(OptionError, match=r"384x512") as refused:
        plan_within(limit, ((384, 512), 3))
    assert "MB" in refused.value.message
    assert "--size 256" in refused.value.remedy
    plan_within(limit, ((256, 192), 3))


def test_a_batch_that_fits_no_device_is_refused_with_one_that_would_on_every_canvas():
    limit = bytes_of((64, 64), 5)
    with pytest.raises(OptionError, match="6 slots of 64x64") as refused:
        plan_within(limit, ((64, 64), 1), batch_size=6)
    assert "--batch-size 5" in refused.value.remedy
    assert plan_within(limit, ((64, 64), 1), batch_size=5)[SMALL] == 5
    with pytest.raises(OptionError, match="128x128") as refused:
        plan_within(bytes_of((128, 128), 3), ((64, 64), 1), ((128, 128), 1), batch_size=64)
    assert "--batch-size 3 " in refused.value.remedy


def test_a_resume_on_a_smaller_machine_is_refused():
    with pytest.raises(OptionError, match=r"4 slots.*plan\.json"):
        plan_within(bytes_of((64, 64), 2), ((64, 64), 4), earlier=Plan({SMALL: 4}))


def test_a_style_that_fits_no_device_is_refused():
    level = Level(0, (64, 64), (64, 64), style_edge=512, steps=1)
    where = Options(), data_mesh(one_device())
    budget = make_budget(bytes_of((64, 64), 1))
    with pytest.raises(OptionError, match="long edge of 512 px") as refused:
        choose_slots([(level,)], *where, budget=budget)
    largest = int(refused.value.remedy.split()[-1])
    choose_slots([(dataclasses.replace(level, style_edge=largest),)], *where, budget=budget)


def test_the_most_expensive_taps_of_a_run_count():
    cheap = (("relu1_1",), ("relu1_1",))
    both = MemoryBudget(make_costs(), (cheap, TAPS), None)
    assert both.required_bytes((64, 64), 2) == bytes_of((64, 64), 2)
    assert bytes_of((64, 64), 2) > make_budget(None, cheap).required_bytes((64, 64), 2)


@pytest.mark.parametrize(("optimizer", "planes"), [("adam", 5), ("lbfgs", 26)])
def test_what_waits_on_a_device_is_part_of_what_it_needs(optimizer, planes):
    """Each job's state and content, as many jobs as a wave has, and the targets that are kept."""
    costs = dataclasses.replace(make_costs(), optimizer=optimizer)

    def budget(jobs, limit=None):
        return MemoryBudget(costs, (TAPS,), limit, jobs)

    def waiting(canvas, jobs):
        """Without the target cache, which a device of sixteen bytes and fewer does not have."""
        return budget(jobs, 15).resident_bytes(canvas) / (12 * planes)

    assert waiting((64, 48), 0) == 0
    assert waiting((64, 48), 3) == 3 * 64 * 48
    assert waiting((512, 512), 1000) == 32 * 512 * 512
    assert waiting((1024, 1024), 1000) == 8 * 1024 * 1024
    assert waiting((4096, 4096), 1000) == 4096 * 4096, "one is never too many"
    alone = budget(0).required_bytes((64, 48), 2)
    networks = costs.network_bytes((*TAPS[0], *TAPS[1]))
    assert alone == costs.step_bytes((64, 48), 2, *TAPS) + networks, "transposed kernels as well"
    beside = budget(3).required_bytes((64, 48), 2)
    assert beside == alone + budget(3).resident_bytes((64, 48))
    kept = budget(3).resident_bytes((64, 48)) - 12 * planes * waiting((64, 48), 3)
    assert kept == 3 * 8 * costs.target_bytes((64, 48), *TAPS)
    many = 12 * planes * waiting((512, 512), 10**6)
    assert budget(10**6).resident_bytes((512, 512)) - many == 2**28
    assert budget(10**6, 2**30).resident_bytes((512, 512)) - many == 2**26


def test_a_batch_is_planned_beside_what_waits():
    """A limit that holds four slots alone holds fewer beside the states of four jobs."""
    levels = one_level_jobs((64, 64), 32)
    limit = bytes_of((64, 64), 4)
    where = Options(), data_mesh(one_device())
    alone, beside = (
        choose_slots(levels, *where, budget=dataclasses.replace(make_budget(limit), jobs=jobs))
        for jobs in (0, 4)
    )
    assert alone.slots[SMALL] == 4
    assert beside.slots[SMALL] < 4


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_the_largest_that_fits_is_found(most, limit):
    assert largest_that_fits(lambda value: value <= limit, most) == min(most, limit)


def test_a_batch_size_beyond_the_jobs_is_said(studio):
    for jobs, said in ((1, 1), (3, 1), (4, 0), (5, 0)):
        notes = Notes()
        made = studio.session.make_plan(studio.examine(map(tiny_job, range(jobs))), notes)
        assert set(made.slots.values()) == {4}
        assert len(notes.said) == said
        assert all("batch size of 4" in note for note in notes.said)


def test_jobs_are_planned_within_the_devices_memory(narrow_file):
    studio = Studio(tiny_options(narrow_file, batch_size="auto"))
    session, jobs = studio.session, studio.examine(map(tiny_job, range(8)))
    assert slots_by_canvas(session.make_plan(jobs, NullProgress()))[48, 48] == 8
    taps = ("relu2_1",), ("relu1_1", "relu2_1")
    needed = MemoryBudget(session.costs, (taps,), None, len(jobs)).required_bytes((48, 48), 2)
    with mock.patch.object(Devices, "memory_bytes", needed):
        assert slots_by_canvas(session.make_plan(jobs, NullProgress()))[48, 48] == 2
    assert session.make_plan([], NullProgress()).slots == {}


# What the machine says.


def test_devices_of_the_host_share_its_memory():
    one, four = data_mesh(one_device()), data_mesh(jax.devices()[:4])
    assert one.memory_bytes is not None
    assert four.memory_bytes == one.memory_bytes
    assert one.memory_bytes < (host_limits.host_bytes() or 0)
    with mock.patch("nst_jax.engine.plan.devices.host_bytes", return_value=None):
        assert one.memory_bytes is None


@pytest.mark.parametrize(
    ("kind", "lines", "files", "limit"),
    [
        ("bytes", "0::/app/job\n", {"app/job/memory.max": "4096", "memory.max": "max"}, 4096),
        ("bytes", "0::/app/job\n", {"app/job/memory.max": "max", "app/memory.max": "2048"}, 2048),
        ("bytes", "0::/\n", {"memory.max": "1024\n"}, 1024),
        ("bytes", "0::/not/seen\n", {"memory.max": "1024"}, 1024),
        ("bytes", "3:cpu:/\n4:memory:/job\n", {"memory/job/memory.limit_in_bytes": "512"}, 512),
        ("bytes", "4:cpu,memory:/job\n", {"memory/memory.limit_in_bytes": "256"}, 256),
        ("cores", "0::/app/job\n", {"app/job/cpu.max": "150000 100000"}, 2),
        ("cores", "0::/app/job\n", {"app/job/cpu.max": "max 100000", "cpu.max": "1000 5000"}, 1),
        ("cores", "0::/\n", {"cpu.max": "9900000 100000\n"}, None),
        ("cores", "0::/\n", {"cpu.max": "max 100000"}, None),
        (
            *("cores", "4:cpu,cpuacct:/job\n"),
            {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            *("cores", "4:cpu:/\n"),
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        *((kind, lines, {}, None) for kind in ("bytes", "cores") for lines in ("0::/\n", "", None)),
    ],
)
def test_a_control_group_limits_memory_and_cores_and_without_one_there_are_all(
    tmp_path: Path, monkeypatch, kind, lines, files, limit
):
    own, groups = tmp_path / "own", tmp_path / "groups"
    if lines is not None:
        own.write_text(lines)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    monkeypatch.setattr(host_limits, "_OWN_GROUPS", own)
    monkeypatch.setattr(host_limits, "_GROUPS", groups)
    monkeypatch.setattr(host_limits, "host_cores", lambda: 8)
    if kind == "cores":
        assert host_limits.usable_cores() == (limit or 8)
        return
    found = host_limits.host_bytes()
    assert found == limit if limit else found is None or found > 2**24
