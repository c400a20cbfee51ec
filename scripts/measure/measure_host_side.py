"""What a picture, a job and a start take of the host, beside the device: seconds, bytes, requests.

    python scripts/measure/measure_host_side.py --output docs/scale.json

Pictures are the results in `examples/gallery.jpg`, cut to about 512 px. Seconds are CPU seconds
of this process, the fastest of a few turns. `scripts/measure/scale_on_paper.py` reads the file.
"""

import argparse
import collections
import functools
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any
from unittest import mock

import fsspec
import numpy as np
from measure_memory import write_network
from PIL import Image

from nst_jax import Job, JobOptions, Options, render_batch
from nst_jax.engine.batch import check_outputs, slim_record
from nst_jax.engine.device.targets import make_style_target
from nst_jax.engine.device.warm_start import carried, cold_start, warm_start
from nst_jax.engine.inputs.load import load_job
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.plan.demand import measure_demand
from nst_jax.engine.plan.levels import pyramid
from nst_jax.engine.run.shard import batch_hash
from nst_jax.files import storage
from nst_jax.files.encode import encode_picture
from nst_jax.files.folders import folder_at
from nst_jax.files.images import load_picture, resize
from nst_jax.files.ledger import merge_records
from nst_jax.model.style import Moments
from nst_jax.request.job import fill_defaults
from nst_jax.request.manifest import read_manifest
from nst_jax.request.options import with_canonical_taps
from nst_jax.request.shards import Shard, jobs_of_shard
from nst_jax.request.taps import DEFAULT_STYLE_TAPS, VGG16, block_of

GALLERY = Path(__file__).parents[2] / "examples" / "gallery.jpg"

_SIDE = 512
_TURNS = 5
_INPUT_SIZE = (768, 1024)
_ROWS = 100_000
_LINES = 10_000
_PLACE = "s3://a-bucket/a-project/"
"""What addresses in a ledger begin with; a line has several."""

_SHALLOW: Mapping[str, Any] = {
    "preset": "gram",
    "size": 32,
    "levels": 1,
    "steps": 2,
    "content_taps": ("relu1_1",),
    "style_taps": ("relu1_1",),
}
"""Options of jobs that only show what is asked of a store."""


