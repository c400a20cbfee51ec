"""Paths as people write them, patterns, and which pictures in a folder are the run's own."""

import os
import re
import unicodedata
from pathlib import Path
from unittest import mock

import pytest
from batch_runs import TINY, save

from nst_jax import Job, Options
from nst_jax.cli.main import run
from nst_jax.engine.results import Result
from nst_jax.engine.run.preflight import check_inputs_not_overwritten
from nst_jax.files.folders import folder_and_name, folder_at
from nst_jax.files.kept_programs import programs_folder
from nst_jax.files.own_files import OwnFiles
from nst_jax.files.picture_paths import PictureSearch, expand_picture_paths
from nst_jax.files.storage import as_file
from nst_jax.request.errors import OptionError, OutputError
from nst_jax.request.manifest import read_manifest
from nst_jax.request.paths import find_path, hint_at_spelling, list_spellings

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zoë/Café.png") for form in ("NFC", "NFD"))
WINDOWS = "C:\\pics\\a.png"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """The folder in which a test runs, which is the user's home too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def put(name: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).touch()


@pytest.mark.parametrize(
    ("there", "written", "found"),
    [
        ("a.png", "~/a.png", "{home}/a.png"),
        ("~/a.png", "./~/a.png", "./~/a.png"),
        ("a.png", "~no-such-user/a.png", "~no-such-user/a.png"),
        (DECOMPOSED, COMPOSED, DECOMPOSED),
        (COMPOSED, DECOMPOSED, COMPOSED),
        (f"{COMPOSED[:3]}/{DECOMPOSED[5:]}", COMPOSED, f"{COMPOSED[:3]}/{DECOMPOSED[5:]}"),
        ("b/a.png", "b\\a.png", "b/a.png"),
        ("b\\a.png", "b\\a.png", "b\\a.png"),
        (DECOMPOSED, COMPOSED.replace("/", "\\"), DECOMPOSED),
        ("a.png", WINDOWS, WINDOWS),
        ("a.png", "s3://bucket/~/é\\a.png", "s3://bucket/~/é\\a.png"),
        ("a.png", "no\0name", "no\0name"),
    ],
)
def test_a_path_is_found_as_it_is_called_here_and_else_stays_as_it_was_written(
    home, there, written, found
):
    put(there)
    found = found.format(home=home)
    assert find_path(written) == found
    assert str(as_file(written)) == str(Path(found) if "://" not in found else found)


def test_cells_of_a_manifest_lie_beside_it_at_home_or_where_windows_has_them(home):
    cells = {
        "~/a.png": str(home / "a.png"),
        "./~/a.png": "lists/~/a.png",
        WINDOWS: WINDOWS,
        "\\\\server\\a.png": "\\\\server\\a.png",
        "c:/pics/a.png": "c:/pics/a.png",
        "b\\a.png": "lists/b\\a.png",
    }
    put("lists/jobs.csv")
    Path("lists/jobs.csv").write_text("content,style\n" + "".join(f"{c},s\n" for c in cells))
    jobs = read_manifest(Path("~/lists/jobs.csv"), Options())
    beside = [str(job.content).replace(f"{home}/lists", "lists") for job in jobs]
    assert beside == list(cells.values())
    Path("jobs.csv").write_text("content,style\n./~/a.png,s\n")
    assert read_manifest(Path("jobs.csv"), Options())[0].content == "./~/a.png"


@pytest.mark.parametrize("name", [WINDOWS, "c:/x.png", "x\\y.png", "~no-such-user/x.png"])
def test_an_output_of_another_machine_is_refused_with_the_hint(name):
    for find in (folder_at, folder_and_name):
        with pytest.raises(OutputError, match="must be a path of this machine") as refusal:
            find(name)
        assert str(refusal.value).endswith(hint_at_spelling(name))
    assert os.listdir() == []
    put(name)
    assert folder_at(name).name == name
    put("b\\c/a.png")
    assert folder_at("b\\c/new").name == "b\\c/new"


def test_the_same_place_is_known_by_any_name_of_it(home, monkeypatch):
    put(DECOMPOSED)
    result = Result(0, Job(COMPOSED, "~/s.png"))
    assert result.record()["content"] == str(home / DECOMPOSED)
    assert result.record()["style"] == [str(home / "s.png")]
    with pytest.raises(OutputError, match="take the place"):
        check_inputs_not_overwritten([COMPOSED], [DECOMPOSED[5:]], folder_at(f"~/{COMPOSED[:3]}"))
    monkeypatch.setenv("NST_JAX_CACHE_DIR", "~/programs")
    assert programs_folder() == home / "programs"
    assert list_spellings("é\\*") == ["é\\*", "e\u0301\\*", "é/*", "e\u0301/*"]


PATTERNS = {
    "photos [2024]/*.jpg": {"photos [2024]/1.jpg": ""},
    "photos [2024]/*/*.jpg": {"photos [2024]/a/1.jpg": "a_1", "photos [2024]/b(c)/1.jpg": "b(c)_1"},
    "photos [2024]/**/1*": {
        "photos [2024]/1.jpg": "1",
        "photos [2024]/a/1.jpg": "a_1",
        "photos [2024]/b(c)/1.jpg": "b(c)_1",
    },
    "photos [[]2024]/a/1.*": {"photos [2024]/a/1.jpg": "photos [2024]_a_1"},
    "photos [2024]\\a\\*.jpg": {"photos [2024]/a/1.jpg": ""},
    "Zo\u00eb/*.png": {DECOMPOSED: ""},
    "*/Caf\u00e9*": {DECOMPOSED: DECOMPOSED[:-4].replace("/", "_")},
    "~/photos*/a/*": {"{home}/photos [2024]/a/1.jpg": "photos [2024]_a_1"},
    "photos [2024]/a": {"photos [2024]/a/1.jpg": ""},
    "photos [2024]/no.jpg": {"photos [2024]/no.jpg": ""},
}


@pytest.mark.parametrize("place", PATTERNS)
def test_a_pattern_takes_folders_that_are_there_as_they_are_written(home, place):
    for name in (DECOMPOSED, *(f"photos [2024]/{name}1.jpg" for name in ("", "a/", "b(c)/"))):
        put(name)
    search = PictureSearch()
    found = {path: search.names.get(path, "") for path in expand_picture_paths([place], search)}
    assert found == {path.format(home=home): name for path, name in PATTERNS[place].items()}


COPY = f"report/pictures/{'0af' * 8}.webp"


def test_a_folders_own_pictures_are_those_that_its_ledger_and_its_study_name(home):
    own = OwnFiles("out")
    Path("link").symlink_to("out")
    for name in ("out/a__s.png", "link/a__s.png", "out/index.png"):
        assert not own.folder_of(name), "nothing was rendered yet"
    put("out/ledger-0-of-2.jsonl")
    Path("out/ledger-0-of-2.jsonl").write_text(
        '{"job": "a__s.png", "status": "done"}\n{"job": "deep/é.png", "status": "failed"}\n'
    )
    Path("out/study.json").write_text('{"cells": [{"output": "patches/x.png"}]}')
    names = (
        *("a__s.png", "A__S.PNG", "deep/e\u0301.png", "index.png", "previews/a__s.png.000050.png"),
        *(COPY, "patches/x.png", "inputs/style.png", "contact_sheet.png"),
        *("ledger-0-of-2.jsonl", "state.npz", "report/index.html", "report/data.js"),
    )
    others = (
        *("out/a.png", "out/previews/a.png", "out/report/pictures/x.jpg", "out/x/out.png"),
        *("a__s.png", "s3://out/a__s.png"),
    )
    for asking, told in (("~/out", "~/out"), ("", str(home / "out")), ("new", str(home / "out"))):
        own = OwnFiles(asking)
        for name in names:
            for place in ("out", "link", home / "out"):
                assert own.folder_of(f"{place}/{name}") == told
        assert not any(map(own.folder_of, others))


@pytest.mark.parametrize(
    "mark", ["ledger.jsonl", "ledger-1.jsonl", "plan.json", "report/index.html"]
)
def test_below_a_pattern_no_run_s_pictures_are_contents_and_the_users_own_are(home, mark):
    put(f"old/run/{mark}")
    if mark.startswith("ledger"):
        Path(f"old/run/{mark}").write_text('{"job": "deep/a__s.png"}\n')
        put("old/run/deep/a__s.png")
    for name in (COPY, "previews/a__s.png.000050.png", "deep/mine.png", "report/mine.png"):
        put(f"old/run/{name}")
    search = PictureSearch(OwnFiles("new"))
    mine = ["old/run/deep/mine.png", "old/run/report/mine.png"]
    assert expand_picture_paths(["old/**"], search) == mine
    assert set(search.left_out.values()) == {str(home / "old/run")}
    assert not search.passed_over
    named = f"old/run/{COPY}"
    assert expand_picture_paths([named]) == [named], "a file that is named is meant"


def test_a_folder_of_another_runs_outputs_alone_is_named_for_them(home):
    put("old/ledger.jsonl")
    Path("old/ledger.jsonl").write_text('{"job": "a__s.png"}\n{"job": "b__s.png"}\n')
    outputs = ["old/a__s.png", "old/b__s.png"]
    for name in (*outputs, "old/index.png"):
        put(name)
    assert expand_picture_paths(["old"], PictureSearch(OwnFiles("new"))) == outputs
    for place, asking in (("old/*", "new"), ("old", "old")):
        with pytest.raises(OptionError, match=r"got none, only 3 that runs have written"):
            expand_picture_paths([place], PictureSearch(OwnFiles(asking)))
    put("old/mine.png")
    assert expand_picture_paths(["old"], PictureSearch(OwnFiles("new"))) == ["old/mine.png"]


def test_a_ledger_that_may_not_be_read_is_a_fault_of_its_own_run_alone(home, monkeypatch):
    for name in ("old/ledger.jsonl", "old/a__s.png"):
        put(name)
    monkeypatch.setattr(Path, "open", mock.Mock(side_effect=PermissionError(13, "Denied")))
    assert expand_picture_paths(["old/*.png"], PictureSearch(OwnFiles("new"))) == ["old/a__s.png"]
    with pytest.raises(OutputError, match="ledger in 'old' can't be read: denied"):
        expand_picture_paths(["old/*.png"], PictureSearch(OwnFiles("old")))


def test_a_second_run_takes_nothing_of_the_first_and_says_what_is_renamed(
    home, capsys, narrow_file
):
    def batch(*contents: str) -> tuple[tuple[int, ...], list[str]]:
        """Jobs done and skipped, and what was said of inputs and names."""
        command = ["batch", "--contents", *contents, "--styles", "s.png", "--output-dir", "photos"]
        more = ["--preview-every", "1", "--contact-sheet", "--weights", narrow_file]
        assert run([*command, *TINY, *more]) == 0
        told = capsys.readouterr()
        said = told.err.splitlines()
        found = re.search(r"(\d+) done, 0 failed, (\d+) up to date", told.out)
        upper = re.search(r"(\d+) of \d+ pictures? up to date", told.out)
        counts = (found[1], found[2]) if found else (0, upper[1] if upper else "")
        lines = [line for line in said if "left out" in line or "another name" in line]
        return tuple(map(int, counts)), lines

    Path("photos/more").mkdir(parents=True)
    for seed, name in enumerate(("s.png", "photos/1.png", "photos/more/1.png")):
        save(Path(name), seed)
    assert batch("photos") == ((1, 0), [])
    left_out = "pictures are left out: earlier runs have put them into 'photos'"
    done, (said,) = batch("photos")
    assert done == (0, 1)
    assert f"2 {left_out}" in said
    done, (_, said) = batch("photos", "photos/more")
    assert done == (2, 0)
    assert "1 picture is finished under another name" in said
    assert "'1__s.png' is 'photos_1__s.png' now" in said
    done, (said,) = batch("photos", "photos/more")
    assert done == (0, 2)
    done, (said,) = batch("photos/**")
    assert done == (0, 2), "photos/1.png and photos/more/1.png have these names from now on"
    assert left_out in said
    with pytest.raises(OptionError, match=r"got none, only 3 that runs have written"):
        expand_picture_paths(["photos/*_*.png"], PictureSearch(OwnFiles("photos")))
    Path("new").mkdir()
    save(Path("new/index.png"), 9)
    arguments = ["batch", "--contents", "new", "--styles", "s.png", "--output-dir", "new"]
    assert run([*arguments, "--contact-sheet"]) == 2
    assert "'index.png' would take the place of a picture that is read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["render", WINDOWS, "b.png", "--output=x.png"], "does not exist. It is a path of Windows"),
        (["render", "p\\a.png", "b.png", "--output=x.png"], "Folders are divided by / here"),
        (["render", "\u201ca.png\u201d", "b.png", "--output=x.png"], "Typographic quotes are part"),
        (["score", "x", "~/a.png", "~no/a.png"], "Nobody has that home here"),
        (["batch", "d\\jobs.csv", "--output-dir=~/out"], "no such file or directory. Folders are"),
        (["report", "~/out"], "{home}/out"),
        (["weights", "convert", "~/no.h5", "~/x.h5"], "{home}/no.h5"),
    ],
)
def test_on_the_command_line(home, capsys, narrow_file, arguments, said):
    weights = ["--weights", narrow_file] if arguments[0] in ("render", "batch") else []
    assert run([*arguments, *weights]) == 2
    assert said.format(home=home) in capsys.readouterr().err.splitlines()[-1]
    assert os.listdir() == []
