"""A wish to stop, and what else a renderer takes care of beside rendering.

A run stops at the end of a chunk: the device finishes its steps, the jobs under way are kept,
and the next run goes on with them in mid-schedule.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence

from nst_jax.engine.schedule.snapshot import JobSnapshot


class StopToken:
    """A wish to stop: set by a signal or another thread, looked at between chunks.

    Attributes:
        is_watched: Whether somebody will look soon; else whoever wishes must end the run himself.
    """

    def __init__(self) -> None:
        self.is_watched = False
        self._wish = threading.Event()

    @property
    def requested(self) -> bool:
        return self._wish.is_set()

    def request(self) -> None:
        """Asks the run to stop as soon as nothing is lost by it."""
        self._wish.set()

    def wait(self, seconds: float) -> None:
        """Waits so long, or until the run shall stop."""
        self._wish.wait(seconds)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """In this `with` block somebody looks at the wish at every chunk's end."""
        self.is_watched = True
        try:
            yield
        finally:
            self.is_watched = False


def _forget(standings: Sequence[JobSnapshot]) -> None:
    """Keeps nothing."""


@dataclasses.dataclass(frozen=True)
class Care:
    """What a renderer takes care of beside rendering.

    Attributes:
        stop: Whether it shall stop.
        retries: How often a batch is tried again after a fault of the device.
        checkpoint_every: Seconds between two keepings of the jobs under way; 0: none.
        keep: Keeps them, in a file or elsewhere.
    """

    stop: StopToken = dataclasses.field(default_factory=StopToken)
    retries: int = 0
    checkpoint_every: float = 0.0
    keep: Callable[[Sequence[JobSnapshot]], object] = _forget
