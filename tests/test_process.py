"""What the command line sets up of JAX in its own process."""

import json
import os
import subprocess
import sys

import pytest

_COMMAND = (sys.executable, "-m", "nst_jax.cli.main")


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ({}, None),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4),
    ],
)
def test_every_core_is_a_device_unless_the_user_says_otherwise(told, count, narrow_file, tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "NST_JAX_CACHE_DIR": "off"} | told
    flags = ["--weights", narrow_file, "--size", "48", "--levels", "1", "--json"]
    done = subprocess.run(
        [*_COMMAND, "plan", *flags], env=environment, capture_output=True, text=True, check=True
    )
    cores = len(os.sched_getaffinity(0))
    assert json.loads(done.stdout)["device"]["count"] == (count or cores)
