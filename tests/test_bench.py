"""The benchmark: operations, peaks, timing, the peer, the report, the command, the script."""

import contextlib
import importlib.util
import io
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import run_benchmarks

from nst_jax.bench import benchmark as benchmark_module
from nst_jax.bench import peak as peaks
from nst_jax.bench.benchmark import benchmark
from nst_jax.bench.operations import Operations, step_operations
from nst_jax.bench.report import Report
from nst_jax.bench.settings import PeerForm, Settings
from nst_jax.bench.tables import batch_rows, headline_rows, replace_speed_section, speed_text
from nst_jax.bench.timing import Stats, interleave, ratio, summarize
from nst_jax.bench.torch_peer import TorchPeer
from nst_jax.bench.workload import Harness, Workload, synthetic_pair
from nst_jax.cli.main import run
from nst_jax.engine.plan.levels import level_edges
from nst_jax.engine.progress import NullProgress
from nst_jax.forecast import chips
from nst_jax.model import winograd
from nst_jax.model.objective import objective
from nst_jax.request.options import Options
from nst_jax.request.taps import VGG16, VGG19, Architecture

ROOT = Path(__file__).parents[1]

# Operations.


def published_channels(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """Input and output channels of each convolution of the published network."""
    names, channels, width = iter(architecture.convolutions), {}, 3
    for depth, out in zip(architecture.depths, architecture.channels, strict=True):
        for name in itertools.islice(names, depth):
            channels[name] = (width, out)
            width = out
    return channels


def count_operations(architecture: Architecture, channels: Any, **changes: Any) -> Operations:
    """Of a step on a canvas as large as the picture, unless another is given."""
    arguments = {"use_winograd": False, "canvas": changes["size"], **changes}
    return step_operations(architecture, channels, **arguments)


def default_operations(architecture: Architecture, side: int, **changes: Any) -> Operations:
    taps = {"content_taps": Options().content_taps, "style_taps": Options().style_taps}
    channels = published_channels(architecture)
    return count_operations(architecture, channels, size=(side, side), **(taps | changes))


ONE_LAYER: tuple[Any, ...] = (Architecture("one", (1,), (128,)), {"conv1_1": (64, 128)})
ONE_TAP = {"content_taps": ("conv1_1",), "style_taps": (), "use_winograd": True}


@pytest.mark.parametrize(
    ("architecture", "side", "deepest", "giga"),
    [
        (VGG16, 224, "relu5_3", 61.4),
        (VGG16, 256, "relu5_1", 75.4),
        (VGG16, 512, "relu5_1", 301.4),
        (VGG16, 1024, "relu5_1", 1205.5),
        (VGG19, 512, "relu5_1", 378.7),
    ],
)
def test_a_step_of_a_published_network_takes_the_operations_of_the_literature(
    architecture, side, deepest, giga
):
    """Twice the forward pass up to the deepest tap."""
    counted = default_operations(architecture, side, content_taps=(deepest,))
    assert counted.direct_convolutions == pytest.approx(giga * 1e9, rel=1e-3)


def test_the_operations_of_a_small_network_are_those_counted_by_hand():
    found = count_operations(
        Architecture("tiny", (1, 1), (2, 5)),
        {"conv1_1": (3, 2), "conv2_1": (2, 5)},
        content_taps=("relu2_1",),
        style_taps=("relu1_1",),
        size=(5, 4),
        canvas=(5, 8),
    )
    # Forward and back, products and sums, nine positions of the kernel; 5x4 pixels, then 2x2.
    assert found.direct_convolutions == 2 * 2 * 9 * (3 * 2 * 20 + 2 * 5 * 4)
    # Forward and back, products and sums, two channels by two, 5x4 positions.
    assert found.grams == 2 * 2 * 2 * 2 * 20
    # The same on the canvas: 5x8 pixels, then 2x4.
    assert found.executed == 2 * 2 * 9 * (3 * 2 * 40 + 2 * 5 * 8) + 2 * 2 * 2 * 2 * 40


def test_winograd_takes_36_products_for_16_outputs_and_its_transforms():
    """Additions of a transform, and multiplications by other than 1 and -1."""
    transform_in, transform_out = (
        sum(np.count_nonzero(row) - 1 for row in matrix)
        + np.count_nonzero((matrix != 0) & (np.abs(matrix) != 1))
        for matrix in (winograd._INPUT, winograd._OUTPUT)
    )
    products = 2 * 36 * 64 * 128 * 6  # of 2x3 tiles
    inputs = transform_in * (2 * 14 + 6 * 6) * 64
    outputs = transform_out * (6 + 4) * 6 * 128
    fast = count_operations(*ONE_LAYER, **ONE_TAP, size=(8, 6), canvas=(8, 10))
    assert fast.executed == 2 * (products + inputs + outputs)
    assert fast.direct_convolutions == 2 * 2 * 9 * 64 * 128 * 48


def test_the_compiler_counts_winograds_operations_alike():
    shapes = ((24, 20, 64), (6, 6, 64, 128))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    analysis = jax.jit(winograd.correlate).lower(*arrays).cost_analysis()
    counted = count_operations(*ONE_LAYER, **ONE_TAP, size=(24, 20))
    assert analysis["flops"] == pytest.approx(counted.executed / 2, rel=0.05)


def test_where_winograd_does_not_pay_it_is_not_counted():
    plain, fast = (default_operations(VGG16, 256, use_winograd=wanted) for wanted in (False, True))
    assert plain.executed == plain.direct_convolutions + plain.grams
    assert 0.25 < fast.executed / plain.executed < 0.6
    narrow = {"content_taps": ("relu1_1",), "style_taps": ("relu1_1",)}
    plain, fast = (
        default_operations(VGG16, 64, use_winograd=wanted, **narrow) for wanted in (False, True)
    )
    assert plain == fast


@pytest.mark.parametrize("chip", chips.CHIPS, ids=lambda chip: chip.kinds[0])
def test_every_known_chip_has_a_source_and_believable_peaks(chip):
    assert chip.source
    assert 1e13 < chip.bfloat16 < 1e16
    narrow = chip.tensorfloat32
    assert narrow is None or chip.bfloat16 / 2.1 < narrow < chip.bfloat16


def test_a_chip_is_known_by_its_full_name_alone_and_else_its_peak_is_measured():
    known = chips.published_peak("NVIDIA H100 80GB HBM3", "bfloat16")
    assert known == chips.Peak(989e12, known.source, measured=False)
    assert chips.published_peak("NVIDIA H100 PCIe", "bfloat16") is None
    assert chips.published_peak("NVIDIA GeForce RTX 4090", "tensorfloat32") is None
    found = peaks.find_peak(jax.devices()[0], "float32", side=64)
    assert found.measured
    assert "measured: float32 product of 64x64" in found.source
    assert found.operations_per_second > 0


# Timing.


def test_the_warm_up_is_left_out_and_subjects_take_turns():
    now, calls = [0.0], []

    def subject(name: str, *seconds: float) -> Callable[[], None]:
        """Each call turns the clock on by the next of its seconds."""
        left = iter(seconds)

        def call() -> None:
            calls.append(name)
            now[0] += next(left)

        return call

    subjects = {"ours": subject("ours", 100, 1, 2, 3), "peer": subject("peer", 200, 4, 5, 6)}
    seconds = interleave(subjects, 3, clock=lambda: now[0])
    assert seconds == {"ours": [1, 2, 3], "peer": [4, 5, 6]}
    assert calls == ["ours", "peer", "ours", "peer", "peer", "ours", "ours", "peer"]


def test_stats_are_the_median_with_both_ends_and_a_ratio_is_that_of_the_rounds_ratios():
    assert summarize([3.0, 1.0, 2.0, 9.0]) == Stats(2.5, 1.0, 9.0)
    assert Stats(2.0, 1.0, 4.0).map(lambda value: 1 / value) == Stats(0.5, 0.25, 1.0)
    peer, ours = [2.0, 30.0, 8.0], [1.0, 10.0, 8.0]
    assert ratio(peer, ours) == Stats(2.0, 1.0, 3.0)  # of the medians it would be 1


# The engine's step.


@pytest.fixture(scope="module")
def workload(narrow_file: str) -> Workload:
    options = Options(preset="gram", weights=narrow_file, dtype="float32")
    return Harness(options, NullProgress()).workload(synthetic_pair(40), 32, 2)


def test_a_workload_is_the_engines_own_step_on_a_full_batch_of_the_size_asked_for(workload):
    assert (workload.batch_size, workload.canvas) == (2, (32, 32))
    assert workload.pair.content.shape == (32, 32, 3)
    before = np.asarray(workload._states.step)
    images = workload.fetch_images()
    workload.run(3)
    np.testing.assert_array_equal(workload._states.step, before + 3)
    assert np.asarray(workload._states.finite).all()
    assert np.abs(workload.fetch_images() - images).max() > 0
    (step,) = (name for name in workload.compile_seconds if name.startswith("step"))
    assert step.startswith("step 32x32 x 2")
    assert workload.program_bytes == workload._programs.memory[step]
    # 3x4, 4x4 at 32 px, 4x8, 8x8 at 16, 8x8 three times at 8, 8x12, 12x12 twice at 4, 12x12 at 2.
    by_hand = 28 * 1024 + (32 + 64) * 256 + 3 * 64 * 64 + (96 + 288) * 16 + 144 * 4
    assert workload.operations.direct_convolutions == 2 * 2 * 9 * by_hand


def open_torch(workload: Workload, dtype: str, form: PeerForm = "eager") -> TorchPeer:
    pytest.importorskip("torch")
    return TorchPeer(
        workload.weights,
        workload.own,
        workload.pair.content,
        workload.pair.style,
        batch_size=2,
        platform="cpu",
        dtype=dtype,
        form=form,
    )


def measure_errors(peer: TorchPeer, workload: Workload) -> tuple[float, float]:
    """How far losses and gradients are from ours in float32, relative and by the norm."""
    images = np.random.default_rng(1).random((2, 32, 32, 3), dtype=np.float32)
    problems = workload._problems

    def total(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        each = jax.vmap(objective, in_axes=(0, None, 0, 0, 0))
        network = workload._programs.network
        asked = problems.size, problems.targets, problems.weights
        totals, _ = each(images, network, *asked)
        return totals.sum(), totals

    (_, losses), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(images)
    found_losses, found_gradient = peer.loss_and_gradient(images)
    assert found_losses.dtype == found_gradient.dtype == np.float32
    error = np.linalg.norm(found_gradient - gradient) / np.linalg.norm(gradient)
    return float(np.abs(found_losses / losses - 1).max()), float(error)


# The largest errors of losses and gradients. In bfloat16 some ReLUs and maxima let another value
# through than in float32, and our own gradient errs by 0.1 as well.
MOST_ERRORS = {"float32": (1e-5, 1e-5), "bfloat16": (2**-7, 0.2)}


@pytest.mark.parametrize("dtype", MOST_ERRORS)
def test_torchs_losses_and_gradients_are_ours(workload, dtype):
    loss_error, gradient_error = measure_errors(open_torch(workload, dtype), workload)
    assert loss_error < MOST_ERRORS[dtype][0]
    assert gradient_error < MOST_ERRORS[dtype][1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
@pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler"
)
@pytest.mark.parametrize("dtype", MOST_ERRORS)
def test_torchs_compiled_losses_and_gradients_are_ours(workload, monkeypatch, dtype):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it can't be compiled
    peer = open_torch(workload, dtype, "compile")
    loss_error, gradient_error = measure_errors(peer, workload)
    peer.release_memory()
    assert loss_error < MOST_ERRORS[dtype][0]
    assert gradient_error < MOST_ERRORS[dtype][1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torchs_convolutions_are_channels_last_and_in_the_type_asked_for(
    workload, monkeypatch, dtype
):
    torch = pytest.importorskip("torch")
    seen, convolve = [], torch.nn.functional.conv2d

    def watch(value: Any, kernel: Any, *others: Any, **options: Any) -> Any:
        seen.extend([value, kernel])
        return convolve(value, kernel, *others, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", watch)
    open_torch(workload, dtype).run(1)
    assert {each.dtype for each in seen} == {getattr(torch, dtype)}
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in seen)
    assert not any(each.is_contiguous() for each in seen)


# The command, once, with all that it can do.


@pytest.fixture(scope="module")
def record(narrow_file: str) -> dict[str, Any]:
    """What `bench --json` prints for the narrow network at 32 px."""
    line = ["bench", "--size", "32", "--rounds", "1", "--steps", "1", "--json"]
    line += ["--batch-size", "2", "--jobs", "2", "--weights", narrow_file, "--dtype", "float32"]
    if importlib.util.find_spec("torch"):
        line += ["--peer", "torch", "--peer-forms", "eager"]
        line += ["--peer-dtype", "float32", "bfloat16"]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(peaks, "_PRODUCT_SIDE", {"cpu": 128})
        assert run(line) == 0
    return json.loads(printed.getvalue())


def test_json_has_the_pinned_keys_first_and_tells_the_conditions(record):
    assert list(record)[:3] == ["image_steps_per_second", "peer", "ratio"]
    assert record["image_steps_per_second"] > 0
    assert record["style_loss"] == ("gram" if record["peer"] else "wasserstein")
    assert record["hardware"]["platform"] == "cpu"
    assert record["hardware"]["cores"] >= 1
    assert "measured" in record["hardware"]["peak"]["source"]
    assert {"python", "jax", "nst-jax"} <= set(record["versions"])
    assert set(record["phases"]) == {"compile", "targets", "steps", "transfer"}
    assert all(seconds > 0 for seconds in record["phases"].values())
    assert record["peak_memory_bytes"] > 2**20
    assert "process" in record["peak_memory"]["what"]


def test_rates_shares_and_images_an_hour_agree_with_the_seconds(record):
    (each,) = record["batch_sizes"]
    seconds = each["seconds_per_image_step"]["median"]
    assert record["image_steps_per_second"] == pytest.approx(1 / seconds, rel=1e-4)
    assert each["phases"]["steps"] == pytest.approx(seconds * 2, rel=1e-4)
    peak = record["hardware"]["peak"]["operations_per_second"]
    operations = record["operations_per_image_step"]
    for name, counted in (("direct", "direct_convolutions"), ("executed", "executed")):
        share = operations[counted] / seconds / peak
        assert record[f"share_of_peak_{name}"] == pytest.approx(share, rel=1e-4)
    levels = record["levels"]
    assert [level["size"] for level in levels] == list(
        level_edges(32, "auto", Options().level_ratio)
    )
    assert {level["steps"] for level in levels} == {Options().steps}
    seconds = sum(level["steps"] * level["seconds_per_image_step"] for level in levels)
    assert record["images_per_hour"] == pytest.approx(3600 / seconds, rel=1e-4)
    (jobs,) = record["jobs"]
    assert jobs["jobs"] == 2
    # From start to end, jobs take longer with their compilation.
    assert jobs["seconds_per_job"]["median"] > jobs["seconds_per_job_compiled"]["median"] > 0


def test_the_peer_is_raced_in_the_same_run(record):
    pytest.importorskip("torch")
    peers = record["batch_sizes"][0]["peers"]
    assert [(peer["form"], peer["dtype"]) for peer in peers] == [
        ("eager", "float32"),
        ("eager", "bfloat16"),
    ]
    best = min(peers, key=lambda peer: peer["seconds_per_image_step"]["median"])
    assert (record["peer"], record["peer_form"]) == ("torch", "eager")
    assert record["peer_dtype"] == best["dtype"]
    assert record["ratio"] == pytest.approx(best["ratio"]["median"])
    assert "torch" in record["versions"]


# The same from a fake engine.


class FakeWorkload(Workload):
    """A batch whose step does nothing."""

    def __init__(self, size: int, batch_size: int) -> None:
        self.pair, self.canvas, self.batch_size = synthetic_pair(8), (size, size), batch_size
        self.operations = Operations(1000, 10, 500)
        self.compile_seconds, self.target_seconds = {"step": 2.0, "grams": 1.0}, 0.5
        self.program_bytes = None

    def run(self, steps: int) -> None: ...

    def fetch_images(self) -> np.ndarray:
        return np.zeros((self.batch_size, *self.canvas, 3), np.float32)


def fake_harness(*_: object) -> SimpleNamespace:
    """An engine that renders in no time."""
    device = SimpleNamespace(platform="gpu", device_kind="a GPU")
    device.memory_stats = lambda: {"peak_bytes_in_use": 3 * 2**20}
    weights, devices = SimpleNamespace(source="a fake"), SimpleNamespace(count=1)
    return SimpleNamespace(
        device=device,
        dtype="bfloat16",
        session=SimpleNamespace(weights=weights, devices=devices),
        workload=lambda pair, size, batch_size: FakeWorkload(size, batch_size or 16),
        level_sizes=lambda *_: [(128, 50), (256, 100)],
        render=lambda *_: 0.0,
    )


class FakePeer(TorchPeer):
    """A peer that can't be compiled, without torch."""

    version, threads, batch_size = "9.9", 1, 0

    def __init__(self, form: PeerForm, dtype: str, batch_size: int) -> None:
        self.form, self.dtype, self.batch_size = form, dtype, batch_size

    def run(self, steps: int) -> None:
        if self.form == "compile":
            raise RuntimeError("no compiler here\nand more")

    def release_memory(self) -> None: ...


def fake_report(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Report:
    monkeypatch.setattr(benchmark_module, "Harness", fake_harness)
    known = chips.Peak(1e12, "a table", measured=False)
    monkeypatch.setattr(benchmark_module, "find_peak", lambda *_, **__: known)

    def torch_peer(self: Any, workload: Workload, form: PeerForm, dtype: str) -> FakePeer:
        return FakePeer(form, dtype, self._settings.peer_batch_size or workload.batch_size)

    monkeypatch.setattr(benchmark_module._Benchmark, "_open_torch_peer", torch_peer)
    monkeypatch.setattr("nst_jax.bench.settings.check_installed", lambda *_, **__: None)
    return benchmark(Settings(rounds=2, weights="x", **settings))


def test_the_headline_is_the_fastest_batch_size_or_the_planners(monkeypatch):
    report = fake_report(monkeypatch, batch_sizes=(1, 64, 2))
    assert len(report.measurements) == 3
    fastest = max(report.measurements, key=lambda one: one.image_steps_per_second)
    assert report.record()["batch_size"] == fastest.batch_size
    record = fake_report(monkeypatch).record()
    assert record["batch_size"] == 16
    told = ("peer", "ratio", "peer_form", "peer_dtype")
    assert [record[name] for name in told] == [None] * 4
    assert record["peak_memory_bytes"] == 3 * 2**20, "the device's own count"


def test_a_form_of_the_peer_that_does_not_run_is_noted_and_the_other_counts(monkeypatch):
    record = fake_report(monkeypatch, peer="torch").record()
    eager, compiled = record["batch_sizes"][0]["peers"]
    assert (record["peer_form"], eager["note"]) == ("eager", "")
    assert compiled["note"] == "RuntimeError: no compiler here"
    assert compiled["ratio"] is None
    assert record["peer_dtype"] == compiled["dtype"] == "bfloat16", "as ours"


def test_a_peer_of_one_picture_at_a_time_is_compared_by_the_picture(monkeypatch):
    seconds = {"ours": [2.0, 2.0], "eager bfloat16": [1.0, 1.0]}
    monkeypatch.setattr(benchmark_module, "interleave", lambda *_: seconds)
    asked: dict[str, Any] = {"peer": "torch", "steps": 2, "batch_sizes": (8,)}
    (alone,) = fake_report(monkeypatch, **asked, peer_batch_size=1).measurements
    (full,) = fake_report(monkeypatch, **asked).measurements
    assert alone.seconds_per_image_step.median == full.seconds_per_image_step.median == 2 / 16
    ratios = [one.peers[0].ratio for one in (alone, full)]
    assert [one.median for one in ratios if one] == [4.0, 0.5]


def test_a_plot_is_drawn(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    from nst_jax.bench.plotting import write_plot

    write_plot(fake_report(monkeypatch, peer="torch", jobs=(1, 2)), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


# Wrong requests.


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--rounds 0", "rounds must be"),
        ("--size 15", "size must be from 16 px"),
        ("--batch-size 4 0", "batch_size must be"),
        ("--batch-size 4 4", "batch_size must not name a number twice"),
        ("--jobs -1", "jobs must be"),
        ("--steps 0", "steps must be"),
        ("--content cat.jpg", "style is missing"),
        ("--peer-dtype bfloat16", "peer_dtype needs a peer"),
        ("--peer torch --peer-dtype float32 float32", "peer_dtype must not name a type twice"),
        ("--plot nowhere/plot.png", "plot must go into a folder that exists"),
        ("--content no.png --style no.png --quiet", "'no.png' does not exist"),
    ],
)
def test_a_wrong_request_is_told_before_any_work(capsys, monkeypatch, narrow_file, line, said):
    monkeypatch.setattr("nst_jax.cli.bench.check_installed", lambda *_, **__: None)
    assert run(["bench", "--weights", narrow_file, *line.split()]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("line", "extra"), [("--peer torch", "torch"), ("--plot plot.png", "plots")]
)
def test_an_extra_that_is_missing_is_named_with_its_remedy(capsys, monkeypatch, line, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(["bench", *line.split()]) == 2
    assert f"pip install 'nst-jax[{extra}]'" in capsys.readouterr().err


# What is committed.


def test_tables_show_every_subject_and_the_speed_part_of_the_readme_is_made_from_records(
    monkeypatch,
):
    asked: dict[str, Any] = {"peer": "torch", "batch_sizes": (1, 4), "peer_dtypes": ("float32",)}
    report = fake_report(monkeypatch, **asked)
    names = ("ours", "torch eager float32", "torch compile float32")
    assert [row[:2] for row in batch_rows(report)[1:]] == [
        (batch, name) for batch in ("1", "4") for name in names
    ]
    assert dict(headline_rows(report))["seconds of torch over ours"].endswith(", eager float32")
    assert dict(headline_rows(report))["device"] == "a GPU (gpu)"
    device = {"device": "a device", "date": "2030-01-02", "command": "a command"}
    text = speed_text({**device, "runs": [report.record()]})
    document = replace_speed_section("a\n<!-- speed -->\nold\n<!-- /speed -->\nb\n", text)
    assert document.startswith("a\n<!-- speed -->\nSeconds for one step")
    assert document.endswith("|\n<!-- /speed -->\nb\n")
    assert "old" not in document
    assert "a command" in text
    assert text.count("(eager float32)") == 2
    older = report.record()
    for peer in [peer for each in older["batch_sizes"] for peer in each["peers"]]:
        del peer["dtype"]  # then the peer computed in what ours did
    assert speed_text({**device, "runs": [older]}).count("(eager bfloat16)") == 2
    assert [line.split(" | ")[:2] for line in text.splitlines()[-2:]] == [
        ["| 256 px, bfloat16", "1"],
        ["| 256 px, bfloat16", "4"],
    ]


def test_a_document_without_both_markers_is_not_touched_and_the_readme_has_them():
    for document in ("", "<!-- speed -->", "<!-- /speed -->\n<!-- speed -->"):
        with pytest.raises(ValueError, match="speed"):
            replace_speed_section(document, "text")
    assert "new text" in replace_speed_section((ROOT / "README.md").read_text(), "new text")


def test_a_run_replaces_the_one_of_its_size_and_type_and_pages_are_written(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["run_benchmarks.py", "--rounds", "2"])
    for size in (256, 64, 256):
        run_benchmarks._keep(fake_report(monkeypatch, size=size).record(), tmp_path)
    device = json.loads((tmp_path / "a-gpu.json").read_bytes())
    assert [run["size"] for run in device["runs"]] == [64, 256]
    assert device["command"] == "python scripts/measure/run_benchmarks.py --rounds 2"
    readme = tmp_path / "README.md"
    readme.write_text("<!-- speed -->\n<!-- /speed -->\n")
    run_benchmarks._write_pages(tmp_path, readme)
    assert "| 64 px, bfloat16 | 16 |" in readme.read_text()
    assert "## 256 px, bfloat16" in (tmp_path / "a-gpu.md").read_text()


def test_the_standard_set_can_be_narrowed_and_a_trial_lands_nowhere_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--sizes", "256", "--peer", "none"])
    arguments = run_benchmarks._arguments()
    assert [one.size for one in run_benchmarks._standard_set("cpu", arguments)] == [256]
    on_gpu = list(run_benchmarks._standard_set("gpu", arguments))
    assert [(one.dtype, one.size) for one in on_gpu] == [("bfloat16", 256), ("tensorfloat32", 256)]
    monkeypatch.setattr(sys, "argv", ["x", "--trial"])
    with pytest.raises(SystemExit):
        run_benchmarks._arguments()
    assert "--trial needs" in capsys.readouterr().err
