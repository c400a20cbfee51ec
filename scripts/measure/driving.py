"""CPU seconds that the thread which drives the device takes a picture, compilation apart.

    python scripts/measure/host.py driving [--styles 64] [--checkout PATH]

Jobs of clouds of colour and a network of four channels, so that the device has next to nothing to
do. What counts is `time.thread_time()` of the thread that calls `render_many`, without what XLA,
tracing and lowering take of it. This file needs nothing of the project but what every checkout
has, so that one hour can measure the program before and after a change.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

_CHANNELS = 4


def write_network(path: Path) -> None:
    """A VGG-16 of four channels, by whatever writer the checkout has."""
    try:
        from nst_jax.request.taps import VGG16
        from nst_jax.weights.format import write_weights
        from nst_jax.weights.network import NetworkWeights
    except ImportError:  # before the rooms were named
        from nst_jax.files.weights.format import write_weights  # pyright: ignore
        from nst_jax.files.weights.network import NetworkWeights  # pyright: ignore
        from nst_jax.spec.taps import VGG16  # pyright: ignore

    chance, width, convolutions = np.random.default_rng(0), 3, {}
    for name in VGG16.convolutions:
        kernel = chance.normal(scale=(2 / (9 * width)) ** 0.5, size=(3, 3, width, _CHANNELS))
        convolutions[name] = kernel.astype(np.float32), np.zeros(_CHANNELS, np.float32)
        width = _CHANNELS
    mean = (0.485, 0.456, 0.406)
    write_weights(path, NetworkWeights(VGG16, convolutions, mean, "a seed", "0" * 64, "none"))


def cloud(seed: int, size: int) -> np.ndarray:
    """(size, size, 3) bytes of smooth colour."""
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


class CompilationClock:
    """Takes the place of `jax.jit` and adds up what tracing, lowering and compiling take.

    Attributes:
        seconds: CPU seconds of the calling thread so far.
    """

    def __init__(self) -> None:
        import jax

        self.seconds = 0.0
        self._jit = jax.jit

    def __call__(self, *arguments: Any, **how: Any) -> Any:
        jitted: Any = self._jit(*arguments, **how)
        clock = self

        class Lowered:
            def __init__(self, *values: Any) -> None:
                self._lowered = clock.time(jitted.lower, *values)

            def compile(self) -> Any:
                return clock.time(self._lowered.compile)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._lowered, name)

        class Jitted:
            lower = staticmethod(Lowered)

            def __call__(self, *values: Any, **named: Any) -> Any:
                return jitted(*values, **named)

        return Jitted()

    def time(self, function: Any, *arguments: Any) -> Any:
        """Calls a function on this clock."""
        began = time.thread_time()
        try:
            return function(*arguments)
        finally:
            self.seconds += time.thread_time() - began


def measure(jobs: int, styles: int, size: int, steps: int) -> dict[str, Any]:
    """Renders so many jobs in memory; what the calling thread took of a picture."""
    from nst_jax import Job, Options, render_many

    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder, "network.h5")
        write_network(network)
        options = Options(size=size, steps=steps, weights=str(network))
        pairs = [Job(cloud(n, size), cloud(10_000 + n % styles, size)) for n in range(jobs)]
        clock = CompilationClock()
        began, wall = time.thread_time(), time.perf_counter()
        with mock.patch("jax.jit", clock):
            failed = [result for result in render_many(pairs, options) if result.error]
    taken = time.thread_time() - began
    assert not failed, failed[0].error
    return {
        "driving_seconds_a_picture": round((taken - clock.seconds) / jobs, 5),
        "compilation_seconds": round(clock.seconds, 2),
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "jobs": jobs,
        "styles": styles,
        "size": size,
        "steps_a_level": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="See host.py driving.")
    for name in ("jobs", "styles", "size", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
