"""`nst-jax plan`: what a batch will be, as a table and as JSON, without rendering it."""

import dataclasses
import json
from pathlib import Path

import pytest
from batch_runs import save_pixels
from engine_jobs import FIRST_TAPS, Studio, content_of, one_device, style_of, tiny_job, tiny_options

from nst_jax.cli.main import run
from nst_jax.engine.device.runtime import CACHE_VARIABLE
from nst_jax.forecast.plan_report import make_plan_report
from nst_jax.request.errors import OptionError


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, "off")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder with contents of two shapes and a style, and a manifest; the current one."""
    monkeypatch.chdir(tmp_path)
    save_pixels(Path("a.png"), content_of(0))
    save_pixels(Path("b.png"), content_of(1, (48, 30)))
    save_pixels(Path("c.png"), content_of(2))
    save_pixels(Path("style.png"), style_of(0))
    Path("jobs.csv").write_text(
        "content,style,steps\na.png,style.png,4\nb.png,style.png,4\nc.png,style.png,8\n"
    )
    return tmp_path


def _flags(weights, **changes):
    options = {
        "weights": weights,
        "size": 48,
        "levels": 2,
        "level_ratio": 1.4142,
        "steps": 4,
    } | changes
    taps = ["--content-taps", "relu2_1", "--style-taps", "relu1_1", "relu2_1"]
    named = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    return [*taps, *(word for pair in named for word in pair)]


def _json(capsys, *line, status=0):
    assert run(["plan", *line, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_a_manifest_is_planned_canvas_by_canvas_and_pinned_names_are_the_largest_s(
    pictures, narrow_file, capsys
):
    plan = _json(capsys, "jobs.csv", *_flags(narrow_file, batch_size=2))
    assert plan["jobs"] == 3
    assert plan["levels"] == 2
    assert plan["image_steps"] == 2 * (4 + 4 + 8)
    canvases = {tuple(one["canvas"]): one for one in plan["canvases"]}
    landscape, portrait = canvases[48, 48], canvases[48, 32]
    assert (landscape["jobs"], landscape["slots"], landscape["batches"]) == (2, 2, 1)
    assert (portrait["jobs"], portrait["slots"], portrait["batches"]) == (1, 2, 1)
    # 12 steps of 34x48 in 2 slots of 48x48 that are kept for 8 steps.
    assert landscape["waste"] == pytest.approx(1 - 12 * 34 * 48 / (16 * 48 * 48), abs=1e-4)
    assert portrait["waste"] == pytest.approx(1 - 4 * 48 * 30 / (8 * 48 * 32), abs=1e-4)
    assert plan["seconds"] == pytest.approx(plan["flops"] / plan["flops_per_second"])
    assert plan["canvases"][-1] == landscape
    assert plan["batch_size"] == landscape["slots"]
    for name in ("flops_per_image_step", "bytes_per_chip"):
        assert plan[name] == landscape[name] > 0
    assert plan["collectives"] is None, "unknown, where nothing was compiled"


def test_contents_and_styles_are_planned_like_a_manifest_and_nothing_is_written(
    pictures, narrow_file, capsys
):
    before = sorted(pictures.iterdir())
    line = ["--contents", "a.png", "c.png", "--styles", "style.png"]
    plan = _json(capsys, *line, *_flags(narrow_file))
    assert plan["jobs"] == 2
    assert plan["image_steps"] == 2 * 2 * 4
    _json(capsys, "jobs.csv", *_flags(narrow_file))
    assert sorted(pictures.iterdir()) == before


def test_without_pictures_it_is_the_plan_of_a_square_one(narrow_file, capsys):
    plan = _json(capsys, *_flags(narrow_file, levels=1))
    assert [one["canvas"] for one in plan["canvases"]] == [[48, 48]]
    assert plan["jobs"] == 1
    assert plan["batch_size"] == 1
    assert plan["device"]["count"] == 8
    assert plan["waste"] == 0, "seven of eight devices have nothing to do, but their cores do"


def test_compiling_tells_the_compilers_memory_and_collectives(pictures, narrow_file, capsys):
    flags = _flags(narrow_file, levels=1, batch_size=8)
    guessed = _json(capsys, "jobs.csv", *flags)
    exact = _json(capsys, "jobs.csv", *flags, "--compile")
    assert exact["collectives"] == 0
    assert all(one["collectives"] == 0 for one in exact["canvases"])
    assert sum(name.startswith("step") for name in exact["compiled"]) == 2
    assert not any(name.startswith("step") for name in guessed["compiled"])
    assert exact["bytes_per_chip"] != guessed["bytes_per_chip"]
    assert exact["bytes_per_chip"] == pytest.approx(guessed["bytes_per_chip"], rel=0.25)


def test_a_bad_picture_is_listed_and_the_rest_is_planned(pictures, narrow_file, capsys):
    Path("b.png").write_text("no picture")
    plan = _json(capsys, "jobs.csv", *_flags(narrow_file), status=3)
    (failure,) = plan["failures"]
    assert failure["job"] == "b__style.png"
    assert failure["error"]["kind"] == "picture"
    assert plan["jobs"] == 3
    assert plan["image_steps"] == 2 * (4 + 8)
    Path("style.png").write_text("no picture")
    plan = _json(capsys, "jobs.csv", *_flags(narrow_file), status=3)
    assert [one["error"]["kind"] for one in plan["failures"]] == ["picture"] * 3
    for name in ("a.png", "b.png", "c.png"):
        Path(name).unlink()
    plan = _json(capsys, "jobs.csv", *_flags(narrow_file), status=3)
    assert len(plan["failures"]) == 3
    assert (plan["canvases"], plan["seconds"]) == ([], None)
    assert run(["plan", "jobs.csv", *_flags(narrow_file)]) == 3


def test_a_batch_size_beyond_the_jobs_is_a_note(pictures, narrow_file, capsys):
    plan = _json(capsys, "jobs.csv", *_flags(narrow_file, batch_size=16))
    assert plan["batch_size"] == 16
    (note,) = plan["notes"]
    assert "16" in note
    assert "3 jobs" in note


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--size 16384 --levels 1", "must fit the device's memory"),
        ("--batch-size 4096 --size 2048", "--batch-size"),
        ("--contents a.png", "--styles is missing"),
        ("jobs.csv --contents a.png --styles style.png", "plan needs a manifest"),
        ("missing.csv", "missing.csv"),
        ("--size 3", "size must be"),
        ("--steps 0", "steps must be"),
        ("--preset nonsense", "preset must be one of default, fast, "),
    ],
)
def test_a_wrong_request_is_status_2_in_one_line(pictures, narrow_file, capsys, line, said):
    assert run(["plan", "--weights", narrow_file, *line.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_the_table_shows_every_canvas_and_what_the_time_is_based_on(pictures, narrow_file, capsys):
    assert run(["plan", "jobs.csv", *_flags(narrow_file), "--quiet"]) == 0
    said = capsys.readouterr()
    for text in ("32x34", "48x48", "32x48", "on this machine", "GFLOP", "measured", "memory"):
        assert text in said.out, text
    assert said.err == ""


def test_no_rate_no_time(narrow_file):
    options = tiny_options(narrow_file)
    made = make_plan_report([tiny_job(0)], options, measure=False, devices=one_device())
    assert made.seconds is made.record()["seconds"] is None
    assert made.compiled == {}
    assert made.operations > 0
    large = tiny_options(narrow_file, size=16384, batch_size=1)
    with pytest.raises(OptionError, match="must fit"):
        make_plan_report([tiny_job(0)], large, compile_steps=True, devices=one_device())


def test_the_compilations_told_are_those_of_the_run(narrow_file):
    """Small ones too, which open batches, fill slots and empty them."""
    options = tiny_options(narrow_file)
    others = FIRST_TAPS | {"style_taps": ("conv1_1",)}
    blended = {"content_taps": ("pixels",), "pixel_blend": 0.5}
    jobs = [tiny_job(0, **FIRST_TAPS), tiny_job(1, **others), tiny_job(2, **FIRST_TAPS | blended)]
    two = dataclasses.replace(jobs[0], style=(style_of(0), style_of(1)))
    normalized = tiny_job(0, **FIRST_TAPS, content_normalization="mean")
    jobs += [two, normalized]
    studio = Studio(options)
    studio.render(jobs)
    made = make_plan_report(jobs, options, measure=False, devices=one_device())
    assert made.compilations == len(studio.programs.compiled)
    assert made.image_steps == studio.scheduler.timing.image_steps


def test_the_batches_told_are_those_of_a_run_that_refills_slots(narrow_file):
    """Steps 8, 4, 4, 2 in two slots: 8 and 4 first, then 4 and, beside it, 2 more at the end."""
    jobs = [tiny_job(number, steps=steps) for number, steps in enumerate((4, 8, 2, 4))]
    options = tiny_options(narrow_file, levels=1, batch_size=2)
    (canvas,) = make_plan_report(jobs, options, measure=False, devices=one_device()).canvases
    assert canvas.image_steps == 18
    assert canvas.computed_pixel_steps == 2 * 10 * 48 * 48
    assert canvas.operations == 2 * 10 * canvas.flops_per_image_step
