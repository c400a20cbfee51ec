"""What is left to do of a batch: the ledger against the jobs as they are now."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from nst_jax.engine.inputs.picture_index import PictureInfo, index_from_ledger
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.results import Result
from nst_jax.files.folders import Folder
from nst_jax.files.ledger import JobLines, Record
from nst_jax.request.errors import NonFiniteError, PictureError
from nst_jax.request.run_policy import RunPolicy

_OWN_FAULTS = frozenset((PictureError.kind, NonFiniteError.kind))

_KEPT_KEYS = frozenset(("job", "status", "fingerprint", "sha256", "stamp", "time", "error"))
"""What a resume must know of a job."""


def read_records(folder: Folder) -> tuple[dict[str, JobLines], dict[str, PictureInfo]]:
    """What the folder's ledger has of each job, and what its lines tell of input pictures.

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
    records: Mapping[str, JobLines],
    folder: Folder,
    policy: RunPolicy,
) -> RemainingWork:
    """Sorts examined jobs by what the ledger and the folder have of them.

    Of a job that several files of the ledger tell of, any line counts that is of the job as it
    is now: which one is later is a question to clocks, and whose picture is there is none.
    """
    jobs: list[ExaminedJob] = []
    failures: list[Result] = []
    skipped = given_up = 0
    for one in examined:
        lines = [line for line in records.get(one.job.output, ()) if _is_of(line, one)]
        failed_before = _count_failures(lines[-1]) if lines else 0
        if isinstance(one, ExaminedJob) and any(
            _is_up_to_date(one, line, folder, policy.verify) for line in lines
        ):
            skipped += 1
        elif failed_before and _fails_again(one, lines[-1]) and not policy.retry_failed:
            given_up += 1
        elif isinstance(one, Result):
            failures.append(dataclasses.replace(one, attempt=failed_before + 1))
        else:
            jobs.append(dataclasses.replace(one, attempts=failed_before))
    return RemainingWork(jobs, failures, skipped, given_up)


def _is_of(line: Record, one: ExaminedJob | Result) -> bool:
    """Whether a line tells of a job as it is now."""
    return line.get("fingerprint") == one.fingerprint


def _is_up_to_date(job: ExaminedJob, record: Record, folder: Folder, verify: bool) -> bool:
    """Whether a line of this very picture has it as done and the file is unharmed."""
    if record.get("status") != "done":
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


def _count_failures(record: Record) -> int:
    """How often a job has failed, by its line."""
    error = record.get("error")
    if record.get("status") != "failed":
        return 0
    attempt = error.get("attempt") if isinstance(error, dict) else None
    return attempt if isinstance(attempt, int) and attempt > 0 else 0
