"""Ctrl-C, SIGTERM and the like as a wish to stop; a second of these two ends the process at once.

The like are a closed terminal, and what schedulers send before a kill. They say the same again and
again (a shell passes on the hang-up that the system has told already), so only Ctrl-C and SIGTERM
are taken for impatience.

Python runs a signal's handler only between two instructions of the main thread, which may be
waiting for a compiler or a device. So the system also writes each signal into a pipe, and a
thread reads it there: it passes the wish on, or ends the process, whatever else is going on.
Every file is written aside and moved into place, so an end at any moment harms none.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from nst_jax.cli.console import drop_lost_terminal
from nst_jax.request.errors import StoppedError

if TYPE_CHECKING:
    from nst_jax.engine.schedule.stop import StopToken

SHELL_BASE = 128
"""A process that a signal ended has this exit status and the signal's number."""

_INSISTENT = (signal.SIGINT, signal.SIGTERM)
_WARNINGS = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGBREAK", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)  # each system has its own
)
_SIGNALS = (*_INSISTENT, *_WARNINGS)
_END = 0
_SHOW_CURSOR = "\x1b[?25h"

GO_ON = "run the same command again to go on"
_HOW_IT_ENDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Termination(BaseException):
    """SIGTERM or the like, as KeyboardInterrupt is SIGINT."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = number


def end_on_signals() -> None:
    """From here on a signal ends the process, but for `with` blocks of `stop_on_signal`.

    Until a command works there is nothing to keep, but much to import. An exception would break
    modules that are being loaded, or be swallowed where it meets a callback. What is ignored, as
    Ctrl-C is by a shell's background jobs, stays so.
    """
    for number in _heeded_signals():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def exit_message(signum: int) -> str:
    """What is said of a process that a signal has ended."""
    name = signal.Signals(signum).name
    return f"{_HOW_IT_ENDS.get(signum, f'ended by {name}')}; {GO_ON}"


def _end(signum: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"nst-jax: {exit_message(signum)}\n".encode())
    _end_at_once(signum)


@contextlib.contextmanager
def raise_on_signal() -> Iterator[None]:
    """In this `with` block a signal is raised, so that what was begun is cleared away."""
    with _handle_signals(_raise):
        yield


class SignalExit(Exception):
    """A run was stopped by a signal and has kept what it had.

    Attributes:
        status: The exit status of a process that this signal ended.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.status = SHELL_BASE + number


@contextlib.contextmanager
def stop_on_signal(
    stop: "StopToken", say: Callable[[str], object] = lambda _: None
) -> Iterator[None]:
    """In this `with` block the first signal asks the run to stop, the second ends the process.

    Where nobody listens to the wish, the first one ends the process too: nothing is lost there.

    Args:
        stop: The wish.
        say: Told at once, by another thread, what the signal does and what a second one would.

    Raises:
        SignalExit: The run has stopped because of one.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        if not stop.is_watched:  # else the thread has told it, or is about to
            _end(signum, frame)

    first: list[int] = []
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    thread = threading.Thread(target=_pass_on, args=(reader, stop, first, say), daemon=True)
    with _handle_signals(handle):
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        thread.start()
        try:
            yield
        except StoppedError as error:
            if first:
                raise SignalExit(first[0], error.message) from error
            raise
        finally:
            signal.set_wakeup_fd(before)
            writer.setblocking(True)
            writer.send(bytes([_END]))
            thread.join()
            reader.close()
            writer.close()


def _heeded_signals() -> list[int]:
    """Those that are wishes to stop: of warnings only what would end the process.

    `nohup` ignores hang-ups, and what a caller handles himself is his.
    """
    deadly = (signal.SIG_DFL, _end)
    return [*_INSISTENT, *(one for one in _WARNINGS if signal.getsignal(one) in deadly)]


@contextlib.contextmanager
def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _heeded_signals()}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _raise(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt if signum == signal.SIGINT else Termination(signum)


def _pass_on(
    reader: socket.socket, stop: "StopToken", first: list[int], say: Callable[[str], object]
) -> None:
    """The thread: reads a byte for each signal, which is its number; keeps the first one's."""
    is_impatient = False
    while (number := reader.recv(1)[0]) != _END:
        if number not in _SIGNALS:
            continue
        if number not in _INSISTENT:
            drop_lost_terminal()
        elif is_impatient:
            _end_at_once(number)
        else:
            is_impatient = True
        if not first:
            first.append(number)
            is_heard = stop.is_watched
            stop.request()
            if is_heard:  # by a thread, as this one must hear the next signal whatever happens
                text = _stopping_text(number, stop.saved_at)
                threading.Thread(target=say, args=(text,), daemon=True).start()


def _stopping_text(number: int, saved_at: float) -> str:
    """What a first signal does, and what a second one would."""
    since = time.strftime("%H:%M", time.localtime(saved_at))
    again = f"; Ctrl-C again ends now and loses the steps since {since}"
    return f"stopping after the steps under way{again if number == signal.SIGINT else ''}"


def _end_at_once(number: int) -> None:
    if sys.stderr and sys.stderr.isatty():  # a progress bar has hidden it
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    os._exit(SHELL_BASE + number)
