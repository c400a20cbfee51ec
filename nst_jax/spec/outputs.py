"""Names of outputs: which suffixes there are, where they may lie, and default names."""

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from types import MappingProxyType

from nst_jax.spec.errors import OutputError

FORMAT_OF_SUFFIX = MappingProxyType(
    {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".webp": "WEBP",
        ".tif": "TIFF",
        ".tiff": "TIFF",
    }
)
SIXTEEN_BIT_FORMATS = frozenset({"PNG", "TIFF"})


def is_url(name: str) -> bool:
    """Whether a name is no path of this machine, but `SCHEME://...`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name) is not None


def check_output_suffix(name: str, *, bit_depth: int = 8) -> None:
    """Refuses an output name that could not be written, before it is rendered.

    Raises:
        OutputError: The suffix is not .png, .jpg, .jpeg, .webp, .tif or .tiff in any case,
            or its format has no 16 bits where 16 are wanted.
    """
    suffix = PurePosixPath(name).suffix
    kind = FORMAT_OF_SUFFIX.get(suffix.lower())
    if kind is None:
        raise OutputError(
            f"output {name!r} must end in one of {', '.join(FORMAT_OF_SUFFIX)}, got {suffix!r}",
            "The suffix chooses the format",
        )
    if bit_depth == 16 and kind not in SIXTEEN_BIT_FORMATS:
        raise OutputError(
            f"output {name!r} can't hold 16 bits a channel, because {kind} has 8",
            "Name it .png or .tif, or leave bit_depth at 8",
        )


def check_output_place(name: str) -> None:
    """Refuses an output name that is not a plain relative path inside the output folder.

    Raises:
        OutputError: The name is absolute, climbs with `..`, has a backslash or a NUL, hides
            behind a leading dot, or is too long or no text for a file system.
    """
    path = PurePosixPath(name)
    rules = {
        "be relative to the output folder": path.is_absolute() or ":" in name[:2],
        "stay inside the output folder": ".." in path.parts,
        "use / between folders": "\\" in name,
        "hold no NUL": "\0" in name,
        "not start with a dot": any(part.startswith(".") for part in path.parts),
        "be text that UTF-8 can hold": not _is_encodable(name),
        "have parts of at most 200 bytes": any(
            len(part.encode(errors="surrogatepass")) > 200 for part in path.parts
        ),
    }
    for rule, broken in rules.items():
        if broken:
            raise OutputError(f"output {name!r} must {rule}")


def default_output(content: str, styles: Iterable[str]) -> str:
    """`CONTENT__STYLE.png` by stems; several styles are joined by `+`."""
    stems = (PurePosixPath(style).stem for style in styles)
    return _shortened(f"{PurePosixPath(content).stem}__{'+'.join(stems)}") + ".png"


def unique_outputs(wanted: Iterable[tuple[str, bool]]) -> list[str]:
    """Output names in their shortest spelling (`a.png` for `./a.png`), no two alike.

    Upper and lower case are taken for the same, as some file systems do.

    Args:
        wanted: Each name, and whether it was given by the user. A default one gives way:
            `a__b_2.png`, `a__b_3.png`, ...

    Raises:
        OutputError: Two names that the user gave are the same.
    """
    pairs = list(wanted)
    taken: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for name, given in pairs:
        if given:
            _claim(name, taken)
    return [
        plain_output(name) if given else _free_name(name, taken, numbers) for name, given in pairs
    ]


def plain_output(name: str) -> str:
    """The shortest spelling of an output name."""
    return str(PurePosixPath(name))


def _claim(name: str, taken: dict[str, str]) -> None:
    key = output_key(name)
    if key in taken:
        same = "" if taken[key] == name else f" (the same as {taken[key]!r} on some systems)"
        raise OutputError(f"output {name!r} is named by two jobs{same}", "Name them apart")
    taken[key] = name


def _free_name(name: str, taken: dict[str, str], numbers: dict[str, int]) -> str:
    """A name that is not taken. `numbers` has the last number tried for each wanted name."""
    path, candidate = PurePosixPath(name), name
    wanted = output_key(name)
    while output_key(candidate) in taken:
        numbers[wanted] = numbers.get(wanted, 1) + 1
        candidate = str(path.with_stem(f"{path.stem}_{numbers[wanted]}"))
    taken[output_key(candidate)] = candidate
    return candidate


def output_key(name: str) -> str:
    """What two names of one file have in common."""
    return plain_output(name).casefold()


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _shortened(stem: str) -> str:
    """A stem that may stand in an output name and leaves room for a number and a suffix."""
    visible = re.sub(r"[\\:\0]", "_", stem).lstrip(".") or "output"
    return visible.encode(errors="ignore")[:180].decode(errors="ignore")
