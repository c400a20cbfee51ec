"""Hostile pictures: each decodes, or is refused in a sentence; in a batch each is a line."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_pictures import HEIGHT, KINDS, SPECIMENS, WIDTH, Specimen, mutate, noise
from networks import picture
from PIL import Image, ImageFile

from nst_jax.cli.main import run
from nst_jax.files.images import load_picture, read_picture_header
from nst_jax.request.errors import PictureError

OURS = {"ledger.jsonl", "plan.json", "run.json", ".lock"}


@pytest.mark.parametrize("one", SPECIMENS, ids=lambda one: ascii(one.file_name))
def test_a_hostile_file_is_a_picture_or_is_refused_in_a_sentence(tmp_path: Path, one: Specimen):
    path = tmp_path / one.file_name
    one.write(path)
    try:
        header, loaded = read_picture_header(path), load_picture(path)
    except PictureError as error:
        refusal = error
    else:
        assert header.size == loaded.pixels.shape[:2]
        assert header.is_animated == one.animated
        assert one.size in (None, header.size)
        assert not one.said, "it must have been refused"
        if one.animated:  # the first frame: the second is turned round
            assert np.abs(loaded.pixels - np.asarray(noise()) / 255).mean() < 0.15
        return
    assert one.size is None, refusal
    assert one.said in refusal.message
    assert repr(str(path)) in refusal.message
    assert refusal.remedy
    assert "\n" not in str(refusal)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_header_that_promises_less_than_is_decoded_is_refused(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(KINDS["png"])
    load = Image.Image.load

    def grown(self: Image.Image) -> object:
        self._size = (2 * WIDTH, HEIGHT)
        return load(self)

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", grown)
    with pytest.raises(PictureError, match="the size that its header says"):
        load_picture(path)


def test_a_batch_renders_the_good_ones_and_has_a_line_for_each_bad_one(
    tmp_path: Path, monkeypatch, capsys, narrow_file: str
):
    """Through the command line, so that the names of files are hostile to it too."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Image.fromarray((255 * picture(32, 40)).astype("uint8")).save("s.png")
    specimens = {Path("in", one.file_name): one for one in SPECIMENS}
    for path, one in specimens.items():
        one.write(path)
    small = ["--weights", narrow_file, "--size", "32", "--levels", "1", "--steps", "2"]
    taps = ["--content-taps", "relu1_1", "--style-taps", "relu1_1", "--preset", "gram"]
    places = ["--contents", *map(str, specimens), "--styles", "s.png", "--output-dir", "out"]
    assert run(["batch", *places, *small, *taps]) == 3
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    assert "\x1b" not in said.err
    assert Path("out/report/index.html").is_file(), said.err

    lines = [json.loads(line) for line in Path("out/ledger.jsonl").read_text().splitlines()]
    assert len(lines) == len(specimens)
    by_content = {record["content"]: record for record in lines}
    for path, one in specimens.items():
        record = by_content[os.path.abspath(path)]
        if one.size is not None:
            assert record["status"] == "done", record["error"]
        elif one.said:
            assert record["status"] == "failed"
        if record["status"] == "failed":
            error = record["error"]
            assert (error["kind"], error["attempt"]) == ("picture", 1)
            assert one.said in error["message"]
            assert repr(str(path)) in error["message"]
            assert error["remedy"]
        else:
            with Image.open(Path("out", record["job"])) as image:
                image.load()
                height, width = one.size or image.size[::-1]
                assert max(image.size) == 32
                assert (image.height >= image.width) == (height >= width)
            kept = record["inputs"][str(path)]
            assert kept.get("first_frame_of_several", False) is one.animated
    told = [line for line in said.err.splitlines() if "failed " in line]
    failed = [record for record in lines if record["status"] == "failed"]
    assert len(told) == len(failed)
    (note,) = (line for line in said.err.splitlines() if "the first is taken" in line)
    assert "4 animated" in note
    assert "'in/animated.gif'" in note

    written = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    done = {record["job"] for record in lines if record["status"] == "done"}
    assert {name for name in written if not name.startswith("report/")} - OURS == done


# Damage at random, in a process of its own: it may neither crash, nor hang, nor grow.

BOUND_BYTES = 64 * 2**20
BOUND_BYTES_A_PIXEL = 64
"""What one decode may take, stated in docs/reliability.md."""


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the peak is told otherwise")


def memory_of(program: str, *arguments: str) -> tuple[int, str]:
    """Bytes by which a fresh process grew while a program ran, and the last line it printed."""
    watching = (
        "import faulthandler, re, sys; faulthandler.enable()\n"
        "from pathlib import Path\n"
        "from PIL import Image; Image.init()\n"
        "from nst_jax.files.images import composite, load_picture, read_picture_size, resize\n"
        "from nst_jax.request.errors import PictureError\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s*(\\d+)', status.read_text())[1])\n"
        f"before = peak()\n{program}\nprint(peak() - before)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", watching, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "Error" not in answer.stderr  # libtiff has its say there
    *before, grown = answer.stdout.splitlines()
    return int(grown), "\n".join(before)


MUTANTS = """
pictures = refusals = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        size = read_picture_size(path, max_pixels=100_000)
        loaded = load_picture(path, max_pixels=100_000)
    except PictureError as error:
        refusals += 1
        assert repr(str(path)) in error.message and "\\n" not in str(error), error
    else:
        pictures += 1
        assert loaded.pixels.shape == (*size, 3)
        assert 0 <= loaded.pixels.min() <= loaded.pixels.max() <= 1
print(pictures, refusals)
"""


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("suffix", KINDS)
def test_damage_at_random_neither_crashes_nor_hangs_nor_grows(tmp_path: Path, suffix: str):
    chance = random.Random(suffix)
    for number in range(150):
        path = tmp_path / f"{number:03d}.{suffix}"
        path.write_bytes(mutate(KINDS[suffix], chance))
    grown, counts = memory_of(MUTANTS, str(tmp_path))
    assert grown < BOUND_BYTES + 100_000 * BOUND_BYTES_A_PIXEL
    pictures, refusals = map(int, counts.split())
    assert pictures + refusals == 150
    assert refusals > 10


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "L"])
def test_a_large_picture_takes_no_more_memory_a_pixel_than_is_said(tmp_path: Path, mode: str):
    side = 2500
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image = Image.radial_gradient("L").resize((side, side)).convert("RGB")
    if mode == "RGBA":
        image.putalpha(image.getchannel("R"))
    image.convert(mode).save(path)
    program = 'kept = load_picture(Path(sys.argv[1])); resize(composite(kept, "white"), (512, 512))'
    grown, _ = memory_of(program, str(path))
    assert grown < BOUND_BYTES + side**2 * BOUND_BYTES_A_PIXEL
    assert grown > 12 * side**2, "it was not measured"
