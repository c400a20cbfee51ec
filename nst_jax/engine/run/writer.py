"""Finished pictures to files while the device goes on: the picture first, then its line."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import PurePath
from types import TracebackType
from typing import Any

import numpy as np

from nst_jax.engine.progress import Progress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.previews import Preview
from nst_jax.files.encode import encode_picture, write_error
from nst_jax.files.folders import Folder, reason_of
from nst_jax.files.ledger import ledger_name
from nst_jax.files.retry import retry
from nst_jax.request.errors import OutputError, WriteError
from nst_jax.request.options import Options, job_options
from nst_jax.request.outputs import PREVIEWS_NAME, is_url

_PICTURES_WAITING = 16

_BACK_OFF_S = 0.2
"""Before a picture is written again that could not be written; twice as long each time."""

# What the next picture would meet as well: the disk is full, gone, or must not be written.
_OF_THE_WHOLE_FOLDER = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN)
)

_GO_ON = "Mend that and run the same command again: what is done is kept"


def write_result(result: Result, folder: Folder, name: str, options: Options) -> Result:
    """Writes the picture of a finished job, with what its metadata shall say.

    Returns:
        The result with what is known of the file, without the pixels.

    Raises:
        WriteError: It can't be written.
    """
    assert result.image is not None
    content = _write_picture(
        folder,
        name,
        result.image,
        alpha=result.alpha,
        bit_depth=options.bit_depth,
        description=_describe(result, options),
        exif=result.exif,
    )
    return dataclasses.replace(
        result,
        image=None,
        alpha=None,
        output=folder.path_of(name),
        sha256=hashlib.sha256(content).hexdigest(),
        stamp=folder.version_tag(name),
    )


def _describe(result: Result, options: Options) -> str | None:
    """The options of a job as JSON, without folders of this machine; None where none are wanted."""
    if options.metadata == "none":
        return None
    own = dataclasses.asdict(job_options(result.job.options or options))
    told = dataclasses.asdict(options) | own
    told["weights"] = re.split(r"[\\/]", options.weights)[-1]
    del told["metadata"]  # which the file shows
    return json.dumps(told)


def save_preview(folder: Folder, preview: Preview, options: Options, progress: Progress) -> None:
    """Writes a preview into the folder of previews, as an 8-bit PNG named by output and step.

    One that can't be written is a note: the job goes on.
    """
    try:
        name = f"{PREVIEWS_NAME}/{preview.name}.{preview.step:06d}.png"
        said = None if options.metadata == "none" else ""
        _write_picture(folder, name, preview.image, description=said)
    except WriteError as error:
        progress.note(f"preview left out: {error.message}")


def _write_picture(folder: Folder, name: str, image: np.ndarray, **encoding: Any) -> bytes:
    """Encodes and writes a picture; returns the file's content."""
    path = PurePath(folder.path_of(name))
    try:
        content = encode_picture(path, image, **encoding)
        folder.write(name, content)
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    return content


class ResultWriter:
    """Writes results in one thread of its own, in their order; use it in a `with` block.

    Attributes:
        tally: How many results there were of each status.
        failures: Of each that failed its output name and why, by its index.
        fault: Why nothing more can be written into the folder; None as long as it can. What
            is put after it is left to the next run.
    """

    def __init__(
        self,
        folder: Folder,
        options: Options,
        progress: Progress,
        *,
        retries: int = 0,
        part: str = "",
    ) -> None:
        """A writer into a folder; `part` names its part of the ledger, where there are several.

        A fault of the folder is tried again so many times; a picture's own is not.
        """
        self.tally = collections.Counter[str]()
        self.failures: dict[int, tuple[str, str]] = {}
        self.fault: WriteError | None = None
        self._folder = folder
        self._options = options
        self._progress = progress
        self._retries = retries
        self._part = part
        self._waiting = collections.deque[concurrent.futures.Future[None]]()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "ResultWriter":
        try:
            self._ledger = self._stack.enter_context(self._folder.ledger(self._part))
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
            concurrent.futures.wait(self._waiting)
        if error is None:
            for future in self._waiting:
                future.result()

    def put(self, make: Callable[[], Result]) -> None:
        """Hands over a result, which is made by the thread; waits while too many are in memory."""
        self._submit(lambda: self._finish(make()))

    def put_preview(self, preview: Preview) -> None:
        """Hands over a preview, likewise; see `save_preview`."""
        self._submit(lambda: save_preview(self._folder, preview, self._options, self._progress))

    def _submit(self, write: Callable[[], None]) -> None:
        self._waiting.append(self._thread.submit(write))
        while self._waiting and (len(self._waiting) > _PICTURES_WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()

    def _finish(self, result: Result) -> None:
        if self.fault:
            return
        done = result if result.error else self._write(result)
        try:
            self._ledger.append(done.record())
        except OSError as error:
            self.fault = self._ledger_fault(error)
            return
        self.tally[done.status] += 1
        if done.error:
            self.failures[done.index] = done.job.output, str(done.error)
        self._progress.on_finish(done.job.output, done.error)
        if cause := fatal_cause(done.error, self._folder):
            self.fault = WriteError(
                f"output folder {self._folder.name!r} takes no more pictures: {reason_of(cause)}",
                _GO_ON,
            )

    def _write(self, result: Result) -> Result:
        """The result written, after as many tries as are allowed; or failed."""

        def is_transient(error: Exception) -> bool:
            nonlocal result
            if not fatal_cause(error, self._folder):
                return False
            result = dataclasses.replace(result, attempt=result.attempt + 1)
            return True

        try:
            return retry(
                lambda: write_result(result, self._folder, result.job.output, self._options),
                back_off_s=_BACK_OFF_S,
                is_transient=is_transient,
                tries=self._retries + 1,
            )
        except WriteError as error:
            return dataclasses.replace(result, image=None, alpha=None, error=error)

    def _ledger_fault(self, error: OSError) -> WriteError:
        place = self._folder.path_of(ledger_name(self._part))
        return WriteError(f"ledger {place!r} can't be written: {reason_of(error)}", _GO_ON)


def fatal_cause(error: Exception | None, folder: Folder) -> OSError | None:
    """What a picture met in writing, where the next one would meet it too; else None."""
    cause = error.__cause__ if isinstance(error, WriteError) else None
    if not isinstance(cause, OSError):
        return None
    # Folders of one disk may have permissions of their own; a store has one for all. A picture's
    # own folder is made when it is missing: what is not found is the output folder itself.
    refused = isinstance(cause, PermissionError) and is_url(folder.name)
    gone = isinstance(cause, FileNotFoundError | TimeoutError)
    return cause if refused or gone or cause.errno in _OF_THE_WHOLE_FOLDER else None
