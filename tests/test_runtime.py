"""JAX's settings of a process: a device a core, programs on disk. No run fails for the cache."""

import contextlib
import importlib.metadata
import itertools
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from batch_runs import TINY
from engine_jobs import FIRST_TAPS, Studio, image_of, tiny_job, tiny_options
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from nst_jax import Options
from nst_jax.cli.job_arguments import open_run
from nst_jax.cli.main import run
from nst_jax.engine.device import runtime
from nst_jax.engine.device.runtime import CACHE_VARIABLE, cache_folder, persistent_cache
from nst_jax.engine.plan.devices import PRECISIONS, Devices
from nst_jax.engine.plan.local_devices import find_devices
from nst_jax.request.errors import OptionError

FOLDER = "jax_compilation_cache_dir"


@pytest.fixture(autouse=True)
def without_the_cache_of_the_session():
    """Else nothing would be compiled here at all. Settings are afterwards as they were."""
    names = (FOLDER, *runtime._SETTINGS)
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(FOLDER, None)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Where programs are kept while the test lasts."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "programs"))
    jax.clear_caches()
    return tmp_path / "programs"


def render_anew(weights, **changes):
    """A picture and the programs of a new engine, which remembers nothing."""
    jax.clear_caches()
    studio = Studio(tiny_options(weights, levels=1, **changes))
    (result,) = studio.render([tiny_job(0, **FIRST_TAPS)])
    return image_of(result), studio.programs


def compile_anew():
    """A program that no other test has compiled."""
    jax.jit(lambda x: x + np.float32(next(_NUMBERS))).lower(1.0).compile()


_NUMBERS = itertools.count(100)


def kept_in(root):
    return [path.name for path in root.rglob("*-cache")]


@pytest.fixture
def working_root(root):
    """On some CPUs the backend rejects what it has stored itself (jax-ml/jax#38445)."""
    for _ in range(2):
        with persistent_cache() as folder:
            pass
    if folder is None:
        pytest.skip("this CPU rejects what its compiler stored")
    return root


# Programs on disk.


def test_a_second_engine_loads_what_the_first_compiled(narrow_file, working_root):
    """Another batch size is another program; a damaged entry is compiled anew."""
    with persistent_cache():
        first, programs = render_anew(narrow_file)
    assert programs.loaded == set()
    with persistent_cache():
        second, others = render_anew(narrow_file)
        _, smaller = render_anew(narrow_file, batch_size=2)
    assert others.loaded == set(others.compiled) == set(programs.compiled)
    assert second.tobytes() == first.tobytes()
    assert others.memory == programs.memory
    missed = sorted(name.split()[0] for name in set(smaller.compiled) - smaller.loaded)
    assert missed == ["open", "step", "take"]

    for path in working_root.rglob("*run_chunk*-cache"):
        path.write_bytes(path.read_bytes()[:100])
    with persistent_cache(), pytest.warns(UserWarning, match="persistent compilation cache"):
        third, mended = render_anew(narrow_file)
    assert [name.split()[0] for name in set(mended.compiled) - mended.loaded] == ["step"]
    assert third.tobytes() == first.tobytes()


def test_a_second_process_loads_what_the_first_compiled(root):
    program = (
        "import jax; from nst_jax.engine.device.runtime import *\n"
        "with persistent_cache() as folder, count_cache_hits() as loads:\n"
        "    jax.jit(lambda x: x * 3).lower(1.0).compile()\n"
        "print(loads.count, folder is not None)"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program]
    first, second = (
        subprocess.check_output(command, text=True, env=environment).split() for _ in range(2)
    )
    if second[1] == "False":
        pytest.skip("this CPU rejects what its compiler stored")
    assert first == ["0", "True"]
    # Its own tiny program came back before it was watched.
    assert second in (["2", "True"], ["1", "True"])


@pytest.mark.parametrize("value", ["", "off", "OFF", " "])
def test_it_can_be_switched_off(root, monkeypatch, value):
    monkeypatch.setenv(CACHE_VARIABLE, value)
    with persistent_cache() as folder:
        assert getattr(jax.config, FOLDER) is None
        compile_anew()
    assert folder is None
    assert not root.exists()


def test_a_library_call_keeps_nothing(narrow_file, root):
    _, programs = render_anew(narrow_file)
    assert programs.loaded == set()
    assert not root.exists()


