"""Finished pictures to files while the device goes on: the picture first, then its line."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import tempfile
from pathlib import Path
from types import TracebackType

from nst_jax.engine.previews import Preview
from nst_jax.engine.progress import Progress
from nst_jax.engine.results import Result
from nst_jax.files.encode import save_picture
from nst_jax.files.ledger import LEDGER_NAME, Ledger
from nst_jax.spec.errors import OutputError, WriteError
from nst_jax.spec.options import Options, job_options

PREVIEWS_NAME = "previews"

_PICTURES_WAITING = 16


def saved(result: Result, path: Path, options: Options) -> Result:
    """The result with its picture in a file and out of memory; a failed one as it is.

    A picture that can't be written makes a failed result, not an exception.
    """
    if result.image is None:
        return result
    try:
        _make_parent(path)
        sha256 = save_picture(
            path,
            result.image,
            alpha=result.alpha,
            bit_depth=options.bit_depth,
            description=description(result, options),
        )
    except WriteError as error:
        return dataclasses.replace(result, image=None, alpha=None, error=error)
    return dataclasses.replace(result, image=None, alpha=None, output=str(path), sha256=sha256)


def save_preview(folder: Path, preview: Preview, progress: Progress) -> None:
    """A preview in the folder of previews, as an 8-bit PNG named after the output and the step.

    One that can't be written is a note: the job goes on.
    """
    path = folder / PREVIEWS_NAME / f"{preview.name}.{preview.step:06d}.png"
    try:
        _make_parent(path)
        save_picture(path, preview.image)
    except WriteError as error:
        progress.note(f"preview left out: {error.message}")


def description(result: Result, options: Options) -> str:
    """The options that made a picture, as JSON, for its metadata."""
    own = dataclasses.asdict(job_options(result.job.options or options))
    return json.dumps(dataclasses.asdict(options) | own)


def make_folder(folder: Path) -> None:
    """Makes the output folder and proves that it can be written, before any work.

    Raises:
        OutputError: It can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if folder.is_file() else (error.strerror or str(error)).lower()
        raise OutputError(
            f"output folder {str(folder)!r} can't be written: {reason}",
            "Name another folder, or mend its permissions",
        ) from error


def check_output_file(path: Path) -> None:
    """Proves that an output file can be written, before any work.

    Raises:
        OutputError: It can't.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise OutputError(f"output {str(path)!r} must be a file, but it is a folder")


class Writer:
    """Saves results in one thread of its own, in their order; use it in a `with` block.

    Attributes:
        tally: How many results there were of each status.
    """

    def __init__(self, folder: Path, options: Options, progress: Progress) -> None:
        self.tally = collections.Counter[str]()
        self._folder = folder
        self._options = options
        self._progress = progress
        self._waiting = collections.deque[concurrent.futures.Future[None]]()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Writer":
        try:
            self._ledger = self._stack.enter_context(Ledger(self._folder))
        except OSError as error:
            fault = self._ledger_fault(error)
            raise OutputError(fault.message, fault.remedy) from error
        self._thread = self._stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits for what is under way: an interrupt loses no finished picture."""
        with self._stack:
            for future in self._waiting:
                concurrent.futures.wait([future])
        if error is None:
            for future in self._waiting:
                future.result()

    def put(self, result: Result) -> None:
        """Hands over a result; waits while too many pictures are in memory.

        Raises:
            WriteError: The ledger can't be written any more.
        """
        self._waiting.append(self._thread.submit(self._finish, result))
        while self._waiting and (len(self._waiting) > _PICTURES_WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()

    def _finish(self, result: Result) -> None:
        done = saved(result, self._folder / result.job.output, self._options)
        try:
            self._ledger.append(done.record())
        except OSError as error:
            raise self._ledger_fault(error) from error
        self.tally[done.status] += 1
        self._progress.finished(done.job.output, done.error)

    def _ledger_fault(self, error: OSError) -> WriteError:
        reason = (error.strerror or str(error)).lower()
        return WriteError(
            f"ledger {str(self._folder / LEDGER_NAME)!r} can't be written: {reason}",
            "Mend that and run the same command again: what is done is kept",
        )


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteError(f"folder {str(path.parent)!r} can't be made: {reason}") from error
