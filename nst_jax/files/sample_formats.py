"""What the numbers of a picture mean: which is white, and whether it is the smallest or largest.

A file says so by its bits a sample, and at times by a tag of its own. Where it says nothing and
its numbers can't be meant so (12 bits of data in samples of 16, floats up to 255), it is refused:
the picture would be nearly black, or all white.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin

from nst_jax.request.errors import PictureError

_WHITE_16 = 65535

_DARKEST_SHARE = 16
"""A picture of 16 bits whose brightest number is below white by this factor was not scaled."""

_FLOAT_RANGE = (-1.0, 16.0)
"""Of floats that are meant as 0 to 1: what resampling overshoots, and lights above white."""


class SampleFormat(NamedTuple):
    """What a file declares.

    Attributes:
        white: The largest whole number that its samples may have.
        declared_white: What is white by a tag of its own, 2**n - 1; 0: it has none.
        significant_bits: How many of 16 bits hold data.
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
    if is_deep:
        return SampleFormat(significant_bits=_significant_bits(image))
    return SampleFormat(
        has_16_bit_colours=bool(re.search(";16|SGI16", str(image.tile[:1]))),
        has_16_bit_planes=_has_16_bit_planes(image),
    )


def to_grey_levels(
    raw: npt.NDArray[np.generic], declared: SampleFormat, name: str
) -> npt.NDArray[np.float32]:
    """Deep grey in [0, 1], 1 being white.

    Args:
        raw: Whole numbers or floats, (height, width).
        declared: What the file says of them.
        name: The file's, for what is said.

    Raises:
        PictureError: There are numbers among them that mean no brightness.
    """
    scale = _scale_floats if raw.dtype.kind == "f" else _scale_integers
    levels = scale(raw, declared, name)
    return 1 - levels if declared.is_white_zero else levels


def check_16_bit_colours(image: Image.Image, declared: SampleFormat, name: str) -> None:
    """Refuses colours of 16 bits that were not scaled to them, or not read as such.

    Args:
        image: Decoded, so that of each colour the upper byte is left.
        declared: What the file says.
        name: The file's, for what is said.

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
        return
    colours = (image.getchannel(band) for band in image.getbands() if band != "A")
    brightest = max(int(np.max(colour.getextrema())) for colour in colours)
    is_drawn_by_alpha = brightest == 0 and image.has_transparency_data
    if brightest < 256 // _DARKEST_SHARE and not is_drawn_by_alpha:
        raise _refuse_unscaled(name, f"at most {256 * brightest + 255}", _WHITE_16)


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
    """Of a grey PNG's samples, by its chunk sBIT, which is one byte long."""
    if image.format != "PNG" or image.fp is None:
        return 16
    image.fp.seek(0)
    head = image.fp.read(image.tile[0].offset)
    told = re.search(rb"\0\0\0\x01sBIT(.)", head, re.DOTALL)
    bits = told[1][0] if told else 16
    return bits if 0 < bits <= 16 else 16


# ---- Numbers as brightness.


def _scale_floats(
    raw: npt.NDArray[np.generic], declared: SampleFormat, name: str
) -> npt.NDArray[np.float32]:
    values = raw.astype(np.float32)
    if not np.isfinite(values).all():
        raise PictureError(
            f"picture {name!r} must hold finite numbers, got NaN or infinity",
            "Export it with values from 0 to 1.",
        )
    if values.max() > 1 and declared.declared_white:
        values /= np.float32(declared.declared_white)
    lowest, highest = float(values.min()), float(values.max())
    if lowest < _FLOAT_RANGE[0] or highest > _FLOAT_RANGE[1]:
        raise PictureError(
            f"picture {name!r} must hold floats from 0 (black) to 1 (white), got "
            f"{lowest:.4g} to {highest:.4g}",
            "Divide it by the value of white, or export it with 8 or 16 bits a channel.",
        )
    return np.clip(values, 0.0, 1.0, dtype=np.float32)


def _scale_integers(
    raw: npt.NDArray[np.generic], declared: SampleFormat, name: str
) -> npt.NDArray[np.float32]:
    lowest, highest = int(raw.min()), int(raw.max())
    if lowest < 0 or highest > declared.white:
        raise PictureError(
            f"picture {name!r} must hold integers from 0 (black) to {declared.white} "
            f"(white), got {lowest} to {highest}",
            "Export it with 8 or 16 bits a channel, unsigned.",
        )
    white = declared.white
    if declared.declared_white and highest <= declared.declared_white:
        white = declared.declared_white
    elif _has_bits_as_they_are(raw, highest, declared.significant_bits):
        white = 2**declared.significant_bits - 1
    if highest > 0 and highest * _DARKEST_SHARE < white:
        raise _refuse_unscaled(name, highest, white)
    return raw.astype(np.float32) / np.float32(white)


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
