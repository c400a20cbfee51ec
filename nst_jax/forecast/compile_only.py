"""Devices that programs are compiled for and never run on: the chips of a machine not at hand."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from nst_jax.engine.plan.devices import USABLE_SHARE, Devices


@dataclasses.dataclass(frozen=True)
class CompileOnlyDevices(Devices):
    """A mesh that takes shapes where another takes arrays.

    Attributes:
        chip_bytes: Memory of each device, which nobody can ask.
    """

    chip_bytes: int

    @property
    def memory_bytes(self) -> int:
        return int(USABLE_SHARE * self.chip_bytes)

    def spread(self, tree: Any) -> Any:
        """Arrays as their shapes, all of them on each device."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.replicated),
            tree,
        )


def compile_only(devices: Sequence[Any], chip_bytes: int) -> CompileOnlyDevices:
    """A data mesh over the devices of a topology, each with so much memory."""
    return CompileOnlyDevices(Mesh(np.asarray(devices), ("data",)), chip_bytes)
