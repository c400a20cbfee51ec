"""A million pictures on paper: time, cost, storage and traffic on devices that were not measured.

    python scripts/measure/scale_on_paper.py
    python scripts/measure/scale_on_paper.py --share 0.2 --compile-seconds 60

Everything printed is an ESTIMATE, derived from

counted     operations of the network's table, bytes of arrays: exact
published   peaks and memory bandwidths of chips
measured    what the host does for a picture, on the machine that `docs/scale.json` names
            (`scripts/measure/measure_host_side.py`), and `docs/benchmarks/` on CPUs
assumed     the share of a chip's peak that a step reaches, seconds of compilation, sizes of inputs;
            no accelerator has been measured
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruled_options import Parser, following

from nst_jax.bench.operations import Operations, step_operations
from nst_jax.engine.plan.levels import Level, pyramid
from nst_jax.engine.plan.memory_model import PICTURES_OF_A_STATE
from nst_jax.engine.plan.slots import WAVE_JOBS
from nst_jax.forecast.chips import published_peak
from nst_jax.request.options import JobOptions, Options, with_canonical_taps
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.taps import VGG16, poolings_before
from nst_jax.request.validators import Validator, whole_number
from nst_jax.request.validators import number_where as number_that

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs" / "scale.json"
BENCHMARK = ROOT / "docs" / "benchmarks" / "amd-epyc-2-cores.json"

SIZE = (512, 512)
"""The largest that a picture of 512 px is; one of 4:3 is three quarters of it."""

BANDWIDTHS: Mapping[str, float] = {
    "NVIDIA H100 80GB HBM3": 3.35e12,
    "TPU v5e": 8.1e11,
    "TPU v5p": 2.8e12,
}
"""Of a chip's memory, in bytes a second, published where its peak is."""

_DECODERS = 2
_LISTED_AT_ONCE = 1000
_LINES_TOGETHER = 256
_FEATURE_BYTES = 2
_PICTURE_BYTES = 3 * 4
_HOUR_S = 3600


@dataclasses.dataclass(frozen=True)
class System:
    """Something to rent.

    Attributes:
        name: What to call it.
        kind: Its chip, as JAX calls it.
        chips: Of one worker, which spreads each batch over them.
        workers: Processes, each with a share of the jobs.
    """

    name: str
    kind: str
    chips: int
    workers: int


SYSTEMS = (
    System("one H100 SXM", "NVIDIA H100 80GB HBM3", 1, 1),
    System("one v5e-8 host", "TPU v5e", 8, 1),
    System("v5p, 16 chips on 4 hosts", "TPU v5p", 4, 4),
    System("1,000 spot v5e-1", "TPU v5e", 1, 1000),
)


@dataclasses.dataclass(frozen=True)
class Assumed:
    """What nobody has measured.

    Attributes:
        share: Of a chip's peak that a step reaches.
        compile_seconds: All programs of the schedule on a fresh machine.
        input_bytes: Of one content or style.
        styles: How many there are; the manifest is in their order, so that a worker looks at
            each of its own once.
        jobs: Of the batch.
    """

    share: float = 0.4
    compile_seconds: float = 300.0
    input_bytes: float = 500e3
    styles: int = 300
    jobs: int = 1_000_000


_RULES: Mapping[str, Validator] = {
    "share": number_that("a number from 0.02 to 1", lambda value: 0.02 <= value <= 1),
    "compile_seconds": number_that("a number from 0 to 1e9", lambda value: 0 <= value <= 1e9),
    "input_bytes": number_that("a number from 0 to 1e12", lambda value: 0 <= value <= 1e12),
    "styles": whole_number(1, 10**12),
    "jobs": whole_number(1, 10**12),
}
"""What each option may be."""


def jobs_of(system: System, assumed: Assumed) -> float:
    """Of one worker that has any."""
    return max(assumed.jobs / system.workers, 1.0)


# ---- What a picture takes of the device: counted.


def ladder() -> tuple[Level, ...]:
    """The stages of the default schedule at 512 px."""
    return pyramid(SIZE, Options(size=SIZE[0]), _own())


