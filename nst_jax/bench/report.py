"""What a benchmark found, as records and as JSON has them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nst_jax.bench.timing import Stats, round_to_digits


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeerMeasurement:
    """One form of the peer at one batch size.

    Attributes:
        form: `eager` or `compile`.
        dtype: What its network computes in.
        seconds_per_image_step: Of its loss and gradient; None where it did not run.
        ratio: Its seconds over ours, round by round; above 1: ours is faster.
        note: Why it did not run.
    """

    form: str
    dtype: str
    seconds_per_image_step: Stats | None = None
    ratio: Stats | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Its form and data type."""
        return f"{self.form} {self.dtype}"

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"image_steps_per_second": _rate(self.seconds_per_image_step)} | _fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One batch size.

    Attributes:
        batch_size: Slots of the step program.
        canvas: Height and width of its shape in pixels.
        steps: Steps in one timed chunk.
        seconds_per_image_step: Of a chunk, over its steps and slots.
        share_of_peak_direct: Direct-convolution operations a second over the peak. A faster
            algorithm than the direct one can bring it above 1.
        share_of_peak_executed: Executed operations a second over the peak.
        compile_seconds: Of the workload's programs, by name.
        phases: Seconds of `compile`, `targets` (from decoded pictures to problems on the
            device), `steps` (one chunk) and `transfer` (all images to the host).
        program_bytes: Arguments, results and temporary memory of the step program, by the
            compiler's account.
        peers: The peer's forms, in each of its data types.
    """

    batch_size: int
    canvas: tuple[int, int]
    steps: int
    seconds_per_image_step: Stats
    share_of_peak_direct: Stats
    share_of_peak_executed: Stats
    compile_seconds: Mapping[str, float]
    phases: Mapping[str, float]
    program_bytes: int | None
    peers: tuple[PeerMeasurement, ...] = ()

    @property
    def image_steps_per_second(self) -> float:
        return 1 / self.seconds_per_image_step.median

    @property
    def best_peer(self) -> PeerMeasurement | None:
        """The peer's fastest form and data type; None where none ran."""
        ran = [peer for peer in self.peers if peer.seconds_per_image_step]
        return min(ran, key=_seconds, default=None)

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        rate = {"image_steps_per_second": _rate(self.seconds_per_image_step)}
        return rate | _fields(self) | {"peers": [peer.record() for peer in self.peers]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobsMeasurement:
    """Jobs rendered from start to end: opening, targets, steps, all levels, pictures back.

    Attributes:
        jobs: How many together.
        steps: Steps a level.
        seconds_per_job: Everything, compilation included.
        seconds_per_job_compiled: The same without compilation.
    """

    jobs: int
    steps: int
    seconds_per_job: Stats
    seconds_per_job_compiled: Stats


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelRate:
    """The rate at one level of the default schedule, compilation and targets apart."""

    size: int
    steps: int
    batch_size: int
    seconds_per_image_step: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """All that one benchmark found.

    Attributes:
        size: Long edge in pixels.
        dtype: What the network computes in.
        rounds: Timed rounds of everything.
        pictures: `synthetic` or the two file names.
        weights: Who published the network.
        style_loss: How a tap's style is described.
        hardware: The device, its peak with its source, the host's cores.
        versions: Of Python and the packages.
        operations: Of one step of one image; see `nst_jax.bench.operations`.
        peak_memory: `bytes` and in words `what`.
        levels: The default schedule.
        measurements: By batch size.
        jobs: By number of jobs.
        peer: Who was raced; None: nobody.
    """

    size: int
    dtype: str
    rounds: int
    pictures: str
    weights: str
    style_loss: str
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]
    operations: Mapping[str, int]
    peak_memory: Mapping[str, Any]
    levels: tuple[LevelRate, ...]
    measurements: tuple[Measurement, ...]
    jobs: tuple[JobsMeasurement, ...] = ()
    peer: str | None = None

    @property
    def best(self) -> Measurement:
        """The batch size of the highest rate: what the headline speaks of."""
        return min(self.measurements, key=_seconds)

    @property
    def images_per_hour(self) -> float:
        """At the default schedule, compilation and targets apart."""
        return 3600 / sum(level.steps * level.seconds_per_image_step for level in self.levels)

    @property
    def ratio(self) -> float | None:
        """The best peer's seconds over ours at the headline's batch size."""
        peer = self.best.best_peer
        return peer.ratio.median if peer and peer.ratio else None

    def record(self) -> dict[str, Any]:
        """As `bench --json` prints it: the headline's numbers first, everything else below."""
        best, peer = self.best, self.best.best_peer
        return {
            "image_steps_per_second": _rate(best.seconds_per_image_step),
            "peer": self.peer,
            "ratio": None if self.ratio is None else round_to_digits(self.ratio),
            "peer_form": peer.form if peer else None,
            "peer_dtype": peer.dtype if peer else None,
            "peer_image_steps_per_second": _rate(peer.seconds_per_image_step) if peer else None,
            "images_per_hour": round_to_digits(self.images_per_hour),
            "share_of_peak_direct": round_to_digits(best.share_of_peak_direct.median),
            "share_of_peak_executed": round_to_digits(best.share_of_peak_executed.median),
            "compile_seconds": round_to_digits(best.phases["compile"]),
            "peak_memory_bytes": self.peak_memory["bytes"],
            "batch_size": best.batch_size,
            "size": self.size,
            "dtype": self.dtype,
            "style_loss": self.style_loss,
            "rounds": self.rounds,
            "pictures": self.pictures,
            "weights": self.weights,
            "phases": _json(best.phases),
            "operations_per_image_step": dict(self.operations),
            "hardware": dict(self.hardware),
            "versions": dict(self.versions),
            "peak_memory": dict(self.peak_memory),
            "levels": _json(self.levels),
            "batch_sizes": [measurement.record() for measurement in self.measurements],
            "jobs": _json(self.jobs),
        }


def _seconds(measured: Measurement | PeerMeasurement) -> float:
    assert measured.seconds_per_image_step is not None
    return measured.seconds_per_image_step.median


def _rate(seconds: Stats | None) -> float | None:
    return None if seconds is None else round_to_digits(1 / seconds.median)


def _fields(measured: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON has them."""
    names = (field.name for field in dataclasses.fields(measured))
    return {name: _json(getattr(measured, name)) for name in names}


def _json(value: Any) -> Any:
    """A value as JSON has it: numbers to six digits, dataclasses as their fields."""
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {name: _json(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_json(each) for each in value]
    return round_to_digits(value) if isinstance(value, float) else value
