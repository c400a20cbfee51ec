"""Where compiled programs are kept, how large that is, and its emptying. No jax.

In the folder there is one for each build and kind of device; JAX keeps NAME-cache there, which is
a program, and NAME-atime, which is when it was last used. It bounds its own folder by that; all of
them together are bounded here.
"""

import contextlib
import os
import re
from pathlib import Path

from nst_jax.files.user_cache import user_cache_folder
from nst_jax.request.errors import OptionError
from nst_jax.request.paths import expand_home

CACHE_VARIABLE = "NST_JAX_CACHE_DIR"
"""The environment variable that says where programs are kept, or `off`."""

LIMIT_BYTES = 2 * 10**9

_LIMIT_VARIABLE = "JAX_COMPILATION_CACHE_MAX_SIZE"
_BUILD = re.compile(r"jax-.+-jaxlib-.+-[0-9a-f]{12}")
_OURS = re.compile(r".*-(cache|atime)|tried|\.lockfile|probe-.*|speed\.json")
_MARK = "tried"


def programs_folder() -> Path | None:
    """The folder of all builds; None where the user wants or has none."""
    given = os.environ.get(CACHE_VARIABLE)
    if is_off():
        return None
    if given:
        folder = expand_home(given)
        return None if folder.startswith("~") else Path(folder)  # nobody has that home
    home = user_cache_folder()
    return home and home / "programs"


def unkept_text() -> str:
    """Why no programs can be kept; nothing where they can."""
    given, folder = os.environ.get(CACHE_VARIABLE), programs_folder()
    if is_off():
        return f"{CACHE_VARIABLE} is {given or 'empty'}"
    if folder is None:
        return f"{given!r} is a home that nobody has" if given else "this user has no home"
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        return f"{str(there)!r} is no folder"
    return "" if os.access(there, os.W_OK) else f"{str(there)!r} may not be written"


def is_off() -> bool:
    """Whether the user has switched the keeping off."""
    return os.environ.get(CACHE_VARIABLE, "on").strip().lower() in ("", "off")


def size_limit() -> int:
    """Bytes that programs may take, by JAX's own variable or ours; -1: any number.

    Raises:
        OptionError: The variable tells nothing of that kind.
    """
    given = os.environ.get(_LIMIT_VARIABLE, str(LIMIT_BYTES))
    with contextlib.suppress(ValueError):
        if (limit := int(given)) >= -1:
            return limit
    raise OptionError(
        f"{_LIMIT_VARIABLE} must be a number of bytes, or -1 for any number, got {given!r}"
    )


def has_named_owner(folder: Path) -> bool:
    """Whether the folder's user and group have names; in containers some are but numbers."""
    try:
        return bool(os.name != "posix" or (folder.owner() and folder.group()))
    except KeyError:
        return False


def count_programs(folder: Path) -> tuple[int, int]:
    """How many programs of all builds are kept, and their bytes."""
    builds = _builds(folder)
    return sum(len([*build.glob("*-cache")]) for build in builds), sum(map(_program_bytes, builds))


def clear_programs(folder: Path) -> None:
    """Removes all that is kept, and nothing else that lies there.

    Raises:
        OSError: It can't be.
    """
    for build in _builds(folder):
        _clear(build)
        with contextlib.suppress(OSError):  # something foreign is in it, or another run already
            build.rmdir()


def tidy_programs(build: Path) -> None:
    """Makes a build's folder fit for a run that begins, and makes room for it.

    JAX never stores anything again beside a program without a time of use, as an end in between,
    or JAX without a bound, leaves them. It bounds its own folder; of the others those that were
    not used for longest go, whole.

    Raises:
        OSError: The folder can't be written.
    """
    for program in build.glob("*-cache"):
        used = program.with_name(program.name.removesuffix("cache") + "atime")
        if not used.exists():
            used.write_bytes(program.stat().st_mtime_ns.to_bytes(8, "little"))
    if (limit := size_limit()) < 0:
        return
    others = [other for other in _builds(build.parent) if other != build]
    left = limit - _program_bytes(build)
    for other in sorted(others, key=_last_use, reverse=True):
        left -= _program_bytes(other)
        if left < 0:
            with contextlib.suppress(OSError):  # it is another user's
                _clear(other)


def mark_use(build: Path) -> bool:
    """Notes that a build's folder is used; returns whether it was before."""
    mark = build / _MARK
    was_used = mark.exists()
    with contextlib.suppress(OSError):
        mark.touch()
    return was_used


def _builds(folder: Path) -> list[Path]:
    return [path for path in folder.glob("jax-*") if _BUILD.fullmatch(path.name)]


def _last_use(build: Path) -> float:
    with contextlib.suppress(OSError):
        return (build / _MARK).stat().st_mtime
    return 0.0


def _clear(build: Path) -> None:
    for path in build.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _program_bytes(build: Path) -> int:
    total = 0
    for program in build.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            total += program.stat().st_size
    return total
