"""One request: a content, one or several styles, and options."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from nst_jax.spec.errors import OptionError
from nst_jax.spec.options import JobOptions, Options, job_options
from nst_jax.spec.outputs import default_output, unique_outputs


@runtime_checkable
class ArrayPicture(Protocol):
    """Anything NumPy takes for an array: (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any: ...


PictureSource = str | os.PathLike[str] | ArrayPicture
"""A picture file's path, or an array: uint8, uint16, or floats in [0, 1]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One content in the manner of one style, or of several blended.

    Attributes:
        content: The picture whose things are shown.
        style: The picture, or the pictures, whose manner is taken.
        output: Name of the output relative to the output folder, with `/`. Empty: made of
            the stems of content and style.
        options: What this job wants; None: what the run says.
    """

    content: PictureSource
    style: PictureSource | Sequence[PictureSource]
    output: str = ""
    options: JobOptions | None = None

    @property
    def styles(self) -> tuple[PictureSource, ...]:
        """The style pictures, always a tuple."""
        if isinstance(self.style, (str, os.PathLike, ArrayPicture)):
            return (self.style,)
        return tuple(self.style)


def completed(jobs: Iterable[Job], options: Options) -> list[Job]:
    """Jobs with their options and output names filled in and checked.

    Raises:
        OptionError: Blend weights that don't match the styles; no style.
        OutputError: Two jobs with one output.
    """
    listed = list(jobs)
    names = unique_outputs((job.output or _default_output(job), bool(job.output)) for job in listed)
    return [
        dataclasses.replace(job, output=name, options=_checked_options(job, options))
        for job, name in zip(listed, names, strict=True)
    ]


def every_pair(contents: Sequence[PictureSource], styles: Sequence[PictureSource]) -> list[Job]:
    """A job for each content with each style, content by content."""
    return [Job(content, style) for content, style in itertools.product(contents, styles)]


def picture_name(source: PictureSource) -> str:
    """A path as text, or what to call a picture that has none."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "array"


def check_blend(options: JobOptions, styles: int) -> None:
    """Refuses blend weights that don't match the number of style pictures.

    Raises:
        OptionError: They don't, or there is no style.
    """
    if not styles:
        raise OptionError("a job needs at least one style, got none")
    weights = options.style_blend_weights
    if weights and len(weights) != styles:
        raise OptionError(
            f"style_blend_weights must have one number for each of the {styles} styles, "
            f"got {len(weights)}"
        )


def _checked_options(job: Job, options: Options) -> JobOptions:
    own = job_options(job.options or options)
    check_blend(own, len(job.styles))
    return own


def _default_output(job: Job) -> str:
    return default_output(picture_name(job.content), map(picture_name, job.styles))
