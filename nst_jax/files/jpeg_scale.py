"""JPEG at a fraction of its size: libjpeg decodes at a half, a quarter or an eighth at once.

So a photograph of any size takes the time and memory of what is made of it. The scale follows
from the picture and its use alone, so that the same job has the same pixels wherever it runs.
"""

import io

from PIL import ImageFile, JpegImagePlugin

from nst_jax.request.errors import PictureError, say_count

_SCALES = (8, 4, 2)

_COEFFICIENT_PIXELS = 28
"""Coefficients of 2 bytes that may be kept for each pixel that may be decoded: within the
64 bytes a pixel that a picture may take."""

_PIXELS_A_BYTE = 8 * 64
"""The most that a JPEG can hold: a block of 64 pixels takes at least a bit."""


def find_scale(image: ImageFile.ImageFile, edge_px: int | None) -> int:
    """By what a picture's sides are divided as it is decoded; 1 for all but large JPEGs.

    Args:
        image: Opened, its pixels not yet decoded.
        edge_px: The longest edge at which it will be used, of which twice is left; None: unknown.
    """
    if edge_px is None or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    width, height = image.size
    fitting = (
        scale
        for scale in _SCALES
        if -(-max(width, height) // scale) >= 2 * edge_px and min(width, height) >= scale
    )
    return next(fitting, 1)


def set_scale(image: ImageFile.ImageFile, edge_px: int | None) -> None:
    """Has a picture decoded at the scale that `find_scale` gives."""
    scale = find_scale(image, edge_px)
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))


def check_pixels(
    image: ImageFile.ImageFile, name: str, max_pixels: int, edge_px: int | None
) -> None:
    """Refuses a picture of which too much would be decoded.

    Args:
        image: Opened, its pixels not yet decoded.
        name: The file's, for what is said.
        max_pixels: The most that may be decoded.
        edge_px: See `find_scale`.

    Raises:
        PictureError: It has too many pixels.
    """
    scale = find_scale(image, edge_px)
    size = -(-image.width // scale), -(-image.height // scale)
    _refuse_beyond(max_pixels, size, f" at 1/{scale} of its size" if scale > 1 else "", name)
    if image.width * image.height <= max_pixels:
        return
    size_of_file = _count_bytes(image)
    most = _PIXELS_A_BYTE * size_of_file
    _refuse_beyond(most, image.size, f" in a file of {size_of_file} bytes", name)
    if not _is_read_once(image):
        most = max_pixels * _COEFFICIENT_PIXELS // len(image.getbands())
        where = " as a progressive or multi-picture JPEG, which may be in memory as a whole"
        _refuse_beyond(most, image.size, where, name)


def _refuse_beyond(most: int, size: tuple[int, int], where: str, name: str) -> None:
    width, height = size
    if width * height > most:
        raise PictureError(
            f"picture {name!r} must have at most {say_count(most, 'pixel')}{where}, got "
            f"{width} x {height} (width x height)",
            "Scale it down first, as it would be here anyway, or raise max_input_pixels.",
        )


def _count_bytes(image: ImageFile.ImageFile) -> int:
    assert image.fp is not None
    place = image.fp.tell()
    size = image.fp.seek(0, io.SEEK_END)
    image.fp.seek(place)
    return size


def _is_read_once(image: ImageFile.ImageFile) -> bool:
    """Whether all channels of a JPEG lie in one scan, so that what was decoded is forgotten.

    Of others libjpeg keeps the coefficients of the whole picture, at whatever scale.
    """
    if "progressive" in image.info or image.format != "JPEG" or image.fp is None:
        return False
    behind_head_of_scan = image.fp.tell()
    length = 8 + 2 * len(image.getbands())  # of a head that names all channels, with its mark
    image.fp.seek(max(0, behind_head_of_scan - length))
    mark = image.fp.read(2)
    image.fp.seek(behind_head_of_scan)
    return mark == b"\xff\xda"
