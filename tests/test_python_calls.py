"""Python callers: options by keyword, wrong calls, progress, interrupts, results to look at."""

import base64
import inspect
import io
import os
import pydoc
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_runs import save_pixels
from engine_jobs import FIRST_TAPS, content_of, one_device, style_of, tiny_options
from PIL import Image

import nst_jax
from nst_jax import (
    Job,
    JobOptions,
    NstJaxError,
    Options,
    RunPolicy,
    every_pair,
    read_manifest,
    render,
    render_batch,
    render_many,
)
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.request.errors import OptionError, PictureError, StoppedError

JOB = Job(content_of(0), style_of(0), "a.png")
MISSING = Job("missing.png", style_of(0), "missing.png")


@pytest.fixture
def tiny(narrow_file: str) -> dict[str, Any]:
    """Options of a quick run, by keyword."""
    options = tiny_options(narrow_file, **FIRST_TAPS, steps=2)
    return {name: getattr(options, name) for name in options.given_names}


@pytest.fixture
def usual_interrupts() -> Iterator[None]:
    """Ctrl-C does what it does in a Python of one's own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# What help and editors say.


@pytest.mark.parametrize("kind", [JobOptions, Options, RunPolicy])
def test_help_explains_every_option_with_its_default(kind):
    shown = inspect.signature(kind).parameters
    assert set(shown) == kind.__dataclass_fields__.keys() - {"given_names"}
    assert all(one.kind is one.KEYWORD_ONLY for one in shown.values())
    text = pydoc.plain(pydoc.render_doc(kind))
    for name in shown:
        assert f"     {name}: " in text, name
    assert "Union" not in text.split("Attributes:")[1].split("Method resolution")[0]


def test_the_texts_are_those_under_the_fields():
    assert "style_weight: How strongly the style's statistics are matched." in Options.__doc__
    assert "    size: Long edge of the output in pixels.\n" in Options.__doc__
    assert "    size: Long" not in JobOptions.__doc__


# Wrong calls.


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: render("a", "b", "c"), "render must be given a Job, got 'a'. Write render(Job("),  # type: ignore
        (lambda: render(JOB, 3), "output must be a path, got 3"),  # type: ignore
        (lambda: render(JOB, "a.png", {"size": 3}), "options must be Options, got {'size': 3}"),  # type: ignore
        (lambda: render(JOB, stlye_weight=3), "got 'stlye_weight'. Did you mean 'style_weight'?"),
        (lambda: render(JOB, None, Options(), preset="gram"), "preset is the start of options"),
        (lambda: render_many("photos"), "jobs must be a list of Job, got 'photos'. Write [Job("),  # type: ignore
        (lambda: render_many(JOB), "jobs must be a list of Job, got Job."),  # type: ignore
        (lambda: render_many([JOB, 3]), "jobs must be a list of Job, got 3 in it"),  # type: ignore
        (lambda: render_many([JOB], on_error="stop"), "must be return or raise, got 'stop'"),  # type: ignore
        (lambda: render_many([JOB], size="large"), "size must be a whole number of pixels"),
        (lambda: render_batch([JOB], 3), "output_dir must be a folder's path, got 3"),  # type: ignore
        (lambda: every_pair(3, "art"), "contents and styles must be paths, arrays"),  # type: ignore
        (lambda: every_pair("art/*.jpg", "art"), "pattern 'art/*.jpg' must hold at least one"),
        (lambda: Options(64), "Options must be given each option by its name, got 64."),  # type: ignore
        (lambda: render_batch([JOB], "a", retries=1), "handling=RunPolicy(retries=...)"),
        (
            lambda: [*render_many([JOB, Job("a", "b", masks=["c", "d"])])],
            "job 1 of the list, 'a': ",
        ),
        (lambda: Options(stlye_weight=3), "Options must be given options that there are"),  # type: ignore
        (lambda: JobOptions(size=3), "JobOptions must be given options that there are"),  # type: ignore
        (lambda: [*render_many([Job("a", "b", size=128)])], "Options(size=512)"),  # type: ignore
    ],
)
def test_a_wrong_call_gets_one_sentence_and_its_remedy(call, said, no_type_checks):
    with pytest.raises(OptionError) as fault:
        call()
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)
    assert len(str(fault.value)) < 250


def test_a_large_thing_in_the_wrong_place_is_named_by_its_kind(no_type_checks):
    with pytest.raises(OptionError, match="got ndarray in it"):
        render_many([np.zeros((500, 500, 3))])  # type: ignore


# Options by keyword.


def test_options_by_keyword_are_those_of_an_object_and_go_on_top_of_one(narrow_file, tiny):
    by_name = render(JOB, devices=one_device(), **tiny)
    whole = render(JOB, None, Options(**tiny), devices=one_device())
    on_top = render(JOB, None, Options(**tiny | {"steps": 9}), devices=one_device(), steps=2)
    (many,) = render_many([JOB], devices=one_device(), **tiny)
    assert by_name.image is not None
    for other in (whole, on_top, many):
        assert np.array_equal(by_name.image, other.image)  # type: ignore
    assert by_name.steps == on_top.steps


# Where pictures are.


def test_pairs_are_of_folders_patterns_files_and_pictures_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "photos/b.png", "art/c.png", "art/deep/d.png"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        save_pixels(Path(name), content_of(0))
    pairs = [(job.content, job.style) for job in every_pair("photos", "art/**/*.png")]
    styles = ["art/c.png", "art/deep/d.png"]
    assert pairs == [(f"photos/{one}.png", style) for one in "ab" for style in styles]
    pixels = style_of(0)
    mixed = every_pair([Path("photos"), pixels], pixels)
    assert [job.content for job in mixed[:2]] == ["photos/a.png", "photos/b.png"]
    assert mixed[2].content is mixed[2].style is pixels
    assert [job.content for job in every_pair("gone.png", "art/c.png")] == ["gone.png"]


def test_a_manifest_is_read_by_its_path_as_text(tmp_path):
    (tmp_path / "jobs.csv").write_text("content,style,steps\na.png,b.png,3\n")
    for place in (str(tmp_path / "jobs.csv"), tmp_path / "jobs.csv"):
        (job,) = read_manifest(place)
        assert job.options and job.options.steps == 3  # noqa: PT018


def test_a_mask_may_be_of_truth_values(tiny):
    left = np.arange(content_of(0).shape[1]) < 20
    mask = np.broadcast_to(left, content_of(0).shape[:2])
    jobs = [
        Job(content_of(0), [style_of(0), style_of(1)], masks=masks)
        for masks in ([mask, ~mask], [np.uint8(255 * mask), np.uint8(255 * ~mask)])
    ]
    one, other = render_many(jobs, devices=one_device(), on_error="raise", **tiny)
    assert np.array_equal(one.image, other.image)  # type: ignore


# What is seen of a run.


def test_a_bar_or_lines_tell_of_progress(tiny, capsys):
    results = [*render_many([JOB], progress=True, devices=one_device(), **tiny)]
    assert len(results) == 1
    assert "a.png" in capsys.readouterr().err
    render(JOB, progress=True, devices=one_device(), **tiny)
    assert "a.png" in capsys.readouterr().err
    render(JOB, devices=one_device(), **tiny)
    assert not capsys.readouterr().err


def test_a_batch_writes_its_page_and_says_which_jobs_failed_and_why(tmp_path, tiny):
    out = tmp_path / "renders"
    for _ in range(2):  # the second time they failed before
        summary = render_batch([MISSING, JOB], out, devices=one_device(), **tiny)
        assert (summary.failed, list(summary.failures)) == (1, ["missing.png"])
        assert "missing.png" in summary.failures["missing.png"]
    assert (out / "report/index.html").is_file()
    render_batch([JOB], tmp_path / "other", devices=one_device(), report=False, **tiny)
    assert not (tmp_path / "other/report").exists()


class _Interrupting(NullProgress):
    """Presses Ctrl-C after the first steps."""

    def __init__(self, *, is_pressed: bool = False) -> None:
        self.is_pressed = is_pressed
        self.steps = self.taken = self.left = 0

    def on_start(self, jobs: int, image_steps: int, **more: Any) -> None:
        self.left, self.taken = image_steps, more["taken"]

    def on_step(self, image_steps: int) -> None:
        self.steps += image_steps
        if not self.is_pressed:
            self.is_pressed = True
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("kind", ["render", "batch"])
def test_an_interrupted_call_keeps_its_state_and_goes_on(tmp_path, tiny, kind, usual_interrupts):
    asked = tiny | {"steps": 60}
    whole = render(JOB, devices=one_device(), **asked)

    def call(progress: Any = False) -> None:
        if kind == "render":
            render(JOB, tmp_path / "a.png", progress=progress, devices=one_device(), **asked)
        else:
            render_batch([JOB], tmp_path, progress=progress, devices=one_device(), **asked)

    with pytest.raises(KeyboardInterrupt, match=r"stopped.*to go on"):
        call(pressing := _Interrupting())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not (tmp_path / "a.png").exists()
    assert any("state" in name for name in os.listdir(tmp_path))
    call(going_on := _Interrupting(is_pressed=True))
    assert going_on.taken == pressing.steps > 0, "what was kept is counted"
    assert going_on.steps == going_on.left == 120 - going_on.taken
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(whole.picture))


# Results.


@pytest.fixture
def result(tiny) -> Result:
    """With transparency."""
    content = np.dstack([content_of(0), np.linspace(0, 1, 34 * 48).reshape(34, 48)])
    return render(Job(content, style_of(0), "a.png"), devices=one_device(), **tiny)


def test_a_result_is_a_picture_and_can_be_saved(result, tmp_path):
    assert result.picture.mode == "RGBA"
    assert result.picture.size == (48, 34)
    expected = np.rint(255 * np.float64(np.dstack([result.image, result.alpha])))
    assert np.array_equal(np.asarray(result.picture), expected)
    for name in ("a.png", "deep/b.webp", "c.jpg", "d.tif"):
        result.save(tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.size == (48, 34)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), expected)
    result.save(str(tmp_path / "deep.png"), bit_depth=16)
    with pytest.raises(OptionError, match="save must be given a path, got 3"):
        result.save(3)  # type: ignore
    with pytest.raises(NstJaxError, match=r"must end in"):
        result.save(tmp_path / "a.bmp")


def test_a_result_tells_of_itself_shortly_and_shows_itself_in_notebooks(result, tmp_path):
    assert repr(result).startswith("<Result a.png, done, 48x34 px, 4 steps, ")
    assert f"loss {result.losses['total']:.4g}>" in repr(result)
    page = result._repr_html_()
    assert "a.png, done" in page
    assert "unweighted" in page
    data = page.split("base64,")[1].split('"')[0]
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert shown.size == (48, 34)


def test_a_failed_result_says_why_and_has_no_picture(tiny):
    (failed,) = render_many([MISSING], **tiny)
    assert repr(failed).startswith("<Result missing.png, failed, picture 'missing.png'")
    assert "failed" in failed._repr_html_()
    for ask in (lambda: failed.picture, lambda: failed.save("a.png")):
        with pytest.raises(PictureError):
            ask()


def test_names_that_take_long_to_import_are_listed_all_the_same():
    assert set(nst_jax.__all__) <= set(dir(nst_jax))


def test_a_run_that_its_own_caller_stops_is_told_as_stopped(tiny, tmp_path):
    stop = StopToken()
    stop.request()
    with pytest.raises(StoppedError):
        render(JOB, tmp_path / "a.png", stop=stop, devices=one_device(), **tiny)
