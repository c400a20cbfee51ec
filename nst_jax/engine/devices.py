"""Which devices a batch runs on, how it is laid over them, and what suits their kind."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nst_jax.engine.host_memory import host_bytes
from nst_jax.spec.options import Options

# Pixels of a batch above which a step gains nothing from more slots. On CPU the rate per
# pixel is flat from one image of 128 px on; an accelerator wants every core busy in the
# small deep layers too.
_PIXELS_THAT_FILL_A_DEVICE = {"cpu": 2 * 128 * 128, "gpu": 16 * 512 * 512, "tpu": 16 * 512 * 512}

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
        """What a program may use on each device; None where nobody tells.

        Devices that are the host's own processors share its memory.
        """
        if self.platform == "cpu":
            whole = host_bytes()
            return None if whole is None else int(USABLE_SHARE * whole) // self.count
        limit = (self.mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit")
        return None if limit is None else int(USABLE_SHARE * limit)

    def slots_on_each(self, slots: int) -> int:
        """How many of a batch's slots each device holds; see `sharded`."""
        return slots // self.count if slots % self.count == 0 else slots

    def sharded(self, slots: int) -> NamedSharding:
        """Slots over the devices; where they don't divide evenly, all slots on each of them."""
        spec = PartitionSpec("data" if slots % self.count == 0 else None)
        return NamedSharding(self.mesh, spec)

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def spread(self, tree: Any) -> Any:
        """Arrays, all of them on each device."""
        return jax.device_put(tree, self.replicated)

    def put(self, tree: Any, sharding: NamedSharding) -> Any:
        """Host arrays onto the devices."""
        return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), sharding), tree)


def over(devices: Sequence[Any]) -> Devices:
    """A data mesh over these devices."""
    return Devices(Mesh(np.asarray(devices), ("data",)))


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


def precision_of(options: Options, devices: Devices) -> Precision:
    """What the network computes in on these devices. On a CPU, TF32 is float32."""
    name = options.dtype
    if name == "auto":
        name = "float32" if devices.platform == "cpu" else "bfloat16"
    if name == "tensorfloat32" and devices.platform == "cpu":
        name = "float32"
    return PRECISIONS[name]
