"""Finished pictures whose jobs are to have other names now."""

import json
import os
from collections.abc import Iterable, Mapping

from nst_jax.engine.progress import Progress
from nst_jax.engine.results import Result
from nst_jax.files.folders import Folder
from nst_jax.files.ledger import JobLines, Record, is_done
from nst_jax.request.job import Job


def say_renamed(
    jobs: Iterable[Job],
    outputs: Iterable[str],
    records: Mapping[str, JobLines],
    folder: Folder,
    progress: Progress,
) -> None:
    """Tells in one line of pictures that are rendered again because they have other names now.

    Args:
        jobs: That are asked for, their output names filled in.
        outputs: Of the whole batch.
        records: What the folder's ledger has of each job.
        folder: The output folder.
        progress: Told of it.
    """
    renamed = find_renamed(jobs, outputs, records, folder)
    if renamed:
        new, old = next(iter(renamed.items()))
        pictures = "1 picture is" if len(renamed) == 1 else f"{len(renamed)} pictures are"
        progress.note(
            f"{pictures} finished under another name and rendered again: {old!r} is {new!r} now; "
            "what a manifest's column output names keeps its name"
        )


def find_renamed(
    jobs: Iterable[Job], outputs: Iterable[str], records: Mapping[str, JobLines], folder: Folder
) -> dict[str, str]:
    """Under which name a picture is finished that no job has any more, by its new name."""
    new = [job for job in jobs if job.output not in records and _is_of_files(job)]
    done = (name for name, lines in records.items() if any(map(is_done, lines)))
    gone = set(done).difference(outputs) if new else ()
    if not gone:
        return {}
    asked = folder.read_records(slim=_keep_request)  # which the other lines lack, to be small
    finished = {
        line["request"]: name
        for name in sorted(gone)
        for line in filter(is_done, asked.get(name, ()))
    }
    wanted = {job.output: _request_of(Result(0, job).record()) for job in new}
    return {name: finished[one] for name, one in wanted.items() if one in finished}


def _is_of_files(job: Job) -> bool:
    return all(isinstance(one, (str, os.PathLike)) for one in (job.content, *job.styles))


def _keep_request(record: Record) -> None:
    """Leaves of a line what was asked for, and what tells which line is the last."""
    record["request"] = _request_of(record)
    for key in record.keys() - {"job", "status", "time", "request"}:
        del record[key]


def _request_of(record: Record) -> str:
    """Content, styles and options of a line, as text."""
    return json.dumps([record.get(key) for key in ("content", "style", "options")], sort_keys=True)
