"""What a run leaves beside the pictures when it ends: versions, devices, options, throughput."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

from nst_jax.engine.inputs.session import Session
from nst_jax.engine.results import Summary
from nst_jax.engine.schedule.scheduler import Scheduler
from nst_jax.engine.schedule.timing import Timing
from nst_jax.files.folders import Folder, reason_of
from nst_jax.request.errors import NstJaxError, WriteError

RUN_NAME = "run.json"

EMPTY_SUMMARY = Summary(0, 0, 0, 0, 0.0, 0.0, 0.0, 0, {})
"""Of a run that has not begun."""

_PACKAGES = ("nst-jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow")


def run_record(summary: Summary, session: Session, scheduler: Scheduler | None) -> dict[str, Any]:
    """What `run.json` says."""
    timing = scheduler.timing if scheduler else Timing()
    return {
        "versions": _versions(),
        "devices": {
            "platform": session.devices.platform,
            "kind": session.devices.kind,
            "count": session.devices.count,
        },
        "shard": summary.shard or None,
        "options": dataclasses.asdict(session.options),
        "weights": {"source": session.weights.source, "sha256": session.weights.content_sha256},
        "summary": summary.record(),
        "phases": {
            "steps": round(timing.steps, 3),
            "targets": round(timing.targets, 3),
            "compilation": round(timing.compilation, 3),
            "image_steps": timing.image_steps,
        },
        "compiled": {name: round(seconds, 3) for name, seconds in summary.compiled.items()},
        "loaded": sorted(summary.loaded),
        "memory_bytes": dict(scheduler.programs.memory) if scheduler else {},
    }


def _versions() -> dict[str, str]:
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {"python": platform.python_version()} | versions


def end_run(
    folder: Folder, name: str, record: Mapping[str, Any], fault: NstJaxError | None
) -> None:
    """Writes the record of a run, then raises what has ended the run early, if anything has.

    Raises:
        NstJaxError: The fault, with the run's summary; else why the record can't be written.
    """
    try:
        write_json(folder, name, record)
    except WriteError as error:  # where pictures can't be written, this can't be either
        fault = fault or error
    if fault:
        fault.summary = record["summary"]
        raise fault


def read_run(folder: Folder, name: str = RUN_NAME) -> dict[str, Any] | None:
    """The record of the last run; None where there is none that can be read."""
    try:
        run = json.loads(folder.read(name) or b"null")
    except (OSError, ValueError, RecursionError):
        return None
    return run if isinstance(run, dict) else None


def write_json(folder: Folder, name: str, content: Mapping[str, Any]) -> None:
    """Writes a file of the run.

    Raises:
        WriteError: It can't be written.
    """
    try:
        folder.write(name, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise WriteError(
            f"{folder.path_of(name)!r} can't be written: {reason_of(error)}"
        ) from error
