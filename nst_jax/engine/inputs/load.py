"""Jobs made ready for the device: pictures decoded, checked and scaled, stages known."""

import dataclasses
import itertools
import os

import numpy as np
import numpy.typing as npt

from nst_jax.engine.inputs.masks import MaskWeights, mask_weights
from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.plan.canvas import Size, fit_long_edge, size_text
from nst_jax.engine.plan.levels import Level, pyramid
from nst_jax.files import images
from nst_jax.files.storage import as_file
from nst_jax.model.color import MATCH_METHODS
from nst_jax.request.errors import PictureError
from nst_jax.request.job import Job, PictureSource, picture_name
from nst_jax.request.options import JobOptions, Options
from nst_jax.request.taps import smallest_side


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedPicture:
    """A picture at the largest size at which it is needed.

    Attributes:
        key: What tells this picture from any other of the run.
        pixels: (h, w, 3) float32 sRGB in [0, 1], transparency laid on a background.
        alpha: (h, w), or None where the picture is opaque or it is not to be kept.
        mask: Of a style: how much each part of it counts; (h, w) of any size, in [0, 1].
    """

    key: str
    pixels: npt.NDArray[np.float32]
    alpha: npt.NDArray[np.float32] | None = None
    mask: MaskWeights | None = None

    @property
    def size(self) -> Size:
        height, width = self.pixels.shape[:2]
        return height, width


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedJob:
    """A job ready for the device.

    Attributes:
        index: Its position in the run's list of jobs.
        name: Its output's name.
        options: With canonical taps.
        stages: From coarse to fine.
        content: At the size of the last stage.
        styles: At the size of the last stage's style edge.
        masks: Where each style applies; none: everywhere.
        init_image: What the optimisation starts from, where it is a picture of its own.
    """

    index: int
    name: str
    options: JobOptions
    levels: tuple[Level, ...]
    content: LoadedPicture
    styles: tuple[LoadedPicture, ...]
    masks: tuple[MaskWeights, ...] = ()
    init_image: npt.NDArray[np.float32] | None = None

    def stage(self, place: tuple[int, int]) -> Level | None:
        """The job's stage at a place in the run's order; None where it has none there."""
        return next((stage for stage in self.levels if stage.place == place), None)


def load_job(
    index: int, job: Job, own: JobOptions, options: Options, inputs: PictureIndex
) -> LoadedJob:
    """Opens and scales a job's pictures.

    Args:
        index: The job's position in the run.
        job: With its output's name filled in.
        own: The job's options with canonical taps.
        options: The run's.
        inputs: What has looked at the job's pictures.

    Raises:
        PictureError: A picture is missing, can't be decoded, or is too small; a mask is black
            or of another shape than its picture.
    """
    picture = _open(job.content, options)
    ladder = pyramid(picture.pixels.shape[:2], options, own, regions=len(job.masks))
    check_sizes(job, own, ladder, inputs)
    content = _load_content(inputs.sha256(job.content), picture, ladder[-1].size, own)
    return LoadedJob(
        index=index,
        name=job.output,
        options=own,
        levels=ladder,
        content=content,
        styles=tuple(
            _load_style(source, mask, content, ladder, own, options, inputs)
            for source, mask in itertools.zip_longest(job.styles, job.style_masks)
        ),
        masks=tuple(_load_mask(mask, options) for mask in job.masks),
        init_image=None
        if job.init_image is None
        else _load_init_image(job.init_image, ladder[-1].size, options),
    )


def check_sizes(job: Job, own: JobOptions, ladder: tuple[Level, ...], inputs: PictureIndex) -> None:
    """Looks at the sizes of all pictures but the content, from their headers.

    Raises:
        PictureError: One can't be read, has another shape than the picture that it goes with,
            or is a style too small for the deepest tap.
    """
    for style in job.styles:
        _check_style_size(style, own, ladder, inputs)
    for mask in job.masks:
        _check_shape(mask, "mask", job.content, "content", inputs)
    for mask, style in zip(job.style_masks, job.styles, strict=False):
        _check_shape(mask, "mask", style, "style", inputs)
    if job.init_image is not None:
        _check_shape(job.init_image, "init_image", job.content, "content", inputs)


def _check_shape(
    source: PictureSource, what: str, other: PictureSource, whose: str, inputs: PictureIndex
) -> None:
    """Refuses a picture of another aspect ratio, by more than a pixel of the smaller one."""
    own, wanted = inputs.lookup(source).size, inputs.lookup(other).size
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


def _open(source: PictureSource, options: Options) -> images.Picture:
    if isinstance(source, (str, os.PathLike)):
        return images.load_picture(as_file(source), max_pixels=options.max_input_pixels)
    return images.from_array(np.asarray(source))


def _load_content(
    sha256: str, picture: images.Picture, size: Size, own: JobOptions
) -> LoadedPicture:
    alpha = picture.alpha if own.alpha == "keep" else None
    background = "black" if own.alpha == "black" else "white"
    return LoadedPicture(
        key=f"{sha256} on {background}",
        pixels=images.resize(images.composite(picture, background), size),
        alpha=None if alpha is None else images.resize(alpha, size),
    )


def _load_init_image(
    source: PictureSource, size: Size, options: Options
) -> npt.NDArray[np.float32]:
    return images.resize(images.composite(_open(source, options), "white"), size)


def _load_mask(source: PictureSource, options: Options) -> MaskWeights:
    return mask_weights(_open(source, options), picture_name(source))


def _load_style(
    source: PictureSource,
    mask: PictureSource | None,
    content: LoadedPicture,
    ladder: tuple[Level, ...],
    own: JobOptions,
    options: Options,
    inputs: PictureIndex,
) -> LoadedPicture:
    """A style, in the content's colours where the job asks for that."""
    pixels = images.composite(_open(source, options), "white")
    long_edge = ladder[-1].style_edge
    pixels = images.resize(pixels, fit_long_edge(pixels.shape[:2], long_edge))
    key = f"{inputs.sha256(source)} at {long_edge}"
    if own.color in MATCH_METHODS:
        pixels = MATCH_METHODS[own.color](pixels, content.pixels)
        key += f" by {own.color} of {content.key} at {max(content.size)}"
    if mask is None:
        return LoadedPicture(key, pixels)
    key = f"{key} where {inputs.sha256(mask)}"
    return LoadedPicture(key, pixels, mask=_load_mask(mask, options))


def _check_style_size(
    source: PictureSource, own: JobOptions, ladder: tuple[Level, ...], inputs: PictureIndex
) -> None:
    smallest = smallest_side(own.style_taps)
    height, width = fit_long_edge(inputs.size(source), ladder[0].style_edge)
    if min(height, width) < smallest:
        raise PictureError(
            f"style {picture_name(source)!r} must be at least {smallest} px on both sides to "
            f"reach the deepest tap, got {width}x{height} (width x height) at the first level",
            "Raise style_scale or style_size, crop the picture, or use fewer levels",
        )
