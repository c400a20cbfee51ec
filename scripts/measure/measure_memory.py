"""Host memory, threads and open files of batches of different lengths.

python scripts/measure/measure_memory.py [JOBS ...]

Each batch (100 and 10,000 jobs unless told otherwise) runs in a process of its own: pictures of
64 pixels, two steps, a narrow network from a seed, a hundred contents and a seed for each job.
Printed of each: the peak of its memory, and threads and open files before and after. Linux.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

_SIZE_PX = 64
_CONTENTS = 100
_CHANNELS = (4, 8, 8, 12, 12)


def write_network(path: Path) -> None:
    """A VGG-16 of few channels."""
    from nst_jax.request.taps import VGG16
    from nst_jax.weights.format import write_weights
    from nst_jax.weights.network import NetworkWeights

    chance, width, convolutions = np.random.default_rng(0), 3, {}
    for name in VGG16.convolutions:
        out = _CHANNELS[int(name[4]) - 1]
        kernel = chance.normal(scale=(2 / (9 * width)) ** 0.5, size=(3, 3, width, out))
        convolutions[name] = kernel.astype(np.float32), np.zeros(out, np.float32)
        width = out
    mean = (0.485, 0.456, 0.406)
    network = NetworkWeights(VGG16, convolutions, mean, "a seed", "0" * 64, "none")
    write_weights(path, network)


def write_pictures(folder: Path) -> None:
    """Contents and a style, of noise."""
    chance = np.random.default_rng(0)
    for name in ("style", *map(str, range(_CONTENTS))):
        values = chance.integers(0, 256, (_SIZE_PX, _SIZE_PX, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{name}.png")


def render(folder: Path, jobs: int) -> dict[str, float]:
    """Renders a batch in this process and tells what it took."""
    import jax

    from nst_jax import Job, JobOptions, Options, render_batch

    jax.config.update("jax_platforms", "cpu")
    options = Options(
        preset="gram",
        size=_SIZE_PX,
        levels=1,
        steps=2,
        content_taps=("relu1_1",),
        style_taps=("relu1_1",),
        weights=str(folder / "network.h5"),
    )
    listed = [
        Job(
            folder / f"{number % _CONTENTS}.png",
            folder / "style.png",
            options=JobOptions(
                steps=2, seed=number, content_taps=("relu1_1",), style_taps=("relu1_1",)
            ),
        )
        for number in range(jobs)
    ]
    before = _open_files(), threading.active_count()
    began = time.perf_counter()
    summary = render_batch(listed, folder / f"out{jobs}", options)
    assert summary.done == jobs, summary
    return {
        "peak_mib": _peak_mib(),
        "seconds": time.perf_counter() - began,
        "files_before": before[0],
        "files_after": _open_files(),
        "threads_before": before[1],
        "threads_after": threading.active_count(),
    }


def _peak_mib() -> float:
    """Of this very program; what `getrusage` tells may be that of the process it came from."""
    status = Path("/proc/self/status").read_text()
    return next(
        int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")
    )


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def measured(folder: Path, jobs: int) -> dict[str, float]:
    """What `render` tells, of a fresh process."""
    command = [sys.executable, __file__, str(folder), str(jobs)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def main(arguments: list[str]) -> None:
    """Measures one batch in this process, or several in processes of their own."""
    if arguments and Path(arguments[0]).is_dir():
        print(json.dumps(render(Path(arguments[0]), int(arguments[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_network(folder / "network.h5")
        write_pictures(folder)
        for jobs in map(int, arguments or ["100", "10000"]):
            told = measured(folder, jobs)
            print(
                f"{jobs} jobs in {told['seconds']:.0f} s: {told['peak_mib']:.0f} MiB at the most, "
                f"files {told['files_before']:.0f} before and {told['files_after']:.0f} after, "
                f"threads {told['threads_before']:.0f} and {told['threads_after']:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
