"""What a batch takes of the host: seconds, memory, files and cores.

    python scripts/measure/host.py picture --output docs/scale.json
    python scripts/measure/host.py manifest [ROWS]
    python scripts/measure/host.py memory [JOBS ...]    and the resume of each batch
    python scripts/measure/host.py shards [--jobs 32] [--size 128] [--steps 40] [--rounds 1]
    python scripts/measure/host.py devices [--jobs 4] [--size 256] [--steps 8] [--rounds 3]
    python scripts/measure/host.py driving [--styles 8] [--checkout PATH]
    python scripts/measure/host.py throughput [--jobs 512] [--styles 32]

Each is measured in a fresh process, on pictures of noise and, but for `shards` and `devices`, a
narrow network from a seed, so that the device has next to nothing to do. Linux. What needs JAX
is imported where it is used: a manifest needs none, and its memory is told.
"""

import concurrent.futures
import functools
import hashlib
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import tyro
from PIL import Image
from tyro.conf import Positional

from nst_jax import Job, JobOptions, Options, read_manifest
from nst_jax.files import open_picture
from nst_jax.files.encode import encode_picture
from nst_jax.files.images import load_picture
from nst_jax.request.job import fill_defaults
from nst_jax.request.taps import VGG16

GALLERY = Path(__file__).parents[2] / "examples" / "gallery.jpg"
Answer = TypeVar("Answer")
_NARROW = (4, 8, 8, 12, 12)
_LONG_AGO = 1.7e9  # else the time of a picture's last change does not vouch for its content
_FIRST_TAPS: dict[str, Any] = {"content_taps": ("relu1_1",), "style_taps": ("relu1_1",)}


def run_in_fresh_process(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """What a function of this file answers in a process of its own."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def peak_mib() -> float:
    """Of this very program; what `getrusage` tells may be that of the process it came from."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s*(\d+)", status)[0]) / 1024


def write_network(path: Path) -> None:
    """A VGG-16 of few channels."""
    from nst_jax.weights.format import write_weights
    from nst_jax.weights.network import NetworkWeights

    chance, width, convolutions = np.random.default_rng(0), 3, {}
    for name in VGG16.convolutions:
        out = _NARROW[int(name[4]) - 1]
        kernel = chance.normal(scale=(2 / (9 * width)) ** 0.5, size=(3, 3, width, out))
        convolutions[name] = kernel.astype(np.float32), np.zeros(out, np.float32)
        width = out
    mean = (0.485, 0.456, 0.406)
    network = NetworkWeights(VGG16, convolutions, mean, "a seed", "0" * 64, "none")
    write_weights(path, network)


def write_pictures(folder: Path, contents: int = 100, side: int = 64, suffix: str = "png") -> None:
    """Contents `0.png`, `1.png`, … and a `style.png`: clouds of colour, of some time ago."""
    chance = np.random.default_rng(0)
    for name in ("style", *map(str, range(contents))):
        cloud, path = chance.integers(0, 256, (16, 16, 3), np.uint8), folder / f"{name}.{suffix}"
        Image.fromarray(cloud).resize((side, side), Image.Resampling.BICUBIC).save(path)
        os.utime(path, (_LONG_AGO, _LONG_AGO))


# ---- picture: for docs/scale.json, which scale_on_paper.py reads.

_SIDE = 512


def measure_picture(folder: Path) -> dict[str, Any]:
    """CPU seconds that a picture of 512 px takes of the host's threads, and its bytes.

    `load` is of the threads that decode and scale, for a job whose style is loaded already, and
    `load_style` what a new style adds; `driving` is of the thread that drives the device through
    five levels, and `driving_style` what a new style adds.
    """
    write_network(folder / "network.h5")
    write_pictures(folder, contents=16, side=_SIDE)
    pixels = finished_picture()
    encode = functools.partial(encode_picture, PurePath("x.png"), pixels, description="{}")
    one, two = (seconds_to_load(folder, is_new) for is_new in (False, True))
    few, many, styles = (driving_seconds(folder, *counts) for counts in ((4, 1), (16, 1), (16, 16)))
    seconds = {
        "load": one,
        "load_style": two - one,
        "driving": (many - few) / 12,
        "driving_style": (styles - many) / 15,
        "encode": fastest_seconds(lambda: hashlib.sha256(encode())),
    }
    return {
        "machine": re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
        + f", {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
        "seconds_a_picture": {name: round(max(0.0, value), 6) for name, value in seconds.items()},
        "png_bytes": round(_SIDE**2 * len(encode()) / (pixels.shape[0] * pixels.shape[1])),
    }


