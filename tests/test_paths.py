"""Paths as people write them: homes, Windows, accents in two forms."""

import os
import unicodedata
from pathlib import Path

import pytest

from nst_jax import Job, Options
from nst_jax.cli.main import run
from nst_jax.engine.results import Result
from nst_jax.engine.run.preflight import check_inputs_not_overwritten
from nst_jax.files.folders import folder_and_name, folder_at
from nst_jax.files.storage import as_file
from nst_jax.request.errors import OutputError
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


def test_the_same_place_is_known_by_any_name_of_it(home):
    put(DECOMPOSED)
    result = Result(0, Job(COMPOSED, "~/s.png"))
    assert result.record()["content"] == str(home / DECOMPOSED)
    assert result.record()["style"] == [str(home / "s.png")]
    with pytest.raises(OutputError, match="take the place"):
        check_inputs_not_overwritten([COMPOSED], [DECOMPOSED[5:]], folder_at(f"~/{COMPOSED[:3]}"))
    assert list_spellings("é\\*") == ["é\\*", "e\u0301\\*", "é/*", "e\u0301/*"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["render", WINDOWS, "b.png", "--output=x.png"], "does not exist. It is a path of Windows"),
        (["render", "p\\a.png", "b.png", "--output=x.png"], "Folders are divided by / here"),
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
