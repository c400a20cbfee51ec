"""Studies: one compilation a level, cells in units, everything on disk, faults before work."""

import csv
import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import references
from engine_jobs import NARROW, Notes
from networks import picture
from PIL import Image

from nst_jax.engine.progress import NullProgress
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.images import resize
from nst_jax.model.receptive_field import ReceptiveField, receptive_field
from nst_jax.request.errors import StoppedError
from nst_jax.request.options import DEFAULT_CONTENT_TAPS, DEFAULT_STYLE_TAPS, Options
from nst_jax.request.studies import RAW
from nst_jax.request.taps import VGG16
from nst_jax.study.balance import study_balance, value_text
from nst_jax.study.feature_search import find_patches, selective_channels
from nst_jax.study.layers import study_layers
from nst_jax.study.neurons import study_neurons
from nst_jax.study.pixels import study_pixels
from nst_jax.study.reconstruct import study_reconstruct
from nst_jax.study.study import Cell, Study, open_pair
from nst_jax.study.study_files import study_record, write_study
from nst_jax.study.units import apply_units, measure_units

CONTENT, STYLE = picture(34, 48, seed=1), picture(40, 48, seed=2) ** 0.5
STRETCHED = resize(STYLE, CONTENT.shape[:2])
NARROW_TAPS = ("pixels", "relu1_1", "relu2_1")


def measure(image: np.ndarray) -> dict[str, float]:
    return {"brightness": float(image.mean())}


def options_of(weights: str, **changes: Any) -> Options:
    taps = {"content_taps": ("pixels", "relu2_1"), "style_taps": (RAW, *NARROW_TAPS)}
    given = {"size": 48, "levels": 1, "steps": 6, "style_loss": "gram", **taps, **changes}
    return Options(weights=weights, **given)


@pytest.fixture
def options(narrow_file) -> Options:
    return options_of(narrow_file)


@pytest.fixture(scope="module")
def layers(narrow_file, tmp_path_factory) -> tuple[Study, Path]:
    """The study of layers, once for all tests."""
    folder = tmp_path_factory.mktemp("layers")
    options = options_of(narrow_file, levels=2, steps=30, tv_weight=0.0)
    study = study_layers(CONTENT, STYLE, folder, options, balance=1.0, measure=measure)
    write_study(study, folder)
    return study, folder


def image_at(study: Study, row: int, column: int) -> np.ndarray:
    cell = study.cell(row, column)
    assert cell is not None
    assert cell.image is not None
    return cell.image


# Units.


def test_terms_are_one_at_the_other_picture(options):
    """Against NumPy in float64."""
    options = dataclasses.replace(options, style_taps=NARROW_TAPS)
    units = measure_units(open_pair(CONTENT, STYLE, "", options, measure=measure))
    seen, other, style = (
        references.vgg(image, NARROW, padding="replicate") for image in (CONTENT, STRETCHED, STYLE)
    )
    for tap in ("pixels", "relu2_1"):
        expected = ((other[tap] - seen[tap]) ** 2).sum() / (seen[tap] ** 2).sum()
        assert units.content[tap] == pytest.approx(expected, rel=1e-4)
    for tap in NARROW_TAPS:
        one, target = references.gram(seen[tap]), references.gram(style[tap])
        expected = ((one - target) ** 2).sum() / (target**2).sum()
        assert units.style[tap] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("content_tap", ["pixels", ""])
@pytest.mark.parametrize("balance", [0.25, 1.0, 7.0])
def test_two_comparisons_of_pixels_are_one_with_the_blend(options, content_tap, balance):
    options = dataclasses.replace(options, style_taps=NARROW_TAPS)
    pair = open_pair(CONTENT, STYLE, "", options, measure=measure)
    own = apply_units(pair.prepared.options, measure_units(pair), content_tap, (RAW,), balance)
    mixed = (1 - own.pixel_blend) * CONTENT + own.pixel_blend * STRETCHED

    def power(image: np.ndarray) -> float:
        return float((np.float64(image) ** 2).mean())

    def term(image: np.ndarray) -> float:
        return own.content_weight * power(image - mixed) / power(mixed)

    def wanted(image: np.ndarray) -> float:
        kept = power(image - CONTENT) if content_tap else 0
        return (kept + balance * power(image - STRETCHED)) / power(CONTENT - STRETCHED)

    one, other = picture(34, 48, seed=5), picture(34, 48, seed=6)
    assert own.style_weight == 0
    assert term(one) - term(other) == pytest.approx(wanted(one) - wanted(other), rel=1e-4)


