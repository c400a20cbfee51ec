"""What a run writes into its folder beside the pictures: its plan, and what became of it."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from nst_jax.engine.pipeline import Request, Setup
from nst_jax.engine.planner import Plan
from nst_jax.engine.planning import planned
from nst_jax.engine.progress import Progress
from nst_jax.engine.renderer import Renderer, Timing
from nst_jax.engine.results import Summary
from nst_jax.files.folders import Folder, reason_of
from nst_jax.spec.errors import OutputError, WriteError

PLAN_NAME = "plan.json"
RUN_NAME = "run.json"


def fixed_plan(
    requests: Sequence[Request], setup: Setup, folder: Folder, progress: Progress
) -> Plan:
    """The plan in the folder, with what it lacks added and written back.

    Raises:
        OptionError: A batch, or even a single picture, fits no device.
        OutputError: The plan in the folder is none.
        WriteError: The plan can't be written.
    """
    earlier = _read_plan(folder)
    fixed = planned(requests, setup, progress, earlier)
    if fixed != earlier:
        write_json(folder, PLAN_NAME, fixed.to_json())
    return fixed


def _read_plan(folder: Folder) -> Plan | None:
    try:
        content = folder.read(PLAN_NAME)
        return None if content is None else Plan.from_json(json.loads(content))
    except OSError as error:
        raise OutputError(
            f"plan {folder.place_of(PLAN_NAME)!r} can't be read: {reason_of(error)}",
            "Mend that and run the same command again",
        ) from error
    except ValueError as error:
        raise OutputError(
            f"plan {folder.place_of(PLAN_NAME)!r} can't be read: {error}",
            "Delete it; finished pictures stay, the rest is planned anew",
        ) from error


def write_json(folder: Folder, name: str, content: Mapping[str, Any]) -> None:
    """Writes a file of the run.

    Raises:
        WriteError: It can't be written.
    """
    try:
        folder.write(name, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise WriteError(
            f"{folder.place_of(name)!r} can't be written: {reason_of(error)}"
        ) from error


def run_record(summary: Summary, setup: Setup, renderer: Renderer | None) -> dict[str, Any]:
    """What `run.json` says."""
    timing = renderer.timing if renderer else Timing()
    return {
        "versions": _versions(),
        "devices": {
            "platform": setup.devices.platform,
            "kind": setup.devices.kind,
            "count": setup.devices.count,
        },
        "options": dataclasses.asdict(setup.options),
        "weights": {"source": setup.weights.source, "sha256": setup.weights.content_sha256},
        "summary": summary.record(),
        "phases": {name: round(value, 3) for name, value in dataclasses.asdict(timing).items()},
        "compiled": {name: round(seconds, 3) for name, seconds in summary.compiled.items()},
        "loaded": sorted(summary.loaded),
        "memory_bytes": dict(renderer.programs.memory) if renderer else {},
    }


def _versions() -> dict[str, str]:
    packages = ("nst-jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow")
    return {"python": platform.python_version()} | {
        package: importlib.metadata.version(package) for package in packages
    }
