"""Seconds and memory that a manifest of a million rows takes to be read and checked.

python scripts/measure_manifest.py [ROWS]
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from nst_jax.spec.job import completed
from nst_jax.spec.manifest import read_manifest
from nst_jax.spec.options import Options


def main() -> None:
    """Writes a manifest, reads it, and prints what that took."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.csv")
        with path.open("w") as file:
            file.write("content,style,output,style_weight,seed\n")
            for number in range(rows):
                places = f"photos/{number:07d}.jpg,art/{number % 300:03d}.jpg"
                file.write(f"{places},out/{number:07d}.png,{10 + number % 3},{number % 7}\n")
        began = time.perf_counter()
        jobs = completed(read_manifest(path, Options()), Options())
        seconds = time.perf_counter() - began
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(jobs)} rows: {seconds:.1f} s, {megabytes:.0f} MiB at the most")


if __name__ == "__main__":
    main()
