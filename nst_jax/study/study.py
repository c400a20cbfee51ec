"""What an experiment is, and how it becomes one batch.

A study is a grid of trials: renderings of one content and one style that differ in per-job
options alone. All trials name the same taps, and those that a trial leaves out weigh 0, so
that a level is compiled once for all of them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from nst_jax.engine.batch import render_batch
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.load import LoadedJob, load_job
from nst_jax.engine.inputs.session import open_session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.images import Pixels, composite, load_picture
from nst_jax.files.ledger import read_ledger
from nst_jax.request.errors import OptionError
from nst_jax.request.job import Job, PictureSource, fill_defaults
from nst_jax.request.options import JobOptions, Options
from nst_jax.request.paths import find_output
from nst_jax.request.validators import to_plain
from nst_jax.scores import PairScores

Measure = Callable[[Pixels], Mapping[str, float]]
"""Distances of a picture, by name; 0 is the best of each."""


class HowToRun(TypedDict, total=False):
    """What every study of a pair takes beside its own arguments; see `open_pair`."""

    progress: Progress | None
    stop: StopToken | None
    measure: Measure | None


@dataclasses.dataclass(frozen=True)
class Trial:
    """One cell's rendering.

    Attributes:
        row: Its place in the grid, from 0.
        column: Likewise.
        output: Name of its picture in the study's folder.
        options: Its own.
    """

    row: int
    column: int
    output: str
    options: JobOptions


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One cell's outcome.

    Attributes:
        row: Its place in the grid, from 0.
        column: Likewise.
        output: Name of its picture in the study's folder; empty where it was not rendered.
        caption: What to say below the picture.
        image: (h, w, 3) float32 in [0, 1]; None where the trial failed.
        distances: By name.
        losses: total, content, style and tv at the last step.
        curve: [step, total, content, style, tv], as the ledger has it.
        seconds: Its share of the time in steps.
        error: Why it failed; empty where it did not.
    """

    row: int
    column: int
    output: str = ""
    caption: str = ""
    image: Pixels | None = None
    distances: Mapping[str, float] = dataclasses.field(default_factory=dict)
    losses: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    curve: Sequence[Sequence[float | int | None]] = ()
    seconds: float = 0.0
    error: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """An experiment's outcome.

    Attributes:
        kind: Which one: `layers`, `pixels`, ...
        title: A line.
        text: Paragraphs: what was done, and how to read the grid.
        rows: Headings.
        columns: Likewise.
        cells: In any order; a place of the grid may stay empty.
        inputs: Pictures that went in, by name.
        settings: Numbers and names that the study was made with.
    """

    kind: str
    title: str
    text: Sequence[str]
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Cell]
    inputs: Mapping[str, Pixels]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def cell(self, row: int, column: int) -> Cell | None:
        """The cell at a place of the grid."""
        return next((one for one in self.cells if (one.row, one.column) == (row, column)), None)


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A content and a style, looked at before anything is rendered, and where trials of them go.

    Attributes:
        job: The pair.
        prepared: The same, decoded and scaled to the run's size.
        options: The run's.
        folder: Where pictures and ledger go.
        measure: Distances of a picture.
        progress: Told what happens.
        stop: Asks the study to stop; run again it goes on.
    """

    job: Job
    prepared: LoadedJob
    options: Options
    folder: Path
    measure: Measure
    progress: Progress
    stop: StopToken | None

    @property
    def content(self) -> Pixels:
        """At the size of the output."""
        return self.prepared.content.pixels

    @property
    def style(self) -> Pixels:
        """At the long edge of the output, times `style_scale`."""
        return self.prepared.styles[0].pixels


def check_values(name: str, values: Sequence[float | int]) -> tuple[Any, ...]:
    """The rows or columns of a grid, as plain numbers.

    Raises:
        OptionError: There are none, or one stands there twice.
    """
    values = to_plain(values)
    if not values or len(set(values)) != len(values):
        raise OptionError(f"{name} must be at least one number, none twice, got {tuple(values)}")
    return tuple(values)


def open_pair(
    content: PictureSource,
    style: PictureSource,
    output_dir: str | Path,
    options: Options,
    *,
    progress: Progress | None = None,
    stop: StopToken | None = None,
    measure: Measure | None = None,
) -> Pair:
    """Opens a pair, and proves that it reaches every tap that the options name.

    Args:
        content: The content picture.
        style: The style picture.
        output_dir: Where pictures and ledger go.
        options: The run's.
        progress: Told what happens.
        stop: Asks the study to stop; run again it goes on.
        measure: Distances of a picture; None: those of `PairScores`.

    Raises:
        TapError: The network lacks a tap.
        PictureError: A picture is missing, no picture, or too small for a tap.
        WeightsError: The network is missing.
    """
    folder = Path(find_output(output_dir))
    session, progress = open_session(options), progress or NullProgress()
    listed = fill_defaults([Job(content, style, options=options)], options)
    (examined,) = examine_jobs(listed, session, NullProgress())  # the batch says it
    if not isinstance(examined, ExaminedJob):
        assert examined.error is not None
        raise examined.error
    ready = load_job(examined, options, session.pictures)
    measure = measure or PairScores(ready.content.pixels, ready.styles[0].pixels)
    return Pair(examined.job, ready, options, folder, measure, progress, stop)


def run_trials(pair: Pair, trials: Sequence[Trial]) -> list[Cell]:
    """Renders trials as one batch into the pair's folder; what is up to date there is kept.

    Raises:
        StoppedError: The study was asked to stop.
    """
    jobs = [
        Job(pair.job.content, pair.job.style, output=trial.output, options=trial.options)
        for trial in trials
    ]
    render_batch(jobs, pair.folder, pair.options, progress=pair.progress, stop=pair.stop)
    records = read_ledger(pair.folder)
    return [read_cell(trial, records[trial.output], pair.folder, pair.measure) for trial in trials]


def read_cell(trial: Trial, record: Mapping[str, Any], folder: Path, measure: Measure) -> Cell:
    """A trial's outcome, by its line of the ledger and its picture."""
    image = None
    if record["status"] == "done":
        image = composite(load_picture(folder / trial.output), "white")
    return Cell(
        row=trial.row,
        column=trial.column,
        output=trial.output,
        image=image,
        distances={} if image is None else measure(image),
        losses=record["losses"],
        curve=record.get("curve") or (),
        seconds=record["seconds"],
        error=(record["error"] or {}).get("message", ""),
    )
