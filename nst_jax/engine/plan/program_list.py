"""Every program that a run will compile, in the order in which it will be needed.

A program is told by what it follows from; `engine/device/program_shapes.py` makes it of that.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.slots import Plan
from nst_jax.request.taps import PIXELS

_Taps = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ContentTargets:
    """Features of contents on a canvas, at these taps, scaled by a name of a normalization."""

    canvas: Size
    taps: _Taps
    normalized: str


@dataclasses.dataclass(frozen=True)
class StyleMoments:
    """Moments of a style of this long edge in pixels, at these taps; under a mask, or whole."""

    edge: int
    taps: _Taps
    is_masked: bool


@dataclasses.dataclass(frozen=True)
class StyleTargets:
    """What so many styles ask together at these taps."""

    taps: _Taps
    normalized: str
    styles: int


@dataclasses.dataclass(frozen=True)
class OpenBatch:
    """Opens a batch of so many slots."""

    bucket: Bucket
    slots: int


@dataclasses.dataclass(frozen=True)
class PlaceJob:
    """Puts a job into one of so many slots."""

    bucket: Bucket
    slots: int


@dataclasses.dataclass(frozen=True)
class StepBatch:
    """Steps a batch of so many slots."""

    bucket: Bucket
    slots: int


@dataclasses.dataclass(frozen=True)
class TakeState:
    """Takes the state out of one of so many slots."""

    canvas: Size
    slots: int


@dataclasses.dataclass(frozen=True)
class NextLevel:
    """Takes a job from a level's canvas to that of the next."""

    old_canvas: Size
    canvas: Size


PlannedProgram = (
    ContentTargets
    | StyleMoments
    | StyleTargets
    | OpenBatch
    | PlaceJob
    | StepBatch
    | TakeState
    | NextLevel
)


def list_programs(waves: Iterable[Sequence[ExaminedJob]], plan: Plan) -> Iterator[PlannedProgram]:
    """The programs of a run, each once, in the order of need; waves are looked at one by one.

    Args:
        waves: Jobs that are on the devices together; see `schedule.waves.split_into_waves`.
        plan: Slots by bucket.
    """
    seen: set[PlannedProgram] = set()
    for wave in waves:
        for planned in _wave_programs(wave, plan):
            if planned not in seen:
                seen.add(planned)
                yield planned


def _wave_programs(wave: Sequence[ExaminedJob], plan: Plan) -> Iterator[PlannedProgram]:
    """Level by level from coarse to fine, as the scheduler goes, and some of them repeatedly."""
    members: dict[tuple[int, Bucket], list[tuple[ExaminedJob, Level]]]
    members = collections.defaultdict(list)
    following: dict[tuple[int, Bucket], list[NextLevel]] = collections.defaultdict(list)
    for one in wave:
        for level in one.levels:
            members[level.index, level.bucket].append((one, level))
        for old, new in itertools.pairwise(one.levels):
            following[old.index, old.bucket].append(NextLevel(old.canvas, new.canvas))
    for place in sorted(members, key=lambda place: place[0]):
        _, bucket = place
        slots = plan.slots[bucket]
        for one, level in members[place]:
            yield from _target_programs(one, level)
        yield OpenBatch(bucket, slots)
        in_batch = collections.Counter(level.batch_key for _, level in members[place])
        if max(in_batch.values()) > 1:
            yield PlaceJob(bucket, slots)
        yield StepBatch(bucket, slots)
        yield TakeState(bucket.canvas, slots)
        yield from following[place]


def _target_programs(one: ExaminedJob, level: Level) -> Iterator[PlannedProgram]:
    """What makes the targets of a job at a level; see `device.targets.TargetCache`."""
    own, job = one.options, one.job
    yield ContentTargets(level.canvas, own.content_taps, own.content_normalization)
    if own.pixel_blend and PIXELS in own.content_taps:
        yield ContentTargets(level.canvas, (PIXELS,), own.content_normalization)
    for _, mask in itertools.zip_longest(job.styles, job.style_masks):
        yield StyleMoments(level.style_edge, own.style_taps, mask is not None)
    together = 1 if job.masks else len(job.styles)
    yield StyleTargets(own.style_taps, own.style_normalization, together)
