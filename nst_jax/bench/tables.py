"""What a benchmark found, for people: rows of tables, Markdown, the README's own table."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nst_jax.bench.report import LevelRate, Measurement, Report
from nst_jax.bench.timing import Stats

SPEED_BEGIN, SPEED_END = "<!-- speed -->", "<!-- /speed -->"
_WIDTH = 95  # of a line of prose in Markdown

Row = tuple[str, ...]


def headline_rows(report: Report) -> list[Row]:
    """What was found on the whole, a name and a value a row."""
    best, peak = report.best, report.hardware["peak"]
    tera = peak["operations_per_second"] / 1e12
    rows = [
        ("device", f"{report.hardware['kind']} ({report.hardware['platform']})"),
        ("network", f"{report.weights}, {report.dtype}, {report.size} px, {report.pictures}"),
        ("look", _look_text(report)),
        ("fastest batch", _batch_text(report)),
        ("image-steps a second", f"{best.image_steps_per_second:.4g} at {best.batch_size} a batch"),
        ("images an hour", f"{report.images_per_hour:.4g} ({_schedule(report.levels)})"),
        ("peak", f"{tera:.4g} TFLOP/s, {peak['source']}"),
        ("  share by direct convolutions", _percent(best.share_of_peak_direct)),
        ("  share by executed operations", _percent(best.share_of_peak_executed)),
        (
            "peak memory",
            f"{report.peak_memory['bytes'] / 2**20:.0f} MiB, {report.peak_memory['what']}",
        ),
    ]
    if best.program_bytes is not None:
        rows.append(("memory of the step program", f"{best.program_bytes / 2**20:.0f} MiB"))
    rows += [(f"seconds: {name}", f"{value:.3g}") for name, value in best.phases.items()]
    if report.peer:
        rows.append((f"seconds of {report.peer} over ours", _ratio_text(best)))
    return rows


def batch_rows(report: Report) -> list[Row]:
    """A heading and a row for each batch size, and for each form and type of the peer in it."""
    rows: list[Row] = [("batch", "program", "s an image-step", "lowest to highest", "ratio")]
    for each in report.measurements:
        rows.append(
            (str(each.batch_size), "ours", *_seconds_texts(each.seconds_per_image_step), "")
        )
        for peer in each.peers:
            if peer.seconds_per_image_step and peer.ratio:
                texts = _seconds_texts(peer.seconds_per_image_step)
                cells = (*texts, f"{peer.ratio.median:.2f}")
            else:
                cells = ("did not run", peer.note, "")
            rows.append((str(each.batch_size), f"{report.peer} {peer.name}", *cells))
    return rows


def explanations(report: Report) -> list[str]:
    """What the words of the tables mean, a sentence each."""
    lines = [
        "An image-step is one step of one picture: its loss, its gradient and the optimiser.",
        "The peak is what the device's products reach when nothing else is to do.",
        "The share by direct convolutions counts them by their definition. Winograd's algorithm "
        "takes fewer operations for the same result, so this share may be above 100 %.",
        "The share by executed operations counts what is really done, but for the small matrix "
        "roots of the default look.",
        "Lowest to highest: of all rounds. What stands before is their median.",
    ]
    if report.peer:
        lines.append("A ratio is the peer's seconds over ours: above 1, ours is faster.")
    return lines


def _look_text(report: Report) -> str:
    if report.peer:
        return f"{report.style_loss}, as the preset gram has it, because that is what the peer does"
    return f"{report.style_loss}, the default"


def _batch_text(report: Report) -> str:
    """Which batch size to take, of those that were measured."""
    best = report.best
    if len(report.measurements) == 1:
        return f"{best.batch_size}, the only one measured; --batch-size tries others"
    others = [one for one in report.measurements if one is not best]
    gains = (
        f"{one.seconds_per_image_step.median / best.seconds_per_image_step.median - 1:.0%} slower "
        f"at {one.batch_size}"
        for one in others
    )
    return f"take {best.batch_size}: a picture's step is {', '.join(gains)}"


def jobs_rows(record: Mapping[str, Any]) -> list[Row]:
    """A heading and a row for each number of jobs in a record; nothing where there is none."""
    if not record["jobs"]:
        return []
    rows: list[Row] = [("jobs", "s a job", "s a job without compilation")]
    for each in record["jobs"]:
        values = (each["seconds_per_job"], each["seconds_per_job_compiled"])
        rows.append((str(each["jobs"]), *(f"{value['median']:.3g}" for value in values)))
    return rows


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first of them the heading, as a Markdown table without a last line end."""
    heading, *body = rows
    lines = [heading, ["---"] * len(heading), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed_rows(records: Iterable[Mapping[str, Any]]) -> list[Row]:
    """A heading and a row for each batch size of each record of `Report.record`."""
    rows: list[Row] = [
        ("size", "batch", "ours, s", "peak, direct", "peak, executed", "PyTorch, s", "ratio")
    ]
    for record in records:
        for each in record["batch_sizes"]:
            rows.append(
                (f"{record['size']} px, {record['dtype']}", *_speed_cells(each, record["dtype"]))
            )
    return rows


def speed_text(device: Mapping[str, Any]) -> str:
    """What the README says of one device: how it was measured, and the table.

    Args:
        device: A file of `docs/benchmarks/`: `command`, `date` and the `runs`, which are records.
    """
    first = device["runs"][0]
    hardware, versions = first["hardware"], first["versions"]
    packages = ", ".join(
        f"{name} {versions[name]}" for name in ("jax", "torch") if name in versions
    )
    race = (
        ", against loss and gradient alone in PyTorch's fastest form, same weights, in turns in "
        "one process"
    )
    text = (
        f"Seconds for one step of one image on {hardware['kind']} ({hardware['cores']} cores of "
        f"the host), {packages}, {device['date']}: ours with its optimiser"
        f"{race if first['peer'] else ''}; medians of {first['rounds']} rounds "
        f"(`{device['command']}`)."
    )
    paragraph = textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"{paragraph}\n\n{markdown_table(speed_rows(device['runs']))}"


def replace_speed_section(document: str, text: str) -> str:
    """A document whose part between the two speed markers is replaced.

    Raises:
        ValueError: It doesn't have both markers once, in their order.
    """
    if document.count(SPEED_BEGIN) != 1 or document.count(SPEED_END) != 1:
        raise ValueError(f"the document must have {SPEED_BEGIN} and {SPEED_END} once each")
    before, rest = document.split(SPEED_BEGIN)
    if SPEED_END not in rest:
        raise ValueError(f"the document must have {SPEED_BEGIN} before {SPEED_END}")
    after = rest.split(SPEED_END)[1]
    return f"{before}{SPEED_BEGIN}\n{text}\n{SPEED_END}{after}"


def device_document(device: Mapping[str, Any]) -> str:
    """A page of `docs/benchmarks/`: the README's table of this device, and what stands behind it.

    Args:
        device: As for `speed_text`.
    """
    parts = [f"# {device['device']}", speed_text(device)]
    for record in device["runs"]:
        parts += [f"## {record['size']} px, {record['dtype']}", markdown_table(_run_rows(record))]
        if record["jobs"]:
            parts += ["Jobs from start to end:", markdown_table(jobs_rows(record))]
    return "\n\n".join(parts) + "\n"


def _run_rows(record: Mapping[str, Any]) -> list[Row]:
    """One run's headline."""
    peak = record["hardware"]["peak"]
    levels = ", ".join(f"{level['steps']} at {level['size']} px" for level in record["levels"])
    return [
        ("what", "found"),
        ("fastest batch", str(record["batch_size"])),
        ("image-steps a second", f"{record['image_steps_per_second']:.4g}"),
        (f"images an hour (steps: {levels})", f"{record['images_per_hour']:.4g}"),
        ("peak", f"{peak['operations_per_second'] / 1e12:.4g} TFLOP/s, {peak['source']}"),
        ("seconds of compilation", f"{record['compile_seconds']:.3g}"),
        (
            "peak memory",
            f"{record['peak_memory_bytes'] / 2**20:.0f} MiB, {record['peak_memory']['what']}",
        ),
        ("network, pictures", f"{record['weights']}, {record['pictures']}"),
        ("versions", ", ".join(f"{name} {text}" for name, text in record["versions"].items())),
    ]


def _percent(share: Stats) -> str:
    return f"{100 * share.median:.3g} % ({100 * share.lowest:.3g} to {100 * share.highest:.3g})"


def _speed_cells(record: Mapping[str, Any], dtype: str) -> Row:
    """One batch size; where a peer's data type is not told, as in old records, it was ours."""
    ran = [peer for peer in record["peers"] if peer["seconds_per_image_step"]]
    best = min(ran, key=lambda peer: peer["seconds_per_image_step"]["median"], default=None)
    program = f"{best['form']} {best.get('dtype', dtype)}" if best else ""
    return (
        str(record["batch_size"]),
        f"{record['seconds_per_image_step']['median']:.3g}",
        f"{100 * record['share_of_peak_direct']['median']:.0f} %",
        f"{100 * record['share_of_peak_executed']['median']:.0f} %",
        f"{best['seconds_per_image_step']['median']:.3g} ({program})" if best else "",
        f"{best['ratio']['median']:.2f}" if best else "",
    )


def _ratio_text(measurement: Measurement) -> str:
    peer = measurement.best_peer
    if peer is None or peer.ratio is None:
        return "no form of it ran"
    spread = peer.ratio
    return f"{spread.median:.2f} ({spread.lowest:.2f} to {spread.highest:.2f}), {peer.name}"


def _schedule(levels: Sequence[LevelRate]) -> str:
    return ", ".join(f"{level.steps} steps at {level.size} px" for level in levels)


def _seconds_texts(spread: Stats) -> tuple[str, str]:
    return f"{spread.median:.3g}", f"{spread.lowest:.3g} to {spread.highest:.3g}"
