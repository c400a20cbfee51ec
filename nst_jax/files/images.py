"""Pictures from files and arrays: decoded, turned upright, in sRGB.

Contract: colours are float32 in [0, 1], gamma-encoded sRGB, laid out (height, width, 3);
transparency is apart from them, straight (not premultiplied), (height, width). The formats of
`open_picture.FORMATS` are taken: of an animation the first frame, grey as three equal channels, an
embedded ICC profile applied. Whatever can't be used is a `PictureError`, never a bare error or
a warning of Pillow's.

What this module will not do: choose a size, write a file (`nst_jax.files.encode` does), or
keep more than 8 bits of a 16-bit *colour* picture, because Pillow reads only the upper
byte of those. 16-bit grey and floating-point grey keep their full depth.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile

from nst_jax.files.icc_profiles import to_srgb
from nst_jax.files.jpeg_scale import set_scale
from nst_jax.files.open_picture import File, open_picture
from nst_jax.files.sample_formats import (
    SampleFormat,
    check_16_bit_colours,
    doubt_depth,
    read_low_bytes,
    read_sample_format,
    scale_colours,
    to_grey_levels,
    widen_palette,
)
from nst_jax.request.errors import PictureError
from nst_jax.request.options import DEFAULT_MAX_INPUT_PIXELS

Pixels = npt.NDArray[np.float32]
"""Colours, (height, width, 3), or one value for each pixel, (height, width); in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture, upright and in sRGB.

    Attributes:
        pixels: (height, width, 3) float32 in [0, 1].
        alpha: (height, width) float32, 0 transparent and 1 opaque; None where every pixel
            is opaque.
        doubt: What may be wrong with its numbers, in words; empty: nothing.
    """

    pixels: Pixels
    alpha: Pixels | None
    doubt: str = ""


@dataclass(frozen=True)
class PictureHeader:
    """What a file's header promises.

    Attributes:
        size: (height, width) of the upright picture in pixels.
        is_animated: Whether the file holds further frames or pages, which are not looked at.
    """

    size: tuple[int, int]
    is_animated: bool = False


def read_picture_header(path: File, *, max_pixels: int = DEFAULT_MAX_INPUT_PIXELS) -> PictureHeader:
    """What is known of a picture without decoding it.

    Args:
        path: The file.
        max_pixels: The most that may be decoded; of a JPEG, at the smallest scale that there is.

    Raises:
        PictureError: The file is missing, no picture, or has too many pixels. Damage behind
            the header goes unnoticed.
    """
    with open_picture(path, max_pixels=max_pixels, edge_px=1) as image:
        width, height = image.size
        sideways = _upright_transpose(image) in _SIDEWAYS
        return PictureHeader((width, height) if sideways else (height, width), _is_animated(image))


def read_picture_size(path: File, *, max_pixels: int = DEFAULT_MAX_INPUT_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright picture; see `read_picture_header`."""
    return read_picture_header(path, max_pixels=max_pixels).size


def load_picture(
    path: File, *, max_pixels: int = DEFAULT_MAX_INPUT_PIXELS, edge_px: int | None = None
) -> Picture:
    """The picture in a file, in the form that the module's docstring promises.

    EXIF orientation is applied as the header gives it: a PNG that carries its EXIF behind
    the pixels, against the PNG standard, stays as it lies. Integer grey (16 bit, or 32 bit
    in that range) is divided by 65535, or by the white that the file declares; floating-point
    grey is clipped to [0, 1].

    Args:
        path: The file.
        max_pixels: The most that may be decoded.
        edge_px: The longest edge at which it will be used: a JPEG is decoded at the smallest
            of libjpeg's scales that leaves twice that. None: at its own size, like all others.

    Raises:
        PictureError: The file is missing, special, empty, no picture, damaged, too large to
            decode safely, or holds numbers that mean no colour.
    """
    with open_picture(path, max_pixels=max_pixels, edge_px=edge_px) as image:
        set_scale(image, edge_px)
        return decode_image(image, str(path))


def decode_image(image: Image.Image, name: str) -> Picture:
    """The picture in an image of Pillow's, decoded where it was not yet.

    Args:
        image: Of any mode.
        name: Its file's, for what is said.

    Raises:
        PictureError: It is not what its header says, or holds numbers that mean no colour.
        Exception: Whatever Pillow raises for a damaged file.
    """
    declared = read_sample_format(image)
    turn, promised, low = _upright_transpose(image), image.size, None
    if isinstance(image, ImageFile.ImageFile):
        _scale_transparency_key(image)
        widen_palette(image)
        low = read_low_bytes(image, declared)
    image.load()
    if image.size != promised:
        raise PictureError(
            f"picture {name!r} must have the size that its header says, {promised!r}, "
            f"got {image.size!r}",
            "Export it again.",
        )
    if low is not None:
        image = scale_colours(image, low, declared)
    upright = image if turn is None else image.transpose(turn)
    if upright.mode == "F" or upright.mode.startswith("I") or declared.is_signed_byte:
        return _from_deep_grey(upright, declared, name)
    doubt = check_16_bit_colours(upright, declared, name)
    return _from_8_bit(upright, doubt)


