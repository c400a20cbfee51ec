"""Finished pictures to files: PNG, JPEG, WebP and TIFF, whole or not at all.

Contract: pixels are float sRGB, (height, width, 3), clipped to [0, 1] and rounded to the
nearest step, half to even. Every file carries an sRGB profile, and if asked the
maker's name, a description and EXIF; no time of its own: equal input gives equal bytes. Losses
are JPEG's and WebP's own, at quality 95; JPEG keeps full colour resolution (4:4:4) and has no
transparency.
"""

import hashlib
import io
import json
import re
import zlib
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from nst_jax.files.atomic import write_bytes
from nst_jax.files.exif import NO_EXIF, ExifTexts, pack_exif, split_by_directory
from nst_jax.files.icc_profiles import srgb_profile
from nst_jax.files.images import Picture, composite
from nst_jax.files.png16_tiff16 import encode_png16, encode_tiff
from nst_jax.request.errors import WriteError
from nst_jax.request.outputs import FORMAT_OF_SUFFIX, check_output_suffix

SOFTWARE = "nst_jax"

_LONGEST_EDGE_PX = MappingProxyType({"JPEG": 65500, "WEBP": 16383})


def save_picture(
    path: Path,
    pixels: np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    bit_depth: Literal[8, 16] = 8,
    description: str | None = "",
    exif: ExifTexts = NO_EXIF,
) -> str:
    """Writes a picture in the format that the name's suffix asks for.

    The file appears whole under its name, in place of an older one, or not at all.

    Args:
        pixels: (h, w, 3) float, clipped to [0, 1].
        alpha: (h, w) float, straight, clipped to [0, 1]. JPEG can't hold it, so there the
            picture is laid on white.
        bit_depth: 16 for PNG and TIFF only.
        description: What the picture was made from, as JSON. PNG keeps it as UTF-8 under
            "Description". The others keep it in ImageDescription (EXIF and TIFF), which is
            ASCII by its standard: there "é" becomes the JSON escape "\\u00e9", so the JSON
            means the same. None: neither this nor the maker's name.
        exif: What the picture takes over of its photograph's.

    Returns:
        The SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        OutputError: See `check_output_suffix`.
        WriteError: A pixel is not finite, the format can't hold this size, or the file
            can't be written.
    """
    content = encode_picture(
        path, pixels, alpha=alpha, bit_depth=bit_depth, description=description, exif=exif
    )
    try:
        write_bytes(path, content)
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    return hashlib.sha256(content).hexdigest()


def encode_picture(
    path: PurePath,
    pixels: np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    bit_depth: Literal[8, 16] = 8,
    description: str | None = "",
    exif: ExifTexts = NO_EXIF,
) -> bytes:
    """The bytes that `save_picture` writes, under its rules.

    Raises:
        OutputError: See `check_output_suffix`.
        WriteError: A pixel is not finite, or the format can't hold this size.
    """
    check_output_suffix(path.name, bit_depth=bit_depth)
    kind = FORMAT_OF_SUFFIX[path.suffix.lower()]
    _check_values(path, pixels, alpha)
    _check_edges(path, pixels.shape, kind)
    samples = _to_samples(pixels, alpha, kind=kind, bit_depth=bit_depth)
    try:
        return _ENCODERS[kind](samples, description, exif)
    except (OSError, ValueError, MemoryError) as error:
        raise WriteError(
            f"output {str(path)!r} could not be encoded as {kind}: {_reason(error)}"
        ) from error


_BYTES_A_SAMPLE = MappingProxyType({"PNG": 1.0, "TIFF": 1.0, "JPEG": 0.5, "WEBP": 0.3})
"""Of 8 bits, in a picture full of brush strokes; a smooth one takes less."""


def estimate_file_bytes(name: str, size: tuple[int, int], *, bit_depth: int = 8) -> int:
    """About how large a picture's file will be, rather too much than too little.

    Args:
        name: With a suffix that is supported.
        size: (height, width) in pixels.
        bit_depth: 8 or 16.
    """
    height, width = size
    kind = FORMAT_OF_SUFFIX[PurePath(name).suffix.lower()]
    return round(3 * height * width * _BYTES_A_SAMPLE[kind] * bit_depth / 8)


_REMEDIES = MappingProxyType(
    {
        "FileNotFoundError": "Create the folder first.",
        "NotADirectoryError": "Create the folder first.",
        "IsADirectoryError": "Choose a name that is no folder's.",
        "PermissionError": "Choose a folder that may be written to.",
    }
)


def write_error(path: PurePath, error: OSError | ValueError) -> WriteError:
    """A picture that could not be written, and how to mend that."""
    return WriteError(
        f"output {str(path)!r} could not be written: {_reason(error)}",
        _REMEDIES.get(type(error).__name__, "Check the disk's free space and the folder."),
    )


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or type(error).__name__


