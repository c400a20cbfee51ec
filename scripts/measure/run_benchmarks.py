"""Measures the standard set on the device at hand, and writes what the README says of speed.

    python scripts/measure/run_benchmarks.py [--sizes 128 256] [--dtypes float32] [--peer none]

On a CPU: 128 px with 8 and 1 a batch and growing numbers of jobs, 256 px with 1 and 4. On a
GPU or a TPU: 256, 512 and 1024 px, 1 to 64 a batch, in bfloat16 and TF32. A run replaces
the earlier one of the same size and data type in `docs/benchmarks/<device>.json`; from that file
come `<device>.md` and the README's part between the speed markers. Run it with nothing else
running. `--trial` measures tiny pictures in one round, to see that all of it works.
"""

import argparse
import datetime
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from nst_jax.bench.settings import PeerDtype, Settings
from nst_jax.bench.tables import device_document, replace_speed_section, speed_text
from nst_jax.cli.progress_bars import ProgressLines
from nst_jax.files.atomic import write_bytes
from nst_jax.request.errors import NstJaxError
from nst_jax.request.options import Options

ROOT = Path(__file__).resolve().parents[2]

# Largest batch by size in pixels: what float32 activations leave room for in 80 GB.
ACCELERATOR_BATCHES = {256: (1, 4, 16, 64), 512: (1, 4, 16, 64), 1024: (1, 4, 16)}


def main() -> None:
    """Measures, writes, and leaves with status 1 where a run failed."""
    arguments = _arguments()
    # JAX alone would take three quarters of a GPU's memory, and the peer needs some.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    from nst_jax.bench.benchmark import benchmark
    from nst_jax.engine.device.runtime import one_device_per_core
    from nst_jax.engine.plan.local_devices import find_devices

    one_device_per_core()
    platform = find_devices()[0].platform
    failures = 0
    with ProgressLines() as progress:
        for settings in _standard_set(platform, arguments):
            progress.note(f"{settings.size} px, {settings.dtype}, batches {settings.batch_sizes}")
            try:
                record = benchmark(settings, progress).record()
            except (NstJaxError, jax.errors.JaxRuntimeError) as error:
                progress.note(f"failed: {error}")
                failures += 1
            else:
                _keep(record, arguments.output_dir)
    _write_pages(arguments.output_dir, arguments.readme)
    sys.exit(1 if failures else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", help="only these, pixels")
    parser.add_argument("--dtypes", nargs="+", help="only these")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--peer", choices=("torch", "none"), default="torch")
    parser.add_argument(
        "--peer-dtype",
        nargs="+",
        choices=get_args(PeerDtype),
        default=(),
        help="what the peer's network computes in; none: what ours does",
    )
    parser.add_argument("--weights", default=Options().weights, help="a network's name or file")
    parser.add_argument("--output-dir", type=Path, help="default: docs/benchmarks/")
    parser.add_argument("--readme", type=Path, help="default: README.md")
    parser.add_argument("--trial", action="store_true", help="tiny pictures, one round")
    arguments = parser.parse_args()
    if arguments.trial and not (arguments.output_dir and arguments.readme):
        parser.error("--trial needs --output-dir and --readme, because its figures mean nothing")
    arguments.output_dir = arguments.output_dir or ROOT / "docs" / "benchmarks"
    arguments.readme = arguments.readme or ROOT / "README.md"
    return arguments


def _standard_set(platform: str, arguments: argparse.Namespace) -> Iterator[Settings]:
    """What is measured on such a platform, less what the arguments leave out."""
    peer = "" if arguments.peer == "none" else "torch"
    common: dict[str, Any] = {"weights": arguments.weights, "peer": peer}
    if peer:
        common["peer_dtypes"] = tuple(arguments.peer_dtype)
    if arguments.trial:
        everything = [Settings(size=32, batch_sizes=(1, 2), jobs=(2,), rounds=1, steps=1, **common)]
    elif platform == "cpu":
        common |= {"rounds": arguments.rounds, "dtype": "float32"}
        everything = [
            Settings(size=128, batch_sizes=(8, 1), jobs=(1, 2, 4, 8), **common),
            Settings(size=256, batch_sizes=(1, 4), **common),
        ]
    else:
        common["rounds"] = arguments.rounds
        everything = [
            Settings(
                size=size,
                batch_sizes=batches,
                dtype=dtype,
                jobs=(1, 4, 16, 64) if (size, dtype) == (512, "bfloat16") else (),
                **common,
            )
            for dtype in ("bfloat16", "tensorfloat32")
            for size, batches in ACCELERATOR_BATCHES.items()
        ]
    for settings in everything:
        right_size = not arguments.sizes or settings.size in arguments.sizes
        if right_size and (not arguments.dtypes or settings.dtype in arguments.dtypes):
            yield settings


def _keep(record: dict[str, Any], folder: Path) -> None:
    """Writes a run into its device's file, in place of an earlier one of its kind."""
    hardware = record["hardware"]
    name = hardware["kind"]
    if hardware["platform"] == "cpu":
        name = f"{name}, {hardware['cores']} cores"
    path = folder / f"{_file_stem(name)}.json"
    runs = json.loads(path.read_bytes())["runs"] if path.exists() else []
    kind = _kind(record)
    runs = sorted([run for run in runs if _kind(run) != kind] + [record], key=_kind)
    device = {
        "device": name,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python scripts/measure/run_benchmarks.py", *sys.argv[1:]]),
        "runs": runs,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(device, indent=2) + "\n").encode())


def _kind(record: dict[str, Any]) -> tuple[str, int]:
    return record["dtype"], record["size"]


def _file_stem(name: str) -> str:
    """A file name of a device's name: lower case, digits and hyphens."""
    plain = re.sub(r"\((R|TM|C)\)", " ", name)
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def _write_pages(folder: Path, readme: Path) -> None:
    """A page for each device's file, and all their tables into the README."""
    texts = []
    for path in sorted(folder.glob("*.json")):
        device = json.loads(path.read_bytes())
        write_bytes(path.with_suffix(".md"), device_document(device).encode())
        texts.append(speed_text(device))
    if texts:
        document = replace_speed_section(readme.read_text(), "\n\n".join(texts))
        write_bytes(readme, document.encode())


if __name__ == "__main__":
    main()
