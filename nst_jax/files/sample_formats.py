"""What the numbers of a picture mean: which is white, and whether it is the smallest or largest.

A file says so by its bits a sample, and at times by a tag of its own. Where it says nothing and
its numbers can't be meant so (12 bits of data in samples of 16, floats up to 255), it is refused:
the picture would be nearly black, or all white. Where they may be meant otherwise, that is said.
"""

import io
import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin

from nst_jax.request.errors import PictureError

_WHITE_16 = 65535

_DARKEST_SHARE = 16
"""A picture of 16 bits whose brightest number is below white by this factor was not scaled."""

_BRIGHTEST_FLOAT = 16.0
"""Of lights above white, in floats that are meant as 0 to 1."""

_OVERSHOOT, _LARGEST_OVERSHOOT = 0.1, 0.25
"""How far resampling leaves the range as a rule; and below 0 at most, by the brightest value."""

_MOST_OUTSIDE, _FEW_OUTSIDE = 1 / 2, 1 / 100
"""Shares of pixels that lie farther outside: more are no picture; so few are lights."""


class SampleFormat(NamedTuple):
    """What a file declares.

    Attributes:
        white: The largest whole number that its samples may have.
        declared_white: What is white by a tag of its own, 2**n - 1; 0: it has none.
        significant_bits: How many of 16 bits hold data, in a PNG that says so.
        is_white_zero: Whether small numbers are bright.
        is_signed_byte: Whether samples of 8 bits are from -128 to 127.
        has_16_bit_colours: Of which Pillow gives the upper byte.
        has_16_bit_planes: Colours of 16 bits lie one after the other, uncompressed. Pillow takes
            them for 8 bits.
    """

    white: int = _WHITE_16
    declared_white: int = 0
    significant_bits: int = 16
    is_white_zero: bool = False
    is_signed_byte: bool = False
    has_16_bit_colours: bool = False
    has_16_bit_planes: bool = False


def read_sample_format(image: Image.Image) -> SampleFormat:
    """What the header of an opened picture declares, its pixels not yet decoded."""
    if not isinstance(image, ImageFile.ImageFile):
        return SampleFormat()  # an image that came from no file
    is_deep = image.mode == "F" or image.mode.startswith("I")
    if isinstance(image, TiffImagePlugin.TiffImageFile) and (is_deep or image.mode == "L"):
        return _read_tiff_tags(image)
    has_16_bit_colours = not is_deep and bool(re.search(";16|SGI16", str(image.tile[:1])))
    return SampleFormat(
        significant_bits=_significant_bits(image) if is_deep or has_16_bit_colours else 16,
        has_16_bit_colours=has_16_bit_colours,
        has_16_bit_planes=_has_16_bit_planes(image),
    )


def to_grey_levels(
    raw: npt.NDArray[np.generic], declared: SampleFormat, name: str
) -> tuple[npt.NDArray[np.float32], str]:
    """Deep grey in [0, 1], 1 being white, and what may be wrong with it; empty: nothing.

    Args:
        raw: Whole numbers or floats, (height, width).
        declared: What the file says of them.
        name: The file's, for what is said.

    Raises:
        PictureError: There are numbers among them that mean no brightness.
    """
    scale = _scale_floats if raw.dtype.kind == "f" else _scale_integers
    levels, doubt = scale(raw, declared, name)
    return 1 - levels if declared.is_white_zero else levels, doubt


def read_low_bytes(
    image: ImageFile.ImageFile, declared: SampleFormat
) -> npt.NDArray[np.uint8] | None:
    """The lower bytes of a PNG's colours, which Pillow leaves out; None where they don't count.

    They do where the header of the image, which is not decoded yet, says that fewer bits hold data.
    """
    if declared.significant_bits == 16 or not declared.has_16_bit_colours or image.fp is None:
        return None
    image.fp.seek(0)
    with Image.open(io.BytesIO(image.fp.read()), formats=("PNG",)) as copy:
        tile = copy.tile[0]
        is_grey = tile.args == "LA;16B"  # whose two samples have four bytes, as a pixel of RGBA
        by_low_bytes = "RGBA" if is_grey else str(tile.args).replace("16B", "16L")
        copy.tile = [tile._replace(args=by_low_bytes)]
        low = np.asarray(copy)
    return low[..., (1, 1, 1, 3)] if is_grey else low


