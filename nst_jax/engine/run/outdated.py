"""Finished pictures that are rendered again: which, and what has changed since they were made."""

import collections
import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nst_jax.engine.inputs.fingerprint import shared_options
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.progress import Progress
from nst_jax.engine.run.run_record import read_run
from nst_jax.files.folders import Folder
from nst_jax.files.ledger import Record, is_done
from nst_jax.request.options import JobOptions, job_options, non_default_options

_REASONS_SHOWN = 3
_OTHER_INPUT = "an input file has changed"
_OTHER_NETWORK = "the network is another one"
_UNKNOWN = "something else that they follow from has changed"


def say_outdated(reasons: Iterable[str], progress: Progress) -> None:
    """Says how many finished pictures are made again and why, a line a reason."""
    counted = collections.Counter(reasons)
    for reason, count in counted.most_common(_REASONS_SHOWN):
        pictures = "1 finished picture is" if count == 1 else f"{count} finished pictures are"
        progress.note(f"{pictures} made again: {reason}; --keep-older leaves them")
    if rest := counted.most_common()[_REASONS_SHOWN:]:
        left = sum(count for _, count in rest)
        progress.note(f"{left} more are made again, for {len(rest)} other reasons")


def explain_outdated(
    jobs: Sequence[ExaminedJob], folder: Folder, session: Session
) -> dict[int, str]:
    """What has changed since pictures were finished, by the job's index.

    The ledger is read once more for it, because a run keeps little of it in memory.
    """
    if not jobs:
        return {}
    wanted = {one.job.output for one in jobs}
    records = folder.read_records(slim=lambda record: _keep_what_explains(record, wanted))
    before = read_run(folder) or {}
    shared = _shared_changes(before, session)
    return {
        one.index: _explain(one, records.get(one.job.output, ()), shared, session) for one in jobs
    }


def _keep_what_explains(record: Record, wanted: set[str]) -> None:
    kept = {"job", "status", "time", "stamp"}
    if record.get("job") in wanted:
        kept |= {"options", "inputs"}
    for key in record.keys() - kept:
        del record[key]


def _explain(
    one: ExaminedJob, lines: Iterable[Record], shared: Sequence[str], session: Session
) -> str:
    done = [line for line in lines if is_done(line)]
    if not done:
        return _UNKNOWN
    line = done[-1]
    own = one.job.options or job_options(session.options)
    before, now = line.get("options"), _as_json(non_default_options(own))
    changes: list[str] = []
    if isinstance(before, dict):
        default = _default_options()
        changes = [
            _change(name, before.get(name, default.get(name)), now.get(name, default.get(name)))
            for name in sorted(before.keys() | now.keys())
            if before.get(name, default.get(name)) != now.get(name, default.get(name))
        ]
    changes += shared
    if _has_other_input(one, line, session):
        changes.append(_OTHER_INPUT)
    return ", ".join(changes) or _UNKNOWN


@functools.cache
def _default_options() -> dict[str, Any]:
    """What a line of the ledger leaves out, as a file has it."""
    return _as_json(dataclasses.asdict(JobOptions()))


def _has_other_input(one: ExaminedJob, line: Record, session: Session) -> bool:
    before, now = line.get("inputs"), _as_json(session.pictures.records(one.job.pictures))
    if not isinstance(before, dict):
        return False
    return any(
        path not in before or before[path].get("sha256") != told.get("sha256")
        for path, told in now.items()
    )


def _shared_changes(before: Mapping[str, Any], session: Session) -> list[str]:
    """What of the options of all jobs is not as it was in the last run, and of the network."""
    options, weights = before.get("options"), before.get("weights")
    now = _as_json(shared_options(session.options))
    changes = []
    if isinstance(options, dict):
        changes = [
            _change(name, options[name], value)
            for name, value in now.items()
            if name in options and options[name] != value
        ]
    if isinstance(weights, dict) and weights.get("sha256") != session.weights.content_sha256:
        changes.append(_OTHER_NETWORK)
    return changes


def _change(name: str, before: Any, now: Any) -> str:
    return f"{name} was {_text(before)} and is {_text(now)}"


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """As a file has them: tuples are lists."""
    return json.loads(json.dumps(values))
