"""PNG and TIFF with 16 bits a channel, written by hand, since Pillow writes 8 only.

TIFF with 8 bits too, where it is to hold EXIF: Pillow packs either that or the pixels.

Samples are uint16, (height, width, 3) for RGB or (height, width, 4) for RGB and straight
alpha. Nothing here reads the clock, so equal samples give equal bytes. Both formats keep
differences between neighbouring pixels before they are deflated: neighbours are alike,
and small numbers pack better than large ones.
"""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import PngImagePlugin

_DEFLATE_LEVEL = 6


# ---- PNG: a signature, then chunks.

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPE = {3: 2, 4: 6}
_PNG_FILTER_UP = 2


def encode_png16(
    samples: npt.NDArray[np.uint16], text: PngImagePlugin.PngInfo, profile: bytes, exif: bytes
) -> bytes:
    """A whole PNG file.

    Args:
        samples: (h, w, 3) or (h, w, 4).
        text: Chunks that come before the pixels.
        profile: The ICC profile of the samples.
        exif: A block of EXIF without its name; empty: none.
    """
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOUR_TYPE[channels], 0, 0, 0)
    file = io.BytesIO()
    file.write(_PNG_SIGNATURE)
    for name, content in (
        (b"IHDR", header),
        (b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)),
        *(chunk[:2] for chunk in text.chunks),
        *([(b"eXIf", exif)] if exif else []),
        (b"IDAT", zlib.compress(_filter_rows(samples), _DEFLATE_LEVEL)),
        (b"IEND", b""),
    ):
        PngImagePlugin.putchunk(file, name, content)
    return file.getvalue()


def _filter_rows(samples: npt.NDArray[np.uint16]) -> bytes:
    """Each row as its byte-wise difference to the row above, led by the filter's number."""
    height = samples.shape[0]
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_FILTER_UP
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]  # wraps around modulo 256, as PNG wants it
    return filtered.tobytes()


# ---- TIFF: a header, then here the pixels, the longer values, and the directory of tags.

_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_TIFF_HEADER_SIZE = 8

_Tag = tuple[int, int, int, bytes]
"""Number, type, how many values, and the values as little-endian bytes."""


def encode_tiff(
    samples: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    *,
    texts: Mapping[int, bytes],
    exif: Mapping[int, bytes],
    profile: bytes,
) -> bytes:
    """A whole little-endian TIFF file with one strip, deflated.

    Args:
        samples: (h, w, 3) or (h, w, 4).
        texts: By their tags.
        exif: Likewise, in EXIF's own directory.
        profile: The ICC profile of the samples.
    """
    strip = zlib.compress(_row_differences(samples), _DEFLATE_LEVEL)
    strip += b"\0" * (len(strip) % 2)  # every offset in a TIFF is even
    height, width, channels = samples.shape
    start = _TIFF_HEADER_SIZE + len(strip)
    exif_values, exif_directory = _directory([_ascii(*one) for one in exif.items()], start=start)
    tags = [
        _tag(256, _LONG, width),
        _tag(257, _LONG, height),
        _tag(258, _SHORT, *[8 * samples.itemsize] * channels),  # bits per sample
        _tag(259, _SHORT, 8),  # compression: deflate
        _tag(262, _SHORT, 2),  # photometric interpretation: RGB
        _tag(273, _LONG, _TIFF_HEADER_SIZE),  # where the strip starts
        _tag(277, _SHORT, channels),
        _tag(278, _LONG, height),  # rows per strip: all
        _tag(279, _LONG, len(strip)),
        _tag(282, _RATIONAL, 72, 1),  # resolution, with no unit:
        _tag(283, _RATIONAL, 72, 1),  # only the aspect, 1 to 1
        _tag(284, _SHORT, 1),  # channels of a pixel lie side by side
        _tag(296, _SHORT, 1),  # no unit
        _tag(317, _SHORT, 2),  # predictor: difference to the left
        *([_tag(338, _SHORT, 2)] if channels == 4 else []),  # the fourth is straight alpha
        (34675, _UNDEFINED, len(profile), profile),
        *(_ascii(*one) for one in texts.items()),
    ]
    inner = b""
    if exif:
        inner = exif_values + exif_directory
        tags.append(_tag(34665, _LONG, start + len(exif_values)))
    values, directory = _directory(sorted(tags), start=start + len(inner))
    directory_start = start + len(inner) + len(values)
    header = struct.pack("<2sHI", b"II", 42, directory_start)
    return header + strip + inner + values + directory


def _row_differences(samples: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """Each pixel as its difference to the one at its left: TIFF's predictor 2."""
    differences = samples.astype(samples.dtype.newbyteorder("<"))
    differences[:, 1:] -= samples[:, :-1]  # wraps around
    return differences.tobytes()


def _tag(number: int, kind: int, *values: int) -> _Tag:
    content = struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
    return number, kind, len(values) // (2 if kind == _RATIONAL else 1), content


def _ascii(number: int, text: bytes) -> _Tag:
    return number, _ASCII, len(text) + 1, text + b"\0"


def _directory(tags: Sequence[_Tag], *, start: int) -> tuple[bytes, bytes]:
    """The values too long for their entry, which lie at `start`, and the entries."""
    values = b""
    entries = b""
    for number, kind, count, content in tags:
        if len(content) > 4:
            place = struct.pack("<I", start + len(values))
            values += content + b"\0" * (len(content) % 2)
        else:
            place = content.ljust(4, b"\0")
        entries += struct.pack("<HHI", number, kind, count) + place
    no_further_directory = struct.pack("<I", 0)
    return values, struct.pack("<H", len(tags)) + entries + no_further_directory
