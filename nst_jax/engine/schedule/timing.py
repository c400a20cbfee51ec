"""Where a run's seconds go: the devices' in steps, the driving thread's in work and in waiting."""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.schedule.active_job import ActiveJob


@dataclasses.dataclass
class Waiting:
    """Wall seconds in which the driving thread was blocked, by what it waited for."""

    device: float = 0.0
    inputs: float = 0.0
    compilation: float = 0.0


@dataclasses.dataclass
class Timing:
    """Where the seconds of the thread that drives the devices went, and those of the devices.

    Attributes:
        steps: Wall seconds of the devices in steps, with what was asked of them between two chunks.
        targets: Wall seconds of the driving thread between chunks, compilation and waiting apart.
        compilation: Wall seconds that it waited for programs.
        image_steps: Steps of single images.
        driving: Its CPU seconds, compilation apart.
        waiting: Its wall seconds of waiting.
        idle: Wall seconds between the first chunk and the last one's report in which no chunk was
            under way.
        span: All wall seconds between those two.
    """

    steps: float = 0.0
    targets: float = 0.0
    compilation: float = 0.0
    image_steps: int = 0
    driving: float = 0.0
    waiting: Waiting = dataclasses.field(default_factory=Waiting)
    idle: float = 0.0
    span: float = 0.0

    @property
    def idle_share(self) -> float:
        """The share of the time from the first chunk on in which no chunk was under way."""
        return self.idle / self.span if self.span else 0.0


class _ChunkStart(NamedTuple):
    """The time when a chunk was dispatched, and until then the seconds of other things."""

    time: float
    away_seconds: float


class Stopwatch:
    """Times the driving thread's work and the chunks that are under way.

    Attributes:
        timing: Seconds so far.
    """

    def __init__(self, programs: ProgramCache, timing: Timing | None = None) -> None:
        """Starts at 0, or adds to what was counted before."""
        self.timing = timing or Timing()
        self._programs = programs
        self._under_way: collections.deque[_ChunkStart] = collections.deque()
        self._last_event: float | None = None  # a chunk's beginning or its report
        self._last_report = 0.0
        self._with_caller = 0.0

    @contextlib.contextmanager
    def beside_steps(self, jobs: Sequence[ActiveJob]) -> Iterator[None]:
        """Times a `with` block that asks the devices for something for these jobs.

        What it compiles is shared by the jobs.
        """
        with self._share_compilation(jobs) as seconds:
            yield
        self.timing.targets += seconds[0]

    @contextlib.contextmanager
    def time_dispatch(self, jobs: Sequence[ActiveJob]) -> Iterator[None]:
        """The same for steps: several devices of a CPU take them only when the last are over."""
        with self._share_compilation(jobs) as seconds:
            yield
        self.timing.waiting.device += seconds[0]

    @contextlib.contextmanager
    def _share_compilation(self, jobs: Sequence[ActiveJob]) -> Iterator[list[float]]:
        """Gives the wall seconds of the block without compilation, once it is over."""
        waited_before, began = self._programs.waiting_seconds, time.perf_counter()
        seconds: list[float] = []
        yield seconds
        compilation = self._programs.waiting_seconds - waited_before
        seconds.append(time.perf_counter() - began - compilation)
        self.timing.compilation += compilation
        self.timing.waiting.compilation += compilation
        for one in jobs:
            one.compile_seconds += compilation / len(jobs)

    @contextlib.contextmanager
    def time_waiting(self, what: Literal["device", "inputs"]) -> Iterator[None]:
        """Times a `with` block in which the driving thread waits."""
        began = time.perf_counter()
        try:
            yield
        finally:
            now = getattr(self.timing.waiting, what) + time.perf_counter() - began
            setattr(self.timing.waiting, what, now)

    def begin_chunk(self) -> None:
        """A chunk was dispatched."""
        passed, now = self._pass_time()
        if not self._under_way:
            self.timing.idle += passed
        self._under_way.append(_ChunkStart(now, self._away_seconds))

    def end_chunk(self, read: Callable[[], object]) -> float:
        """Waits for the oldest chunk's report; wall seconds that the devices had for it.

        A chunk may be over long before it is asked for, while a program is being compiled or the
        caller has the results so far. So that time does not count.
        """
        asked = time.perf_counter()
        with self.time_waiting("device"):
            read()
        _, now = self._pass_time()
        start = self._under_way.popleft()
        away = self._away_seconds - start.away_seconds
        passed = now - max(start.time, self._last_report) - away
        seconds = max(passed, now - asked)
        self._last_report = now
        self.timing.steps += seconds
        return seconds

    def drop_chunks(self) -> None:
        """No report will come of those under way."""
        self._under_way.clear()

    def _pass_time(self) -> tuple[float, float]:
        """Wall seconds since a chunk began or ended last, and the time now."""
        now = time.perf_counter()
        passed = 0.0 if self._last_event is None else now - self._last_event
        self.timing.span += passed
        self._last_event = now
        return passed, now

    @contextlib.contextmanager
    def time_driving(self) -> Iterator[None]:
        """Counts the CPU seconds of this thread in a `with` block, without those of compilation."""
        compiled_before, began = self._programs.compile_cpu_seconds, time.thread_time()
        try:
            yield
        finally:
            compilation = self._programs.compile_cpu_seconds - compiled_before
            self.timing.driving += time.thread_time() - began - compilation

    @contextlib.contextmanager
    def time_caller(self) -> Iterator[None]:
        """Times a `with` block in which a caller has the thread."""
        began = time.perf_counter()
        yield
        self._with_caller += time.perf_counter() - began

    @property
    def _away_seconds(self) -> float:
        return self._programs.waiting_seconds + self._with_caller
