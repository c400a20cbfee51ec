"""Progress of a download and a conversion on stderr: a bar on a terminal, else plain lines."""

import contextlib
import sys

from rich.progress import DownloadColumn, TransferSpeedColumn

from nst_jax.cli.progress_bars import TerminalBar, TimedLines
from nst_jax.weights.download import FetchProgress, NoProgress


class DownloadBar(TerminalBar):
    """A bar of bytes."""

    def __init__(self, name: str, *, downloads: bool = True) -> None:
        super().__init__(DownloadColumn(), TransferSpeedColumn())
        self._name = name
        self._download = self._bar.add_task(f"connecting for {name}", total=None, visible=downloads)
        self._conversion = self._bar.add_task(f"converting {name}", total=None, visible=False)

    def on_download(self, done: int, total: int) -> None:
        self._bar.update(
            self._download, completed=done, total=total, description=f"fetching {self._name}"
        )

    def on_retry(self, reason: str) -> None:
        self.say(_retry(reason))

    def on_conversion(self, done: int, total: int) -> None:
        self._bar.update(self._conversion, completed=done, total=total, visible=True)


class DownloadLines(TimedLines):
    """Lines about bytes."""

    def __init__(self, name: str, *, downloads: bool = True) -> None:
        super().__init__()
        self._first = f"fetching {name}" if downloads else ""

    def __enter__(self) -> "DownloadLines":
        if self._first:
            self.say(self._first)
        return self

    def on_download(self, done: int, total: int) -> None:
        self._say_bytes("fetched", done, total)

    def on_retry(self, reason: str) -> None:
        self.say(_retry(reason))

    def on_conversion(self, done: int, total: int) -> None:
        self._say_bytes("converted", done, total)

    def _say_bytes(self, what: str, done: int, total: int) -> None:
        self.say_share(f"{what} {done / 1e6:.1f} of {total / 1e6:.1f} MB", done, total)


def open_download_progress(
    name: str, *, quiet: bool, downloads: bool = True
) -> contextlib.AbstractContextManager[FetchProgress]:
    """What suits the place that stderr goes to.

    Args:
        name: Of the network.
        quiet: Whether nothing is said.
        downloads: Whether there is a download before the conversion.
    """
    if quiet:
        return contextlib.nullcontext(NoProgress())
    return (DownloadBar if sys.stderr.isatty() else DownloadLines)(name, downloads=downloads)


def _retry(reason: str) -> str:
    return f"{reason}; trying again"
