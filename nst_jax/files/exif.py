"""EXIF: what a picture takes over of the photograph that it was made from, and how it is packed.

Taken over are date, author, copyright and camera. Never are the orientation, which was applied,
the thumbnail, which shows the photograph, and the position; nor numbers of cameras and lenses.
"""

import sys
from collections.abc import Mapping
from types import MappingProxyType

from PIL import ExifTags, Image

from nst_jax.files.open_picture import File, open_picture
from nst_jax.request.errors import PictureError

ExifTexts = Mapping[int, str]
"""Texts by the numbers of their tags; Latin-1 stands for whatever bytes a program has put there."""

NO_EXIF: ExifTexts = MappingProxyType({})

_IN_MAIN_DIRECTORY = frozenset(
    (
        *(ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.DateTime),
        *(ExifTags.Base.Artist, ExifTags.Base.Copyright),
    )
)
_IN_EXIF_DIRECTORY = frozenset(
    (
        *(ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized),
        *(ExifTags.Base.OffsetTime, ExifTags.Base.OffsetTimeOriginal),
        ExifTags.Base.OffsetTimeDigitized,
    )
)

_LONGEST_TEXT = 2000
"""A longer one is left out: a JPEG has room for 64 KB in all."""


def read_exif_to_keep(path: File) -> dict[int, str]:
    """What a picture made of this one takes over; nothing where there is none, or it is broken."""
    try:
        with open_picture(path, max_pixels=sys.maxsize) as image:  # of which no pixel is decoded
            return find_exif_to_keep(image)
    except PictureError:
        return {}


def find_exif_to_keep(image: Image.Image) -> dict[int, str]:
    """The same of a picture that Pillow has opened.

    Raises:
        Exception: Whatever Pillow raises for a broken block.
    """
    # The base class' method, because PNG's own decodes the whole picture first.
    exif = Image.Image.getexif(image)
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    found = [(tag, exif.get(tag)) for tag in sorted(_IN_MAIN_DIRECTORY)]
    found += [(tag, inner.get(tag)) for tag in sorted(_IN_EXIF_DIRECTORY)]
    texts = {tag: value.rstrip("\0 ") for tag, value in found if isinstance(value, str)}
    return {tag: text for tag, text in texts.items() if 0 < len(text) <= _LONGEST_TEXT}


def split_by_directory(texts: ExifTexts) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """The texts as they are in a file: those of the main directory, and those of EXIF's own."""
    packed = {int(tag): text.encode("latin-1", "replace") for tag, text in texts.items()}
    inner = {tag: packed[tag] for tag in sorted(packed.keys() & _IN_EXIF_DIRECTORY)}
    return {tag: text for tag, text in packed.items() if tag not in inner}, inner


def pack_exif(texts: ExifTexts) -> bytes:
    """A block for JPEG, WebP and PNG; empty where there is nothing to say."""
    if not texts:
        return b""
    main, inner = split_by_directory(texts)
    exif = Image.Exif()
    for tag, text in main.items():
        exif[tag] = text
    if inner:
        # As text, since Pillow knows only what kind of value a tag of the main directory has.
        exif.get_ifd(ExifTags.IFD.Exif).update(
            {tag: text.decode("latin-1") for tag, text in inner.items()}
        )
    return exif.tobytes()
