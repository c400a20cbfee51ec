"""Hashes of small renders that together touch everything which can change a picture.

    JAX_PLATFORMS=cpu python scripts/measure/picture_hashes.py before.json
    ...change the program without changing the method...
    python scripts/measure/picture_hashes.py after.json --against before.json

Every picture is made from seeds, every network is a narrow VGG, and everything happens in a
temporary folder. Of each job the JSON holds sha256 of the decoded pixels and of the file, the
fingerprint, the steps and the losses, or its error; of each batch its `plan.json`. With
`--against` differences are printed and the exit status is 1 if there are any.

Bytes can be compared on one machine and one build of JAX alone. Programs are compiled for two CPU
devices; NST_JAX_CACHE_DIR names a folder that keeps them, so that the next run takes a minute.
The last line says which copy of the package was measured.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (4, 8, 8, 12, 12)
WIDE_CHANNELS = (64, 128, 8, 8, 8)
"""Enough in the second block for Winograd's algorithm."""

SHALLOW = ("--content-taps", "relu2_1", "--style-taps", "relu1_1", "relu2_1")
SMALL = ("--size", "48", "--levels", "2", "--steps", "4", "--batch-size", "2")
QUIET = ("--quiet", "--no-report")
NOT_FINITE: dict[str, Any] = {"init": "noise", "content_weight": 3e38, "style_weight": 3e38}
LONG_STEPS = 400
"""At each level of the batch that is killed: enough to outlast several checkpoints."""

Entries = dict[str, dict[str, Any]]


def main() -> None:
    """Renders everything, writes the JSON, compares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="the JSON to write")
    parser.add_argument("--against", type=Path, help="an earlier JSON to compare with")
    parser.add_argument("--only", nargs="*", default=[], help="names of runs; none: all")
    asked = parser.parse_args()
    output, earlier = asked.output.resolve(), asked.against and asked.against.resolve()
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    cache = os.environ.setdefault("NST_JAX_CACHE_DIR", "off")
    if cache != "off":  # of the command line; JAX itself keeps those of the Python interface
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(cache, "python").absolute())
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    entries: Entries = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["NST_JAX_WEIGHTS_DIR"] = str(Path("weights").absolute())
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
        make_inputs()
        for name, run in RUNS.items():
            if not asked.only or name in asked.only:
                run(name)
                entries |= collect_entries(name)
                print(f"[{time.monotonic() - began:6.1f} s] {name}", file=sys.stderr, flush=True)
    output.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
    import nst_jax

    print(f"{len(entries)} entries of {Path(nst_jax.__file__).parent} in {output}")
    if earlier:
        before = json.loads(earlier.read_text())
        if asked.only:
            kept = (name for name in before if any(_is_of(name, run) for run in asked.only))
            before = {name: before[name] for name in kept}
        sys.exit(print_differences(before, entries))


def print_differences(before: Entries, after: Entries) -> int:
    """Says what differs; returns how a process ends then."""
    count = 0
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name, {}), after.get(name, {})
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                count += 1
                print(f"{name}: {key} was {one.get(key)}, is {other.get(key)}")
    print(f"{count} differences in {len(before)} entries")
    return 1 if count else 0


# Inputs.


def make_inputs() -> None:
    """Pictures, masks and networks in the current folder."""
    for seed, (name, height, width) in enumerate(
        (
            ("a", 34, 48),
            ("b", 48, 30),
            ("odd", 37, 53),
            ("narrow", 12, 160),
            ("s", 40, 48),
            ("t", 52, 41),
            ("start", 34, 48),
        )
    ):
        Image.fromarray(eight_bits(picture(height, width, seed))).save(f"{name}.png")
    colours = eight_bits(picture(34, 48, 20))
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)[None, :].repeat(34, 0)
    Image.fromarray(np.dstack([colours, ramp])).save("clear.png")
    Image.fromarray(colours[..., 0]).save("grey.png")
    Image.fromarray(colours).save("lossy.jpg", quality=80)
    write_deep_png(Path("deep.png"), picture(34, 48, 21))
    # Soft edges, and a rim on the left that is black in both.
    soft = np.clip((np.arange(48) - 8) / 24, 0, 1)[None, :].repeat(34, 0)
    left = np.clip(np.arange(48) / 8 - 0.5, 0, 1)[None, :].repeat(34, 0)
    Image.fromarray(eight_bits(soft)).save("right.png")
    Image.fromarray(eight_bits((1 - soft) * left)).save("left.png")
    for name, height, width in (("s", 40, 48), ("t", 52, 41)):
        sides = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
        radius = np.hypot(*np.meshgrid(*sides, indexing="ij"))
        Image.fromarray(eight_bits(np.clip(1.5 - radius, 0, 1))).save(f"{name}_disc.png")
    for name, layers, channels in (
        ("narrow16", 16, CHANNELS),
        ("narrow19", 19, CHANNELS),
        ("wide16", 16, WIDE_CHANNELS),
    ):
        write_network(Path(f"{name}.safetensors"), DEPTHS[layers], channels)


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Noise over a gradient, float64 RGB in [0, 1]."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, height)[:, None, None] * np.linspace(1, 0, width)[None, :, None]
    tint = rng.random(3)
    return (0.6 * ramp * tint + 0.4 * rng.random((height, width, 3))) ** (0.5 + 0.2 * (seed % 4))


def eight_bits(values: np.ndarray) -> np.ndarray:
    return np.round(255 * values).astype(np.uint8)


def write_deep_png(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits a channel, which Pillow doesn't write."""
    deep = np.round(65535 * values).astype(">u2")
    height, width = deep.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )


