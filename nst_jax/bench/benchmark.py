"""One benchmark from its settings to its report.

for each batch size   the engine's step, and the peer's forms, in turns
for each level        of the default schedule: its own rate, hence images an hour
for each number       of jobs: rendered from start to end
"""

import functools
import importlib.metadata
import itertools
import platform
import resource
import statistics
import sys
from pathlib import Path
from typing import Any

from nst_jax.bench.peak import find_peak
from nst_jax.bench.report import (
    JobsMeasurement,
    LevelRate,
    Measurement,
    PeerMeasurement,
    Report,
)
from nst_jax.bench.settings import PeerForm, Settings
from nst_jax.bench.timing import Stats, interleave, ratio, summarize, time_call
from nst_jax.bench.torch_peer import TorchPeer
from nst_jax.bench.workload import Harness, Pair, Workload, open_pair, synthetic_pair
from nst_jax.engine.plan.host_limits import usable_cores
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.forecast.chips import Peak
from nst_jax.request.options import Options

_CHUNK_S = 1.0  # long enough that starting a chunk and the clock cost nothing
_MOST_STEPS = 200
_JOB_STEPS = 4  # a level, where numbers of jobs are compared: so few that the rest shows


def benchmark(
    settings: Settings, progress: Progress | None = None, *, product_side: int | None = None
) -> Report:
    """Measures all that the settings ask for, on one device.

    Args:
        settings: What to measure.
        progress: Told what is being done.
        product_side: Of the matrix product that measures an unknown peak; None: what fills
            the device.

    Raises:
        OptionError: The peer can't run on this device.
        WeightsError: There are no such weights.
        PictureError: A picture is missing or too narrow.
    """
    return _Benchmark(settings, progress or NullProgress(), product_side).report()


def _options(settings: Settings) -> Options:
    """The default look; beside a peer Grams, which are its mathematics, by the same schedule."""
    return Options(
        preset="gram" if settings.peer else "default",
        weights=settings.weights,
        dtype=settings.dtype,
        steps=Options().steps,
    )


