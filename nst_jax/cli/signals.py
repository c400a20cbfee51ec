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
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from nst_jax.spec.errors import StoppedError

if TYPE_CHECKING:
    from nst_jax.engine.stopping import Stop

SHELL_BASE = 128
"""A process that a signal ended has this exit status and the signal's number."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_END = 0
_SHOW_CURSOR = "\x1b[?25h"


class Terminated(BaseException):
    """SIGTERM arrived where nothing is to be kept."""


def terminate(signum: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM where nothing is to be kept: as Python's own of SIGINT."""
    raise Terminated


class EndedBySignal(Exception):
    """A run was stopped by a signal and has kept what it had.

    Attributes:
        status: The exit status of a process that this signal ended.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.status = SHELL_BASE + number


class _Caught:
    """The first signal of a run: its number, 0 as long as none came."""

    number = 0


@contextlib.contextmanager
def ended_by_signal(stop: "Stop") -> Iterator[None]:
    """In this `with` block the first signal asks the run to stop, the second ends the process.

    Where nobody listens to the wish, the first one is raised as it would be anywhere else.

    Raises:
        EndedBySignal: The run has stopped because of one.
    """
    caught = _Caught()
    with _passed_on(stop, caught):
        try:
            yield
        except StoppedError as error:
            if caught.number:
                raise EndedBySignal(caught.number, error.message) from error
            raise


@contextlib.contextmanager
def _passed_on(stop: "Stop", caught: _Caught) -> Iterator[None]:
    def handle(signum: int, frame: FrameType | None) -> None:
        if stop.heeded:
            return  # the thread has told it, or is about to
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    thread = threading.Thread(target=_pass_on, args=(reader, stop, caught), daemon=True)
    handlers = {number: signal.signal(number, handle) for number in _SIGNALS}
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.setblocking(True)
        writer.send(bytes([_END]))
        thread.join()
        reader.close()
        writer.close()


def _pass_on(reader: socket.socket, stop: "Stop", caught: _Caught) -> None:
    """The thread: reads a byte for each signal, which is its number."""
    while (number := reader.recv(1)[0]) != _END:
        if number not in _SIGNALS:
            continue
        if caught.number:
            _end_at_once(number)
        caught.number = number
        stop.request()


def _end_at_once(number: int) -> None:
    if sys.stderr.isatty():  # a progress bar has hidden it
        os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
    os._exit(SHELL_BASE + number)
