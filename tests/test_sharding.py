"""Slots over devices: no device ever waits for another, and the values stay."""

from typing import Any

import jax
import numpy as np
import pytest
from engine_jobs import FIRST_TAPS, LANDSCAPE, Studio, image_of, tiny_job, tiny_options
from jax.sharding import NamedSharding, PartitionSpec
from references import relative_error

from nst_jax.engine.device.compiled_facts import collectives_in
from nst_jax.engine.plan.devices import data_mesh
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.schedule.make_scheduler import make_programs

JOBS = [tiny_job(number, size) for number, size in enumerate([LANDSCAPE, (40, 48), (48, 48)] * 3)]


@pytest.fixture(scope="module", params=[1, 2, 8])
def sharded(request, narrow_file):
    """An engine over several devices with one slot each, and what it has rendered."""
    count = request.param
    options = tiny_options(narrow_file, levels=1, batch_size=count)
    studio = Studio(options, jax.devices()[:count])
    return count, studio, studio.render(JOBS)


@pytest.fixture(scope="module")
def alone(narrow_file):
    """The same jobs on one device."""
    return Studio(tiny_options(narrow_file, levels=1)).render(JOBS)


def _step_program(studio) -> Any:
    programs = studio.programs._programs
    (step,) = (program for name, program in programs.items() if name.startswith("step"))
    return step


def test_the_step_has_no_collective(sharded):
    count, studio, _ = sharded
    program = _step_program(studio).as_text()
    if count > 1:
        assert f"num_partitions={count}" in program
    assert "while" in program
    assert collectives_in(program) == []


def test_nothing_that_a_batch_runs_has_a_collective(sharded):
    """Or devices that do other things beside would wait for each other, on a CPU for ever."""
    _, studio, _ = sharded
    programs = studio.programs._programs
    busy = {name.split()[0] for name, one in programs.items() if collectives_in(one.as_text())}
    assert {name.split()[0] for name in programs} >= {"open", "place", "step", "take"}
    assert busy == set()


def test_a_collective_would_be_seen():
    """The mean over a batch is what a careless loss would do."""
    devices = data_mesh(jax.devices()[:2])
    values = devices.put(np.ones((4, 3), np.float32), devices.slot_sharding(4))
    program: Any = jax.jit(lambda batch: batch - batch.mean(0)).lower(values).compile()
    assert "all-reduce" in collectives_in(program.as_text())


def test_slots_are_spread_and_weights_are_everywhere(sharded):
    count, studio, _ = sharded
    step = _step_program(studio)
    (states, problems, network, num_steps), _ = step.input_shardings
    for sharding in jax.tree.leaves((states, problems)):
        assert sharding.spec[0] == "data"
        assert len(sharding.device_set) == count
        assert sharding.is_fully_replicated == (count == 1)
    for sharding in jax.tree.leaves((network, num_steps)):
        assert sharding.is_fully_replicated
        assert len(sharding.device_set) == count
    for sharding in jax.tree.leaves(step.output_shardings):
        assert sharding.spec[0] == "data"


def test_results_are_close_to_those_of_one_device(sharded, alone):
    _, _, results = sharded
    for one, other in zip(alone, results, strict=True):
        assert other.losses["total"] == pytest.approx(one.losses["total"], rel=0.01)
        assert relative_error(image_of(other), image_of(one)) < 0.05


def test_slots_that_do_not_divide_are_still_rendered(narrow_file, alone):
    """Three slots on two devices: all on the first, and the same pictures."""
    options = tiny_options(narrow_file, levels=1, batch_size=3)
    results = Studio(options, jax.devices()[:2]).render(JOBS[:4])
    for one, other in zip(alone, results, strict=False):
        assert other.losses["total"] == pytest.approx(one.losses["total"], rel=0.01)


@pytest.mark.parametrize(
    ("slots", "used"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (7, 1), (8, 4), (10, 2)]
)
def test_a_batch_is_laid_over_as_many_devices_as_share_it_evenly(slots, used):
    devices = data_mesh(jax.devices()[:4])
    assert devices.subset_for(slots).count == used
    assert devices.slots_on_each(slots) * used == slots
    sharding = devices.slot_sharding(slots)
    assert isinstance(sharding, NamedSharding)
    assert sharding.spec == PartitionSpec("data")
    assert sharding.device_set == set(jax.devices()[:used])
    assert devices.replicated_sharding.is_fully_replicated


def test_the_processors_of_a_host_share_one_copy_of_the_weights(narrow_file):
    options = tiny_options(narrow_file, levels=1, batch_size=8)
    studio = Studio(options, jax.devices())
    programs: Any = make_programs(studio.session, (), NullProgress(), taps=["relu1_2"])
    network = programs._network_on(studio.session.devices)
    for leaf in jax.tree.leaves(network):
        places = {shard.data.unsafe_buffer_pointer() for shard in leaf.addressable_shards}
        assert len(leaf.addressable_shards) == 8
        assert len(places) == 1


def test_a_run_stays_on_the_devices_it_is_given(narrow_file):
    """The last of eight, where nothing comes by chance."""
    chosen = jax.devices()[-1]
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=1), [chosen])
    assert image_of(studio.render([tiny_job(0, steps=1, **FIRST_TAPS)])[0]).any()
    programs: Any = studio.programs
    assert {leaf.device for leaf in jax.tree.leaves(programs.network)} == {chosen}
    for name, program in programs._programs.items():
        used = {
            device for one in jax.tree.leaves(program.output_shardings) for device in one.device_set
        }
        assert used == {chosen}, name