# ---- Checks.


def _check_values(path: PurePath, pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise WriteError(f"output {str(path)!r} must have the shape (h, w, 3), got {pixels.shape}")
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise WriteError(
            f"output {str(path)!r} must have an alpha of shape {pixels.shape[:2]}, "
            f"got {alpha.shape}"
        )
    for name, values in (("pixels", pixels), ("alpha", alpha)):
        if values is not None and values.dtype.kind != "f":
            raise WriteError(f"output {str(path)!r} must have float {name}, got {values.dtype}")
        if values is not None and not np.isfinite(values).all():
            raise WriteError(f"output {str(path)!r} must have finite {name}, got NaN or infinity")


def _check_edges(path: PurePath, shape: tuple[int, ...], kind: str) -> None:
    limit = _LONGEST_EDGE_PX.get(kind)
    if limit is not None and max(shape) > limit:
        raise WriteError(
            f"output {str(path)!r} must be at most {limit} px high and wide as {kind}, "
            f"got {shape[0]} x {shape[1]} (height x width)",
            "Choose .png or .tiff.",
        )


# ---- From floats to the integers of the file.


def _to_samples(
    pixels: np.ndarray, alpha: np.ndarray | None, *, kind: str, bit_depth: Literal[8, 16]
) -> np.ndarray:
    """uint8 or uint16, (h, w, 3) or with alpha (h, w, 4)."""
    if alpha is None:
        return quantize(pixels, bit_depth)
    if kind == "JPEG":
        whole = [np.clip(each, 0.0, 1.0).astype(np.float32) for each in (pixels, alpha)]
        return quantize(composite(Picture(whole[0], whole[1]), "white"), bit_depth)
    return quantize(np.concatenate([pixels, alpha[..., np.newaxis]], axis=-1), bit_depth)


def quantize(values: np.ndarray, bit_depth: Literal[8, 16]) -> np.ndarray:
    """Values from 0 to 1 as whole numbers of so many bits: the nearest, half to even."""
    steps = 2**bit_depth - 1
    # float64 holds a float32 times 65535 exactly, so nothing is rounded twice.
    scaled = np.clip(values, 0.0, 1.0).astype(np.float64) * steps
    return np.rint(scaled).astype(np.uint8 if bit_depth == 8 else np.uint16)


# ---- From integers to the bytes of the file.


def _encode_png(samples: np.ndarray, description: str | None, exif: ExifTexts) -> bytes:
    text = PngImagePlugin.PngInfo()
    if description is not None:
        text.add_itxt("Software", SOFTWARE)
        # A file name that is no UTF-8 reaches us as lone surrogates, which UTF-8 can't hold.
        text.add_itxt("Description", _escape_for_json(description, r"[\x00\ud800-\udfff]"))
    packed = pack_exif(exif).removeprefix(b"Exif\0\0")
    if samples.dtype == np.uint16:
        return encode_png16(samples, text, srgb_profile(), packed)
    # What is painted hardly repeats itself: half the seconds, and 1 % more bytes at the most.
    return _save(samples, format="PNG", compress_type=zlib.Z_RLE, pnginfo=text, exif=packed)


def _encode_tiff(samples: np.ndarray, description: str | None, exif: ExifTexts) -> bytes:
    words = _ascii_words(description)
    if samples.dtype == np.uint16 or exif:
        texts, inner = split_by_directory({**words, **exif})
        return encode_tiff(samples, texts=texts, exif=inner, profile=srgb_profile())
    return _save(samples, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=words)


def _encode_jpeg(samples: np.ndarray, description: str | None, exif: ExifTexts) -> bytes:
    packed = pack_exif({**_ascii_words(description), **exif})
    return _save(samples, format="JPEG", quality=95, subsampling=0, exif=packed)


def _encode_webp(samples: np.ndarray, description: str | None, exif: ExifTexts) -> bytes:
    packed = pack_exif({**_ascii_words(description), **exif})
    return _save(samples, format="WEBP", quality=95, method=4, exif=packed)


_ENCODERS = MappingProxyType(
    {"PNG": _encode_png, "JPEG": _encode_jpeg, "WEBP": _encode_webp, "TIFF": _encode_tiff}
)


def _save(samples: np.ndarray, *, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, format, icc_profile=srgb_profile(), **options)
    return buffer.getvalue()


def _ascii_words(description: str | None) -> ExifTexts:
    if description is None:
        return NO_EXIF
    said = _escape_for_json(description, r"[^\x01-\x7f]")
    return {ExifTags.Base.ImageDescription: said, ExifTags.Base.Software: SOFTWARE}


def _escape_for_json(text: str, characters: str) -> str:
    """`text` with those characters as they may stand in a JSON string instead."""
    return re.sub(characters, lambda found: json.dumps(found.group())[1:-1], text)
