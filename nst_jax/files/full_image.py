"""The full image of a file whose first image is a preview of it, as in raw photographs.

What a camera writes as a raw photograph (DNG, NEF, CR2, ARW and more) is a TIFF whose first page
is a small preview; what it is a preview of is the sensor's data, which is not decoded here.
"""

from PIL import ImageFile, PsdImagePlugin, TiffImagePlugin

from nst_jax.request.errors import PictureError

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _DNG_VERSION = 254, 255, 50706
_REDUCED_OR_MASK = 0b101  # of the new subfile type
_REDUCED = 2  # the older subfile type
_WIDTH, _HEIGHT, _SUB_IMAGES = 256, 257, 330
_MOST_PAGES = 16  # that are looked at; a hostile file has millions
_REAL_MERGED_DATA = 1057  # of Photoshop's image resources


def seek_full_image(image: ImageFile.ImageFile, name: str) -> None:
    """Goes to the first page of a file that is no preview of another image.

    Args:
        image: Opened, its pixels not yet decoded.
        name: The file's, for what is said.

    Raises:
        PictureError: The full image is not among what is decoded here.
    """
    if isinstance(image, PsdImagePlugin.PsdImageFile) and _has_layers_alone(image):
        raise PictureError(
            f"picture {name!r} must hold the picture of all its layers together, got layers alone",
            "Save it with maximised compatibility, or export it as PNG.",
        )
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    width, height = image.size
    if not _is_raw_photograph(image) and _seek_full_page(image):
        return
    raise PictureError(
        f"picture {name!r} must hold its full image in a form that is decoded here, got a "
        f"preview of {width} x {height} alone: it seems to be a raw photograph",
        "Develop it and export it as TIFF, PNG or JPEG.",
    )


def _seek_full_page(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether there is a page that is no preview; the image is at it."""
    for page in range(_MOST_PAGES):
        if page > 0:
            try:
                image.seek(page)
            except Exception:  # there is none, or it is in no form that is decoded
                return False
        old = image.tag_v2.get(_SUBFILE_TYPE) == _REDUCED
        if not old and not image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK:
            return True
    return False


def _is_raw_photograph(image: TiffImagePlugin.TiffImageFile) -> bool:
    file, tags = image.fp, image.tag_v2
    assert file is not None
    file.seek(8)
    if file.read(3) == b"CR\x02" or _DNG_VERSION in tags:  # Canon's mark, Adobe's
        return True
    return any(
        _pixels_at(image, place) > image.width * image.height for place in tags.get(_SUB_IMAGES, ())
    )


def _pixels_at(image: TiffImagePlugin.TiffImageFile, place: int) -> int:
    """Pixels of the image whose directory lies at a place of the file; 0: there is none."""
    file, tags = image.fp, TiffImagePlugin.ImageFileDirectory_v2(prefix=image.tag_v2.prefix)
    assert file is not None
    try:
        file.seek(place)
        tags.load(file)
        return int(tags.get(_WIDTH, 0)) * int(tags.get(_HEIGHT, 0))
    except Exception:  # damaged, and nobody looks at it
        return 0


def _has_layers_alone(image: PsdImagePlugin.PsdImageFile) -> bool:
    told = (content for number, _, content in image.resources if number == _REAL_MERGED_DATA)
    return any(content[4:5] == b"\0" for content in told)
