"""The peak of a device: published, or else the fastest of a few large matrix products."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from nst_jax.bench.timing import time_call
from nst_jax.engine.plan.devices import PRECISIONS
from nst_jax.forecast.chips import Peak, published_peak

_PRODUCT_SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
_PRODUCTS = 5


def find_peak(device: Any, dtype: str, *, side: int | None = None) -> Peak:
    """The published peak of a device, or else the one that a matrix product reaches.

    Args:
        device: One of JAX's devices.
        dtype: What the network computes in, as `devices.Precision` names it.
        side: Rows and columns of the measured product; None: what fills such a device.
    """
    known = published_peak(device.device_kind, dtype)
    return known or measure_peak(device, dtype, side=side)


def measure_peak(device: Any, dtype: str, *, side: int | None = None) -> Peak:
    """The fastest of a few products of two square matrices, after a warm-up."""
    side = side or _PRODUCT_SIDE.get(device.platform, 4096)
    precision = PRECISIONS[dtype]
    square = jax.device_put(jnp.full((side, side), 0.5, precision.dtype), device)
    product = jax.jit(functools.partial(jnp.matmul, precision=precision.products))

    def run() -> None:
        jax.block_until_ready(product(square, square))

    run()
    fastest = min(time_call(run) for _ in range(_PRODUCTS))
    source = f"measured: {dtype} product of {side}x{side} matrices, the fastest of {_PRODUCTS}"
    return Peak(2 * side**3 / fastest, source, measured=True)
