"""What only a process of our own may change of JAX, because it holds for all of the process.

The command line and the workers of a cluster do; a Python caller who wants the same sets
`jax_num_cpu_devices` and `jax_compilation_cache_dir`.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from nst_jax.engine.device.runtime import persistent_cache

_SETTING = "jax_num_cpu_devices"
_UNSET = -1
_FLAG = "xla_force_host_platform_device_count"


@contextlib.contextmanager
def configure_process() -> Iterator[Path | None]:
    """A device for every core, and compiled programs on disk in this `with` block.

    Gives the folder of the programs; see `runtime.persistent_cache`.
    """
    one_device_per_core()
    with persistent_cache() as folder:
        yield folder


def one_device_per_core() -> None:
    """Makes each core of the host a device, where the user has not said otherwise.

    Each then steps pictures of its own instead of a share of every small operation of one
    (`scripts/measure/host.py devices` measures it). A batch of one picture still has all cores:
    devices share their threads.
    """
    told = getattr(jax.config, _SETTING) != _UNSET or _FLAG in os.environ.get("XLA_FLAGS", "")
    if told:
        return
    with contextlib.suppress(RuntimeError):  # JAX has begun, with what it has found
        jax.config.update(_SETTING, usable_cores())


def usable_cores() -> int:
    """Of the host, those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
