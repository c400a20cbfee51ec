"""A run that is stopped in mid-schedule and run again ends with the bytes of an unbroken one."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from batch_runs import StopAfter
from engine_jobs import (
    LANDSCAPE,
    PORTRAIT,
    content_of,
    one_device,
    own_options,
    shared_programs,
    style_of,
    tiny_options,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from nst_jax import Job, render, render_batch
from nst_jax.engine.results import Summary
from nst_jax.engine.run.checkpoint import STATE_NAME
from nst_jax.engine.schedule import scheduler
from nst_jax.files.array_archive import read_archive, write_archive
from nst_jax.request.errors import OptionError, StoppedError
from nst_jax.request.options import Options
from nst_jax.request.run_policy import RunPolicy

JOBS = [
    Job(
        content_of(pair, size),
        style_of(pair),
        f"{pair}.png",
        own_options(steps=steps, early_stop=stop),
    )
    for pair, size, steps, stop in (
        (0, LANDSCAPE, 5, 0.0),
        (1, PORTRAIT, 3, 0.0),
        (2, LANDSCAPE, 7, 0.0),
        (3, LANDSCAPE, 2, 0.0),
        (4, LANDSCAPE, 30, 1.0),  # over after two looks at its objective
    )
]


@pytest.fixture(autouse=True)
def _chunks_of_one_step(monkeypatch: pytest.MonkeyPatch, compiled_once: None) -> None:
    monkeypatch.setattr(scheduler, "_CHUNK_S", 1e-9)


@pytest.fixture(scope="module")
def options(narrow_file: str) -> Options:
    return tiny_options(narrow_file, batch_size=2, bit_depth=16)


Batch = Callable[..., Summary]


def render_watched(
    jobs: list[Job], folder: Path, options: Options, watch: StopAfter, **others: Any
) -> Summary:
    devices = one_device()
    return render_batch(
        jobs, folder, options, progress=watch, stop=watch.stop, devices=devices, **others
    )


@pytest.fixture(scope="module")
def batch(options: Options) -> Batch:
    def batch(folder: Path, watch: StopAfter | None = None, **others: Any) -> Summary:
        return render_watched(JOBS, folder, options, watch or StopAfter(0), **others)

    return batch


@pytest.fixture(scope="module")
def unbroken(batch: Batch, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder that was rendered in one go, and the steps of images that it took."""
    folder = tmp_path_factory.mktemp("unbroken")
    summary = batch(folder)
    assert (summary.done, summary.failed) == (len(JOBS), 0)
    return folder, summary.image_steps


def same_pictures(folder: Path, other: Path) -> bool:
    return all((folder / j.output).read_bytes() == (other / j.output).read_bytes() for j in JOBS)


def ends(folder: Path) -> dict[str, Any]:
    """Losses and steps of each job by the ledger."""
    lines = map(json.loads, (folder / "ledger.jsonl").read_text().splitlines())
    return {line["job"]: (line["losses"], line["steps"]) for line in lines}


@pytest.mark.parametrize("chunks", [1, 4, 9, 20])
def test_a_stopped_run_goes_on_in_mid_schedule(batch, unbroken, tmp_path, chunks):
    first, second = StopAfter(chunks), StopAfter(0)
    with pytest.raises(StoppedError, match="kept in mid-schedule"):
        batch(tmp_path, first)
    assert (tmp_path / STATE_NAME).exists()
    batch(tmp_path, second)
    whole, image_steps = unbroken
    assert first.image_steps + second.image_steps == image_steps
    assert second.image_steps < image_steps
    assert same_pictures(tmp_path, whole)
    assert ends(tmp_path) == ends(whole)
    assert not (tmp_path / STATE_NAME).exists()
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_is_stopped_again_and_again_comes_to_the_same_end(batch, unbroken, tmp_path):
    taken, runs = 0, 0
    while True:
        watch, runs = StopAfter(5), runs + 1
        try:
            batch(tmp_path, watch)
            break
        except StoppedError:
            taken += watch.image_steps
    whole, image_steps = unbroken
    assert runs > 3
    assert taken + watch.image_steps == image_steps
    assert same_pictures(tmp_path, whole)
    assert ends(tmp_path) == ends(whole)


def test_checkpoints_serve_a_run_that_was_killed_and_change_no_byte(batch, unbroken, tmp_path):
    class Killed(BaseException):
        """Nothing of ours catches it."""

    class KillAfter(StopAfter):
        def on_step(self, image_steps: int) -> None:
            super().on_step(image_steps)
            if self.stop.is_requested:
                raise Killed

    first, second = KillAfter(7), StopAfter(0)
    always = RunPolicy(checkpoint_every=1e-9)
    with pytest.raises(Killed):
        batch(tmp_path, first, handling=always)
    batch(tmp_path, second, handling=always)
    whole, image_steps = unbroken
    # The chunk in which it was killed is taken again, and no other.
    assert image_steps < first.image_steps + second.image_steps <= image_steps + 2
    assert same_pictures(tmp_path, whole)
    assert not (tmp_path / STATE_NAME).exists()