# Layers.


def test_every_cell_is_rendered_and_a_level_is_compiled_once(layers):
    study, folder = layers
    places = [(cell.row, cell.column) for cell in study.cells]
    assert places == list(itertools.product(range(2), range(4)))
    assert all(cell.error == "" and cell.image is not None for cell in study.cells)
    assert steps_compiled(folder) == 2  # two levels


def steps_compiled(folder: Path) -> int:
    record = json.loads((folder / "run.json").read_text())
    return len([name for name in record["compiled"] if name.startswith("step ")])


def test_raw_against_raw_converges_to_the_blend(layers):
    image = image_at(layers[0], 0, 0)
    mixed = (CONTENT + STRETCHED) / 2
    assert np.sqrt(((image - mixed) ** 2).mean()) < 0.02
    assert np.sqrt(((image - CONTENT) ** 2).mean()) > 0.05


def test_what_a_column_asks_falls_most_in_that_column(layers):
    """The colours of the pixels, in the column that asks for nothing else."""
    target = references.gram(np.float64(STYLE))

    def far(image: np.ndarray) -> float:
        return float(((references.gram(np.float64(image)) - target) ** 2).sum())

    assert far(image_at(layers[0], 1, 1)) < 0.3 * far(CONTENT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "count"), [("full", 8), ("content", 2), ("style", 4), ("corners", 4)]
)
def test_a_part_of_the_grid_can_be_asked_for(options, tmp_path, grid, count):
    options = dataclasses.replace(options, steps=1)
    study = study_layers(CONTENT, STYLE, tmp_path, options, grid=grid, measure=measure)
    assert len(study.cells) == count


# On disk.


def test_a_study_is_written_whole(layers):
    study, folder = layers
    record = json.loads((folder / "study.json").read_text())
    assert (record["study"], len(record["cells"])) == ("layers", 8)
    assert record["cells"][0]["curve"]
    rows = list(csv.DictReader((folder / "study.csv").read_text().splitlines()))
    assert [row["output"] for row in rows] == [cell.output for cell in study.cells]
    assert float(rows[3]["brightness"]) == pytest.approx(
        study.cells[3].distances["brightness"], 1e-4
    )
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.width > 4 * 192
        assert sheet.height > 2 * 192
    page = (folder / "index.html").read_text()
    for cell in study.cells:
        assert f'src="{cell.output}"' in page
        assert (folder / cell.output).exists()
    assert 'href="report/index.html"' in page
    assert page.count("<path") == 8


