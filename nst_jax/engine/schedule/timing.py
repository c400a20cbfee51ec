"""Where a run's seconds go: in steps, in targets and other work beside them, in compilation."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence

from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.schedule.active_job import ActiveJob


@dataclasses.dataclass
class Timing:
    """Where the scheduler's seconds went, over its life."""

    steps: float = 0.0
    targets: float = 0.0
    compilation: float = 0.0
    image_steps: int = 0


@dataclasses.dataclass
class Lap:
    """Seconds of a timed block, compilation apart."""

    seconds: float = 0.0


class Stopwatch:
    """Times blocks of the driving thread; compilation apart, shared by the jobs it is for.

    Attributes:
        timing: Seconds so far.
    """

    def __init__(self, programs: ProgramCache, timing: Timing | None = None) -> None:
        """Starts at 0, or adds to what was counted before."""
        self.timing = timing or Timing()
        self._programs = programs

    @contextlib.contextmanager
    def measure(self, jobs: Sequence[ActiveJob]) -> Iterator[Lap]:
        """Times a `with` block that works for these jobs."""
        lap = Lap()
        compiled_before, began = self._compile_seconds, time.perf_counter()
        yield lap
        compilation = self._compile_seconds - compiled_before
        lap.seconds = time.perf_counter() - began - compilation
        self.timing.compilation += compilation
        for one in jobs:
            one.compile_seconds += compilation / len(jobs)

    @contextlib.contextmanager
    def beside_steps(self, jobs: Sequence[ActiveJob]) -> Iterator[None]:
        """Times a `with` block in which no step is taken."""
        with self.measure(jobs) as lap:
            yield
        self.timing.targets += lap.seconds

    @property
    def _compile_seconds(self) -> float:
        return sum(self._programs.compiled.values(), 0.0)
