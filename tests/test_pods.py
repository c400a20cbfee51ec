"""Several processes as the hosts of a pod: alone, and joined by jax.distributed.

Each has several devices of its own. One is killed in the midst of its work.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from batch_runs import mixed_batch

from nst_jax.files.ledger import read_ledger

COUNT = 8
DEVICES = 2

pytestmark = pytest.mark.slow

# A death is noticed in 5 seconds instead of 100.
_WORKER = """
import functools, jax
jax.distributed.initialize = functools.partial(
    jax.distributed.initialize, heartbeat_timeout_seconds=5
)
from nst_jax.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def asked(narrow_file, tmp_path_factory) -> list[str]:
    return mixed_batch(tmp_path_factory.mktemp("manifest"), narrow_file, COUNT, "--retries", "0")


def started(asked: list[str], out: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("JAX_PROCESS")
    }
    environment |= {"JAX_NUM_CPU_DEVICES": str(DEVICES), "JAX_PLATFORMS": "cpu", **variables}
    command = [sys.executable, "-c", _WORKER, *asked, "--output-dir", str(out), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def joined(asked: list[str], out: Path, count: int) -> list[subprocess.Popen]:
    """Processes that are joined by jax.distributed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": str(count)}
    return [
        started(asked, out, "--shard", "distributed", **variables, JAX_PROCESS_ID=str(index))
        for index in range(count)
    ]


def killed_at_work(process: subprocess.Popen) -> None:
    """Kills a process as soon as it renders."""
    assert process.stderr is not None
    for line in process.stderr:
        if re.search("rendering", line):
            break
    process.send_signal(signal.SIGKILL)


def ends(processes: list[subprocess.Popen]) -> list[int]:
    for process in processes:
        process.communicate(timeout=240)
    return [process.returncode for process in processes]


@pytest.fixture(scope="module")
def single(asked, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    assert ends([started(asked, folder)]) == [0]
    return folder


def check_same(folder: Path, single: Path) -> None:
    for number in range(COUNT):
        assert (folder / f"{number}.png").read_bytes() == (single / f"{number}.png").read_bytes()
    records = read_ledger(folder)
    assert sorted(records) == [f"{number}.png" for number in range(COUNT)]
    assert {one["status"] for one in records.values()} == {"done"}


def done(folder: Path) -> int:
    return len(list(folder.glob("*.png")))


@pytest.mark.parametrize("count", [2, 4])
def test_of_independent_processes_one_dies_and_the_others_finish(asked, single, tmp_path, count):
    processes = [started(asked, tmp_path, "--shard", f"{index}/{count}") for index in range(count)]
    killed_at_work(processes[0])
    assert ends(processes) == [-signal.SIGKILL] + [0] * (count - 1)
    assert done(tmp_path) >= COUNT * (count - 1) // count
    if count == 2:
        assert ends([started(asked, tmp_path, "--shard", "0/2")]) == [0]
    else:
        assert ends([started(asked, tmp_path)]) == [0]
    check_same(tmp_path, single)


def test_processes_joined_by_jax_render_on_their_own_devices_alone(asked, single, tmp_path):
    assert ends(joined(asked, tmp_path, 2)) == [0, 0]
    check_same(tmp_path, single)
    for index in range(2):
        record = (tmp_path / f"run-{index}-of-2.json").read_text()
        assert f'"count": {DEVICES}' in record  # of its own, not of all


def test_joined_processes_die_with_one_of_them_and_a_rerun_completes(asked, single, tmp_path):
    """As JAX documents it: by default, if any process fails, all do."""
    processes = joined(asked, tmp_path, 2)
    killed_at_work(processes[1])  # the other one holds the coordinator, which notices
    first, second = ends(processes)
    assert second == -signal.SIGKILL
    assert first not in (0, 2, 3)
    assert ends(joined(asked, tmp_path, 2)) == [0, 0]
    check_same(tmp_path, single)