def scale_colours(
    image: Image.Image, low: npt.NDArray[np.uint8], declared: SampleFormat
) -> Image.Image:
    """Colours of 8 bits, of ones that lie unscaled in 16; the image itself where they don't.

    The image has the upper bytes, `low` the others; see `read_low_bytes`.
    """
    values, bits = np.asarray(image) * np.uint16(256) + low, declared.significant_bits
    if not _has_bits_as_they_are(colours := values[..., :3], int(colours.max()), bits):
        return image
    white = np.where(values.max((0, 1)) < 2**bits, np.float32(2**bits - 1), np.float32(_WHITE_16))
    scaled = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
    scaled.info = image.info
    if "transparency" in image.info:
        scaled.putalpha(image.convert("RGBA").getchannel("A"))
    return scaled


def doubt_depth(brightest: int, white: int = _WHITE_16) -> str:
    """What to say of numbers as dark as data of fewer bits that nobody has scaled; else empty."""
    bits = brightest.bit_length()
    if not 12 <= bits <= white.bit_length() - 2 or brightest + 256 < 2**bits:
        return ""
    return (
        f"its brightest value is {brightest} of {white}, as of data of {bits} bits that were not "
        f"scaled; if so, multiply it by {2 ** (white.bit_length() - bits)}"
    )


def check_16_bit_colours(image: Image.Image, declared: SampleFormat, name: str) -> str:
    """Refuses colours of 16 bits that were not scaled to them, or not read as such.

    Args:
        image: Decoded, so that of each colour the upper byte is left.
        declared: What the file says.
        name: The file's, for what is said.

    Returns:
        What may be wrong with them; empty: nothing.

    Raises:
        PictureError: They were not.
    """
    if declared.has_16_bit_planes:
        raise PictureError(
            f"picture {name!r} must hold the colours of a pixel side by side, got a plane of 16 "
            "bits for each colour",
            "Export it without planes, or compressed.",
        )
    if not declared.has_16_bit_colours or image.mode == "CMYK":
        return ""
    colours = (image.getchannel(band) for band in image.getbands() if band != "A")
    brightest = max(int(np.max(colour.getextrema())) for colour in colours)
    is_drawn_by_alpha = brightest == 0 and image.has_transparency_data
    if brightest < 256 // _DARKEST_SHARE and not is_drawn_by_alpha:
        raise _refuse_unscaled(name, f"at most {256 * brightest + 255}", _WHITE_16)
    return doubt_depth(256 * brightest + 255) if declared.significant_bits == 16 else ""


def widen_palette(image: ImageFile.ImageFile) -> None:
    """Takes a TIFF's palette of 8 bits for what it is: the format knows palettes of 16 bits only.

    As libtiff does, by the same sign: no entry is above 255.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode in ("P", "PA"):
        entries = image.tag_v2[TiffImagePlugin.COLORMAP]
        if max(entries) < 256:
            image.palette = ImagePalette.raw("RGB;L", bytes(entries))


# ---- What files declare.

_SIGNED = 2  # of TIFF's sample formats
_MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE = 281, 341


def _read_tiff_tags(image: TiffImagePlugin.TiffImageFile) -> SampleFormat:
    tags = image.tag_v2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
    is_signed = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == _SIGNED
    told = {*tags.get(_MAX_SAMPLE_VALUE, ()), *tags.get(_S_MAX_SAMPLE_VALUE, ())}
    # The standard lets these be the data's own largest value too, which is no white.
    whites = [2**n - 1 for n in range(8, 17) if 2**n - 1 in told]
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
    return SampleFormat(
        white=min(_WHITE_16, 2 ** (bits - is_signed) - 1),
        declared_white=max(whites, default=0),
        is_white_zero=photometric == 0 and image.mode != "L",  # which Pillow inverts itself
        is_signed_byte=is_signed and bits == 8,
    )


def _has_16_bit_planes(image: ImageFile.ImageFile) -> bool:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    tags = image.tag_v2
    has_planes = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    is_deep = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0] == 16
    return has_planes and is_deep and image.tile[0].codec_name == "raw"


def _significant_bits(image: ImageFile.ImageFile) -> int:
    """Of a PNG's grey or colours, by its chunk sBIT: a byte a channel, of which the largest."""
    if image.format != "PNG" or image.fp is None:
        return 16
    image.fp.seek(0)
    head = image.fp.read(image.tile[0].offset)
    told = re.search(rb"\0\0\0([\x01-\x04])sBIT(.{4})", head, re.DOTALL)
    bits = max(told[2][: 3 if told[1][0] > 2 else 1]) if told else 16  # of alpha not
    return bits if 0 < bits <= 16 else 16


