"""Where a batch runs: the mesh, and what its kind wants."""

from typing import Any

import jax
import numpy as np
import pytest
from engine_jobs import Studio, image_of, one_device, tiny_job, tiny_options
from jax.sharding import PartitionSpec

from nst_jax.engine.plan.devices import data_mesh


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_mesh_has_one_axis_over_the_devices_given(count):
    chosen = jax.devices()[:count]
    devices = data_mesh(chosen)
    assert devices.count == count
    assert devices.mesh.axis_names == ("data",)
    assert list(devices.mesh.devices) == chosen
    assert devices.platform == "cpu"
    assert devices.kind == chosen[0].device_kind
    assert devices.fill_pixels == count * data_mesh(one_device()).fill_pixels


def test_arrays_of_every_kind_are_put_and_keep_their_type():
    devices = data_mesh(jax.devices()[:2])
    tree = {
        "a": np.arange(4, dtype=np.int32),
        "b": (np.float32(1.5), np.ones((4, 2), jax.numpy.bfloat16)),
    }
    everywhere = devices.put(tree, devices.replicated)
    assert jax.tree.map(lambda leaf: leaf.dtype.name, everywhere) == {
        "a": "int32",
        "b": ("float32", "bfloat16"),
    }
    for before, after in zip(jax.tree.leaves(tree), jax.tree.leaves(everywhere), strict=True):
        assert np.array_equal(before, np.asarray(after))
        assert after.sharding.is_fully_replicated
        assert len(after.sharding.device_set) == 2
    spread = devices.put(tree["a"], devices.slot_sharding(4))
    assert spread.sharding.spec == PartitionSpec("data")
    assert [list(shard.data) for shard in spread.addressable_shards] == [[0, 1], [2, 3]]


def test_a_run_stays_on_the_devices_it_is_given(narrow_file):
    """The last of eight, where nothing comes by chance."""
    chosen = jax.devices()[-1]
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=1), [chosen])
    assert image_of(studio.render([tiny_job(0, steps=1)])[0]).any()
    programs: Any = studio.programs
    assert {leaf.device for leaf in jax.tree.leaves(programs.network)} == {chosen}
    for name, program in programs._programs.items():
        used = {
            device for one in jax.tree.leaves(program.output_shardings) for device in one.device_set
        }
        assert used == {chosen}, name
