"""The contact sheet, and how places become lists of pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from nst_jax.cli.job_arguments import find_pictures
from nst_jax.cli.main import run
from nst_jax.files.contact_sheet import Row, write_contact_sheet
from nst_jax.files.images import load_picture, read_picture_header
from nst_jax.files.picture_paths import expand_picture_paths
from nst_jax.request.errors import OptionError, PictureError, WriteError

CELL, GAP, CAPTION = 256, 12, 24
RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def paint(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (300, 300)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def sheet_of(folder: Path, *rows: Row) -> np.ndarray:
    write_contact_sheet(folder / "index.png", rows)
    with Image.open(folder / "index.png") as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def centre(sheet: np.ndarray, row: int, column: int) -> tuple[int, ...]:
    """The colour in the middle of a cell."""
    y = GAP + row * (CELL + CAPTION + GAP) + CELL // 2
    x = GAP + column * (CELL + GAP) + CELL // 2
    return tuple(map(int, sheet[y, x]))


def test_content_styles_and_result_stand_side_by_side_the_results_in_one_column(tmp_path):
    content, style = paint(tmp_path / "c.png", RED), paint(tmp_path / "s.png", GREEN)
    result = paint(tmp_path / "o.png", BLUE)
    sheet = sheet_of(tmp_path, Row(content, [style] * 3, result), Row(content, [style], result))
    assert sheet.shape == (2 * (CELL + CAPTION + GAP) + GAP, 5 * (CELL + GAP) + GAP, 3)
    assert [centre(sheet, 0, column) for column in range(5)] == [RED, GREEN, GREEN, GREEN, BLUE]
    paper = tuple(map(int, sheet[0, 0]))
    assert [centre(sheet, 1, column) for column in range(5)] == [RED, GREEN, paper, paper, BLUE]


def test_what_is_missing_or_damaged_leaves_a_blank_and_what_is_transparent_white(tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    given = Row(tmp_path / "clear.png", [tmp_path / "bad.png"], tmp_path / "no.png")
    sheet = sheet_of(tmp_path, given)
    blank = centre(sheet, 0, 1)
    assert centre(sheet, 0, 0) == (255, 255, 255)
    assert centre(sheet, 0, 2) == blank
    assert blank not in ((255, 255, 255), tuple(map(int, sheet[0, 0])))


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (3000, 1), (1, 3000), (1, 1), (40, 32)])
def test_pictures_keep_their_shape_inside_the_cell(tmp_path, size):
    tile = paint(tmp_path / "c.png", BLACK, size)
    sheet = sheet_of(tmp_path, Row(tile, [tile], tile))
    cell = sheet[GAP : GAP + CELL, GAP : GAP + CELL]
    dark = (cell < 60).all(axis=-1)
    height, width = np.ptp(np.argwhere(dark), axis=0) + 1
    scale = min(1, CELL / max(size))
    assert width == pytest.approx(max(1, size[0] * scale), abs=1)
    assert height == pytest.approx(max(1, size[1] * scale), abs=1)


NAMES = ["long " * 40, "猫", "\x1b[31mred", "tab\tnew\nline", "\u202egnp", "%s {0}", "bytes\udcff"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_can_break_the_sheet(tmp_path, name):
    content = paint(tmp_path / "c.png", RED)
    sheet = sheet_of(tmp_path, Row(content, [content], tmp_path / f"{name}.png"))
    assert sheet.shape == (CELL + CAPTION + 2 * GAP, 3 * (CELL + GAP) + GAP, 3)
    # What is written stays under its own cell.
    below = sheet[GAP + CELL : GAP + CELL + CAPTION, 2 * (CELL + GAP) :]
    paper = sheet[0, 0]
    assert (below != paper).any()
    assert (below[:, :GAP] == paper).all()
    assert (below[:, GAP + CELL :] == paper).all()


def test_a_hundred_rows_are_enough(tmp_path):
    nothing = Row(tmp_path / "c", [tmp_path / "s"], tmp_path / "o")
    sheet = sheet_of(tmp_path, *[nothing] * 103)
    assert len(sheet) == 100 * (CELL + CAPTION + GAP) + GAP


def test_a_sheet_that_can_not_be_written_says_so_and_leaves_nothing(tmp_path):
    for place in (tmp_path / "no" / "index.png", tmp_path):
        with pytest.raises(WriteError, match="contact sheet"):
            write_contact_sheet(place, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["index.png", "INDEX.png", "./index.png"])
def test_no_job_may_have_the_name_of_the_sheet(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    Path("jobs.csv").write_text(f"content,style,output\na.png,b.png,{name}\n")
    assert run(["batch", "jobs.csv", "--output-dir", "out", "--contact-sheet"]) == 2
    assert "contact sheet" in capsys.readouterr().err
    assert not Path("out").exists()


# Lists of pictures.


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album" / "more").mkdir(parents=True)
    names = ("b.png", "a.JPG", "c.tiff", "notes.txt", ".hidden.png", "plan.pdf")
    for name in (*names, "more/d.png", "more/x[1].png"):
        (tmp_path / "album" / name).touch()
    return tmp_path / "album"


PLACES = {
    "nothing": ([], []),
    "a folder": (["album"], ["a.JPG", "b.png", "c.tiff"]),
    "a suffix": (["album/*.png"], ["b.png"]),
    "any name": (["album/*"], ["a.JPG", "b.png", "c.tiff"]),
    "any depth": (["album/**/*.png"], ["b.png", "more/d.png", "more/x[1].png"]),
    "letters": (["album/[ac]*"], ["a.JPG", "c.tiff"]),
    "files, there or not": (
        ["album/c.tiff", "album/no.png", "album/notes.txt"],
        ["c.tiff", "no.png", "notes.txt"],
    ),
    "a file with the name of a pattern": (["album/more/x[1].png"], ["more/x[1].png"]),
    "one picture in several spellings": (
        ["album/b.png", "album", "./album/*.png", "album/more/../b.png"],
        ["b.png", "a.JPG", "c.tiff"],
    ),
}


@pytest.mark.parametrize(("places", "pictures"), PLACES.values(), ids=PLACES)
def test_places_become_their_pictures_in_order_and_none_twice(album, places, pictures):
    wanted = [f"album/{name}" for name in pictures]
    assert expand_picture_paths(places) == wanted
    assert expand_picture_paths([*places, *map(os.path.abspath, wanted)]) == wanted


@pytest.mark.parametrize("place", ["empty", "*.gif", "empty/*", "album/*.txt", "no/**"])
def test_a_place_without_pictures_is_refused_by_its_name(album, place):
    Path("empty").mkdir()
    with pytest.raises(OptionError) as caught:
        expand_picture_paths(["album/b.png", place])
    assert repr(place) in str(caught.value)
    assert "at least one picture" in str(caught.value)


# What telephones and cameras leave beside pictures.

HEIC_HEAD = b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1"


@pytest.fixture
def phone(tmp_path, monkeypatch) -> Path:
    """A folder with four pictures that any installation reads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phone" / "more").mkdir(parents=True)
    image = Image.new("RGB", (8, 6), GREEN)
    image.save("phone/a.MPO", "MPO", save_all=True, append_images=[image])
    for name, kind in {"IMG_1": "PNG", "2024.05.01": "JPEG", "b.jpg": "JPEG"}.items():
        image.save(f"phone/{name}", kind)
    ignored = (".DS_Store", "._b.jpg", "Thumbs.db", "b.xmp", "a.AAE", "b.jpg.json", "desktop.ini")
    for name in (*ignored, "c.jxl", "d.nef", "e.NEF", "notes", "f.mov"):
        (tmp_path / "phone" / name).write_bytes(b"no picture")
    os.mkfifo("phone/pipe")
    return tmp_path / "phone"


