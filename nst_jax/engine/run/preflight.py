"""Whether what a run will write fits the disk: an estimate before it begins, and a warning."""

from collections.abc import Iterable

from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.memory_model import bytes_text
from nst_jax.engine.progress import Progress
from nst_jax.files.encode import estimate_file_bytes
from nst_jax.files.folders import Folder
from nst_jax.request.options import Options

_LEDGER_LINE_BYTES = 8_000
"""A long one, with a full curve."""


def needed_bytes(requests: Iterable[ExaminedJob], options: Options) -> int:
    """About what the pictures, the previews and the ledger of these jobs take."""
    return sum(_needed_bytes(one, options) for one in requests)


def warn_if_disk_is_short(
    requests: Iterable[ExaminedJob], options: Options, folder: Folder, progress: Progress
) -> None:
    """Warns where the folder's file system has less than what is needed, as far as it tells."""
    free, needed = folder.free_bytes(), needed_bytes(requests, options)
    if free is not None and free < needed:
        progress.note(
            f"warning: about {bytes_text(needed)} will be written, and {folder.name!r} has "
            f"{bytes_text(free)} left; a run that fills it stops, and goes on when there is room"
        )


def _needed_bytes(request: ExaminedJob, options: Options) -> int:
    size, name = request.levels[-1].size, request.job.output
    picture = estimate_file_bytes(name, size, bit_depth=options.bit_depth)
    every = options.preview_every
    previews = request.image_steps // every if every else 0
    return picture + previews * estimate_file_bytes("preview.png", size) + _LEDGER_LINE_BYTES
