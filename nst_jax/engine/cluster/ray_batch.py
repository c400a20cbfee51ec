"""A batch on a Ray cluster: a pool of actors, each a warm `Worker`; lists of jobs as tasks.

The driver holds the folder, hands out tasks and counts; workers write pictures and ledger.
"""

import os
import time
from collections.abc import Iterable

from nst_jax.engine.cluster.connection import Cluster, import_ray
from nst_jax.engine.cluster.pool import ResumeInfo, WorkerPool, make_tasks
from nst_jax.engine.cluster.worker import WorkerConfig
from nst_jax.engine.inputs.examine import say_taps
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.plan.demand import final_buckets, measure_demand
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.results import Summary
from nst_jax.engine.run.plan_file import WholeBatch, adopt_plan, batch_hash
from nst_jax.engine.run.preflight import FolderLock, check_no_file_replaced, check_outputs
from nst_jax.engine.run.remaining import count_older, read_records, say_older
from nst_jax.engine.run.renamed import say_renamed
from nst_jax.engine.run.run_record import RUN_NAME, end_run
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.folders import folder_at
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import Options
from nst_jax.request.run_policy import RunPolicy
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights


def render_on_ray(
    jobs: Iterable[Job],
    output_dir: str | os.PathLike[str],
    options: Options | None = None,
    *,
    address: str = "",
    workers: int = 0,
    handling: RunPolicy | None = None,
    progress: Progress | None = None,
    stop: StopToken | None = None,
) -> Summary:
    """Renders every job into a folder that all nodes share, except those that are up to date.

    Whatever dies, the next call goes on with what is missing.

    Args:
        jobs: Any number of jobs.
        output_dir: A path on every node, or an address.
        options: Shared by all jobs, and what jobs want that don't say it themselves.
        address: `auto` or `HOST:PORT` of a cluster; empty: RAY_ADDRESS, or this machine alone.
        workers: How many; 0: as many as the cluster has GPUs, TPU hosts, or else nodes. More than
            it can hold make it grow, if it can.
        handling: What to do about accidents.
        progress: Told what happens.
        stop: Asks the run to stop.

    Raises:
        RequestError: The request is wrong in itself, Ray is not installed, the cluster is not
            reached, or another run holds the folder.
        StoppedError: The run was asked to stop, or too many jobs failed; the next run goes on.
    """
    began = time.perf_counter()
    options, policy = options or Options(), handling or RunPolicy()
    progress, stop = progress or NullProgress(), stop or StopToken()
    ray = import_ray()
    batch = fill_defaults(jobs, options)
    folder = folder_at(output_dir)
    check_outputs(batch, options, folder)
    with Cluster(ray, address) as cluster, FolderLock(folder) as lock:
        lock.prepare(job.output for job in batch)
        records, known = read_records(folder)
        check_no_file_replaced((job.output for job in batch), records, folder, options)
        say_renamed(batch, (job.output for job in batch), records, folder, progress)
        if not policy.keep_older:
            say_older(count_older(records, batch), progress)
        pictures = PictureIndex({} if policy.verify else known, max_pixels=options.max_input_pixels)
        architecture = read_weights(find_weights(options.weights)).architecture
        say_taps((job.options or options for job in batch), options, architecture, progress)
        demand = measure_demand(batch, options, architecture, pictures.size)
        whole = WholeBatch(batch_hash(batch, options), demand)
        adopt_plan(folder, whole.hash)
        resources = cluster.worker_resources(workers)
        buckets = final_buckets(batch, options, architecture, pictures.size)
        pool = WorkerPool(
            cluster,
            resources,
            WorkerConfig(folder.name, options, policy, whole),
            ResumeInfo(records, pictures),
            progress,
            stop,
        )
        with stop.watch():
            fault = pool.render(make_tasks(batch, buckets, resources.count))
        summary = pool.summary(len(batch), time.perf_counter() - began)
        end_run(folder, RUN_NAME, pool.record(summary), fault)
        return summary
