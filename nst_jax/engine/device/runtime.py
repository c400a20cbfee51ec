"""JAX's settings of a whole process: a device for every core, compiled programs kept on disk.

Only a process of our own may change them, because they hold for all of it: the command line and
the workers of a cluster do; a Python caller who wants the same sets `jax_num_cpu_devices` and
`jax_compilation_cache_dir`.

The programs are kept so that the second run of a batch compiles nothing. This is JAX's own
persistent cache in a folder of ours. It serves programs that are lowered and compiled ahead of
time, which is how `ProgramCache` makes them; tracing and lowering remain, about a third of the
time. It works on GPU, TPU and most CPUs. Some CPUs never accept what they stored
(jax-ml/jax#38445): this is found out with a tiny program, and then the cache is off.

The environment variable NST_JAX_CACHE_DIR names another folder; empty or `off` switches the cache
off. Programs not used for longest make room where they would exceed 2 GB, or as many bytes as
JAX_COMPILATION_CACHE_MAX_SIZE says, and one that alone is larger is not kept; see
`files/kept_programs.py`. What is in the folder is loaded as machine code, so it must be as trusted
as the program itself. It can be deleted at any time.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import platform
import threading
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from nst_jax.engine.plan.host_limits import host_cores, usable_cores
from nst_jax.engine.plan.local_devices import find_devices
from nst_jax.files.kept_programs import (
    CACHE_VARIABLE,
    has_named_owner,
    mark_use,
    programs_folder,
    size_limit,
    tidy_programs,
    unkept_text,
)
from nst_jax.request.errors import OptionError

_HIT = "/jax/compilation_cache/cache_hits"
_FOLDER_SETTING = "jax_compilation_cache_dir"
_ENABLED_SETTING = "jax_enable_compilation_cache"
_LIMIT_SETTING = "jax_compilation_cache_max_size"

# JAX keeps nothing that compiled in less than a second, unless it is told to.
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


_DEVICES_SETTING = "jax_num_cpu_devices"
_DEVICES_UNSET = -1
_DEVICES_FLAG = "xla_force_host_platform_device_count"
_THREADS_VARIABLE = "PJRT_NPROC"

_NO_DEBUGGING = (
    *(("debug_infs", False), ("debug_nans", False), ("disable_jit", False)),
    *(("transfer_guard", "allow"), ("check_tracer_leaks", False)),
    *(("numpy_dtype_promotion", "standard"), ("numpy_rank_promotion", "allow")),
)


_thread = threading.local()


@contextlib.contextmanager
def configure_process() -> Iterator[Path | None]:
    """A device for every core, and compiled programs on disk in this `with` block.

    Gives the folder of the programs; see `persistent_cache`.
    """
    one_device_per_core()
    with persistent_cache() as folder:
        yield folder


def one_device_per_core() -> None:
    """Makes each usable core of the host a device, where the user has not said otherwise.

    Each then steps pictures of its own instead of a share of every small operation of one
    (`scripts/measure/host.py devices` measures it). A batch of one picture still has all cores:
    devices share their threads.
    """
    cores = usable_cores()
    if cores < host_cores():  # the devices' threads are as many as the host has cores
        os.environ.setdefault(_THREADS_VARIABLE, str(cores))
    flags = os.environ.get("XLA_FLAGS", "")
    if getattr(jax.config, _DEVICES_SETTING) != _DEVICES_UNSET or _DEVICES_FLAG in flags:
        return
    with contextlib.suppress(RuntimeError):  # JAX has begun, with what it has found
        jax.config.update(_DEVICES_SETTING, cores)


@contextlib.contextmanager
def without_debugging() -> Iterator[None]:
    """In this `with` block of this thread the user's switches for finding faults are off.

    They are for programs of his own. Ours hold infinities on purpose, are compiled ahead of being
    called, and find out themselves which job has left the finite numbers. Within another such
    block there is nothing to do.
    """
    if getattr(_thread, "is_without_debugging", False):
        yield
        return
    with contextlib.ExitStack() as stack:
        for name, value in _NO_DEBUGGING:
            stack.enter_context(getattr(jax, name)(value))
        _thread.is_without_debugging = True
        stack.callback(setattr, _thread, "is_without_debugging", False)
        yield


@contextlib.contextmanager
def persistent_cache() -> Iterator[Path | None]:
    """Programs compiled in this `with` block are kept on disk, or loaded from it.

    Gives the folder, or None where the cache is off: by the user's wish, because there is no
    home or the folder can't be written, because this machine rejects what it stored, or because
    the user has set JAX's own cache up. A run never fails for it.

    Raises:
        OptionError: The variable that bounds the folder tells no number.
    """
    folder = _usable_folder()
    if folder is None:
        yield None
        return
    with _configure(folder):
        works = _cache_works(folder)
        if works:
            yield folder
    if not works:
        yield None


@dataclasses.dataclass
class CacheHits:
    """How many programs came from the cache while it was watched."""

    count: int = 0


@contextlib.contextmanager
def count_cache_hits() -> Iterator[CacheHits]:
    """Counts what this thread loads from JAX's persistent cache in this `with` block."""
    _listen_to_hits()
    before, loads = getattr(_thread, "watched_hits", None), CacheHits()
    _thread.watched_hits = loads
    try:
        yield loads
    finally:
        _thread.watched_hits = before


