"""One request: a content, one or several styles, and options."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from nst_jax.request.default_names import name_pictures
from nst_jax.request.errors import OptionError, say_count
from nst_jax.request.layered_options import complete_options
from nst_jax.request.options import JobOptions, Options, job_options
from nst_jax.request.outputs import OutputNames, default_output, normalize_output, stem_and_suffix
from nst_jax.request.validators import to_plain


@runtime_checkable
class ArrayPicture(Protocol):
    """An array of NumPy's, or what makes one of itself: (h, w), or (h, w, 1), 3 or 4.

    Not a nested list: of its whole numbers no type says which is white, and a list of styles is
    several styles.
    """

    def __array__(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class ImagePicture(Protocol):
    """An image of Pillow's, by what it can do: who has none need not import Pillow."""

    def convert(self, *args: Any, **kwargs: Any) -> Any: ...

    def getexif(self) -> Any: ...


_PICTURES = (str, os.PathLike, ArrayPicture, ImagePicture)
PictureSource = str | os.PathLike[str] | ArrayPicture | ImagePicture
"""A picture file's path; an array: uint8, uint16, bool, or floats in [0, 1]; or Pillow's image."""


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Job:
    """One content in the manner of one style, or of several blended.

    Attributes:
        content: The picture whose things are shown.
        style: The picture, or the pictures, whose manner is taken.
        output: Name of the output relative to the output folder, with `/`. Empty: made of
            the stems of content and style, and of their folders where stems are not enough.
        options: What this job wants; where they don't say, and None: what the run says.
        masks: Where each style applies, one a style, as grey pictures of the content's aspect
            ratio: white where it does, black where not, and between them in part. A part that
            is black in all of them has no style: there the output is the content. Where two
            are white both styles apply. None: all styles apply everywhere, blended. With
            masks, `style_blend_weights` say how strongly each style works in its region.
        style_masks: Which part of each style counts, one a style; none: the whole picture.
        init_image: What the optimisation starts from where `init` is file, of the content's
            aspect ratio.
        size: (height, width) of the content in pixels, upright, if it is known beforehand: a
            guide to planning and to dealing jobs out, which then open no picture. The picture
            itself decides.
    """

    content: PictureSource
    style: PictureSource | Sequence[PictureSource]
    output: str = ""
    options: JobOptions | None = None
    masks: Sequence[PictureSource] = ()
    style_masks: Sequence[PictureSource] = ()
    init_image: PictureSource | None = None
    size: tuple[int, int] | None = None

    @property
    def styles(self) -> tuple[PictureSource, ...]:
        """The style pictures, always a tuple."""
        if isinstance(self.style, (list, tuple)):  # asked first: it is quick
            return tuple(self.style)
        if isinstance(self.style, _PICTURES):
            return (self.style,)
        return tuple(self.style)

    @property
    def pictures(self) -> tuple[PictureSource, ...]:
        """All that the job reads: content, styles, the masks of both, and what it starts from."""
        start = () if self.init_image is None else (self.init_image,)
        return (self.content, *self.styles, *self.masks, *self.style_masks, *start)


def fill_defaults(jobs: Iterable[Job], options: Options) -> list[Job]:
    """Jobs with their options and output names filled in and checked.

    A default name gives way to one that the user gave, wherever it stands.

    Raises:
        OptionError: No style, blend weights or masks that don't match the styles, or something
            that is no job, no picture or no options.
        OutputError: Two jobs with one output.
    """
    if not isinstance(options, Options):
        raise OptionError(f"options of a run must be Options, got {type(options).__name__}")
    if not isinstance(jobs, Iterable):
        raise OptionError(f"jobs must be a list of Job, got {type(jobs).__name__}")
    listed = list(jobs)
    for job in listed:
        _check_types(job)
    taken = OutputNames()
    given = [normalize_output(job.output) if job.output else "" for job in listed]
    for name in filter(None, given):
        taken.claim(name, name)
    unnamed = [job for job, name in zip(listed, given, strict=True) if not name]
    free = map(taken.claim_free_name, default_outputs(unnamed))
    # One object for all jobs that have none of their own, or the same one.
    complete = {id(None): job_options(options)}
    for own in (job.options for job in listed):
        if own is not None and id(own) not in complete:
            complete[id(own)] = complete_options(own, options)
    filled = []
    for index, (job, name) in enumerate(zip(listed, given, strict=True)):
        try:
            filled.append(_fill_in(job, name or next(free), complete[id(job.options)], options))
        except OptionError as fault:
            if len(listed) == 1:
                raise
            called = f"job {index} of the list, {picture_name(job.content)!r}"
            raise OptionError(f"{called}: {fault.message}", fault.remedy) from fault
    return filled


