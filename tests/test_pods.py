"""Several processes as the hosts of a pod: alone, and joined by jax.distributed.

Each has several devices of its own. One is killed in the midst of its work.
"""

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from batch_runs import check_same, mixed_batch, start_process

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


def start(asked: list[str], out: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    devices = {"JAX_NUM_CPU_DEVICES": str(DEVICES), "JAX_PLATFORMS": "cpu"}
    return start_process(_WORKER, asked, out, *arguments, **devices, **variables)


def joined(asked: list[str], out: Path, count: int) -> list[subprocess.Popen]:
    """Processes that are joined by jax.distributed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": str(count)}
    return [
        start(asked, out, "--shard", "distributed", **variables, JAX_PROCESS_ID=str(index))
        for index in range(count)
    ]


def killed_at_work(process: subprocess.Popen) -> None:
    """Kills a process as soon as it renders."""
    assert process.stderr is not None
    for line in process.stderr:
        if re.search("to render", line):
            break
    process.send_signal(signal.SIGKILL)


def ends(processes: list[subprocess.Popen]) -> list[int]:
    for process in processes:
        process.communicate(timeout=240)
    return [process.returncode for process in processes]


@pytest.fixture(scope="module")
def single(asked, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    assert ends([start(asked, folder)]) == [0]
    return folder


@pytest.mark.parametrize("count", [2, 4])
def test_of_independent_processes_one_dies_and_the_others_finish(asked, single, tmp_path, count):
    processes = [start(asked, tmp_path, "--shard", f"{index}/{count}") for index in range(count)]
    killed_at_work(processes[0])
    assert ends(processes) == [-signal.SIGKILL] + [0] * (count - 1)
    assert len(list(tmp_path.glob("*.png"))) >= COUNT * (count - 1) // count
    later = ["--shard", "0/2"] if count == 2 else []
    assert ends([start(asked, tmp_path, *later)]) == [0]
    check_same(tmp_path, single, COUNT)


def test_processes_joined_by_jax_render_on_their_own_devices_alone(asked, single, tmp_path):
    assert ends(joined(asked, tmp_path, 2)) == [0, 0]
    check_same(tmp_path, single, COUNT)
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
    check_same(tmp_path, single, COUNT)
