"""Colour profiles: what an embedded ICC profile means, and the sRGB profile of our outputs.

Everything here works on 8-bit Pillow images; the rest of the package sees only sRGB.
A profile that is broken, or that does not fit the picture (CMYK on a grey picture, say),
is ignored: a picture with slightly wrong colours is worth more than no picture. PNG's
older colour hints (gAMA, cHRM) and cICP are not looked at.
"""

import functools
import io
from types import MappingProxyType

from PIL import Image, ImageCms

_MODE_OF_COLOUR_SPACE = MappingProxyType({b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"})
_COLOUR_SPACE_IN_HEADER = slice(16, 20)
_DATE_IN_HEADER = slice(24, 36)
_FIXED_DATE = b"".join(part.to_bytes(2, "big") for part in (2000, 1, 1, 0, 0, 0))


@functools.cache
def srgb_profile() -> bytes:
    """The ICC profile that says "these numbers are sRGB", the same bytes at any time.

    A profile's header holds the moment of its making. That moment is overwritten here:
    it would otherwise be the one difference between two renders of the same job.
    """
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_DATE_IN_HEADER] = _FIXED_DATE
    return bytes(profile)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The same colours as 8-bit sRGB, mode "RGB".

    Args:
        image: Mode "L", "RGB", "CMYK" or "LAB", without transparency.
        profile: The ICC profile embedded in the picture's file, if it has one. Colours
            outside sRGB's gamut are fitted by the profile's perceptual intent.
    """
    if profile is None or profile == srgb_profile():
        return image.convert("RGB")
    return _convert_by_profile(image, profile) or image.convert("RGB")


def _convert_by_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """None where the profile is of no use for this picture."""
    mode = _MODE_OF_COLOUR_SPACE.get(profile[_COLOUR_SPACE_IN_HEADER])
    # Grey pictures with an RGB profile are common, and R = G = B is what they mean.
    if mode is None or (mode != image.mode and (mode, image.mode) != ("RGB", "L")):
        return None
    try:
        return ImageCms.profileToProfile(
            image.convert(mode),
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile())),
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
