"""What an output folder has of a batch: up to date, missing, out of date, no longer asked for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nst_jax.engine.run.outdated import explain_outdated
from nst_jax.engine.run.remaining import list_unasked, read_records, remaining_work
from nst_jax.files.folders import Folder
from nst_jax.forecast.planned_run import PlannedRun
from nst_jax.request.run_policy import RunPolicy

_OLDER_METHOD = "an older version of the method made it"


@dataclasses.dataclass(frozen=True)
class FolderState:
    """What a run into a folder would find there.

    Attributes:
        up_to_date: How many jobs are finished.
        missing: Outputs that were never finished, or are gone.
        outdated: Outputs that would be made again, and why.
        failed: Outputs whose job failed by its own fault, and would again, and why.
        unasked: Outputs that are there and that no job has any more.
    """

    up_to_date: int
    missing: Sequence[str]
    outdated: Mapping[str, str]
    failed: Mapping[str, str]
    unasked: Sequence[str]

    def record(self) -> dict[str, Any]:
        """The state as `plan --json` prints it."""
        return dataclasses.asdict(self)


def inspect_folder(run: PlannedRun, folder: Folder) -> FolderState:
    """Compares a folder with what a run is asked for; nothing is written.

    Raises:
        OutputError: Its ledger can't be read.
    """
    records, _ = read_records(folder)
    examined = sorted([*run.jobs, *run.failures], key=lambda one: one.index)
    work = remaining_work(examined, records, folder, RunPolicy(), run.session)
    reasons = explain_outdated(work.outdated, folder, run.session)
    reasons |= dict.fromkeys((one.index for one in work.older), _OLDER_METHOD)
    gone = list_unasked((one.job.output for one in examined), records)
    failed = [(one.index, one.job.output, str(one.error)) for one in work.failures]
    failed += [(index, *told) for index, told in work.given_up.items()]
    return FolderState(
        up_to_date=work.skipped,
        missing=[one.job.output for one in work.jobs if one.index not in reasons],
        outdated={one.job.output: reasons[one.index] for one in work.jobs if one.index in reasons},
        failed={name: why for _, name, why in sorted(failed)},
        unasked=[name for name in gone if folder.version_tag(name)],
    )