def write_network(path: Path, depths: Sequence[int], channels: Sequence[int]) -> None:
    """A VGG of few channels under torchvision's names, its activations of one scale."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    layer, width = 0, 3
    for depth, out in zip(depths, channels, strict=True):
        for _ in range(depth):
            scale = np.sqrt(2 / (9 * width)) * (1 if layer else 0.225)
            kernel = rng.normal(scale=scale, size=(out, width, 3, 3))
            arrays[f"features.{layer}.weight"] = kernel.astype(np.float32)
            arrays[f"features.{layer}.bias"] = rng.normal(scale=0.1, size=out).astype(np.float32)
            layer, width = layer + 2, out
        layer += 1
    save_file(arrays, path)


# Runs, each into a folder of its own name.


def run_command(*arguments: str, status: int = 0) -> str:
    """A command line in this process; what it printed."""
    from nst_jax.cli.main import main as run

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            run(arguments)
        except SystemExit as end:
            if (end.code or 0) != status:
                raise RuntimeError(f"status {end.code} of nst-jax {' '.join(arguments)}") from end
    return printed.getvalue()


def write_manifest(name: str, rows: dict[str, dict[str, Any]]) -> str:
    """A manifest of rows by their output's names; content a and style s where none is said."""
    lines = [
        {"content": "a.png", "style": "s.png", "output": out} | row for out, row in rows.items()
    ]
    path = Path(f"{name}.jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def run_batch(
    name: str,
    rows: dict[str, dict[str, Any]],
    *options: str,
    weights: str = "narrow16",
    status: int = 0,
) -> None:
    """A batch of these rows; later options go before the small ones."""
    manifest = write_manifest(name, rows)
    network = ("--weights", f"{weights}.safetensors")
    common = (*SMALL, *SHALLOW, *network, *QUIET)
    run_command("batch", manifest, "--output-dir", name, *common, *options, status=status)