def fastest_seconds(call: Callable[[], object], turns: int = 5) -> float:
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


def seconds_to_load(folder: Path, is_new: bool) -> float:
    """CPU seconds of a job's files to pictures at five levels; the style new, or loaded before."""
    import dataclasses

    from nst_jax.engine.inputs.examine import examine_jobs
    from nst_jax.engine.inputs.load import load_job
    from nst_jax.engine.inputs.session import open_session
    from nst_jax.engine.plan.examined_job import ExaminedJob
    from nst_jax.engine.progress import NullProgress

    options = narrow_options(folder, size=_SIDE, levels=5, steps=1)
    session = open_session(options)
    jobs = [Job(folder / f"{number}.png", folder / "style.png") for number in range(6)]
    if is_new:
        jobs = [dataclasses.replace(job, style=job.content) for job in jobs]
    examined = examine_jobs(fill_defaults(jobs, options), session, NullProgress())
    ready = iter([one for one in examined if isinstance(one, ExaminedJob)])
    load_job(next(ready), options, session.pictures)
    return fastest_seconds(lambda: load_job(next(ready), options, session.pictures))


def driving_seconds(folder: Path, count: int, styles: int) -> float:
    """CPU seconds of the thread that drives the device, for so many pictures and styles."""
    from nst_jax import render_batch

    network = str(folder / "network.h5")
    options = Options(size=_SIDE, levels=5, steps=1, weights=network)
    jobs = [
        Job(folder / f"{number}.png", folder / f"{number % styles}.png") for number in range(count)
    ]
    return render_batch(jobs, folder / f"driving-{count}-{styles}", options).driving_seconds


# ---- manifest: a million rows, read and checked.

MANIFESTS = ("jobs.csv", "jobs.jsonl", "seeds.csv", "defaults.csv")
"""CSV and JSON Lines with 21 different sets of options, a seed for each row, default names."""


def write_manifest(path: Path, count: int) -> None:
    """Writes a manifest of the kind that its name says."""
    with path.open("w") as file:
        for number in range(count):
            row: dict[str, str | int] = {
                "content": f"photos/{number:07d}.jpg",
                "style": f"art/{number % 300:03d}.jpg",
                "style_weight": 10 + number % 3,
                "seed": number if path.name == "seeds.csv" else number % 7,
            }
            if path.name != "defaults.csv":
                row["output"] = f"out/{number:07d}.png"
            if path.suffix == ".csv" and number == 0:
                file.write(",".join(row) + "\n")
            line = ",".join(map(str, row.values())) if path.suffix == ".csv" else json.dumps(row)
            file.write(line + "\n")


def check_manifest(path: Path) -> str:
    """Reads and checks a manifest as a batch does, and says what that took."""
    options, began = Options(), time.process_time()
    jobs = fill_defaults(read_manifest(path, options), options)
    seconds = time.process_time() - began
    return f"{path.name}, {len(jobs)} rows: {seconds:.1f} s, {peak_mib():.0f} MiB at the most"


# ---- memory: batches of different lengths, and the resume of each.


def list_jobs(folder: Path, count: int) -> list[Job]:
    """A hundred contents and a style, with a seed for each job."""
    return [
        Job(
            folder / f"{number % 100}.png",
            folder / "style.png",
            options=JobOptions(steps=2, seed=number, **_FIRST_TAPS),
        )
        for number in range(count)
    ]


def narrow_options(folder: Path, **changes: int) -> Options:
    """Of jobs of 64 px that are done in no time."""
    given: dict[str, Any] = {"size": 64, "levels": 1, "steps": 2, **_FIRST_TAPS, **changes}
    return Options(preset="gram", weights=str(folder / "network.h5"), **given)


