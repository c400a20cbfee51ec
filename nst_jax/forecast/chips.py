"""What a device could do at best, in operations and bytes a second, and who says so.

Published peaks are for dense products; makers' figures with "sparsity" are twice as high.
"""

import dataclasses

_NVIDIA = "maker's data sheet, dense"
_TPU = "jax-ml/scaling-book, tpus.md"
_TERA = 1e12
_GIGA = 10**9  # bytes


@dataclasses.dataclass(frozen=True)
class Chip:
    """A known device: its peaks in operations a second, by data type; see the module's head.

    Attributes:
        kinds: What JAX calls it (`device_kind`), in full: variants of a chip differ.
        bfloat16: Peak of dense products.
        tensorfloat32: Likewise; None where it is not known, or the chip has no such products.
        source: Where the peaks are published.
        bytes_per_second: Peak of the memory's traffic; None where the table does not say.
        memory_bytes: Of that memory; likewise.
    """

    kinds: tuple[str, ...]
    bfloat16: float
    tensorfloat32: float | None
    source: str
    bytes_per_second: float | None = None
    memory_bytes: int | None = None


CHIPS = (
    Chip(("NVIDIA H100 80GB HBM3",), 989 * _TERA, 494 * _TERA, f"H100 SXM: {_NVIDIA}"),
    Chip(("NVIDIA H200",), 989 * _TERA, 494 * _TERA, f"H200 SXM: {_NVIDIA}"),
    Chip(
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-40GB"),
        312 * _TERA,
        156 * _TERA,
        f"A100 SXM: {_NVIDIA}",
    ),
    Chip(("NVIDIA GeForce RTX 4090",), 165 * _TERA, None, f"RTX 4090: {_NVIDIA}"),
    Chip(("TPU v4",), 275 * _TERA, None, f"TPU v4: {_TPU}", 1.2 * _TERA, 32 * _GIGA),
    Chip(
        ("TPU v5 lite", "TPU v5e"), 197 * _TERA, None, f"TPU v5e: {_TPU}", 0.81 * _TERA, 16 * _GIGA
    ),
    Chip(("TPU v5", "TPU v5p"), 459 * _TERA, None, f"TPU v5p: {_TPU}", 2.8 * _TERA, 96 * _GIGA),
    Chip(
        ("TPU v6 lite", "TPU v6e"), 920 * _TERA, None, f"TPU v6e: {_TPU}", 1.6 * _TERA, 32 * _GIGA
    ),
)


@dataclasses.dataclass(frozen=True)
class Peak:
    """What a device could do at best.

    Attributes:
        operations_per_second: In one data type.
        source: Where the number is from.
        measured: Whether it was measured here; then a good program may come out above it.
    """

    operations_per_second: float
    source: str
    measured: bool


def find_chip(kind: str) -> Chip | None:
    """The row of a known device, by JAX's `device_kind`."""
    return next((chip for chip in CHIPS if kind in chip.kinds), None)


def published_peak(kind: str, dtype: str) -> Peak | None:
    """The peak of a known device.

    Args:
        kind: JAX's `device_kind`.
        dtype: `bfloat16`, `tensorfloat32` or `float32`, whose peaks are not in the table.
    """
    chip = find_chip(kind)
    if chip is None:
        return None
    value = {"bfloat16": chip.bfloat16, "tensorfloat32": chip.tensorfloat32}.get(dtype)
    return None if value is None else Peak(value, chip.source, measured=False)
