"""What the last sessions of this process have compiled, so that the next call need not.

A session is known by its content, never by an object: equal weights, options and devices are the
same session in whatever call. Two are kept, and of each the programs that were used last, so memory
stays the same however many calls there are. Calls may run in several threads at once.

No jax is imported here.
"""

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Any

_KEPT_SESSIONS = 2

_KEPT_PROGRAMS = 256
"""Of a session. A picture of 512 px has 35: it takes seven kinds of pictures to fill them."""


class CompiledSession:
    """A network on its devices, and programs compiled for it.

    Attributes:
        networks: By the number of devices that a batch is laid over, and whether its images lie
            transposed.
        names: Of programs that were asked for by shapes, by what was asked for.
        lock: Held by whoever makes a network, so that no two calls make the same one.
    """

    def __init__(self) -> None:
        """Starts without any."""
        self.networks: dict[tuple[int, bool], Any] = {}
        self.names: dict[Hashable, str] = {}
        self.lock = threading.RLock()
        self._programs: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self._under_way: dict[str, threading.Event] = {}

    def find(self, name: str) -> Any:
        """The program of that name; None where it is not there."""
        with self.lock:
            if name in self._programs:
                self._programs.move_to_end(name)
            return self._programs.get(name)

    def is_begun(self, name: str) -> bool:
        """Whether the program of that name is there, or some thread compiles it."""
        with self.lock:
            return name in self._programs or name in self._under_way

    def get(
        self,
        name: str,
        compile_now: Callable[[], Any],
        on_wait: Callable[[], object] = lambda: None,
    ) -> Any:
        """The program of that name, compiled now where it is not there.

        Where another thread is at it, it is waited for; if that fails, it is compiled here.

        Args:
            name: The program's.
            compile_now: Compiles it.
            on_wait: Called before another thread is waited for.
        """
        while True:
            with self.lock:
                if (program := self.find(name)) is not None:
                    return program
                other = self._under_way.get(name)
                if other is None:
                    self._under_way[name] = threading.Event()
            if other is None:
                return self._compile(name, compile_now)
            on_wait()
            other.wait()

    def _compile(self, name: str, compile_now: Callable[[], Any]) -> Any:
        """Compiles a program that this thread has noted as under way."""
        try:
            program = compile_now()
            with self.lock:
                self._programs[name] = program
            return program
        finally:
            with self.lock:
                self._under_way.pop(name).set()

    def forget_old(self) -> None:
        """Forgets what was not used for longest; a call that runs holds what it has used."""
        with self.lock:
            while len(self._programs) > _KEPT_PROGRAMS:
                self._programs.popitem(last=False)
            self.names = {of: name for of, name in self.names.items() if name in self._programs}


_sessions: collections.OrderedDict[Hashable, CompiledSession] = collections.OrderedDict()
_lock = threading.Lock()


def recent_session(key: Hashable) -> CompiledSession:
    """The session of that key, where it is one of the last; else a new one, which is kept.

    Args:
        key: Everything that networks and programs follow from.
    """
    with _lock:
        session = _sessions.pop(key, None) or CompiledSession()
        while len(_sessions) >= _KEPT_SESSIONS:
            _sessions.popitem(last=False)
        _sessions[key] = session
    session.forget_old()
    return session


def forget_programs() -> None:
    """Frees the programs and networks that are kept from the last calls of this process.

    `render`, `render_many` and `render_batch` keep those of two sessions (weights, options,
    devices), so that the same kind of call compiles nothing when it comes again. What runs in
    another thread goes on.
    """
    with _lock:
        _sessions.clear()
