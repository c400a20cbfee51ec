"""What a run finds in a folder that is finished already, in part, or otherwise than it is asked."""

import json
from pathlib import Path

import pytest
from batch_runs import Answer, Batches, save

from nst_jax.cli.main import run

ROWS = ["a.png,b.png,x.png,0.1", "c.png,b.png,y.png,0.1", "a.png,d.png,z.png,0.1"]


@pytest.fixture
def done(tmp_path: Path, narrow_file: str, capsys: pytest.CaptureFixture[str]) -> Batches:
    """Three pictures that are finished."""
    made = Batches(tmp_path, narrow_file, capsys)
    made.rows(*ROWS)
    assert made.run().counts == (3, 0, 0)
    return made


def say(batches: Batches, capsys: pytest.CaptureFixture[str], *more: str) -> Answer:
    """The same batch once more, with what it says to people."""
    capsys.readouterr()
    status = run(batches.arguments(*more))
    return Answer(status, *capsys.readouterr())


def plan(batches: Batches, capsys: pytest.CaptureFixture[str], *more: str) -> Answer:
    """What the folder has of the batch."""
    arguments = batches.arguments(*more)
    arguments[0] = "plan"
    arguments.remove("--no-report")
    capsys.readouterr()
    status = run(arguments)
    return Answer(status, *capsys.readouterr())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ["--steps", "3"],
            "3 finished pictures are made again: steps was 2 and is 3; --keep-older",
        ),
        (["--tv-loss", "squared"], "tv_loss was nine_point and is squared"),
        (["--size", "40"], "size was 32 and is 40"),
        (["--style-taps", "relu1_1", "relu1_2"], "style_taps was relu1_1 and is relu1_1 relu1_2"),
    ],
)
def test_a_changed_option_is_said_before_its_pictures_are_made_again(done, capsys, change, said):
    answer = say(done, capsys, *change)
    assert answer.status == 0
    assert said in answer.err
    assert answer.err.index(said) < answer.err.index("preparing")
    assert "3 done, 0 failed, 0 up to date" in answer.out


def test_a_changed_row_or_input_is_said_of_its_own_picture(done, capsys):
    done.rows(ROWS[0], ROWS[1].replace("0.1", "0.2"), ROWS[2])
    save(done.folder / "d.png", 9)
    answer = say(done, capsys)
    assert "1 finished picture is made again: learning_rate was 0.1 and is 0.2;" in answer.err
    assert "1 finished picture is made again: an input file has changed;" in answer.err
    assert "2 done, 0 failed, 1 up to date" in answer.out


def test_pictures_by_other_options_are_left_where_that_is_asked_for(done, capsys):
    before = done.sums(["x.png", "y.png", "z.png"])
    answer = say(done, capsys, "--steps", "3", "--keep-older")
    assert "3 finished pictures are left as an older method, other options" in answer.err
    assert answer.out.splitlines() == ["3 of 3 pictures up to date"]
    assert done.sums(before) == before


def test_a_run_without_work_leaves_the_figures_of_the_last_one(done, capsys):
    figures = (done.out / "run.json").read_bytes()
    assert say(done, capsys).out.splitlines() == ["3 of 3 pictures up to date"]
    assert (done.out / "run.json").read_bytes() == figures
    done.rows(*ROWS[:2])
    assert say(done, capsys).out.splitlines() == ["2 of 2 pictures up to date"]
    told = json.loads((done.out / "run.json").read_bytes())
    assert told.pop("unasked") == ["z.png"]
    assert told == json.loads(figures)
    done.rows(*ROWS)
    say(done, capsys)
    assert (done.out / "run.json").read_bytes() == figures


def test_a_plan_lists_what_the_folder_has(done, capsys):
    (done.out / "y.png").unlink()
    done.rows(
        ROWS[0].replace("0.1", "0.3"), ROWS[1], "nowhere.png,b.png,w.png", "c.png,d.png,v.png"
    )
    before = sorted(path.name for path in done.out.iterdir())
    answer = plan(done, capsys, "--json")
    assert answer.json["folder"] == {
        "up_to_date": 0,
        "missing": ["y.png", "v.png"],
        "outdated": {"x.png": "learning_rate was 0.1 and is 0.3"},
        "failed": {"w.png": answer.json["folder"]["failed"]["w.png"]},
        "unasked": ["z.png"],
    }
    assert "nowhere.png" in answer.json["folder"]["failed"]["w.png"]
    said = plan(done, capsys).out
    for line in (
        "up to date            0",
        "missing               2",
        "  v.png",
        "  x.png: learning_rate was 0.1 and is 0.3",
        "no longer asked for   1",
    ):
        assert line in said.splitlines(), line
    assert max(map(len, said.splitlines())) < 200
    assert sorted(path.name for path in done.out.iterdir()) == before, "nothing is written"
