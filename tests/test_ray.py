"""A batch on a Ray cluster: nothing lost whoever dies, and the bytes of one machine."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from batch_runs import check_same, mixed_batch, save_job, start_process
from engine_jobs import one_device, tiny_options

from nst_jax import Job, render_batch
from nst_jax.engine.cluster import pool, ray_batch, worker
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.plan.demand import measure_demand
from nst_jax.engine.run.plan_file import WholeBatch, batch_hash
from nst_jax.files.ledger import read_ledger
from nst_jax.request.errors import OptionError, OutputError
from nst_jax.request.job import fill_defaults
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.taps import ARCHITECTURES

COUNT = 8

# A node that has gone is noticed in two seconds instead of half a minute.
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


def test_a_worker_renders_lists_with_the_programs_of_the_first_and_skips_what_is_done(
    narrow_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "open_session", lambda options: open_session(options, one_device()))
    options = tiny_options(narrow_file, levels=1, batch_size="auto")
    jobs = fill_defaults([save_job(tmp_path, number) for number in range(4)], options)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    render_batch(jobs, whole, options, devices=one_device())
    parts.mkdir()
    demand = measure_demand(jobs, options, ARCHITECTURES["vgg16"], PictureIndex().size)
    batch = WholeBatch(batch_hash(jobs, options), demand)
    one = worker.Worker(worker.WorkerConfig(str(parts), options, RunPolicy(), batch))
    first = one.render(jobs[:3], {}, {})
    assert [name for name, _ in first.finished] == [job.output for job in jobs[:3]]
    second = one.render(jobs[1:], {}, {})  # as when another worker died over them
    assert ([name for name, _ in second.finished], second.summary.skipped) == (["3.png"], 2)
    assert (first.summary.compile_seconds > 0, second.summary.compile_seconds) == (True, 0)
    for job in jobs:
        assert (parts / job.output).read_bytes() == (whole / job.output).read_bytes()
    with pytest.raises(OutputError, match="on every machine"):
        worker.Worker(
            worker.WorkerConfig(str(tmp_path / "gone"), options, RunPolicy(), batch)
        ).open()


@pytest.mark.parametrize(
    ("jobs", "deaths", "parts"), [(3, 0, [3]), (3, 1, [3]), (3, 2, [1, 1, 1]), (1, 9, [1])]
)
def test_a_task_that_ends_workers_is_taken_apart(jobs, deaths, parts):
    task = pool.Task([Job("c.png", "s.png", f"{n}.png") for n in range(jobs)], deaths)
    assert [len(part.jobs) for part in task.split()] == parts


def test_without_the_extra_the_fault_names_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"not installed\. pip install 'nst-jax\[ray\]'"):
        ray_batch.render_on_ray([Job("c.png", "s.png")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def on_a_cluster(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test as a slow one, whose warnings are Ray's."""
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore")(test))


# On a cluster of several raylets.


@pytest.fixture(scope="module")
def asked(narrow_file, tmp_path_factory) -> list[str]:
    return mixed_batch(tmp_path_factory.mktemp("manifest"), narrow_file, COUNT)


