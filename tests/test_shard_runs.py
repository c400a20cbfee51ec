"""Shards of a batch in one folder: the bytes of one process, whoever died, whoever goes on."""

import contextlib
import dataclasses
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from batch_runs import StopAfter, check_same, save_job
from engine_jobs import LANDSCAPE, PORTRAIT, one_device, tiny_options

from nst_jax import Job, JobOptions, Options, render_batch
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.session import Session, open_session
from nst_jax.engine.plan import demand
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Summary
from nst_jax.engine.schedule import scheduler
from nst_jax.files.folders import LocalFolder
from nst_jax.files.report.run_records import read_run_record
from nst_jax.request.errors import OptionError, OutputError, StoppedError
from nst_jax.request.job import fill_defaults
from nst_jax.request.shards import Shard, jobs_of_shard
from nst_jax.request.taps import ARCHITECTURES

COUNT = 7


@pytest.fixture(autouse=True)
def _compiled_once(compiled_once: None) -> None:
    """Runs share their programs."""


@pytest.fixture(scope="module")
def options(narrow_file: str) -> Options:
    return tiny_options(narrow_file, levels=1, batch_size="auto", bit_depth=16)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Five wide ones and two tall ones, so that slots follow from how many there are of each."""
    folder = tmp_path_factory.mktemp("pictures")
    return [save_job(folder, number, size=_size(number)) for number in range(COUNT)]


def _size(number: int) -> tuple[int, int]:
    return PORTRAIT if number > 4 else LANDSCAPE


Batch = Callable[..., Summary]


@pytest.fixture(scope="module")
def batch(jobs: list[Job], options: Options) -> Batch:
    def batch(folder: Path, shard: Shard | str | None = None, **others: Any) -> Summary:
        arguments = {"devices": one_device(), "shard": shard} | others
        return render_batch(arguments.pop("jobs", jobs), folder, options, **arguments)

    return batch


@pytest.fixture(scope="module")
def unbroken(batch: Batch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert batch(folder).done == COUNT
    return folder


def check_same_plan(folder: Path, unbroken: Path) -> None:
    """Same pictures, one merged row a job, the same plan."""
    check_same(folder, unbroken, COUNT)
    assert (folder / "plan.json").read_bytes() == (unbroken / "plan.json").read_bytes()


def lines(folder: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in folder.glob("ledger*.jsonl"))


def test_shards_together_give_the_bytes_of_one_process(batch, unbroken, tmp_path):
    done = [batch(tmp_path, f"{index}/3").done for index in (2, 0, 1)]
    assert sorted(done) == [2, 2, 3]
    check_same_plan(tmp_path, unbroken)
    assert lines(tmp_path) == COUNT
    assert not (tmp_path / "ledger.jsonl").exists()
    record = read_run_record(tmp_path)
    assert record is not None
    assert (record["workers"], record["summary"]["done"]) == (3, COUNT)
    assert [path.name for path in tmp_path.glob(".*")] == [".lock"]  # a whole run removes it


@pytest.mark.parametrize("later", [None, "0/1", "1/2"])
def test_a_lost_shard_is_picked_up_by_a_later_run_with_any_number(batch, unbroken, tmp_path, later):
    batch(tmp_path, "0/3")
    torn = tmp_path / "ledger-0-of-3.jsonl"
    torn.write_bytes(torn.read_bytes() + b'{"job": "5.p')  # as a kill leaves it
    batch(tmp_path, "2/3")
    if later == "1/2":
        batch(tmp_path, "0/2")
    batch(tmp_path, later)
    check_same_plan(tmp_path, unbroken)
    assert lines(tmp_path) == COUNT + 1
    again = batch(tmp_path, "1/4")
    assert again.done == 0
    assert again.skipped == again.jobs


def test_a_shard_that_was_stopped_goes_on_in_mid_schedule(batch, unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "_CHUNK_S", 1e-9)

    first, second = StopAfter(2), StopAfter(0)
    with pytest.raises(StoppedError):
        batch(tmp_path, "0/2", progress=first, stop=first.stop)
    assert (tmp_path / "state-0-of-2.npz").exists()
    kept = shutil.copytree(tmp_path, tmp_path.with_name("kept"))
    batch(tmp_path, "0/2", progress=second, stop=second.stop)
    assert not list(tmp_path.glob("state*"))
    batch(tmp_path, "1/2")
    check_same_plan(tmp_path, unbroken)
    third = StopAfter(0)
    batch(kept, progress=third, stop=third.stop)  # a whole run takes it over
    assert first.image_steps + third.image_steps == COUNT * 4
    check_same_plan(kept, unbroken)
    assert not list(kept.glob("state*"))


def test_more_shards_than_jobs_are_no_fault(batch, tmp_path):
    done = [batch(tmp_path, Shard(index, 9)) for index in range(9)]
    assert sum(one.done for one in done) == COUNT
    assert [one.jobs for one in done].count(0) == 2


def test_a_whole_run_and_a_shard_keep_out_of_each_others_way(batch, tmp_path):
    tmp_path.mkdir(exist_ok=True)
    with LocalFolder(tmp_path).lock(), pytest.raises(OutputError, match="in use"):
        batch(tmp_path, "0/2")
    with LocalFolder(tmp_path).lock("0-of-2"):
        for shard in (None, "0/2"):
            with pytest.raises(OutputError, match="in use"):
                batch(tmp_path, shard)
        assert batch(tmp_path, "1/2").done > 0


def test_two_lists_of_jobs_in_one_folder_are_refused_but_a_whole_run_may_change_them(
    batch, jobs, tmp_path
):
    batch(tmp_path, "0/2")
    other = [*jobs[:-1], Job(jobs[0].content, jobs[1].style, "new.png")]
    with pytest.raises(OutputError, match=r"must all have the same jobs.*plan\.json") as refused:
        batch(tmp_path, "1/2", jobs=other)
    assert "same manifest" in refused.value.remedy
    changed = [Job(one.content, one.style, one.output, JobOptions(seed=1)) for one in jobs]
    with pytest.raises(OutputError, match="same jobs and options"):
        batch(tmp_path, "1/2", jobs=changed)
    batch(tmp_path, jobs=other)
    assert batch(tmp_path, "1/2", jobs=other).done == 0


def test_no_worker_opens_pictures_whose_sizes_are_told(batch, jobs, unbroken, tmp_path):
    told = [dataclasses.replace(one, size=_size(number)) for number, one in enumerate(jobs)]
    options = Options(preset="gram", size=48, levels=1, steps=4)
    costs = demand.job_costs(fill_defaults(told, options), options, ARCHITECTURES["vgg16"])
    mine = {one.output for one in jobs_of_shard(told, Shard(0, 2), costs)}
    gone = str(tmp_path / "gone.png")
    replaced = [
        one if one.output in mine else dataclasses.replace(one, content=gone) for one in told
    ]
    summary = batch(tmp_path / "out", "0/2", jobs=replaced)
    assert (summary.done, summary.failed) == (len(mine), 0)
    for name in mine:
        assert (tmp_path / "out" / name).read_bytes() == (unbroken / name).read_bytes()


def test_with_too_many_headers_whoever_plans_takes_each_canvas_for_that_of_many(
    jobs, options, monkeypatch
):
    monkeypatch.setattr(demand, "MOST_HEADERS", COUNT - 1)
    session = open_session(options, one_device())
    listed = fill_defaults(jobs, options)
    examined: Any = examine_jobs(listed, session, NullProgress())
    vgg16 = session.weights.architecture
    whole = demand.measure_demand(listed, options, vgg16, session.pictures.size)
    assert not whole.counts
    made = [
        session.make_plan(some, NullProgress(), whole=whole).slots
        for some in (examined, examined[:1])
    ]
    assert made[0].items() > made[1].items()
    assert set(made[0].values()) == {32}


def test_a_wrong_shard_from_python_is_a_wrong_request(batch, tmp_path):
    with pytest.raises(OptionError, match="numbered from 0 to 1"):
        batch(tmp_path, "2/2")


def test_of_workers_that_begin_at_one_instant_with_other_jobs_only_one_goes_on(
    tmp_path, jobs, options, monkeypatch
):
    meeting, original = threading.Barrier(2, timeout=1), Session.make_plan

    def plan_slowly(*args: Any, **kwargs: Any) -> Plan:
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait()  # as if both had found no plan
        return original(*args, **kwargs)

    monkeypatch.setattr(Session, "make_plan", plan_slowly)

    def work(number: int) -> str:
        own = jobs[: COUNT - number]
        try:
            render_batch(own, tmp_path, options, shard=Shard(number, 2), devices=one_device())
        except OutputError as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor() as pool:
        ends = sorted(pool.map(work, range(2)))
    assert ends[0] == "done"
    assert "must all have the same jobs" in ends[1]
