"""What comes out: a result for every job, its loss curve, and a summary of a batch."""

import base64
import dataclasses
import html
import io
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from nst_jax.files.encode import encode_picture, quantize, write_error
from nst_jax.files.exif import ExifTexts
from nst_jax.files.folders import folder_and_name
from nst_jax.request.errors import NstJaxError, OptionError, say_count
from nst_jax.request.job import Job, PictureSource, picture_name
from nst_jax.request.options import JobOptions, non_default_options
from nst_jax.request.outputs import is_url
from nst_jax.request.paths import find_path
from nst_jax.request.validators import shorten

METHOD_VERSION = 10
"""Raised whenever the same request gives another picture than before."""

MOST_POINTS = 48
"""Points kept of a job, however long it takes."""

_NOTEBOOK_PX = 512
"""The long edge of a picture that a notebook shows."""

CHUNKS_A_LEVEL = 8
"""A chunk of a long level is at most this part of what is left, so that a curve has a shape."""


_SUMMED = (
    *("done", "failed", "skipped", "given_up"),
    *("image_steps", "step_seconds", "compile_seconds", "driving_seconds"),
)
"""Of a summary, what workers add up."""


class LossPoint(NamedTuple):
    """The objective after so many steps over all levels; the parts are unweighted."""

    step: int
    total: float
    content: float
    style: float
    tv: float


