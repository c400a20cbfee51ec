"""`nst-jax warmup`: the programs of a batch, all of them and no others, kept before it runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from batch_runs import save_job, save_pixels
from engine_jobs import FIRST_TAPS, PORTRAIT, one_device, tiny_options
from test_compile_ahead import WHITE, mixed_jobs

from nst_jax import render_batch
from nst_jax.cli.main import run
from nst_jax.engine.device.runtime import CACHE_VARIABLE
from nst_jax.forecast.warmup import warm_up

ROWS = """content,style,masks,output
c0.png,s0.png,,0.png
c1.png,s1.png,,1.png
c2.png,s0.png;s2.png,,2.png
c2.png,s0.png;s2.png,white.png;white.png,3.png
"""


@pytest.fixture
def manifest(tmp_path):
    """Landscape and portrait, two styles, and the same by masks."""
    for number in range(3):
        save_job(tmp_path, number, size=PORTRAIT if number == 1 else WHITE.shape[:2])
    save_pixels(tmp_path / "white.png", WHITE)
    path = tmp_path / "jobs.csv"
    path.write_text(ROWS)
    return str(path)


def flags(weights: str, *more: str) -> list[str]:
    taps = ["--content-taps", "relu1_1", "--style-taps", "relu1_1"]
    sizes = ["--size", "48", "--levels", "2", "--steps", "2", "--batch-size", "2"]
    return ["--weights", weights, *taps, *sizes, *more]


@pytest.mark.parametrize(("preset", "levels"), [("gram", 2), ("default", 1)])
def test_it_compiles_what_a_batch_compiles(narrow_file, tmp_path, preset, levels):
    options = tiny_options(narrow_file, **FIRST_TAPS, preset=preset, levels=levels)
    report = warm_up(mixed_jobs(), options, devices=one_device())
    summary = render_batch(mixed_jobs(), tmp_path, options, devices=one_device())
    assert summary.failed == 0
    assert {*report.compiled, *report.loaded} == set(summary.compiled)
    assert report.record()["compiled"] + report.record()["loaded"] == len(summary.compiled)


def test_the_batch_of_another_process_loads_them_all(narrow_file, manifest, tmp_path):
    programs = tmp_path / "programs"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", CACHE_VARIABLE: str(programs)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def call(command, *more):
        line = [sys.executable, "-m", "nst_jax", command, manifest, *flags(narrow_file, *more)]
        answer = subprocess.run(
            line, capture_output=True, text=True, env=environment, check=False, timeout=600
        )
        if "rejects what was kept" in answer.stderr:
            pytest.skip("this CPU rejects what its compiler stored")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    before = sorted(tmp_path.iterdir())
    first = call("warmup", "--json")
    assert sorted(tmp_path.iterdir()) == sorted([*before, programs])
    assert first["compiled"] > 10
    assert (first["loaded"], first["failures"]) == (0, [])
    assert first["seconds"] > 0
    call("batch", "--json", "--output-dir", str(tmp_path / "out"), "--no-report")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(record["compiled"]) == first["compiled"]
    assert record["loaded"] == sorted(record["compiled"])
    again = call("warmup", "--json")
    assert (again["compiled"], again["loaded"]) == (0, first["compiled"])


@pytest.fixture
def no_other_cache():
    """Else this session's own would keep programs."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["jobs.csv"], "programs must be kept from run to run, and are not: NST_JAX_CACHE_DIR is"),
        ([], "warmup needs a manifest"),
        (["missing.csv"], "missing.csv"),
        (["jobs.csv", "--size", "3"], "size must be"),
    ],
)
def test_a_wrong_request_is_status_2_in_one_line(
    narrow_file, manifest, no_other_cache, monkeypatch, capsys, line, said
):
    monkeypatch.chdir(Path(manifest).parent)
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    assert run(["warmup", *line[:1], *flags(narrow_file), *line[1:]]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert said in told


def test_it_says_in_one_line_what_it_did_and_names_jobs_that_can_not_be(
    narrow_file, manifest, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "programs"))
    folder = Path(manifest).parent
    Path(manifest).write_text("content,style\nc0.png,s0.png\nbad.png,s0.png\n")
    (folder / "bad.png").write_text("no picture")
    assert run(["warmup", manifest, *flags(narrow_file, "--levels", "1"), "--quiet"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "bad__s0.png" in said.err
    Path(manifest).write_text("content,style\nc0.png,s0.png\n")
    assert run(["warmup", manifest, *flags(narrow_file, "--levels", "1")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "there already, in" in line
    Path(manifest).write_text("content,style\nbad.png,s0.png\n")
    assert run(["warmup", manifest, *flags(narrow_file), "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert (record["compiled"], record["loaded"]) == (0, 0)
    assert [one["job"] for one in record["failures"]] == ["bad__s0.png"]
