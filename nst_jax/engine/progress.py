"""What the engine tells whoever watches; the command line draws it, Python may ignore it."""

from typing import Protocol, runtime_checkable

from nst_jax.request.errors import NstJaxError

AHEAD_THREAD = "nst-jax compiles ahead"
"""The name of threads that compile what may not be needed any more."""


@runtime_checkable
class Progress(Protocol):
    """Receives events in the order they happen; `on_finish` may come from another thread."""

    def on_start(self, jobs: int, image_steps: int) -> None:
        """The work is known: so many jobs, so many steps of single images."""

    def on_compile(self, program: str) -> None:
        """A program is being compiled; the device stands still."""

    def on_step(self, image_steps: int) -> None:
        """So many more steps of single images are done."""

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        """A job has its picture, or has failed with an error."""

    def note(self, message: str) -> None:
        """Something that the user may want to know."""


class NullProgress:
    """A `Progress` that listens to nothing."""

    def on_start(self, jobs: int, image_steps: int) -> None: ...

    def on_compile(self, program: str) -> None: ...

    def on_step(self, image_steps: int) -> None: ...

    def on_finish(self, job: str, error: NstJaxError | None) -> None: ...

    def note(self, message: str) -> None: ...
