"""What is left to do of a batch: the ledger against the jobs as they are now."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.results import Result
from nst_jax.files.folders import Folder
from nst_jax.files.ledger import Record
from nst_jax.request.errors import NonFiniteError, PictureError
from nst_jax.request.run_policy import RunPolicy

_OWN_FAULTS = frozenset((PictureError.kind, NonFiniteError.kind))


@dataclasses.dataclass(frozen=True)
class RemainingWork:
    """What is left to do of a batch.

    Attributes:
        requests: To be rendered.
        failures: Failed just now, when they were looked at, and not likewise before.
        skipped: Finished before and up to date.
        given_up: Failed before by their own fault, nothing of them having changed.
    """

    requests: Sequence[ExaminedJob]
    failures: Sequence[Result]
    skipped: int
    given_up: int


def remaining_work(
    examined: Iterable[ExaminedJob | Result],
    records: Mapping[str, Record],
    folder: Folder,
    handling: RunPolicy,
) -> RemainingWork:
    """Sorts examined jobs by what the ledger and the folder have of them."""
    requests: list[ExaminedJob] = []
    failures: list[Result] = []
    skipped = given_up = 0
    for one in examined:
        record = records.get(one.job.output, {})
        if isinstance(one, Result) and _fails_alike(one, record) and not handling.retry_failed:
            given_up += 1
        elif isinstance(one, Result):
            failures.append(dataclasses.replace(one, attempt=_failures_before(one, record) + 1))
        elif _is_up_to_date(one, record, folder, verify=handling.verify):
            skipped += 1
        elif _would_fail_again(one, record) and not handling.retry_failed:
            given_up += 1
        else:
            requests.append(dataclasses.replace(one, attempts=_failures_before(one, record)))
    return RemainingWork(requests, failures, skipped, given_up)


def _is_up_to_date(request: ExaminedJob, record: Record, folder: Folder, *, verify: bool) -> bool:
    """Whether the ledger has this very picture as done and the file is unharmed."""
    if record.get("status") != "done" or record.get("fingerprint") != request.fingerprint:
        return False
    stamp = folder.version_tag(request.job.output)
    if not stamp:
        return False
    if not verify and stamp == record.get("stamp"):
        return True
    try:
        content = folder.read(request.job.output)
    except OSError:  # rendered again, it may be readable
        return False
    return content is not None and hashlib.sha256(content).hexdigest() == record.get("sha256")


def _would_fail_again(request: ExaminedJob, record: Record) -> bool:
    """Whether the job failed by its own fault and nothing has changed since."""
    return bool(_failures_before(request, record)) and record["error"].get("kind") in _OWN_FAULTS


def _fails_alike(result: Result, record: Record) -> bool:
    """Whether the job has failed just now as it did before, by its own fault."""
    now = result.error
    if now is None or now.kind not in _OWN_FAULTS or not _failures_before(result, record):
        return False
    before = record["error"]
    return (before.get("kind"), before.get("message")) == (now.kind, now.message)


def _failures_before(one: ExaminedJob | Result, record: Record) -> int:
    """How often the job has failed as it is now, by the ledger."""
    error = record.get("error")
    if record.get("status") != "failed" or record.get("fingerprint") != one.fingerprint:
        return 0
    attempt = error.get("attempt") if isinstance(error, dict) else None
    return attempt if isinstance(attempt, int) and attempt > 0 else 0
