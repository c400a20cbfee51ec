"""One optimisation step, ours against PyTorch's loss and gradient, in turns in one process.

    python scripts/bench_step.py [--size 256] [--batch-size 4] [--rounds 5] [--json]

Ours is the engine's own compiled chunk: VGG-16 to relu5_1, content and Gram losses, total
variation, Adam. The peer computes the same losses and their gradient with the same weights
in PyTorch eager, channels_last, without an optimiser. Needs the `torch` extra. Warm-up and
compilation are left out; figures are seconds for one step of one image, the median of the
rounds, and the ratio is the median of the rounds' ratios (above 1: ours is faster).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as functional  # pyright: ignore[reportMissingImports]

from nst_jax.engine import solver
from nst_jax.files.weights.finding import find_weights
from nst_jax.files.weights.format import read_weights
from nst_jax.files.weights.network import NetworkWeights
from nst_jax.model import objective
from nst_jax.model.vgg import VGG
from nst_jax.spec.taps import DEFAULT_CONTENT_TAPS, DEFAULT_STYLE_TAPS

CONTENT_TAP = DEFAULT_CONTENT_TAPS[0]
WEIGHTS = {"content": 1.0, "style": 10.0, "tv": 10.0}


def main() -> None:
    options = _arguments()
    weights = read_weights(find_weights("vgg16"))
    pictures = np.random.default_rng(0).random(
        (2, options.batch_size, options.size, options.size, 3)
    )
    content, style = pictures.astype(np.float32)
    ours = _our_step(weights, content, style, options.steps)
    peer = _torch_step(weights, content, style)
    for warm_up in (ours, peer):
        warm_up()
    rounds = [(_seconds(ours) / options.steps, _seconds(peer)) for _ in range(options.rounds)]
    _report(options, [(a / options.batch_size, b / options.batch_size) for a, b in rounds])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="side of the square image, pixels")
    parser.add_argument("--batch-size", type=int, default=4, help="images in one step")
    parser.add_argument("--steps", type=int, default=2, help="steps of ours in one chunk")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both in turn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def _seconds(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _report(options: argparse.Namespace, rounds: list[tuple[float, float]]) -> None:
    ours, peer = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = [b / a for a, b in rounds]
    record = {
        "size": options.size,
        "batch_size": options.batch_size,
        "ours_s_per_image_step": round(ours, 4),
        "torch_s_per_image_step": round(peer, 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "jax": jax.__version__,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }
    if options.json:
        print(json.dumps(record))
    else:
        print("\n".join(f"{name}: {value}" for name, value in record.items()))


def _our_step(
    weights: NetworkWeights, content: np.ndarray, style: np.ndarray, steps: int
) -> Callable[[], None]:
    network = VGG(
        weights.architecture,
        weights.convolutions,
        weights.mean,
        deepest=DEFAULT_STYLE_TAPS[-1],
        use_winograd=jax.default_backend() == "cpu",
    )
    problems = jax.jit(_problems)(content, style, network)
    states = jax.jit(jax.vmap(solver.start))(content)
    run_chunk = jax.jit(solver.run_chunk)

    def step() -> None:
        jax.block_until_ready(run_chunk(states, problems, network, np.int32(steps)))

    return step


def _problems(content: jax.Array, style: jax.Array, network: VGG) -> solver.Problem:
    def problem(content: jax.Array, style: jax.Array) -> solver.Problem:
        size = jax.numpy.array(content.shape[:2], jax.numpy.int32)
        return solver.Problem(
            size=size,
            targets=objective.Targets(
                objective.content_features(content, network, size, DEFAULT_CONTENT_TAPS),
                objective.style_grams(style, network, size, DEFAULT_STYLE_TAPS),
            ),
            weights=objective.TermWeights(
                *(jax.numpy.float32(WEIGHTS[name]) for name in ("content", "style", "tv")),
                content_taps={CONTENT_TAP: jax.numpy.float32(1)},
                style_taps={
                    tap: jax.numpy.float32(1 / len(DEFAULT_STYLE_TAPS))
                    for tap in DEFAULT_STYLE_TAPS
                },
            ),
            learning_rate=jax.numpy.float32(0.02),
            steps=jax.numpy.int32(1000),
        )

    return jax.vmap(problem)(content, style)


def _torch_step(
    weights: NetworkWeights, content: np.ndarray, style: np.ndarray
) -> Callable[[], None]:
    constants = _torch_constants(weights)
    with torch.no_grad():
        content_target = _torch_features(_torch_image(content), constants)[CONTENT_TAP]
        features = _torch_features(_torch_image(style), constants)
        style_targets = {tap: _torch_gram(features[tap]) for tap in DEFAULT_STYLE_TAPS}
    image = _torch_image(content).requires_grad_()

    def step() -> None:
        features = _torch_features(image, constants)
        total = WEIGHTS["content"] * _relative(features[CONTENT_TAP], content_target)
        for tap, target in style_targets.items():
            share = WEIGHTS["style"] / len(style_targets)
            total = total + share * _relative(_torch_gram(features[tap]), target)
        total = total + WEIGHTS["tv"] * _torch_variation(image)
        torch.autograd.grad(total.sum(), image)

    return step


def _torch_constants(weights: NetworkWeights) -> dict[str, Any]:
    layout = torch.channels_last
    constants: dict[str, Any] = {"mean": torch.tensor(weights.mean).view(1, 3, 1, 1)}
    for name, (kernel, bias) in weights.convolutions.items():
        kernel = torch.tensor(kernel.transpose(3, 2, 0, 1)).contiguous(memory_format=layout)
        constants[name] = (kernel, torch.tensor(bias))
    return constants


def _torch_image(images: np.ndarray) -> torch.Tensor:
    return torch.tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _torch_features(image: torch.Tensor, constants: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Every relu up to relu5_1."""
    features, value = {}, image - constants["mean"]
    for block, depth in enumerate((2, 2, 3, 3, 1), start=1):
        if block > 1:
            value = functional.max_pool2d(value, 2)
        for index in range(1, depth + 1):
            kernel, bias = constants[f"conv{block}_{index}"]
            value = functional.relu(functional.conv2d(value, kernel, bias, padding=1))
            features[f"relu{block}_{index}"] = value
    return features


def _torch_gram(features: torch.Tensor) -> torch.Tensor:
    count, channels, height, width = features.shape
    flat = features.permute(0, 2, 3, 1).reshape(count, height * width, channels)
    return flat.transpose(1, 2) @ flat / (height * width)


def _relative(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(1, value.ndim))
    return ((value - target) ** 2).sum(axes) / (target**2).sum(axes)


def _torch_variation(image: torch.Tensor) -> torch.Tensor:
    down, across = image.diff(dim=2) ** 2, image.diff(dim=3) ** 2
    return (down.sum((1, 2, 3)) + across.sum((1, 2, 3))) / image[0].numel()


if __name__ == "__main__":
    main()
