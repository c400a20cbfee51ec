"""crowsonkb/style-transfer-pytorch against the default look: its objective, and both wall times.

    git clone https://github.com/crowsonkb/style-transfer-pytorch
    pip install torch torchvision aiohttp
    python scripts/measure/race_crowsonkb.py style-transfer-pytorch CONTENT STYLE [...]
        [--sizes 256 512] [--scale 0.2] [--steps 50] [--output-dir DIR]

Both programs render the same pictures from the same VGG-16 weights on the same CPU, in turns.
The peer runs its own code with its own weights, rates and levels; its 1000 steps at the first
level and 500 at each later one are multiplied by --scale. Ours is the default look with
nothing changed but the steps at each level, where --steps says so. Then the peer's own loss
classes judge both results, as 8-bit pictures, with the targets of the last level. The peer's
time begins when its network is loaded. Ours has the loading in it and leaves out compilation,
which is printed beside. Run it with nothing else running.
"""

import contextlib
import importlib
import io
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from PIL import Image
from tyro.conf import Positional

from nst_jax import Job, Options, render_many
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights
from nst_jax.weights.network import NetworkWeights

STYLE_INDICES = [1, 6, 11, 18, 25]
"""Of relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 among VGG-16's operations."""

CONTENT_INDEX = 20
"""Of relu4_2."""


class Finish(NamedTuple):
    """A finished 8-bit picture, seconds of rendering it, and of compilation beside those."""

    picture: Image.Image
    seconds: float
    compilation: float = 0.0


def main(
    checkout: Positional[Path],
    pictures: Positional[tuple[Path, ...]],
    sizes: tuple[int, ...] = (256, 512),
    scale: float = 0.2,
    steps: int = Options().steps,
    output_dir: Path | None = None,
) -> None:
    """Races the peer in CHECKOUT on pictures that are content and style in turns."""
    peer = Peer(checkout)
    pairs = list(zip(pictures[::2], pictures[1::2], strict=True))
    for size in sizes:
        for pair in pairs:
            content, style = (fit(path, size) for path in pair)
            name = f"{pair[0].stem}__{pair[1].stem}-{size}"
            theirs = peer.render(content, style, size, scale)
            ours = render_ours(content, style, Options(size=size, steps=steps))
            print(name)
            for which, finish in (("peer", theirs), ("ours", ours)):
                parts = peer.objective(finish.picture, content, style)
                print(
                    f"  {which} {finish.seconds:7.1f} s  objective {sum(parts):.4f} "
                    "(content {:.4f}, style {:.4f}, smoothness {:.4f})".format(*parts)
                )
                if output_dir:
                    output_dir.mkdir(parents=True, exist_ok=True)
                    finish.picture.save(output_dir / f"{name}-{which}.png")
            ratio = theirs.seconds / ours.seconds
            print(f"  ratio {ratio:.2f}; compilation of ours {ours.compilation:.1f} s", flush=True)


class Peer:
    """The other program, from its checkout, on our VGG-16 weights."""

    def __init__(self, checkout: Path) -> None:
        sys.path.insert(0, str(checkout))
        self._torch: Any = importlib.import_module("torch")
        self._program: Any = importlib.import_module("style_transfer.style_transfer")
        self._transfer = self._make_transfer()

    def render(self, content: Image.Image, style: Image.Image, size: int, scale: float) -> Finish:
        """Its default schedule, so many times as long, up to this long edge in pixels."""
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            picture = self._transfer.stylize(
                content,
                [style],
                end_scale=size,
                iterations=round(500 * scale),
                initial_iterations=round(1000 * scale),
            )
        return Finish(picture, time.perf_counter() - began)

    def objective(
        self, picture: Image.Image, content: Image.Image, style: Image.Image
    ) -> tuple[float, float, float]:
        """Content, style and smoothness of a picture, each by its weight, by its own losses."""
        program, transfer = self._program, self._transfer
        with self._torch.no_grad():
            own, shown, asked = (
                transfer.model(program.TF.to_tensor(each)[None])
                for each in (picture, content.resize(picture.size, Image.Resampling.BICUBIC), style)
            )
            content_loss = program.ContentLossMSE(shown[CONTENT_INDEX])(own[CONTENT_INDEX])
            style_loss = 0.0
            for tap, weight in zip(STYLE_INDICES, transfer.style_weights, strict=True):
                target = program.StyleLossW2.get_target(asked[tap])
                style_loss += weight * program.StyleLossW2(target)(own[tap]).item()
            smoothness = program.TVLoss()(own["input"])
        return 0.015 * content_loss.item(), style_loss, 2 * smoothness.item()

    def _make_transfer(self) -> Any:
        """Its `StyleTransfer`, told of VGG-16 in place of VGG-19."""
        program = self._program
        weights = read_weights(find_weights("vgg16"))
        operations = self._torch.nn.Sequential(*self._make_operations(weights))
        network = types.SimpleNamespace(features=operations)
        program.models.vgg19 = lambda weights: network
        transfer = program.StyleTransfer()
        transfer.content_layers, transfer.style_layers = [CONTENT_INDEX], STYLE_INDICES
        transfer.model.layers = sorted([CONTENT_INDEX, *STYLE_INDICES])
        transfer.model.normalize = program.transforms.Normalize(list(weights.mean), [1.0] * 3)
        return transfer

    def _make_operations(self, weights: NetworkWeights) -> Iterator[Any]:
        """Convolution, ReLU, …, as torchvision lists them, up to relu5_1."""
        nn = self._torch.nn
        for block, depth in enumerate(weights.architecture.depths, start=1):
            if block > 1:
                yield nn.MaxPool2d(2)
            for index in range(1, depth + 1):
                kernel, bias = weights.convolutions[f"conv{block}_{index}"]
                convolution = nn.Conv2d(*kernel.shape[2:], 3, padding=1)
                with self._torch.no_grad():
                    convolution.weight.copy_(self._torch.tensor(kernel.transpose(3, 2, 0, 1)))
                    convolution.bias.copy_(self._torch.tensor(bias))
                yield from (convolution, nn.ReLU())
                if (block, index) == (5, 1):
                    return


def render_ours(content: Image.Image, style: Image.Image, options: Options) -> Finish:
    """The same pair by this package."""
    began = time.perf_counter()
    shown, asked = (np.asarray(each, np.float32) / np.float32(255) for each in (content, style))
    (result,) = render_many([Job(shown, asked)], options, on_error="raise")
    seconds = time.perf_counter() - began - result.compile_seconds
    assert result.image is not None
    picture = Image.fromarray(np.round(255 * result.image).astype(np.uint8))
    return Finish(picture, seconds, result.compile_seconds)


def fit(path: Path, size: int) -> Image.Image:
    """A picture at this long edge in pixels."""
    picture = Image.open(path).convert("RGB")
    width, height = (round(side * size / max(picture.size)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    tyro.cli(main)
