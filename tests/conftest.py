"""What must be set before the first array: eight CPU devices, and no accelerator by accident.

Most of the time of these tests is compilation, and many compile the same program. So all
processes of a session share one cache of JAX's own, made anew for each session. NumPy has one
thread, since there is a process for each core: on two cores, threads that wait for one another
take twenty times as long for a decomposition.

Nothing of `nst_jax` may be imported up here: `--jaxtyping-packages` hooks its import later.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import jax
import jaxtyping
import pytest

if TYPE_CHECKING:
    from engine_jobs import Studio

_PROGRAMS = "NST_JAX_TEST_PROGRAMS"

# What nohup and a shell's background jobs ignore, the programs that tests start would ignore too.
for _ignored in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_ignored) is signal.SIG_IGN:
        signal.signal(_ignored, lambda *_: None)

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("NST_JAX_CACHE_DIR", "off")
# These two are for workers and for programs that a test starts: here NumPy has begun already.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if _IS_FIRST := _PROGRAMS not in os.environ:  # workers of the session find it set
    os.environ[_PROGRAMS] = tempfile.mkdtemp(prefix="nst_jax-test-programs-")
jax.config.update("jax_compilation_cache_dir", os.environ[_PROGRAMS])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_num_cpu_devices", 8)


def pytest_unconfigure() -> None:
    """The last thing a process does."""
    if _IS_FIRST:
        shutil.rmtree(os.environ[_PROGRAMS], ignore_errors=True)


@pytest.fixture
def compiled_anew() -> Iterator[None]:
    """Nothing in the test comes from a cache: it shows that compiling again changes nothing."""
    jax.clear_caches()
    jax.config.update("jax_enable_compilation_cache", False)
    yield
    jax.config.update("jax_enable_compilation_cache", True)


@pytest.fixture(scope="session")
def narrow_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weight file of a narrow VGG-16, written once."""
    from engine_jobs import write_narrow_weights

    return write_narrow_weights(tmp_path_factory.mktemp("weights") / "narrow.h5")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A content and a style, 8-bit."""
    from batch_runs import save_pixels
    from engine_jobs import content_of, style_of

    paths = tmp_path / "content.png", tmp_path / "style.png"
    for path, pixels in zip(paths, (content_of(0), style_of(0)), strict=True):
        save_pixels(path, pixels)
    return paths


@pytest.fixture(scope="session")
def studio(narrow_file: str) -> "Studio":
    """An engine on one device that keeps its programs from test to test."""
    from engine_jobs import Studio, tiny_options

    return Studio(tiny_options(narrow_file))


@pytest.fixture(scope="session")
def one_level(narrow_file: str) -> "Studio":
    """The same of one level, so that a content of 48 px is never scaled."""
    from engine_jobs import Studio, tiny_options

    return Studio(tiny_options(narrow_file, levels=1))


@pytest.fixture(autouse=True)
def levels_of_its_own() -> Iterator[None]:
    """What a test has made of levels and canvases is not what the next one meets."""
    yield
    if levels := sys.modules.get("nst_jax.engine.plan.levels"):
        levels.make_levels.cache_clear()


@pytest.fixture(autouse=True)
def programs_of_its_own() -> Iterator[None]:
    """What a test has compiled, perhaps of a patched model, no other test uses."""
    yield
    if sessions := sys.modules.get("nst_jax.engine.device.recent_sessions"):
        sessions.forget_programs()


@pytest.fixture(autouse=True, scope="session")
def threads_where_asked_for() -> Iterator[None]:
    """Programs are compiled ahead where a test wants it, however many cores there are."""
    from nst_jax.engine.schedule import make_scheduler

    with mock.patch.object(make_scheduler, "count_threads", return_value=0):
        yield


@pytest.fixture
def more_steps(monkeypatch):
    """Wasserstein distances by more steps of the matrix root than are shipped."""
    from nst_jax.model import inverse_root, wasserstein

    more = inverse_root.quintics(1e-4, 8)
    monkeypatch.setattr(
        wasserstein, "inverse_root", lambda matrix: inverse_root.inverse_root(matrix, more)
    )


@pytest.fixture(scope="module")
def compiled_once() -> Iterator[None]:
    """Runs of a module share their compiled programs: those of one name must be the same."""
    from engine_jobs import shared_programs

    with shared_programs():
        yield


@pytest.fixture(scope="module")
def no_type_checks() -> Iterator[None]:
    """A wrong value meets the program's own rule, as it does for users, and not a type check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def impatient_reader(monkeypatch) -> None:
    """A child that reads a file is ended after a short silence, and must not need much memory."""
    from nst_jax.weights import subprocess_reader

    monkeypatch.setattr(subprocess_reader, "LONGEST_SILENCE_S", 20.0)
    monkeypatch.setattr(subprocess_reader, "_MEMORY_OF_A_READER", 2**29)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows who the user is, nor of a home."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    names = ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME", "NST_JAX_CACHE_DIR")
    for name in (*names, "NST_JAX_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
