"""Command lines in processes of their own that start in a moment, to be killed.

A parent imports everything and never starts a backend; each command line runs in a fork of it,
which is a process like any other: it has its own threads, locks and open files, and its death is
its own.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_PARENT = """
import json, os, sys
import nst_jax.cli.main, nst_jax.engine.batch, nst_jax.engine.render
import nst_jax.engine.device.runtime, nst_jax.files.report.page
print("ready", flush=True)
for line in sys.stdin:
    arguments, said = json.loads(line)
    child = os.fork()
    if not child:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os._exit(nst_jax.cli.main.run(arguments))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Runner:
    """Runs one command line at a time; use it in a `with` block."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "NST_JAX_CACHE_DIR": str(folder / "programs"),
        }
        self._said = folder / "said.txt"
        self._parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._line() == "ready"

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()

    @property
    def said(self) -> str:
        """What the last process has printed so far."""
        return self._said.read_text()

    @contextlib.contextmanager
    def started(self, arguments: Sequence[str]) -> Iterator[int]:
        """A process that runs a command line; it is dead at the end of this `with` block."""
        assert self._parent.stdin is not None
        self._said.write_text("")
        self._parent.stdin.write(json.dumps([list(arguments), str(self._said)]) + "\n")
        self._parent.stdin.flush()
        process = int(self._line())
        self._status: int | None = None
        try:
            yield process
        finally:
            if self._status is None:
                self.send(process, signal.SIGKILL)
                self.status()

    @staticmethod
    def send(process: int, number: int) -> None:
        """Sends a signal to a process, if it has not ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    def status(self) -> int:
        """The exit status of the running process, once it has ended; a signal's is negative."""
        if self._status is None:
            self._status = int(self._line())
        return self._status

    def run(self, arguments: Sequence[str]) -> int:
        """Runs a command line to its end; returns the exit status."""
        with self.started(arguments):
            return self.status()

    def _line(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline().strip()
