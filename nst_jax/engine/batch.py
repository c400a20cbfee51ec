"""A batch into an output folder: what is done already is skipped, what is done is kept.

*.png, ...      the pictures, each under its name only when whole
ledger.jsonl    a line a job, after its picture
plan.json       canvases and slots, fixed by the first run
state.npz       jobs in mid-schedule, while there are any
run.json        versions, devices, options, throughput and phases of the last run

One of several workers has `ledger-0-of-4.jsonl`, `state-0-of-4.npz` and `run-0-of-4.json` instead.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.plan.demand import job_costs, measure_demand
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Summary
from nst_jax.engine.run.folder_run import FolderRun
from nst_jax.engine.run.outdated import explain_outdated, say_outdated
from nst_jax.engine.run.plan_file import WholeBatch, batch_hash, check_shared_batch
from nst_jax.engine.run.preflight import (
    FolderLock,
    check_no_file_replaced,
    check_outputs,
    warn_if_disk_is_short,
)
from nst_jax.engine.run.remaining import (
    list_unasked,
    read_records,
    remaining_work,
    say_kept_older,
    say_older,
)
from nst_jax.engine.run.renamed import say_renamed
from nst_jax.engine.run.run_record import RUN_NAME, end_run, read_run, run_record
from nst_jax.engine.run.shard import WorkerFiles, resolve_shard
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.folders import folder_at
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import Options
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.shards import Shard, jobs_of_shard


def render_batch(
    jobs: Iterable[Job],
    output_dir: str | os.PathLike[str],
    options: Options | None = None,
    *,
    handling: RunPolicy | None = None,
    progress: Progress | None = None,
    devices: Sequence[Any] | None = None,
    stop: StopToken | None = None,
    shard: Shard | str | None = None,
) -> Summary:
    """Renders every job into a folder, except those whose picture is there and up to date.

    A failing job is a failed line of the ledger and doesn't touch the others.

    Arguments and faults are those of `nst_jax.api.render_batch`, which prepares them.
    """
    began = time.perf_counter()
    worker = resolve_shard(shard)
    files = WorkerFiles(worker.name if worker else "")
    options, policy = options or Options(), handling or RunPolicy()
    progress = progress or NullProgress()
    folder = folder_at(output_dir)
    batch = own = fill_defaults(jobs, options)
    check_outputs(batch, options, folder)
    with FolderLock(folder, files.part) as lock:
        records, known = read_records(folder)
        pictures = PictureIndex({} if policy.verify else known, max_pixels=options.max_input_pixels)
        session = dataclasses.replace(
            open_session(options, devices), pictures=pictures, retries=policy.retries
        )
        architecture = session.weights.architecture

        digest = functools.cache(lambda: batch_hash(batch, options))

        def whole() -> WholeBatch:
            return WholeBatch(digest(), measure_demand(batch, options, architecture, pictures.size))

        if worker:
            check_shared_batch(folder, digest())
            own = jobs_of_shard(batch, worker, job_costs(batch, options, architecture))
        check_no_file_replaced((job.output for job in own), records, folder, options)
        say_renamed(own, (job.output for job in batch), records, folder, progress)
        examined = examine_jobs(own, session, progress)
        lock.prepare(one.job.output for one in examined)
        work = remaining_work(examined, records, folder, policy, session)
        say_older(len(work.older), progress)
        say_kept_older(work.kept_older, progress)
        why = explain_outdated(work.outdated, folder, session)
        say_outdated(why.values(), progress)
        warn_if_disk_is_short(work.jobs, options, folder, progress)
        run = FolderRun(
            folder=folder,
            session=session,
            work=work,
            progress=progress,
            policy=policy,
            stop=stop or StopToken(),
            files=files,
            whole=whole,
        )
        fault = run.render()
        summary = run.summary(time.perf_counter() - began, str(worker or ""))
        before = (
            None if fault or not summary.is_up_to_date else read_run(folder, files.name(RUN_NAME))
        )
        record = before or run_record(summary, session, run.scheduler)
        unasked = list_unasked((job.output for job in batch), records)
        if before is None or before.get("unasked", []) != unasked:
            told = {name: value for name, value in record.items() if name != "unasked"}
            told |= {"unasked": unasked} if unasked else {}
            end_run(folder, files.name(RUN_NAME), told, fault)
        return summary