def render_seeds(folder: Path, count: int) -> dict[str, float]:
    """Renders so many jobs in two steps each, and tells what the process took."""
    from nst_jax import render_batch

    jobs = list_jobs(folder, count)
    files, threads, began = count_open_files(), threading.active_count(), time.perf_counter()
    summary = render_batch(jobs, folder / f"out{count}", narrow_options(folder))
    assert summary.done == count, summary
    return {
        "peak_mib": peak_mib(),
        "seconds": time.perf_counter() - began,
        "files_before": files,
        "files_after": count_open_files(),
        "threads_before": threads,
        "threads_after": threading.active_count(),
    }


def count_open_files() -> int:
    """Of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resume(folder: Path, count: int) -> tuple[float, float]:
    """Seconds and MiB to ask for a finished batch once more, none of whose files is read again."""
    from nst_jax import render_batch

    with mock.patch.object(open_picture, "file_digest", side_effect=AssertionError("read again")):
        began = time.perf_counter()
        summary = render_batch(
            list_jobs(folder, count), folder / f"out{count}", narrow_options(folder)
        )
    assert (summary.skipped, summary.done, summary.failed) == (count, 0, 0)
    return time.perf_counter() - began, peak_mib()


# ---- The commands.


def picture(output: Path | None = None) -> None:
    """What a picture takes of the threads; into OUTPUT, in place of what was found before."""
    with tempfile.TemporaryDirectory() as folder:
        found = run_in_fresh_process(measure_picture, Path(folder))
    if output:
        found = json.loads(output.read_bytes()) | found
        output.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def manifest(rows: Positional[int] = 1_000_000) -> None:
    """Reads and checks manifests of so many rows, each kind in turn."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(folder, kind) for kind in MANIFESTS):
            write_manifest(path, rows)
            print(run_in_fresh_process(check_manifest, path), flush=True)
            path.unlink()


