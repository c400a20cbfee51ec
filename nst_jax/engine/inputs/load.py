"""Jobs loaded for the device: pictures decoded, checked and scaled."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from nst_jax.engine.inputs.masks import MaskWeights, check_any_white, mask_weights
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.inputs.placed_image import PlacedImage, place_on_canvas, turn
from nst_jax.engine.plan.canvas import Size, fit_long_edge, size_text, square_canvas
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import Level
from nst_jax.files import images
from nst_jax.files.exif import ExifTexts, read_exif_to_keep
from nst_jax.files.memory_pictures import load_from_memory, read_memory_exif
from nst_jax.files.retry import retry
from nst_jax.files.storage import as_file
from nst_jax.model.color import RECOLOR_STYLE, is_grey
from nst_jax.request.errors import JobError, PictureError
from nst_jax.request.job import Job, PictureSource, picture_name
from nst_jax.request.options import JobOptions, Options
from nst_jax.request.taps import smallest_side

DECODERS = 2
"""Threads that examine and decode pictures."""

_BACK_OFF_S = 0.5
"""Before a picture is read again that could not be read; twice as long each time."""

_DARKEST = 1 / 16
"""Of a picture's brightest pixel. Below it a picture may hold 0 and 1, or numbers of classes."""

_LARGEST_THIN_STYLE_PX = 512
"""Up to which a long style is seen larger than its job asks, so that it reaches the deepest tap."""

Outcome = TypeVar("Outcome")


class StyleKey(NamedTuple):
    """What the pixels of a loaded style follow from.

    Attributes:
        sha256: Of the picture's bytes.
        edge: Its long edge in pixels.
        colors_of: What gave it its colours: the option `color`, the content's key and its long
            edge in pixels; None: its own colours.
        mask: The sha256 of its mask; empty where it has none.
    """

    sha256: str
    edge: int
    colors_of: tuple[str, Hashable, int] | None = None
    mask: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedPicture:
    """A picture at the largest size at which it is needed, and at those of its job's levels.

    Attributes:
        key: What tells this picture from any other of the run.
        pixels: (h, w, 3) float32 sRGB in [0, 1], transparency laid on a background.
        alpha: (h, w), or None where the picture is opaque or it is not to be kept.
        mask: Of a style: how much each part of it counts; (h, w) of any size, in [0, 1].
        is_grey: Whether it has no colours, in its file or before the job gave it others.
        placed: On the canvas of each level, by its own size there.
        is_transposed: Whether it lies there with rows and columns swapped; see `Level`.
    """

    key: Hashable
    pixels: npt.NDArray[np.float32]
    alpha: npt.NDArray[np.float32] | None = None
    mask: MaskWeights | None = None
    is_grey: bool = False
    placed: Mapping[Size, PlacedImage] = dataclasses.field(default_factory=dict)
    is_transposed: bool = False

    @property
    def size(self) -> Size:
        height, width = self.pixels.shape[:2]
        return height, width

    @property
    def nbytes(self) -> int:
        """Of all its arrays; `pixels` may be a view of another one."""
        known = (self.alpha, self.mask, *(one.image for one in self.placed.values()))
        return self.pixels.nbytes + sum(one.nbytes for one in known if one is not None)

    def place(self, size: Size, canvas: Size) -> PlacedImage:
        """The picture at a size, on a canvas; at hand for those of the job's levels."""
        found = self.placed.get(size)
        if found is None or found.image.shape[:2] != canvas:
            return place_on_canvas(images.resize(self.pixels, size), canvas, self.is_transposed)
        return found

    def pixels_at(self, size: Size) -> images.Pixels:
        """The picture at a size, as it is; at hand for those of the job's levels."""
        found = self.placed.get(size)
        if found is None:
            return images.resize(self.pixels, size)
        return turn(found.pixels, self.is_transposed)


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedJob:
    """A job ready for the device.

    Attributes:
        examined: The job, its options with canonical taps, and its levels.
        content: At the size of the last level.
        styles: At the size of the last level's style edge.
        masks: Where each style applies; none: everywhere.
        init_image: What the optimisation starts from, where it is a picture of its own.
        exif: What the output takes over of the content's.
        first_image: Where it starts, at the first level's size; None: not made yet.
    """

    examined: ExaminedJob
    content: LoadedPicture
    styles: tuple[LoadedPicture, ...]
    masks: tuple[MaskWeights, ...] = ()
    init_image: npt.NDArray[np.float32] | None = None
    exif: ExifTexts = dataclasses.field(default_factory=dict)
    first_image: images.Pixels | None = None

    def content_at(self, size: Size) -> images.Pixels:
        """The content's pixels at a size; at hand for each of the levels."""
        return self.content.pixels_at(size)

    @property
    def index(self) -> int:
        return self.examined.index

    @property
    def name(self) -> str:
        """Its output's name."""
        return self.examined.job.output

    @property
    def options(self) -> JobOptions:
        return self.examined.options

    @property
    def levels(self) -> tuple[Level, ...]:
        return self.examined.levels

    @property
    def is_transposed(self) -> bool:
        """Whether its image lies on canvases with rows and columns swapped; see `Level`."""
        return self.levels[-1].is_transposed

    @property
    def is_grey(self) -> bool:
        """Whether it shall have no colours, because neither content nor any style has."""
        return self.content.is_grey and all(style.is_grey for style in self.styles)


