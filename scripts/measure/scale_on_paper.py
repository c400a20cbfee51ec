"""A million pictures on paper: time, storage and traffic on devices that were not measured.

    python scripts/measure/scale_on_paper.py [--share 0.2] [--styles 1000000] ...

Everything printed is an ESTIMATE, derived from

counted     operations of the network's table, bytes of arrays: exact
published   peaks and memory bandwidths of chips
measured    what the host does for a picture, on the machine that `docs/scale.json` names
            (`scripts/measure/host.py picture`)
assumed     the share of a chip's peak that a step reaches, seconds of compilation, sizes of inputs;
            no accelerator has been measured
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from nst_jax.bench.operations import step_operations
from nst_jax.engine.plan.levels import Level, make_levels
from nst_jax.forecast.chips import published_peak
from nst_jax.request.options import Options, with_canonical_taps
from nst_jax.request.taps import VGG16

MEASURED = Path(__file__).parents[2] / "docs" / "scale.json"
SIZE = (512, 512)
"""The largest that a picture of 512 px is; one of 4:3 is three quarters of it."""

BANDWIDTHS = {"NVIDIA H100 80GB HBM3": 3.35e12, "TPU v5e": 8.1e11, "TPU v5p": 2.8e12}
"""Of a chip's memory, in bytes a second, published where its peak is."""

_OWN = with_canonical_taps(Options(), VGG16)
_DECODERS = 2
_HOUR_S = 3600


class System(NamedTuple):
    """Something to rent: its chip as JAX calls it, chips of one worker, and processes."""

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


class Assumed(NamedTuple):
    """What nobody has measured."""

    share: float = 0.4
    """Of a chip's peak that a step reaches."""
    compile_seconds: float = 300.0
    """All programs of the schedule on a fresh machine."""
    styles: int = 300
    """The manifest is in their order, so that a worker looks at each of its own once."""
    jobs: int = 1_000_000

    def jobs_of(self, system: System) -> float:
        """Of one worker that has any."""
        return max(self.jobs / system.workers, 1.0)


# ---- What a picture takes of the device: counted.


def ladder() -> tuple[Level, ...]:
    """The levels of the default schedule at 512 px."""
    return make_levels(SIZE, Options(size=SIZE[0]), _OWN)


def channels() -> dict[str, tuple[int, int]]:
    """Channels in and out of each convolution of VGG-16."""
    outs = [VGG16.channels[int(name[4]) - 1] for name in VGG16.convolutions]
    return dict(zip(VGG16.convolutions, zip([3, *outs], outs, strict=False), strict=True))


def operations(level: Level) -> int:
    """Of one step of one picture: convolutions by their definition, and products of statistics.

    W² with its 128 strong directions counts as Gram matrices do.
    """
    counted = step_operations(
        VGG16,
        channels(),
        content_taps=_OWN.content_taps,
        style_taps=_OWN.style_taps,
        size=level.size,
        canvas=level.canvas,
        use_winograd=False,
    )
    return counted.direct_convolutions + counted.grams


def picture_operations() -> int:
    """Of a whole picture."""
    return sum(level.steps * operations(level) for level in ladder())


def peak_of(kind: str) -> float:
    """Published operations a second in bfloat16."""
    found = published_peak(kind, "bfloat16")
    assert found is not None, kind
    return found.operations_per_second


# ---- What it comes to: derived.


class Worker(NamedTuple):
    """What one worker does with a picture, in seconds of each that works beside the others."""

    device: float
    driver: float
    """The thread that drives the device, a chunk ahead of it."""
    decoders: float
    writer: float

    @property
    def seconds(self) -> float:
        """From picture to picture: the slowest of those that work side by side."""
        return max(self)

    @property
    def bound_by(self) -> str:
        """Which of them that is."""
        return ("device", "driving thread", "decoding", "encoding")[self.index(self.seconds)]


def worker(system: System, assumed: Assumed, measured: Mapping[str, Any]) -> Worker:
    """One worker of a system, with host cores like the measured one's."""
    host = measured["seconds_a_picture"]
    rate = system.chips * peak_of(system.kind) * assumed.share
    jobs_a_style = max(assumed.jobs_of(system) / assumed.styles, 1.0)
    driver, loading = (
        host[name] + host[f"{name}_style"] / jobs_a_style for name in ("driving", "load")
    )
    return Worker(picture_operations() / rate, driver, loading / _DECODERS, host["encode"])


def hours(system: System, assumed: Assumed, measured: Mapping[str, Any]) -> float:
    """From the first start, which reads the whole manifest, to the last picture."""
    starting = measured["seconds_a_job_at_start"]["row"] * assumed.jobs + assumed.compile_seconds
    each = worker(system, assumed, measured).seconds
    return (assumed.jobs_of(system) * each + starting) / _HOUR_S


# ---- Tables.


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown, with three digits of each number, as people write them."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_text, line))} |" for line in lines)


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value >= 1000:
        return f"{round(value, 2 - len(str(int(value)))):,.0f}"
    return f"{value:.3g}"


def work_table() -> str:
    """The default schedule, counted."""
    rows: list[Sequence[object]] = []
    for level in ladder():
        each = operations(level)
        rows.append((max(level.size), level.steps, each / 1e9, level.steps * each / 1e12))
    steps = sum(level.steps for level in ladder())
    rows.append(("picture", steps, "", picture_operations() / 1e12))
    return table(["level, px", "steps", "GFLOP a step", "TFLOP"], rows)


def chip_table(assumed: Assumed) -> str:
    """Steps of the last level by chip."""
    head = ["chip", "peak, TFLOP/s", "memory, TB/s"]
    head += [f"step of 512 px at an ASSUMED {assumed.share:.0%}, ms"]
    head += ["traffic that leaves room for, GB a step"]
    rows = []
    for kind, bandwidth in BANDWIDTHS.items():
        peak = peak_of(kind)
        seconds = operations(ladder()[-1]) / (peak * assumed.share)
        row = kind, peak / 1e12, bandwidth / 1e12
        rows.append((*row, seconds * 1e3, seconds * bandwidth / 1e9))
    return table(head, rows)


def time_table(assumed: Assumed, measured: Mapping[str, Any]) -> str:
    """Time and chip-hours of all pictures."""
    head = ["system", "ASSUMED share of peak", "device, s a picture", "driving thread, s"]
    head += ["loading threads, s"]
    head += ["bound by", "device busy", "pictures/s", "hours", "chip-hours"]
    rows = []
    for system in SYSTEMS:
        for share in sorted({assumed.share / 2, assumed.share, min(assumed.share * 1.5, 1.0)}):
            given = assumed._replace(share=share)
            one, time = worker(system, given, measured), hours(system, given, measured)
            row = system.name, f"{share:.0%}", one.device, one.driver, one.decoders, one.bound_by
            row += f"{one.device / one.seconds:.0%}", system.workers / one.seconds
            rows.append((*row, time, time * system.workers * system.chips))
    return table(head, rows)


def sections(assumed: Assumed, measured: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and text of each table."""
    yield "Work of one picture (counted)", work_table()
    yield "Chips (ESTIMATE: published peaks, assumed share)", chip_table(assumed)
    yield f"{assumed.jobs:,} pictures (ESTIMATE)", time_table(assumed, measured)


def main() -> None:
    """Prints the tables."""
    assumed = tyro.cli(Assumed, description=__doc__)
    for title, text in sections(assumed, json.loads(MEASURED.read_bytes())):
        print(f"### {title}\n\n{text}\n")


if __name__ == "__main__":
    main()
