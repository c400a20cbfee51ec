"""One run at a time in a folder, and a lock that dies with its process."""

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nst_jax.files.locks import LOCK_NAME, folder_mutex, lock_folder
from nst_jax.request.errors import OutputError

HOLD = """
import sys
from pathlib import Path
from nst_jax.files.locks import lock_folder
with lock_folder(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(folder: Path, shard: str = "") -> Iterator[subprocess.Popen]:
    """Another process that holds the folder, or a share of it."""
    command = [sys.executable, "-c", HOLD, str(folder), shard]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        if process.poll() is None:
            process.stdin.close()


def hold(folder: Path, shard: str = "") -> None:
    with lock_folder(folder, shard):
        pass


def test_a_dead_process_holds_nothing(tmp_path):
    with another_process(tmp_path) as process:
        process.kill()
        process.wait()
        assert (tmp_path / LOCK_NAME).exists()
        hold(tmp_path)
    assert list(tmp_path.iterdir()) == []


def kill_holder(folder: Path, shard: str = "") -> subprocess.Popen:
    """A process that held the folder, or a share of it, and left its signature there."""
    with another_process(folder, shard) as process:
        process.kill()
    return process


def test_who_is_dead_is_not_named_among_those_who_hold_the_folder(tmp_path):
    dead = [kill_holder(tmp_path), kill_holder(tmp_path, "0-of-3"), kill_holder(tmp_path, "1-of-2")]
    with another_process(tmp_path, "0-of-2") as process:
        with pytest.raises(OutputError, match=f"process {process.pid} on ") as refused:
            hold(tmp_path)
        assert str(refused.value).count("process ") == 1
        assert not any(f"process {one.pid} " in str(refused.value) for one in dead)


def test_where_none_who_holds_it_has_signed_it_is_another_process(tmp_path):
    kill_holder(tmp_path, "0-of-2")
    with another_process(tmp_path, "1-of-2"):
        (tmp_path / f"{LOCK_NAME}-1-of-2").write_bytes(b"")
        with pytest.raises(OutputError, match="in use by another process"):
            hold(tmp_path)


def test_a_whole_run_removes_what_killed_shards_left(tmp_path):
    kill_holder(tmp_path, "0-of-2")
    kill_holder(tmp_path, "1-of-2")
    with lock_folder(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
    assert list(tmp_path.iterdir()) == []


def test_one_who_only_looks_keeps_nobody_out(tmp_path):
    path = tmp_path / f"{LOCK_NAME}-0-of-2"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_SH)
    threading.Timer(0.01, os.close, [handle]).start()
    hold(tmp_path, "0-of-2")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b'{"process": 1}'])
def test_a_file_that_nobody_holds_is_no_lock(tmp_path, content):
    (tmp_path / LOCK_NAME).write_bytes(content)
    hold(tmp_path)


@pytest.mark.parametrize("held", ["", "0-of-2"])
def test_a_second_run_is_refused_with_who_holds_it_and_may_begin_afterwards(tmp_path, held):
    """But for another shard of the same run."""
    with another_process(tmp_path, held) as process:
        for shard in ("", "0-of-2"):
            with pytest.raises(OutputError, match=f"in use by process {process.pid} on "):
                hold(tmp_path, shard)
        if held:
            hold(tmp_path, "1-of-2")
    hold(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_workers_take_turns_at_what_only_one_may_do_at_a_time(tmp_path):
    order: list[str] = []

    def take_turn() -> None:
        with folder_mutex(tmp_path):
            order.append("other")

    other = threading.Thread(target=take_turn)
    with lock_folder(tmp_path, "0-of-2"), folder_mutex(tmp_path):
        other.start()
        other.join(0.2)
        order.append("one")
    other.join()
    assert order == ["one", "other"]


def test_a_folder_that_can_not_be_written_is_the_callers_to_explain(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        hold(tmp_path / "nowhere")