def read_with_retries(read: Callable[[], Outcome], retries: int) -> Outcome:
    """What `read` returns, after more tries where the machine is at fault and not the picture.

    Raises:
        JobError: The last try failed, or one by the picture's own fault.
    """
    return retry(
        read,
        tries=retries + 1,
        back_off_s=_BACK_OFF_S,
        is_transient=lambda error: isinstance(error, JobError) and error.is_transient,
    )


def load_job(examined: ExaminedJob, options: Options, pictures: PictureIndex) -> LoadedJob:
    """Opens and scales a job's pictures.

    Args:
        examined: The job; its pictures fit each other.
        options: The run's.
        pictures: What has looked at the job's pictures.

    Raises:
        PictureError: A picture is missing or can't be decoded, or masks are black.
    """
    job, last = examined.job, examined.levels[-1]
    content = _load_content(job.content, examined, pictures)
    start = job.init_image
    masks = tuple(_load_mask(mask, max(last.size), pictures) for mask in job.masks)
    check_any_white(masks, f"masks of job {job.output!r}")
    return LoadedJob(
        examined=examined,
        content=content,
        styles=tuple(
            _load_style(source, mask, content, examined, pictures)
            for source, mask in itertools.zip_longest(job.styles, job.style_masks)
        ),
        masks=masks,
        init_image=None if start is None else _load_on_white(start, last.size, pictures),
        exif=_load_exif(job.content, options),
    )


