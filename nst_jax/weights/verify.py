"""Does a network answer as it should? Swapped channels and a wrong mean are caught and named.

A network that was converted wrongly still computes something, and pictures made with it
only look a little dull: the field's programs shipped such mistakes for years. So the answer
of known weights is kept with them, in the registry: for one synthetic picture the mean and
the standard deviation of every activation. A network whose answer is another is tried again
with each of the usual mistakes mended, and the one that helps is named.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nst_jax.model.vgg import VGG
from nst_jax.request.taps import Architecture, block_of, deepest_tap
from nst_jax.weights.errors import InvalidWeights, explain_read_errors
from nst_jax.weights.format import WeightsReport, read_weights, report_of
from nst_jax.weights.network import NetworkWeights, Tensor
from nst_jax.weights.publishers.publisher import IMAGENET_RGB
from nst_jax.weights.registry import KnownWeights, read_registry

ActivationStats = Mapping[str, tuple[float, float]]
"""Mean and standard deviation of a network's activations, over positions and channels, by tap."""

TOLERANCE = 1e-4
"""Relative. Rounding in float32 makes 1e-6, a mean that is 0.002 off already 1e-3."""

_SIDE = 64
_CONVERT_AGAIN = "Convert it again from its source (nst-jax weights convert)."


KERNEL_LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": lambda kernel: kernel,
    "the kernels' height and width are swapped": lambda kernel: kernel.swapaxes(0, 1),
    "the kernels are turned by half a circle": lambda kernel: kernel[::-1, ::-1],
    "the kernels are mirrored": lambda kernel: kernel[:, ::-1],
    "the kernels stand on their heads": lambda kernel: kernel[::-1],
}
"""What other programs' orders of axes and convolutions make of kernels. Each undoes itself."""


def synthetic_picture() -> npt.NDArray[np.float32]:
    """A picture like no other when turned, mirrored or with its channels swapped.

    Returns:
        float32 RGB in [0, 1], (64, 64, 3): slow waves, different in each channel, and two
        hard edges.
    """
    down, across = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE), indexing="ij")
    red = 0.5 + 0.4 * np.sin(across / 5 + down / 11)
    green = 0.4 + 0.3 * np.cos(down / 3)
    blue = 0.3 + 0.2 * np.sin((across - 2 * down) / 7)
    picture = np.stack([red, green, blue], axis=-1)
    picture[10:30, 20:28] = (0.9, 0.1, 0.2)
    picture[40:52, 5:50] = (0.1, 0.2, 0.8)
    return picture.astype(np.float32)


def activation_stats(weights: NetworkWeights, taps: tuple[str, ...]) -> ActivationStats:
    """What a network answers to the synthetic picture, computed in float32."""
    network = VGG(
        weights.architecture,
        weights.convolutions,
        weights.mean,
        deepest=deepest_tap(taps, weights.architecture),
    )
    features = _features(network, jnp.asarray(synthetic_picture()), taps)
    return {tap: _stats(np.asarray(value, np.float64)) for tap, value in features.items()}


def relu_taps(architecture: Architecture) -> tuple[str, ...]:
    """Every activation of a network: where its answer is taken."""
    return tuple(tap for tap in architecture.taps if tap.startswith("relu"))


def verify_file(path: Path) -> tuple[WeightsReport, str]:
    """Checks a weights file with everything there is: seal, structure, numbers, answer.

    Returns:
        What is in it, and the name of the known network that it answers like, or empty.

    Raises:
        WeightsError: What is wrong with it.
    """
    with explain_read_errors(path):
        weights = read_weights(path)
        _check_alive(weights)
        return report_of(weights), identify(weights)


def _check_alive(weights: NetworkWeights) -> None:
    """Refuses a network through which nothing gets, or from which no finite number comes."""
    stats = activation_stats(weights, relu_taps(weights.architecture))
    for tap, (mean, deviation) in stats.items():
        if not math.isfinite(mean) or not deviation > 0:
            raise InvalidWeights(
                f"computes nothing of use: at {tap} the mean is {mean:g} and the deviation "
                f"{deviation:g} for a plain picture",
                _CONVERT_AGAIN,
            )


