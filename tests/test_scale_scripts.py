"""Scaling on paper and in simulation: what must hold whatever is assumed."""

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nst_jax.request.job import Job
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.shards import Shard, jobs_of_shard

ROOT = Path(__file__).parent.parent


def loaded(name: str) -> ModuleType:
    """A script as a module."""
    specification = importlib.util.spec_from_file_location(
        name, ROOT / "scripts" / "measure" / f"{name}.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their annotations up there
    specification.loader.exec_module(module)
    return module


paper = loaded("scale_on_paper")
simulation = loaded("simulate_spot_workers")

QUIET: Mapping[str, Any] = {"preemptions_per_hour": 0.0, "faults_per_hour": 0.0, "slow_share": 0.0}
"""Nothing goes wrong."""

STORMY: Mapping[str, Any] = {
    "preemptions_per_hour": 20.0,
    "faults_per_hour": 20.0,
    "checkpoint_every": 20.0,
    "compile_seconds": 20.0,
    "write_seconds": 0.5,
}
"""Everything goes wrong, often."""


def world(**changes: Any) -> Any:
    """Twenty workers with ninety-six jobs each, of two seconds."""
    return simulation.World(
        **({"workers": 20, "jobs": 1920, "job_seconds": 2.0, "return_seconds": 30.0} | changes)
    )


def played(**changes: Any) -> Any:
    return simulation.simulate(world(**changes))


# ---- Conservation.


@pytest.mark.parametrize("notice", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("changes", [{}, {"shards": 70}, {"cache": "kept"}, {"jobs": 1913}])
def test_every_job_is_in_the_merged_ledger_once_and_the_steps_add_up(notice, changes):
    outcome = played(**STORMY, notice_share=notice, **changes)
    tally = outcome.tally
    assert (outcome.ledger == 1).all()
    assert tally.killed + tally.noticed > 20
    assert tally.retried > 0
    assert tally.useful == 250 * len(outcome.ledger)
    assert tally.taken == tally.useful + tally.lost + tally.doubled + tally.retried


def test_without_accidents_nothing_is_taken_twice_and_time_is_what_jobs_take():
    outcome = played(**QUIET, write_seconds=0.01)
    tally = outcome.tally
    assert tally.taken == tally.useful
    assert tally.lost == tally.doubled == tally.retried == tally.killed == tally.noticed == 0
    assert tally.step_seconds == pytest.approx(1920 * 2.0)
    assert tally.compilations == 20
    start = 30 + 1920 * 36e-6 + 300
    assert outcome.ends == pytest.approx(start + 96 * 2.0, rel=0.01)


def test_more_preemptions_lose_more_steps():
    lost = [
        played(preemptions_per_hour=rate, compile_seconds=10.0).tally.lost
        for rate in (0.0, 5.0, 40.0)
    ]
    assert 0 == lost[0] < lost[1] < lost[2]


def test_equal_seeds_come_to_equal_outcomes_and_others_do_not():
    one, same, other = (played(**STORMY, seed=seed) for seed in (1, 1, 2))
    assert one.tally == same.tally
    assert (one.ends == same.ends).all()
    assert one.tally != other.tally


@pytest.mark.parametrize(("jobs", "shards"), [(103, 7), (24, 24), (5, 8)])
def test_shares_are_as_large_as_the_real_ones(jobs, shards):
    listed = [Job("c.png", "s.png", f"{number}.png") for number in range(jobs)]
    sizes = [len(jobs_of_shard(listed, Shard(index, shards))) for index in range(shards)]
    assert simulation.share_sizes(jobs, shards) == sizes


# ---- What is lost, and what helps.


def test_a_notice_that_is_long_enough_loses_nothing():
    outcome = played(preemptions_per_hour=20.0, notice_share=1.0)
    assert outcome.tally.noticed > 20
    assert outcome.tally.late == outcome.tally.lost == outcome.tally.doubled == 0


def test_a_notice_that_is_too_short_is_no_notice():
    outcome = played(preemptions_per_hour=20.0, notice_share=1.0, notice_seconds=1.0)
    assert outcome.tally.late > 0
    assert outcome.tally.lost > 0


def test_a_picture_that_waits_to_be_written_is_doubled():
    slow, fast = (
        played(preemptions_per_hour=20.0, write_seconds=seconds, job_seconds=0.5).tally.doubled
        for seconds in (0.45, 0.001)
    )
    assert slow > 4 * fast


def test_slow_workers_need_the_checkpoints_of_the_default():
    slow = {"job_seconds": 200.0, "slots": 1, "jobs": 3840, "slow_share": 0.0}
    default = RunPolicy().checkpoint_every
    seldom, often = (played(**slow, checkpoint_every=every) for every in (300.0, default))
    assert seldom.repeated_share > simulation.TARGET > 1.5 * often.repeated_share
    assert 0 < often.wasted_share < seldom.wasted_share < 0.05


def test_without_checkpoints_a_wave_is_lost():
    never, often = (
        played(job_seconds=20.0, checkpoint_every=every, preemptions_per_hour=2.0).tally.lost
        for every in (0.0, 60.0)
    )
    assert never > 3 * often


def test_a_fault_of_the_device_costs_its_batch_and_stage_alone():
    outcome = played(**{**QUIET, "faults_per_hour": 100.0})
    assert outcome.tally.faults > 20
    assert outcome.tally.lost == outcome.tally.doubled == 0
    assert 0 < outcome.tally.retried <= 50 * 16 * outcome.tally.faults
    assert outcome.tally.taken == outcome.tally.useful + outcome.tally.retried


def test_more_shards_than_workers_shorten_the_tail_of_stragglers():
    stragglers = {**QUIET, "slow_share": 0.2, "slow_factor": 3.0, "load_seconds": 1.0}
    fixed, dealt = (played(**stragglers, shards=shards) for shards in (20, 120))
    assert dealt.ends[-1] < fixed.ends[-1]
    assert fixed.tail(0.5) > 96 * 2.0


@pytest.mark.parametrize(("cache", "compilations"), [("shared", 0), ("kept", 20)])
def test_kept_programs_are_compiled_once_and_shared_ones_never(cache, compilations):
    tally = played(preemptions_per_hour=20.0, cache=cache).tally
    assert tally.killed > 10
    assert tally.compilations == compilations
    assert played(preemptions_per_hour=10.0).tally.compilations > 20


def test_a_schedule_costs_what_a_job_does():
    plan = simulation.schedule(7.0)
    assert plan.steps == 250
    assert plan.seconds(250) == pytest.approx(7.0)
    assert plan.seconds(200) < 7.0 / 2  # most of it is the last level
    assert np.diff([plan.seconds(steps) for steps in range(251)]).min() > 0


def test_the_command_prints_an_object(monkeypatch, capsys):
    asked = ["x", "--workers", "2", "--jobs", "64", "--cache", "kept", "--json"]
    monkeypatch.setattr(sys, "argv", asked)
    simulation.main()
    told = json.loads(capsys.readouterr().out)
    assert told["world"]["cache"] == "kept"
    assert told["tally"]["useful"] == 64 * 250
    assert told["target_is_met"] in (True, False)


def refused(script: ModuleType, monkeypatch, capsys, *asked: str) -> str:
    """The one line with which a script refuses what it was asked."""
    monkeypatch.setattr(sys, "argv", ["x", *asked])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


ODD = ["nan", "inf", "-inf", "-1", "x", "", "9" * 5000, "1e300"]
NOT_0 = {"workers", "jobs", "job_seconds", "slots", "slow_factor"}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(simulation.World)])
def test_a_simulation_of_odd_numbers_is_refused_in_one_line(name, monkeypatch, capsys):
    option = f"--{name.replace('_', '-')}"
    for odd in [*ODD, "0"] if name in NOT_0 else ODD:
        line = refused(simulation, monkeypatch, capsys, f"{option}={odd}")
        assert option in line
        assert len(line) < 200


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"preemptions_per_hour": 1000.0}, "lower --preemptions-per-hour"),
        ({"preemptions_per_hour": 20.0, "write_seconds": 1e5}, "lower --preemptions-per-hour"),
        ({**QUIET, "faults_per_hour": 1e6}, "lower --faults-per-hour"),
    ],
)
def test_a_simulation_that_can_not_get_on_ends_with_one_line(changes, remedy, monkeypatch, capsys):
    asked = [f"--{name.replace('_', '-')}={value}" for name, value in changes.items()]
    assert remedy in refused(simulation, monkeypatch, capsys, "--jobs=64", "--workers=2", *asked)


