"""What is left to do of a batch: the ledger against the jobs as they are now."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from nst_jax.engine.inputs.fingerprint import session_fingerprint
from nst_jax.engine.inputs.picture_index import PictureInfo, index_from_ledger
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.progress import Progress
from nst_jax.engine.results import METHOD_VERSION, Result
from nst_jax.files.folders import Folder
from nst_jax.files.ledger import JobLines, Record, is_done
from nst_jax.request.errors import NonFiniteError, PictureError
from nst_jax.request.job import Job
from nst_jax.request.run_policy import RunPolicy

_OWN_FAULTS = frozenset((PictureError.kind, NonFiniteError.kind))

_KEPT_KEYS = frozenset(
    ("job", "status", "fingerprint", "method", "sha256", "stamp", "time", "error")
)
"""What a resume must know of a job."""

_UNNAMED_METHOD = 7
"""The version of the method that lines of the ledger don't tell."""


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
        given_up: Failed before by their own fault, nothing of them having changed: of each its
            output name and why, by its index.
        older: Of the jobs, those that an older version of the method has finished.
        outdated: Of the jobs, those that were finished before something else has changed.
        kept_older: Of the skipped, those that are older or out of date and are to stay.
    """

    jobs: Sequence[ExaminedJob]
    failures: Sequence[Result]
    skipped: int
    given_up: Mapping[int, tuple[str, str]]
    older: Sequence[ExaminedJob] = ()
    outdated: Sequence[ExaminedJob] = ()
    kept_older: int = 0


def remaining_work(
    examined: Iterable[ExaminedJob | Result],
    records: Mapping[str, JobLines],
    folder: Folder,
    policy: RunPolicy,
    session: Session,
) -> RemainingWork:
    """Sorts examined jobs by what the ledger and the folder have of them.

    Of a job that several files of the ledger tell of, any line counts that is of the job as it
    is now: which one is later is a question to clocks, and whose picture is there is none.
    """
    jobs: list[ExaminedJob] = []
    failures: list[Result] = []
    given_up: dict[int, tuple[str, str]] = {}
    older: list[ExaminedJob] = []
    outdated: list[ExaminedJob] = []
    skipped = kept_older = 0
    for one in examined:
        lines = records.get(one.job.output, ())
        own = [line for line in lines if line.get("fingerprint") == one.fingerprint]
        failed_before = _count_failures(own[-1]) if own else 0
        has_unharmed = functools.partial(_has_unharmed, one, folder=folder, verify=policy.verify)
        was_done = has_unharmed(own)
        is_older = not was_done and has_unharmed(_lines_by_older_methods(one, lines, session))
        is_outdated = not (was_done or is_older) and has_unharmed(lines)
        if was_done or ((is_older or is_outdated) and policy.keep_older):
            skipped += 1
            kept_older += not was_done
        elif failed_before and _fails_again(one, own[-1]) and not policy.retry_failed:
            given_up[one.index] = one.job.output, own[-1]["error"].get("message", "")
        elif isinstance(one, Result):
            failures.append(dataclasses.replace(one, attempt=failed_before + 1))
        else:
            jobs.append(dataclasses.replace(one, attempts=failed_before))
            if is_older or is_outdated:
                (older if is_older else outdated).append(jobs[-1])
    return RemainingWork(jobs, failures, skipped, given_up, older, outdated, kept_older)


def list_unasked(outputs: Iterable[str], records: Mapping[str, JobLines]) -> list[str]:
    """Finished outputs that no job of a batch has any more, by the ledger."""
    asked = set(outputs)
    return sorted(
        name for name, lines in records.items() if name not in asked and any(map(is_done, lines))
    )


def say_older(count: int, progress: Progress) -> None:
    """Says that finished pictures are rendered again because the method is another now."""
    if count:
        progress.note(
            f"{count} {'picture was' if count == 1 else 'pictures were'} made by an older method "
            f"and {'is' if count == 1 else 'are'} rendered again; --keep-older leaves them"
        )


def say_kept_older(count: int, progress: Progress) -> None:
    """Says that finished pictures are left that would be made otherwise now."""
    if count:
        pictures = "1 finished picture is" if count == 1 else f"{count} finished pictures are"
        progress.note(
            f"{pictures} left as an older method, other options or other inputs have made them"
        )


def count_older(records: Mapping[str, JobLines], jobs: Iterable[Job]) -> int:
    """How many jobs older versions of the method alone have finished, whatever else has changed."""
    found = ([line for line in records.get(job.output, ()) if is_done(line)] for job in jobs)
    return sum(bool(lines) and all(map(_is_older, lines)) for lines in found)


def _is_older(record: Record) -> bool:
    method = record.get("method", _UNNAMED_METHOD)
    return isinstance(method, int) and 0 < method < METHOD_VERSION


def _lines_by_older_methods(
    one: ExaminedJob | Result, lines: Iterable[Record], session: Session
) -> list[Record]:
    """Of a job's lines those of older methods, by which it is as it is now in all else."""
    if isinstance(one, Result):
        return []
    fingerprint_by = functools.partial(session_fingerprint, one.job, one.options, session)
    return [
        line
        for line in lines
        if _is_older(line)
        and line.get("fingerprint") == fingerprint_by(line.get("method", _UNNAMED_METHOD))
    ]


def _has_unharmed(
    one: ExaminedJob | Result, lines: Iterable[Record], *, folder: Folder, verify: bool
) -> bool:
    """Whether one of these lines has the job as done, and the picture is as it was written."""
    return isinstance(one, ExaminedJob) and any(
        _is_unharmed(one.job.output, line, folder, verify) for line in lines if is_done(line)
    )


def _is_unharmed(output: str, record: Record, folder: Folder, verify: bool) -> bool:
    """Whether a finished picture's file is as its line says."""
    tag = folder.version_tag(output)
    if not tag:
        return False
    if not verify and tag == record.get("stamp"):
        return True
    try:
        content = folder.read(output)
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
