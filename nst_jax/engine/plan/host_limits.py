"""How much memory and how many cores this process may use: the machine's, or its control group's.

Beyond its group's memory Linux kills a process without a word; beyond its group's share of the
cores it stands still for the rest of each tenth of a second.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def host_bytes() -> int | None:
    """Bytes of memory for this process; None where the system does not tell."""
    names = ("memory.max", "memory.limit_in_bytes")
    texts = (_read(group / name) for group in _group_folders("memory") for name in names)
    limits = [int(text) for text in texts if text.isdigit()]  # else it says `max`
    with contextlib.suppress(AttributeError, OSError, ValueError):  # unknown names, or Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min((limit for limit in limits if limit > 0), default=None)


def usable_cores() -> int:
    """Cores for this process: those that it may run on, or as many as its quota lets it use."""
    return min([host_cores(), *map(math.ceil, _quotas())])


def host_cores() -> int:
    """Of the host, those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """How many cores the groups may keep busy."""
    for group in _group_folders("cpu"):
        names = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")  # of version 2, of version 1
        match " ".join(_read(group / name) for name in names).split():
            case quota, period if quota.isdigit() and int(quota):  # else it says `max`, or -1
                yield int(quota) / int(period)


def _group_folders(controller: str) -> Iterator[Path]:
    """The process's control groups and all groups around them.

    The lines that name them are `number:controllers:/path`; version 2 has no controllers.
    """
    for line in _read(_OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = _GROUPS
        elif controller in controllers.split(","):
            mount = _GROUPS / controller
        else:
            continue
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield folder


def _read(path: Path) -> str:
    """A file's text; in a container the outer groups can't be seen, and elsewhere none at all."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
