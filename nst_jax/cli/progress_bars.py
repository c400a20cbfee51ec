"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from nst_jax.cli.console import drop_output, print_on_stderr, printable, say_duration
from nst_jax.engine.progress import NullProgress
from nst_jax.request.errors import NstJaxError, say_count

_LINE_EVERY_S = 10.0
_BAR_LETTERS = 16
"""With what is said beside it a line has eighty."""

_Bar = TypeVar("_Bar", bound="TerminalBar")
_Watch = TypeVar("_Watch")


class TerminalBar:
    """A bar for terminals, which is drawn in a `with` block."""

    def __init__(self, *amounts: ProgressColumn) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR_LETTERS),
            *amounts,
            TimeRemainingColumn(compact=True),
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


@dataclasses.dataclass
class Tally:
    """How far a run is.

    Attributes:
        jobs: Of the batch, those finished before included, without any that failed before.
        finished: Of these, so far.
        image_steps: Of the jobs that this run renders.
        taken: Of these, so far.
        failed: Jobs, in this run.
    """

    jobs: int = 0
    finished: int = 0
    image_steps: int = 0
    taken: int = 0
    failed: int = 0

    def begin(
        self,
        jobs: int,
        image_steps: int,
        finished: int = 0,
        taken: int = 0,
        seconds: float | None = None,
    ) -> str:
        """Notes what there is to do, and says it."""
        self.jobs, self.finished = jobs + finished, finished
        self.image_steps, self.taken = image_steps + taken, taken
        told = [f"{say_count(jobs, 'picture')} to render"]
        if finished:
            told.append(f"{finished} of {self.jobs} finished before")
        if taken:
            told.append(f"{taken} of {self.image_steps} steps taken before")
        if seconds is not None:
            told.append(f"about {say_duration(seconds)} in steps")
        return ", ".join(told)

    def end_job(self, error: NstJaxError | None) -> None:
        """Notes that a job has its picture, or none."""
        self.finished += not error
        self.failed += bool(error)

    def __str__(self) -> str:
        told = [f"{self.finished} of {say_count(self.jobs, 'picture')}"]
        if self.failed:
            told.append(f"{self.failed} failed")
        if self.image_steps:  # which a cluster does not tell
            told.append(f"{self.taken} of {self.image_steps} steps")
        return ", ".join(told)


class _RunProgress(NullProgress):
    """What is said of a run, however it is shown.

    Args:
        verbose: Whether to name each program that is compiled or loaded.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        super().__init__()
        self._is_verbose = verbose
        self._tally = Tally()

    def on_start(self, jobs: int, image_steps: int, **known: Any) -> None:
        self.say(self._tally.begin(jobs, image_steps, **known))

    def on_prepare(self, size: str, number: int, count: int) -> None:
        self.show(f"preparing {size} ({number} of {count})")

    def on_compile(self, program: str) -> None:
        if self._is_verbose:
            self.say(f"preparing {program}")
        elif not self._tally.jobs:  # nothing else is told, as by `plan`
            self.show(f"preparing {program.split(' content ')[0]}")

    def on_step(self, image_steps: int) -> None:
        self._tally.taken += image_steps

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        self._tally.end_job(error)

    def note(self, message: str) -> None:
        self.say(message)

    def say(self, message: str) -> None:
        """Prints lines that stay."""
        raise NotImplementedError

    def show(self, message: str) -> None:
        """Shows what the run is at."""
        raise NotImplementedError


class ProgressBar(TerminalBar, _RunProgress):
    """A bar of steps, with the pictures that are finished."""

    def __init__(self, *, verbose: bool = False) -> None:
        TerminalBar.__init__(self)
        _RunProgress.__init__(self, verbose=verbose)
        self._task = self._bar.add_task("looking at the pictures", total=None)

    def on_start(self, jobs: int, image_steps: int, **known: Any) -> None:
        super().on_start(jobs, image_steps, **known)
        # What was taken before says nothing of the speed, by which the time left is told.
        total, taken = self._tally.image_steps or None, self._tally.taken
        self._bar.reset(self._task, total=total, completed=taken)
        self._show_tally()

    def on_step(self, image_steps: int) -> None:
        super().on_step(image_steps)
        self._show_tally()

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        super().on_finish(job, error)
        if error:
            self.say(_line(job, error), style="red")
        self._show_tally()

    def show(self, message: str) -> None:
        self._bar.update(self._task, description=message)

    def _show_tally(self) -> None:
        self._bar.update(self._task, completed=self._tally.taken, description=str(self._tally))


class ProgressLines(TimedLines, _RunProgress):
    """Lines about pictures and steps."""

    def __init__(self, *, verbose: bool = False) -> None:
        TimedLines.__init__(self)
        _RunProgress.__init__(self, verbose=verbose)

    def on_step(self, image_steps: int) -> None:
        super().on_step(image_steps)
        self.say_share(str(self._tally), self._tally.taken, self._tally.image_steps)

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        super().on_finish(job, error)
        self.say(_line(job, error))

    def show(self, message: str) -> None:
        self.say(message)


class Quiet(NullProgress):
    """Says only what failed; use it in a `with` block."""

    def __enter__(self: _Watch) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None: ...

    def on_finish(self, job: str, error: NstJaxError | None) -> None:
        if error:
            print_on_stderr(_line(job, error))


def open_progress(*, quiet: bool, verbose: bool = False) -> ProgressBar | ProgressLines | Quiet:
    """What suits the place that stderr goes to: a terminal, a notebook, a log.

    Args:
        quiet: Whether to say nothing but what failed.
        verbose: Whether to name each program that is compiled or loaded.
    """
    if quiet:
        return Quiet()
    has_bar = sys.stderr.isatty() or Console(stderr=True).is_jupyter
    return ProgressBar(verbose=verbose) if has_bar else ProgressLines(verbose=verbose)


def _line(job: str, error: NstJaxError | None) -> str:
    name = printable(job)
    return f"failed {name}: {error}" if error else f"done {name}"
