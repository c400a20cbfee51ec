"""Before any work: whether the outputs may be written, and whether they fit the disk."""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.memory_model import bytes_text
from nst_jax.engine.progress import Progress
from nst_jax.engine.run.plan_file import PLAN_NAME
from nst_jax.files.encode import SOFTWARE, estimate_file_bytes
from nst_jax.files.folders import Folder, folder_and_name
from nst_jax.files.ledger import JobLines, is_done
from nst_jax.request.errors import OutputError
from nst_jax.request.job import Job
from nst_jax.request.options import Options
from nst_jax.request.outputs import (
    PREVIEWS_NAME,
    check_output_place,
    check_output_suffix,
    is_url,
    output_key,
)
from nst_jax.request.paths import find_path

_LEDGER_LINE_BYTES = 8_000
"""A long one, with a full curve."""


class FolderLock(contextlib.ExitStack):
    """Keeps other runs out of an output folder, which may not be there yet; for a `with` block.

    A folder that is there is locked at once; one that is not is made by `prepare`, so that a wrong
    request leaves nothing behind.

    Args:
        folder: The output folder.
        part: Of one of several workers, its own; empty: a whole run holds the folder alone.

    Raises:
        OutputError: Another run holds it.
    """

    def __init__(self, folder: Folder, part: str = "") -> None:
        super().__init__()
        self._folder, self._part, self._is_held = folder, part, False

    def __enter__(self) -> "FolderLock":
        if self._folder.exists():
            self._hold()
        return self

    def prepare(self, outputs: Iterable[str]) -> None:
        """Makes the folder, locks it, and removes what a killed run has left half written.

        Raises:
            OutputError: It can't be written, another run holds it, or an output leads out of it.
        """
        self._folder.make()
        self._folder.check_inside(outputs)
        if not self._is_held:
            self._hold()
        if not self._part:  # else they may be those of others
            self._folder.remove_partial_files()

    def _hold(self) -> None:
        self.enter_context(self._folder.lock(self._part))
        self._is_held = True


def check_outputs(jobs: Sequence[Job], options: Options, folder: Folder) -> None:
    """Refuses outputs that could not be written, or would cost a picture.

    Raises:
        OutputError: A name leads out of the folder, has no known suffix, or is taken.
    """
    for job in jobs:
        check_output_place(job.output)
        if options.preview_every and output_key(job.output).startswith(f"{PREVIEWS_NAME}/"):
            raise OutputError(f"output {job.output!r} lies in the folder of previews")
        check_output_suffix(job.output, bit_depth=options.bit_depth)
    pictures = itertools.chain.from_iterable(job.pictures for job in jobs)
    check_inputs_not_overwritten(pictures, (job.output for job in jobs), folder)


def check_output_file(output: str | os.PathLike[str], job: Job, options: Options) -> None:
    """Refuses an output file that can't be written, or would cost a picture of its job.

    Raises:
        OutputError: It can't, or would.
    """
    check_output_suffix(os.fspath(output), bit_depth=options.bit_depth)
    folder, name = folder_and_name(output)
    folder.make()
    if Path(folder.path_of(name)).is_dir():
        raise OutputError(f"output {os.fspath(output)!r} must be a file, but it is a folder")
    check_inputs_not_overwritten(job.pictures, [name], folder)


def check_inputs_not_overwritten(
    pictures: Iterable[object], outputs: Iterable[str], folder: Folder
) -> None:
    """Refuses outputs that would take the place of a picture that is read.

    Args:
        pictures: Paths and addresses; what has neither, such as an array, is passed over.
        outputs: Names relative to the folder.
        folder: Where they go.

    Raises:
        OutputError: One would.
    """
    resolved = functools.cache(os.path.realpath)  # of folders, which are few

    def place(name: str) -> str:
        if is_url(name):
            return name
        parent, base = os.path.split(name)
        return os.path.join(resolved(parent), base)

    names = {os.fspath(one) for one in pictures if isinstance(one, (str, os.PathLike))}
    read = {place(find_path(name)) for name in names}
    for output in outputs:
        if place(folder.path_of(output)) in read:
            raise OutputError(
                f"output {output!r} would take the place of a picture that is read",
                "Name another file or folder",
            )


def check_no_file_replaced(
    outputs: Iterable[str], records: Mapping[str, JobLines], folder: Folder, options: Options
) -> None:
    """Refuses outputs that would take the place of a file that no run has written.

    A picture of ours is known by the ledger or, where that is lost or a run was killed before its
    line, by the maker's name in it. Without metadata it has none: then a folder with a plan is
    trusted to hold ours.

    Raises:
        OutputError: One would.
    """
    fresh = [one for one in outputs if not any(map(is_done, records.get(one, ())))]
    try:
        if options.metadata == "none" and folder.version_tag(PLAN_NAME):
            return
        there = [one for one in fresh if folder.version_tag(one)]
    except OutputError:  # a store that lists nothing to us may take pictures all the same
        return
    for output in there:
        with contextlib.suppress(OSError):  # it is said when it is written
            content = folder.read(output)
            if content and SOFTWARE.encode() not in content:
                raise OutputError(
                    f"output {output!r} would take the place of a file in {folder.name!r} that no "
                    "run has written, by the ledger and the file's metadata",
                    "Move or delete it, or name another folder",
                )


def needed_bytes(jobs: Iterable[ExaminedJob], options: Options) -> int:
    """About what the pictures, the previews and the ledger of these jobs take."""
    total = 0
    for one in jobs:
        size, every = one.levels[-1].size, options.preview_every
        previews = one.image_steps // every if every else 0
        total += estimate_file_bytes(one.job.output, size, bit_depth=options.bit_depth)
        total += previews * estimate_file_bytes("preview.png", size) + _LEDGER_LINE_BYTES
    return total


def warn_if_disk_is_short(
    jobs: Iterable[ExaminedJob], options: Options, folder: Folder, progress: Progress
) -> None:
    """Warns where the folder's file system has less than what is needed, as far as it tells."""
    free, needed = folder.free_bytes(), needed_bytes(jobs, options)
    if free is not None and free < needed:
        progress.note(
            f"warning: about {bytes_text(needed)} will be written, and {folder.name!r} has "
            f"{bytes_text(free)} left; a run that fills it stops, and goes on when there is room"
        )
