"""What a page says of a batch: ledger and run record as one object that JSON can hold.

    title, live
    run         run.json as it is, or those of several workers as one, or null
    defaults    the per-job options' defaults
    pictures    contents and styles, each once: name, thumb, view
    jobs        a ledger line each, newest state; content and styles are places in `pictures`;
                previews are [step, URL]; unasked: the last run did not ask for it any more

A `thumb` or a `view` is [URL relative to the page, width, height], or null where there is
no picture to show.
"""

import collections
import dataclasses
import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from nst_jax.files.ledger import Record, is_done, read_ledger
from nst_jax.files.report.run_records import read_run_record
from nst_jax.files.report.thumbnails import FOLDER, ThumbnailRequest, Thumbnails
from nst_jax.request.options import JobOptions
from nst_jax.request.outputs import PREVIEWS_NAME

THUMB_PX = 440
VIEW_PX = 1280
"""Long edges of the copies in the grid and in a job's own view."""

# What every browser of today shows as it is.
_SHOWN_BY_BROWSERS = frozenset({".png", ".jpg", ".jpeg", ".webp"})

_PREVIEW = re.compile(r"(.+)\.(\d{6,})\.png")
"""A preview's name: the output's, and after which step."""

_JOB_KEYS = (
    *("job", "status", "steps", "seconds", "compile_seconds", "losses", "error"),
    *("options", "curve", "level_ends", "sha256"),
)


@dataclasses.dataclass(frozen=True)
class BatchRecords:
    """What an output folder holds.

    Attributes:
        folder: The output folder.
        records: The last ledger line of each job.
        run: run.json of the last run, or of its workers together; None where there is none,
            or it can't be read.
    """

    folder: Path
    records: tuple[Record, ...]
    run: Mapping[str, Any] | None

    def output_path(self, record: Record) -> Path:
        """Where a job's picture lies."""
        return self.folder / record["job"]

    def inputs(self) -> list[str]:
        """Names of all contents and styles, each once, in the order of the ledger."""
        names = (name for record in self.records for name in _inputs(record))
        return list(dict.fromkeys(names))

    def thumbnail_requests(self) -> list[ThumbnailRequest]:
        """The copies that a page needs."""
        inputs = [Path(name) for name in self.inputs()]
        outputs = [self.output_path(record) for record in self.records if is_done(record)]
        views = [*inputs, *(path for path in outputs if not _is_shown_by_browsers(path))]
        return [
            *(ThumbnailRequest(path, THUMB_PX) for path in (*inputs, *outputs)),
            *(ThumbnailRequest(path, VIEW_PX) for path in views),
        ]


def read_batch_records(folder: Path) -> BatchRecords:
    """Reads an output folder; what is not there yet is empty."""
    return BatchRecords(folder, tuple(read_ledger(folder).values()), read_run_record(folder))


def page_data(batch: BatchRecords, thumbnails: Thumbnails, *, live: bool) -> dict[str, Any]:
    """What the page says; see above.

    Args:
        batch: The output folder.
        thumbnails: Of its pictures, as far as there are any.
        live: Whether the page is to look for news.
    """
    inputs = batch.inputs()
    places = {name: place for place, name in enumerate(inputs)}
    previews, unasked = _list_previews(batch.folder), _read_unasked(batch.run)
    return {
        "title": batch.folder.resolve().name or "renders",
        "live": live,
        "run": batch.run,
        "defaults": dataclasses.asdict(JobOptions()),
        "pictures": [_picture_entry(name, thumbnails) for name in inputs],
        "jobs": [
            _job_entry(record, batch, places, thumbnails)
            | {
                "previews": previews.get(record["job"], []),
                "unasked": record["job"] in unasked,
            }
            for record in batch.records
        ],
    }


def _list_previews(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """Previews by the job's output: after which step, and where."""
    found: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
    root = folder / PREVIEWS_NAME
    for path in sorted(root.rglob("*.png")) if root.is_dir() else ():
        name = path.relative_to(root).as_posix()
        if match := _PREVIEW.fullmatch(name):
            place = urllib.parse.quote(os.fsencode(f"{PREVIEWS_NAME}/{name}"))
            found[match[1]].append((int(match[2]), f"../{place}"))
    return found


def _read_unasked(run: Mapping[str, Any] | None) -> frozenset[str]:
    """Outputs that the last run no longer asked for."""
    told = (run or {}).get("unasked")
    names = told if isinstance(told, list) else ()
    return frozenset(one for one in names if isinstance(one, str))


def _picture_entry(name: str, thumbnails: Thumbnails) -> dict[str, Any]:
    return {
        "name": PurePath(name).name,
        "path": name,
        "thumb": _image_entry(thumbnails, Path(name), THUMB_PX),
        "view": _image_entry(thumbnails, Path(name), VIEW_PX),
    }


def _job_entry(
    record: Record, batch: BatchRecords, places: Mapping[str, int], thumbnails: Thumbnails
) -> dict[str, Any]:
    """A job's line, and its picture: the thumb, and the file itself or what stands in for it."""
    names = [places[name] for name in _inputs(record)]
    content = names[0] if isinstance(record.get("content"), str) else None
    path, file = batch.output_path(record), None
    thumb = _image_entry(thumbnails, path, THUMB_PX) if is_done(record) else None
    view = thumb and _image_entry(thumbnails, path, VIEW_PX)
    if thumb:
        file = f"../{urllib.parse.quote(os.fsencode(record['job']))}"  # as the file system has it
        view = [file, *thumb[1:]] if _is_shown_by_browsers(path) else view
    return {key: record.get(key) for key in _JOB_KEYS} | {
        "content": content,
        "styles": names if content is None else names[1:],
        "thumb": thumb,
        "view": view,
        "file": file,
    }


def _inputs(record: Record) -> list[str]:
    """Content and styles of a job, as far as its line names them."""
    styles = record.get("style")
    named = [record.get("content"), *(styles if isinstance(styles, list) else [])]
    return [name for name in named if isinstance(name, str)]


def _is_shown_by_browsers(path: Path) -> bool:
    return path.suffix.lower() in _SHOWN_BY_BROWSERS


def _image_entry(thumbnails: Thumbnails, path: Path, edge_px: int) -> list[Any] | None:
    found = thumbnails.get(ThumbnailRequest(path, edge_px))
    return found and [f"{FOLDER}/{found.name}", found.width, found.height]


def to_script(content: Mapping[str, Any]) -> bytes:
    """The contents as a script, which a page may load from a disk where it may not read JSON.

    No name in it can end the script or become markup.
    """
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f"showReport({text});\n".encode()