def archive_of(header: list[dict[str, Any]], arrays: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    write_archive(written, header, arrays)
    return written.getvalue()


BUNDLE = archive_of([{"a": 1}], {"0/0": np.arange(2000.0), "0/1": np.float32(3)})


def damaged(content: bytes) -> dict[str, bytes]:
    """A state file as accidents leave it: no archive of ours."""
    compressed, pickled = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "[]")
    np.savez(pickled, evil=np.array([{}], object))
    return {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "flipped": content[:3000] + bytes([content[3000] ^ 1]) + content[3001:],
        "text": b"nonsense",
        "compressed": compressed.getvalue(),
        "pickled": pickled.getvalue(),
    }


def test_a_damaged_or_foreign_state_is_passed_over(batch, unbroken, tmp_path):
    stopped = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        batch(stopped, StopAfter(6))
    content = (stopped / STATE_NAME).read_bytes()
    header, arrays = read_archive(content)
    other = [dict(entry, fingerprint="0" * 64) for entry in header]
    smaller = {name: array.ravel()[:1] for name, array in arrays.items()}
    states = {name: damaged(content)[name] for name in ("empty", "cut", "pickled")}
    states |= {"another job's": archive_of(other, arrays), "smaller": archive_of(header, smaller)}
    for name, state in states.items():
        folder = shutil.copytree(stopped, tmp_path / name)
        (folder / STATE_NAME).write_bytes(state)
        batch(folder)
        assert same_pictures(folder, unbroken[0]), name


def test_what_is_no_bundle_is_a_value_error_and_nothing_else():
    header, arrays = read_archive(BUNDLE)
    assert header == [{"a": 1}]
    assert arrays["0/0"].tolist() == list(range(2000))
    assert arrays["0/1"].dtype == np.float32
    for content in damaged(BUNDLE).values():
        with pytest.raises(ValueError, match=r"damaged|foreign|pickle"):
            read_archive(content)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(where, bit):
    content = bytearray(BUNDLE)
    content[where % len(content)] ^= 1 << bit
    try:
        header, arrays = read_archive(bytes(content))
    except ValueError:
        return
    expected = read_archive(BUNDLE)
    assert header == expected[0]
    assert all((array == expected[1][name]).all() for name, array in arrays.items())


def test_a_single_picture_goes_on_too_and_leaves_nothing_behind(options, tmp_path):
    job, whole, broken = JOBS[0], tmp_path / "whole.png", tmp_path / "broken.png"
    render(job, whole, options, devices=one_device())
    first, second = StopAfter(3), StopAfter(0)
    with pytest.raises(StoppedError, match="the state is kept"):
        render(job, broken, options, progress=first, stop=first.stop, devices=one_device())
    assert not broken.exists()
    render(job, broken, options, progress=second, devices=one_device())
    assert first.image_steps + second.image_steps == 10
    assert broken.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "whole.png"]


@pytest.mark.slow
def test_the_memory_of_lbfgs_is_kept_too(narrow_file, tmp_path):
    options = tiny_options(narrow_file, batch_size=2, bit_depth=16, optimizer="lbfgs")
    watches = StopAfter(0), StopAfter(6), StopAfter(0)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with shared_programs():
        render_watched(JOBS[:3], whole, options, watches[0])
        with pytest.raises(StoppedError, match="kept in mid-schedule"):
            render_watched(JOBS[:3], broken, options, watches[1])
        render_watched(JOBS[:3], broken, options, watches[2])
    assert watches[1].image_steps + watches[2].image_steps == watches[0].image_steps
    for job in JOBS[:3]:
        assert (broken / job.output).read_bytes() == (whole / job.output).read_bytes()


def test_a_stop_before_the_first_step_loses_nothing(batch, unbroken, tmp_path):
    watch = StopAfter(0)
    watch.stop.request()
    with pytest.raises(StoppedError, match="0 of 5 jobs finished, 5 to go, 0 kept"):
        batch(tmp_path, watch)
    batch(tmp_path)
    assert same_pictures(tmp_path, unbroken[0])


def test_an_archive_needs_no_clock():
    """A ZIP file has no dates before 1980, which is where machines without a battery begin."""
    contents = [io.BytesIO(), io.BytesIO()]
    for content, now in zip(contents, (0.0, 1e9), strict=True):
        with mock.patch("time.time", return_value=now):
            write_archive(content, [1], {"x": np.zeros(2)})
    assert contents[0].getvalue() == contents[1].getvalue()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(value):
    with pytest.raises(OptionError, match="checkpoint_every must be"):
        RunPolicy(checkpoint_every=value)