def identify(weights: NetworkWeights) -> str:
    """The name of the known network that these weights answer like.

    Returns:
        Empty if they answer like none, which a network of other numbers does.

    Raises:
        InvalidWeights: They would answer like a known one, had a usual mistake not been made
            with them; or they are said to be a known one's numbers and are not.
    """
    known = [one for one in read_registry() if one.answer and _is_comparable(one, weights)]
    for entry in known:
        if _is_match(weights, entry.answer):
            return entry.name
    for entry in known:
        for mistake, mended in _mend_usual_mistakes(entry, weights):
            if _is_match(mended, entry.answer):
                raise InvalidWeights(f"holds {entry.name}, but {mistake}", _CONVERT_AGAIN)
    for entry in known:
        if entry.checksum == f"sha256:{weights.source_sha256}":
            raise InvalidWeights(
                f"is said to come from the file of {entry.name}, but does not answer as that does",
                _CONVERT_AGAIN,
            )
    return ""


@functools.partial(jax.jit, static_argnames="taps")
def _features(network: VGG, picture: jax.Array, taps: tuple[str, ...]) -> dict[str, jax.Array]:
    with jax.default_matmul_precision("highest"):
        return network(picture, jnp.array(picture.shape[:2]), taps)


def _stats(features: npt.NDArray[np.float64]) -> tuple[float, float]:
    with np.errstate(invalid="ignore"):  # of infinite activations, which are refused later
        return float(features.mean()), float(features.std())


def _is_match(weights: NetworkWeights, wanted: ActivationStats) -> bool:
    """Whether a network answers as wanted. The first tap alone refuses most that do not."""
    first, *_ = wanted
    return all(
        np.allclose(got[tap], wanted[tap], rtol=TOLERANCE)
        for taps in ((first,), tuple(wanted))
        for got in [activation_stats(weights, taps)]
        for tap in taps
    )


def _is_comparable(entry: KnownWeights, weights: NetworkWeights) -> bool:
    architecture = weights.architecture
    full = [architecture.channels[block_of(name) - 1] for name in architecture.convolutions]
    widths = [weights.convolutions[name][1].size for name in architecture.convolutions]
    return entry.architecture == architecture.name and widths == full


def _mend_usual_mistakes(
    entry: KnownWeights, weights: NetworkWeights
) -> Iterator[tuple[str, NetworkWeights]]:
    """Every combination of the usual mistakes and the network without it, the single ones first."""
    deviation = np.array(IMAGENET_RGB.deviation)
    scales = {
        "": np.ones(3),
        "conv1_1 was not multiplied by 255": np.full(3, 255.0),
        "conv1_1 was multiplied by 255": np.full(3, 1 / 255),
        "conv1_1 was not divided by the channels' deviation": 1 / deviation,
        "conv1_1 was divided by the channels' deviation": deviation,
    }
    orders = {"": [0, 1, 2], "conv1_1's input channels are in the order BGR": [2, 1, 0]}
    means = {"": weights.mean, _wrong_mean(weights, entry): entry.mean}
    combinations = itertools.product(scales, orders, KERNEL_LAYOUTS, means)
    for made in sorted(combinations, key=lambda made: sum(map(bool, made))):
        if any(made):
            scale, order, turn, mean = made
            convolutions = {
                name: (np.ascontiguousarray(KERNEL_LAYOUTS[turn](kernel)), bias)
                for name, (kernel, bias) in weights.convolutions.items()
            }
            kernel, bias = convolutions["conv1_1"]
            first = kernel[:, :, orders[order]] * scales[scale][:, None]
            convolutions["conv1_1"] = (first.astype(np.float32), bias)
            mended = dataclasses.replace(weights, convolutions=convolutions, mean=means[mean])
            yield " and ".join(filter(None, made)), mended


def _wrong_mean(weights: NetworkWeights, entry: KnownWeights) -> str:
    got, wanted = (
        ", ".join(f"{value:.3f}" for value in mean) for mean in (weights.mean, entry.mean)
    )
    return f"the mean is {got} and not {wanted}" if got != wanted else ""