def memory(jobs: Positional[tuple[int, ...]] = (100, 10_000)) -> None:
    """Renders batches of so many jobs, and asks for each once more when it is finished."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_network(folder / "network.h5")
        write_pictures(folder)
        for count in jobs:
            told = run_in_fresh_process(render_seeds, folder, count)
            seconds, mib = run_in_fresh_process(resume, folder, count)
            print(
                f"{count} jobs in {told['seconds']:.0f} s: {told['peak_mib']:.0f} MiB at the most, "
                f"files {told['files_before']} before and {told['files_after']} after, "
                f"threads {told['threads_before']} and {told['threads_after']}; "
                f"resumed in {seconds:.1f} s and {mib:.0f} MiB",
                flush=True,
            )


def shards(jobs: int = 16, size: int = 256, steps: int = 30, rounds: int = 3) -> None:
    """One worker and two, of one core each, on the same batch; a round before them compiles."""
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, contents=jobs, side=size)
        rows = "".join(f"{n}.png,style.png,{n}.png\n" for n in range(jobs))
        (folder / "jobs.csv").write_text("content,style,output\n" + rows)
        options = ["--size", str(size), "--steps", str(steps), "--quiet", "--no-report"]
        for turn in range(rounds + 1):
            one, two = (time_workers(folder, f"{turn}-{count}", count, options) for count in (1, 2))
            if turn:
                ratios.append(one / two)
                print(f"one worker {one:.1f} s, two {two:.1f} s", flush=True)
    print(f"two workers are {statistics.median(ratios):.2f} times as fast")


def time_workers(folder: Path, name: str, count: int, options: list[str]) -> float:
    """Seconds of so many workers at once, one for each core, from start to end."""
    command = [sys.executable, "-m", "nst_jax.cli.main", "batch", str(folder / "jobs.csv")]
    command += ["--output-dir", str(folder / name), *options]
    environment = os.environ | {"NST_JAX_CACHE_DIR": str(folder / "cache")}
    began = time.perf_counter()
    workers = []
    for core in range(count):
        shard = ["--shard", f"{core}/{count}"] if count > 1 else []
        pinned = ["taskset", "--cpu-list", str(core), *command, *shard]
        workers.append(subprocess.Popen(pinned, env=environment))
    statuses = [worker.wait() for worker in workers]
    if any(statuses):
        sys.exit(f"a worker ended with {max(statuses)}")
    return time.perf_counter() - began


def devices(jobs: int = 4, size: int = 256, steps: int = 8, rounds: int = 3) -> None:
    """One CPU device with all threads against several that share the cores, in turns."""
    taken: dict[int, list[float]] = {count: [] for count in sorted({1, 2, jobs})}
    for _ in range(rounds):
        for count, seconds in taken.items():
            flags = f"--xla_force_host_platform_device_count={count}"
            with mock.patch.dict(os.environ, XLA_FLAGS=flags):
                seconds.append(run_in_fresh_process(seconds_per_image_step, jobs, size, steps))
    for count, seconds in taken.items():
        ratio = statistics.median(one / other for one, other in zip(seconds, taken[1], strict=True))
        print(
            f"{count} devices: {statistics.median(seconds):.4f} s an image-step "
            f"({min(seconds):.4f} to {max(seconds):.4f}), {ratio:.3f} times that of 1 device"
        )


def driving(
    jobs: int = 64, styles: int = 8, size: int = 512, steps: int = 5, checkout: Path | None = None
) -> None:
    """What a picture takes of the thread that drives the device; see driving.py.

    Args:
        jobs: Pictures.
        styles: How many different ones they have.
        size: Long edge in pixels.
        steps: A level.
        checkout: Of the project as it was or will be; none: this one.
    """
    line = [sys.executable, str(Path(__file__).with_name("driving.py"))]
    told = {"jobs": jobs, "styles": styles, "size": size, "steps": steps}
    line += [f"--{name}={value}" for name, value in told.items()]
    root = (checkout or Path(__file__).parents[2]).resolve()
    environment = {"JAX_PLATFORMS": "cpu"} | os.environ | {"PYTHONPATH": str(root)}
    sys.exit(subprocess.call(line, env=environment))


def throughput(jobs: int = 512, styles: int = 32) -> None:
    """Pictures a second: JPEGs of 512 px in, PNGs of 256 px out, two levels of one step.

    The network has four channels, so that what counts is everything but the steps. Compilation is
    left out.

    Args:
        jobs: Pictures.
        styles: How many different ones they have.
    """
    print(run_in_fresh_process(measure_throughput, jobs, styles))


def measure_throughput(jobs: int, styles: int) -> str:
    """Of one batch into a folder, each content a file of its own."""
    import driving

    from nst_jax import render_batch
    from nst_jax.engine.device.runtime import configure_process

    with tempfile.TemporaryDirectory() as name, configure_process():
        folder = Path(name)
        driving.write_network(folder / "network.h5")
        write_pictures(folder, contents=jobs + styles, side=_SIDE, suffix="jpg")
        network = str(folder / "network.h5")
        options = Options(size=256, levels=2, steps=1, weights=network)
        pairs = [
            Job(folder / f"{number}.jpg", folder / f"{jobs + number % styles}.jpg", f"{number}.png")
            for number in range(jobs)
        ]
        summary = render_batch(pairs, folder / "out", options)
        assert summary.done == jobs
        seconds = summary.seconds - summary.compile_seconds
        return (
            f"{jobs / seconds:.1f} pictures a second: {jobs} in {seconds:.1f} s, compilation "
            f"({summary.compile_seconds:.1f} s) left out; driving thread "
            f"{summary.driving_seconds / jobs:.4f} s a picture, waiting {summary.waiting_seconds}, "
            f"device idle {summary.device_idle_share:.1%}"
        )


def seconds_per_image_step(jobs: int, size: int, steps: int) -> float:
    """Of one batch, compilation apart."""
    from nst_jax import render_many

    pictures = np.random.default_rng(0).random((2, size, size, 3), dtype=np.float32)
    options = Options(
        preset="gram", size=size, levels=1, steps=steps, batch_size=jobs, weights="vgg16"
    )
    results = list(render_many([Job(*pictures)] * jobs, options))
    return sum(result.seconds for result in results) / sum(result.steps for result in results)


if __name__ == "__main__":
    commands = (picture, manifest, memory, shards, devices, driving, throughput)
    tyro.extras.subcommand_cli_from_dict({run.__name__: run for run in commands})
