"""What a batch costs beside its steps: 8 jobs against 24, of pictures of mixed shapes.

    python scripts/measure_batches.py [--size 256] [--steps 20] [--jobs 8 24] [--rounds 1]

Contents of eight aspect ratios and three styles, all synthetic, are rendered by
`nst-jax batch` in a process of its own, with the default look and fewer steps a level. Printed
for each number of jobs: wall time from the start of the process, and the share of it that is
not steps, compilation apart; then the ratio of seconds a job. Fewer steps make the share
larger than users will see it.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ((3, 2), (2, 3), (4, 3), (3, 4), (16, 9), (1, 1), (5, 4), (7, 5))
"""Width to height of the contents, as cameras and painters have them."""

STYLES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="long edge in pixels")
    parser.add_argument("--steps", type=int, default=20, help="steps a level")
    parser.add_argument("--jobs", type=int, nargs=2, default=(8, 24), help="fewer and more jobs")
    parser.add_argument("--rounds", type=int, default=1, help="turns of both numbers")
    arguments = parser.parse_args()
    seconds: dict[int, list[float]] = {count: [] for count in arguments.jobs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pictures(folder, 2 * arguments.size)
        for turn in range(arguments.rounds):
            for count in arguments.jobs:
                taken = _seconds_a_job(folder, count, f"{count}-{turn}", arguments)
                seconds[count].append(taken)
    fewer, more = (statistics.median(seconds[count]) for count in arguments.jobs)
    print(f"a job of {arguments.jobs[1]} takes {more / fewer:.3f} times one of {arguments.jobs[0]}")


def _write_pictures(folder: Path, side: int) -> None:
    random = np.random.default_rng(0)
    shapes = {f"content{n}": shape for n, shape in enumerate(SHAPES)}
    shapes |= {f"style{n}": (4, 3) for n in range(STYLES)}
    for name, (width, height) in shapes.items():
        scale = side / max(width, height)
        coarse = random.integers(0, 256, (round(height * 4), round(width * 4), 3), dtype=np.uint8)
        size = round(width * scale), round(height * scale)
        smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        smooth.save(folder / f"{name}.jpg")


def _seconds_a_job(folder: Path, count: int, name: str, arguments: argparse.Namespace) -> float:
    """Renders so many jobs, prints where the time went, and returns it without compilation."""
    manifest = folder / f"{name}.csv"
    with manifest.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["content", "style", "output"])
        for job in range(count):
            content, style = job % len(SHAPES), job // len(SHAPES) % STYLES
            rows.writerow([f"content{content}.jpg", f"style{style}.jpg", f"{job}.png"])
    output = folder / name
    command = [sys.executable, "-m", "nst_jax.cli.main", "batch", str(manifest)]
    command += ["--output-dir", str(output), "--quiet"]
    command += ["--size", str(arguments.size), "--steps", str(arguments.steps)]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    wall = time.perf_counter() - began
    phases = json.loads((output / "run.json").read_bytes())["phases"]
    rendering = wall - phases["compilation"]
    print(
        f"{count} jobs: {wall:.1f} s, of it {phases['compilation']:.1f} s compilation; of the rest "
        f"{100 * (1 - phases['steps'] / rendering):.2f} % are not steps, targets among them "
        f"{phases['targets']:.1f} s",
        flush=True,
    )
    return rendering / count


if __name__ == "__main__":
    main()