def test_jax_is_left_as_it_was_also_by_a_run_that_fails(root):
    names = (FOLDER, *runtime._SETTINGS)
    before = [getattr(jax.config, name) for name in names]
    with contextlib.suppress(KeyError), persistent_cache() as folder:
        assert getattr(jax.config, FOLDER) == str(folder)
        compile_anew()
        raise KeyError("of the run")
    assert [getattr(jax.config, name) for name in names] == before
    kept = len(kept_in(root))
    assert kept
    compile_anew()
    assert len(kept_in(root)) == kept


def test_a_folder_that_can_not_be_made_or_written_is_no_fault(root):
    with (
        mock.patch.object(Path, "touch", side_effect=PermissionError),
        persistent_cache() as folder,
    ):
        compile_anew()
    assert folder is None
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir()
    root.rmdir()
    root.write_text("a file is in the way")
    with persistent_cache() as folder:
        compile_anew()
    assert folder is None


@pytest.mark.parametrize(
    ("name", "home"),
    [
        *(("HOME", home) for home in (None, "", "a/relative/one")),
        (CACHE_VARIABLE, "~no_such_user/here"),
    ],
)
def test_without_a_home_there_is_no_cache(homeless, tmp_path, monkeypatch, name, home):
    monkeypatch.chdir(tmp_path)
    if home is not None:
        monkeypatch.setenv(name, home)
    with persistent_cache() as folder:
        compile_anew()
    assert folder is None
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_name_keeps_programs_in_a_folder_that_was_named(homeless, root):
    root.parent.mkdir(exist_ok=True)
    with mock.patch.dict(os.environ, {CACHE_VARIABLE: str(root)}), persistent_cache():
        for _ in range(2):  # JAX looks at the first one to make room for the second
            compile_anew()
    assert len(kept_in(root)) == 3, "the tiny one that shows that it works, and both"


def test_a_machine_that_rejects_what_it_stored_goes_without(root):
    """As if nothing ever came back: the first try can't know, the second does."""
    with mock.patch.object(runtime, "_HIT", "an event that never comes"):
        with persistent_cache() as first:
            assert getattr(jax.config, FOLDER) == str(first)
        with persistent_cache() as second:
            assert getattr(jax.config, FOLDER) is None
    assert first is not None
    assert second is None


def test_a_cache_that_the_user_has_set_up_is_left_alone_but_for_a_folder_of_ours(
    tmp_path, monkeypatch
):
    own, ours = tmp_path / "own", tmp_path / "ours"
    for name, value in ({FOLDER: str(own)} | runtime._SETTINGS).items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    with persistent_cache() as folder:
        assert getattr(jax.config, FOLDER) == str(own)
        compile_anew()
    assert folder is None
    before = len(kept_in(own))
    assert before
    monkeypatch.setenv(CACHE_VARIABLE, str(ours))
    with persistent_cache():
        compile_anew()
    assert len(kept_in(own)) == before
    assert kept_in(ours)


def test_programs_go_to_the_users_cache_by_default_a_folder_for_each_build(monkeypatch, tmp_path):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    with mock.patch("platformdirs.user_cache_dir", return_value=str(tmp_path)) as asked:
        here = cache_folder()
        with mock.patch.object(jax, "__version__", "99.0"):
            newer = cache_folder()
        with mock.patch.object(runtime, "_processor", return_value="another"):
            elsewhere = cache_folder()
        assert cache_folder() == here
    asked.assert_called_with("nst_jax")
    assert here is not None
    assert here.parent == tmp_path / "programs"
    assert jax.__version__ in here.name
    assert "cpu" in here.name
    assert len({here, newer, elsewhere}) == 3


BUILD = "jax-0.10.{}-jaxlib-0.10.{}-cpu-0123456789ab"


def keep(root, build, names, *, used=None):
    """Programs of 1000 bytes as another run has left them."""
    folder = root / BUILD.format(build, build)
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}-cache").write_bytes(bytes(1000))
    (folder / "tried").touch()
    os.utime(folder / "tried", (build, build))
    return folder