def start(asked: Sequence[str], out: Path, *arguments: str) -> subprocess.Popen:
    code = "from nst_jax.cli.main import main; main()"
    return start_process(code, asked, out, *arguments, RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")


def start_on(nodes: "Nodes", asked: Sequence[str], out: Path, *more: str) -> subprocess.Popen:
    """On the cluster."""
    return start(asked, out, "--engine", "ray", "--address", nodes.cluster.address, *more)


@pytest.fixture(scope="module")
def single(asked, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    process = start(asked, folder)
    assert process.communicate(timeout=240)[1] is not None
    assert process.returncode == 0
    return folder


class Nodes:
    """A cluster of a head without cores and two nodes of one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH},
        )
        self.nodes: list[Any] = []
        for _ in range(2):
            self.add()

    def replace_node(self) -> None:
        """One goes without a word, another one comes."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.add()

    def remove_all(self) -> None:
        """What is left is a head that has no cores."""
        while self.nodes:
            self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def add(self) -> None:
        """One more, of one core."""
        self.nodes.append(self.cluster.add_node(num_cpus=1))

    def kill_worker(self) -> None:
        os.kill(self._workers()[0], signal.SIGKILL)

    def _workers(self) -> list[int]:
        """Processes of the workers that these nodes have started."""
        raylets = {one.process.pid for node in self.nodes for one in node.all_processes["raylet"]}
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if _text(path).startswith("ray::Worker")
            and int(re.search(r"PPid:\s*(\d+)", _text(path.with_name("status")))[1]) in raylets
        ]


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray")
    made = Nodes()
    yield made
    made.cluster.shutdown()


def rendered(
    asked: list[str], out: Path, nodes: Nodes, at: dict[int, Callable[[], Any]]
) -> tuple[int, str]:
    """Renders on the cluster, does something after so many jobs; returns the exit status."""
    process = start_on(nodes, asked, out)
    assert process.stderr is not None
    finished, told = 0, []
    for line in process.stderr:
        told.append(line)
        if "] done " in line:
            finished += 1
            at.get(finished, lambda: None)()
    return process.wait(timeout=240), "".join(told)


@on_a_cluster
def test_nodes_and_workers_die_and_nothing_is_lost(asked, single, nodes, tmp_path):
    accidents = {2: nodes.kill_worker, 4: nodes.replace_node}
    status, told = rendered(asked, tmp_path, nodes, accidents)
    assert status == 0, told
    assert "any worker takes over" in told
    check_same(tmp_path, single, COUNT)


@on_a_cluster
def test_the_driver_may_die_and_be_started_again(asked, single, nodes, tmp_path):
    process = start_on(nodes, asked, tmp_path)
    assert process.stderr is not None
    lines = (line for line in process.stderr if "] done " in line)
    done = len(list(itertools.islice(lines, 2)))
    process.kill()
    assert (process.wait(), done) == (-signal.SIGKILL, 2)
    status, told = rendered(asked, tmp_path, nodes, {})
    assert status == 0, told
    assert told.count("] done ") <= COUNT - 2
    check_same(tmp_path, single, COUNT)


@on_a_cluster
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_driver_in_one_line(asked, nodes, tmp_path, number, status):
    process = start_on(nodes, asked, tmp_path)
    assert process.stderr is not None
    next(line for line in process.stderr if "] done " in line)
    process.send_signal(number)
    told = process.stderr.read()
    assert process.wait(60) == status
    assert told.splitlines()[-1].endswith("run the same command again to go on")
    assert "Traceback" not in told
    assert "***" not in told


@on_a_cluster
def test_a_job_that_ends_its_workers_fails_alone_within_its_budget(
    narrow_file, nodes, tmp_path, monkeypatch
):
    class Mortal(worker.Worker):
        def render(self, jobs, records, known):
            if any(job.output == "deadly.png" for job in jobs):
                os._exit(1)
            return super().render(jobs, records, known)

    monkeypatch.setattr(pool, "Worker", Mortal)
    monkeypatch.setattr(pool, "_TASKS_A_WORKER", 1)  # three jobs in the deadly one's list
    names = ("a", "deadly", "b", "c", "d", "e")
    jobs = [save_job(tmp_path, number, f"{name}.png") for number, name in enumerate(names)]
    out = tmp_path / "out"
    summary = ray_batch.render_on_ray(
        jobs,
        out,
        tiny_options(narrow_file, levels=1),
        address=nodes.cluster.address,
        handling=RunPolicy(retries=1),
    )
    assert (summary.done, summary.failed) == (5, 1)
    records = read_ledger(out)
    assert {name for name, one in records.items() if one["status"] == "done"} == {
        f"{name}.png" for name in "abcde"
    }
    error = records["deadly.png"]["error"]
    assert (error["attempt"], error["message"].count("ended its worker")) == (2, 1)


@on_a_cluster
def test_a_cluster_that_grows_is_waited_for_and_used(asked, single, nodes, tmp_path):
    nodes.remove_all()
    process = start_on(nodes, asked, tmp_path, "--workers", "1")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=20)  # nobody is there to work
    finally:
        nodes.add()
    _, told = process.communicate(timeout=480)
    assert process.returncode == 0, told
    check_same(tmp_path, single, COUNT)


def test_a_cluster_that_is_not_there_is_a_wrong_request(asked, tmp_path):
    process = start(asked, tmp_path / "out", "--engine", "ray", "--address", "127.0.0.1:9")
    _, told = process.communicate(timeout=240)
    assert process.returncode == 2, told
    assert "can't be reached" in told
    assert "ray start --head" in told
