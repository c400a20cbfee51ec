"""A process of its own for reading a file that nobody vouches for.

HDF5's and SciPy's readers are made for files that mean well. One wrong byte, and some crash,
some search for ever, some ask for all memory there is. A process can't defend itself against
that, but it can leave the reading to a child that may fail: it has a limit on its memory, it is
ended when it has not been heard of for too long, and all that comes back from it is one line of
text at a time and a file that is checked again.

It is a crash barrier and no sandbox: the child may do what the user may.

    child says     {"ready": true}                         its imports are done
                   {"done": 1234, "total": 58866625}       so many bytes are read
                   {"fault": "weights file …", "remedy": "…"}
                   {"written": true}
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from nst_jax.request.errors import WeightsError
from nst_jax.weights.errors import InvalidWeights, explain_read_errors
from nst_jax.weights.publishers.publisher import Progress

LONGEST_SILENCE_S = 120.0
"""After so long without a word a child is taken to search for ever."""

_MEMORY_OF_A_READER = 2**30
"""For Python, NumPy and the readers' libraries themselves, in bytes."""


def convert_in_child(source: Path, destination: Path, publisher: str, progress: Progress) -> None:
    """Converts `source` in a child process and waits for it.

    Args:
        source: Any file.
        destination: Written by the child, in place.
        publisher: As `convert` takes it.
        progress: Called for every word of the child's.

    Raises:
        WeightsError: What the child found, or that it crashed, hung, or needed too much memory.
    """
    # -P: a json.py in the folder where the user works must not be taken for Python's own.
    command = [sys.executable, "-P", "-m", "nst_jax.weights.subprocess_main"]
    # One thread: a reader has no use for more, and each takes its share of the memory limit.
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with explain_read_errors(source):
        memory = _MEMORY_OF_A_READER + 2 * source.stat().st_size
        with subprocess.Popen(
            [*command, str(source), str(destination), publisher, str(memory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | one_thread | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ) as child:
            try:
                outcome = _await_outcome(child, progress)
            finally:
                child.kill()
        if "fault" in outcome:
            raise WeightsError(str(outcome["fault"]), str(outcome["remedy"]))
        if not outcome:
            raise WeightsError(
                f"the process that reads weight files could not start (status {child.returncode})",
                "Install nst_jax again, or free some memory",
            )
        if "written" not in outcome:
            how = "did not end" if child.returncode == -9 else "crashed"
            raise InvalidWeights(f"is damaged: the library that reads such files {how}")


def _await_outcome(child: "subprocess.Popen[str]", progress: Progress) -> dict[str, object]:
    """The child's last word; {} if it ended without one, or was ended after a long silence."""
    assert child.stdout is not None
    outcome: dict[str, object] = {}
    watchdog = _start_watchdog(child)
    try:
        for line in child.stdout:
            watchdog.cancel()
            watchdog = _start_watchdog(child)
            match json.loads(line):
                case {"done": int(done), "total": int(total)}:
                    progress(done, total)
                case dict(word):
                    outcome = word
        child.wait()
    finally:
        watchdog.cancel()
    return outcome


def _start_watchdog(child: "subprocess.Popen[str]") -> threading.Timer:
    watchdog = threading.Timer(LONGEST_SILENCE_S, child.kill)
    watchdog.daemon = True
    watchdog.start()
    return watchdog
