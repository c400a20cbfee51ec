"""The engine at work, ready to be timed: the only place where the benchmark meets the engine.

A workload is not built here. The engine itself makes states, targets and problems of a full
batch, on its way to a rendering; the first call of its step program is caught, and then
that program is called again and again with what it was given. So the benchmark times what
renders pictures, whatever states and problems come to hold.
"""

import collections
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nst_jax.bench.operations import Operations, step_operations
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.device.recent_sessions import forget_programs
from nst_jax.engine.device.slot_batch import SlotBatch
from nst_jax.engine.device.targets import TargetCache
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.load import load_job
from nst_jax.engine.inputs.session import Session, open_session
from nst_jax.engine.plan.canvas import Size, fit_long_edge
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.local_devices import find_devices
from nst_jax.engine.plan.slots import choose_slots
from nst_jax.engine.progress import Progress
from nst_jax.engine.render import render_many
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.engine.schedule.make_scheduler import make_programs
from nst_jax.engine.schedule.running_batch import RunningBatch
from nst_jax.engine.schedule.slot_loader import SlotLoader
from nst_jax.files.images import Pixels, composite, load_picture, resize
from nst_jax.files.storage import as_file
from nst_jax.request.errors import NstJaxError
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import JobOptions, Options
from nst_jax.weights.network import NetworkWeights

