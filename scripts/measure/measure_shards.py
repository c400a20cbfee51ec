"""How many times as fast two workers of one core each are as one worker of one core.

    python scripts/measure/measure_shards.py --jobs 16 --size 256 --steps 30 --rounds 3

Each round renders the same batch twice, each time into a new folder: by one process on the first
core, and as two shards on two cores at once. Programs are compiled before the first round and
loaded in all of them. Seconds are whole processes, from start to end.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

_COMMAND = [sys.executable, "-c", "from nst_jax.cli.main import main; main()", "batch"]


def main() -> None:
    """Measures, and prints seconds of each round and the median of the ratios."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        manifest = _manifest(place, asked.jobs, asked.size)
        options = ["--size", str(asked.size), "--steps", str(asked.steps), *asked.options]
        environment = os.environ | {"NST_JAX_CACHE_DIR": str(place / "cache")}
        seconds = []
        for number in range(asked.rounds + 1):
            pair = [
                _run(manifest, place / f"{number}-{len(cores)}", cores, options, environment)
                for cores in (asked.cores[:1], asked.cores)
            ]
            if number:  # the first one compiles
                seconds.append(pair)
                print(f"one worker {pair[0]:.1f} s, two {pair[1]:.1f} s", file=sys.stderr)
    ratios = [one / two for one, two in seconds]
    told = {
        "jobs": asked.jobs,
        "size": asked.size,
        "steps": asked.steps,
        "seconds_one": [round(one, 2) for one, _ in seconds],
        "seconds_two": [round(two, 2) for _, two in seconds],
        "ratio": round(statistics.median(ratios), 3),
    }
    print(json.dumps(told))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=16, help="jobs of the batch, an even number")
    parser.add_argument("--size", type=int, default=256, help="long edge in pixels")
    parser.add_argument("--steps", type=int, default=30, help="steps of each level")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    parser.add_argument("--cores", type=int, nargs=2, default=[0, 1], help="the two cores")
    parser.add_argument("options", nargs="*", help="further options of nst-jax batch, after --")
    return parser.parse_args()


def _manifest(place: Path, jobs: int, size: int) -> Path:
    """Jobs of one size, with clouds of colour for pictures."""
    colours = np.random.default_rng(0)
    rows = ["content,style,output,width,height"]
    for number in range(jobs):
        for kind in "cs":
            cloud = Image.fromarray(colours.integers(0, 256, (8, 8, 3), np.uint8))
            cloud.resize((size, size), Image.Resampling.BICUBIC).save(place / f"{kind}{number}.png")
        rows.append(f"c{number}.png,s{number}.png,{number}.png,{size},{size}")
    manifest = place / "jobs.csv"
    manifest.write_text("\n".join(rows))
    return manifest


def _run(
    manifest: Path, out: Path, cores: list[int], options: list[str], environment: dict[str, str]
) -> float:
    """Seconds of one worker for each core, all at once."""
    began = time.perf_counter()
    workers = [
        subprocess.Popen(
            [
                *("taskset", "--cpu-list", str(core), *_COMMAND, str(manifest), "--quiet"),
                *("--output-dir", str(out), "--no-report", *options),
                *(["--shard", f"{index}/{len(cores)}"] if len(cores) > 1 else []),
            ],
            env=environment,
        )
        for index, core in enumerate(cores)
    ]
    statuses = [worker.wait() for worker in workers]
    seconds = time.perf_counter() - began
    if any(statuses):
        sys.exit(f"a worker ended with {max(statuses)}")
    return seconds


if __name__ == "__main__":
    main()