def test_a_worker_that_gets_on_slowly_is_not_at_a_standstill():
    long = {"job_seconds": 4e5, "slots": 1, "slow_share": 0.0, "faults_per_hour": 0.0}
    outcome = simulation.simulate(
        simulation.World(workers=1, jobs=5, preemptions_per_hour=3.0, cache="shared", **long)
    )
    assert outcome.tally.killed > 1000
    assert (outcome.ledger == 1).all()


# ---- On paper.


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(paper.Assumed)])
def test_odd_numbers_on_paper_are_refused_in_one_line(name, monkeypatch, capsys):
    option = f"--{name.replace('_', '-')}"
    for odd in [*ODD, "0"] if name in ("share", "styles", "jobs") else ODD:
        line = refused(paper, monkeypatch, capsys, f"{option}={odd}")
        assert option in line
        assert len(line) < 200


def test_no_share_of_a_peak_is_above_the_peak_and_no_worker_has_half_a_picture(measured):
    assert "135%" not in paper.time_table(paper.Assumed(share=0.9), measured)
    many, assumed = paper.SYSTEMS[-1], paper.Assumed(jobs=1, styles=1)
    least = paper.worker(many, assumed, measured).seconds + assumed.compile_seconds
    assert paper.hours(many, assumed, measured) * 3600 > least