_ENDLESS_STEPS = 1_000_000  # the most that an option allows; no slot may come to rest
_MANY_JOBS = 32  # enough for the planner to give a batch all the slots it would ever get


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A content and a style as (h, w, 3) float32 sRGB in [0, 1]."""

    content: Pixels
    style: Pixels

    @property
    def job(self) -> Job:
        return Job(self.content, self.style)

    def at(self, long_edge: int) -> "Pair":
        """Both pictures with this long edge in pixels."""
        content, style = (
            resize(pixels, fit_long_edge(pixels.shape[:2], long_edge))
            for pixels in (self.content, self.style)
        )
        return Pair(content, style)


def synthetic_pair(side: int, *, seed: int = 0) -> Pair:
    """Two square pictures of uniform noise; a step takes as long on them as on photographs."""
    pictures = np.random.default_rng(seed).random((2, side, side, 3), dtype=np.float32)
    return Pair(pictures[0], pictures[1])


def open_pair(content: Path, style: Path) -> Pair:
    """Two picture files, transparency on white.

    Raises:
        PictureError: One is missing or no picture.
    """
    opened = (composite(load_picture(as_file(path)), "white") for path in (content, style))
    return Pair(*opened)


@dataclasses.dataclass(eq=False)
class Workload:
    """A full batch on its compiled step program.

    Attributes:
        pair: The pictures of every slot, at the workload's size.
        canvas: The shape of the step program, (height, width).
        batch_size: Its slots.
        own: The job options of every slot, with canonical taps.
        weights: The network's.
        operations: Of one step of one image.
        compile_seconds: Of all its programs, by name.
        target_seconds: From decoded pictures to problems on the device, without compilation.
        program_bytes: Arguments, results and temporary memory of the step program, by the
            compiler's account; None where it does not say.
    """

    pair: Pair
    canvas: Size
    batch_size: int
    own: JobOptions
    weights: NetworkWeights
    operations: Operations
    compile_seconds: dict[str, float]
    target_seconds: float
    program_bytes: int | None
    _programs: ProgramCache
    _states: Any
    _problems: Any
    _is_transposed: bool

    def run(self, steps: int) -> None:
        """Takes every slot so many steps on, and waits for the end."""
        self._states, _ = self._programs.run_chunk(
            self.canvas, self._states, self._problems, np.int32(steps), self._is_transposed
        )
        jax.block_until_ready(self._states)

    def fetch_images(self) -> Pixels:
        """The images of all slots on the host, (slots, h, w, 3) on their canvas, upright."""
        images = np.asarray(jax.device_get(self._states.image))
        return images.swapaxes(1, 2) if self._is_transposed else images


class Harness:
    """The engine opened once: weights read, one device chosen.

    One device, because operations a second and a share of the peak are a device's own. A CPU
    is one, with all that its cores are cut into.
    """

    def __init__(self, options: Options, progress: Progress) -> None:
        """Opens the engine.

        Args:
            options: `weights` and `dtype` count.
            progress: Told of compilations.

        Raises:
            WeightsError: There are no such weights.
        """
        self._options = options
        self._progress = progress
        local = find_devices()
        self.device: Any = local[0]
        self._used = local if self.device.platform == "cpu" else local[:1]
        self.session = open_session(options, self._used)

    @property
    def dtype(self) -> str:
        """What the network computes in, by its name."""
        return self.session.precision.name

    def workload(self, pair: Pair, size: int, batch_size: int | None) -> Workload:
        """A full batch, its step program compiled.

        Args:
            pair: Pictures of any size.
            size: Long edge in pixels at which they are rendered, in one level.
            batch_size: Slots; None: what the planner chooses for many jobs.

        Raises:
            PictureError: The pictures are too narrow at this size.
        """
        pair = pair.at(size)
        session = self._session_with(
            size=size, levels=1, steps=_ENDLESS_STEPS, batch_size=batch_size
        )
        examined = self._examine([pair.job] * (batch_size or _MANY_JOBS), session)
        programs = make_programs(session, examined, self._progress)
        began = time.perf_counter()
        batch = _open_batch(examined, session, programs)
        ready = time.perf_counter() - began - sum(programs.compiled.values())
        made = Workload(
            pair=pair,
            canvas=examined[0].levels[-1].canvas,
            batch_size=len(batch.problems.steps),
            own=examined[0].options,
            weights=session.weights,
            operations=_operations(examined[0], session),
            compile_seconds={},
            target_seconds=ready,
            program_bytes=None,
            _programs=programs,
            _states=batch.states,
            _problems=batch.problems,
            _is_transposed=examined[0].levels[-1].is_transposed,
        )
        made.run(1)
        made.compile_seconds = dict(programs.compiled)
        made.program_bytes = programs.memory.get(list(programs.compiled)[-1])  # the step's
        return made

    def level_sizes(self, pair: Pair, size: int) -> list[tuple[int, int]]:
        """Long edge in pixels and steps of each level of the default schedule."""
        session = self._session_with(size=size)
        job = self._examine([pair.at(size).job], session)[0]
        steps: dict[int, int] = collections.Counter()
        for level in job.levels:
            steps[max(level.size)] += level.steps
        return list(steps.items())

    def render(self, pairs: Sequence[Pair], size: int, steps: int) -> float:
        """Renders jobs from start to end at the default levels.

        Args:
            pairs: One a job.
            size: Long edge in pixels.
            steps: Steps a level.

        Returns:
            Seconds of compilation within.

        Raises:
            JobError: A job failed.
        """
        options = dataclasses.replace(self._options, size=size, steps=steps)
        forget_programs()  # as a process has none that begins
        results = render_many(
            (pair.job for pair in pairs), options, on_error="raise", devices=self._used
        )
        return sum(result.compile_seconds for result in results)

    def _session_with(self, *, batch_size: int | None = None, **changes: Any) -> Session:
        slots = "auto" if batch_size is None else batch_size
        options = dataclasses.replace(self._options, batch_size=slots, **changes)
        return dataclasses.replace(self.session, options=options)

    def _examine(self, jobs: Sequence[Job], session: Session) -> list[ExaminedJob]:
        examined = []
        for one in examine_jobs(fill_defaults(jobs, session.options), session, self._progress):
            if not isinstance(one, ExaminedJob):
                assert isinstance(one.error, NstJaxError)
                raise one.error
            examined.append(one)
        return examined


def _open_batch(
    examined: Sequence[ExaminedJob], session: Session, programs: ProgramCache
) -> SlotBatch:
    """The first batch of the jobs, on the devices, before its first step."""
    options, bucket = session.options, examined[0].levels[0].bucket
    plan = choose_slots([one.levels for one in examined], options, session.devices)
    slots = plan.slots[bucket]
    jobs = [ActiveJob(load_job(one, options, session.pictures)) for one in examined[:slots]]
    batch = RunningBatch(bucket, jobs)
    targets = TargetCache(programs, options)
    SlotLoader(programs, targets, options.optimizer).fill_batch(batch, slots)
    assert batch.slot_batch
    return batch.slot_batch


def _operations(job: ExaminedJob, session: Session) -> Operations:
    level = job.levels[-1]
    convolutions = session.weights.convolutions
    return step_operations(
        session.weights.architecture,
        {name: kernel.shape[2:] for name, (kernel, _) in convolutions.items()},
        content_taps=job.options.content_taps,
        style_taps=job.options.style_taps,
        size=level.size,
        canvas=level.canvas,
        use_winograd=session.use_winograd,
    )
