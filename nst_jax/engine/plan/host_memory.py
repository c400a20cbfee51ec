"""How much memory this process may use: the machine's, or its control group's if that is less.

Beyond it Linux kills the process without a word, so a plan must not go there.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def host_bytes() -> int | None:
    """Bytes of memory for this process; None where the system does not tell."""
    limits = list(_group_limits(_OWN_GROUPS, _GROUPS))
    with contextlib.suppress(AttributeError, OSError, ValueError):  # unknown names, or Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min((limit for limit in limits if limit > 0), default=None)


def _group_limits(own_groups: Path, groups: Path) -> Iterator[int]:
    """Limits of the process's control groups and of all groups around them.

    Args:
        own_groups: Lines `number:controllers:/path`; version 2 has no controllers.
        groups: Where the groups are mounted.
    """
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _limits_up_from(groups, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_up_from(groups / "memory", path, "memory.limit_in_bytes")


def _limits_up_from(mount: Path, path: str, name: str) -> Iterator[int]:
    group = mount / path.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(mount):
            return
        try:
            text = (folder / name).read_text().strip()
        except OSError:  # in a container the outer groups can't be seen
            continue
        if text.isdigit():  # else it says `max`
            yield int(text)
