"""The report on disk: `report/index.html` in the output folder, its data and its pictures.

    report/index.html       the page, with its styles and its program in it
    report/data.js          what it shows; written again, and read again, while a batch runs
    report/pictures/*.webp  thumbnails, and contents and styles large enough to look at

The page needs no server and no network. It refers to the pictures of the batch by relative
paths, so the output folder may be moved, copied or put on a web server as a whole.
"""

import functools
from pathlib import Path

import jinja2

from nst_jax.files.atomic import write_bytes
from nst_jax.files.ledger import LEDGER_NAME
from nst_jax.files.report.page_data import page_data, read_batch_records, to_script
from nst_jax.files.report.thumbnails import FOLDER, make_thumbnails, remove_stale_thumbnails
from nst_jax.request.errors import OptionError, WriteError, reason_of

REPORT_FOLDER = "report"


def write_report(folder: Path, *, live: bool = False) -> Path:
    """Writes the page of an output folder, finished or running; quick where little is new.

    Every file is replaced whole, the pictures before the data and the data before the page.

    Args:
        folder: With the pictures and the ledger of a batch.
        live: The batch runs on: the page is to look for news every few seconds.

    Returns:
        The page.

    Raises:
        WriteError: It can't be written; what was there before is unharmed.
    """
    place = folder / REPORT_FOLDER
    try:
        (place / FOLDER).mkdir(parents=True, exist_ok=True)
        batch = read_batch_records(folder)
        made = make_thumbnails(place / FOLDER, batch.thumbnail_requests())
        content = page_data(batch, made, live=live)
        write_bytes(place / "data.js", to_script(content), durable=False)
        page = render_template("report.html.j2", title=content["title"])
        write_bytes(place / "index.html", page, durable=False)
        if not live:
            remove_stale_thumbnails(place / FOLDER, made.values())
    except OSError as error:
        raise WriteError(f"report {str(place)!r} can't be written: {reason_of(error)}") from error
    return place / "index.html"


def check_report_folder(folder: Path) -> None:
    """Refuses a folder that no batch was rendered into.

    Raises:
        OptionError: It is missing, or it has no ledger.
    """
    if not folder.is_dir():
        raise OptionError(f"report needs an output folder, got {str(folder)!r}, which is none")
    if not any(folder.glob("ledger*.jsonl")):
        raise OptionError(
            f"report needs the output folder of a batch, got {str(folder)!r}, which has no "
            f"{LEDGER_NAME}",
            "Name the folder that was --output-dir, or add --watch to wait for the first job",
        )


def check_folder_can_be_made(folder: Path) -> None:
    """Refuses a path that no batch can make a folder of.

    Raises:
        OptionError: It is a file, or leads through one.
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if there.exists() and not there.is_dir():
        which = "which is a file" if there == folder else f"but {str(there)!r} is a file"
        raise OptionError(
            f"report needs an output folder, got {str(folder)!r}, {which}",
            "Name the folder that is --output-dir",
        )


def render_template(template: str, **names: object) -> bytes:
    """A page from one of the package's templates; every value in it is escaped."""
    return _templates().get_template(template).render(**names).encode(errors="replace")


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("nst_jax.files.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