def run_looks(name: str) -> None:
    """What a job says of itself: colours, starts, styles, weights, step sizes, formats, sizes."""
    rows: dict[str, dict[str, Any]] = {"plain.png": {}}
    for color in ("content", "lab", "luminance", "match-mean-covariance", "match-histogram"):
        rows[f"color_{color}.png"] = {"color": color, "content": "b.png"}
    for init in ("noise", "noisy-content", "grey", "style-statistics", "blend"):
        rows[f"init_{init}.png"] = {"init": init, "seed": 3}
    two = {"style": ["s.png", "t.png"]}
    rows |= {
        "init_file.png": {"init": "file", "init_image": "start.png"},
        "init_part_noise.png": {"init": "noise", "noise_ratio": 0.4, "noise_range": 0.2},
        "init_blend_of_two.png": two | {"init": "blend", "init_blend": 0.2},
        "init_statistics_of_two.png": two | {"init": "style-statistics"},
        "two_styles.png": two | {"style_blend_weights": [3, 1]},
        "style_scale.png": {"style_scale": 1.5},
        "style_size.png": {"style_size": 32},
        "style_mask.png": {"style_masks": ["s_disc.png"]},
        "tap_weights.png": {"style_tap_weights": [1, 2], "content_weight": 0.1},
        "tap_ratio.png": {"style_tap_ratio": 0.7, "style_weight": 3},
        "sum_of_variation.png": {"tv_normalization": "sum", "tv_weight": 0.01},
        "no_average.png": {"average_decay": 0, "clip": "end", "learning_rate": 0.1},
        "adam.png": {"adam_b1": 0.9, "adam_b2": 0.9, "adam_eps": 1e-4},
        "constant_rate.png": {"learning_rate_schedule": "constant"},
        "exponential_rate.png": {"learning_rate_schedule": "exponential", "learning_rate_end": 0.5},
        "first_steps.png": {"first_steps": 7, "steps": 3},
        "stops_early.png": {"early_stop": 1e9, "steps": 60},
        "odd.png": {"content": "odd.png", "style": "t.png"},
        "narrow.png": {"content": "narrow.png", "content_taps": ["relu3_1"], "steps": 3},
        "transparent.png": {"content": "clear.png"},
        "on_black.png": {"content": "clear.png", "alpha": "black"},
        "grey.webp": {"content": "grey.png"},
        "lossy.jpg": {"content": "lossy.jpg"},
        "sub/deep.tif": {"content": "deep.png"},
        "not_finite.png": NOT_FINITE,
        "missing.png": {"content": "nowhere.png"},
    }
    for kind in ("relative", "quarter_mean", "half_sum", "half_root"):
        rows[f"content_by_{kind}.png"] = {"content_normalization": kind}
    run_batch(name, rows, "--contact-sheet", status=3)
    run_command("report", name)


def run_regions(name: str) -> None:
    """Masks of soft edges, masks of styles too, and what has no style keeping its content."""
    two = {"style": ["s.png", "t.png"], "masks": ["left.png", "right.png"]}
    rows: dict[str, dict[str, Any]] = {
        "two.png": two,
        "weighted.png": two | {"style_blend_weights": [1, 4], "color": "lab"},
        "masked_styles.png": two | {"style_masks": ["s_disc.png", "t_disc.png"]},
        "one.png": {"masks": ["right.png"]},
        "match.png": two
        | {"color": "match-histogram", "style_masks": ["s_disc.png", "t_disc.png"]},
    }
    run_batch(name, rows)
    run_batch(
        name, {f"gram_{out}": rows[out] for out in ("two.png", "one.png")}, "--preset", "gram"
    )


def run_structures(name: str) -> None:
    """Options that are no arrays: other taps, pixels, unit gradients."""
    pixels = {"content_taps": ["pixels"], "style_taps": ["pixels", "relu1_1"]}
    rows: dict[str, dict[str, Any]] = {
        "unit_gradients.png": {"gradient_normalization": "l1"},
        "pixels.png": pixels | {"pixel_blend": 0.3},
        "pool.png": {"content_taps": ["pool1", "conv2_1"], "content_tap_weights": [1, 3]},
        "translated.png": {"style_taps": ["block1_conv2", "features.5"]},
    }
    run_batch(name, rows, "--levels", "1")