# ---- Numbers as brightness.


def _scale_floats(
    raw: npt.NDArray[np.generic], declared: SampleFormat, name: str
) -> tuple[npt.NDArray[np.float32], str]:
    values = raw.astype(np.float32)
    if not np.isfinite(values).all():
        raise PictureError(
            f"picture {name!r} must hold finite numbers, got NaN or infinity",
            "Export it with values from 0 to 1.",
        )
    if values.max() > 1 and declared.declared_white:
        values /= np.float32(declared.declared_white)
    lowest, highest = float(values.min()), float(values.max())
    outside = float(np.mean((values < -_OVERSHOOT) | (values > 1 + _OVERSHOOT)))
    is_below = lowest < -_LARGEST_OVERSHOOT * max(1.0, highest)
    if is_below or highest > _BRIGHTEST_FLOAT or outside > _MOST_OUTSIDE:
        raise PictureError(
            f"picture {name!r} must hold floats from 0 (black) to 1 (white), got "
            f"{lowest:.4g} to {highest:.4g}",
            "Scale its values to that range, or export it with 8 or 16 bits a channel.",
        )
    doubt = ""
    if outside > _FEW_OUTSIDE:
        doubt = (
            f"its values are {lowest:.4g} to {highest:.4g}, beyond 0 and 1 {outside:.0%} are cut"
        )
    return np.clip(values, 0.0, 1.0, dtype=np.float32), doubt


def _scale_integers(
    raw: npt.NDArray[np.generic], declared: SampleFormat, name: str
) -> tuple[npt.NDArray[np.float32], str]:
    lowest, highest = int(raw.min()), int(raw.max())
    if lowest < 0 or highest > declared.white:
        raise PictureError(
            f"picture {name!r} must hold integers from 0 (black) to {declared.white} "
            f"(white), got {lowest} to {highest}",
            "Export it with 8 or 16 bits a channel, unsigned.",
        )
    white, doubt = declared.white, ""
    if declared.declared_white and highest <= declared.declared_white:
        white = declared.declared_white
    elif _has_bits_as_they_are(raw, highest, declared.significant_bits):
        white = 2**declared.significant_bits - 1
    elif declared.significant_bits == 16:
        doubt = doubt_depth(highest, white)
    if highest > 0 and highest * _DARKEST_SHARE < white:
        raise _refuse_unscaled(name, highest, white)
    return raw.astype(np.float32) / np.float32(white), doubt


def _has_bits_as_they_are(raw: npt.NDArray[np.generic], highest: int, bits: int) -> bool:
    """Whether data of fewer bits lies in samples of 16 unscaled, against the standard of PNG.

    Scaled as it asks, so dark a picture would have multiples of a step, or one more.
    """
    if bits == 16 or highest >= 2**bits:
        return False
    return bool((raw.astype(np.uint16) % np.uint16(2 ** (16 - bits)) > 1).any())


def _refuse_unscaled(name: str, brightest: object, white: int) -> PictureError:
    return PictureError(
        f"picture {name!r} must use the range of its samples, whose white is {white}, got "
        f"{brightest} as its brightest value",
        f"Scale its values until white is {white}, or export it with 8 bits a channel.",
    )
