"""Ctrl-C and SIGTERM as a wish to stop; a second one ends the process at once.

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
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from nst_jax.request.errors import StoppedError

if TYPE_CHECKING:
    from nst_jax.engine.schedule.stop import StopToken

SHELL_BASE = 128
"""A process that a signal ended has this exit status and the signal's number."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_END = 0
_SHOW_CURSOR = "\x1b[?25h"

GO_ON = "run the same command again to go on"
_HOW_IT_ENDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Termination(BaseException):
    """SIGTERM, as KeyboardInterrupt is SIGINT."""


def end_on_signals() -> None:
    """From here on a signal ends the process, but for `with` blocks of `stop_on_signal`.

    Until a command works there is nothing to keep, but much to import. An exception would break
    modules that are being loaded, or be swallowed where it meets a callback. What is ignored, as
    Ctrl-C is by a shell's background jobs, stays so.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def exit_message(signum: int) -> str:
    """What is said of a process that a signal has ended."""
    return f"{_HOW_IT_ENDS[signal.Signals(signum)]}; {GO_ON}"


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
def stop_on_signal(stop: "StopToken") -> Iterator[None]:
    """In this `with` block the first signal asks the run to stop, the second ends the process.

    Where nobody listens to the wish, the first one ends the process too: nothing is lost there.

    Raises:
        SignalExit: The run has stopped because of one.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        if not stop.is_watched:  # else the thread has told it, or is about to
            _end(signum, frame)

    first: list[int] = []
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    thread = threading.Thread(target=_pass_on, args=(reader, stop, first), daemon=True)
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


@contextlib.contextmanager
def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _raise(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt if signum == signal.SIGINT else Termination


def _pass_on(reader: socket.socket, stop: "StopToken", first: list[int]) -> None:
    """The thread: reads a byte for each signal, which is its number; keeps the first one's."""
    while (number := reader.recv(1)[0]) != _END:
        if number not in _SIGNALS:
            continue
        if first:
            _end_at_once(number)
        first.append(number)
        stop.request()


def _end_at_once(number: int) -> None:
    if sys.stderr and sys.stderr.isatty():  # a progress bar has hidden it
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    os._exit(SHELL_BASE + number)
