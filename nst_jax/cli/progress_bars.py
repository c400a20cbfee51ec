"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from nst_jax.cli.console import drop_output, print_on_stderr, printable
from nst_jax.engine.progress import NullProgress
from nst_jax.request.errors import NstJaxError, say_count

_LINE_EVERY_S = 10.0
_Bar = TypeVar("_Bar", bound="TerminalBar")
_Watch = TypeVar("_Watch")


class TerminalBar:
    """A bar for terminals, which is drawn in a `with` block."""

    def __init__(self, *amounts: ProgressColumn) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            *amounts,
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self: _Bar) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._without_terminal():
            self._bar.stop()

    def say(self, message: str, style: str | None = None) -> None:
        """Prints lines above the bar."""
        with self._without_terminal():
            self._bar.console.print(
                message, style=style, markup=False, highlight=False, soft_wrap=True
            )

    @contextlib.contextmanager
    def _without_terminal(self) -> Iterator[None]:
        """Work goes on where the terminal has gone."""
        try:
            yield
        except OSError:
            drop_output(sys.stderr)


class TimedLines:
    """Plain lines for logs and pipes, each with the seconds so far; use it in a `with` block."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def __enter__(self: _Watch) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None: ...

    def say(self, message: str) -> None:
        """Prints a line."""
        self._last = time.monotonic()
        print_on_stderr(f"[{self._last - self._began:7.1f} s] {message}")

    def say_share(self, message: str, done: int, total: int) -> None:
        """Prints a line with how much is done, if there has been none for a while."""
        if time.monotonic() - self._last >= _LINE_EVERY_S:
            self.say(f"{message} ({100 * done / max(total, 1):.0f} %)")


class ProgressBar(TerminalBar):
    """A bar of image-steps."""

    def __init__(self) -> None:
        super().__init__(MofNCompleteColumn(), TextColumn("image-steps"))
        self._task = self._bar.add_task("looking at the pictures", total=None)

    def on_start(self, jobs: int, image_steps: int) -> None:
        self._bar.update(
            self._task, total=image_steps, description=f"rendering {say_count(jobs, 'job')}"
        )

    def on_compile(self, program: str) -> None:
        self._bar.update(self._task, description=f"compiling {program.split(' content ')[0]}")

    def on_step(self, image_steps: int) -> None:
        self._bar.update(self._task, advance=image_steps, description="rendering")

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        if error:
            self.say(_line(job, error), style="red")

    def note(self, message: str) -> None:
        self.say(message)


class ProgressLines(TimedLines):
    """Lines about image-steps."""

    _done = _total = 0

    def on_start(self, jobs: int, image_steps: int) -> None:
        self._total = image_steps
        self.say(f"rendering {say_count(jobs, 'job')}, {image_steps} image-steps")

    def on_compile(self, program: str) -> None:
        self.say(f"compiling {program}")

    def on_step(self, image_steps: int) -> None:
        self._done += image_steps
        self.say_share(f"{self._done} of {self._total} image-steps", self._done, self._total)

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        self.say(_line(job, error))

    def note(self, message: str) -> None:
        self.say(message)


class Quiet(NullProgress):
    """Says only what failed; use it in a `with` block."""

    def __enter__(self: _Watch) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None: ...

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        if error:
            print_on_stderr(_line(job, error))


def open_progress(*, quiet: bool) -> ProgressBar | ProgressLines | Quiet:
    """What suits the place that stderr goes to."""
    if quiet:
        return Quiet()
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()


def _line(job: str, error: NstJaxError | None) -> str:
    name = printable(job)
    return f"failed {name}: {error}" if error else f"done {name}"
