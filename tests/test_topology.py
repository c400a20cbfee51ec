"""`nst-jax plan --topology`: names of TPU slices, and a run compiled for one without a TPU."""

import importlib.util
import json
import re

import jax
import pytest
from engine_jobs import tiny_options
from jax.experimental import topologies as jax_topologies

from nst_jax.cli.main import run
from nst_jax.engine.device.program_shapes import ProgramShapes
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.plan.program_list import StepBatch
from nst_jax.engine.progress import NullProgress
from nst_jax.forecast import topologies
from nst_jax.forecast.chips import CHIPS, published_peak
from nst_jax.forecast.compiled_step import CompiledStep, analyze_step
from nst_jax.forecast.report import StepReport
from nst_jax.forecast.roofline import StepRoofline
from nst_jax.forecast.topologies import FAMILIES, open_topology, parse_topology
from nst_jax.request.errors import OptionError
from nst_jax.request.options import StaticOptions

TAPS = ["--content-taps", "relu2_1", "--style-taps", "relu1_1", "relu2_1"]
SHALLOW = ["--content-taps", "relu1_1", "--style-taps", "relu1_1", "--levels", "1"]
PLAN = ["plan", "--preset", "gram", "--size", "48", "--levels", "2", "--steps", "4", *TAPS]

NEEDS_LIBTPU = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install 'nst-jax[tpu]'",
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """What the command tells libtpu ends with the test."""
    names = ("SKIP_MDS_QUERY", "ACCELERATOR_TYPE", "WORKER_HOSTNAMES", "LOG_DIR")
    for name in (*(f"TPU_{name}" for name in names), "ALLOW_MULTIPLE_LIBTPU_LOAD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.fixture
def faked(monkeypatch):
    """Processors in the place of a topology's chips; gives what libtpu would be asked."""
    asked = []

    def get_topology_desc(name, platform, **options):
        asked.append((name, platform, options))
        return jax_topologies.TopologyDescription(jax.devices()[:4])

    monkeypatch.setattr(topologies, "_check_libtpu", lambda: None)
    monkeypatch.setattr(jax_topologies, "get_topology_desc", get_topology_desc)
    return asked


@pytest.fixture
def plan(narrow_file, capsys):
    """Plans the narrow network; returns what is said: status, output and error."""

    def plan(*line):
        status = run([*PLAN, "--weights", narrow_file, *line])
        return status, *capsys.readouterr()

    return plan


@pytest.fixture
def refuse(plan):
    """Plans what must be refused in one line; returns that."""

    def refuse(topology, *line):
        status, _, error = plan("--topology", topology, *line)
        assert status == 2
        assert len(error.splitlines()) == 1
        return error

    return refuse


# Names.


def test_every_example_of_a_family_is_one_and_has_a_chip_with_all_that_a_roofline_needs():
    for name, family in FAMILIES.items():
        for grid in family.examples:
            found, sides = parse_topology(f"{name}:{grid}")
            assert found is family
            assert "x".join(map(str, sides)) == grid
        (chip,) = (chip for chip in CHIPS if family.kind in chip.kinds)
        assert chip.memory_bytes in (16e9, 32e9, 96e9)
        assert 5e11 < chip.bytes_per_second < 5e12


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nonsense", "v5e", "v5e:", "v5e:2", "v5e:0x2"], "v5e:2x2"),
        (["v5e:2x2x2x2", "v5e:²x2", "v5e:2x2\n"], "v5e:2x2"),
        (["h100:2x2"], "v4, v5e, v5p, v6e"),
        (["v5e:2x2x1", "v5e:17x1"], "v5e:16x16"),
        (["v5p:2x2", "v5p:28x28x28"], "v5p:2x2x1"),
    ],
)
def test_a_name_that_is_none_is_status_2_in_one_line(faked, refuse, names, said):
    for name in names:
        error = refuse(name)
        assert "topology must" in error
        assert said in error
    assert faked == [], "libtpu was asked"


def test_without_libtpu_the_extra_is_named(monkeypatch, refuse):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "nst-jax[tpu]" in refuse("v5e:2x2")


def test_what_libtpu_or_the_compiler_refuses_is_a_wrong_request(faked, monkeypatch, refuse):
    def fails_with(message):
        def fail(*_, **__):
            raise jax.errors.JaxRuntimeError(f"{message}\nmore\nlines")

        return fail

    exhausted = fails_with("RESOURCE_EXHAUSTED: Ran out of memory")
    monkeypatch.setattr(ProgramCache, "compile", exhausted)
    assert "Ran out of memory. Lower --batch-size or --size" in refuse("v5e:2x2")
    refused = fails_with("INVALID_ARGUMENT: not divisible")
    monkeypatch.setattr(jax_topologies, "get_topology_desc", refused)
    assert "not divisible. Known are v5e:1x1" in refuse("v5e:3x3")


@pytest.mark.parametrize(
    ("name", "options", "accelerator"),
    [
        ("v5e:2x2", {}, "v5litepod-4"),
        ("v5e:1x1", {"chips_per_host_bounds": (1, 1, 1)}, "v5litepod-1"),
        ("v6e:2x4", {"chips_per_host_bounds": (2, 4, 1)}, "v6e-8"),
        ("v5p:2x2x1", {"chip_config_name": "megacore"}, "v5p-8"),
    ],
)
def test_libtpu_is_told_what_it_would_ask_the_machine(faked, name, options, accelerator):
    open_topology(name)
    assert faked == [(name, "tpu", options)]
    assert topologies.os.environ["TPU_ACCELERATOR_TYPE"] == accelerator
    assert topologies.os.environ["TPU_SKIP_MDS_QUERY"] == "1"


