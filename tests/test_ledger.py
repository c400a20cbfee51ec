"""The ledger: what was appended is read, whatever else has come into the file."""

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nst_jax.files.ledger import LEDGER_NAME, Ledger, read_ledger
from nst_jax.files.storage import version_tag

RECORDS = [{"job": "a.png", "status": "done"}, {"job": "b/é.png", "losses": {"total": 0.5}}]


def append(folder: Path, *records: dict) -> None:
    with Ledger(folder) as ledger:
        for record in records:
            ledger.append(record)


def by_job(*records: dict) -> dict[str, dict]:
    return {record["job"]: record for record in records}


def test_what_is_appended_is_read_by_its_job_before_append_returns(tmp_path):
    assert read_ledger(tmp_path / "nowhere") == read_ledger(tmp_path) == {}
    with Ledger(tmp_path) as ledger:
        for count, record in enumerate(RECORDS, start=1):
            ledger.append(record)
            assert read_ledger(tmp_path) == by_job(*RECORDS[:count])


def test_each_record_is_one_line_of_ascii(tmp_path):
    append(tmp_path, {"job": "é\n猫.png", "error": {"message": "two\nlines\u2028"}})
    content = (tmp_path / LEDGER_NAME).read_bytes()
    assert content.isascii()
    assert content.count(b"\n") == 1
    assert content.endswith(b"\n")


def test_the_last_record_of_a_job_wins_and_earlier_runs_are_kept(tmp_path):
    append(tmp_path, {"job": "a", "status": "failed"}, {"job": "b", "status": "done"})
    append(tmp_path, {"job": "a", "status": "done"})
    assert read_ledger(tmp_path)["a"]["status"] == "done"
    assert len((tmp_path / LEDGER_NAME).read_text().splitlines()) == 3


NOW = time.time()
AHEAD, BEHIND = NOW + 86_400, 5.0
"""By clocks that were a day ahead, or began anew in 1970."""


@pytest.mark.parametrize("dates", [(AHEAD, NOW), (NOW, BEHIND), (NOW, None), (None, AHEAD)])
def test_within_a_file_the_lower_line_is_later_whatever_the_clock_said(tmp_path, dates):
    append(tmp_path, *({"job": "a", "time": date, "number": n} for n, date in enumerate(dates)))
    assert read_ledger(tmp_path)["a"]["number"] == 1


@pytest.mark.parametrize(
    ("part", "whole", "holds"),
    [
        ({"time": NOW - 5}, {"time": NOW - 9}, "part"),
        ({"time": NOW - 9}, {"time": NOW - 5}, "whole"),
        ({"time": AHEAD}, {"time": NOW - 9}, "whole"),
        ({"time": NOW - 9}, {"time": AHEAD}, "part"),
        ({"time": AHEAD, "changed": NOW - 9}, {"time": NOW - 5}, "whole"),
        ({"time": AHEAD, "changed": NOW - 5}, {"time": NOW - 9}, "part"),
        ({"changed": NOW - 5}, {"time": NOW - 9}, "part"),
        ({"time": NOW - 5}, {"time": NOW - 9, "is_there": True}, "whole"),
        ({"time": BEHIND, "is_there": True}, {"time": NOW - 9}, "part"),
        ({"time": BEHIND, "is_there": True}, {"time": NOW - 9, "status": "failed"}, "whole"),
        ({"time": NOW - 9, "status": "failed"}, {"time": NOW - 5, "is_there": True}, "whole"),
    ],
)
def test_between_files_the_picture_that_is_there_tells_or_dates_that_can_be(
    tmp_path, part, whole, holds
):
    """`changed` is the file's own time, where it is another than that of its line."""
    (tmp_path / "a").touch()
    for name, told in (("ledger-0.jsonl", part), (LEDGER_NAME, whole)):
        stamp = version_tag(tmp_path / "a") if told.pop("is_there", False) else "gone"
        changed = told.pop("changed", told.get("time"))
        record = {"job": "a", "status": "done", "stamp": stamp, "from": name, **told}
        (tmp_path / name).write_text(json.dumps(record) + "\n")
        os.utime(tmp_path / name, (changed, changed))
    assert read_ledger(tmp_path)["a"]["from"] == {"part": "ledger-0.jsonl"}.get(holds, LEDGER_NAME)


@pytest.mark.parametrize("kept", [1, 10, -1, None])
def test_a_torn_last_line_is_healed_and_one_that_lacks_only_its_end_is_not_lost(tmp_path, kept):
    append(tmp_path, *RECORDS)
    path = tmp_path / LEDGER_NAME
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + second[:kept])
    whole = RECORDS if kept is None else RECORDS[:1]
    assert read_ledger(tmp_path) == by_job(*whole)
    append(tmp_path, {"job": "c"})
    assert read_ledger(tmp_path) == by_job(*whole, {"job": "c"})


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"nonsense", b"[]", b"null", b"1", b"{}", b'{"job": 5}', b'{"status": "done"}'),
        *(b"\xff\xfe", b"\0" * 64, b"[" * 100_000, b'{"job": "a.png"', b'"job"', b"\r"),
    ],
    ids=range(14),
)
def test_foreign_lines_are_passed_over(tmp_path, line):
    append(tmp_path, RECORDS[0])
    path = tmp_path / LEDGER_NAME
    path.write_bytes(path.read_bytes() + line + b"\n")
    append(tmp_path, RECORDS[1])
    assert read_ledger(tmp_path) == by_job(*RECORDS)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000))
def test_wherever_a_crash_cuts_the_file_the_whole_lines_are_read(tmp_path, cut):
    path = tmp_path / LEDGER_NAME
    path.unlink(missing_ok=True)
    append(tmp_path, *({"job": str(index), "x": "é" * index} for index in range(20)))
    content = path.read_bytes()
    path.write_bytes(content[: cut % len(content)])
    whole = path.read_bytes().count(b"\n")
    read = read_ledger(tmp_path)
    assert list(read)[:whole] == [str(index) for index in range(whole)]
    assert len(read) <= whole + 1


def test_ledgers_of_several_writers_are_read_as_one(tmp_path):
    for name, job in (("ledger-0.jsonl", "a"), ("ledger-1.jsonl", "b"), (LEDGER_NAME, "c")):
        (tmp_path / name).write_text(json.dumps({"job": job, "from": name}) + "\n")
    (tmp_path / "other.jsonl").write_text('{"job": "d"}\n')
    (tmp_path / "ledger-2.jsonl").mkdir()
    assert sorted(read_ledger(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_refused_with_nothing_written(tmp_path, number):
    with Ledger(tmp_path) as ledger, pytest.raises(ValueError, match="JSON"):
        ledger.append({"job": "a", "losses": {"total": number}})
    assert (tmp_path / LEDGER_NAME).read_bytes() == b""


def test_a_full_disk_is_an_error_and_not_silence(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    (tmp_path / LEDGER_NAME).symlink_to("/dev/full")
    with Ledger(tmp_path) as ledger, pytest.raises(OSError, match="No space"):
        ledger.append({"job": "a"})


def test_a_line_that_was_written_in_part_is_an_error(tmp_path, monkeypatch):
    class AlmostFull(io.FileIO):
        def write(self, content: Any) -> int:
            return super().write(content[:-1]) or 0

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: AlmostFull(path, mode))
    with Ledger(tmp_path) as ledger, pytest.raises(OSError, match="No space"):
        ledger.append({"job": "a"})
    monkeypatch.undo()
    append(tmp_path, {"job": "b"})
    assert sorted(read_ledger(tmp_path)) == ["a", "b"]