class LossCurve:
    """A job's points in order; where there are too many, every second one goes."""

    def __init__(self) -> None:
        self._points: list[LossPoint] = []
        self._gap = 1

    @property
    def points(self) -> tuple[LossPoint, ...]:
        """From the first step to the last one that was looked at."""
        return tuple(self._points)

    def add(self, step: int, terms: Sequence[float]) -> None:
        """Adds a look; one that follows too closely takes the place of the last.

        A step that was there before, because a batch is run again, replaces what followed it.

        Args:
            step: Steps taken over all levels.
            terms: total, content, style, tv.
        """
        total, content, style, tv = map(float, terms)
        point = LossPoint(step, total, content, style, tv)
        while self._points and self._points[-1].step >= step:
            self._points.pop()
        if len(self._points) > 1 and step - self._points[-2].step < self._gap:
            self._points[-1] = point
        else:
            self._points.append(point)
        if len(self._points) > MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        last = self._points[-1:] if len(self._points) % 2 == 0 else []
        self._points = self._points[::2] + last
        span = self._points[-1].step - self._points[0].step
        self._gap = max(1, span // (len(self._points) - 1))


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """One job's end.

    Attributes:
        index: The job's position in the list of jobs.
        job: The job, its output name and options filled in.
        image: (h, w, 3) float32 sRGB in [0, 1]; None where the job failed, or where the
            picture went to a file and not to the caller.
        alpha: (h, w) float32 where the content's transparency is kept.
        exif: What the output takes over of the content's EXIF.
        losses: `total`, `content`, `style` and `tv` at the last step; parts unweighted.
        curve: The same on the way there, at most `MOST_POINTS` times.
        steps: Steps taken over all levels.
        level_ends: After how many of them each level was over; empty where `early_stop` decided.
        seconds: The job's share of the time in steps.
        compile_seconds: The job's share of the time in compilations.
        error: Why it failed; None where it is done.
        output: The file that was written; empty where none was.
        fingerprint: What the picture follows from: inputs, options, weights, method.
        sha256: Of the written file's bytes.
        stamp: What changes whenever the written file does.
        attempt: How often the job was tried, counted from 1.
        inputs: What is known of its input files, by path; see `picture_index.PictureIndex.records`.
    """

    index: int
    job: Job
    image: npt.NDArray[np.float32] | None = None
    alpha: npt.NDArray[np.float32] | None = None
    exif: ExifTexts = dataclasses.field(default_factory=dict)
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    curve: tuple[LossPoint, ...] = ()
    steps: int = 0
    level_ends: tuple[int, ...] = ()
    seconds: float = 0.0
    compile_seconds: float = 0.0
    error: NstJaxError | None = None
    output: str = ""
    fingerprint: str = ""
    sha256: str = ""
    stamp: str = ""
    attempt: int = 1
    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def status(self) -> Literal["done", "failed"]:
        return "failed" if self.error else "done"

    @property
    def picture(self) -> Image.Image:
        """The picture as Pillow's image, 8 bits a channel: RGB, or RGBA where it has `alpha`.

        Raises:
            NstJaxError: The job failed, or its picture went to a file.
        """
        return Image.fromarray(quantize(self._pixels(), 8))

    def save(self, path: str | os.PathLike[str], *, bit_depth: Literal[8, 16] = 8) -> None:
        """Writes the picture; the suffix chooses the format: .png, .jpg, .webp or .tif.

        The file appears whole under its name, in place of an older one, or not at all. Folders that
        are missing are made. The options are not in the file; `render` and `render_batch` write
        them.

        Args:
            path: A path or an address (`s3://`, `gs://`).
            bit_depth: 16 for PNG and TIFF only.

        Raises:
            NstJaxError: The job failed, its picture went to a file, or this file can't be written.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise OptionError(f"save must be given a path, got {shorten(path)}")
        pixels = self._pixels()[..., :3]
        place = PurePath(os.fspath(path))
        content = encode_picture(
            place, pixels, alpha=self.alpha, bit_depth=bit_depth, exif=self.exif
        )
        folder, name = folder_and_name(path)
        try:
            folder.write(name, content)
        except (OSError, ValueError) as error:
            raise write_error(place, error) from error

    def __repr__(self) -> str:
        told = [self.job.output or f"job {self.index}", self.status]
        if self.error:
            told.append(str(self.error))
        if self.image is not None:
            height, width, _ = self.image.shape
            told.append(f"{width}x{height} px")
        if not self.error:
            told += [say_count(self.steps, "step"), f"{self.seconds:.1f} s"]
        if "total" in self.losses:
            told.append(f"loss {self.losses['total']:.4g}")
        return f"<Result {', '.join(told)}>"

    def _repr_html_(self) -> str:
        """The picture and its losses, as a notebook shows them."""
        words = html.escape(repr(self).removeprefix("<Result ").removesuffix(">"))
        if self.image is None:
            return f"<p>{words}</p>"
        shown = self.picture
        shown.thumbnail((_NOTEBOOK_PX, _NOTEBOOK_PX))
        file = io.BytesIO()
        shown.save(file, "PNG")
        data = base64.b64encode(file.getvalue()).decode()
        parts = (f"{name} {value:.4g}" for name, value in self.losses.items() if name != "total")
        return (
            f'<figure><img src="data:image/png;base64,{data}" alt="{words}">'
            f"<figcaption>{words} ({', '.join(parts)}, unweighted)</figcaption></figure>"
        )

    def _pixels(self) -> npt.NDArray[np.float32]:
        """(h, w, 3) or with transparency (h, w, 4)."""
        if self.error:
            raise self.error
        if self.image is None:
            raise OptionError(f"the picture of {self!r} went to a file", f"Open {self.output!r}")
        return self.image if self.alpha is None else np.dstack([self.image, self.alpha])

    def record(self) -> dict[str, Any]:
        """The result as a ledger line has it."""
        return {
            "job": self.job.output,
            "status": self.status,
            "output": self.output,
            "fingerprint": self.fingerprint,
            "method": METHOD_VERSION,
            "sha256": self.sha256,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "compile_seconds": round(self.compile_seconds, 3),
            "losses": _finite(self.losses),
            "error": _error_record(self.error, self.attempt),
            "content": _place(self.job.content),
            "style": [_place(style) for style in self.job.styles],
            "options": non_default_options(self.job.options or JobOptions()),
            "curve": [_round(point) for point in self.curve],
            "level_ends": list(self.level_ends),
            "time": round(time.time(), 3),
            "stamp": self.stamp,
            "inputs": self.inputs,
        }


@dataclasses.dataclass(frozen=True)
class Summary:
    """A batch's end.

    Attributes:
        jobs: How many were asked for.
        done: Rendered now.
        failed: Failed now, or before.
        skipped: Done before, with the same fingerprint and the picture unharmed.
        seconds: From start to end.
        compile_seconds: Of these, in compilations: those that were waited for.
        step_seconds: Of these, in steps.
        image_steps: Steps of single images.
        compiled: Seconds of each compilation by the program's name, by whatever thread.
        loaded: Names of those that were kept from an earlier run and only loaded.
        shard: Whose jobs these are, as `0/4`; empty: all.
        given_up: Of the failed, those that failed before by their own fault and were not tried
            again, because nothing of them has changed.
        failures: Of the failed, each one's output name and why, in the order of the jobs.
        driving_seconds: CPU seconds of the thread that drives the devices, compilation apart.
        waiting_seconds: Its wall seconds of waiting, by what it waited for: `device`, `inputs`,
            `compilation`.
        device_idle_share: The share of the time from the first step to the last in which the
            devices had been asked for no steps whose report was still to be read. The last ones
            before a compilation are read after it, unless previews are shown.
    """

    jobs: int
    done: int
    failed: int
    skipped: int
    seconds: float
    compile_seconds: float
    step_seconds: float
    image_steps: int
    compiled: Mapping[str, float]
    loaded: frozenset[str] = frozenset()
    shard: str = ""
    given_up: int = 0
    driving_seconds: float = 0.0
    waiting_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    device_idle_share: float = 0.0
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def add(self, other: "Summary") -> "Summary":
        """What two workers have done together; jobs and seconds are left as they are."""
        both = self, other
        sums = {name: sum(getattr(one, name) for one in both) for name in _SUMMED}
        reasons = {**self.waiting_seconds, **other.waiting_seconds}
        idle = sum(one.device_idle_share * one.step_seconds for one in both)
        return dataclasses.replace(
            self,
            **sums,
            failures={**self.failures, **other.failures},
            waiting_seconds={
                name: sum(one.waiting_seconds.get(name, 0.0) for one in both) for name in reasons
            },
            device_idle_share=idle / (sums["step_seconds"] or 1.0),
        )

    @property
    def is_up_to_date(self) -> bool:
        """Whether every job was finished before, or had failed for good: nothing was to do."""
        return self.skipped + self.given_up == self.jobs

    @property
    def image_steps_per_second(self) -> float:
        """Steps of single images a second, compilation apart."""
        return self.image_steps / self.step_seconds if self.step_seconds else 0.0

    def record(self) -> dict[str, Any]:
        """The summary as `batch --json` prints it."""
        return {
            "jobs": self.jobs,
            "done": self.done,
            "failed": self.failed,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "compile_seconds": round(self.compile_seconds, 3),
            "step_seconds": round(self.step_seconds, 3),
            "image_steps": self.image_steps,
            "image_steps_per_second": round(self.image_steps_per_second, 3),
            "driving_seconds": round(self.driving_seconds, 3),
            "waiting_seconds": {name: round(x, 3) for name, x in self.waiting_seconds.items()},
            "device_idle_share": round(self.device_idle_share, 4),
        } | ({"shard": self.shard} if self.shard else {})


def _finite(losses: Mapping[str, float]) -> dict[str, float | None]:
    """Losses as JSON can hold them: None for what is no number."""
    return {name: value if np.isfinite(value) else None for name, value in losses.items()}


def _place(source: PictureSource) -> str:
    """Where a picture is found from any folder; `array` or `image` for one in memory."""
    if not isinstance(source, (str, os.PathLike)):
        return picture_name(source)
    name = find_path(os.fspath(source))
    return name if is_url(name) else os.path.abspath(name)


def _round(point: LossPoint) -> list[int | float | None]:
    """A point with five digits, as many as a curve can show; None for what is no number."""
    step, *terms = point
    return [step, *(float(f"{value:.5g}") if np.isfinite(value) else None for value in terms)]


def _error_record(error: NstJaxError | None, attempt: int) -> dict[str, Any] | None:
    if error is None:
        return None
    told = {"kind": error.kind, "message": error.message, "remedy": error.remedy}
    return told | {"attempt": attempt}
