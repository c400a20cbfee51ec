"""Programs compiled by threads ahead of need, where cores are free beside the devices.

A compilation can't be interrupted. So threads are few, begin none after a run has ended or shall
stop, and nobody waits for them but Python at its end. What fails here shows itself when the program
is needed.
"""

import contextlib
import threading
from collections.abc import Iterable

import jax

from nst_jax.engine.device import runtime
from nst_jax.engine.device.program_shapes import ProgramShapes
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.host_limits import usable_cores
from nst_jax.engine.plan.program_list import PlannedProgram
from nst_jax.engine.progress import AHEAD_THREAD
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.request.options import Options

MOST_THREADS = 4
"""Tracing and lowering hold Python's lock, a fifth to a third of the time; more would wait."""

_FEWEST_CORES = 2
"""Of free ones; with one, compilations take from the driving thread what they give."""

_DOUBLE_PRECISION = "jax_enable_x64"


def count_threads(devices: Devices) -> int:
    """Threads that may compile while these devices work; 0: none.

    Each device of a CPU is one of its cores, and to drive others takes one.
    """
    free = usable_cores() - (devices.count if devices.platform == "cpu" else 1)
    return min(MOST_THREADS, free) if free >= _FEWEST_CORES else 0


class AheadCompiler:
    """Threads that compile programs in the order in which they will be needed."""

    def __init__(
        self,
        programs: ProgramCache,
        options: Options,
        planned: Iterable[PlannedProgram],
        *,
        threads: int,
        stop: StopToken | None = None,
    ) -> None:
        """Begins.

        Args:
            programs: The run's.
            options: Likewise.
            planned: In the order of need.
            threads: How many.
            stop: When the run shall stop.
        """
        self._shapes = ProgramShapes(programs, options)
        self._left = iter(planned)
        self._lock = threading.Lock()
        self._stop = stop or StopToken()
        self._is_closed = False
        self._is_double = getattr(jax.config, _DOUBLE_PRECISION)  # of the caller's thread
        for _ in range(threads):
            threading.Thread(target=self._compile_all, name=AHEAD_THREAD).start()

    def close(self) -> None:
        """Has the threads end after the compilations that they are at; does not wait."""
        self._is_closed = True

    def _compile_all(self) -> None:
        with runtime.without_debugging(), jax.enable_x64(self._is_double):
            while not self._is_over() and (planned := self._next()):
                with contextlib.suppress(Exception):  # it comes again where that is needed
                    self._compile(planned)

    def _is_over(self) -> bool:
        """Whether nothing more shall begin; at Python's end nobody says so."""
        is_wanted = not self._is_closed and not self._stop.is_requested
        return not (is_wanted and threading.main_thread().is_alive())

    def _next(self) -> PlannedProgram | None:
        with self._lock:
            return next(self._left, None)

    def _compile(self, planned: PlannedProgram) -> None:
        with self._lock:
            program = None if self._shapes.is_begun(planned) else self._shapes.find(planned)
        if program and not self._shapes.session.is_begun(program.name):
            program.compile(is_told=False)
