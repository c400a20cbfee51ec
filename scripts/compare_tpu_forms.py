"""Which form of a layer the TPU compiler makes the least of, by its own account; no TPU is needed.

    python scripts/compare_tpu_forms.py [--topology v5e:1x1] [--size 256] [--slots 8 ...]
        [--deepest relu2_1] [--forms FORM ...]

The engine's step program, Gram matrices at the first layer of each block down to `--deepest`,
is compiled for one chip in each form, and printed are operations and bytes accessed of one
step of one image, the roofline of both, memory, and seconds of compilation. Slots are those of
each chip. Forms:

shipped             as the engine has it
first-layer-8       the image padded to 8 channels with zeros before `conv1_1`
first-layer-folded  2x2 pixels folded into 12 channels, `conv1_1` from those to 4 x 64
pool-window         maximum of `lax.reduce_window`, and its own gradient
pool-reshape        maximum over two axes of a reshaped array, and its own gradient
"""

import argparse
import functools
import importlib.metadata
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax.engine.device.programs import Programs
from nst_jax.engine.inputs.session import Setup, open_setup
from nst_jax.engine.progress import Silence
from nst_jax.forecast.chips import published_peak
from nst_jax.forecast.compiled_step import inspected
from nst_jax.forecast.outlook import CompiledStep
from nst_jax.forecast.roofline import StepForecast
from nst_jax.forecast.topologies import Topology, opened
from nst_jax.model import layers
from nst_jax.request.options import Options, Structure

_FIRST_CHANNELS = 3
_PADDED_CHANNELS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--topology", default="v5e:1x1")
    parser.add_argument("--size", type=int, default=256, help="both sides in pixels")
    parser.add_argument("--slots", type=int, nargs="+", default=[8], help="of each chip")
    parser.add_argument("--deepest", default="relu2_1", help="the last style tap")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    arguments = parser.parse_args()
    topology = opened(arguments.topology)
    setup = open_setup(Options(preset="gram"), topology.devices)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu")]
    print(f"{topology.name} ({topology.devices.kind}), {arguments.size} px, {', '.join(versions)}")
    print(f"{'form':<20}{'slots':>6}{'GFLOP':>9}{'MB':>9}{'roofline ms':>13}{'MB/chip':>9}{'s':>6}")
    for form in arguments.forms:
        for slots in arguments.slots:
            with FORMS[form]():
                seen = _seen(setup, topology, arguments.size, slots, arguments.deepest)
            print(f"{form:<20}{_row(seen)}", flush=True)


def _seen(setup: Setup, topology: Topology, size: int, slots: int, deepest: str) -> StepForecast:
    """The step of pictures of these sides, compiled."""
    jax.clear_caches()  # JAX knows the step by its function, which is the same in every form
    devices, chip = topology.devices, topology.chip
    blocks = range(1, int(deepest.removeprefix("relu")[0]) + 1)
    structure = Structure((deepest,), tuple(f"relu{block}_1" for block in blocks))
    network = setup.network((deepest, *structure.style_taps))
    programs = Programs(network, devices, Silence(), products=setup.precision.products)
    batch = slots * devices.count
    seen = inspected(programs, devices, (size, size), batch, structure, options=setup.options)
    assert chip.bytes_per_second is not None
    return StepForecast(
        CompiledStep("gram", batch, 1, seen),
        slots,
        devices.memory_bytes,
        published_peak(devices.kind, setup.precision.name),
        chip.bytes_per_second,
    )


def _row(seen: StepForecast) -> str:
    inspection = seen.step.inspection
    assert seen.chip_seconds is not None
    return (
        f"{seen.slots_on_each:>6}{seen.flops_per_image_step / 1e9:>9.2f}"
        f"{seen.bytes_accessed_per_image_step / 1e6:>9.1f}{1e3 * seen.chip_seconds:>13.3f}"
        f"{(inspection.bytes_per_device or 0) / 1e6:>9.0f}{inspection.seconds:>6.0f}"
    )


# The first layer.


def _replaced_first_layer(correlate: Callable[..., jax.Array]) -> mock._patch:
    """`conv1_1` computed another way; every other layer as it is."""
    shipped = layers._correlate

    def chosen(features: jax.Array, kernel: jax.Array, margin: int = 1) -> jax.Array:
        first = kernel.shape[2] == _FIRST_CHANNELS
        return (correlate if first else shipped)(features, kernel, margin)

    return mock.patch.object(layers, "_correlate", chosen)


def _padded(features: jax.Array, kernel: jax.Array, margin: int) -> jax.Array:
    """With channels of zeros."""
    more = _PADDED_CHANNELS - _FIRST_CHANNELS
    wide = jnp.pad(features, ((0, 0), (0, 0), (0, more)))
    return _convolved(wide, jnp.pad(kernel, ((0, 0), (0, 0), (0, more), (0, 0))), margin)


def _folded(features: jax.Array, kernel: jax.Array, margin: int) -> jax.Array:
    """On a grid of half the pixels, each with the channels of four; even sides."""
    features = jnp.pad(features, ((margin, margin), (margin, margin), (0, 0)))
    height, width, channels = features.shape
    out = kernel.shape[-1]
    corners = features.reshape(height // 2, 2, width // 2, 2, channels).transpose(0, 2, 1, 3, 4)
    folded = corners.reshape(height // 2, width // 2, 4 * channels)
    convolved = _convolved(folded, _folded_kernel(kernel), 0)
    height, width = height - 2, width - 2
    corners = convolved.reshape(height // 2, width // 2, 2, 2, out).transpose(0, 2, 1, 3, 4)
    return corners.reshape(height, width, out)


def _folded_kernel(kernel: jax.Array) -> jax.Array:
    """(3, 3, c, d) to (2, 2, 4c, 4d): from each of the four pixels to each of the four."""
    channels, out = kernel.shape[2:]
    whole = jnp.zeros((2, 2, 2, 2, channels, 2, 2, out), kernel.dtype)
    for down, across in np.ndindex(2, 2):  # of the output
        for i, j in np.ndindex(3, 3):
            (row, own_row), (column, own_column) = divmod(down + i, 2), divmod(across + j, 2)
            place = row, column, own_row, own_column, slice(None), down, across
            whole = whole.at[place].set(kernel[i, j])
    return whole.reshape(2, 2, 4 * channels, 4 * out)


def _convolved(features: jax.Array, kernel: jax.Array, margin: int) -> jax.Array:
    margins = ((margin, margin), (margin, margin))
    return jax.lax.conv_general_dilated(
        features[None], kernel, (1, 1), margins, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


# Pooling.


def _window(features: jax.Array) -> jax.Array:
    lowest = np.asarray(-np.inf, features.dtype)  # a constant, or JAX knows no gradient
    return jax.lax.reduce_window(features, lowest, jax.lax.max, (2, 2, 1), (2, 2, 1), "VALID")


def _reshaped(features: jax.Array) -> jax.Array:
    height, width, channels = features.shape
    return features.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))


def _replaced_pooling(pool: Callable[[jax.Array], jax.Array]) -> mock._patch:
    return mock.patch.object(layers, "_maximum_pool", pool)


FORMS: dict[str, Callable[[], mock._patch]] = {
    "shipped": functools.partial(mock.patch.object, layers, "_maximum_pool", layers._maximum_pool),
    "first-layer-8": functools.partial(_replaced_first_layer, _padded),
    "first-layer-folded": functools.partial(_replaced_first_layer, _folded),
    "pool-window": functools.partial(_replaced_pooling, _window),
    "pool-reshape": functools.partial(_replaced_pooling, _reshaped),
}


if __name__ == "__main__":
    main()
