"""Manifests: what a row means, whichever program wrote it.

That a wrong one is refused is told in `test_bad_requests.py`.
"""

import csv
import gc
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nst_jax.request.errors import ManifestError
from nst_jax.request.job import Job
from nst_jax.request.manifest import read_manifest
from nst_jax.request.options import JOB_FIELDS, JobOptions, Options, job_options
from nst_jax.request.taps import VGG19

pytestmark = pytest.mark.usefixtures("no_type_checks")


def jobs_in(folder: Path, text: str | bytes, *, suffix: str, **options: object) -> list[Job]:
    path = folder / f"jobs{suffix}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_manifest(path, Options(**options))  # pyright: ignore[reportArgumentType]


def plain(jobs: list[Job], folder: Path) -> list[tuple[str, list[str], str]]:
    """Content, styles and output of each job, relative to the manifest's folder."""
    return [
        (
            os.path.relpath(str(job.content), folder),
            [os.path.relpath(str(style), folder) for style in job.styles],
            job.output,
        )
        for job in jobs
    ]


# What a row means.


def test_a_csv_row_and_a_json_line_mean_the_same(tmp_path):
    table = (
        "content,style,style_blend_weights,output,steps,content_taps,init,init_image,tv_weight,"
        "masks,style_masks\n"
        "a.png,b.png;c.png,1;3,x/y.png,7,relu1_1; pixels,file,i.png,0.5,m;n,o;p\n"
    )
    line = {
        "content": "a.png",
        "style": ["b.png", "c.png"],
        "style_blend_weights": [1, 3],
        "output": "x/y.png",
        "steps": 7,
        "content_taps": ["relu1_1", "pixels"],
        "init": "file",
        "init_image": "i.png",
        "tv_weight": 0.5,
        "masks": ["m", "n"],
        "style_masks": ["o", "p"],
    }
    wanted = JobOptions(
        style_blend_weights=(1.0, 3.0),
        steps=7,
        content_taps=("relu1_1", "pixels"),
        init="file",
        tv_weight=0.5,
    )
    for text, suffix in ((table, ".csv"), (json.dumps(line), ".jsonl")):
        (job,) = jobs_in(tmp_path, text, suffix=suffix)
        assert plain([job], tmp_path) == [("a.png", ["b.png", "c.png"], "x/y.png")]
        assert job.options == wanted
        assert job.init_image == str(tmp_path / "i.png")
        assert list(job.masks) == [str(tmp_path / name) for name in "mn"]
        assert list(job.style_masks) == [str(tmp_path / name) for name in "op"]
    (job,) = jobs_in(tmp_path, '{"content": "a", "style": "b", "masks": "m"}', suffix=".jsonl")
    assert (list(job.masks), list(job.style_masks)) == ([str(tmp_path / "m")], [])


def test_an_empty_cell_and_a_missing_key_mean_the_runs_own_value(tmp_path):
    run = {"steps": 9, "seed": 4, "style_taps": ("relu1_1",)}
    wanted = JobOptions(**(run | {"seed": 5}))  # pyright: ignore[reportArgumentType]
    own = ("steps", "style_taps", "init", "init_image", "masks", "output", "width", "height")
    for word in ("", "null", "NULL", "None", "NA", "N/A", "#N/A", "<NA>"):
        text = f"content,style,seed,{','.join(own)}\na,b,5{f',{word}' * len(own)}\n"
        (job,) = jobs_in(tmp_path, text, suffix=".csv", size=64, **run)
        assert (job.options, job.init_image, job.masks, job.size) == (wanted, None, (), None)
    for value in (None, "", float("nan")):
        unsaid = {name: value for name in own if value == value or name in ("init", "init_image")}
        text = json.dumps({"content": "a", "style": "b", "seed": 5, **unsaid})
        (job,) = jobs_in(tmp_path, text, suffix=".jsonl", size=64, **run)
        assert (job.options, job.init_image, job.masks, job.size) == (wanted, None, (), None)
    (job,) = jobs_in(tmp_path, '{"content": "a", "style": "b", "seed": 5}', suffix=".jsonl", **run)
    assert job.options == wanted
    (job,) = jobs_in(tmp_path, "content,style\nNA,null\n", suffix=".csv")
    assert plain([job], tmp_path) == [("NA", ["null"], "")], "what must be there is a name"


