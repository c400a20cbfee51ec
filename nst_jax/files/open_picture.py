"""Opening a picture file: everything that can be wrong with it becomes one clear sentence.

Special files are refused before they are opened, sizes are checked before anything is
decoded, and neither an error nor a warning of Pillow's comes through.
"""

import contextlib
import errno
import functools
import hashlib
import importlib
import io
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from PIL import Image, ImageFile, UnidentifiedImageError

from nst_jax.files.full_image import seek_full_image
from nst_jax.files.jpeg_scale import check_pixels
from nst_jax.files.storage import RemoteFile
from nst_jax.request.errors import PictureError, ReadError
from nst_jax.request.options import DEFAULT_MAX_INPUT_PIXELS
from nst_jax.request.paths import hint_at_spelling

File = Path | RemoteFile
"""A file of this machine, or of an object store."""

FORMATS = (
    *("PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000"),
    *("BMP", "DIB", "PPM", "PSD", "TGA", "PCX", "SGI", "QOI"),
)
"""Pillow's names of what is decoded: pictures whose header tells how large they will be.

Not icons, whose header may promise less than the picture within; not what is unpacked as a
whole before its size is looked at (FITS), or runs a program (PostScript).
"""


HEIC_REMEDY = "pip install 'nst-jax[heif]', or export it as JPEG"


@contextlib.contextmanager
def open_picture(
    path: File, *, max_pixels: int = DEFAULT_MAX_INPUT_PIXELS, edge_px: int | None = None
) -> Iterator[ImageFile.ImageFile]:
    """The picture with its header read and checked, its pixels not yet decoded.

    Whatever is raised inside the `with` block becomes a `PictureError` too, so that the
    decoding belongs in there.

    Args:
        path: The file.
        max_pixels: The most that may be decoded, by its header.
        edge_px: The longest edge at which it will be used, if that is known: a large JPEG is then
            decoded at a fraction of its size; see `jpeg_scale`.

    Raises:
        PictureError: The file can't be read, is no picture, too large, or damaged.
    """
    # Pillow gets the open file, not its name: by name it would map some formats into
    # memory, and a file cut short meanwhile would then kill the process.
    with (
        explain_faults(path),
        _PILLOWS_LIMIT,
        _open_file(path) as file,
        Image.open(file, formats=_formats(file, path)) as image,
    ):
        _check_header(image, path)
        check_pixels(image, str(path), max_pixels, edge_px)
        yield image


@contextlib.contextmanager
def explain_faults(name: File | str) -> Iterator[None]:
    """Makes a `PictureError` of whatever Pillow raises in this `with` block; warnings are ignored.

    Args:
        name: The picture's, for what is said.
    """
    try:
        with _without_pillow_warnings():
            yield
    except PictureError:
        raise
    except Exception as error:
        # Broad on purpose: for a damaged file Pillow's readers raise OSError, SyntaxError,
        # ValueError, struct.error, KeyError, zlib.error and others, and document none.
        raise _explain(error, name) from error


def begins_as_picture(path: Path) -> bool:
    """Whether a file begins as a picture does that is decoded here, whatever its name."""
    try:
        with _without_pillow_warnings(), _PILLOWS_LIMIT, _open_file(path) as file:
            formats = [kind for kind in _formats(file, path) if kind not in _WITHOUT_SIGNATURE]
            Image.open(file, formats=formats).close()
    except Exception:  # as above
        return False
    return True


_WITHOUT_SIGNATURE = ("TGA", "EPS")
"""What any bytes may be taken for; and what is known and not decoded."""