def from_array(array: np.ndarray) -> Picture:
    """A picture from numbers in memory, copied.

    Args:
        array: uint8, uint16, bool, or float in [0, 1], bfloat16 too; shape (h, w) or (h, w, 1) for
            grey, (h, w, 3) for colour, (h, w, 4) for colour and straight alpha. Taken as sRGB.

    Raises:
        PictureError: The shape or type is another one, or a float is not in [0, 1].
    """
    _check_shape(array.shape)
    values = _to_unit_range(array)
    if values.ndim == 2:
        values = values[..., np.newaxis]
    is_whole = array.dtype.kind == "u"
    doubt = doubt_depth(int(np.atleast_3d(array)[..., :3].max())) if is_whole else ""
    if values.shape[-1] == 1:
        return Picture(np.repeat(values, 3, axis=-1), None, doubt)
    alpha = values[..., 3] if values.shape[-1] == 4 else None
    return Picture(np.ascontiguousarray(values[..., :3]), _none_if_opaque(alpha), doubt)


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The same picture at another size, in [0, 1]; the array itself where the size is its own.

    Lanczos with three lobes, stretched over the source when it shrinks, so that fine detail
    becomes grey and not moiré. It works in float32 on gamma-encoded values. The overshoot
    that Lanczos leaves beside a hard edge is clipped.

    Args:
        pixels: (h, w) or (h, w, c).
        size: (height, width) of the result.

    Raises:
        PictureError: An edge of `size` is shorter than 1.
    """
    if pixels.shape[:2] == size:
        return pixels
    if min(size) < 1:
        raise PictureError(f"a picture must be at least 1 px high and wide, got {size!r}")
    if pixels.ndim == 2:
        return np.clip(_lanczos(pixels, size), 0.0, 1.0)
    channels = [_lanczos(pixels[..., index], size) for index in range(pixels.shape[2])]
    return np.clip(np.stack(channels, axis=-1), 0.0, 1.0)


def composite(picture: Picture, background: Literal["white", "black"]) -> Pixels:
    """The picture laid on a plain background, (h, w, 3); its own pixels where it is opaque.

    Mixed on gamma-encoded values, as browsers and image editors do.
    """
    if picture.alpha is None:
        return picture.pixels
    alpha = picture.alpha[..., np.newaxis]
    paper = np.float32(1.0 if background == "white" else 0.0)
    mixed = picture.pixels * alpha
    mixed += paper * (1 - alpha)
    return mixed


def to_8_bit(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Values in [0, 1] as whole numbers from 0 to 255, the nearest ones."""
    return np.rint(pixels * 255).astype(np.uint8)


def load_thumbnail(path: File, edge_px: int) -> Image.Image:
    """A small copy of a picture, what is transparent white; a small picture stays as it is.

    Args:
        path: The file.
        edge_px: The most that its longer edge may have.

    Raises:
        PictureError: See `load_picture`.
    """
    opened = load_picture(path, edge_px=edge_px)
    copy = Image.fromarray(to_8_bit(composite(opened, "white")))
    copy.thumbnail((edge_px, edge_px), Image.Resampling.LANCZOS)
    return copy


# ---- Orientation and transparency, as the header gives them.

_UPRIGHT_TRANSPOSES = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
_SIDEWAYS = frozenset(_UPRIGHT_TRANSPOSES[orientation] for orientation in (5, 6, 7, 8))


def _upright_transpose(image: Image.Image) -> Image.Transpose | None:
    """What makes the picture upright; None where it is or where its EXIF is unreadable."""
    if image.format == "TIFF":
        return None  # Pillow turns TIFF by itself, the size in the header included.
    try:
        # The base class' method, because PNG's own decodes the whole picture first.
        exif = Image.Image.getexif(image)
    except Exception:
        return None
    return _UPRIGHT_TRANSPOSES.get(exif.get(ExifTags.Base.Orientation, 1))


def _is_animated(image: ImageFile.ImageFile) -> bool:
    if image.format in ("MPO", "HEIF", "PSD") or image.tell() > 0:
        # A photograph's preview or depth map, the layers of what is shown, the page after previews.
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a further frame is damaged: nobody looks at it
        return False


