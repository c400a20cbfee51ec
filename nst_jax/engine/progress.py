"""What the engine tells whoever watches; the command line draws it, Python may ignore it."""

from typing import Protocol, runtime_checkable

from nst_jax.request.errors import NstJaxError

AHEAD_THREAD = "nst-jax compiles ahead"
"""The name of threads that compile what may not be needed any more."""


@runtime_checkable
class Progress(Protocol):
    """Receives events in the order they happen; `on_finish` may come from another thread."""

    def on_start(
        self,
        jobs: int,
        image_steps: int,
        *,
        finished: int = 0,
        taken: int = 0,
        seconds: float | None = None,
    ) -> None:
        """The work is known.

        Args:
            jobs: To be rendered now.
            image_steps: Steps of single images that they have left.
            finished: Jobs of the same batch that were finished before.
            taken: Steps that the jobs have taken before, in a run that was interrupted.
            seconds: How long the steps will take, by the last run on this machine; None: unknown.
        """

    def on_prepare(self, size: str, number: int, count: int) -> None:
        """Pictures of this size come next, for the first time: what they need is made ready.

        Args:
            size: Width and height in pixels, as 256x192.
            number: How many such there have been, with this one.
            count: How many there will be.
        """

    def on_compile(self, program: str) -> None:
        """A program is being compiled, or loaded where it was kept; the device stands still."""

    def on_step(self, image_steps: int) -> None:
        """So many more steps of single images are done."""

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        """A job has its picture, or has failed with an error."""

    def note(self, message: str) -> None:
        """Something that the user may want to know."""


class NullProgress(Progress):
    """A `Progress` that listens to nothing; whoever inherits from it needs not answer to all."""