def _check_types(job: Job) -> None:
    """Refuses what a type checker would: there may be none."""
    if not isinstance(job, Job):
        raise OptionError(f"jobs must be a list of Job, got {type(job).__name__} in it")
    if (
        type(job.content) is type(job.output) is str
        and type(job.style) in (str, tuple)
        and (job.options is None or type(job.options) is JobOptions)
    ):
        return  # as nearly all of a million; to ask for a protocol takes long
    for name, value, kinds, words in (
        ("content", job.content, _PICTURES, "a path, an array or an image"),
        (
            "style",
            job.style,
            (*_PICTURES, Sequence),
            "a path, an array, an image or a list of them",
        ),
        ("output", job.output, (str,), "a text"),
        ("options", job.options, (JobOptions, type(None)), "JobOptions"),
    ):
        if not isinstance(value, kinds):
            got, is_list = type(value).__name__, isinstance(value, (list, tuple))
            remedy = "Make an array of nested lists by numpy.asarray(..., dtype)" if is_list else ""
            raise OptionError(f"{name} of a job must be {words}, got {got}", remedy)


def _fill_in(job: Job, output: str, own: JobOptions, options: Options) -> Job:
    """The job itself where nothing is missing: a list may have a million."""
    _check_optimizer(own, options)
    check_job(job, own)
    size = _read_size(job.size)
    if own is job.options and output == job.output and size is job.size:
        return job
    return dataclasses.replace(job, output=output, options=own, size=size)


def _read_size(given: Any) -> tuple[int, int] | None:
    """A size as plain numbers; itself where it is one."""
    if given is None:
        return None
    size = given if type(given) is tuple and {*map(type, given)} == {int} else to_plain(given)
    if not isinstance(size, tuple) or list(map(type, size)) != [int, int] or min(size) < 1:
        raise OptionError(
            f"size of a job must be its content's height and width in pixels, got {size!r}",
            "How large the output becomes is an option of the run: Options(size=512)",
        )
    return size


def every_pair(
    contents: Sequence[PictureSource],
    styles: Sequence[PictureSource],
    names: Mapping[str, str] | None = None,
) -> list[Job]:
    """A job for each content with each style, content by content.

    Args:
        contents: The pictures whose things are shown.
        styles: The pictures whose manners are taken.
        names: What outputs call pictures whose stem is not to count, by their paths.
    """
    jobs = [Job(content, style) for content, style in itertools.product(contents, styles)]
    if not names:
        return jobs
    outputs = map(OutputNames().claim_free_name, default_outputs(jobs, names))
    return [dataclasses.replace(job, output=next(outputs)) for job in jobs]


def picture_name(source: PictureSource) -> str:
    """A path as text, or what to call a picture that has none."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return "image" if isinstance(source, ImagePicture) else "array"


def check_job(job: Job, options: JobOptions) -> None:
    """Refuses a job whose parts don't match each other; no picture is looked at.

    Args:
        job: The job.
        options: Its own, or what the run says.

    Raises:
        OptionError: No style; blend weights or masks that don't match the styles; an
            init_image without `init` file, or the other way round.
    """
    styles = len(job.styles)
    if not styles:
        raise OptionError("a job needs at least one style, got none")
    for name, values, what in (
        ("style_blend_weights", options.style_blend_weights, "number"),
        ("masks", job.masks, "picture"),
        ("style_masks", job.style_masks, "picture"),
    ):
        if not isinstance(values, (list, tuple)):
            raise OptionError(
                f"{name} must be a list or a tuple, one for each style, got {type(values).__name__}"
            )
        if values and len(values) != styles:
            raise OptionError(
                f"{name} must have one {what} for each of {say_count(styles, 'style')}, "
                f"got {len(values)}"
            )
    if options.init == "file" and job.init_image is None:
        raise OptionError("init file needs an init_image, got none", "Name a picture to start from")
    if options.init != "file" and job.init_image is not None:
        raise OptionError(
            f"an init_image needs init file, got init {options.init} and "
            f"{picture_name(job.init_image)!r}"
        )


def _check_optimizer(own: JobOptions, options: Options) -> None:
    """Refuses an optimiser whose line search would follow a slope that is not the loss's."""
    if options.optimizer == "lbfgs" and own.gradient_normalization != "none":
        raise OptionError(
            "optimizer lbfgs needs gradient_normalization none, got "
            f"{own.gradient_normalization!r}",
            "Its line search compares losses with slopes; adam does not",
        )


def default_outputs(jobs: Sequence[Job], names: Mapping[str, str] | None = None) -> Iterator[str]:
    """The name that each job's output would have, before any has to give way.

    Args:
        jobs: Of one batch.
        names: What pictures are called whose stem is not to count, by their paths.
    """
    contents = name_pictures((picture_name(job.content) for job in jobs), names)
    styles = name_pictures((picture_name(one) for job in jobs for one in job.styles), names)
    style_name = functools.cache(lambda path: styles.get(path) or stem_and_suffix(path)[0])
    for job in jobs:
        path = picture_name(job.content)
        name = contents.get(path) or stem_and_suffix(path)[0]
        yield default_output(name, map(style_name, map(picture_name, job.styles)))