@pytest.fixture
def measured() -> dict[str, Any]:
    return json.loads(paper.MEASURED.read_bytes())


def test_operations_are_those_of_the_benchmark():
    run = json.loads(paper.BENCHMARK.read_bytes())["runs"][-1]
    stage = next(one for one in paper.ladder() if max(one.size) == run["size"])
    counted = run["operations_per_image_step"]
    assert paper.operations(stage) == counted["direct_convolutions"] + counted["grams"]


@pytest.mark.parametrize("system", paper.SYSTEMS, ids=lambda system: system.name)
def test_half_the_share_of_peak_takes_the_device_twice_as_long(system, measured):
    whole, half = (
        paper.worker(system, paper.Assumed(share=share), measured) for share in (0.4, 0.2)
    )
    assert half.device == pytest.approx(2 * whole.device)
    assert half.driver == whole.driver
    assert half.seconds >= whole.seconds
    assert 0 < whole.busy < 1
    assert 0.4 < paper.roofline_share(system.kind) <= 1


def test_the_slowest_of_what_goes_on_side_by_side_decides():
    assert paper.Worker(1.0, 0.1, 0.5, 0.5).bound_by == "device"
    assert paper.Worker(1.0, 0.1, 0.5, 0.5).seconds == 1.1  # the device waits for its driver
    assert paper.Worker(0.1, 0.3, 0.2, 0.2).bound_by == "driving thread"
    assert paper.Worker(0.1, 0.1, 0.9, 0.3).bound_by == "decoding"
    assert paper.Worker(0.1, 0.1, 0.3, 0.9).bound_by == "encoding"
    assert paper.Worker(0.1, 0.1, 0.3, 0.9).seconds == 0.9


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
    document = (ROOT / "docs" / "scale.md").read_text()
    for title, text in paper.sections(paper.Assumed(), measured):
        assert text in document, title


def test_what_is_assumed_and_what_is_an_estimate_is_called_so(measured):
    titles, texts = zip(*paper.sections(paper.Assumed(), measured), strict=True)
    assert sum("ESTIMATE" in title for title in titles) == 3
    assert sum("ASSUMED" in text for text in texts) == 3
