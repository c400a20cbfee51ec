"""A million pictures on paper: what must hold whatever is assumed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import scale_on_paper as paper

from nst_jax import RunPolicy

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def measured() -> dict[str, Any]:
    return json.loads(paper.MEASURED.read_bytes())


def test_no_share_of_a_peak_is_above_the_peak_and_no_worker_has_half_a_picture(measured):
    assert "135%" not in paper.time_table(paper.Assumed(share=0.9), measured)
    many, assumed = paper.SYSTEMS[-1], paper.Assumed(jobs=1, styles=1)
    least = paper.worker(many, assumed, measured).seconds + assumed.compile_seconds
    assert paper.hours(many, assumed, measured) * 3600 > least


def test_operations_are_those_of_the_benchmark():
    benchmark = json.loads((DOCS / "benchmarks" / "amd-epyc-2-cores.json").read_bytes())
    run = benchmark["runs"][-1]
    level = next(one for one in paper.ladder() if max(one.size) == run["size"])
    counted = run["operations_per_image_step"]
    assert paper.operations(level) == counted["direct_convolutions"] + counted["grams"]


@pytest.mark.parametrize("system", paper.SYSTEMS, ids=lambda system: system.name)
def test_half_the_share_of_peak_takes_the_device_twice_as_long(system, measured):
    whole, half = (
        paper.worker(system, paper.Assumed(share=share), measured) for share in (0.4, 0.2)
    )
    assert half.device == pytest.approx(2 * whole.device)
    assert half.driver == whole.driver
    assert half.seconds >= whole.seconds
    assert 0 < whole.device <= whole.seconds


@pytest.mark.parametrize(
    ("seconds", "whole", "bound_by"),
    [
        ((1.0, 0.1, 0.5, 0.5), 1.0, "device"),
        ((0.1, 0.3, 0.2, 0.2), 0.3, "driving thread"),
        ((0.1, 0.1, 0.9, 0.3), 0.9, "decoding"),
        ((0.1, 0.1, 0.3, 0.9), 0.9, "encoding"),
    ],
)
def test_the_slowest_of_what_goes_on_side_by_side_decides(seconds, whole, bound_by):
    worker = paper.Worker(*seconds)
    assert (worker.seconds, worker.bound_by) == (whole, bound_by)


def test_twice_the_jobs_take_twice_as_long_but_for_the_start(measured):
    system = paper.SYSTEMS[0]
    one, two = (
        paper.hours(system, paper.Assumed(jobs=jobs, styles=styles, compile_seconds=0.0), measured)
        for jobs, styles in ((10**6, 300), (2 * 10**6, 600))
    )
    assert two == pytest.approx(2 * one)
    compiled = paper.Assumed(compile_seconds=3600.0)
    assert paper.hours(system, compiled, measured) == pytest.approx(one + 1)


def test_the_document_has_the_tables_as_the_script_prints_them(measured):
    document = (DOCS / "scale.md").read_text()
    for title, text in paper.sections(paper.Assumed(), measured):
        assert text in document, title


def test_what_is_assumed_and_what_is_an_estimate_is_called_so(measured):
    titles, texts = zip(*paper.sections(paper.Assumed(), measured), strict=True)
    assert sum("ESTIMATE" in title for title in titles) == 2
    assert sum("ASSUMED" in text for text in texts) == 2


def test_the_default_between_checkpoints_is_the_best_by_young_and_keeps_the_target():
    hour, save = 3600, 2
    default = RunPolicy().checkpoint_every
    assert default == math.sqrt(2 * save * hour)
    assert default / (2 * hour) < 0.03 < 300 / (2 * hour)  # of the steps, at one preemption an hour