def _own() -> JobOptions:
    return with_canonical_taps(Options(), VGG16)


def channels() -> dict[str, tuple[int, int]]:
    """Channels in and out of each convolution of VGG-16."""
    widths, table = 3, {}
    for name in VGG16.convolutions:
        out = VGG16.channels[int(name[4]) - 1]
        table[name] = widths, out
        widths = out
    return table


def operations(stage: Level) -> int:
    """Of one step of one picture: convolutions by their definition, and products of statistics."""
    counted = _counted(stage)
    return counted.direct_convolutions + counted.grams


def _counted(stage: Level) -> Operations:
    """W² with its 128 strong directions counts as Gram matrices do."""
    own = _own()
    return step_operations(
        VGG16,
        channels(),
        content_taps=own.content_taps,
        style_taps=own.style_taps,
        size=stage.size,
        canvas=stage.canvas,
        use_winograd=False,
    )


def picture_operations() -> int:
    """Of a whole picture."""
    return sum(stage.steps * operations(stage) for stage in ladder())


def roofline_seconds(stage: Level, peak: float, bandwidth: float) -> float:
    """The least that a step takes: each convolution bound by arithmetic or by memory.

    Forth and back it reads its input and writes its output once, in bfloat16; all else is fused.
    """
    height, width = stage.canvas
    total = _counted(stage).grams / peak
    for name, (into, out) in channels().items():
        if name in ("conv5_2", "conv5_3"):  # behind the deepest tap
            continue
        pixels = (height * width) >> (2 * poolings_before(name))
        work = 2 * 2 * 9 * into * out * pixels / peak
        traffic = 2 * _FEATURE_BYTES * (into + out) * pixels / bandwidth
        total += max(work, traffic)
    return total


def roofline_share(kind: str) -> float:
    """The largest share of a chip's peak that a picture's steps could reach."""
    peak, bandwidth = _peak(kind), BANDWIDTHS[kind]
    least = sum(one.steps * roofline_seconds(one, peak, bandwidth) for one in ladder())
    return picture_operations() / (peak * least)


def _peak(kind: str) -> float:
    found = published_peak(kind, "bfloat16")
    assert found is not None, kind
    return found.operations_per_second


# ---- What it comes to: derived.


@dataclasses.dataclass(frozen=True)
class Worker:
    """What one worker of a system does with a picture, in seconds.

    Attributes:
        device: Its chips.
        driver: The thread that drives them, while they wait.
        decoders: The threads that decode, ahead of it.
        writer: The thread that encodes and writes, behind it.
    """

    device: float
    driver: float
    decoders: float
    writer: float

    @property
    def seconds(self) -> float:
        """From picture to picture: the slowest of three that work side by side."""
        return max(self.device + self.driver, self.decoders, self.writer)

    @property
    def bound_by(self) -> str:
        """Which of them that is."""
        if self.seconds == self.decoders:
            return "decoding"
        if self.seconds == self.writer:
            return "encoding"
        return "device" if self.device >= self.driver else "driving thread"

    @property
    def busy(self) -> float:
        """Share of the time in which the device steps."""
        return self.device / self.seconds


def worker(system: System, assumed: Assumed, measured: Mapping[str, Any]) -> Worker:
    """One worker of a system, with host cores like the measured one's."""
    host = measured["seconds_a_picture"]
    rate = system.chips * _peak(system.kind) * assumed.share
    jobs_a_style = max(jobs_of(system, assumed) / assumed.styles, 1.0)
    return Worker(
        device=picture_operations() / rate,
        driver=host["carry"] + host["style"] / jobs_a_style,
        decoders=host["decode"] / _DECODERS,
        writer=host["encode"],
    )


def start_seconds(
    system: System, assumed: Assumed, measured: Mapping[str, Any], *, lines: int
) -> float:
    """One start, without compilation: rows of the manifest, lines of the ledger, own inputs."""
    row = dict(measured["seconds_a_job_at_start"])
    line = row.pop("ledger_line")
    own = jobs_of(system, assumed) * measured["seconds_a_picture"]["examine"] / _DECODERS
    return sum(row.values()) * assumed.jobs + line * lines + own