def run_losses(name: str) -> None:
    """Each way to compare styles, neighbours and features, each pooling and padding."""
    kinds = ("relative", "mean", "quarter_mean", "channel_mean")
    rows = {f"{kind}.png": {"style_normalization": kind} for kind in kinds}
    one: dict[str, dict[str, Any]] = {"odd.png": {"content": "odd.png"}}
    two = {"two.png": {"style": ["s.png", "t.png"], "style_blend_weights": [1, 2]}}
    for label, jobs, options in (
        ("gram", rows | two, ("--style-loss", "gram", "--padding", "zero", "--pooling", "average")),
        ("moments", rows | two, ("--style-loss", "moments", "--pooling", "l2", "--levels", "1")),
        ("full", one | two, ("--style-loss", "wasserstein_full", "--levels", "3")),
        ("raw", one, ("--preprocessing", "none", "--pooling", "average", "--pooling-scale", "2")),
        ("bfloat16", one, ("--dtype", "bfloat16", "--levels", "1")),
    ):
        tv = {"gram": "squared", "moments": "absolute"}.get(label, "nine_point")
        run_batch(f"{name}/{label}".replace("/", "-"), jobs, *options, "--tv-loss", tv)


def run_others(name: str) -> None:
    """A network wide enough for Winograd's algorithm, and L-BFGS with levels to hand on."""
    one: dict[str, dict[str, Any]] = {"a.png": {}}
    run_batch(f"{name}-wide", one, "--levels", "1", weights="wide16")
    at_the_end = ("--clip", "end", "--average-decay", "0", "--style-loss", "gram")
    run_batch(f"{name}-lbfgs", one, "--optimizer", "lbfgs", *at_the_end)


def run_depth(name: str) -> None:
    """Sixteen bits out, into both formats that have them."""
    rows: dict[str, dict[str, Any]] = {
        "a.png": {"content": "deep.png"},
        "b.tif": {"content": "clear.png"},
    }
    run_batch(name, rows, "--bit-depth", "16", "--levels", "1")


def run_presets(name: str) -> None:
    """Each preset as it is, but for the size, the steps and the network."""
    from nst_jax import Options, render

    names = run_command("presets")
    for preset in PRESETS:
        if preset not in names:
            raise RuntimeError(f"preset {preset} has gone")
        network = "narrow19" if preset in ("coursera-2022", "crowsonkb") else "narrow16"
        weights = f"{network}.safetensors"
        few: dict[str, Any] = {"size": 48, "steps": 3, "first_steps": 0, "batch_size": 1}
        options = Options(preset=preset, weights=weights, **few)
        run_python(name, f"{preset}.png", render, options)


PRESETS = (
    *("default", "fast", "gram", "gatys2016", "neural-style", "crowsonkb"),
    *("coursera-2018", "coursera-2022"),
)


def run_python(name: str, output: str, render: Any, options: Any) -> None:
    """One picture through the Python interface, into a file; its result goes into `results`."""
    from nst_jax import Job

    result = render(Job("a.png", "s.png"), Path(name, output), options)
    _keep_result(name, output, result)


RESULTS: Entries = {}
"""What results of Python calls tell, by run and output."""


def _keep_result(name: str, output: str, result: Any) -> None:
    told: dict[str, Any] = {"fingerprint": result.fingerprint, "steps": result.steps}
    if result.error:
        told["error"] = [result.error.kind, result.error.message]
    else:
        told |= {"losses": dict(result.losses), "image": digest(result.image)}
        if result.alpha is not None:
            told["alpha"] = digest(result.alpha)
    RESULTS[f"{name}/{output}"] = told


