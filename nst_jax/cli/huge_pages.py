"""Memory in pages of 2 MB where Linux gives them on request alone, as most servers' do.

XLA asks for all temporary memory of a program anew each time that it runs, some hundred megabytes,
which takes a while in pages of 4 KB. The C library requests large ones where a variable of its
environment says so, which it reads once, before Python begins.
"""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_VARIABLE = "GLIBC_TUNABLES"
_ON_REQUEST = "glibc.malloc.hugetlb=1"
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_COMMANDS = {"batch", "bench", "render", "study"}
"""Those that take many steps."""


def begin_with_huge_pages() -> None:
    """Has this process begin once more with that variable, where it changes anything.

    It stays the same process, with the same arguments.
    """
    environment = environment_to_begin_with(sys.argv[1:], os.environ)
    if environment is not None:
        with contextlib.suppress(OSError):  # then it goes on as it is
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def environment_to_begin_with(
    arguments: Sequence[str], environment: Mapping[str, str], setting: Path = _SETTING
) -> Mapping[str, str] | None:
    """The environment with the variable in it; None where it changes nothing.

    Args:
        arguments: Of the command line.
        environment: As it is. What it says of the variable already is the user's own.
        setting: Where Linux says whether large pages are always given, on request or never.
    """
    if _VARIABLE in environment or not _COMMANDS.intersection(arguments[:1]):
        return None
    try:
        is_glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
        if not is_glibc or "[madvise]" not in setting.read_text():
            return None
    except (AttributeError, OSError, ValueError):  # another system, or another C library
        return None
    return {**environment, _VARIABLE: _ON_REQUEST}
