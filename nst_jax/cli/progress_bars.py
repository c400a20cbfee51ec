"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from nst_jax.cli.console import printable
from nst_jax.request.errors import NstJaxError

_LINE_EVERY_S = 10.0


class ProgressBar:
    """A bar of image-steps for terminals; use it in a `with` block."""

    def __init__(self) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("image-steps"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("looking at the pictures", total=None)

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, jobs: int, image_steps: int) -> None:
        self._bar.update(self._task, total=image_steps, description=f"rendering {_jobs(jobs)}")

    def compiling(self, program: str) -> None:
        self._bar.update(self._task, description=f"compiling {program.split(' content ')[0]}")

    def stepped(self, image_steps: int) -> None:
        self._bar.update(self._task, advance=image_steps, description="rendering")

    def finished(self, job: str, error: NstJaxError | None) -> None:
        if error:
            self._bar.console.print(_line(job, error), style="red", markup=False)

    def note(self, message: str) -> None:
        self._bar.console.print(message, markup=False)


class ProgressLines:
    """Plain lines for logs and pipes; use it in a `with` block."""

    def __init__(self) -> None:
        self._done = self._total = 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_: object) -> None: ...

    def started(self, jobs: int, image_steps: int) -> None:
        self._total = image_steps
        self._say(f"rendering {_jobs(jobs)}, {image_steps} image-steps")

    def compiling(self, program: str) -> None:
        self._say(f"compiling {program}")

    def stepped(self, image_steps: int) -> None:
        self._done += image_steps
        if time.monotonic() - self._said >= _LINE_EVERY_S:
            share = 100 * self._done / max(self._total, 1)
            self._say(f"{self._done} of {self._total} image-steps ({share:.0f} %)")

    def finished(self, job: str, error: NstJaxError | None) -> None:
        self._say(_line(job, error))

    def note(self, message: str) -> None:
        self._say(message)

    def _say(self, message: str) -> None:
        self._said = time.monotonic()
        print(f"[{self._said - self._began:7.1f} s] {message}", file=sys.stderr, flush=True)


class Quiet:
    """Says only what failed; use it in a `with` block."""

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *_: object) -> None: ...

    def started(self, jobs: int, image_steps: int) -> None: ...

    def compiling(self, program: str) -> None: ...

    def stepped(self, image_steps: int) -> None: ...

    def finished(self, job: str, error: NstJaxError | None) -> None:
        if error:
            print(_line(job, error), file=sys.stderr)

    def note(self, message: str) -> None: ...


def open_progress(*, quiet: bool) -> ProgressBar | ProgressLines | Quiet:
    """What suits the place that stderr goes to."""
    if quiet:
        return Quiet()
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _line(job: str, error: NstJaxError | None) -> str:
    name = printable(job)
    return f"failed {name}: {error}" if error else f"done {name}"