def run_in_memory(name: str) -> None:
    """Arrays in and arrays out: one job, and many with one that fails."""
    from nst_jax import Job, JobOptions, Options, render, render_many

    style = picture(40, 48, 31).astype(np.float32)
    contents = [eight_bits(picture(34, 48, 32)), picture(48, 30, 33), picture(37, 53, 34)]
    contents.append(np.round(65535 * picture(34, 48, 35)).astype(np.uint16))
    taps: dict[str, Any] = {"content_taps": ("relu2_1",), "style_taps": ("relu1_1", "relu2_1")}
    options = Options(
        size=48, levels=2, steps=4, batch_size=2, weights="narrow16.safetensors", **taps
    )
    jobs = [
        *(Job(content, style, f"{number}.png") for number, content in enumerate(contents)),
        Job(contents[0], style, "not_finite.png", JobOptions(steps=4, **NOT_FINITE, **taps)),
    ]
    for result in render_many(jobs, options):
        _keep_result(name, result.job.output, result)
    job = Job(contents[0], [style, contents[1]], options=JobOptions(color="lab", steps=3, **taps))
    _keep_result(name, "alone", render(job, None, options))


def run_halved(name: str) -> None:
    """A batch of four slots on devices that have memory for two."""
    import jax

    from nst_jax import Job, Options, render_batch

    original, faults = jax.stages.Compiled.__call__, []

    def call(program: Any, *arguments: Any) -> Any:
        first = jax.tree.leaves(arguments)[0]
        if np.shape(first)[:1] == (4,) and len(arguments) == 4:
            faults.append(np.shape(first))
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")
        return original(program, *arguments)

    taps: dict[str, Any] = {"content_taps": ("relu2_1",), "style_taps": ("relu1_1", "relu2_1")}
    options = Options(
        size=48, levels=1, steps=4, batch_size=4, weights="narrow16.safetensors", **taps
    )
    jobs = [Job(one, "s.png") for one in ("a.png", "grey.png", "deep.png", "lossy.jpg", "odd.png")]
    with mock.patch.object(jax.stages.Compiled, "__call__", call):
        render_batch(jobs, name, options)
    RESULTS[f"{name}/faults"] = {"count": len(faults)}


def run_single(name: str) -> None:
    """The command that renders one picture: previews, masks, a start from a file."""
    network = ("--weights", "narrow16.safetensors", "--json")
    small = ("--size", "48", "--levels", "2", "--steps", "5", *SHALLOW, *network)
    for output, arguments in {
        "previews.png": ("a.png", "s.png", "--preview-every", "2", "--color", "lab"),
        "masks.png": ("a.png", "s.png", "t.png", "--masks", "left.png", "right.png"),
        "start.jpg": ("a.png", "s.png", "--init", "file", "--init-image", "start.png"),
        "blend.webp": ("b.png", "s.png", "t.png", "--style-blend-weights", "2", "1"),
    }.items():
        told = json.loads(run_command("render", *arguments, "--output", f"{name}/{output}", *small))
        kept = ("fingerprint", "steps", "losses", "sha256")
        RESULTS[f"{name}/{output}"] = {key: told[key] for key in kept}


ROWS: dict[str, dict[str, Any]] = {
    f"{number}.png": {
        "content": ("a.png", "grey.png", "lossy.jpg")[number % 3],
        "learning_rate": (number + 1) / 100,
    }
    for number in range(6)
}


def run_shards(name: str) -> None:
    """Two workers, one after the other, in one folder."""
    for shard in ("0/2", "1/2"):
        run_batch(name, ROWS, "--shard", shard)


