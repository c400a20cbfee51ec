"""What a run writes into its folder beside the pictures: its plan, and what became of it."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.demand import Demand
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import Progress
from nst_jax.engine.results import Summary
from nst_jax.engine.schedule.scheduler import Scheduler
from nst_jax.engine.schedule.timing import Timing
from nst_jax.files.folders import Folder, reason_of
from nst_jax.request.errors import OutputError, WriteError

PLAN_NAME = "plan.json"
RUN_NAME = "run.json"


def load_or_make_plan(
    requests: Sequence[ExaminedJob],
    setup: Session,
    folder: Folder,
    progress: Progress,
    *,
    whole: Demand,
    batch: str,
    alone: bool,
) -> Plan:
    """The plan in the folder, with what it lacks added and written back.

    Args:
        requests: The jobs to be rendered.
        setup: What they share.
        folder: The output folder.
        progress: Told what the user may not expect.
        whole: The batch that the jobs are a part of.
        batch: What tells that batch from others.
        alone: Whether no other worker shares the folder, so that the plan may be made for
            another batch from now on.

    Raises:
        OptionError: A batch, or even a single picture, fits no device.
        OutputError: The plan in the folder is none, or that of another batch.
        WriteError: The plan can't be written.
    """
    with folder.mutex():  # of workers that begin at one instant the first makes the plan
        earlier = _read_plan(folder)
        if not alone:
            _check_batch(earlier, batch, folder)
        fixed = dataclasses.replace(
            setup.make_plan(requests, progress, earlier, whole=whole), batch=batch
        )
        if fixed != earlier:
            write_json(folder, PLAN_NAME, fixed.to_json())
    return fixed


def check_shared_batch(folder: Folder, batch: str) -> None:
    """Refuses a worker whose jobs are not those that the folder's plan was made for.

    Raises:
        OutputError: They are not.
    """
    _check_batch(_read_plan(folder), batch, folder)


def adopt_plan(folder: Folder, batch: str) -> None:
    """Makes the folder's plan, if there is one, that of another batch; groups keep their slots.

    Raises:
        OutputError: The plan in the folder is none.
        WriteError: The plan can't be written.
    """
    earlier = _read_plan(folder)
    if earlier is not None and earlier.batch != batch:
        write_json(folder, PLAN_NAME, dataclasses.replace(earlier, batch=batch).to_json())


def _check_batch(plan: Plan | None, batch: str, folder: Folder) -> None:
    if plan is not None and plan.batch not in ("", batch):
        raise OutputError(
            f"the workers of output folder {folder.name!r} must all have the same jobs and "
            f"options, and its {PLAN_NAME} was made for others",
            "Give every worker the same manifest and options, or name another folder; to change "
            f"the batch, run it once without --shard or delete {PLAN_NAME}",
        )


def _read_plan(folder: Folder) -> Plan | None:
    try:
        content = folder.read(PLAN_NAME)
        return None if content is None else Plan.from_json(json.loads(content))
    except OSError as error:
        raise OutputError(
            f"plan {folder.path_of(PLAN_NAME)!r} can't be read: {reason_of(error)}",
            "Mend that and run the same command again",
        ) from error
    except ValueError as error:
        raise OutputError(
            f"plan {folder.path_of(PLAN_NAME)!r} can't be read: {error}",
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
            f"{folder.path_of(name)!r} can't be written: {reason_of(error)}"
        ) from error


def run_record(summary: Summary, setup: Session, renderer: Scheduler | None) -> dict[str, Any]:
    """What `run.json` says."""
    timing = renderer.timing if renderer else Timing()
    return {
        "versions": _versions(),
        "devices": {
            "platform": setup.devices.platform,
            "kind": setup.devices.kind,
            "count": setup.devices.count,
        },
        "shard": summary.shard or None,
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