@pytest.mark.parametrize("number", ["3", "3.0", "3.", "3.00", "+3"])
def test_a_whole_number_may_have_a_point(tmp_path, number):
    (job,) = jobs_in(tmp_path, f"content,style,steps,seed\na,b,{number},0.0\n", suffix=".csv")
    assert (job.options.steps, job.options.seed) == (3, 0)
    text = '{"content": "a", "style": "b", "steps": 3.0, "width": 40.0, "height": 30.0}'
    (job,) = jobs_in(tmp_path, text, suffix=".jsonl")
    assert (repr(job.options.steps), job.size) == ("3", (30, 40))


def test_inputs_are_sought_beside_the_manifest_unless_they_are_absolute(tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    monkeypatch.chdir(tmp_path)
    path = Path("lists") / "jobs.csv"
    path.write_text(f"content,style\n../a.png,{tmp_path / 'b.png'}\n")
    (job,) = read_manifest(path, Options())
    assert Path(str(job.content)) == Path("lists/../a.png")
    assert Path(str(job.styles[0])) == tmp_path / "b.png"


SAME_TWO_JOBS = {
    "plain": "content,style,output\na,b,x.png\nc,d,y.png\n",
    "byte order mark": "\ufeffcontent,style,output\na,b,x.png\nc,d,y.png\n",
    "CRLF": "content,style,output\r\na,b,x.png\r\nc,d,y.png\r\n",
    "CR": "content,style,output\ra,b,x.png\rc,d,y.png\r",
    "blank lines": "content,style,output\n\na,b,x.png\n , ,\n\nc,d,y.png\n\n",
    "blank lines first": "\ufeff\r\n , ;\r\ncontent;style;output\r\na;b;x.png\r\nc;d;y.png\r\n",
    "blank line behind sep": "sep=;\n\ncontent;style;output\na;b;x.png\nc;d;y.png\n",
    "no last newline": "content,style,output\na,b,x.png\nc,d,y.png",
    "spaces": " content , style,output \n a , b ,x.png\nc,d, y.png\n",
    "quotes": 'content,"style",output\n"a","b","x.png"\nc,d,y.png\n',
    "another order": "output,content,style\nx.png,a,b\ny.png,c,d\n",
    "semicolons": "content;style;output\na;b;x.png\nc;d;y.png\n",
    "tabs": "content\tstyle\toutput\na\tb\tx.png\nc\td\ty.png\n",
    "sep": "sep=,\ncontent,style,output\na,b,x.png\nc,d,y.png\n",
    "quoted sep": '\ufeff"SEP=;"\r\ncontent;style;output\r\na;b;x.png\r\nc;d;y.png\r\n',
    "spaces before quotes": 'content, "style",  "output"\na, "b", "x.png"\nc, "d",y.png\n',
    "index": ",content,style,output\n0,a,b,x.png\n1,c,d,y.png\n",
    "index kept twice": "Unnamed: 0.1,Unnamed: 0,content,style,output\n0,0,a,b,x.png\n,,c,d,y.png",
    "quoted index": '"","content","style","output"\n"1","a","b","x.png"\n"2","c","d","y.png"\n',
    "trailing comma": "content,style,output,\na,b,x.png,\nc,d,y.png,\n,,,\n",
    "trailing comma in rows": "content,style,output\na,b,x.png,\nc,d,y.png,,,\n",
    "empty columns": "content,style,output,Unnamed: 3,seed,,\na,b,x.png,,,,\nc,d,y.png,,NA,,\n",
}


@pytest.mark.parametrize("name", SAME_TWO_JOBS)
def test_however_a_program_writes_csv_it_means_the_same(tmp_path, name):
    for suffix in (".csv", ".TSV"):
        jobs = jobs_in(tmp_path, SAME_TWO_JOBS[name], suffix=suffix)
        assert plain(jobs, tmp_path) == [("a", ["b"], "x.png"), ("c", ["d"], "y.png")]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n", "\n \t\n"])
@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".JSONL"])
def test_json_lines_may_end_as_they_like(tmp_path, ending, suffix):
    lines = ['\ufeff{"content": "a", "style": "b"}', '{"style": ["d"], "content": "c"}', ""]
    jobs = jobs_in(tmp_path, ending.join(lines), suffix=suffix)
    assert plain(jobs, tmp_path) == [("a", ["b"], ""), ("c", ["d"], "")]


