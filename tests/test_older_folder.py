"""A folder that an older program has left half rendered: a newer one goes on with it.

`data/older_folder` is what version 0.1.0 (commit ca8d296) left of `JOBS`, stopped in mid-schedule:
three pictures, two jobs that failed by their own fault, one within a level (`midway`) and one
between two (`waiting`). The method is a newer one now: its pictures stay by `--keep-older` alone.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from engine_jobs import BAD, Notes, one_device, own_options, tiny_options

from nst_jax import Job, RunPolicy, render_batch
from nst_jax.engine.plan.slots import Plan
from nst_jax.engine.results import METHOD_VERSION, Summary

OLDER = Path(__file__).parent / "data" / "older_folder"

FINISHED, FAILED = ("noise.png", "colours.png", "plain.png"), ("not_finite.png", "missing.png")
UNDER_WAY = ("midway.png", "waiting.png")


def job(output: str, content: str = "a.png", **own: Any) -> Job:
    return Job(content, "style.png", output, own_options(**own))


JOBS = [
    job("noise.png", steps=5, init="noise", seed=7),
    job("colours.png", steps=3, color="lab"),
    job("plain.png", steps=4),
    job("midway.png", steps=30),
    job("waiting.png", steps=1),
    job("not_finite.png", **BAD),
    job("missing.png", "nowhere.png"),
]


class GoneOn(NamedTuple):
    """The older folder after a run of today's program, and what that run said."""

    out: Path
    before: dict[str, tuple[bytes, int]]
    summary: Summary
    notes: list[str]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of each file by its name."""
    return {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in folder.iterdir()}


@pytest.fixture(scope="module")
def gone_on(
    narrow_file: str, tmp_path_factory: pytest.TempPathFactory, compiled_once: None
) -> Iterator[GoneOn]:
    """A run with twice the slots that the folder's plan has."""
    folder = tmp_path_factory.mktemp("older")
    shutil.copytree(OLDER, folder, dirs_exist_ok=True)
    before, notes = contents(folder / "out"), Notes()
    options = tiny_options(narrow_file, size=20, batch_size=4)
    with chdir(folder):
        summary = render_batch(
            JOBS,
            "out",
            options,
            handling=RunPolicy(keep_older=True),
            report=False,
            progress=notes,
            devices=one_device(),
        )
        yield GoneOn(folder / "out", before, summary, notes.said)


def test_finished_pictures_are_skipped_and_a_missing_input_is_given_up(gone_on):
    """The copies have other times, so it is their checksums that are compared.

    What failed in the older method's steps is tried again by the newer one's.
    """
    summary = gone_on.summary
    assert (summary.skipped, summary.given_up, summary.done, summary.failed) == (3, 1, 2, 2)
    after = contents(gone_on.out)
    assert {name: after[name] for name in FINISHED} == {
        name: gone_on.before[name] for name in FINISHED
    }


def test_the_plan_stays_but_for_wide_canvases_which_lie_transposed_now(gone_on):
    before = json.loads(gone_on.before["plan.json"][0])
    assert before["version"] == 2
    after = Plan.from_json(json.loads((gone_on.out / "plan.json").read_bytes()))
    assert after == Plan.from_json(before)
    assert all(height >= width for (height, width), *_ in after.slots)


def test_the_ledger_is_gone_on_with_in_the_same_form(gone_on):
    """Its lines stay; those that are new have the same keys, and tell the method."""
    content, earlier = (gone_on.out / "ledger.jsonl").read_bytes(), gone_on.before["ledger.jsonl"]
    assert content.startswith(earlier[0])
    lines = [json.loads(line) for line in content.splitlines()]
    old, new = lines[:5], lines[5:]
    assert sorted(line["job"] for line in old) == sorted([*FINISHED, *FAILED])
    assert {line["job"]: line["status"] for line in new} == {
        **dict.fromkeys(UNDER_WAY, "done"),
        "not_finite.png": "failed",
    }
    assert {line.pop("method") for line in new} == {METHOD_VERSION}
    assert all(isinstance(line.pop("level_ends"), list) for line in new)
    assert len({tuple(line) for line in lines}) == 1


def test_the_run_is_told_under_the_same_keys(gone_on):
    earlier = json.loads(gone_on.before["run.json"][0])
    now = json.loads((gone_on.out / "run.json").read_bytes())
    assert earlier.keys() == now.keys()
    for key in ("options", "summary", "phases", "weights", "versions", "devices"):
        assert earlier[key].keys() <= now[key].keys(), key
    assert earlier["weights"] == now["weights"]


def test_an_older_state_costs_time_and_nothing_else(gone_on, narrow_file):
    """A note says that jobs under way begin anew. The second run keeps nothing that is older."""
    options, notes = tiny_options(narrow_file, size=20, batch_size=4), Notes()
    shutil.copytree(OLDER / "out", "anew")
    anew = render_batch(JOBS, "anew", options, progress=notes, devices=one_device())
    assert (anew.done, anew.failed, anew.skipped) == (5, 2, 0)
    assert any("3 pictures were made by an older method" in note for note in notes.said)
    assert not any("by an older method" in note for note in gone_on.notes)
    assert any("3 finished pictures are left as an older method" in note for note in gone_on.notes)
    assert any("2 of the jobs in mid-schedule" in note for note in gone_on.notes)
    for name in UNDER_WAY:
        path, whole = gone_on.out / name, gone_on.out.parent / "anew" / name
        assert path.read_bytes() == whole.read_bytes(), name
    assert not (gone_on.out / "state.npz").exists()