class _Benchmark:
    def __init__(self, settings: Settings, progress: Progress, product_side: int | None) -> None:
        self._settings = settings
        self._progress = progress
        self._pair = _pair(settings)
        options = _options(settings)
        self._style_loss = options.style_loss
        self._harness = Harness(options, progress)
        self._peak = find_peak(self._harness.device, self._harness.dtype, side=product_side)
        self._peer_versions: dict[str, str] = {}
        self._operations: dict[str, int] = {}
        self._memory: dict[str, Any] = {"bytes": 0, "what": ""}

    def report(self) -> Report:
        settings = self._settings
        batch_sizes = settings.batch_sizes or (None,)
        measurements = tuple(self._measure_batch(batch_size) for batch_size in batch_sizes)
        levels = self._level_rates(
            min(measurements, key=lambda one: one.seconds_per_image_step.median)
        )
        return Report(
            size=settings.size,
            dtype=self._harness.dtype,
            rounds=settings.rounds,
            pictures=f"{settings.content} {settings.style}".strip() or "synthetic",
            weights=self._harness.session.weights.source,
            style_loss=self._style_loss,
            hardware=_hardware(
                self._harness.device, self._harness.session.devices.count, self._peak
            ),
            versions=_versions() | self._peer_versions,
            operations=self._operations,
            peak_memory=self._memory,
            levels=levels,
            measurements=measurements,
            jobs=tuple(self._measure_jobs(count) for count in settings.jobs),
            peer=settings.peer or None,
        )

    def _measure_batch(self, batch_size: int | None) -> Measurement:
        """One batch size: ours and the peer's forms in turns."""
        workload = self._harness.workload(self._pair, self._settings.size, batch_size)
        self._progress.note(f"{self._settings.size} px, {workload.batch_size} a batch")
        self._operations = workload.operations.record()
        steps = self._chunk_steps(workload)
        self._memory = _peak_memory(self._harness.device, peer_was_here=bool(self._peer_versions))
        rivals, notes = self._open_peers(workload)
        subjects = {"ours": workload, **rivals}
        seconds = interleave(
            {name: functools.partial(one.run, steps) for name, one in subjects.items()},
            self._settings.rounds,
        )
        transfer = time_call(workload.fetch_images)
        for rival in rivals.values():
            rival.release_memory()
        each = {
            name: [chunk / steps / one.batch_size for chunk in seconds[name]]
            for name, one in subjects.items()
        }
        ours = summarize(each["ours"])
        peers = [
            PeerMeasurement(
                form=rival.form,
                dtype=rival.dtype,
                seconds_per_image_step=summarize(each[name]),
                ratio=ratio(each[name], each["ours"]),
            )
            for name, rival in rivals.items()
        ]
        return Measurement(
            batch_size=workload.batch_size,
            canvas=workload.canvas,
            steps=steps,
            seconds_per_image_step=ours,
            share_of_peak_direct=self._share(workload.operations.direct_convolutions, ours),
            share_of_peak_executed=self._share(workload.operations.executed, ours),
            compile_seconds=workload.compile_seconds,
            phases={
                "compile": sum(workload.compile_seconds.values()),
                "targets": workload.target_seconds,
                "steps": statistics.median(seconds["ours"]),
                "transfer": transfer,
            },
            program_bytes=workload.program_bytes,
            peers=(*peers, *notes),
        )

    def _chunk_steps(self, workload: Workload) -> int:
        """Steps of a chunk: as asked for, or as many as last about a second."""
        if self._settings.steps != "auto":
            return self._settings.steps
        once = min(time_call(lambda: workload.run(1)) for _ in range(2))
        return max(1, min(_MOST_STEPS, round(_CHUNK_S / once)))

    def _share(self, operations: int, seconds: Stats) -> Stats:
        """Operations a second over the peak."""
        return seconds.map(lambda each: operations / each / self._peak.operations_per_second)

    def _open_peers(self, workload: Workload) -> tuple[dict[str, TorchPeer], list[PeerMeasurement]]:
        """The peer's programs that run here by name, and those that don't with the reason."""
        settings = self._settings
        dtypes = settings.peer_dtypes or (self._harness.dtype,)
        ready: dict[str, TorchPeer] = {}
        notes = []
        for dtype, form in itertools.product(dtypes, settings.peer_forms if settings.peer else ()):
            name = f"{form} {dtype}"
            self._progress.note(f"preparing {settings.peer} {name}")
            peer = self._open_torch_peer(workload, form, dtype)
            try:
                peer.run(1)
            except Exception as error:  # a missing compiler, or too little memory: many names
                notes.append(PeerMeasurement(form=form, dtype=dtype, note=_first_line(error)))
                peer.release_memory()
            else:
                ready[name] = peer
        return ready, notes

    def _open_torch_peer(self, workload: Workload, form: PeerForm, dtype: str) -> TorchPeer:
        peer = TorchPeer(
            workload.weights,
            workload.own,
            workload.pair.content,
            workload.pair.style,
            batch_size=self._settings.peer_batch_size or workload.batch_size,
            platform=self._harness.device.platform,
            dtype=dtype,
            form=form,
        )
        self._peer_versions = {"torch": peer.version, "torch_threads": str(peer.threads)}
        return peer

    def _level_rates(self, best: Measurement) -> tuple[LevelRate, ...]:
        """The rate at each level of the default schedule.

        The planner chooses the batch where the user did not; the last level is known already.
        """
        fixed = best.batch_size if self._settings.batch_sizes else None
        rates = []
        for size, steps in self._harness.level_sizes(self._pair, self._settings.size):
            if size == self._settings.size:
                slots, seconds = best.batch_size, best.seconds_per_image_step.median
            else:
                slots, seconds = self._measure_rate(size, fixed)
            rates.append(
                LevelRate(size=size, steps=steps, batch_size=slots, seconds_per_image_step=seconds)
            )
        return tuple(rates)

    def _measure_rate(self, size: int, batch_size: int | None) -> tuple[int, float]:
        """Slots and the median seconds of an image-step at another size."""
        workload = self._harness.workload(self._pair, size, batch_size)
        steps = self._chunk_steps(workload)
        seconds = interleave({"ours": lambda: workload.run(steps)}, self._settings.rounds)["ours"]
        return workload.batch_size, statistics.median(seconds) / steps / workload.batch_size

    def _measure_jobs(self, count: int) -> JobsMeasurement:
        """So many jobs from start to end; every round compiles, as every run of a user does."""
        self._progress.note(f"{count} jobs from start to end")
        pairs = [self._job_pair(index) for index in range(count)]
        totals, compiled = [], []
        for _ in range(1 + self._settings.rounds):
            compilation: list[float] = []
            seconds = time_call(
                lambda into=compilation: into.append(
                    self._harness.render(pairs, self._settings.size, _JOB_STEPS)
                )
            )
            totals.append(seconds / count)
            compiled.append((seconds - compilation[0]) / count)
        return JobsMeasurement(
            jobs=count,
            steps=_JOB_STEPS,
            seconds_per_job=summarize(totals[1:]),
            seconds_per_job_compiled=summarize(compiled[1:]),
        )

    def _job_pair(self, index: int) -> Pair:
        """A pair of its own for each job, so that nothing is made once for all of them."""
        if self._settings.content:
            return self._pair
        return synthetic_pair(self._settings.size, seed=index)


def _pair(settings: Settings) -> Pair:
    if settings.content:
        return open_pair(Path(settings.content), Path(settings.style))
    return synthetic_pair(settings.size)


def _hardware(device: Any, count: int, peak: Peak) -> dict[str, Any]:
    return {
        "platform": device.platform,
        "kind": _processor() if device.platform == "cpu" else device.device_kind,
        "devices": count,
        "cores": usable_cores(),
        "peak": {
            "operations_per_second": peak.operations_per_second,
            "source": peak.source,
            "measured": peak.measured,
        },
    }


def _processor() -> str:
    """What the host's processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    packages = ("nst-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {
        package: importlib.metadata.version(package) for package in packages
    }


def _peak_memory(device: Any, *, peer_was_here: bool) -> dict[str, Any]:
    """The most memory so far: what JAX used of the device, or on a CPU the whole process's."""
    statistics_of_device = device.memory_stats() or {}
    if "peak_bytes_in_use" in statistics_of_device:
        return {
            "bytes": int(statistics_of_device["peak_bytes_in_use"]),
            "what": "in use on the device at once, arrays and programs' temporaries",
        }
    unit = 1 if sys.platform == "darwin" else 1024
    others = "Python, its packages and the peer" if peer_was_here else "Python and its packages"
    return {
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "what": f"resident in the whole process, {others} included",
    }


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0]}"[:200]
