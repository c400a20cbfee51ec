"""A benchmark as a picture: rates over batch sizes, seconds over numbers of jobs."""

from pathlib import Path
from typing import Any

from nst_jax.bench.report import Report
from nst_jax.bench.timing import Stats
from nst_jax.request.errors import OutputError


def write_plot(report: Report, path: Path) -> None:
    """Draws the report into a file; its suffix chooses the format.

    Raises:
        OutputError: The file can't be written, or its suffix is no format.
    """
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    panels = 2 if report.jobs else 1
    figure = Figure(figsize=(5.5 * panels, 4), layout="constrained")
    _draw_rates(figure.add_subplot(1, panels, 1), report)
    if report.jobs:
        _draw_jobs(figure.add_subplot(1, panels, 2), report)
    figure.suptitle(f"{report.hardware['kind']}, {report.dtype}, {report.size} px")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise OutputError(f"plot {str(path)!r} can't be written: {error}") from error


def _draw_rates(axes: Any, report: Report) -> None:
    """Image-steps a second of ours and of the peer's forms, bars from lowest to highest."""
    series: dict[str, dict[int, Stats]] = {"nst_jax": {}}
    for each in report.measurements:
        series["nst_jax"][each.batch_size] = each.seconds_per_image_step
        for peer in each.peers:
            if peer.seconds_per_image_step:
                name = f"{report.peer} {peer.name}, no optimiser"
                series.setdefault(name, {})[each.batch_size] = peer.seconds_per_image_step
    for name, by_batch in series.items():
        rates = {batch: value.map(lambda each: 1 / each) for batch, value in by_batch.items()}
        _draw(axes, rates, name)
    axes.set(xlabel="batch size", ylabel="image-steps a second", ylim=(0, None))
    axes.legend()


def _draw_jobs(axes: Any, report: Report) -> None:
    _draw(axes, {each.jobs: each.seconds_per_job for each in report.jobs}, "all")
    compiled = {each.jobs: each.seconds_per_job_compiled for each in report.jobs}
    _draw(axes, compiled, "without compilation")
    title = f"{report.jobs[0].steps} steps a level"
    axes.set(xlabel="jobs", ylabel="seconds a job", ylim=(0, None), title=title)
    axes.legend()


def _draw(axes: Any, values: dict[int, Stats], name: str) -> None:
    points = sorted(values.items())
    medians = [value.median for _, value in points]
    below = [value.median - value.lowest for _, value in points]
    above = [value.highest - value.median for _, value in points]
    places = [place for place, _ in points]
    axes.errorbar(places, medians, yerr=(below, above), marker="o", capsize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(place) for place in places])
    axes.set_xlim(places[0] / 1.4, places[-1] * 1.4)  # a single place has no width of its own