def hours(system: System, assumed: Assumed, measured: Mapping[str, Any]) -> float:
    """From the first start to the last picture, nothing going wrong."""
    each = worker(system, assumed, measured).seconds
    rendering = jobs_of(system, assumed) * each
    starting = start_seconds(system, assumed, measured, lines=0) + assumed.compile_seconds
    return (rendering + starting) / _HOUR_S


# ---- Tables.

Rows = Iterable[Sequence[object]]


def table(head: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def number(value: float) -> str:
    """Three digits, as people write them."""
    if value >= 1000:
        return f"{round(value, 2 - len(str(int(value)))):,.0f}"
    return f"{value:.3g}"


def work_table() -> str:
    """The default schedule, counted."""
    head = ["level, px", "steps", "GFLOP a step", "TFLOP"]
    rows = [
        (
            max(one.size),
            one.steps,
            number(operations(one) / 1e9),
            number(one.steps * operations(one) / 1e12),
        )
        for one in ladder()
    ]
    steps = sum(one.steps for one in ladder())
    return table(head, [*rows, ("picture", steps, "", number(picture_operations() / 1e12))])


def chip_table(assumed: Assumed) -> str:
    """Steps of the last level by chip."""
    last = ladder()[-1]
    head = [
        "chip",
        "peak, TFLOP/s",
        "memory, TB/s",
        "share of peak at the roofline",
        f"step of 512 px at an ASSUMED {assumed.share:.0%}, ms",
        "traffic that leaves room for, GB a step",
    ]
    rows = []
    for kind, bandwidth in BANDWIDTHS.items():
        seconds = operations(last) / (_peak(kind) * assumed.share)
        rows.append(
            (
                kind,
                number(_peak(kind) / 1e12),
                number(bandwidth / 1e12),
                f"{roofline_share(kind):.0%}",
                number(seconds * 1e3),
                number(seconds * bandwidth / 1e9),
            )
        )
    return table(head, rows)


def time_table(assumed: Assumed, measured: Mapping[str, Any]) -> str:
    """Time and chip-hours of a million pictures."""
    head = [
        "system",
        "ASSUMED share of peak",
        "device, s a picture",
        "driving thread, s",
        "bound by",
        "device busy",
        "pictures/s",
        "hours",
        "chip-hours",
    ]
    return table(head, _time_rows(assumed, measured))


def _time_rows(assumed: Assumed, measured: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for system in SYSTEMS:
        for share in sorted({assumed.share / 2, assumed.share, min(assumed.share * 1.5, 1.0)}):
            given = dataclasses.replace(assumed, share=share)
            one, time = worker(system, given, measured), hours(system, given, measured)
            yield (
                system.name,
                f"{share:.0%}",
                number(one.device),
                number(one.driver),
                one.bound_by,
                f"{one.busy:.0%}",
                number(system.workers / one.seconds),
                number(time),
                number(time * system.workers * system.chips),
            )


def storage_table(assumed: Assumed, measured: Mapping[str, Any]) -> str:
    """Bytes and requests."""
    png, line = measured["png_bytes"], measured["ledger_line_bytes"]
    requests = measured["requests_a_picture"]
    state = PICTURES_OF_A_STATE["adam"] * _PICTURE_BYTES * SIZE[0] * SIZE[1]
    downloads = requests["get"] * assumed.input_bytes
    rows = [
        ("picture, PNG", number(png / 1e3), number(png * assumed.jobs / 1e9), "measured, one"),
        ("line of the ledger", number(line / 1e3), number(line * assumed.jobs / 1e9), "measured"),
        (
            f"downloads: {requests['get']:g} of {assumed.input_bytes / 1e3:g} kB (ASSUMED)",
            number(downloads / 1e3),
            number(downloads * assumed.jobs / 1e9),
            "derived",
        ),
        ("state while under way", number(state / 1e3), "", "counted"),
        (f"state of a wave of {WAVE_JOBS}", number(WAVE_JOBS * state / 1e3), "", "counted"),
    ]
    rows += [
        (f"requests: {kind}", "", "", f"{each:g} a picture, counted")
        for kind, each in requests.items()
    ]
    return table(["what", "kB each", f"GB for {assumed.jobs:,}", "how known"], rows)


def start_table(assumed: Assumed, measured: Mapping[str, Any]) -> str:
    """What every worker does at every start, before the first step."""
    row = measured["seconds_a_job_at_start"]
    reading = {name: each * assumed.jobs for name, each in row.items()}
    parts = assumed.jobs / _LINES_TOGETHER
    size = measured["ledger_line_bytes"] * assumed.jobs / 1e9
    rows = [
        ("read and check the manifest", number(reading["manifest"] + reading["outputs"])),
        ("deal the jobs out", number(reading["deal"])),
        ("digest, and what the plan needs", number(reading["digest"] + reading["foresee"])),
        (f"read the full ledger, {number(size)} GB", number(reading["ledger_line"])),
    ]
    note = (
        f"In a store the full ledger is {number(parts)} parts of {_LINES_TOGETHER} lines and "
        f"more; a restart also lists the whole output folder, "
        f"{number(assumed.jobs / _LISTED_AT_ONCE)} requests of {_LISTED_AT_ONCE} names. A restart "
        f"of each of 1,000 workers at half of the batch reads {number(size / 2)} TB of ledger."
    )
    return table([f"at each start, {assumed.jobs:,} jobs", "CPU s, derived"], rows) + "\n\n" + note


def traffic_table(assumed: Assumed, measured: Mapping[str, Any]) -> str:
    """What all workers of a system ask of a store together."""
    requests = measured["requests_a_picture"]
    head = ["system", "puts/s", "gets and heads/s", "down, MB/s", "up, MB/s", "states, MB/s"]
    state = WAVE_JOBS * PICTURES_OF_A_STATE["adam"] * _PICTURE_BYTES * SIZE[0] * SIZE[1]
    rows = []
    for system in SYSTEMS:
        rate = system.workers / worker(system, assumed, measured).seconds
        rows.append(
            (
                system.name,
                number(rate * requests["put"]),
                number(rate * (requests["get"] + requests["head"])),
                number(rate * requests["get"] * assumed.input_bytes / 1e6),
                number(rate * (measured["png_bytes"] + measured["ledger_line_bytes"]) / 1e6),
                number(system.workers * state / RunPolicy().checkpoint_every / 1e6),
            )
        )
    return table(head, rows)


def cpu_line() -> str:
    """The measured CPU, and what follows for 512 px."""
    run = json.loads(BENCHMARK.read_bytes())["runs"][-1]
    counted = run["operations_per_image_step"]
    rate = (counted["direct_convolutions"] + counted["grams"]) * run["image_steps_per_second"]
    seconds = picture_operations() / rate
    return (
        f"{run['hardware']['kind']}, {run['hardware']['cores']} cores: "
        f"{run['image_steps_per_second']:.3g} image-steps a second at {run['size']} px, "
        f"{run['style_loss']} (MEASURED); so a picture of 512 px takes {number(seconds)} s and a "
        f"million {number(seconds * 1e6 / _HOUR_S / 24 / 365)} years (derived)."
    )


def sections(assumed: Assumed, measured: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and text of each table."""
    yield "Work of one picture (counted)", work_table()
    yield "Chips (ESTIMATE: published peaks, assumed share)", chip_table(assumed)
    yield f"{assumed.jobs:,} pictures (ESTIMATE)", time_table(assumed, measured)
    yield "A CPU", cpu_line()
    yield "Storage and traffic of a picture", storage_table(assumed, measured)
    yield "A start", start_table(assumed, measured)
    yield "A store (ESTIMATE)", traffic_table(assumed, measured)


def main() -> None:
    """Prints the tables."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    for field in dataclasses.fields(Assumed):
        name = f"--{field.name.replace('_', '-')}"
        value = following(_RULES[field.name], type(field.default))
        parser.add_argument(name, type=value, default=field.default)
    assumed = Assumed(**vars(parser.parse_args()))
    measured = json.loads(MEASURED.read_bytes())
    for title, text in sections(assumed, measured):
        sys.stdout.write(f"### {title}\n\n{text}\n\n")


if __name__ == "__main__":
    main()