def test_kept_programs_are_bounded_and_the_oldest_make_room(root, monkeypatch):
    """Those of other builds as a whole; those of this one as JAX does, also without a time."""
    with persistent_cache() as folder:
        compile_anew()
    (folder / "tried").unlink()
    kept = len(kept_in(root))
    for path in root.rglob("*-atime"):
        path.unlink()  # as it was without a bound
    size = sum(path.stat().st_size for path in root.rglob("*-cache"))
    old, new = keep(root, 1, "abc"), keep(root, 2, "de")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", str(size + 3500))
    with persistent_cache():
        assert (kept_in(old), len(kept_in(new)), len(kept_in(folder))) == ([], 2, kept)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", str(size))
    (folder / "tried").unlink()
    with persistent_cache():
        for _ in range(3):
            compile_anew()
    assert kept_in(new) == []
    assert sum(path.stat().st_size for path in folder.glob("*-cache")) <= size
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "0")
    with persistent_cache() as none:
        assert none is None


def test_kept_programs_are_shown_and_cleared_and_nothing_else(root, capsys, monkeypatch):
    keep(root, 1, "ab")
    foreign = [root / "jax.txt", keep(root, 2, "c") / "mine"]
    for path in foreign:
        path.touch()
    told = {"folder": str(root), "programs": 3, "bytes": 3000, "limit_bytes": 2 * 10**9}
    for flags, count in (((), 3), (("--clear",), 3), ((), 0)):
        assert run(["programs", "--json", *flags]) == 0
        answer = json.loads(capsys.readouterr().out)
        told |= {"programs": count, "bytes": count * 1000, "cleared": bool(flags)}
        assert answer == told
    assert [path for path in root.rglob("*") if path.is_file()] == foreign
    assert run(["programs"]) == 0
    assert "0 programs, 0.0 MB of 2000.0 MB at most" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("off", "NST_JAX_CACHE_DIR is off"),
        ("", "NST_JAX_CACHE_DIR is empty"),
        (None, "this user has no home"),
        ("~no_such_user/here", "'~no_such_user/here' is a home that nobody has"),
        ("{root}/file/below", "'{root}/file' is no folder"),
        ("{root}/locked", "'{root}/locked' may not be written"),
    ],
)
def test_why_no_programs_are_kept_is_said(
    homeless, tmp_path, narrow_file, capsys, monkeypatch, told, why
):
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir()
    able = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "locked" not in str(path) and able(path, mode)
    )
    monkeypatch.setenv("HOME", "")
    if told is not None:
        monkeypatch.setenv(CACHE_VARIABLE, told.format(root=tmp_path))
    why = why.format(root=tmp_path)
    assert run(["programs", "--clear"]) == 0
    assert capsys.readouterr().out == f"no programs are kept from run to run: {why}\n"
    with open_run(Options(weights=narrow_file), quiet=True):
        pass
    said = f"NST_JAX_CACHE_DIR can't be used, so programs are compiled anew: {why}"
    assert (said in capsys.readouterr().err) == (told not in (None, "", "off"))


@pytest.mark.parametrize("limit", ["abc", "-5", "", "1.5"])
def test_a_bound_of_kept_programs_that_is_none_is_refused(root, capsys, monkeypatch, limit):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", limit)
    assert run(["programs"]) == 2
    assert capsys.readouterr().err.endswith(f"or -1 for any number, got {limit!r}\n")
    with pytest.raises(OptionError, match="must be a number of bytes"), persistent_cache():
        pass


def test_a_program_that_is_larger_than_the_bound_is_not_kept_and_not_warned_of(root, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "10")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with persistent_cache():
            compile_anew()
    assert not said
    assert kept_in(root) == []


# Which devices.


@pytest.fixture
def config():
    """Changes JAX's configuration for all threads, and afterwards changes it back."""
    before = {}

    def change(name, value):
        before[name] = getattr(jax.config, name)
        jax.config.update(name, value)

    yield change
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("jax_platforms", asked) for asked in ("cuda", "tpu", "paper", "cuda,cpu", "cpu,cuda")),
        ("jax_default_device", "gpu"),
    ],
)
def test_a_platform_that_is_not_there_is_refused_not_replaced(config, capsys, name, value):
    config(name, value)
    assert run(["plan", *TINY]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"={value}" in said
    assert "finds only cpu here" in said


def test_a_gpu_that_was_installed_for_and_is_not_found_is_always_said(
    config, capsys, files, monkeypatch, narrow_file, tmp_path
):
    line = ["render", *map(str, files), *TINY, "--weights", narrow_file, "--quiet"]
    installed = importlib.metadata.distribution
    packages = {"nvidia-cudnn-cu12": "numpy"}
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: installed(packages.get(name, name))
    )
    config("jax_platforms", None)
    assert run([*line, "--output", str(tmp_path / "x.png")]) == 0
    assert re.match("nst-jax: nvidia-cudnn-cu12 .* runs on the CPU", capsys.readouterr().err)
    jax.config.update("jax_platforms", "cpu")  # so it is meant
    assert run([*line, "--output", str(tmp_path / "y.png")]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["device", "platform"])