# The plan.


def test_the_pinned_names_are_there(faked, plan):
    line = ["--topology", "v5e:2x2", "--dtype", "bfloat16", "--batch-size", "8", "--json"]
    status, out, _ = plan(*line)
    assert status == 0
    plan = json.loads(out)
    assert plan["collectives"] == 0
    assert plan["batch_size"] == 8
    assert plan["jobs"] == 32, "a wave of pictures stands for a run"
    assert plan["topology"]["name"] == "v5e:2x2"
    assert plan["topology"]["chips"] == 4
    assert plan["device"]["memory_bytes"] == int(0.8 * 16e9)
    assert plan["batch_that_fits"] % 4 == 0
    assert "estimate" in plan["seconds_are"]
    assert plan["images_per_hour"] == pytest.approx(3600 * 32 / plan["seconds"])
    assert [one["canvas"] for one in plan["canvases"]] == [[24, 24], [48, 48]]
    for one in plan["canvases"]:
        (step,) = one["steps"]
        assert step["bytes_per_chip"] == one["bytes_per_chip"]
        assert step["batch_steps"] == 4 * 4, "4 batches of 8, 4 steps each"
        assert step["compile_seconds"] > 0
        assert step["bytes_accessed_per_image_step"] > one["bytes_per_chip"] / 8
        # The compiler counts Grams, masks and the optimiser beside the convolutions.
        assert 1 < step["flops_per_image_step"] / one["flops_per_image_step"] < 2
    assert plan["bytes_per_chip"] == max(one["bytes_per_chip"] for one in plan["canvases"])
    assert not any(name.startswith("content") for name in plan["compiled"]), "no rate is measured"


def test_a_batch_size_beyond_a_wave_is_a_full_batch(faked, plan):
    _, out, _ = plan("--topology", "v5e:2x2", *SHALLOW, "--batch-size", "64", "--json")
    told = json.loads(out)
    assert told["jobs"] == told["batch_size"] == 64
    assert told["notes"] == [
        "no peak is published for what the network computes in: no estimate of time"
    ]
    assert told["seconds"] is None
    assert told["images_per_hour"] is None


def test_the_table_says_what_is_an_estimate(faked, plan):
    line = ["--topology", "v5e:2x2", "--dtype", "bfloat16", "--quiet", *SHALLOW]
    status, out, error = plan(*line)
    assert (status, error) == (0, "")
    for text in ("48x48", "estimate", "roofline", "197 TFLOP/s", "810 GB/s", "collectives"):
        assert text in out, text
    assert max(map(len, out.split("topology ")[0].splitlines())) <= 80


def test_a_picture_beyond_the_chips_memory_is_refused(faked, refuse):
    assert "device's memory of 12.8 GB" in refuse("v5e:2x2", "--size", "16384")


def test_the_roofline_is_the_slower_of_products_and_traffic():
    def forecast(flops, accessed):
        seen = CompiledStep(1000, [], 2 * flops, 2 * accessed, network_bytes=200)
        chip = published_peak("TPU v5e", "bfloat16")
        return StepRoofline(StepReport("gram", 4, 10, seen), 2, 2200, chip, 810e9)

    slow_products, slow_traffic = forecast(197e12, 81e9), forecast(197e11, 810e9)
    assert (slow_products.chip_seconds, slow_products.bound_by) == (1, "operations")
    assert (slow_traffic.chip_seconds, slow_traffic.bound_by) == (1, "bytes")
    assert slow_traffic.seconds == 20
    assert slow_traffic.slots_that_fit == 5, "200 bytes for all, 400 a slot"


# The real compiler.

_HOST_TRANSFERS = r"\b(?:infeed|outfeed|send|recv)(?:-done)?\(|custom_call_target=\"[^\"]*[hH]ost"


@NEEDS_LIBTPU
@pytest.mark.slow
def test_a_step_compiled_for_tpus_is_bfloat16_and_keeps_to_itself(narrow_file):
    topology = open_topology("v5e:2x2")
    options = tiny_options(narrow_file)
    session = open_session(options, topology.devices)
    assert session.precision.name == "bfloat16"
    assert not session.use_winograd
    structure = StaticOptions(options.content_taps, options.style_taps)
    devices = topology.devices
    bucket = Bucket((48, 48), static_options=structure)
    programs = ProgramCache(session.network(options.style_taps), devices, NullProgress())
    seen = analyze_step(programs, bucket, 8, options)
    assert seen.collectives == []
    assert seen.bytes_per_device is not None
    assert 0 < seen.network_bytes < seen.bytes_per_device < 16e9
    assert seen.flops_per_device
    assert seen.bytes_accessed_per_device

    step = ProgramShapes(programs, options).find(StepBatch(bucket, 8))
    text = step.compile().as_text()
    assert "num_partitions=4" in text
    assert re.search(r"\bwhile\(", text)
    convolutions = re.findall(r"= (\w+)\[[^=]*? convolution\(.*op_name=\"([^\"]*)\"", text)
    layers = [dtype for dtype, name in convolutions if name.endswith("conv_general_dilated")]
    assert set(layers) == {"bf16"}
    assert re.findall(_HOST_TRANSFERS, text) == []


@NEEDS_LIBTPU
@pytest.mark.slow
def test_what_libtpu_itself_refuses_is_told():
    with pytest.raises(OptionError, match=r"3x3.*not divisible"):
        open_topology("v5e:3x3")
