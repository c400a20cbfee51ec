"""What is left to do of a batch: the ledger against the jobs as they are now."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from nst_jax.engine.inputs.picture_index import PictureInfo, index_from_ledger
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.results import Result
from nst_jax.files.folders import Folder
from nst_jax.files.ledger import Record
from nst_jax.request.errors import NonFiniteError, PictureError
from nst_jax.request.run_policy import RunPolicy

_OWN_FAULTS = frozenset((PictureError.kind, NonFiniteError.kind))

_KEPT_KEYS = frozenset(("job", "status", "fingerprint", "sha256", "stamp", "time", "error"))
"""What a resume must know of a job."""


def read_records(folder: Folder) -> tuple[dict[str, Record], dict[str, PictureInfo]]:
    """The last line of each job in the folder's ledger, and what the lines tell of input pictures.

    Raises:
        OutputError: It can't be read.
    """
    known: dict[str, PictureInfo] = {}
    return folder.read_records(slim=functools.partial(slim_record, known)), known


def slim_record(known: dict[str, PictureInfo], record: Record) -> None:
    """Leaves of a line what a resume asks for, and moves what it tells of its inputs to `known`."""
    known |= index_from_ledger([record])
    for key in record.keys() - _KEPT_KEYS:
        del record[key]


@dataclasses.dataclass(frozen=True)
class RemainingWork:
    """What is left to do of a batch.

    Attributes:
        jobs: To be rendered.
        failures: Failed just now, when they were examined, and not likewise before.
        skipped: Finished before and up to date.
        given_up: Failed before by their own fault, nothing of them having changed.
    """

    jobs: Sequence[ExaminedJob]
    failures: Sequence[Result]
    skipped: int
    given_up: int


def remaining_work(
    examined: Iterable[ExaminedJob | Result],
    records: Mapping[str, Record],
    folder: Folder,
    policy: RunPolicy,
) -> RemainingWork:
    """Sorts examined jobs by what the ledger and the folder have of them."""
    jobs: list[ExaminedJob] = []
    failures: list[Result] = []
    skipped = given_up = 0
    for one in examined:
        record = records.get(one.job.output, {})
        failed_before = _count_failures(one, record)
        if isinstance(one, ExaminedJob) and _is_up_to_date(one, record, folder, policy.verify):
            skipped += 1
        elif failed_before and _fails_again(one, record) and not policy.retry_failed:
            given_up += 1
        elif isinstance(one, Result):
            failures.append(dataclasses.replace(one, attempt=failed_before + 1))
        else:
            jobs.append(dataclasses.replace(one, attempts=failed_before))
    return RemainingWork(jobs, failures, skipped, given_up)


def _is_up_to_date(job: ExaminedJob, record: Record, folder: Folder, verify: bool) -> bool:
    """Whether the ledger has this very picture as done and the file is unharmed."""
    if record.get("status") != "done" or record.get("fingerprint") != job.fingerprint:
        return False
    tag = folder.version_tag(job.job.output)
    if not tag:
        return False
    if not verify and tag == record.get("stamp"):
        return True
    try:
        content = folder.read(job.job.output)
    except OSError:  # rendered again, it may be readable
        return False
    return content is not None and hashlib.sha256(content).hexdigest() == record.get("sha256")


def _fails_again(one: ExaminedJob | Result, record: Record) -> bool:
    """Whether a job that failed as it is now did so by its own fault, and would again."""
    before = record["error"]
    if isinstance(one, ExaminedJob):
        return before.get("kind") in _OWN_FAULTS
    now = one.error
    alike = now and (before.get("kind"), before.get("message")) == (now.kind, now.message)
    return bool(alike) and before.get("kind") in _OWN_FAULTS


def _count_failures(one: ExaminedJob | Result, record: Record) -> int:
    """How often the job has failed as it is now, by the ledger."""
    error = record.get("error")
    if record.get("status") != "failed" or record.get("fingerprint") != one.fingerprint:
        return 0
    attempt = error.get("attempt") if isinstance(error, dict) else None
    return attempt if isinstance(attempt, int) and attempt > 0 else 0