def test_a_device_that_the_user_has_chosen_is_the_one(config, kind):
    chosen = jax.devices()[3 if kind == "device" else 0]
    config("jax_default_device", chosen if kind == "device" else "cpu")
    assert find_devices() == [chosen]


def test_a_line_says_what_this_runs_on(monkeypatch):
    monkeypatch.setattr("nst_jax.engine.plan.devices.usable_cores", lambda: 2)
    told = {"platform": "gpu", "device_kind": "NVIDIA H100", "memory_stats": lambda: STATS}
    gpus = [mock.Mock(**told) for _ in range(8)]
    lines = [
        Devices(mock.Mock(Mesh, devices=np.array(devices))).text(PRECISIONS[precision])
        for devices, precision in ((jax.devices()[:2], "float32"), (gpus, "bfloat16"))
    ]
    assert lines == [
        "2 CPU devices, float32, 2 cores",
        "8 NVIDIA H100, bfloat16, 640 GB usable",
    ]


STATS = {"bytes_limit": 80 * 10**9}


# JAX's own switches.

SWITCHES = {
    "jax_debug_infs": True,
    "jax_debug_nans": True,
    "jax_disable_jit": True,
    "jax_check_tracer_leaks": True,
    "jax_enable_x64": True,
    "jax_transfer_guard": "disallow",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_default_matmul_precision": "bfloat16",
}


def test_switches_of_jax_change_no_picture(narrow_file, config):
    """In all threads; programs are made anew."""
    first, _ = render_anew(narrow_file)
    for name, value in SWITCHES.items():
        config(name, value)
    picture, _ = render_anew(narrow_file)
    assert picture.tobytes() == first.tobytes()


@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({name: str(value) for name, value in SWITCHES.items()} | {"jax_no_tracing": "1"}, 0),
        ({"JAX_ENABLE_X64": "0", "JAX_NUM_CPU_DEVICES": "many"}, 2),
        ({"JAX_DEFAULT_DEVICE": "paper"}, 2),
        ({"JAX_PLATFORMS": "cuda"}, 2),
        ({"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "0"}, 2),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=0"}, 2),
        ({"XLA_FLAGS": "--xla_dump_hlo_as_text=false --nonsense"}, 2),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=many"}, 2),
        ({"XLA_FLAGS": "--xla_dump_hlo_as_text=false"}, 0),
    ],
)
def test_variables_of_jax_are_met_without_a_defect(variables, status, narrow_file):
    """Also by commands that have nothing to do with the engine."""
    told = {name.upper(): value for name, value in variables.items()}
    command = [sys.executable, "-m", "nst_jax.cli.main", "weights", "verify", narrow_file]
    answer = subprocess.run(
        command, env=os.environ | told, capture_output=True, text=True, check=False
    )
    assert answer.returncode == status, answer.stderr
    assert answer.stderr.count("\n") == (status != 0)
    assert not status or list(told)[-1] in answer.stderr
    assert "nvidia-smi" not in answer.stderr or told.get("JAX_PLATFORMS") == "cuda"


# A device for every core.


def test_a_quota_bounds_the_threads_of_the_devices_too(monkeypatch):
    monkeypatch.setattr(runtime, "usable_cores", lambda: 2)
    monkeypatch.setattr(runtime, "host_cores", lambda: 64)
    monkeypatch.delenv("PJRT_NPROC", raising=False)
    runtime.one_device_per_core()
    assert os.environ["PJRT_NPROC"] == "2"


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ({}, None),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4),
    ],
)
def test_every_core_is_a_device_unless_the_user_says_otherwise(told, count, narrow_file):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "NST_JAX_CACHE_DIR": "off"} | told
    command = [sys.executable, "-m", "nst_jax.cli.main", "plan", "--json"]
    command += [*TINY, "--weights", narrow_file]
    said = json.loads(subprocess.check_output(command, env=environment, text=True))
    assert said["device"]["count"] == (count or len(os.sched_getaffinity(0)))