def fit_styles(
    job: Job, own: JobOptions, levels: tuple[Level, ...], pictures: PictureIndex
) -> tuple[Level, ...]:
    """A job's levels, its styles seen larger where a long one would not reach the deepest tap.

    A style is not enlarged for that beyond the last level's edge or its own pixels.

    Raises:
        PictureError: A style can't be read, or is too small even so.
    """
    smallest, largest = smallest_side(own.style_taps), levels[-1].style_edge
    for style in job.styles:
        size = pictures.size(style)
        needed = -(-smallest * max(size) // min(size))
        thin = [one for one in levels if min(fit_long_edge(size, one.style_edge)) < smallest]
        if thin and needed > max(largest, min(max(size), _LARGEST_THIN_STYLE_PX)):
            height, width = fit_long_edge(size, largest)
            raise PictureError(
                f"style {picture_name(style)!r} must be at least {smallest} px on both sides to "
                f"reach the deepest tap, got {width}x{height} (width x height) at the last level",
                "Raise style_scale or style_size, or crop the picture",
            )
        levels = tuple(
            dataclasses.replace(one, style_edge=max(one.style_edge, needed)) if one in thin else one
            for one in levels
        )
    return levels


def check_shapes(job: Job, pictures: PictureIndex) -> None:
    """Compares the sizes of masks and of a start with the pictures that they go with.

    Raises:
        PictureError: One can't be read, or has another shape.
    """
    for mask in job.masks:
        _check_shape(mask, "mask", job.content, "content", pictures)
    for mask, style in zip(job.style_masks, job.styles, strict=False):
        _check_shape(mask, "mask", style, "style", pictures)
    if job.init_image is not None:
        _check_shape(job.init_image, "init_image", job.content, "content", pictures)


def _check_shape(
    source: PictureSource, what: str, other: PictureSource, whose: str, pictures: PictureIndex
) -> None:
    """Refuses a picture of another aspect ratio, by more than a pixel of the smaller one."""
    own, wanted = pictures.lookup(source).size, pictures.lookup(other).size
    edge = min(max(own), max(wanted))
    (height, width), (other_height, other_width) = (
        fit_long_edge(own, edge),
        fit_long_edge(wanted, edge),
    )
    if max(abs(height - other_height), abs(width - other_width)) > 1:
        raise PictureError(
            f"{what} {picture_name(source)!r} must have the aspect ratio of the {whose} "
            f"{picture_name(other)!r}, which is {size_text(wanted)}, got {size_text(own)} "
            "(width x height)",
            "Any scale of it will do",
        )


def _open(
    source: PictureSource, edge_px: int, pictures: PictureIndex, darkest: float = _DARKEST
) -> images.Picture:
    """A picture that will be used at a long edge of so many pixels, or smaller.

    What may be wrong with its numbers is noted; of a mask 0 is `darkest`, as it is refused.
    """
    if isinstance(source, (str, os.PathLike)):
        most = pictures.max_pixels
        picture = images.load_picture(as_file(source), max_pixels=most, edge_px=edge_px)
    else:
        picture = load_from_memory(source)
    doubt, brightest = picture.doubt, float(picture.pixels.max())
    if picture.alpha is None and 0 < brightest < darkest:
        doubt = f"it is nearly black, its brightest value is {255 * brightest:.3g} of 255"
    if doubt:
        pictures.add_note(f"picture {picture_name(source)!r}: {doubt}")
    return picture


def _load_exif(source: PictureSource, options: Options) -> ExifTexts:
    if options.metadata != "options-and-exif":
        return {}
    if isinstance(source, (str, os.PathLike)):
        return read_exif_to_keep(as_file(source))
    return read_memory_exif(source)


def _load_on_white(source: PictureSource, size: Size, pictures: PictureIndex) -> images.Pixels:
    return images.resize(images.composite(_open(source, max(size), pictures), "white"), size)


def _load_mask(source: PictureSource, edge_px: int, pictures: PictureIndex) -> MaskWeights:
    return mask_weights(_open(source, edge_px, pictures, 0.0), picture_name(source))


def _load_style_mask(source: PictureSource, edge_px: int, pictures: PictureIndex) -> MaskWeights:
    weights = _load_mask(source, edge_px, pictures)
    check_any_white([weights], f"style mask {picture_name(source)!r}")
    return weights


def _load_content(
    source: PictureSource, examined: ExaminedJob, pictures: PictureIndex
) -> LoadedPicture:
    """A content, or the one that another job has loaded with the same background and levels."""
    own, size = examined.options, examined.levels[-1].size
    background = "black" if own.alpha == "black" else "white"
    key = pictures.sha256(source), background
    canvases = tuple((level.size, level.canvas) for level in examined.levels)

    def load() -> LoadedPicture:
        picture = _open(source, max(size), pictures)
        alpha = picture.alpha if own.alpha == "keep" else None
        pixels = images.composite(picture, background)
        return _place_levels(
            LoadedPicture(
                key=key,
                pixels=images.resize(pixels, size),
                alpha=None if alpha is None else images.resize(alpha, size),
                is_grey=is_grey(pixels),
                is_transposed=examined.levels[-1].is_transposed,
            ),
            canvases,
        )

    return pictures.loaded.get((key, own.alpha, canvases), load)


def _load_style(
    source: PictureSource,
    mask: PictureSource | None,
    content: LoadedPicture,
    examined: ExaminedJob,
    pictures: PictureIndex,
) -> LoadedPicture:
    """A style, in the content's colours where the job asks for that; likewise."""
    edges = tuple(level.style_edge for level in examined.levels)
    edge, color = edges[-1], examined.options.color
    recolor = RECOLOR_STYLE.get(color)
    key = StyleKey(
        pictures.sha256(source),
        edge,
        (color, content.key, max(content.size)) if recolor else None,
        "" if mask is None else pictures.sha256(mask),
    )

    def load() -> LoadedPicture:
        pixels = images.composite(_open(source, edge, pictures), "white")
        grey = is_grey(pixels)
        pixels = images.resize(pixels, fit_long_edge(pictures.size(source), edge))
        if recolor:
            pixels = recolor(pixels, content.pixels)
        weights = None if mask is None else _load_style_mask(mask, edge, pictures)
        loaded = LoadedPicture(key, pixels, mask=weights, is_grey=grey)
        return _place_levels(
            loaded, ((fit_long_edge(loaded.size, one), square_canvas(one)) for one in edges)
        )

    return pictures.loaded.get((key, edges), load)


def _place_levels(picture: LoadedPicture, sizes: Iterable[tuple[Size, Size]]) -> LoadedPicture:
    """A picture, also scaled to the sizes of levels, each on its canvas."""
    placed = {size: picture.place(size, canvas) for size, canvas in sizes}
    whole = dataclasses.replace(picture, placed=placed)
    return dataclasses.replace(whole, pixels=whole.pixels_at(picture.size))  # not kept twice
