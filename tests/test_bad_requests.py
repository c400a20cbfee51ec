"""Wrong requests: refused before any work, each fault in one clear sentence, status 2."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_house import COMMAND, loads_jax

from nst_jax.cli.main import run
from nst_jax.request.errors import ManifestError
from nst_jax.request.manifest import read_manifest
from nst_jax.request.options import SHARED_FIELDS, Options

pytestmark = pytest.mark.usefixtures("no_type_checks")

HEADER = "content,style,output\n"


def refusal(folder: Path, text: str | bytes, *, suffix: str) -> ManifestError:
    path = folder / f"jobs{suffix}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, Options())
    assert repr(str(path)) in str(caught.value)
    return caught.value


# One line's faults, in CSV and in JSON Lines.


@pytest.mark.parametrize("name", ["size", "weights", "batch_size", "contents", "?", "Steps"])
def test_a_column_that_can_not_be_one_is_refused_by_name(tmp_path, name):
    of_the_run = name in SHARED_FIELDS
    for text, suffix in (
        (f"content,style,{name}\na,b,1\n", ".csv"),
        (json.dumps({"content": "a", "style": "b", name: 1}), ".jsonl"),
    ):
        (fault,) = refusal(tmp_path, text, suffix=suffix).faults
        assert fault.startswith("line 1: ")
        assert repr(name) in fault
        assert ("command line" if of_the_run else "style_blend_weights") in fault


WRONG_CELLS = {
    "steps": ["0", "1.5", "many", "1e3", "-1", "nan", "9" * 5000],
    "seed": ["-1", str(2**32)],
    "content_weight": ["nan", "inf", "-1", "1e999", "heavy"],
    "learning_rate": ["0", "Infinity"],
    "early_stop": ["-0.1", "nan", "inf", "some", "-1e-9"],
    "style_scale": ["9"],
    "init": ["sideways", "Noise"],
    "content_taps": ["relu1_1;relu1_1", "relu1_1;", ";"],
    "style_tap_weights": ["1;2", "1;1;1;1;x", "0;0;0;0;0"],
    "style_blend_weights": ["1;2", "0", "-1", "nan"],
    "output": [
        *("../x.png", "/x.png", "a/../../x.png", "C:\\x.png", "C:x.png", "a\\b.png"),
        *(".x.png", "a/.x/b.png", "x", "x.gif", "x.png.txt", "y" * 201 + ".png"),
    ],
    "style": ["b;;c", ";"],
    "masks": ["m;n", "m;;n", ";"],
    "style_size": ["-1", "15", "1.5", "large"],
    "noise_ratio": ["-0.1", "1.1", "nan"],
    "color": ["sepia"],
    "style_masks": ["m;n", ";"],
}


@pytest.mark.parametrize("name", WRONG_CELLS)
def test_every_wrong_cell_is_told_by_its_line_and_column(tmp_path, name):
    cells = WRONG_CELLS[name]
    header = "content,style" if name == "style" else f"content,style,{name}"
    rows = [f"a,{cell}" if name == "style" else f"a,b,{cell}" for cell in cells]
    error = refusal(tmp_path, "\n".join([header, *rows, ""]), suffix=".csv")
    assert len(error.faults) == len(cells)
    for line, fault in enumerate(error.faults, start=2):
        assert fault.startswith(f"line {line}: {name} "), fault
        assert len(fault) < 600
    assert "Error" not in str(error)


WRONG_VALUES = {
    "steps": [True, 1.5, float("nan"), "x", [1], {}, 1e400, "9" * 5000],
    "content_weight": [True, "x", [1.0], {}, float("nan"), float("inf"), -1, 10**400],
    "early_stop": [-0.1, float("nan"), "some", True, [0.1]],
    "init": [5, ["noise"], {}, " ", False],
    "content_taps": [5, [], [5], [["relu1_1"]], [""], {"relu1_1": 1}, True],
    "style_blend_weights": [5, ["x"], [None], [True], [1, 2], [[1]], [float("nan")]],
    "output": [5, ["x.png"], True, {}, "a\0.png", "\ud800.png"],
    "content": [None, "", " ", 5, [], ["a"], {}, True, "a\0b", "\ud800.png"],
    "style": [None, "", 5, [], [""], [5], [None], {}, {"b": 1}, True, [["b"]], "\udfff"],
    "masks": [" ", 5, [""], [5], {}, {"b": 1}, True, [["b"]], "\udfff", ["m", "n"]],
    "style_masks": [" ", 5, [""], ["m", "n"]],
    "init_image": [" ", 5, [], ["a"], {}, True, "a\0b"],
}


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_every_wrong_json_value_is_told_by_its_line_and_key(tmp_path, name):
    lines = [json.dumps({"content": "a", "style": "b", name: v}) for v in WRONG_VALUES[name]]
    error = refusal(tmp_path, "\n".join(lines), suffix=".jsonl")
    assert len(error.faults) == len(lines)
    for line, fault in enumerate(error.faults, start=1):
        assert fault.startswith(f"line {line}: {name} "), fault
        assert "\n" not in fault


BROKEN_LINES = [
    *("[1]", "null", "1", '"a"', "{", "nonsense", "{} {}", "{'content': 1}", "[" * 10**5),
    *("{}", '{"a": 1}', '{"content": "a"}', '{"style": "a"}'),
    '{"content": "a", "content": "c", "style": "b"}',
]


@pytest.mark.parametrize("line", BROKEN_LINES, ids=range(len(BROKEN_LINES)))
def test_a_broken_json_line_is_told_by_its_number(tmp_path, line):
    good = '{"content": "a", "style": "b"}'
    (fault,) = refusal(tmp_path, f"{good}\n\n{line}\n{good}\n", suffix=".jsonl").faults
    assert fault.startswith("line 3: ")


def test_nesting_as_deep_as_can_be_read_is_a_fault_and_no_crash(tmp_path):
    for depth in (100, 500, 900, 980, 1000, 5000):
        nested = "[" * depth + "]" * depth
        for name in ("style", "init", "steps", "content_taps", "output", "style_blend_weights"):
            values = {"content": '"a"', "style": '"b"', name: nested}
            text = ",".join(f'"{key}": {value}' for key, value in values.items())
            (fault,) = refusal(tmp_path, f"{{{text}}}", suffix=".jsonl").faults
            assert fault.startswith("line 1: ")


# A whole manifest's faults.


def test_all_faults_come_at_once_in_the_order_of_their_lines(tmp_path):
    text = (
        "content,style,output,steps\n"
        "a,b,x.png,1\n"
        "a,b,y.png,0\n"
        "a,b\n"
        '"two\nlines",b,../z.png,\n'
        ",b,,\n"
        "\n"
        "a,b,X.PNG,\n"
        "a,b,./x.png,\n"
    )
    error = refusal(tmp_path, text, suffix=".csv")
    assert [fault.split(":")[0] for fault in error.faults] == [
        f"line {line}" for line in (3, 4, 5, 7, 9, 10)
    ]
    assert all(fault in str(error) for fault in error.faults)
    assert "6 faults" in str(error)
    assert "taken by line 2" in error.faults[-1]


def test_outputs_that_lie_in_one_another_are_told_by_their_lines(tmp_path):
    text = HEADER + "a,b,x.png\na,b,x.png/y.png\na,b,z.png/u/v.png\na,b,Z.png\na,b,z.PNG/u\n"
    error = refusal(tmp_path, text, suffix=".csv")
    said = [fault.partition(" must end in")[0] for fault in error.faults]
    assert said == [
        "line 3: output 'x.png/y.png' lies in the output of line 2, which is a file. "
        "Name them apart",
        "line 5: output 'Z.png' is a folder in the output of line 4. Name them apart",
        "line 6: output 'z.PNG/u'",
    ]


def test_an_output_through_a_link_out_of_the_folder_is_refused(refused):
    Path("out").mkdir()
    Path("elsewhere").mkdir()
    Path("out/link").symlink_to("../elsewhere")
    Path("out/deep").mkdir()
    Path("out/deep/up").symlink_to("../..")
    for place in ("link/x.png", "link/new/x.png", "deep/up/x.png", "deep/up/elsewhere/x.png"):
        Path("jobs.csv").write_text(f"content,style,output\na.png,b.png,{place}\n")
        assert "symbolic link leads out of it" in refused(
            "batch", "jobs.csv", "--output-dir", "out"
        )


def test_thousands_of_faults_are_counted_and_the_first_are_shown(tmp_path):
    error = refusal(tmp_path, HEADER + "a,b,x.gif\n" * 3000, suffix=".csv")
    assert len(error.faults) == 3000
    assert "3000 faults" in str(error)
    assert str(error).endswith("and 2980 more")


def test_a_broken_quote_is_told_by_the_line_where_its_row_begins(tmp_path):
    text = HEADER + 'a,b,x.png\n"c,d,y.png\n' + "e,f,z.png\n" * 50
    (fault,) = refusal(tmp_path, text, suffix=".csv").faults
    assert fault.startswith("line 3: ")
    (fault,) = refusal(tmp_path, HEADER + 'a,b,x.png\n"c"c,d,y.png\n', suffix=".csv").faults
    assert fault.startswith("line 3: ")


NO_TABLES = [
    ("", "content"),
    ("content,output\na,x.png\n", "'style' is missing"),
    ("content,style,style\na,b,c\n", "'style' twice"),
    ("content,style\n", "at least one job"),
    ("content|style\na|b\n", "unknown column 'content|style'"),
    (
        "content;style\na;b;c\n",
        "line 2: a row must have 2 cells as the header, got 3. A cell with a",
    ),
    ("content,style,\na,b,1\n", "line 2: a column without a name must be empty, or the first"),
    ("sep=,\n,content,style\nx.png,a,b\n", "line 3: a column without a name"),
    ("content,style\na,\"['b.png', 'c.png']\"\n", "style must be written with ; between several"),
    ("content;style;tv_weight\na;b;0,5\n", "got '0,5'. Decimals stand behind a point"),
    *(
        (f"content;style;steps\na;b;{number}\n", f"got {number!r}. Write thousands without")
        for number in ("1,000", "12,345,678", "1 000", "1'000", "1,000.5")
    ),
    ("content;style;tv_weight\na;b;0,125\n", "got '0,125'. Decimals stand behind a point"),
    ("\n\ncontent,style\na,b,c\n", "line 4: a row must have 2 cells"),
    ("\n\ncontent\na\n", "line 3: the header must name content and style"),
    ("content,style,steps\na,b,nan\n", "got 'nan'. Leave it empty where the run's value"),
    ("content,style,stlye_weight\na,b,1\n", "Did you mean 'style_weight'? There are content"),
    ("content,style,style_taps\na,b,relu1_1;relu9_1\n", "line 2: tap 'relu9_1' does not exist"),
    (b"content,style\n\xff,b\n", "UTF-8"),
    ("content,style\na,b\n".encode("utf-16"), "UTF-8"),
    ("content,style\na,b\na\0,b\n", "NUL byte in line 3"),
]


@pytest.mark.parametrize(
    ("text", "said", "suffix"),
    [
        *((text, "at least one job", ".jsonl") for text in ("", "\n\n", "\ufeff", " \r\n")),
        *((text, said, ".csv") for text, said in NO_TABLES),
        ('[{"content": "a", "style": "b"}]', "Write an object a line, and no list", ".jsonl"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text, said, suffix):
    assert said in str(refusal(tmp_path, text, suffix=suffix))


def test_a_manifest_that_can_not_be_read_says_why(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, said in (("folder.csv", "folder"), ("no.jsonl", "no such file"), ("a.txt", ".csv")):
        with pytest.raises(ManifestError, match=said):
            read_manifest(tmp_path / name, Options())


# On the command line.


def test_a_manifest_error_comes_without_jax_and_that_can_be_seen(tmp_path):
    manifest = tmp_path / "jobs.csv"
    places = [str(manifest), "--output-dir", str(tmp_path / "out")]
    command = COMMAND.format(arguments=["batch", *places, "--weights", "nowhere.h5"])
    for steps in (0, 1):
        manifest.write_text(f"content,style,steps\na,b,{steps}\n")
        assert loads_jax(command) == bool(steps)


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys, narrow_file) -> Callable[..., str]:
    """Runs a command that must be refused with nothing written; returns what it says."""
    monkeypatch.chdir(tmp_path)
    for variable in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "PARALLEL_SEQ"):
        monkeypatch.delenv(variable, raising=False)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 255, (32, 40, 3), np.uint8)).save(f"{name}.png")
    Image.new("RGB", (32, 3)).save("thin.png")
    Image.new("L", (40, 32)).save("black.png")
    Image.new("L", (32, 40), 255).save("upright.png")
    Path("text.png").write_text("no picture")
    Path("folder").mkdir()
    Path("jobs.csv").write_text("content,style\na.png,b.png\n")

    def refused(*arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        small = ["--weights", narrow_file, "--size", "32", "--levels", "1", "--steps", "2"]
        weights = small if "--weights" not in arguments else small[2:]
        assert run([*arguments, *weights]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert sorted(tmp_path.rglob("*")) == before
        *progress, message = said.err.splitlines()
        assert message.startswith("nst-jax: ")
        assert all(line.startswith("[") for line in progress)
        return message

    return refused


RENDER = [
    ("no.png b.png --output x.png", "'no.png' does not exist"),
    ("a.png no.png --output x.png", "'no.png' does not exist"),
    ("folder b.png --output x.png", "'folder' must be a file"),
    ("text.png b.png --output x.png", "'text.png' is no picture"),
    ("thin.png b.png --output x.png", "at least 16 px"),
    ("a.png thin.png --output x.png", "at least 16 px"),
    ("a.png b.png --output x.gif", "must end in"),
    ("a.png b.png --output x", "must end in"),
    ("a.png b.png --output ./a.png", "would take the place of a picture that is read"),
    ("a.png b.png --output b.png", "would take the place of a picture that is read"),
    ("a.png b.png --output x.png --style-blend-weights 1e300", "finite in float32"),
    ("a.png b.png --output x.jpg --bit-depth 16", "16 bits"),
    ("a.png --output x.png", "at least one style"),
    ("a.png b.png --output x.png --style-blend-weights 1 2", "style_blend_weights"),
    ("a.png b.png --output x.png --masks a.png b.png", "masks must have one picture for each"),
    ("a.png b.png --output x.png --style-masks a.png b.png", "style_masks must have one picture"),
    ("a.png b.png --output x.png --masks no.png", "'no.png' does not exist"),
    ("a.png b.png --output x.png --masks text.png", "'text.png' is no picture"),
    ("a.png b.png --output x.png --masks black.png", "must have a pixel that is not black"),
    ("a.png b.png --output x.png --style-masks black.png", "a pixel that is not black"),
    ("a.png b.png --output x.png --masks upright.png", "content 'a.png', which is 40x32"),
    ("a.png b.png --output x.png --style-masks upright.png", "style 'b.png', which is 40x32"),
    ("a.png b.png --output x.png --init file", "init file needs an init_image"),
    ("a.png b.png --output x.png --init-image a.png", "got init content and 'a.png'"),
    ("a.png b.png --output x.png --init file --init-image no.png", "'no.png' does not exist"),
    ("a.png b.png --output x.png --init file --init-image upright.png", "which is 40x32"),
    ("a.png b.png --output x.png --style-size -5", "style_size must be 0 or a whole number"),
    ("a.png b.png --output x.png --style-size 64 --style-scale 2", "can't both be given"),
    ("a.png b.png --output x.png --learning-rate nan", "learning_rate must be"),
    ("a.png b.png --output x.png --content-taps relu4_9", "relu4_1 to relu4_3"),
    ("a.png b.png --output x.png --style-taps relu9_1", "blocks 1 to 5"),
    ("a.png b.png --output x.png --style-taps relu4_1 r41", "none twice"),
    ("a.png b.png --output x.png --optimizer lbfgs --gradient-normalization l1", "lbfgs needs"),
    ("a.png b.png --output x.png --weights vgg99", "vgg99"),
    ("a.png b.png --output x.png --weights a.png", "a.png"),
    ("a.png b.png --output x.png --preset nonsense", "preset must be one of default, fast, "),
    ("a.png b.png --output x.png --preset=nonsense", "preset must be one of default, fast, "),
]


@pytest.mark.parametrize(("arguments", "said"), RENDER)
def test_render_refuses_in_one_sentence_with_the_remedy(refused, arguments, said):
    assert said in refused("render", *arguments.split())


def test_an_empty_name_is_no_folder(refused):
    assert "must name a picture, got nothing" in refused("render", "", "b.png", "--output", "x.png")


BATCH = [
    ("jobs.csv", "--output-dir"),
    ("jobs.csv --output-dir out --shard 4/4", "numbered from 0 to 3, got 4/4"),
    ("jobs.csv --output-dir out --shard half", "must be auto, distributed, or I/N"),
    ("jobs.csv --output-dir out --shard auto", "Slurm"),
    ("jobs.csv --output-dir out --shard 0/2 --contact-sheet", "can't go with --shard"),
    ("jobs.csv --output-dir out --engine ray --shard 0/2", "--shard can't go with it"),
    ("jobs.csv --output-dir out --address auto", "Add --engine ray"),
    ("jobs.csv --output-dir out --engine ray --workers -1", "workers must be from 0"),
    ("--output-dir out", "neither"),
    ("jobs.csv --contents a.png --styles b.png --output-dir out", "both"),
    ("--contents a.png --output-dir out", "--styles is missing"),
    ("--styles a.png --output-dir out", "--contents is missing"),
    ("--contents folder --styles b.png --output-dir out", "at least one picture"),
    ("--contents *.bmp --styles b.png --output-dir out", "at least one picture"),
    ("jobs.csv --output-dir a.png", "it is no folder"),
    ("jobs.csv --output-dir a.png/out", "can't be written"),
    ("no.csv --output-dir out", "no such file"),
    ("jobs.csv --output-dir out --content-taps relu4_9", "relu4_1 to relu4_3"),
    ("x.csv --preset nonsense", "preset must be one of default, fast, "),
]


@pytest.mark.parametrize(("arguments", "said"), BATCH)
def test_batch_refuses_in_one_sentence_with_nothing_written(refused, arguments, said):
    assert said in refused("batch", *arguments.split())


SHALLOW = "--content-taps relu1_1 --style-taps relu1_1"

STUDY = [
    ("layers a.png b.png --content-taps relu4_9", "relu4_1 to relu4_3"),
    ("layers a.png b.png --style-taps raw relu9_1", "blocks 1 to 5"),
    ("layers thin.png b.png", "at least 16 px"),
    ("layers a.png thin.png", "at least 16 px"),
    (f"layers thin.png b.png {SHALLOW}", "content must be at least 16 px"),
    (f"layers a.png thin.png {SHALLOW}", "style must be at least 16 px"),
    (f"pixels thin.png b.png {SHALLOW}", "content must be at least 16 px"),
    (f"reconstruct thin.png {SHALLOW}", "content must be at least 16 px"),
    (f"balance a.png thin.png {SHALLOW}", "style must be at least 16 px"),
    ("layers a.png no.png", "'no.png' does not exist"),
    ("layers a.png b.png --balance 0", "balance must be"),
    ("pixels a.png b.png --ratios 0 0.5", "ratios must be"),
    ("pixels a.png b.png --ratios 0.5 0.5", "ratios must be at least one number, none twice"),
    ("reconstruct thin.png", "at least 16 px"),
    ("balance a.png b.png --style-weights 3 3", "style_weights must be"),
    ("balance a.png b.png --step-counts 0", "steps must be"),
    ("neurons a.png --taps relu3_1 --channels 8", "channels 0 to 7"),
    ("neurons a.png --taps relu3_9", "relu3_1 to relu3_3"),
    ("neurons a.png --taps pool3", "at least one relu"),
    ("neurons thin.png", "at least 16 px"),
    ("neurons a.png --content-taps relu1_1", "content_taps does not count in a study of neurons"),
    ("neurons a.png --init grey", "init does not count in a study of neurons"),
    ("neurons a.png --preview-every 5", "preview_every does not count in a study of neurons"),
    ("neurons folder", "at least one picture"),
    ("neurons a.png no.png", "'no.png' does not exist"),
]


@pytest.mark.parametrize(("arguments", "said"), STUDY)
def test_a_study_is_refused_in_one_sentence_before_any_rendering(refused, arguments, said):
    assert said in refused("study", *arguments.split(), "--output-dir", "out")
