"""`nst-jax report`: a page of a batch's pictures, its losses, its failures and its speed."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Annotated

import tyro

from nst_jax.cli.console import print_json, print_note
from nst_jax.cli.signals import raise_on_signal
from nst_jax.files.locks import LOCK_NAME
from nst_jax.files.storage import version_tag
from nst_jax.request.errors import OptionError
from nst_jax.request.paths import find_path


@dataclasses.dataclass(frozen=True)
class Report:
    """Write a page of an output folder, finished or running: DIR/report/index.html.

    It needs no server and no network. `batch` writes it at its end by itself.

    Example: nst-jax report renders

    Example: nst-jax report renders --watch
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The output folder of a batch."""
    watch: bool = False
    """Write the page again and again while a batch runs, until it ends; an open page follows.
    Where none runs, the next one is waited for."""
    every: float = 5.0
    """Seconds between two looks with --watch."""
    quiet: bool = False
    """Say nothing but faults."""
    json: bool = False
    """Print the page's path as one JSON object."""

    def run(self) -> int:
        """Writes the page; returns the exit status."""
        from nst_jax.files.report.page import (
            check_folder_can_be_made,
            check_report_folder,
            write_report,
        )

        if not 0.1 <= self.every <= 86_400:
            raise OptionError(f"every must be from 0.1 to 86400 seconds, got {self.every}")
        folder = Path(find_path(str(self.folder)))
        if self.watch:
            check_folder_can_be_made(folder)
        else:
            check_report_folder(folder)
        with contextlib.ExitStack() as stack:
            if self.watch:
                # An interrupt must not leave a page that looks for news for ever.
                stack.enter_context(raise_on_signal())
                stack.callback(_write_if_there, folder)
                _watch(folder, self.every, quiet=self.quiet)
        page = write_report(folder)
        if self.json:
            print_json({"page": str(page)})
        elif not self.quiet:
            print(f"Look at {page}")
        return 0


def _watch(folder: Path, every_s: float, *, quiet: bool) -> None:
    """Follows a batch until its run record is written, which is the last thing it does."""
    run = folder / "run.json"
    before = version_tag(run)
    if not quiet:
        print_note(f"{_status_text(folder)}; Ctrl-C ends it")
    while version_tag(run) == before:
        _write_if_there(folder, live=True)
        time.sleep(every_s)


def _status_text(folder: Path) -> str:
    """What a watch waits for, in words."""
    if not any(folder.glob("ledger*.jsonl")):
        return f"waiting for the first job in {str(folder)!r}"
    if (folder / "run.json").exists() and not any(folder.glob(f"{LOCK_NAME}*")):
        return f"the batch in {str(folder)!r} has ended; waiting for another one there"
    return f"following the batch in {str(folder)!r} until it ends and writes run.json"


def _write_if_there(folder: Path, *, live: bool = False) -> None:
    """The page of a folder; none where the folder itself has not come yet."""
    from nst_jax.files.report.page import write_report

    if folder.is_dir():
        write_report(folder, live=live)
