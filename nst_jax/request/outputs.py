"""Names of outputs: which suffixes there are, where they may lie, and default names."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from types import MappingProxyType

from nst_jax.request.errors import OutputError

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

PREVIEWS_NAME = "previews"
CONTACT_SHEET_NAME = "index.png"
REPORT_PICTURES = "report/pictures/"
"""Where the page of a batch keeps, and clears, its copies."""

_PLAIN_PART = r"[^./\\:\0][^/\\:\0]{0,199}"
_PLAIN = re.compile(f"{_PLAIN_PART}(?:/{_PLAIN_PART})*")
_PLAIN_PICTURE = re.compile(rf"(?!~/){_PLAIN.pattern}\.(?i:png|jpe?g|webp|tiff?)")


def is_url(name: str) -> bool:
    """Whether a name is no path of this machine, but `SCHEME://...`."""
    return "://" in name and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def validate_output(name: str, *, bit_depth: int = 8) -> str:
    """An output name in its shortest spelling, its place and its suffix looked at.

    Raises:
        OutputError: See `check_output_place` and `check_output_suffix`.
    """
    if bit_depth == 8 and name.isascii() and _PLAIN_PICTURE.fullmatch(name):
        return name  # as nearly all of a million do; one match is quicker than the rules one by one
    check_output_place(name)
    check_output_suffix(name, bit_depth=bit_depth)
    return normalize_output(name)


def check_output_suffix(name: str, *, bit_depth: int = 8) -> None:
    """Refuses an output name that could not be written, before it is rendered.

    Raises:
        OutputError: The suffix is not .png, .jpg, .jpeg, .webp, .tif or .tiff in any case,
            or its format has no 16 bits where 16 are wanted.
    """
    suffix = stem_and_suffix(name)[1]
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
        "be relative to the output folder": path.is_absolute()
        or ":" in name[:2]
        or path.parts[:1] == ("~",),
        "stay inside the output folder": ".." in path.parts,
        "use / between folders": "\\" in name,
        "lie outside of the report's own pictures": name.casefold().startswith(REPORT_PICTURES),
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
    """`CONTENT__STYLE.png` of what pictures are called; several styles are joined by `+`."""
    return _shorten(f"{content}__{'+'.join(styles)}") + ".png"


class OutputNames:
    """Names that outputs have already, as the least discerning file system sees them.

    Upper and lower case are taken for the same, and so are an accented letter and its two
    parts; a file and a folder can't have one name.
    """

    def __init__(self) -> None:
        self._owners: dict[str, str | int] = {}
        self._folders: dict[str, str | int] = {}
        self._numbers: dict[str, int] = {}

    def claim(self, name: str, owner: str | int) -> None:
        """Takes a name that the user gave.

        Args:
            name: The output in its shortest spelling.
            owner: Who takes it: the number of a manifest's line, or the name as it was given.

        Raises:
            OutputError: It is taken, or is the folder of one that is, or lies in one.
        """
        key = name_key(name)
        if key in self._owners:
            raise _clash(name, "is taken by", self._owners[key])
        if key in self._folders:
            raise _clash(name, "is a folder in the output of", self._folders[key])
        folder = key.rpartition("/")[0]
        while folder and folder not in self._folders:
            if folder in self._owners:
                raise _clash(
                    name, "lies in the output of", self._owners[folder], ", which is a file"
                )
            self._folders[folder] = owner
            folder = folder.rpartition("/")[0]
        self._owners[key] = owner

    def claim_free_name(self, name: str) -> str:
        """A default name, or the first of `a_2.png`, `a_3.png`, ... that is free; takes it."""
        candidate, wanted = name, output_key(name)
        key = wanted
        while key in self._owners or key in self._folders:
            number = self._numbers[wanted] = self._numbers.get(wanted, 1) + 1
            stem, suffix = posixpath.splitext(name)
            candidate = f"{stem}_{number}{suffix}"
            key = output_key(candidate)
        self._owners[key] = candidate
        return candidate


def _clash(name: str, how: str, owner: str | int, end: str = "") -> OutputError:
    who = f"line {owner}" if isinstance(owner, int) else f"another job as {owner!r}"
    return OutputError(f"output {name!r} {how} {who}{end}", "Name them apart")


def normalize_output(name: str) -> str:
    """The shortest spelling of an output name."""
    return name if _is_plain(name) else str(PurePosixPath(name))


def output_key(name: str) -> str:
    """What two names of one file have in common."""
    return name_key(normalize_output(name))


def name_key(plain: str) -> str:
    """What two names have in common that some file system takes for one."""
    key = plain.casefold()
    if not key.isascii():
        key = unicodedata.normalize("NFC", key)
    return plain if key == plain else key  # one text in memory, mostly, and not two


def _is_plain(name: str) -> bool:
    """Whether a name keeps every rule of a place and can't be spelled shorter."""
    return name.isascii() and _PLAIN.fullmatch(name) is not None


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def stem_and_suffix(name: str) -> tuple[str, str]:
    """Of the last part of a path; as pathlib has them, in a tenth of the time."""
    last = name.rstrip("/").rpartition("/")[2]
    dot = last.rfind(".")
    return (last[:dot], last[dot:]) if 0 < dot < len(last) - 1 else (last, "")


def _shorten(stem: str) -> str:
    """A stem that may stand in an output name and leaves room for a number and a suffix."""
    if len(stem) <= 180 and "/" not in stem and _is_plain(stem):
        return stem
    visible = re.sub(r"[\\/:\0]", "_", stem).lstrip(".") or "output"
    return visible.encode(errors="ignore")[:180].decode(errors="ignore")
