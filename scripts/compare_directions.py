"""What is lost when only a style's strongest directions are compared together.

    python scripts/compare_directions.py [--size 192] [--counts 512 256 128 64] [CONTENT STYLE ...]

For each pair of pictures (an example, where none are named) and each number of directions:
the default look is rendered, and printed is crowsonkb/style-transfer-pytorch's objective at
the result, as `nst-jax score` computes it in float64. Before that, at each tap, how the
content's distance from the style and its gradient compare with those of all directions in
exact arithmetic: the value's ratio and the gradients' cosine.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import Job, Options, render_many
from nst_jax.engine.inputs.session import open_setup
from nst_jax.engine.plan.canvas import fitted
from nst_jax.files.images import composited, load_picture, resized
from nst_jax.model.region import Region
from nst_jax.model.vgg import VGG
from nst_jax.model.wasserstein import WassersteinTarget
from nst_jax.scores import STYLE_TAPS, scored, wasserstein

EXAMPLES = Path(__file__).parents[1] / "examples"
PAIR = [EXAMPLES / "contents/lighthouse.jpg", EXAMPLES / "styles/flow.jpg"]
_ALL = 512  # the most channels that a tap of any VGG has


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=192, help="long edge in pixels")
    parser.add_argument("--counts", type=int, nargs="+", default=[_ALL, 256, 128, 64])
    parser.add_argument("pictures", nargs="*", type=Path, help="CONTENT STYLE, in turns")
    arguments = parser.parse_args()
    pictures = [_opened(path, arguments.size) for path in arguments.pictures or PAIR]
    pairs = list(zip(pictures[::2], pictures[1::2], strict=True))
    options = Options(size=arguments.size)
    network = open_setup(options).network(STYLE_TAPS)
    make = WassersteinTarget.of
    for count in arguments.counts:
        for content, style in pairs:
            print(f"{count:4} directions: {_bias(network, content, style, count)}", flush=True)
        WassersteinTarget.of = partial(make, strong=count)
        results = render_many([Job(*pair) for pair in pairs], options, on_error="raise")
        for result in sorted(results, key=lambda one: one.index):
            assert result.image is not None
            objective = scored(*pairs[result.index], result.image).crowsonkb
            print(f"{count:4} directions: objective {objective:.4f}", flush=True)
        WassersteinTarget.of = make


def _opened(path: Path, size: int) -> np.ndarray:
    pixels = composited(load_picture(path), "white")
    return resized(pixels, fitted(pixels.shape[:2], size))


def _bias(network: VGG, content: np.ndarray, style: np.ndarray, count: int) -> str:
    """By tap, the value over the exact one, and the gradient's cosine with that of all."""
    own, asked = _features(network, content), _features(network, style)
    told = []
    for tap in STYLE_TAPS:
        value, slope = _distance(own[tap], asked[tap], count)
        _, whole = _distance(own[tap], asked[tap], _ALL)
        cosine = np.vdot(slope, whole) / (np.linalg.norm(slope) * np.linalg.norm(whole))
        ratio = value / wasserstein(own[tap], asked[tap], ridge=0.0)
        told.append(f"{tap} {ratio:.3f} {cosine:.3f}")
    return ", ".join(told)


def _features(network: VGG, image: np.ndarray) -> dict[str, np.ndarray]:
    size = jnp.asarray(image.shape[:2])
    seen = jax.jit(lambda image, network: network(image, size, STYLE_TAPS))(image, network)
    return {tap: np.asarray(value) for tap, value in seen.items()}


def _distance(own: np.ndarray, asked: np.ndarray, count: int) -> tuple[float, np.ndarray]:
    """The distance and its gradient, as the solver has them."""
    flat = np.float64(asked).reshape(-1, asked.shape[-1])
    target = WassersteinTarget.of(flat.mean(0), flat.T @ flat / len(flat), strong=count)
    inside = np.ones(own.shape[:2], bool)
    region = Region(jnp.float32(inside.size), None, jnp.asarray(inside))
    value, slope = jax.jit(jax.value_and_grad(lambda seen: target.distance(seen, region)))(own)
    return float(value), np.asarray(slope)


if __name__ == "__main__":
    main()