def test_a_newline_in_a_quoted_cell_belongs_to_the_name(tmp_path):
    text = 'content,style,output\n"two\nlines.png",b,x.png\nc,d,y.png\n'
    first, second = jobs_in(tmp_path, text, suffix=".csv")
    assert first.content == str(tmp_path / "two\nlines.png")
    assert second.output == "y.png"


def test_a_semicolon_separates_in_csv_alone(tmp_path):
    (job,) = jobs_in(tmp_path, '{"content": "a;b.png", "style": "c;d.png"}', suffix=".jsonl")
    assert plain([job], tmp_path) == [("a;b.png", ["c;d.png"], "")]
    (job,) = jobs_in(tmp_path, "content,style\na;b.png,c;d.png\n", suffix=".csv")
    assert plain([job], tmp_path) == [("a;b.png", ["c", "d.png"], "")]


@pytest.mark.parametrize("cell", ["=1+1", "@SUM(A1)", "+1", "-1", "=cmd|' /C calc'!A0", "%n"])
def test_a_cell_like_a_formula_is_a_name_as_any_other(tmp_path, cell):
    (job,) = jobs_in(tmp_path, f"content,style\n{cell},{cell}\n", suffix=".csv")
    assert plain([job], tmp_path) == [(cell, [cell], "")]


def test_rows_alike_share_what_they_say(tmp_path):
    text = "content,style,seed\n" + "a,b,7\n" * 3 + "a,b,8\n"
    first, second, _, last = jobs_in(tmp_path, text, suffix=".csv")
    assert first.content is second.content
    assert first.style is second.style
    assert first.options is second.options
    assert last.options == JobOptions(seed=8)


def test_true_is_not_taken_for_the_1_of_the_row_before(tmp_path):
    lines = [json.dumps({"content": "a", "style": "b", "seed": seed}) for seed in (1, True, 1.0)]
    with pytest.raises(ManifestError) as caught:
        jobs_in(tmp_path, "\n".join(lines), suffix=".jsonl")
    assert [fault[:12] for fault in caught.value.faults] == ["line 2: seed"]


def test_reading_leaves_the_collector_as_it_was(tmp_path):
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            jobs_in(tmp_path, "content,style\na,b\n", suffix=".csv")
            with pytest.raises(ManifestError):
                jobs_in(tmp_path, "content,style\n,b\n", suffix=".csv")
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


# Round trips.

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/\\;", exclude_categories=("Cc", "Z")),
    min_size=1,
    max_size=20,
)
WEIGHTS = st.floats(0, 1e30, allow_subnormal=False)
OWN = st.fixed_dictionaries(
    {},
    optional={
        "content_weight": WEIGHTS,
        "tv_weight": WEIGHTS,
        "learning_rate": st.floats(1e-6, 10),
        "steps": st.integers(1, 1000),
        "seed": st.integers(0, 2**32 - 1),
        "init": st.sampled_from(["content", "noise", "grey", "style-statistics", "blend"]),
        "color": st.sampled_from(["style", "content", "luminance", "match-histogram"]),
        "noise_ratio": st.floats(0, 1),
        "style_size": st.integers(16, 100),
        "style_taps": st.lists(st.sampled_from(VGG19.taps), min_size=1, max_size=3, unique=True),
    },
)
ROWS = st.lists(
    st.tuples(NAMES, st.lists(NAMES, min_size=1, max_size=3), OWN), min_size=1, max_size=4
)
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FEW
@given(rows=ROWS)
def test_jobs_written_as_csv_or_json_lines_are_read_back(tmp_path, rows):
    values = [{"content": content, "style": styles, **own} for content, styles, own in rows]
    table = io.StringIO()
    writer = csv.DictWriter(table, ["content", "style", *JOB_FIELDS], lineterminator="\n")
    writer.writeheader()
    for one in values:
        cells = {name: ";".join(v) if isinstance(v, list) else v for name, v in one.items()}
        writer.writerow(cells)
    lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in values)
    for text, suffix in ((table.getvalue(), ".csv"), (lines, ".jsonl")):
        jobs = jobs_in(tmp_path, text, suffix=suffix)
        for job, (content, styles, own) in zip(jobs, rows, strict=True):
            assert job.content == str(tmp_path / content)
            assert list(job.styles) == [str(tmp_path / style) for style in styles]
            own = {name: tuple(v) if isinstance(v, list) else v for name, v in own.items()}
            assert job.options == job_options(Options(), **own)