def test_what_is_passed_over_is_counted_in_one_note(phone, capsys):
    wanted = ["phone/2024.05.01", "phone/IMG_1", "phone/a.MPO", "phone/b.jpg"]
    for place in ("phone", "phone/*"):
        assert find_pictures([place], ["phone"], quiet=False) == ([wanted, wanted], {})
        (said,) = capsys.readouterr().err.splitlines()
        assert said.endswith(
            "6 files are passed over, which can't be read here as pictures: "
            "2 .nef, 1 .jxl, 1 .mov, 1 that are no files, 1 without a suffix"
        )
    assert [load_picture(Path(path)).pixels.shape for path in wanted] == [(6, 8, 3)] * 4
    find_pictures(["phone"], quiet=True)
    find_pictures(["phone/*.jpg"], quiet=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("place", "there"),
    [
        ("phone/*.nef", "1 .nef"),
        ("phone/[ce].*", "1 .jxl, 1 .nef"),
        ("phone/mor*", "1 folder"),
        ("phone/*.xmp", ""),
    ],
)
def test_where_no_picture_is_left_what_is_there_is_said(phone, place, there):
    with pytest.raises(OptionError) as caught:
        expand_picture_paths([place])
    got = caught.value.message.partition("got none")[2]
    assert got == (f", only {there}" if there else "")
    assert caught.value.remedy


def test_a_pattern_that_matches_nothing_is_told_so(phone):
    with pytest.raises(
        OptionError, match=r"got none: nothing matches it\. Check the path"
    ) as caught:
        expand_picture_paths(["phone/*.gif"])
    assert "PNG" not in str(caught.value)


def test_heic_without_its_package_is_told_what_to_install(phone, monkeypatch, capsys):
    for module in ("open_picture", "picture_paths"):
        monkeypatch.setattr(f"nst_jax.files.{module}.can_decode_heic", lambda: False)
    Path("phone/c.HEIC").write_bytes(HEIC_HEAD)
    assert "phone/c.HEIC" not in find_pictures(["phone"], quiet=False)[0][0]
    hint = "pip install 'nst-jax[heif]'"
    assert "1 .heic" in (said := capsys.readouterr().err)
    assert hint in said
    for refused in (lambda: expand_picture_paths(["phone/*.HEIC"]), read_heic):
        with pytest.raises((OptionError, PictureError)) as caught:
            refused()
        assert hint in caught.value.remedy


def read_heic() -> None:
    read_picture_header(Path("phone/c.HEIC"))


def test_heic_is_read_upright_with_its_package(phone, capsys):
    pillow_heif = pytest.importorskip("pillow_heif")
    turned = Image.new("RGB", (64, 48), RED)
    turned.paste(BLUE, (0, 0, 32, 48))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # upright its left side is at the top
    pillow_heif.from_pillow(turned).save("phone/c.heic", exif=exif.tobytes())
    assert "phone/c.heic" in find_pictures(["phone"], quiet=False)[0][0]
    assert "heic" not in capsys.readouterr().err
    header, picture = read_picture_header(phone / "c.heic"), load_picture(phone / "c.heic")
    assert header.size == picture.pixels.shape[:2] == (64, 48)
    assert picture.pixels[8, 24].argmax() == 2
    assert picture.pixels[56, 24].argmax() == 0
    (phone / "c.heic").write_bytes((phone / "c.heic").read_bytes()[:-40])
    with pytest.raises(PictureError):
        load_picture(phone / "c.heic")