@functools.cache
def can_decode_heic() -> bool:
    """Whether the package for HEIC is there; then Pillow is told of it."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def _formats(file: io.BufferedReader | io.BytesIO, path: File) -> tuple[str, ...]:
    """What a file may be.

    Raises:
        PictureError: It is HEIC, and the package for that is missing.
    """
    if not _is_heic(file):
        return (*FORMATS, "EPS")  # to say what is wrong with EPS
    if not can_decode_heic():
        message = f"picture {str(path)!r} is HEIC, which needs a package that is not installed"
        raise PictureError(message, HEIC_REMEDY)
    return ("HEIF",)


_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"))


def _is_heic(file: io.BufferedReader | io.BytesIO) -> bool:
    """Whether a file says that it is HEIC; AVIF has the same container and other brands."""
    head = file.read(256)
    file.seek(0)
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[start : start + 4] for start in range(8, end, 4)}
    return head[4:8] == b"ftyp" and not brands.isdisjoint(_HEIC_BRANDS)


def file_digest(path: File) -> str:
    """sha256 of a picture file's bytes, as hexadecimal digits.

    Raises:
        PictureError: The file is missing, special, empty, or can't be read.
    """
    try:
        with _open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _explain(error, path) from error


@contextlib.contextmanager
def _open_file(file: File) -> Iterator[io.BufferedReader | io.BytesIO]:
    """A file open to be read: a picture, by its kind and its size at least."""
    size = len(file.content) if isinstance(file, RemoteFile) else _plain_file_size(file)
    if size == 0:
        message = f"picture {str(file)!r} is empty (0 bytes)"
        raise PictureError(message, "Copy or export the picture again.")
    with io.BytesIO(file.content) if isinstance(file, RemoteFile) else file.open("rb") as opened:
        yield opened


def _plain_file_size(path: Path) -> int:
    """Bytes of a file that can be read without waiting for anybody.

    Raises:
        OSError: It is missing, or out of reach.
        PictureError: It is no file.
    """
    try:
        status = path.stat()
    except ValueError as error:  # a NUL, or half a letter
        raise PictureError(
            f"picture {str(path)!r} must have a name that a file can have",
            "Check the path and its spelling.",
        ) from error
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for a writer, perhaps for ever.
        raise PictureError(
            f"picture {str(path)!r} must be a file, but it is a {_kind_of_file(status.st_mode)}",
            "Name a picture file.",
        )
    return status.st_size


def _kind_of_file(file_mode: int) -> str:
    if stat.S_ISDIR(file_mode):
        return "folder"
    return "named pipe" if stat.S_ISFIFO(file_mode) else "device or socket"


def _check_header(image: ImageFile.ImageFile, path: File) -> None:
    width, height = image.size
    if min(width, height) < 1:
        raise PictureError(
            f"picture {str(path)!r} must be at least 1 px high and wide, got {width} x {height}"
        )
    if image.format == "EPS":
        # To decode it Pillow would run Ghostscript on it: a program, not a picture.
        raise PictureError(
            f"picture {str(path)!r} is PostScript, which is not decoded", "Export it as PNG."
        )
    seek_full_image(image, str(path))


_TRANSIENT_ERRNOS = frozenset(
    (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
)


_EXPLANATIONS = (
    (FileNotFoundError, "does not exist", "Check the path and its spelling."),
    (PermissionError, "may not be read by this user", "Change its permissions."),
    (
        UnidentifiedImageError,
        "is no picture, or in a format that is not decoded here",
        "PNG, JPEG, WebP and TIFF are safe choices.",
    ),
    (MemoryError, "needs more memory than there is", "Scale it down first."),
)


def _explain(error: Exception, path: File | str) -> PictureError:
    name = f"picture {str(path)!r}"
    for kind, fault, remedy in _EXPLANATIONS:
        if isinstance(error, kind):
            if kind is FileNotFoundError:
                remedy = hint_at_spelling(str(path)) + "."
            return PictureError(f"{name} {fault}", remedy)
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS:
        return ReadError(f"{name} could not be read: {error.strerror}", "Try again later.")
    if isinstance(error, OSError) and error.strerror:
        return PictureError(f"{name} could not be read: {error.strerror}", "Check the path.")
    said = " ".join(str(error).split())  # some libraries take several lines
    return PictureError(
        f"{name} is damaged or cut short: {said or type(error).__name__}",
        "Copy or export the picture again.",
    )


_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextlib.contextmanager
def _without_pillow_warnings() -> Iterator[None]:
    """Ignores what Pillow has to say of faulty EXIF blocks and the like.

    Not `warnings.catch_warnings`: that puts back a copy of the process' whole list of
    filters, and two decoding threads that overlap would leave the wrong copy behind for
    good. Each call here adds one filter and takes one away, from the same list.
    """
    filters = cast(list[object], warnings.filters)
    filters.insert(0, _PILLOW_WARNINGS)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the host may have emptied the list meanwhile
            filters.remove(_PILLOW_WARNINGS)


class _PillowsLimit:
    """Pillow's own limit of pixels, lifted while a picture is open: `max_pixels` is what counts.

    It is one for the whole process, and its host may have set it: it comes back when the last
    of the threads that decode is through.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open_pictures = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._open_pictures == 0:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._open_pictures += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open_pictures -= 1
            if self._open_pictures == 0:
                Image.MAX_IMAGE_PIXELS = self._limit


_PILLOWS_LIMIT = _PillowsLimit()
