"""Seconds of CPU and memory that a manifest of a million rows takes to be read and checked.

python scripts/measure/measure_manifest.py [ROWS]

Each kind of manifest in a process of its own: CSV and JSON Lines with 21 different sets of
options, CSV with a seed for each row, and CSV whose outputs get their default names.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nst_jax.request.job import fill_defaults
from nst_jax.request.manifest import read_manifest
from nst_jax.request.options import Options

KINDS = ("jobs.csv", "jobs.jsonl", "seeds.csv", "defaults.csv")


def rows(kind: str, count: int) -> Iterator[dict[str, str | int]]:
    """What the lines of a manifest say."""
    for number in range(count):
        row: dict[str, str | int] = {
            "content": f"photos/{number:07d}.jpg",
            "style": f"art/{number % 300:03d}.jpg",
            "style_weight": 10 + number % 3,
            "seed": number if kind == "seeds.csv" else number % 7,
        }
        if kind != "defaults.csv":
            row["output"] = f"out/{number:07d}.png"
        yield row


def write(path: Path, count: int) -> None:
    """Writes a manifest of the kind that its name says."""
    with path.open("w") as file:
        for number, row in enumerate(rows(path.name, count)):
            if path.suffix == ".csv" and number == 0:
                file.write(",".join(row) + "\n")
            line = ",".join(map(str, row.values())) if path.suffix == ".csv" else json.dumps(row)
            file.write(line + "\n")


def measure(path: Path) -> None:
    """Reads and checks a manifest as a batch does, and prints what that took."""
    options = Options()
    began = time.process_time()
    jobs = fill_defaults(read_manifest(path, options), options)
    seconds = time.process_time() - began
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{path.name}, {len(jobs)} rows: {seconds:.1f} s, {megabytes:.0f} MiB at the most")


def main(arguments: list[str]) -> None:
    """Measures the manifest that is named, or writes and measures one of each kind."""
    if arguments and Path(arguments[0]).suffix:
        measure(Path(arguments[0]))
        return
    count = int(arguments[0]) if arguments else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(folder, kind) for kind in KINDS):
            write(path, count)
            subprocess.run([sys.executable, __file__, str(path)], check=True)
            path.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
