"""What a whole batch will need: jobs by bucket, before any of them was looked at closely.

Slots must not depend on which part of a batch a worker has, nor on what is done already. So they
are chosen for the whole of it: from the sizes of all contents, which a manifest may tell, else
from their headers. Where that would be too many headers, each bucket counts as one of many
jobs, whoever asks.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.plan.levels import Bucket, Level, count_buckets, make_levels
from nst_jax.request.errors import PictureError
from nst_jax.request.job import Job, PictureSource
from nst_jax.request.options import JobOptions, Options, with_canonical_taps
from nst_jax.request.taps import Architecture

MOST_HEADERS = 4096
"""Contents whose headers are read before the work; with more of them, none is."""

_READERS = 8

Taps = tuple[tuple[str, ...], tuple[str, ...]]
"""Of contents, and of styles."""

SizeOf = Callable[[PictureSource], Size]
"""(height, width) of a picture in pixels; raises PictureError."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """What all jobs of a batch need together.

    Attributes:
        counts: Jobs by what they must share with others, see `count_buckets`; empty where nobody
            looked.
        taps: The sets of canonical taps that jobs have.
        jobs: How many there are.
    """

    counts: Mapping[Bucket, int]
    taps: tuple[Taps, ...]
    jobs: int


def measure_demand(
    jobs: Sequence[Job], options: Options, architecture: Architecture, size_of: SizeOf
) -> Demand:
    """Looks at all jobs of a batch, as little as will do.

    Args:
        jobs: All of them, with their options filled in.
        options: What they share.
        architecture: The network's.
        size_of: Looks at a picture's header.

    Raises:
        TapError: A job names a tap that the network does not have.
    """
    owns = (_canonical_options(job, options, architecture) for job in jobs)
    taps = {(own.content_taps, own.style_taps) for own in owns}
    sizes = _sizes(jobs, size_of)
    counts = count_buckets(_levels(job, size, options, architecture) for job, size in sizes)
    return Demand(counts, tuple(sorted(taps)), len(jobs))


def job_costs(
    jobs: Sequence[Job], options: Options, architecture: Architecture
) -> list[float] | None:
    """Pixels times steps of each job; None where the size of some content is not told.

    Raises:
        TapError: A job names a tap that the network does not have.
    """
    if not all(job.size for job in jobs):
        return None
    return [_cost(_levels(job, job.size, options, architecture)) for job in jobs if job.size]


def final_buckets(
    jobs: Sequence[Job], options: Options, architecture: Architecture, size_of: SizeOf
) -> dict[str, Bucket]:
    """The bucket of each job's last level, by its output, as far as sizes are told or looked at."""
    made = ((job, _levels(job, size, options, architecture)) for job, size in _sizes(jobs, size_of))
    return {job.output: levels[-1].bucket for job, levels in made if levels}


def _cost(levels: Iterable[Level]) -> float:
    return float(sum(level.steps * level.canvas[0] * level.canvas[1] for level in levels))


def _canonical_options(job: Job, options: Options, architecture: Architecture) -> JobOptions:
    """A job's options with canonical taps."""
    return with_canonical_taps(job.options or options, architecture)


def _levels(
    job: Job, size: Size, options: Options, architecture: Architecture
) -> tuple[Level, ...]:
    """A job's levels; none where it is too small."""
    try:
        return make_levels(
            size, options, _canonical_options(job, options, architecture), regions=len(job.masks)
        )
    except PictureError:
        return ()


def _sizes(jobs: Sequence[Job], size_of: SizeOf) -> Iterator[tuple[Job, Size]]:
    """Each job with its content's size; one whose content can't be read is left out.

    None at all where that would be too many headers to read.
    """
    unknown = {_key(job.content): job.content for job in jobs if job.size is None}
    if len(unknown) > MOST_HEADERS:
        return
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        looked = pool.map(lambda content: _size(content, size_of), unknown.values())
        sizes = dict(zip(unknown, looked, strict=True))
    for job in jobs:
        size = job.size or sizes[_key(job.content)]
        if size:
            yield job, size


def _key(content: PictureSource) -> str | int:
    return os.fspath(content) if isinstance(content, (str, os.PathLike)) else id(content)


def _size(content: PictureSource, size_of: SizeOf) -> Size | None:
    try:
        return size_of(content)
    except PictureError:
        return None
