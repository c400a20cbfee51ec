"""Progress of a download and a conversion on stderr: a bar on a terminal, else plain lines."""

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_LINE_EVERY_S = 10.0
_MEGABYTE = 1e6


class DownloadBar:
    """A bar of bytes for terminals; use it in a `with` block."""

    def __init__(self, name: str, *, downloads: bool = True) -> None:
        self._name = name
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._download = self._bar.add_task(f"connecting for {name}", total=None, visible=downloads)
        self._conversion = self._bar.add_task(f"converting {name}", total=None, visible=False)

    def __enter__(self) -> "DownloadBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_download(self, done: int, total: int) -> None:
        self._bar.update(
            self._download, completed=done, total=total, description=f"fetching {self._name}"
        )

    def on_retry(self, reason: str) -> None:
        self._bar.console.print(_retry(reason), markup=False, highlight=False, soft_wrap=True)

    def on_conversion(self, done: int, total: int) -> None:
        self._bar.update(self._conversion, completed=done, total=total, visible=True)


class DownloadLines:
    """Plain lines for logs and pipes; use it in a `with` block."""

    def __init__(self, name: str, *, downloads: bool = True) -> None:
        self._first = f"fetching {name}" if downloads else ""
        self._began = self._said = time.monotonic()

    def __enter__(self) -> "DownloadLines":
        if self._first:
            self._say(self._first)
        return self

    def __exit__(self, *_: object) -> None: ...

    def on_download(self, done: int, total: int) -> None:
        self._count("fetched", done, total)

    def on_retry(self, reason: str) -> None:
        self._say(_retry(reason))

    def on_conversion(self, done: int, total: int) -> None:
        self._count("converted", done, total)

    def _count(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._said >= _LINE_EVERY_S:
            share = 100 * done / max(total, 1)
            self._say(
                f"{what} {done / _MEGABYTE:.1f} of {total / _MEGABYTE:.1f} MB ({share:.0f} %)"
            )

    def _say(self, message: str) -> None:
        self._said = time.monotonic()
        print(f"[{self._said - self._began:7.1f} s] {message}", file=sys.stderr, flush=True)


class NoDownloadReport:
    """Says nothing; use it in a `with` block."""

    def __enter__(self) -> "NoDownloadReport":
        return self

    def __exit__(self, *_: object) -> None: ...

    def on_download(self, done: int, total: int) -> None: ...

    def on_retry(self, reason: str) -> None: ...

    def on_conversion(self, done: int, total: int) -> None: ...


def download_watcher(name: str, *, quiet: bool) -> DownloadBar | DownloadLines | NoDownloadReport:
    """What suits the place that stderr goes to, for a download and the conversion after it."""
    return _watcher(name, quiet=quiet, downloads=True)


def conversion_watcher(name: str, *, quiet: bool) -> DownloadBar | DownloadLines | NoDownloadReport:
    """The same for a file that is here already and is only converted."""
    return _watcher(name, quiet=quiet, downloads=False)


def _watcher(
    name: str, *, quiet: bool, downloads: bool
) -> DownloadBar | DownloadLines | NoDownloadReport:
    if quiet:
        return NoDownloadReport()
    kind = DownloadBar if sys.stderr.isatty() else DownloadLines
    return kind(name, downloads=downloads)


def _retry(reason: str) -> str:
    return f"{reason}; trying again"
