"""A request to stop: a run stops at the end of a chunk, and the next run goes on from there.

The device finishes its steps, and the jobs in flight are kept in mid-schedule.
"""

import contextlib
import threading
import time
from collections.abc import Iterator


class StopToken:
    """A request to stop: made by a signal or another thread, looked at between chunks.

    Attributes:
        is_watched: Whether somebody will look soon; else whoever asks must end the run himself.
        saved_at: When the jobs in mid-schedule were last saved, or the run began, as `time.time`.
    """

    def __init__(self) -> None:
        self.is_watched = False
        self.saved_at = time.time()
        self._event = threading.Event()

    @property
    def is_requested(self) -> bool:
        """Whether the run shall stop."""
        return self._event.is_set()

    def request(self) -> None:
        """Asks the run to stop as soon as nothing is lost by it."""
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Waits so long, or until the run shall stop."""
        self._event.wait(seconds)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """In this `with` block somebody looks at the request at every chunk's end."""
        self.is_watched = True
        try:
            yield
        finally:
            self.is_watched = False
