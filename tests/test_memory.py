"""A long batch takes what a short one takes: memory, threads, open files."""

import gc
import sys
import threading
from pathlib import Path

import host
import pytest
from engine_jobs import one_device, style_of, tiny_job, tiny_options

from nst_jax.engine.batch import render_batch
from nst_jax.request.job import Job


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted otherwise")
def test_a_long_batch_takes_no_more_memory_than_a_short_one(tmp_path: Path):
    host.write_network(tmp_path / "network.h5")
    host.write_pictures(tmp_path)
    short, long = (
        host.run_in_fresh_process(host.render_seeds, tmp_path, jobs) for jobs in (400, 2400)
    )
    # A picture of 64 px as the engine has it is 48 KiB: to keep one a job would be 94 MiB. The
    # allocator's arenas, one a thread, take up to 30 MiB more or less from run to run.
    assert long["peak_mib"] - short["peak_mib"] < 47
    assert long["files_after"] <= short["files_after"]
    assert long["threads_after"] <= short["threads_after"]


def open_files() -> set[str]:
    """What the process has open, the reading of this very list apart."""
    links = Path("/proc/self/fd")
    return {f"{one.name} {one.readlink()}" for one in links.iterdir() if one.is_symlink()}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not tell")
def test_batches_leave_no_thread_and_no_open_file_behind(
    tmp_path: Path, narrow_file: str, compiled_once
):
    options = tiny_options(narrow_file, levels=1, steps=2)
    bad = Job(tmp_path / "missing.png", style_of(0))

    def render(name: str, count: int) -> None:
        jobs = [tiny_job(0, steps=2, seed=seed) for seed in range(count)]
        render_batch([*jobs, bad], tmp_path / name, options, devices=one_device())
        gc.collect()

    render("first", 4)  # whatever is opened once and for all
    files, threads = open_files(), set(threading.enumerate())
    render("many", 24)
    render("many", 32)
    assert len(open_files()) <= len(files)
    assert set(threading.enumerate()) <= threads