@functools.cache
def _listen_to_hits() -> None:
    """Has JAX tell of hits from now on, always in the thread that compiles."""

    def listen(event: str, **_: object) -> None:
        if event == _HIT and (loads := getattr(_thread, "watched_hits", None)):
            loads.count += 1

    jax.monitoring.register_event_listener(listen)


def check_programs_kept() -> None:
    """Refuses to go on where nothing that this process compiles is kept.

    Raises:
        OptionError: So it is.
    """
    if not (_setting(_FOLDER_SETTING) and _setting(_ENABLED_SETTING)):
        why = unkept_text() or "no room is allowed, or this processor rejects what was kept"
        raise OptionError(f"programs must be kept from run to run, and are not: {why}")


def cache_folder() -> Path | None:
    """The folder for this build on this kind of device; None where the user wants or has none."""
    folder = programs_folder()
    return folder and folder / _build()


def _build() -> str:
    """Versions and device as a folder's name: what one build stored is poison to another."""
    device = find_devices()[0]
    jaxlib = importlib.metadata.version("jaxlib")
    versions = f"jax-{jax.__version__}-jaxlib-{jaxlib}-{device.platform}"
    machine = (device.device_kind, device.client.platform_version, _processor())
    return f"{versions}-{hashlib.sha256(repr(machine).encode()).hexdigest()[:12]}"


def _processor() -> str:
    """What tells processors apart whose machine code differs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {features}"


def _usable_folder() -> Path | None:
    if _setting(_FOLDER_SETTING) and not os.environ.get(CACHE_VARIABLE):
        return None
    folder = cache_folder()
    if folder is None or not size_limit():
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f"probe-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
        tidy_programs(folder)
    except OSError:
        return None
    return folder


@contextlib.contextmanager
def _configure(folder: Path) -> Iterator[None]:
    """JAX's configuration with this cache, and afterwards as it was."""
    # To keep its bound JAX asks who owns each program, and stores nothing where that has no name.
    limit = size_limit() if has_named_owner(folder) else -1
    wanted = {_FOLDER_SETTING: str(folder), _LIMIT_SETTING: limit} | _SETTINGS
    before = {name: _setting(name) for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # it looks at its configuration once
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Cache value .* exceeds the maximum", UserWarning)
            yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def _setting(name: str) -> Any:
    return getattr(jax.config, name)


def _cache_works(folder: Path) -> bool:
    """Whether a tiny program comes back, if it was ever stored here before."""
    with count_cache_hits() as loads, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax.jit(lambda number: number + 1).lower(1.0).compile()
    was_used = mark_use(folder)
    return bool(loads.count) or not was_used
