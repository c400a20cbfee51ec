"""Pictures in memory: arrays, and images of Pillow's, which are read as their files would be."""

import hashlib
import threading
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from nst_jax.files.exif import NO_EXIF, ExifTexts, find_exif_to_keep
from nst_jax.files.images import Picture, decode_image, from_array, to_8_bit
from nst_jax.files.open_picture import explain_faults
from nst_jax.request.errors import PictureError

_DECODING = threading.Lock()
"""An image that Pillow has only opened is decoded where it lies, and jobs may share it."""


def load_from_memory(source: Any) -> Picture:
    """The picture that an array or an image of Pillow's means, copied.

    Args:
        source: An image of any mode, with its orientation, profile and transparency; or what NumPy
            takes for an array, see `images.from_array`.

    Raises:
        PictureError: It can't be decoded, or means no picture.
    """
    if not isinstance(source, Image.Image):
        return from_array(_as_array(source))
    if 0 in source.size:
        width, height = source.size
        raise PictureError(
            f"an image must have at least one pixel, got {width} x {height} (width x height)"
        )
    with _DECODING, explain_faults("image"):
        if _is_closed(source):
            raise PictureError(
                "an image must be open, or loaded before it is closed, got a closed one",
                "Use it inside of the with block that opens it, or call its load() there.",
            )
        return decode_image(source, "image")


def identify(source: Any) -> tuple[str, tuple[int, int]]:
    """What tells a picture in memory from others, and its (height, width).

    The first is a sha256 of an array's shape, type and values. An image of Pillow's counts as the
    array of the colours that it means.

    Raises:
        PictureError: As `load_from_memory`.
    """
    picture = load_from_memory(source)
    if isinstance(source, Image.Image):
        is_deep = source.mode == "F" or source.mode.startswith("I")
        whole = _join(picture) if is_deep else to_8_bit(_join(picture))
    else:
        whole = np.ascontiguousarray(_as_array(source))
    head = f"{whole.dtype.str}{whole.shape}".encode()
    height, width = picture.pixels.shape[:2]
    return hashlib.sha256(head + whole.tobytes()).hexdigest(), (height, width)


def read_memory_exif(source: Any) -> ExifTexts:
    """What an output takes over of a picture in memory: of an image, as `exif` has it of a file."""
    if not isinstance(source, Image.Image):
        return NO_EXIF
    try:
        with _DECODING, explain_faults("image"):
            return find_exif_to_keep(source)
    except PictureError:
        return NO_EXIF


def _is_closed(image: Image.Image) -> bool:
    """Whether its pixels were given away, or its file was before they were decoded."""
    if isinstance(image, ImageFile.ImageFile) and image.tile:
        return image.fp is None or image.fp.closed
    try:
        return image.im is None
    except (AssertionError, ValueError) as error:  # not decoded yet, closed
        return isinstance(error, ValueError)


def _join(picture: Picture) -> np.ndarray:
    return np.dstack(
        (picture.pixels,) if picture.alpha is None else (picture.pixels, picture.alpha)
    )


def _as_array(source: Any) -> np.ndarray:
    try:
        return np.asarray(source)
    except Exception as error:  # of whoever made it; PyTorch has two kinds, JAX another
        raise PictureError(
            f"a picture array must be one that NumPy can read, got {type(source).__name__}: "
            f"{' '.join(str(error).split())}",
            "Convert it first.",
        ) from error
