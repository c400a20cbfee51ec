"""Which devices this process runs on, as its user has told JAX; never others in silence."""

import functools
import importlib.metadata
import os
import subprocess
import sys
from typing import Any

import jax
import jax.extend.backend

from nst_jax.request.errors import OptionError

_GPU_PACKAGES = (
    *("jax-cuda12-plugin", "jax-cuda13-plugin"),
    *("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
)


_NO_HOST_DEVICES = {
    "JAX_NUM_CPU_DEVICES": "0",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=0",
}


def find_devices() -> list[Any]:
    """The devices of this process, or the user's `jax.default_device` alone.

    Raises:
        OptionError: JAX is told to use a platform that is not here, or flags that it does not take.
    """
    _check_flags(os.environ.get("XLA_FLAGS", ""))
    chosen = _setting("jax_default_device")
    asked = {
        "JAX_PLATFORMS": _setting("jax_platforms"),
        "JAX_PLATFORM_NAME": os.environ.get("JAX_PLATFORM_NAME"),
        "jax_default_device": chosen if isinstance(chosen, str) else None,
    }
    told = {name: platforms for name, platforms in asked.items() if platforms}
    try:
        devices = jax.local_devices()
        # JAX passes over a GPU that it does not find where it may use other platforms too.
        for platform in ",".join(told.values()).split(",") if told else ():
            jax.devices(platform)
        if isinstance(chosen, str):
            return jax.local_devices(backend=chosen)[:1]
    except (RuntimeError, AssertionError) as error:
        for name, none in _NO_HOST_DEVICES.items():
            if none in os.environ.get(name, "").split():
                raise OptionError(
                    f"{name} must tell of 1 device or more, got {none!r}",
                    "Unset it to have a device for every core",
                ) from error
        if not told:
            raise OptionError(f"JAX finds no device: {str(error).splitlines()[0]}") from error
        wanted = ", ".join(f"{name}={platforms}" for name, platforms in told.items())
        raise OptionError(
            f"JAX must run where it is told ({wanted}), and finds only {_platforms_here()} here",
            "Install nst-jax[cuda12], nst-jax[cuda13] or nst-jax[tpu] and see whether the system "
            f"shows the device (nvidia-smi), or unset {' and '.join(told)} to let JAX choose",
        ) from error
    return devices if chosen is None else [chosen]


@functools.cache
def _check_flags(flags: str) -> None:
    """Has another process read XLA's flags, which ends where one of them is wrong.

    Raises:
        OptionError: One is.
    """
    if not flags:
        return
    read = "from jaxlib import xla_client; xla_client.CompileOptions()"
    answer = subprocess.run(
        [sys.executable, "-c", read], capture_output=True, text=True, errors="replace", check=False
    )
    if answer.returncode and "parse_flags" in answer.stderr:
        said = answer.stderr.split("\n")[0].rpartition("] ")[2]
        raise OptionError(f"XLA_FLAGS must be what XLA takes, got {flags!r}: {said}")


def missed_gpu_text() -> str:
    """What to say where this was installed for a GPU and JAX has found none; else nothing."""
    if _setting("jax_platforms") or find_devices()[0].platform != "cpu":
        return ""
    packages = [name for name in _GPU_PACKAGES if _is_installed(name)]
    if not packages:
        return ""
    return (
        f"{' and '.join(packages)} is installed for a GPU, but JAX finds none and runs on the CPU: "
        "look at nvidia-smi, and install nst-jax[cuda12] or nst-jax[cuda13]; "
        "JAX_PLATFORMS=cpu says that it is meant so"
    )


def _platforms_here() -> str:
    """What JAX finds where it may choose."""
    asked = _setting("jax_platforms")
    jax.config.update("jax_platforms", None)
    try:
        return ", ".join(sorted(jax.extend.backend.backends()))
    except (RuntimeError, AssertionError):
        return "none"
    finally:
        jax.config.update("jax_platforms", asked)


def _setting(name: str) -> Any:
    return getattr(jax.config, name)  # whose names no type checker knows


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