def run_killed(name: str) -> None:
    """A batch that is killed after a checkpoint and goes on; and the same without an accident."""
    steps = ("--steps", str(LONG_STEPS), "--checkpoint-every", "0.01", "--preset", "gram")
    program = "import sys; from nst_jax.cli.main import main; main(sys.argv[1:])"
    network = ("--weights", "narrow16.safetensors")
    rows = dict(list(ROWS.items())[:3])
    asked = ("batch", write_manifest(name, rows), "--output-dir", name, *SMALL, *SHALLOW)
    state = Path(name, "state.npz")
    command = [sys.executable, "-c", program, *asked, *network, *QUIET, *steps]
    with subprocess.Popen(command) as process:
        while not state.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    if process.returncode != -signal.SIGKILL or not state.exists():
        raise RuntimeError("the batch ended before it was killed; raise LONG_STEPS")
    run_batch(name, rows, *steps)
    taken = json.loads(Path(name, "run.json").read_text())["summary"]["image_steps"]
    RESULTS[f"{name}/state"] = {"was_taken_up": taken < 2 * LONG_STEPS * len(rows)}
    run_batch(f"{name}-not", rows, *steps)
    for out in rows:
        if Path(name, out).read_bytes() != Path(f"{name}-not", out).read_bytes():
            raise RuntimeError(f"{out} is another picture after the kill")


def run_studies(name: str) -> None:
    """Every study at its smallest, measured by the ImageNet VGG-16."""
    network = ("--weights", "narrow16.safetensors", "--quiet")
    size = ("--size", "32", "--levels", "1", "--steps", "3", "--batch-size", "2", *network)
    pair = ("a.png", "s.png")
    for kind, arguments in {
        "layers": (*pair, "--grid", "corners"),
        "pixels": (*pair, "--ratios", "0.3", "0.7"),
        "reconstruct": pair,
        "balance": (*pair, "--style-weights", "1", "9", "--learning-rates", "0.02", *SHALLOW),
        "neurons": ("a.png", "b.png", "s.png", "--taps", "relu2_1", "--count", "2"),
    }.items():
        folder = f"{name}-{kind}"
        run_command("study", kind, *arguments, "--output-dir", folder, *size)
        study = json.loads(Path(folder, "study.json").read_text())
        for cell in study["cells"]:
            told = {key: cell[key] for key in ("caption", "distances", "losses")}
            RESULTS[f"{folder}/{cell['row']}/{cell['column']}"] = told


RUNS = {
    "looks": run_looks,
    "regions": run_regions,
    "structures": run_structures,
    "losses": run_losses,
    "others": run_others,
    "depth": run_depth,
    "presets": run_presets,
    "memory": run_in_memory,
    "halved": run_halved,
    "single": run_single,
    "shards": run_shards,
    "killed": run_killed,
    "studies": run_studies,
}


# What came out.


def collect_entries(name: str) -> Entries:
    """What the folders of a run hold, and what its results told."""
    entries: Entries = {key: one for key, one in RESULTS.items() if _is_of(key, name)}
    for folder in sorted(Path().glob(f"{name}*")):
        if folder.is_dir():
            for key, told in _folder_entries(folder):
                entries[key] = entries.get(key, {}) | told
    return entries


def _is_of(key: str, name: str) -> bool:
    return key.split("/")[0].split("-")[0] == name


def _folder_entries(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for ledger in sorted(folder.glob("ledger*.jsonl")):
        for line in ledger.read_text().splitlines():
            told = json.loads(line)
            kept = {key: told[key] for key in ("status", "fingerprint", "steps", "losses")}
            if told["error"]:
                kept["error"] = [told["error"]["kind"], told["error"]["message"]]
            yield f"{folder}/{told['job']}", kept
    for plan in folder.glob("plan.json"):
        yield str(plan), {"text": json.loads(plan.read_text())}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".png", ".jpg", ".webp", ".tif") and "report" not in path.parts:
            with Image.open(path) as image:
                pixels = digest(np.asarray(image))
            yield str(path), {"pixels": pixels, "file": file_digest(path)}
    if thumbnails := sorted(map(file_digest, folder.glob("report/pictures/*"))):
        yield f"{folder}/report", {"files": thumbnails}  # their names follow from the files' times


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(array: Any) -> str:
    """sha256 over an array's type, shape and values."""
    whole = np.ascontiguousarray(array)
    head = f"{whole.dtype.str}{whole.shape}".encode()
    return hashlib.sha256(head + whole.tobytes()).hexdigest()


if __name__ == "__main__":
    main()