_STEPS_OF_RAW_MODE = MappingProxyType({"L;2": 85, "L;4": 17})


def _scale_transparency_key(image: ImageFile.ImageFile) -> None:
    """Brings PNG's "this colour is transparent" to the depth of Pillow's pixels.

    Pillow widens 2- and 4-bit grey and narrows 16-bit colour to 8 bits, but hands the key
    on as the file has it, so that it would match no pixel or a wrong one.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or key is None or not image.tile:
        return
    raw_mode = str(image.tile[0].args)
    if raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif raw_mode in _STEPS_OF_RAW_MODE:
        image.info["transparency"] = key * _STEPS_OF_RAW_MODE[raw_mode]


# ---- From Pillow's modes to float32 sRGB.

_COLOUR_MODE = MappingProxyType(
    {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK", "LAB": "LAB"}
)
"""The 8-bit mode in which a picture's profile is applied; "RGB" for all others."""


def _from_8_bit(image: Image.Image, doubt: str) -> Picture:
    colour_mode = _COLOUR_MODE.get(image.mode, "RGB")
    profile = _profile(image)
    if image.mode == "La":
        image = image.convert("LA")  # Pillow knows no other way out of premultiplied grey.
    if not image.has_transparency_data:
        return Picture(_to_unit_range(to_srgb(image.convert(colour_mode), profile)), None, doubt)
    image = image.convert("RGBA")
    alpha = _to_unit_range(image.getchannel("A"))
    colours = image.convert("RGB").convert(colour_mode)
    return Picture(_to_unit_range(to_srgb(colours, profile)), _none_if_opaque(alpha), doubt)


def _from_deep_grey(image: Image.Image, declared: SampleFormat, name: str) -> Picture:
    raw = np.asarray(image)
    if declared.is_signed_byte:
        raw = raw.view(np.int8)
    values, doubt = to_grey_levels(raw, declared, name)
    key = image.info.get("transparency")
    alpha = None if key is None else (raw != key).astype(np.float32)
    return Picture(_apply_profile_to_grey(values, _profile(image)), _none_if_opaque(alpha), doubt)


def _profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else None


def _apply_profile_to_grey(grey: Pixels, profile: bytes | None) -> Pixels:
    """Deep grey in [0, 1] as three channels, its profile applied.

    The colour engine takes 8 bits only. So it is asked for the 256 greys of a ramp, and
    what lies between two of them is interpolated.
    """
    if profile is None:
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)
    ramp = np.arange(256, dtype=np.uint8)[np.newaxis]
    tones = _to_unit_range(to_srgb(Image.fromarray(ramp), profile))[0]
    channels = [np.interp(grey, ramp[0] / 255, tones[:, index]) for index in range(3)]
    return np.stack(channels, axis=-1, dtype=np.float32)


def _none_if_opaque(alpha: Pixels | None) -> Pixels | None:
    return None if alpha is None or (alpha == 1.0).all() else alpha


def _lanczos(channel: Pixels, size: tuple[int, int]) -> Pixels:
    height, width = size
    image = Image.fromarray(np.ascontiguousarray(channel))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


# ---- Arrays.


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise PictureError(
            "a picture array must have the shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), "
            f"got {shape!r}",
            "Height comes first and channels come last.",
        )
    if 0 in shape:
        raise PictureError(f"a picture array must have at least one pixel, got {shape!r}")


def _to_unit_range(source: np.ndarray | Image.Image) -> Pixels:
    """uint8 and uint16 divided by their largest value; floats checked; always a new array.

    Floats are NumPy's and those of other packages, such as bfloat16, which NumPy calls void.
    """
    values = np.asarray(source)
    name = values.dtype.name
    if name == "bool" or (values.dtype.type.__module__ != "numpy" and "float" in name):
        return _to_unit_range(values.astype(np.float32))
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        white = np.float32(np.iinfo(values.dtype).max)
        return np.divide(values, white, dtype=np.float32)  # at once: pictures may be large
    if values.dtype.kind != "f":
        raise PictureError(
            f"a picture array must be uint8, uint16, bool or float, got {values.dtype}",
            "Convert it, and say by the type what white is.",
        )
    # NaN fails every comparison, so it fails this one too.
    if not ((values >= 0) & (values <= 1)).all():
        raise PictureError(
            "a float picture array must lie in [0, 1] and be finite, "
            f"got {values.min()} to {values.max()}",
            "Divide by the value of white, or clip it.",
        )
    return values.astype(np.float32)
