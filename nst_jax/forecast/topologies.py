"""TPU machines by name, for the compiler alone: `v5e:2x2` is four chips of a kind in a square.

The compiler of TPUs comes with libtpu and needs no TPU. It takes the names that Google Cloud
has for slices: a chip, and how many stand along each axis of the slice.
"""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from nst_jax.engine.plan.devices import USABLE_SHARE, Devices
from nst_jax.forecast.chips import Chip, find_chip
from nst_jax.request.errors import OptionError

Grid = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Family:
    """The slices of one kind of chip.

    Attributes:
        kind: JAX's `device_kind`.
        accelerator: What Google Cloud's accelerator types begin with.
        cores: Of each chip, which those types count.
        largest: Sides of a whole pod, of which every slice is a part.
        examples: Common slices.
    """

    kind: str
    accelerator: str
    cores: int
    largest: Grid
    examples: tuple[str, ...]


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4")

FAMILIES = {
    "v4": Family("TPU v4", "v4", 2, (16, 16, 16), _CUBIC),
    "v5e": Family("TPU v5 lite", "v5litepod", 1, (16, 16), _FLAT),
    "v5p": Family("TPU v5", "v5p", 2, (16, 20, 28), _CUBIC),
    "v6e": Family("TPU v6 lite", "v6e", 1, (16, 16), _FLAT),
}

# libtpu divides a slice into hosts of 2x2 chips. These come with one host as well.
_ONE_HOST: dict[Grid, Grid] = {(1, 1): (1, 1, 1), (2, 4): (2, 4, 1)}


@dataclasses.dataclass(frozen=True)
class CompileOnlyDevices(Devices):
    """A mesh that takes shapes where another takes arrays: nothing runs on it.

    Attributes:
        chip_bytes: Memory of each device, which nobody can ask.
    """

    chip_bytes: int

    @property
    def memory_bytes(self) -> int:
        return int(USABLE_SHARE * self.chip_bytes)

    def replicate(self, tree: Any) -> Any:
        """Arrays as their shapes, all of them on each device."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=self.replicated_sharding
            ),
            tree,
        )


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice that programs can be compiled for.

    Attributes:
        name: As it was asked for.
        devices: Its chips.
        chip: What each of them could do.
        hosts: Over how many machines they are spread.
    """

    name: str
    devices: CompileOnlyDevices
    chip: Chip
    hosts: int

    def record(self) -> dict[str, Any]:
        """The slice as JSON has it; peaks are a chip's."""
        return {
            "name": self.name,
            "chips": self.devices.count,
            "hosts": self.hosts,
            "kind": self.devices.kind,
            "memory_bytes": self.chip.memory_bytes,
            "flops_per_second": self.chip.bfloat16,
            "bytes_per_second": self.chip.bytes_per_second,
            "source": self.chip.source,
        }


def parse_topology(name: str) -> tuple[Family, Grid]:
    """The chips and the sides of a slice, by its name.

    Raises:
        OptionError: It is no such name, or one of an unknown chip or an impossible grid.
    """
    match = re.fullmatch(r"(\w+):([1-9]\d{0,3}(?:x[1-9]\d{0,3}){1,2})", name, re.ASCII)
    if match is None:
        raise OptionError(
            f"topology must be a TPU and its grid, got {name!r}",
            f"For example v5e:2x2; known are {', '.join(FAMILIES)}",
        )
    if match[1] not in FAMILIES:
        raise OptionError(
            f"topology must name a known TPU, got {match[1]!r} in {name!r}",
            f"Known are {', '.join(FAMILIES)}",
        )
    family = FAMILIES[match[1]]
    grid = tuple(map(int, match[2].split("x")))
    fits = all(side <= most for side, most in zip(sorted(grid), family.largest, strict=False))
    if len(grid) != len(family.largest) or not fits:
        raise _impossible_slice(name, f"a pod is {'x'.join(map(str, family.largest))}")
    return family, grid


def open_topology(name: str) -> Topology:
    """The slice of this name, for this process to compile for.

    JAX is told to run on this machine's processors alone and libtpu to ask nobody where it is,
    by this process's configuration and environment. Nothing must have run on a TPU before.

    Raises:
        OptionError: There is no such slice, or libtpu is not installed.
    """
    family, grid = parse_topology(name)
    _check_libtpu()
    _isolate_process(family, grid)
    options: dict[str, Any] = {}
    if grid in _ONE_HOST:
        options["chips_per_host_bounds"] = _ONE_HOST[grid]
    if family.cores == 2:
        options["chip_config_name"] = "megacore"  # both cores as one device, as JAX runs them
    try:
        devices = topologies.get_topology_desc(name, platform="tpu", **options).devices
    except RuntimeError as error:
        raise _impossible_slice(
            name, f"libtpu says {str(error).splitlines()[0].rstrip('.')}"
        ) from error
    chip = find_chip(family.kind)
    assert chip is not None
    assert chip.memory_bytes is not None
    hosts = len({device.process_index for device in devices})
    mesh = Mesh(np.asarray(devices), ("data",))
    return Topology(name, CompileOnlyDevices(mesh, chip.memory_bytes), chip, hosts)


def _check_libtpu() -> None:
    if importlib.util.find_spec("libtpu") is None:
        raise OptionError(
            "topology needs the TPU compiler, and libtpu is not installed",
            "pip install 'nst-jax[tpu]'",
        )


def _isolate_process(family: Family, grid: Grid) -> None:
    """What libtpu and JAX must know before libtpu is loaded, on a machine with a TPU or without."""
    cores = family.cores * math.prod(grid)
    os.environ.update(
        JAX_PLATFORMS="cpu",
        TPU_SKIP_MDS_QUERY="1",
        TPU_ACCELERATOR_TYPE=f"{family.accelerator}-{cores}",
        TPU_WORKER_HOSTNAMES="localhost",
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # compiling takes no TPU from whoever has it
    )
    os.environ.setdefault("TPU_LOG_DIR", "disabled")
    jax.config.update("jax_platforms", "cpu")


def _impossible_slice(name: str, why: str) -> OptionError:
    chip = name.split(":")[0]
    slices = ", ".join(f"{chip}:{grid}" for grid in FAMILIES[chip].examples)
    return OptionError(
        f"topology must be a slice that exists, got {name!r}: {why}", f"Known are {slices}"
    )