def test_what_is_no_number_is_null_on_disk(tmp_path):
    distances = {"content": math.nan, "style": math.inf, "lpips": 0.25}
    cell = Cell(0, 0, image=CONTENT, distances=distances, losses={"total": math.nan})
    study = Study("layers", "A title", (), ["row"], ["column"], [cell], {}, {"balance": math.inf})
    write_study(study, tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (tmp_path / "study.json").read_text()
    told = json.loads(text, parse_constant=refuse)
    assert told["cells"][0]["distances"] == {"content": None, "style": None, "lpips": 0.25}
    assert told["settings"] == {"balance": None}
    json.loads(json.dumps(study_record(study)), parse_constant=refuse)  # as --json prints it
    (row,) = csv.DictReader((tmp_path / "study.csv").read_text().splitlines())
    assert (row["content"], row["lpips"], row["total_loss"]) == ("", "0.25", "")


def test_the_input_of_an_older_study_is_taken_away(tmp_path):
    for inputs in ({"content": CONTENT, "style": STYLE}, {"content": CONTENT}):
        study = Study("reconstruct", "A title", (), ["row"], ["column"], [], inputs)
        write_study(study, tmp_path)
        (tmp_path / "inputs/mine.png").touch()
    assert {path.name for path in (tmp_path / "inputs").iterdir()} == {"content.png", "mine.png"}


# The other studies.


def test_without_a_network_raw_pixels_end_at_the_blend_and_the_caption_says_how_near(
    narrow_file, tmp_path
):
    taps = {"content_taps": ("relu2_1",), "style_taps": ("relu1_1", "relu2_1")}
    options = options_of(narrow_file, **taps, steps=40, tv_weight=0.0)
    study = study_pixels(CONTENT, STYLE, tmp_path, options, ratios=(0.25, 0.75), measure=measure)
    places = [(cell.row, cell.column) for cell in study.cells]
    assert places == list(itertools.product(range(4), range(2)))
    for column, ratio in enumerate((0.25, 0.75)):
        plain, raw = image_at(study, 0, column), image_at(study, 1, column)
        np.testing.assert_allclose(plain, (1 - ratio) * CONTENT + ratio * STRETCHED, atol=1e-6)
        error = float(study.cells[2 + column].caption.split()[0])
        assert error < 0.02
        assert error == pytest.approx(float(np.sqrt(((raw - plain) ** 2).mean())), abs=1e-4)


@pytest.mark.slow
def test_a_reconstruction_begins_with_noise_and_comes_near(options, tmp_path):
    taps = ("relu1_1", "relu2_1")
    options = dataclasses.replace(
        options, content_taps=taps, style_taps=taps, steps=60, tv_weight=0.0
    )
    study = study_reconstruct(CONTENT, STYLE, tmp_path, options, measure=measure)
    assert len(study.cells) == 4
    noise = np.abs(np.random.default_rng(0).random(CONTENT.shape) - CONTENT).mean()
    assert study.cells[0].distances["pixel"] < 0.8 * noise
    texture = study.cells[3]
    assert (texture.losses["style"] or 1) < 0.1 * (texture.curve[0][3] or 0)
    alone = study_reconstruct(CONTENT, None, tmp_path / "alone", options, measure=measure)
    assert (len(alone.rows), len(alone.cells)) == (1, 2)


@pytest.mark.parametrize("columns", [{"learning_rates": (0.01, 0.05)}, {"step_counts": (2, 6)}])
def test_balance_is_a_grid_of_one_compilation(options, tmp_path, columns):
    taps = ("relu1_1", "relu2_1")
    options = dataclasses.replace(options, content_taps=taps[1:], style_taps=taps)
    study = study_balance(
        CONTENT, STYLE, tmp_path, options, style_weights=(1.0, 50.0), measure=measure, **columns
    )
    assert len({cell.image.tobytes() for cell in study.cells if cell.image is not None}) == 4
    assert steps_compiled(tmp_path) == 1


@pytest.fixture
def shallow(options) -> Options:
    return dataclasses.replace(options, content_taps=("relu1_1",), style_taps=("relu1_1",))


def test_a_study_that_is_stopped_goes_on_when_it_is_run_again(shallow, tmp_path):
    grid = {"style_weights": (1.0, 50.0), "learning_rates": (0.01,), "measure": measure}
    stop = StopToken()

    class Watcher(NullProgress):
        def on_step(self, image_steps: int) -> None:
            stop.request()

    with pytest.raises(StoppedError, match="kept in mid-schedule"):
        study_balance(CONTENT, STYLE, tmp_path, shallow, **grid, progress=Watcher(), stop=stop)
    assert (tmp_path / "state.npz").exists()
    study = study_balance(CONTENT, STYLE, tmp_path, shallow, **grid)
    whole = study_balance(CONTENT, STYLE, tmp_path / "whole", shallow, **grid)
    for cell, same in zip(study.cells, whole.cells, strict=True):
        expected = (tmp_path / "whole" / same.output).read_bytes()
        assert (tmp_path / cell.output).read_bytes() == expected


def test_values_that_are_near_have_names_of_their_own_and_are_rendered_side_by_side(
    shallow, tmp_path
):
    weights = [3.0, 0.1, 1.0000001, 1.0000002, 10**6, 10**6 + 1, np.float64(1.0000001)]
    names = ["3", "0.1", "1.0000001", "1.0000002", "1e+06", "1000001", "1.0000001"]
    assert [value_text(weight) for weight in weights] == names
    options = dataclasses.replace(shallow, steps=1)
    near = {"style_weights": (1.0000001, 1.0000002), "learning_rates": (0.01,)}
    study = study_balance(CONTENT, STYLE, tmp_path, options, measure=measure, **near)
    assert study.rows == ["style_weight 1.0000001", "style_weight 1.0000002"]
    assert all((tmp_path / cell.output).exists() for cell in study.cells)


# Neurons.


def plain(options: Options, **changes: Any) -> Options:
    """Without what a study of neurons refuses, and small."""
    taps = {"content_taps": DEFAULT_CONTENT_TAPS, "style_taps": DEFAULT_STYLE_TAPS}
    return dataclasses.replace(options, **{**taps, "size": 32, **changes})


def test_made_pictures_are_kept_as_long_as_nothing_of_them_has_changed(options, tmp_path):
    small, notes = plain(options, steps=2), Notes()

    def rendered(seed: int = 7, channels: tuple[int, ...] = (0, 3), **changes: Any) -> int:
        """How many pictures are made; all of them are shown, whole and with their curves."""
        pictures, own = [picture(32, 32, seed=seed)], dataclasses.replace(small, **changes)
        before = lines_of_ledger()
        study = study_neurons(
            pictures, tmp_path, own, taps=("relu1_1",), channels=channels, progress=notes
        )
        cells = [cell for cell in study.cells if cell.column == 0]
        assert len(cells) == len(channels)
        assert all(cell.curve and cell.image is not None for cell in cells)
        assert all(np.ptp(cell.image, axis=-1).any() for cell in cells), "they have colours"
        return lines_of_ledger() - before

    def lines_of_ledger() -> int:
        path = tmp_path / "ledger.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    assert rendered() == 2
    assert rendered() == 0
    assert rendered(channels=(0, 3, 2)) == 1
    (tmp_path / "relu1_1_3.png").unlink()
    assert rendered() == 1
    assert rendered(steps=3) == 2
    assert rendered(steps=3, seed=8) == 2  # another picture, another unit
    assert rendered(steps=3, seed=8) == 0
    assert "before the activation" not in "".join(notes.said), "nobody has named such a tap"


@pytest.mark.slow
def test_a_picture_that_is_made_for_a_channel_excites_it_more_than_any_given_one(options, tmp_path):
    options = plain(options, steps=60, tv_weight=0.0)
    pictures = [picture(32, 32, seed=7), picture(24, 32, seed=8)]
    study = study_neurons(
        pictures, tmp_path, options, taps=("relu1_1", "relu2_1"), channels=(0, 3), patches=2
    )
    assert study.rows == [
        *("relu1_1 channel 0", "relu1_1 channel 3", "relu2_1 channel 0", "relu2_1 channel 3")
    ]

    def answer(image: np.ndarray, place: int) -> float:
        tap, channel = ("conv1_1", "conv2_1")[place // 2], (0, 3)[place % 2]
        return float(references.vgg(image, NARROW, padding="replicate")[tap][..., channel].mean())

    made = [image_at(study, place, 0) for place in range(4)]
    for place in range(4):
        assert answer(made[place], place) > max(answer(image, place) for image in pictures)
        others = [answer(made[other], place) for other in range(4) if other != place]
        assert answer(made[place], place) > max(others)
    write_study(study, tmp_path)
    assert "patches/relu1_1_0_1.png" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("tap", ["relu1_1", "relu1_2", "pool1", "relu2_2", "relu3_1"])
def test_a_receptive_field_is_where_a_position_looks(tap):
    """By changing one pixel at a time, just inside and just outside of the box."""
    field = receptive_field(tap, VGG16)
    image = picture(64, 64, seed=3)
    row = column = 32 // field.stride
    top, left, bottom, right = field.box(row, column)
    before = references.vgg(image, NARROW)[tap][row, column]

    def changes(y: int, x: int) -> bool:
        other = image.copy()
        other[y, x] = 40.0
        return bool(np.abs(references.vgg(other, NARROW)[tap][row, column] - before).max() > 0)

    middle = (top + bottom) // 2
    outside = [(top - 1, middle), (bottom, middle), (middle, left - 1), (middle, right)]
    assert not any(changes(*place) for place in outside)
    for edge in (top, bottom - 1):
        assert any(changes(edge, x) for x in range(left, right))
    for edge in (left, right - 1):
        assert any(changes(y, edge) for y in range(top, bottom))


def test_patches_are_the_loudest_places_each_on_a_spot_of_its_own():
    responses = [np.zeros((8, 8, 2), np.float32) for _ in range(2)]
    for place, *where, value in ((0, 2, 2, 9), (0, 2, 3, 8), (1, 6, 1, 5), (0, 7, 7, 3)):
        responses[place][(*where, 1)] = value
    field = ReceptiveField(stride=2, offset=-1, edge=6)
    found = find_patches(responses, 1, 5, field)
    places = [(one.picture, one.row, one.column, one.value) for one in found]
    assert places == [(0, 2, 2, 9), (1, 6, 1, 5), (0, 7, 7, 3)]
    assert find_patches(responses, 0, 5, field) == find_patches([], 0, 5, field) == []


def test_selective_channels_say_much_at_one_place():
    responses = np.full((1, 10, 10, 3), 1.0, np.float32)
    responses[0, 4, 4, 2] = 50
    responses[0, ..., 1] = 0.0
    assert selective_channels([responses[0]], 1) == [2]
