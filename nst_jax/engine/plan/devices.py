"""Which devices a batch runs on, how it is laid over them, and what suits their kind."""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nst_jax.engine.plan.host_limits import host_bytes, usable_cores
from nst_jax.request.errors import say_count
from nst_jax.request.options import Options

# Pixels of a batch above which a step gains nothing from more slots. On CPU the rate per
# pixel is flat from one image of 128 px on; an accelerator wants every core busy in the
# small deep layers too.
_PIXELS_THAT_FILL_A_DEVICE = {"cpu": 2 * 128 * 128, "gpu": 16 * 512 * 512, "tpu": 16 * 512 * 512}

# What a step costs in core time when twice as many cores share it, as measured for two on one
# by scripts/measure/host.py devices.
_COST_OF_SHARING = 1.25

# The rest is for pictures that wait their turn, the interpreter, and what estimates miss.
USABLE_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Devices:
    """The local devices as a mesh of one axis, `data`: slots are sharded, weights replicated."""

    mesh: Mesh

    @property
    def count(self) -> int:
        return self.mesh.devices.size

    @property
    def platform(self) -> str:
        """`cpu`, `gpu` or `tpu`."""
        return self.mesh.devices.flat[0].platform

    @property
    def kind(self) -> str:
        """What the maker calls the device."""
        return self.mesh.devices.flat[0].device_kind

    @property
    def fill_pixels(self) -> int:
        """Pixels of a batch that keep all devices busy."""
        return self.count * _PIXELS_THAT_FILL_A_DEVICE.get(self.platform, 2**22)

    @property
    def memory_bytes(self) -> int | None:
        """What programs may use of a device's memory; None where nobody tells.

        Devices that are the host's own processors have one memory together: the host's.
        """
        if self.platform == "cpu":
            whole = host_bytes()
            return None if whole is None else int(USABLE_SHARE * whole)
        limit = self._limit_bytes
        return None if limit is None else int(USABLE_SHARE * limit)

    def text(self, precision: "Precision") -> str:
        """For a user: how many of which kind, what they compute in, and what they have."""
        if self.platform == "cpu":
            kind = "CPU device" if self.count == 1 else "CPU devices"
            cores = usable_cores()
            has = say_count(cores, "core")
        else:
            kind, bytes_each = self.kind, self._limit_bytes
            has = "" if bytes_each is None else f"{self.count * bytes_each / 1e9:.0f} GB usable"
        return ", ".join(filter(None, (f"{self.count} {kind}", precision.name, has)))

    @property
    def _limit_bytes(self) -> int | None:
        """What JAX may use of an accelerator's memory; None where nobody tells."""
        return (self.mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit")

    @property
    def memories(self) -> int:
        """How many such memories there are."""
        return 1 if self.platform == "cpu" else self.count

    def subset_for(self, slots: int) -> "Devices":
        """Those that a batch is laid over: as many as share its slots evenly, from the first on.

        So one picture alone runs on one device, and on a CPU with the threads of all cores.
        """
        return _subset(self, slots)

    def slots_on_each(self, slots: int) -> int:
        """How many of a batch's slots each used device holds."""
        return slots // self.subset_for(slots).count

    def slots_in_a_memory(self, slots: int) -> int:
        """How many of a batch's slots lie in the same memory; see `memory_bytes`."""
        return slots if self.platform == "cpu" else self.slots_on_each(slots)

    def slot_cost(self, slots: int) -> float:
        """As many slots as all devices at work could step in the time that a batch takes.

        The cores of a CPU that no slot uses help the others, though they are worth less there.
        """
        used = self.subset_for(slots).count
        if self.platform == "cpu":
            return slots * _COST_OF_SHARING ** math.log2(self.count / used)
        return slots * self.count / used

    def slot_sharding(self, slots: int) -> NamedSharding:
        """Slots over the devices that a batch uses."""
        return NamedSharding(self.subset_for(slots).mesh, PartitionSpec("data"))

    @property
    def replicated_sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def replicate(self, tree: Any) -> Any:
        """Arrays, all of them on each device. The processors of a host share one copy."""
        if self.platform == "cpu":
            tree = jax.tree.map(np.asarray, tree)
        return jax.device_put(tree, self.replicated_sharding)

    def put(self, tree: Any, sharding: NamedSharding) -> Any:
        """Host arrays onto the devices."""
        return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), sharding), tree)


@functools.lru_cache(maxsize=64)
def _subset(devices: Devices, slots: int) -> Devices:
    count = max(count for count in range(1, devices.count + 1) if slots % count == 0)
    return Devices(_line(devices.mesh.devices.flat[:count]))


def data_mesh(devices: Iterable[Any]) -> Devices:
    """A data mesh over these devices."""
    return Devices(_line(devices))


def _line(devices: Iterable[Any]) -> Mesh:
    return Mesh(np.asarray(list(devices)), ("data",))


@dataclasses.dataclass(frozen=True)
class Precision:
    """What the network computes in; see `Options.dtype`.

    Attributes:
        name: As the option has it, never `auto`.
        dtype: Of features and kernels.
        products: How exactly float32 numbers are multiplied, as `jax.default_matmul_precision`
            has it. Left alone, JAX multiplies them as TF32 on GPUs and as bfloat16 on TPUs.
    """

    name: str
    dtype: jnp.dtype
    products: str


PRECISIONS = {
    "float32": Precision("float32", jnp.dtype(jnp.float32), "highest"),
    "tensorfloat32": Precision("tensorfloat32", jnp.dtype(jnp.float32), "tensorfloat32"),
    "bfloat16": Precision("bfloat16", jnp.dtype(jnp.bfloat16), "default"),
}


def choose_precision(options: Options, devices: Devices) -> Precision:
    """What the network computes in on these devices. On a CPU, TF32 is float32."""
    name = options.dtype
    if name == "auto":
        name = "float32" if devices.platform == "cpu" else "bfloat16"
    if name == "tensorfloat32" and devices.platform == "cpu":
        name = "float32"
    return PRECISIONS[name]