def main() -> None:
    """Measures, and writes or prints what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="where to write; else it is printed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measured(Path(name))
    text = json.dumps(found, indent=2) + "\n"
    if asked.output:
        asked.output.write_text(text)
    else:
        sys.stdout.write(text)


def measured(folder: Path) -> dict[str, Any]:
    """Everything, by groups."""
    write_network(folder / "network.h5")
    line = ledger_line(folder)
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
        "seconds_a_picture": seconds_a_picture(folder),
        "png_bytes": round(_SIDE**2 * _png_bytes_a_pixel()),
        "ledger_line_bytes": len(line),
        "seconds_a_job_at_start": seconds_a_row(folder) | {"ledger_line": seconds_a_line(line)},
        "requests_a_picture": requests_a_picture(folder),
    }


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def _fastest(call: Callable[[], object], turns: int = _TURNS) -> float:
    """CPU seconds of the fastest turn."""
    taken = []
    for _ in range(turns):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return round(min(taken), 6)


def finished_picture() -> np.ndarray:
    """About 512 by 512 pixels of brush strokes: the gallery's right column, folded."""
    gallery = load_picture(GALLERY).pixels
    column = gallery[:, 2 * gallery.shape[1] // 3 :]
    half = len(column) // 2
    return np.hstack([column[:half], column[half : 2 * half]])[:_SIDE, :_SIDE]


def _png_bytes_a_pixel() -> float:
    pixels = finished_picture()
    return len(_encoded(pixels)) / (pixels.shape[0] * pixels.shape[1])


def _encoded(pixels: np.ndarray) -> bytes:
    return encode_picture(PurePath("x.png"), pixels, description="{}")


def seconds_a_picture(folder: Path) -> dict[str, float]:
    """What the host does for one job of the default schedule at 512 px, by kind.

    `decode` is for the decoding threads, `carry` and `style` are for the thread that drives the
    device, `encode` for the writing thread.
    """
    options = Options(size=512)
    own = with_canonical_taps(options, VGG16)
    cloud = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    for name in ("content.jpg", "style.jpg"):
        height, width = _INPUT_SIZE
        cloud.resize((width, height), Image.Resampling.BICUBIC).save(folder / name, quality=90)
    job = Job(folder / "content.jpg", folder / "style.jpg", "x.png")
    pixels = finished_picture()
    square = np.random.default_rng(0).random((512, 512, 3), dtype=np.float32)
    return {
        "examine": _fastest(lambda: [PictureIndex().lookup(one) for one in job.pictures]),
        "decode": _fastest(lambda: load_job(0, job, own, options, PictureIndex())),
        "carry": _fastest(lambda: _carry(square, options, own)),
        "style": _fastest(_new_style),
        "encode": _fastest(lambda: hashlib.sha256(_encoded(pixels))),
    }


def _carry(content: np.ndarray, options: Options, own: JobOptions) -> None:
    """A square job from level to level, and the content as each level wants it."""
    before = None
    for stage in pyramid((512, 512), options, own):
        resize(content, stage.size)
        where = stage.size, stage.canvas
        if before is None:
            state = cold_start(resize(content, stage.size), stage.canvas)
        else:
            state = warm_start(before, *where)
        before = carried(state, stage.size)


@functools.cache
def _moments(channels: int) -> Moments:
    features: Any = np.random.default_rng(0).normal(size=(4 * channels, channels))
    features = features.astype(np.float32)
    return Moments(features.mean(0), features.T @ features / len(features))


def _new_style() -> None:
    """What a style that was not seen before asks, at every level and tap."""
    levels = len(pyramid((512, 512), Options(size=512), with_canonical_taps(Options(), VGG16)))
    for _ in range(levels):
        for tap in DEFAULT_STYLE_TAPS:
            moments = _moments(VGG16.channels[block_of(tap) - 1])
            make_style_target("wasserstein", "relative", moments)


def ledger_line(folder: Path) -> bytes:
    """The longest line that a job of five levels leaves, with addresses of a usual length."""
    options = Options(size=64, levels=5, steps=50, weights=str(folder / "network.h5"), **_taps())
    system = fsspec.filesystem("memory")
    _put_noise(system, "line", 2)
    job = Job("memory://line/0.png", "memory://line/s.png", "0000/000000.png")
    render_batch([job], "memory://line/out", options)
    lines = _ledger_lines(system, "/line/out")
    name, place = "memory://line/", _PLACE
    return max(lines, key=len).replace(name.encode(), place.encode())


def _taps() -> dict[str, Any]:
    return {"content_taps": ("relu2_1",), "style_taps": ("relu1_1", "relu2_1")}


def _ledger_lines(system: Any, folder: str) -> list[bytes]:
    names = [one for one in system.find(folder) if PurePath(one).name.startswith("ledger")]
    return [line for name in names for line in io.BytesIO(system.cat_file(name))]


def _put_noise(system: Any, folder: str, count: int) -> None:
    chance = np.random.default_rng(0)
    for name in ("s", *map(str, range(count))):
        file = io.BytesIO()
        Image.fromarray(chance.integers(0, 256, (64, 64, 3), np.uint8)).save(file, "png")
        system.pipe_file(f"/{folder}/{name}.png", file.getvalue())


def requests_a_picture(folder: Path) -> dict[str, float]:
    """What one more picture asks of a store, by kind of request; a run's own are taken off."""
    few, many = 4, 12
    counts = [_requests(folder, jobs) for jobs in (few, many)]
    kinds = _CALLS.values()
    return {kind: round((counts[1][kind] - counts[0][kind]) / (many - few), 3) for kind in kinds}


_CALLS = {"info": "head", "cat_file": "get", "pipe_file": "put", "rm_file": "delete"}


def _requests(folder: Path, jobs: int) -> collections.Counter[str]:
    """Requests of a batch of so many jobs, all of one style."""
    counted: collections.Counter[str] = collections.Counter()
    system, place = fsspec.filesystem("memory"), f"requests{jobs}"
    _put_noise(system, place, jobs)
    listed = [Job(f"memory://{place}/{one}.png", f"memory://{place}/s.png") for one in range(jobs)]
    options = Options(weights=str(folder / "network.h5"), **_SHALLOW)
    with mock.patch.object(storage, "_file_system", return_value=_Counting(system, counted)):
        render_batch(listed, f"memory://{place}/out", options)
    return counted


class _Counting:
    """A store that counts what it is asked, under the name of each request."""

    def __init__(self, system: Any, counted: collections.Counter[str]) -> None:
        self._system, self._counted = system, counted

    def info(self, path: str) -> Mapping[str, Any]:
        """With an entity tag, as the stores of clouds have it."""
        self._counted[_CALLS["info"]] += 1
        return self._system.info(path) | {"ETag": path}

    def __getattr__(self, name: str) -> Any:
        self._counted[_CALLS.get(name, "")] += 1
        return getattr(self._system, name)


def seconds_a_row(folder: Path) -> dict[str, float]:
    """CPU seconds that each row of the whole manifest takes of every worker, by kind."""
    options = Options()
    path = folder / "jobs.csv"
    rows = (f"photos/{n:07d}.jpg,art/{n % 300:03d}.jpg,out/{n:07d}.png" for n in range(_ROWS))
    path.write_text("content,style,output\n" + "\n".join(rows) + "\n")
    jobs = fill_defaults(read_manifest(path, options), options)
    kinds: dict[str, Callable[[], object]] = {
        "manifest": lambda: fill_defaults(read_manifest(path, options), options),
        "outputs": lambda: check_outputs(jobs, options, folder_at(folder)),
        "deal": lambda: jobs_of_shard(jobs, Shard(0, 1000)),
        "digest": lambda: batch_hash(jobs, options),
        "foresee": lambda: measure_demand(jobs, options, VGG16, PictureIndex()),
    }
    return {name: _fastest(call, turns=2) / _ROWS for name, call in kinds.items()}


def seconds_a_line(line: bytes) -> float:
    """CPU seconds to read one line of the ledger at a start."""
    jobs = [line.replace(b"000000", f"{number:06d}".encode()) for number in range(_LINES)]
    return (
        _fastest(lambda: merge_records(jobs, functools.partial(slim_record, {})), turns=2) / _LINES
    )


if __name__ == "__main__":
    main()
