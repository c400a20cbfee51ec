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

import argparse
import contextlib
import dataclasses
import importlib
import io
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nst_jax import Job, Options, render_many
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights
from nst_jax.weights.network import NetworkWeights

STYLE_INDICES = [1, 6, 11, 18, 25]
"""Of relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 among VGG-16's operations."""

CONTENT_INDEX = 20
"""Of relu4_2."""


@dataclasses.dataclass(frozen=True)
class Finish:
    """A finished picture, and what it took.

    Attributes:
        picture: 8-bit RGB.
        seconds: Of rendering.
        compilation: Seconds beside those.
    """

    picture: Image.Image
    seconds: float
    compilation: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=Path, help="the peer's checkout")
    parser.add_argument("pictures", nargs="+", type=Path, help="CONTENT STYLE, in turns")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="pixels")
    parser.add_argument("--scale", type=float, default=0.2, help="of the peer's steps")
    parser.add_argument("--steps", type=int, default=Options().steps, help="of ours, at each level")
    parser.add_argument("--output-dir", type=Path, help="keeps the pictures here")
    arguments = parser.parse_args()
    peer = Peer(arguments.checkout)
    pairs = list(zip(arguments.pictures[::2], arguments.pictures[1::2], strict=True))
    for size in arguments.sizes:
        for content, style in pairs:
            shown, asked = (_fitted(Image.open(path), size) for path in (content, style))
            theirs = peer.render(shown, asked, size, arguments.scale)
            ours = _render(shown, asked, Options(size=size, steps=arguments.steps))
            _report(peer, (shown, asked), ours, theirs, f"{size} px {content.stem} {style.stem}")
            if arguments.output_dir:
                _keep(arguments.output_dir, f"{content.stem}__{style.stem}-{size}", ours, theirs)


class Peer:
    """The other program, on our VGG-16 weights.

    Args:
        checkout: Where it lies.
    """

    def __init__(self, checkout: Path) -> None:
        sys.path.insert(0, str(checkout))
        self._torch: Any = importlib.import_module("torch")
        self._program: Any = importlib.import_module("style_transfer.style_transfer")
        self._transfer = self._on_our_weights()

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

    def _on_our_weights(self) -> Any:
        """Its `StyleTransfer`, told of VGG-16 in place of VGG-19."""
        program = self._program
        weights = read_weights(find_weights("vgg16"))
        operations = self._torch.nn.Sequential(*self._operations(weights))
        network = types.SimpleNamespace(features=operations)
        program.models.vgg19 = lambda weights: network
        transfer = program.StyleTransfer()
        transfer.content_layers, transfer.style_layers = [CONTENT_INDEX], STYLE_INDICES
        transfer.model.layers = sorted([CONTENT_INDEX, *STYLE_INDICES])
        transfer.model.normalize = program.transforms.Normalize(list(weights.mean), [1.0] * 3)
        return transfer

    def _operations(self, weights: NetworkWeights) -> Iterator[Any]:
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


def _render(content: Image.Image, style: Image.Image, options: Options) -> Finish:
    began = time.perf_counter()
    shown, asked = (np.asarray(each, np.float32) / np.float32(255) for each in (content, style))
    (result,) = render_many([Job(shown, asked)], options, on_error="raise")
    wall = time.perf_counter() - began
    assert result.image is not None
    pixels = np.round(255 * result.image).astype(np.uint8)
    return Finish(
        Image.fromarray(pixels), wall - result.compile_seconds, compilation=result.compile_seconds
    )


def _fitted(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    factor = size / max(width, height)
    sides = round(width * factor), round(height * factor)
    return picture.convert("RGB").resize(sides, Image.Resampling.LANCZOS)


def _report(
    peer: Peer, pair: tuple[Image.Image, Image.Image], ours: Finish, theirs: Finish, what: str
) -> None:
    print(what)
    for name, finish in (("peer", theirs), ("ours", ours)):
        content, style, smoothness = peer.objective(finish.picture, *pair)
        print(
            f"  {name} {finish.seconds:7.1f} s  objective {content + style + smoothness:.4f} "
            f"(content {content:.4f}, style {style:.4f}, smoothness {smoothness:.4f})"
        )
    print(
        f"  the peer takes {theirs.seconds / ours.seconds:.2f} times as long; compilation of ours "
        f"{ours.compilation:.1f} s",
        flush=True,
    )


def _keep(folder: Path, name: str, ours: Finish, theirs: Finish) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ours.picture.save(folder / f"{name}-ours.png")
    theirs.picture.save(folder / f"{name}-peer.png")


if __name__ == "__main__":
    main()
