"""A folder that an older program has left half rendered: a newer one goes on with it.

`data/older_folder` is what version 0.1.0 (commit ca8d296) left of `JOBS`, stopped in mid-schedule:
three pictures, two jobs that failed by their own fault, one within a level (`midway`) and one
between two (`waiting`). Whoever changes the method makes the folder anew, with the program before
the change, and says so in the changelog: its users' folders are rendered again as well.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from engine_jobs import BAD, Notes, one_device, own_options, tiny_options
from PIL import Image

from nst_jax import Job, render_batch
from nst_jax.engine.results import Summary

OLDER = Path(__file__).parent / "data" / "older_folder"

FINISHED, FAILED = ("noise.png", "colours.png", "plain.png"), ("not_finite.png", "missing.png")
UNDER_WAY = ("midway.png", "waiting.png")
STEPS_LEFT = 2 * (30 + 1)
"""Of the jobs under way, should they begin anew."""


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
        summary = render_batch(JOBS, "out", options, progress=notes, devices=one_device())
        yield GoneOn(folder / "out", before, summary, notes.said)


def test_finished_pictures_are_skipped_and_failed_jobs_are_given_up(gone_on):
    """The copies have other times, so it is their checksums that are compared."""
    summary = gone_on.summary
    assert (summary.skipped, summary.given_up, summary.done) == (3, 2, 2), summary
    after = contents(gone_on.out)
    assert {name: after[name] for name in FINISHED} == {
        name: gone_on.before[name] for name in FINISHED
    }


def test_the_plan_stays_to_the_byte(gone_on):
    assert json.loads(gone_on.before["plan.json"][0])["version"] == 2
    assert (gone_on.out / "plan.json").read_bytes() == gone_on.before["plan.json"][0]


def test_the_ledger_is_gone_on_with_in_the_same_form(gone_on):
    """Its lines stay, those that are new have the same keys, and no job has two."""
    content, earlier = (gone_on.out / "ledger.jsonl").read_bytes(), gone_on.before["ledger.jsonl"]
    assert content.startswith(earlier[0])
    lines = [json.loads(line) for line in content.splitlines()]
    assert sorted(line["job"] for line in lines) == sorted(one.output for one in JOBS)
    assert {line["job"] for line in lines[-2:]} == set(UNDER_WAY)
    assert all(line["status"] == "done" for line in lines[-2:])
    assert len({tuple(line) for line in lines}) == 1


def test_the_run_is_told_under_the_same_keys(gone_on):
    earlier = json.loads(gone_on.before["run.json"][0])
    now = json.loads((gone_on.out / "run.json").read_bytes())
    assert earlier.keys() == now.keys()
    for key in ("options", "summary", "phases", "weights", "versions", "devices"):
        assert earlier[key].keys() <= now[key].keys(), key
    assert earlier["weights"] == now["weights"]


def test_an_older_state_costs_time_and_nothing_else(gone_on, narrow_file):
    """Jobs under way are taken up, or a note says that they are not; then they begin anew."""
    options = tiny_options(narrow_file, size=20, batch_size=4)
    Path("unbroken").mkdir()
    shutil.copy(OLDER / "out" / "plan.json", "unbroken")  # the same slots
    unbroken = render_batch(JOBS, "unbroken", options, devices=one_device())
    assert (unbroken.done, unbroken.failed) == (5, 2)
    taken_up = gone_on.summary.image_steps < STEPS_LEFT
    assert taken_up or any("state.npz is passed over" in note for note in gone_on.notes)
    for name in UNDER_WAY:
        path, whole = gone_on.out / name, gone_on.out.parent / "unbroken" / name
        if taken_up:  # half its steps are another machine's, which may round otherwise
            pixels, expected = (np.asarray(Image.open(one), np.int16) for one in (path, whole))
            assert np.abs(pixels - expected).max() <= 1, name
        else:
            assert path.read_bytes() == whole.read_bytes(), name
    assert not (gone_on.out / "state.npz").exists()
