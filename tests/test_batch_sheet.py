"""A batch's contact sheet: a grid where its jobs make one."""

from pathlib import Path

import numpy as np
import pytest
from networks import picture
from PIL import Image

from nst_jax.files.batch_sheet import differing_options, write_batch_sheet
from nst_jax.request.job import Job, every_pair, fill_defaults
from nst_jax.request.options import JobOptions, Options

CELL, GAP, CAPTION, LABEL, HEAD = 160, 12, 24, 150, 30


def filled(folder: Path, jobs: list[Job]) -> list[Job]:
    """Jobs with names and options, each with a picture of a colour of its own."""
    made = fill_defaults(jobs, Options())
    for number, job in enumerate(made):
        Image.new("RGB", (CELL, CELL), (20 * number, 80, 0)).save(folder / job.output)
    return made


def sheet_of(folder: Path, jobs: list[Job], size: int = CELL) -> np.ndarray:
    write_batch_sheet(folder / "index.png", jobs, size=size)
    with Image.open(folder / "index.png") as image:
        return np.asarray(image.convert("RGB"))


def reds(sheet: np.ndarray, rows: int, columns: int) -> list[list[int]]:
    """Of the middle of each cell the number of the job that is there."""
    tops = [GAP + HEAD + row * (CELL + CAPTION + GAP) + CELL // 2 for row in range(rows)]
    lefts = [GAP + LABEL + column * (CELL + GAP) + CELL // 2 for column in range(columns)]
    return [[round(sheet[top, left, 0] / 20) for left in lefts] for top in tops]


def paint(folder: Path, *names: str) -> list[str]:
    for seed, name in enumerate(names):
        pixels = np.uint8(255 * picture(40, 40, seed=seed))
        Image.fromarray(pixels).save(folder / name)
    return [str(folder / name) for name in names]


def test_contents_by_styles_are_a_grid_of_results_at_their_size(tmp_path):
    a, b, s, t, u = paint(tmp_path, "a.png", "b.png", "s.png", "t.png", "u.png")
    jobs = filled(tmp_path, every_pair([a, b], [s, t, u]))
    sheet = sheet_of(tmp_path, jobs)
    assert sheet.shape[1] == 2 * GAP + LABEL + 3 * CELL + 2 * GAP
    assert reds(sheet, 2, 3) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("pairs", [1, 2])
def test_one_option_is_a_column_each_and_two_of_one_pair_are_rows_and_columns(tmp_path, pairs):
    a, b, s = paint(tmp_path, "a.png", "b.png", "s.png")
    contents = [a, b][:pairs]
    weights = [JobOptions(style_weight=weight) for weight in (2.0, 0.5, 1.0)]
    jobs = filled(tmp_path, [Job(one, s, options=own) for one in contents for own in weights])
    assert differing_options(jobs) == ["style_weight"]
    expected = [[0, 1, 2], [3, 4, 5]][:pairs]
    assert reds(sheet_of(tmp_path, jobs), pairs, 3) == expected


def test_two_options_of_one_pair_are_rows_and_columns(tmp_path):
    a, s = paint(tmp_path, "a.png", "s.png")
    own = [JobOptions(seed=seed, steps=steps) for seed in (0, 1) for steps in (5, 9)]
    jobs = filled(tmp_path, [Job(a, s, options=one) for one in own])
    assert differing_options(jobs) == ["seed", "steps"]
    assert reds(sheet_of(tmp_path, jobs), 2, 2) == [[0, 1], [2, 3]]


def test_what_makes_no_grid_is_a_row_each_that_says_what_differs(tmp_path):
    a, b, s, t = paint(tmp_path, "a.png", "b.png", "s.png", "t.png")
    own = [JobOptions(seed=1, steps=2), JobOptions(seed=2, tv_weight=1.0)]
    jobs = filled(tmp_path, [Job(a, s, options=own[0]), Job(b, t, options=own[1])])
    sheet = sheet_of(tmp_path, jobs)
    assert len(sheet) == 2 * (256 + CAPTION + GAP) + GAP
    assert differing_options(jobs) == ["seed", "steps", "tv_weight"]
