"""The run record of an output folder: that of the last run, or those of its workers as one."""

import collections
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RunRecord = Mapping[str, Any]

_PART = re.compile(r"run-\d+-of-(\d+)\.json")
_CLOCKS_DIFFER_S = 60.0
"""At most, between machines whose clocks are set."""

_LONGEST = "seconds"
"""Workers run beside each other, so of this the longest counts; of all else the sum."""

_SHARE = "device_idle_share"
"""Of each worker's own time; by the seconds in steps a mean of all."""

_ADDED = "summary", "phases"


def read_run_record(folder: Path) -> RunRecord | None:
    """The last run's record; None where there is none that can be read.

    Where workers came last, each with a share of the same number, theirs are put together.
    """
    paths = [folder / "run.json", *folder.glob("run-*.json")]
    last = max(paths, key=_change_time)
    found = _PART.fullmatch(last.name)
    if found is None:
        return _read(last)
    parts = [_read(path) for path in sorted(folder.glob(f"run-*-of-{found[1]}.json"))]
    return _merge_workers([part for part in parts if part is not None])


def _change_time(path: Path) -> float:
    """When a file was last changed; long ago where it is missing, or a clock was ahead."""
    try:
        changed = path.stat().st_mtime
    except OSError:
        return -1.0
    return changed if changed < time.time() + _CLOCKS_DIFFER_S else 0.0


def _read(path: Path) -> RunRecord | None:
    try:
        run = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return run if isinstance(run, dict) else None


def _merge_workers(parts: Sequence[RunRecord]) -> RunRecord | None:
    if not parts:
        return None
    summary, phases = (_add_up([part.get(name) for part in parts]) for name in _ADDED)
    told = [_numbers(part.get("summary")) for part in parts]
    summary[_LONGEST] = max(one.get(_LONGEST, 0) for one in told)
    if _SHARE in summary:
        idle = sum(one.get(_SHARE, 0) * one.get("step_seconds", 0) for one in told)
        summary[_SHARE] = round(idle / (summary.get("step_seconds", 0) or 1), 4)
    return {**parts[0], "shard": None, "workers": len(parts), "summary": summary, "phases": phases}


def _numbers(values: Any) -> dict[str, int | float]:
    listed = values.items() if isinstance(values, dict) else ()
    return {key: value for key, value in listed if isinstance(value, (int, float))}


def _add_up(parts: Sequence[Any]) -> dict[str, Any]:
    """The sums of what the parts have in numbers, and of tables of numbers within."""
    within: dict[str, list[Any]] = collections.defaultdict(list)
    for part in parts:
        for key, value in part.items() if isinstance(part, dict) else ():
            if isinstance(value, dict):
                within[key].append(value)
    return _add_numbers(parts) | {key: _add_numbers(tables) for key, tables in within.items()}


def _add_numbers(tables: Sequence[Any]) -> dict[str, int | float]:
    sums: dict[str, int | float] = collections.defaultdict(int)
    for table in tables:
        for key, value in _numbers(table).items():
            sums[key] = round(sums[key] + value, 3)
    return dict(sums)
