"""A style's directions by several forms: what W² and its gradient lose beside float64.

    python scripts/measure/directions.py --styles FOLDER --content PICTURE [--edges 128 512]

Each form makes the target of each style, cut to a square, from the same features, float64 too.
Then an image with the features of the content is compared with it, as a step does. Printed are the
largest errors over the styles, at each tap: of the value, and of the gradient by its norm. Forms:

    shipped      float32: eigh of E[x xᵀ] - μ μᵀ, and no variance below a millionth of the largest
    uncut        the same with whatever variance comes out
    centred      float32: eigh of E[(x - μ) (x - μ)ᵀ], with the same cut
    iteration    float32: twelve rounds of products and QR from a fixed start, then a small eigh
    host         float64: eigh of E[x xᵀ] - μ μᵀ, which are float32
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from nst_jax import Options
from nst_jax.files.images import composite, load_picture, resize
from nst_jax.model import wasserstein
from nst_jax.model.region import Region
from nst_jax.model.vgg import VGG
from nst_jax.model.wasserstein import RANK, WassersteinTarget
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights

_ROUNDS = 12
Features = Mapping[str, jax.Array]
Form = Callable[[jax.Array], WassersteinTarget]
"""Features, one row a position, to a target."""


def from_covariance(mean, covariance) -> WassersteinTarget:
    """The target whose mean and covariance these are."""
    made = WassersteinTarget.from_moments(jnp.zeros_like(mean), covariance)
    return made._replace(mean=mean)


def shipped(rows: jax.Array) -> WassersteinTarget:
    return WassersteinTarget.from_moments(rows.mean(0), rows.T @ rows / len(rows))


def uncut(rows: jax.Array) -> WassersteinTarget:
    with mock.patch.object(wasserstein, "_ROUNDING", 0.0):
        return shipped(rows)


def covariance_of(rows: jax.Array) -> jax.Array:
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)


def centred(rows: jax.Array) -> WassersteinTarget:
    return from_covariance(rows.mean(0), covariance_of(rows))


def iteration(rows: jax.Array) -> WassersteinTarget:
    mean, covariance = rows.mean(0), covariance_of(rows)
    if len(mean) <= RANK:
        return from_covariance(mean, covariance)
    start = np.random.default_rng(0).normal(size=(len(mean), RANK))
    basis = jnp.asarray(start, jnp.float32)
    for _ in range(_ROUNDS):
        basis, _ = jnp.linalg.qr(covariance @ basis)
    variances, turn = jnp.linalg.eigh(basis.T @ covariance @ basis)
    variances = jnp.maximum(variances, 0)
    rest = jnp.maximum(jnp.trace(covariance) - variances.sum(), 0)
    return WassersteinTarget(mean, basis @ turn, jnp.sqrt(variances), rest)


def by_numpy(mean: np.ndarray, covariance: np.ndarray) -> WassersteinTarget:
    """By float64 on the host."""
    variances, directions = np.linalg.eigh(covariance)
    variances, weak = np.maximum(variances, 0), max(len(mean) - RANK, 0)
    parts = mean, directions[:, weak:], np.sqrt(variances[weak:]), variances[:weak].sum()
    return WassersteinTarget(*(jnp.asarray(part, jnp.float32) for part in parts))


_moments = jax.jit(lambda rows: (rows.mean(0), rows.T @ rows / len(rows)))


def host(rows: jax.Array) -> WassersteinTarget:
    mean, second = (np.asarray(one, np.float64) for one in _moments(rows))
    return by_numpy(mean, second - np.outer(mean, mean))


def exact(rows: jax.Array) -> WassersteinTarget:
    exactly = np.asarray(rows, np.float64)
    spread = exactly - exactly.mean(0)
    return by_numpy(exactly.mean(0), spread.T @ spread / len(rows))


FORMS: Mapping[str, Form] = {
    **{one.__name__: jax.jit(one) for one in (shipped, uncut, centred, iteration)},
    "host": host,
}


def open_network(weights: str, taps: tuple[str, ...]) -> Callable[[Path, int], Features]:
    """What gives the features of a picture's square part at a long edge, by one compilation."""
    read = read_weights(find_weights(weights))
    network = VGG(read.architecture, read.convolutions, read.mean, deepest=taps[-1])
    look = jax.jit(lambda network, image, size: network(image, size, taps))

    def features(path: Path, edge: int) -> Features:
        pixels = composite(load_picture(path), "white")
        side = min(pixels.shape[:2])
        pixels = resize(pixels[:side, :side], (edge, edge))
        return look(network, jnp.asarray(pixels), jnp.asarray(pixels.shape[:2]))

    return features


@jax.jit
def value_and_gradient(image: jax.Array, target: WassersteinTarget) -> tuple[jax.Array, jax.Array]:
    """W² of an image's features at a tap, all of whose positions count."""
    region = Region(jnp.float32(image.shape[0] * image.shape[1]), None, jnp.ones(image.shape[:2]))
    return jax.value_and_grad(lambda one: target.distance(one, region))(image)


def compare(image: jax.Array, target: WassersteinTarget) -> list[np.ndarray]:
    """Value and gradient, as float64."""
    return [np.asarray(part, np.float64) for part in value_and_gradient(image, target)]


def relative_errors(made: list[np.ndarray], wanted: list[np.ndarray]) -> list[float]:
    pairs = zip(made, wanted, strict=True)
    return [float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs]


def measure(
    styles: Path,
    content: Path,
    edges: tuple[int, ...] = (512,),
    taps: tuple[str, ...] = tuple(f"relu{block}_1" for block in range(1, 6)),
    weights: str = Options().weights,
) -> None:
    """Prints the table for each long edge of styles and content.

    Args:
        styles: A folder of pictures.
        content: A picture.
        edges: In pixels.
        taps: From the first to the deepest.
        weights: A network.
    """
    look = open_network(weights, taps)
    for edge in edges:
        image = look(content, edge)
        worst = {(form, tap): np.zeros(2) for form in FORMS for tap in taps}
        for path in sorted(styles.iterdir()):
            for tap, features in look(path, edge).items():
                rows = features.reshape(-1, features.shape[-1])
                wanted = compare(image[tap], exact(rows))
                for name, form in FORMS.items():
                    found = relative_errors(compare(image[tap], form(rows)), wanted)
                    worst[name, tap] = np.maximum(worst[name, tap], found)
        print(f"{edge} px: largest error of value / gradient")
        print(f"{'':10}" + "".join(f"{tap:>20}" for tap in taps))
        for name in FORMS:
            cells = (" / ".join(f"{one:.1e}" for one in worst[name, tap]) for tap in taps)
            print(f"{name:10}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


if __name__ == "__main__":
    with jax.default_matmul_precision("highest"):
        tyro.cli(measure)
