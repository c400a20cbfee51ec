"""A batch into an output folder: what is done already is skipped, what is done is kept.

*.png, ...      the pictures, each under its name only when whole
ledger.jsonl    a line a job, after its picture
plan.json       canvases and slots, fixed by the first run
run.json        versions, devices, options, throughput and phases of the last run
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nst_jax.engine.pipeline import Request, Setup, examine, open_setup, run
from nst_jax.engine.planner import Plan
from nst_jax.engine.planning import planned
from nst_jax.engine.progress import Progress, Silence
from nst_jax.engine.renderer import Renderer, Timing
from nst_jax.engine.results import Result, Summary
from nst_jax.engine.saving import PREVIEWS_NAME, Writer, make_folder, save_preview
from nst_jax.files.atomic import write_bytes
from nst_jax.files.ledger import Record, read_ledger
from nst_jax.spec.errors import OutputError, WriteError
from nst_jax.spec.job import Job, completed
from nst_jax.spec.options import Options
from nst_jax.spec.outputs import check_output_place, check_output_suffix, output_key

PLAN_NAME = "plan.json"
RUN_NAME = "run.json"


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is left to do of a batch."""

    requests: Sequence[Request]
    failures: Sequence[Result]
    skipped: int


def render_batch(
    jobs: Iterable[Job],
    output_dir: str | os.PathLike[str],
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    devices: Sequence[Any] | None = None,
) -> Summary:
    """Renders every job into a folder, except those whose picture is there and up to date.

    A failing job is a failed line of the ledger and doesn't touch the others.

    Args:
        jobs: Any number of jobs.
        output_dir: Made if it is missing.
        options: Shared by all jobs, and the defaults of those that have none of their own.
        progress: Told what happens.
        devices: What to run on; None: all devices of this process.

    Raises:
        RequestError: The request is wrong in itself; nothing was rendered.
        WriteError: The ledger can't be written any more; the pictures so far are safe.
    """
    began = time.perf_counter()
    options, progress, folder = options or Options(), progress or Silence(), Path(output_dir)
    listed = completed(jobs, options)
    _check_outputs(listed, options)
    setup = open_setup(options, devices)
    examined = examine(listed, setup, progress)
    make_folder(folder)
    work = _left_to_do(examined, folder)
    renderer = None
    if work.requests:
        show = functools.partial(save_preview, folder, progress=progress)
        renderer = setup.renderer(work.requests, progress, show)
    with Writer(folder, options, progress) as writer:
        for result in itertools.chain(
            work.failures, _rendered(work.requests, setup, renderer, folder, progress)
        ):
            writer.put(result)
    summary = _summary(work, writer.tally, renderer, time.perf_counter() - began)
    _write_json(folder / RUN_NAME, _run_record(summary, setup, renderer))
    return summary


def _check_outputs(jobs: Iterable[Job], options: Options) -> None:
    for job in jobs:
        check_output_place(job.output)
        if options.preview_every and output_key(job.output).startswith(f"{PREVIEWS_NAME}/"):
            raise OutputError(f"output {job.output!r} lies in the folder of previews")
        check_output_suffix(job.output, bit_depth=options.bit_depth)


def _left_to_do(examined: Iterable[Request | Result], folder: Path) -> _Work:
    records = read_ledger(folder)
    requests: list[Request] = []
    failures: list[Result] = []
    skipped = 0
    for one in examined:
        if isinstance(one, Result):
            failures.append(one)
        elif _is_up_to_date(one, records.get(one.job.output), folder):
            skipped += 1
        else:
            requests.append(one)
    return _Work(requests, failures, skipped)


def _is_up_to_date(request: Request, record: Record | None, folder: Path) -> bool:
    """Whether the ledger has this very picture as done and the file is unharmed."""
    if not record or record.get("status") != "done":
        return False
    if record.get("fingerprint") != request.fingerprint:
        return False
    try:
        content = (folder / request.job.output).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == record.get("sha256")


def _rendered(
    requests: Sequence[Request],
    setup: Setup,
    renderer: Renderer | None,
    folder: Path,
    progress: Progress,
) -> Iterator[Result]:
    if renderer is None:
        return
    fixed = _fixed_plan(requests, setup, folder, progress)
    progress.started(len(requests), sum(one.image_steps for one in requests))
    for result in run(requests, setup, renderer, fixed):
        if renderer.plan is not fixed:  # a batch did not fit the device and was halved
            fixed = renderer.plan
            _write_json(folder / PLAN_NAME, fixed.to_json())
        yield result


def _fixed_plan(
    requests: Sequence[Request], setup: Setup, folder: Path, progress: Progress
) -> Plan:
    """The plan in the folder, with what it lacks added and written back."""
    path = folder / PLAN_NAME
    earlier = _read_plan(path)
    fixed = planned(requests, setup, progress, earlier)
    if fixed != earlier:
        _write_json(path, fixed.to_json())
    return fixed


def _read_plan(path: Path) -> Plan | None:
    if not path.exists():
        return None
    try:
        return Plan.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"plan {str(path)!r} can't be read: {error}",
            "Delete it; finished pictures stay, the rest is planned anew",
        ) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    try:
        write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteError(f"{str(path)!r} can't be written: {reason}") from error


def _summary(
    work: _Work, tally: Mapping[str, int], renderer: Renderer | None, seconds: float
) -> Summary:
    timing = renderer.timing if renderer else Timing()
    return Summary(
        jobs=len(work.requests) + len(work.failures) + work.skipped,
        done=tally["done"],
        failed=tally["failed"],
        skipped=work.skipped,
        seconds=seconds,
        compile_seconds=timing.compilation,
        step_seconds=timing.steps,
        image_steps=timing.image_steps,
        compiled=dict(renderer.programs.compiled) if renderer else {},
        loaded=frozenset(renderer.programs.loaded) if renderer else frozenset(),
    )


def _run_record(summary: Summary, setup: Setup, renderer: Renderer | None) -> dict[str, Any]:
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
