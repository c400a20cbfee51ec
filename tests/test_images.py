"""Decoding, encoding and their failures. Every input is built here, in a temporary folder."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import random
import re
import stat
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from engine_jobs import one_device, tiny_options
from hostile_pictures import (
    SPECIMENS,
    chunk,
    encode,
    green_cyan_profile,
    icc_profile,
    mutate,
    plain_tiff,
    png,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from nst_jax import Job, Options, render, render_many
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.results import Result
from nst_jax.engine.run.writer import save_preview, write_result
from nst_jax.engine.schedule.previews import Preview
from nst_jax.files.atomic import write_bytes
from nst_jax.files.encode import save_picture
from nst_jax.files.exif import read_exif_to_keep
from nst_jax.files.folders import LocalFolder
from nst_jax.files.icc_profiles import srgb_profile
from nst_jax.files.images import composite, from_array, load_picture, read_picture_size, resize
from nst_jax.files.memory_pictures import identify, load_from_memory, read_memory_exif
from nst_jax.request.errors import OutputError, PictureError, WriteError

LOSSY = (".jpg", ".jpeg", ".webp")
ALL_ENCODINGS = [
    *((suffix, 8) for suffix in (*LOSSY, ".png", ".tif", ".tiff")),
    *((".png", 16), (".tif", 16)),
]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def noise8(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([rows, columns, (rows + columns) / 2], axis=-1).astype(np.float32)


def save_image(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def assert_valid(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    assert pixels.shape[2:] == (3,)
    for values in (pixels, alpha):
        if values is not None:
            assert values.shape[:2] == pixels.shape[:2]
            assert values.dtype == np.float32
            assert 0 <= values.min() <= values.max() <= 1


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """An independent reader: names and contents, check sums verified."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        name = content[place + 4 : place + 8]
        body = content[place + 8 : place + 8 + length]
        (check_sum,) = struct.unpack_from(">I", content, place + 8 + length)
        assert check_sum == zlib.crc32(name + body)
        chunks.append((name, body))
        place += 12 + length
    return chunks


def decode_png16(content: bytes) -> np.ndarray:
    """16-bit samples of a PNG that uses no filters but None and Up."""
    chunks = dict(png_chunks(content))
    width, height, depth, colour_type, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, rest) == (16, [0, 0, 0])
    channels = {2: 3, 6: 4}[colour_type]
    data = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    above = np.zeros(data.shape[1] - 1, np.uint8)
    rows = []
    for row in data:
        assert row[0] in (0, 2)
        above = row[1:] + above if row[0] == 2 else row[1:]
        rows.append(above)
    return np.stack(rows).view(">u2").reshape(height, width, channels).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("orientation", [*range(10), 4711])
def test_exif_turns_the_picture_upright_if_its_orientation_exists(tmp_path, orientation, suffix):
    image = Image.fromarray(np.kron(noise8(2, 3, 3), np.ones((16, 16, 1), np.uint8)))
    lossless = {".webp": {"lossless": True}, ".avif": {"quality": 95}}.get(suffix, {})
    exif = image.getexif()
    exif[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    path = save_image(tmp_path / f"turned{suffix}", image, exif=exif, **lossless)
    difference = np.abs(load_picture(path).pixels - upright / np.float32(255))
    assert difference.mean() < (0.03 if suffix == ".avif" else 1e-6)
    assert read_picture_size(path) == upright.shape[:2]


def test_the_size_is_read_without_decoding(tmp_path, monkeypatch):
    paths = [
        save_image(tmp_path / f"a.{suffix}", Image.new("RGB", (30, 20)))
        for suffix in ("png", "jpg", "webp", "tif", "gif", "bmp")
    ]
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert [read_picture_size(path) for path in paths] == [(20, 30)] * 6


# ---- Colour profiles


def swapped_profile() -> bytes:
    """sRGB with the red and the blue colourant exchanged in its table of tags."""
    profile = bytearray(srgb_profile())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def wide_profile() -> bytes:
    """An RGB space whose red primary is more saturated than sRGB's: less green in it."""
    profile = bytearray(srgb_profile())
    entry = profile.index(b"rXYZ")
    (start,) = struct.unpack_from(">I", profile, entry + 4)
    x, y, z = struct.unpack_from(">3i", profile, start + 8)
    struct.pack_into(">3i", profile, start + 8, x, int(y * 0.8), z)
    return bytes(profile)


def grey_profile(gamma: float) -> bytes:
    """A minimal version-2 monitor profile for grey with a pure power curve."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return icc_profile(b"mntrGRAYXYZ ", {b"wtpt": white, b"kTRC": curve})


def srgb_from_linear(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


RED = Image.new("RGBA", (16, 16), (200, 40, 40, 128))
OPAQUE_RED = RED.convert("RGB")


@pytest.mark.parametrize(
    ("image", "suffixes"),
    [(OPAQUE_RED, ("png", "jpg", "tif", "webp")), (RED, ("png",)), (RED.quantize(), ("png",))],
    ids=["RGB", "alpha", "palette"],
)
def test_an_embedded_profile_is_converted_to_srgb(tmp_path, image, suffixes):
    for suffix in suffixes:
        path = save_image(tmp_path / f"a.{suffix}", image, icc_profile=swapped_profile())
        picture = load_picture(path)
        np.testing.assert_allclose(picture.pixels.mean((0, 1)) * 255, (40, 40, 200), atol=3)
        assert (picture.alpha is None) == (image.mode == "RGB")


def test_a_more_saturated_primary_moves_the_colour_outwards_and_tints_grey(tmp_path):
    image = Image.new("RGB", (8, 8), (180, 120, 120))
    plain = load_picture(save_image(tmp_path / "plain.png", image)).pixels[0, 0]
    path = save_image(tmp_path / "wide.png", image, icc_profile=wide_profile())
    assert load_picture(path).pixels[0, 0, 1] < plain[1] - 0.02
    save_image(path, Image.new("L", (4, 4), 100), icc_profile=wide_profile())
    assert np.ptp(load_picture(path).pixels[0, 0] * 255) > 2


DEEP_GREY = Image.fromarray(np.array([[0, 9000, 30000, 65535]], np.uint16))


@pytest.mark.parametrize(
    ("image", "values"),
    [
        (Image.new("L", (4, 4), 128), 128 / 255),
        (Image.new("LA", (4, 4), (128, 255)), 128 / 255),
        (Image.new("1", (4, 4), 255), 1.0),
        (DEEP_GREY, np.asarray(DEEP_GREY)[..., None] / 65535),
    ],
    ids=["L", "LA", "1", "16 bits"],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_grey_profile_changes_the_tone(tmp_path, suffix, image, values):
    path = save_image(tmp_path / f"a.{suffix}", image, icc_profile=grey_profile(1.0))
    expected = np.vectorize(srgb_from_linear)(values)
    expected = np.broadcast_to(expected, (*image.size[::-1], 3))
    np.testing.assert_allclose(load_picture(path).pixels, expected, atol=2 / 255)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_goes_through_its_profile(tmp_path, suffix):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    path = save_image(tmp_path / f"a.{suffix}", cyan, icc_profile=green_cyan_profile())
    red, green, blue = load_picture(path).pixels[8, 8]
    assert green > red + 0.2
    assert green > blue + 0.2
    paper = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    path = save_image(tmp_path / f"b.{suffix}", paper, icc_profile=green_cyan_profile())
    np.testing.assert_allclose(load_picture(path).pixels, 1, atol=0.02)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "RGBA"])
@pytest.mark.parametrize("fault", ["junk", "empty", "half", "space", "tags", "ours"])
def test_a_broken_profile_is_ignored(tmp_path, mode, fault):
    profile = {
        "junk": b"no profile at all" * 20,
        "empty": b"\0",
        "half": srgb_profile()[:200],
        "space": srgb_profile().replace(b"RGB ", b"CMYK", 1),
        "tags": srgb_profile().replace(b"XYZ", b"???"),
        "ours": srgb_profile(),  # which changes nothing either
    }[fault]
    image = Image.fromarray(noise8(8, 8, 3)).convert(mode)
    expected = np.asarray(image.convert("RGB")) / np.float32(255)
    path = save_image(tmp_path / "a.tif", image, icc_profile=profile)
    np.testing.assert_allclose(load_picture(path).pixels, expected, atol=1e-6)


# ---- Modes


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), "jpg", (1, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "tif", (1, 0, 0)),
        ("YCbCr", (128, 128, 128), "tif", (128 / 255,) * 3),
        ("LAB", (137, 128, 128), "tif", (128 / 255,) * 3),
    ],
)
def test_other_colour_spaces_are_converted(tmp_path, mode, colour, suffix, expected):
    path = save_image(tmp_path / f"a.{suffix}", Image.new(mode, (16, 16), colour))
    np.testing.assert_allclose(load_picture(path).pixels[8, 8], expected, atol=0.02)


@pytest.mark.parametrize(
    ("samples", "photometric", "expected"),
    [((50, 25, 0, 128), "rgb", (100, 50, 0)), ((50, 128), "minisblack", (100, 100, 100))],
)
def test_premultiplied_alpha_is_divided_out(tmp_path, samples, photometric, expected):
    values = np.full((4, 4, len(samples)), samples, np.uint8)
    options = {"photometric": photometric, "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", values, extrasamples=["assocalpha"], **options)
    picture = load_picture(tmp_path / "a.tif")
    np.testing.assert_allclose(picture.pixels[0, 0] * 255, expected, atol=1)
    assert picture.alpha is not None


@pytest.mark.parametrize(
    ("image", "suffixes"),
    [
        (Image.fromarray(noise8(8, 8, 3)).quantize(7), ("png", "gif", "tif", "bmp")),
        (Image.fromarray(noise(5, 9) > 0.5), ("png", "tif", "bmp")),
        (Image.fromarray(noise8(5, 7)), ("png",)),
        (Image.new("RGBA", (4, 4), (1, 2, 3, 255)), ("png",)),
        (Image.fromarray(noise8(6, 5, 4)), ("png", "tif")),
        (Image.fromarray(noise8(6, 5, 4)).convert("LA"), ("png", "tif")),
    ],
    ids=["palette", "one bit", "grey", "opaque", "RGBA", "LA"],
)
def test_other_modes_become_colours_and_alpha_apart_from_them(tmp_path, image, suffixes):
    expected = np.asarray(image.convert("RGBA")) / np.float32(255)
    alpha = None if (expected[..., 3] == 1).all() else expected[..., 3]
    for suffix in suffixes:
        picture = load_picture(save_image(tmp_path / f"a.{suffix}", image))
        np.testing.assert_array_equal(picture.pixels, expected[..., :3])
        np.testing.assert_array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_a_palettes_transparency_is_honoured(tmp_path, transparency):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture = load_picture(save_image(tmp_path / "a.png", image, transparency=transparency))
    assert picture.alpha is not None
    last = 1.0 if transparency == 1 else 128 / 255
    np.testing.assert_allclose(picture.alpha, [[1, 0, last]], atol=1e-6)
    np.testing.assert_array_equal(picture.pixels[0], np.eye(3))


COLOURS = np.array([[0x1234, 0x5678, 0x9ABC], [0x3412, 0x7856, 0xBC9A]], ">u2").tobytes()


@pytest.mark.parametrize(
    ("depth", "kind", "rows", "key", "grey"),
    [
        (1, 0, b"\0\x80", b"\0\1", [1, 0]),
        (2, 0, b"\0\x90", b"\0\2", np.array([2, 1]) / 3),
        (4, 0, b"\0\x21", b"\0\2", np.array([2, 1]) / 15),
        (8, 0, b"\0\x4d\x4e", b"\0\x4d", np.array([0x4D, 0x4E]) / 255),
        (8, 2, b"\0\x09\x08\x07\x09\x08\0", b"\0\x09\0\x08\0\x07", None),
        (16, 0, b"\0\x12\x34\x12\x35", b"\x12\x34", np.array([0x1234, 0x1235]) / 65535),
        (16, 2, b"\0" + COLOURS, COLOURS[:6], None),
    ],
)
def test_a_transparent_colour_is_honoured(tmp_path, depth, kind, rows, key, grey):
    path = tmp_path / "a.png"  # two pixels, of which the first has the transparent colour
    path.write_bytes(png(2, 1, chunk(b"tRNS", key), pixels=rows, depth=depth, kind=kind))
    picture = load_picture(path)
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0.0, 1.0]]
    if grey is not None:
        np.testing.assert_allclose(picture.pixels[0, :, 0], grey, atol=1e-7)


def test_16_bit_grey_is_scaled_and_integers_beyond_are_refused(tmp_path):
    values = np.array([[0, 255, 256, 30000], [1, 40000, 65534, 65535]], np.uint16)
    plain, wide = Image.fromarray(values), Image.fromarray(values.astype(np.int32))
    big = Image.frombytes("I;16B", plain.size, values.astype(">u2").tobytes())
    files = {"a.png": plain, "little.tif": plain, "big.tif": big, "int32.tif": wide, "a.pgm": wide}
    for name, image in files.items():
        pixels = load_picture(save_image(tmp_path / name, image)).pixels
        np.testing.assert_array_equal(pixels[..., 1], values / np.float32(65535), name)
    for value in (-1, 65536):
        path = save_image(tmp_path / "a.tif", Image.fromarray(np.full((2, 2), value, np.int32)))
        with pytest.raises(PictureError, match="integers from 0"):
            load_picture(path)


def test_float_grey_is_taken_as_zero_to_one_and_clipped(tmp_path):
    values = Image.fromarray(np.array([[-1, 0, 0.25, 1, 7]], np.float32))
    path = save_image(tmp_path / "a.tif", values)
    assert load_picture(path).pixels[0, :, 2].tolist() == [0, 0, 0.25, 1, 1]


RAMP = np.linspace(0, 4095, 32).round().astype(np.uint16)  # of 12 bits
BYTES, FLOATS = RAMP // 32, RAMP.astype("<f4") * (255 / 4095)
OF_14 = RAMP * 4 + 3
OF_14_SCALED = np.rint(OF_14 * (255 / 16383)) / 255
PACKED = np.packbits(np.unpackbits(RAMP.astype(">u2").view(np.uint8)).reshape(32, 16)[:, 4:])


def grey_tiff(values: np.ndarray, bits: int, **tags: int) -> bytes:
    return plain_tiff(32, 1, values.tobytes(), t258=bits, **tags)


def deep_png(values: np.ndarray, *significant: int, kind: int = 0) -> bytes:
    told = [chunk(b"sBIT", bytes(significant))] if significant else []
    return png(32, 1, *told, pixels=b"\0" + values.astype(">u2").tobytes(), depth=16, kind=kind)


def planes_of_16_bits() -> bytes:
    """A TIFF of three uncompressed planes, one after the other."""
    tags = {256: 32, 257: 1, 259: 1, 262: 2, 277: 3, 278: 1, 284: 2}
    triples = {258: (16,) * 3, 273: (8, 72, 136), 279: (64,) * 3}
    pixels, count = np.tile(RAMP * 16, 3).astype("<u2").tobytes(), len(tags) + len(triples)
    place, entries, tail = 8 + len(pixels) + 2 + 12 * count + 4, b"", b""
    for tag in sorted(tags | triples):
        if tag in tags:
            entries += struct.pack("<HHII", tag, 4, 1, tags[tag])
        else:
            entries += struct.pack("<HHII", tag, 4, 3, place + len(tail))
            tail += struct.pack("<III", *triples[tag])
    head = struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels
    return head + struct.pack("<H", count) + entries + bytes(4) + tail


def palette_of_bytes() -> bytes:
    """A TIFF whose palette goes up to 255, not to 65535."""
    image = Image.fromarray(BYTES[None].astype(np.uint8), "P")
    image.putpalette(np.arange(256).repeat(3).astype(np.uint8).tobytes())
    entries = np.tile(np.arange(256, dtype="<u2") * 256, 3)
    content = encode(image, "TIFF")
    assert entries.tobytes() in content
    return content.replace(entries.tobytes(), (entries // 256).tobytes())


def with_alpha(colours: int, alpha: np.ndarray) -> np.ndarray:
    return np.column_stack([OF_14] * colours + [alpha])


SAMPLES = {
    "12 bits.tif": (grey_tiff(PACKED, 12), RAMP / 4095),
    "white is zero.tif": (grey_tiff(RAMP * 16, 16, t262=0), 1 - RAMP * 16 / 65535),
    "white is zero in floats.tif": (grey_tiff(FLOATS / 255, 32, t262=0, t339=3), 1 - FLOATS / 255),
    "white is zero in bytes.tif": (grey_tiff(BYTES.astype("u1"), 8, t262=0), 1 - BYTES / 255),
    "signed.tif": (grey_tiff(RAMP * 8, 16, t339=2), RAMP * 8 / 32767),
    "signed bytes.tif": (grey_tiff(BYTES.astype("i1"), 8, t339=2), BYTES / 127),
    "below zero.tif": (grey_tiff(-RAMP.astype("<i2"), 16, t339=2), "from 0 .* to 32767"),
    "bytes below zero.tif": (grey_tiff(-BYTES.astype("i1"), 8, t339=2), "from 0 .* to 127"),
    "white of its own.tif": (grey_tiff(RAMP, 16, t281=4095), RAMP / 4095),
    "its largest value.tif": (grey_tiff(RAMP * 2, 16, t281=8190), RAMP * 2 / 65535),
    "12 bits in 16.tif": (grey_tiff(RAMP, 16), "white is 65535, got 4095"),
    "8 bits in 32.tif": (grey_tiff(BYTES.astype("<i4"), 32, t339=2), "white is 65535, got 127"),
    "floats to 255.tif": (grey_tiff(FLOATS, 32, t339=3), "floats from 0 .* got 0 to 255"),
    "white of floats.tif": (grey_tiff(FLOATS, 32, t339=3, t341=255), FLOATS / 255),
    "12 bits.pgm": (b"P5 32 1 4095 " + RAMP.astype(">u2").tobytes(), RAMP / 4095),
    "12 bits as they are.png": (deep_png(RAMP, 12), RAMP / 4095),
    "12 bits scaled and dark.png": (deep_png(RAMP // 15 * 16, 12), RAMP // 15 * 16 / 65535),
    "12 bits in 16.png": (deep_png(RAMP), "white is 65535, got 4095"),
    "12 bits in colours.png": (deep_png(RAMP.repeat(3), kind=2), "got at most 4095"),
    "8 bits in colours.png": (deep_png(BYTES.repeat(3), kind=2), "got at most 255"),
    "colours.png": (deep_png(RAMP.repeat(3) * 16, kind=2), RAMP // 16 / 255),
    "14 bits in colours.png": (deep_png(OF_14.repeat(3), *[14] * 3, kind=2), OF_14_SCALED),
    "14 bits and alpha.png": (
        deep_png(with_alpha(3, RAMP * 0 + 16383), *[14] * 4, kind=6),
        OF_14_SCALED,
    ),
    "14 bits and whole alpha.png": (
        deep_png(with_alpha(3, RAMP * 0 + 65535), 14, 14, 14, 16, kind=6),
        OF_14_SCALED,
    ),
    "14 bits of grey and alpha.png": (
        deep_png(with_alpha(1, RAMP * 0 + 16383), 14, 14, kind=4),
        OF_14_SCALED,
    ),
    "14 bits scaled and dark.png": (
        deep_png(RAMP.repeat(3) * 4, *[14] * 3, kind=2),
        RAMP // 64 / 255,
    ),
    "floats around 0.tif": (grey_tiff(FLOATS / 127.5 - 1, 32, t339=3), "got -1 to 1"),
    "floats to 10.tif": (grey_tiff(FLOATS / 25.5, 32, t339=3), "got 0 to 10"),
    "black.png": (deep_png(RAMP * 0), RAMP * 0),
    "palette of bytes.tif": (palette_of_bytes(), BYTES / 255),
    "planes.tif": (planes_of_16_bits(), "a plane of 16 bits for each colour"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_numbers_mean_what_the_file_declares_and_are_refused_where_they_can_not(tmp_path, name):
    content, expected = SAMPLES[name]
    path = tmp_path / name
    path.write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(PictureError, match=expected) as error:
            load_picture(path)
        assert error.value.remedy
    else:
        picture = load_picture(path)
        np.testing.assert_allclose(picture.pixels[0, :, 1], expected, atol=1e-5)
        assert picture.alpha is None


LIGHTS = np.where(RAMP > 3500, 7, RAMP / 4095).astype("<f4")
A_LIGHT = np.append(np.tile(RAMP / 4095, 8)[1:], 7).astype("<f4")
ROUNDED = (RAMP / 4095 * 1.0002 - 1e-4).astype("<f4")

DOUBTFUL = {
    "13 bits.png": (deep_png(RAMP * 2), "8190 of 65535, as of data of 13 bits .* by 8"),
    "14 bits.tif": (grey_tiff(OF_14, 16), "16383 of 65535, as of data of 14 bits .* by 4"),
    "14 bits of colour.png": (deep_png(OF_14.repeat(3), kind=2), "16383 of 65535, as of .* by 4"),
    "12 bits signed.tif": (grey_tiff(RAMP, 16, t339=2), "4095 of 32767, as of data of 12 .* by 8"),
    "lights.tif": (grey_tiff(LIGHTS, 32, t339=3), "values are 0 to 7, beyond 0 and 1 16% are cut"),
    "a light.tif": (plain_tiff(32, 8, A_LIGHT.tobytes(), t258=32, t339=3), ""),
    "rounded.tif": (grey_tiff(ROUNDED, 32, t339=3), ""),
    "dark.png": (deep_png(RAMP * 3), ""),
    "dark colours.png": (deep_png(RAMP.repeat(3) * 5, kind=2), ""),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_numbers_that_may_be_meant_otherwise_are_taken_and_doubted(tmp_path, name):
    content, said = DOUBTFUL[name]
    (tmp_path / name).write_bytes(content)
    doubt = load_picture(tmp_path / name).doubt
    assert re.search(said, doubt)
    assert bool(said) == bool(doubt)


def test_what_is_doubted_or_nearly_black_is_noted_once_for_each_picture(narrow_file, tmp_path):
    class Notes(NullProgress):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, message: str) -> None:
            self.notes.append(message)

    classes, black = noise8(40, 48, 3) // 64, np.zeros((40, 48), np.uint8)
    content, style = tmp_path / "a.png", tmp_path / "b.png"
    save_image(content, Image.fromarray(classes))
    save_image(style, Image.fromarray((noise(40, 48) * 16383).astype(np.uint16)))
    jobs = [Job(content, style), Job(content, classes + 100), Job(classes + 100, black)]
    jobs += [Job(noise8(40, 48) // (9 * number), classes) for number in (3, 4, 5)]
    heard = Notes()
    options = tiny_options(narrow_file, levels=1)
    list(render_many(jobs, options, progress=heard, devices=one_device()))
    told = [note for note in heard.notes if note.startswith("picture")]
    assert sorted(told) == sorted(set(told))
    assert f"picture {str(content)!r}: it is nearly black, its brightest value is 3 of 255" in told
    assert any(
        note.startswith(f"picture {str(style)!r}: its brightest value is 16") for note in told
    )
    assert heard.notes[-1] == "1 more pictures may be wrong in their numbers"


# ---- What can't be used


def assert_refused(path: Path, match: str) -> None:
    """The same refusal from both functions, with a name, a remedy and a single line."""
    with pytest.raises(PictureError, match=match) as size_error:
        read_picture_size(path)
    with pytest.raises(PictureError, match=match) as error:
        load_picture(path)
    assert str(error.value) == str(size_error.value)
    assert repr(str(path)) in error.value.message
    assert error.value.remedy
    assert "\n" not in str(error.value)


# Files that are no pictures are in hostile_pictures.py.
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("no\nsuch.png", "does not exist"),
        ("", "is a folder"),
        ("file/a.png", "Not a directory"),
        ("x" * 300 + ".png", "too long"),
        ("a\0b.png", "must have a name that a file can have"),
    ],
)
def test_what_is_no_picture_file_is_refused(tmp_path, name, match):
    (tmp_path / "file").write_bytes(b"x")
    assert_refused(tmp_path / name, match)


@pytest.mark.parametrize(
    ("owner", "error", "match"),
    [
        (Path, PermissionError(errno.EACCES, "Permission denied"), "may not be read"),
        (Image, OSError(errno.EIO, "Input/output error"), "not be read: Input/output"),
    ],
)
def test_what_fails_while_a_file_is_opened_is_reported(tmp_path, monkeypatch, owner, error, match):
    path = save_image(tmp_path / "a.png", Image.new("L", (2, 2)))
    monkeypatch.setattr(owner, "open", mock.Mock(side_effect=error))
    assert_refused(path, match)


def test_too_many_pixels_are_refused_before_decoding_and_too_little_memory_in_it(
    tmp_path, monkeypatch
):
    path = save_image(tmp_path / "a.png", Image.new("L", (10, 10)))
    assert load_picture(path, max_pixels=100).pixels.shape[:2] == (10, 10)
    monkeypatch.setattr(ImageFile.ImageFile, "load", mock.Mock(side_effect=MemoryError))
    with pytest.raises(PictureError, match="must have at most 99 pixels, got 10 x 10"):
        load_picture(path, max_pixels=99)
    with pytest.raises(PictureError, match="must have at most 1 pixel, got 10 x 10"):
        load_picture(path, max_pixels=1)
    with pytest.raises(PictureError, match="more memory than there is"):
        load_picture(path)


WIDE = Image.linear_gradient("L").resize((640, 320))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("edge", "size"),
    [
        (None, (320, 640)),
        (161, (320, 640)),
        (160, (160, 320)),
        (81, (160, 320)),
        (80, (80, 160)),
        (40, (40, 80)),
        (1, (40, 80)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_leaves_twice_its_use(
    tmp_path, mode, edge, size
):
    path = save_image(tmp_path / "a.jpg", WIDE.convert(mode), quality=95)
    whole = load_picture(path).pixels
    pixels = load_picture(path, edge_px=edge, max_pixels=size[0] * size[1]).pixels
    assert pixels.shape[:2] == size
    np.testing.assert_allclose(pixels, resize(whole, size), atol=0.05)
    assert read_picture_size(path, max_pixels=40 * 80) == (320, 640)
    few = {"max_pixels": size[0] * size[1] - 1, "edge_px": edge}
    with pytest.raises(PictureError, match=f"must have at most .* {size[1]} x {size[0]}"):
        load_picture(path, **few)


def test_other_formats_turned_and_narrow_pictures_and_what_is_kept_whole_are_no_exception(tmp_path):
    """A progressive JPEG is in memory as a whole, at whatever scale."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save_image(tmp_path / "a.jpg", WIDE, exif=exif)
    assert load_picture(turned, edge_px=80).pixels.shape[:2] == (160, 80)
    assert load_picture(save_image(tmp_path / "a.png", WIDE), edge_px=1).pixels.shape[1] == 640
    narrow = save_image(tmp_path / "a.jpg", WIDE.resize((640, 5)))
    assert load_picture(narrow, edge_px=1).pixels.shape[:2] == (2, 160)
    path = save_image(tmp_path / "a.jpg", WIDE.convert("RGB"), progressive=True)
    enough = 1 + 640 * 320 * 3 // 28
    assert load_picture(path, edge_px=40, max_pixels=enough).pixels.shape[:2] == (40, 80)
    for look in (read_picture_size, load_picture):
        with pytest.raises(PictureError, match="as a progressive"):
            look(path, max_pixels=enough - 1, **({"edge_px": 40} if look is load_picture else {}))


def test_pillows_warnings_do_not_come_through(tmp_path, monkeypatch):
    path = save_image(tmp_path / "a.png", Image.new("L", (10, 10)))
    load = ImageFile.ImageFile.load

    def warn_and_load(self: ImageFile.ImageFile) -> object:
        warnings.warn_explicit("corrupt EXIF", UserWarning, "a.py", 1, module="PIL.SomePlugin")
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", warn_and_load)
    load_picture(path)  # or the warning is an error here


def test_overlapping_decodes_leave_warning_filters_and_pillows_limit_as_they_were(
    tmp_path, monkeypatch
):
    path = save_image(tmp_path / "a.png", Image.fromarray(noise8(64, 64, 3)))
    before = list(warnings.filters)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # the host's, which is not ours
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(load_picture, [path] * 80))
    assert list(warnings.filters) == before
    assert Image.MAX_IMAGE_PIXELS == 10


# ---- Arrays


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
@pytest.mark.parametrize(
    "dtype", [np.uint8, ">u2", np.uint16, bool, jnp.bfloat16, np.float16, np.float32, np.float64]
)
def test_arrays_of_each_type_and_shape_become_pictures(shape, dtype):
    kind = np.dtype(dtype)
    white = np.iinfo(kind).max if kind.kind == "u" else 1
    array = (noise(*shape) * white).round(1).astype(kind)
    picture = from_array(array)
    assert_valid(picture.pixels, picture.alpha)
    assert not np.shares_memory(picture.pixels, array)
    assert (picture.alpha is not None) == (shape[-1] == 4)
    expected = array.astype(np.float64).reshape(4, 5, -1) / white
    np.testing.assert_allclose(
        picture.pixels, np.broadcast_to(expected[..., :3], (4, 5, 3)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), "V2"), "V2"),
        (np.zeros((4, 4), complex), "complex"),
        (np.zeros((4, 4), object), "object"),
        (np.full((4, 4), 1.01), "1.01"),
        (np.full((4, 4), -0.01), "-0.01"),
        (np.full((4, 4), np.nan), "finite"),
        (np.full((4, 4), np.inf), "finite"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, match):
    with pytest.raises(PictureError, match=match):
        from_array(array)


def test_an_image_without_a_pixel_is_refused():
    with pytest.raises(PictureError, match="at least one pixel, got 0 x 4"):
        identify(Image.new("RGB", (0, 4)))


class Unreadable:
    """As a tensor on a device that NumPy can't reach."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("can't convert\nthat device's tensor")


def test_an_array_that_numpy_can_not_read_is_refused_in_a_line():
    with pytest.raises(
        PictureError, match=r"Unreadable: can't convert that device's tensor"
    ) as told:
        load_from_memory(Unreadable())
    assert "\n" not in str(told.value)


# ---- Images of Pillow's

GOOD = [one for one in SPECIMENS if one.size and isinstance(one.content, bytes)]


@pytest.mark.parametrize("one", GOOD, ids=lambda one: ascii(one.file_name))
def test_an_image_in_memory_is_read_as_its_file_decoded_or_not(tmp_path, one):
    """Alpha, palettes, depths, orientations, profiles and layouts of every kind."""
    path = tmp_path / "picture"
    one.write(path)
    expected = load_picture(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, when the user opens it
        opened, decoded = (Image.open(io.BytesIO(one.content)) for _ in range(2))
        decoded.load()
    for image in (opened, opened, decoded, decoded.copy()):
        picture = load_from_memory(image)
        np.testing.assert_array_equal(picture.pixels, expected.pixels)
        np.testing.assert_array_equal(picture.alpha, expected.alpha)
        assert identify(image)[1] == expected.pixels.shape[:2]


@pytest.mark.parametrize(
    "mode", ["1", "P", "LA", "La", "RGBa", "RGBX", "PA", "CMYK", "YCbCr", "HSV"]
)
def test_an_image_that_no_file_holds_is_read_by_its_mode(mode):
    image = Image.fromarray(noise8(6, 5, 4)).convert({"La": "LA", "RGBa": "RGBA"}.get(mode, "RGB"))
    picture = load_from_memory(image.convert(mode))
    assert_valid(picture.pixels, picture.alpha)
    assert picture.pixels.shape == (6, 5, 3)


def test_an_opened_image_may_be_shared_by_threads_and_a_bad_one_is_told(tmp_path):
    path = save_image(tmp_path / "a.png", Image.fromarray(noise8(200, 300, 3)))
    whole = path.read_bytes()
    shared, cut, closed = (Image.open(io.BytesIO(one)) for one in (whole, whole[:-5000], whole))
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(load_from_memory, [shared] * 16))
    for picture in seen:
        np.testing.assert_array_equal(picture.pixels, load_picture(path).pixels)
    closed.close()
    with pytest.raises(PictureError, match="'image' is damaged or cut short"):
        load_from_memory(cut)
    with Image.open(path) as left:
        pass
    with Image.open(path) as decoded:
        decoded.load()
    assert load_from_memory(decoded).pixels.shape == (200, 300, 3)
    with path.open("rb") as file:
        of_closed_file = Image.open(file)
    decoded.close()
    for image in (closed, left, decoded, of_closed_file):
        with pytest.raises(PictureError, match="must be open"):
            load_from_memory(image)


def test_an_image_is_told_from_others_by_what_it_shows():
    array = noise8(6, 5, 3)
    turned, ink, profiled = Image.fromarray(array), *(Image.new("CMYK", (5, 6), 99) for _ in "ab")
    turned.getexif()[274] = 3
    turned.info["exif"] = turned.getexif().tobytes()
    profiled.info["icc_profile"] = green_cyan_profile()
    deep = [Image.fromarray((noise(6, 5) * 65535).astype(np.uint16)), Image.fromarray(noise(6, 5))]
    images = [Image.fromarray(array), turned, ink, profiled, Image.fromarray(array[..., 0]), *deep]
    assert len({identify(image)[0] for image in images}) == len(images)
    assert identify(Image.fromarray(array)) == identify(array) == identify(images[0].copy())
    with_alpha = noise8(6, 5, 4)
    assert identify(Image.fromarray(with_alpha)) == identify(with_alpha)


# ---- Resizing and compositing


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3), (40, 30, 4)])
@pytest.mark.parametrize("size", [(20, 15), (81, 7), (1, 1)])
def test_resizing_keeps_range_type_and_channels(shape, size):
    result = resize(noise(*shape), size)
    assert result.shape == size + shape[2:]
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_an_edge_is_sharpened_by_overshoot_that_is_clipped(shape):
    edge = np.zeros(shape, np.float32)
    edge[:, 4:] = 1
    result = resize(edge, (32, 32))
    assert (result.min(), result.max()) == (0, 1)
    inside = resize(0.2 + 0.6 * edge, (32, 32))
    assert inside.min() < 0.17
    assert inside.max() > 0.83


def test_resizing_keeps_constants_and_depth_makes_fine_stripes_grey_and_copies_nothing_in_vain():
    colour = np.array([0.2, 0.5, 0.9], np.float32)
    result = resize(np.broadcast_to(colour, (9, 13, 3)), (30, 4))
    np.testing.assert_allclose(result, np.broadcast_to(colour, (30, 4, 3)), atol=1e-5)
    ramp = np.linspace(0.5, 0.502, 64, dtype=np.float32)[None].repeat(64, 0)
    assert len(np.unique(resize(ramp, (64, 32)))) > 16
    stripes = np.zeros((64, 64, 3), np.float32)
    stripes[:, ::2] = 1
    np.testing.assert_allclose(resize(stripes, (16, 16))[4:-4, 4:-4], 0.5, atol=0.02)
    assert resize(ramp, (64, 64)) is ramp
    with pytest.raises(PictureError, match="at least 1 px"):
        resize(ramp, (0, 4))


def test_compositing_mixes_with_the_background():
    picture = from_array(np.array([[[0.5, 0.5, 0.5, 0], [0.5, 0.5, 0.5, 0.5]]]))
    np.testing.assert_allclose(composite(picture, "white")[0, :, 0], [1, 0.75])
    np.testing.assert_allclose(composite(picture, "black")[0, :, 0], [0, 0.25])
    assert composite(picture, "white").dtype == np.float32
    opaque = from_array(noise(3, 3, 3))
    assert composite(opaque, "black") is opaque.pixels


# ---- Writing


@pytest.mark.parametrize(("suffix", "bit_depth"), ALL_ENCODINGS)
def test_every_encoding_is_read_back_close_to_what_was_written(tmp_path, suffix, bit_depth):
    pixels, path = smooth(48, 40), tmp_path / f"a{suffix.upper()}"
    alpha = None if suffix in (".jpg", ".jpeg") else 1 - pixels[..., 2] / 2
    save_picture(path, pixels, alpha=alpha, bit_depth=bit_depth)
    picture = load_picture(path)
    # 16 bits come back through Pillow, which cuts the lower byte off.
    exact = (0.5001 if bit_depth == 8 else 1.01) / 255
    np.testing.assert_allclose(picture.pixels, pixels, atol=0.03 if suffix in LOSSY else exact)
    if alpha is not None:
        assert picture.alpha is not None
        np.testing.assert_allclose(picture.alpha, alpha, atol=exact)
    assert read_picture_size(path) == (48, 40)


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bits_are_the_exact_samples(tmp_path, channels):
    values = noise(90, 70, 4)  # many, since float32 would round a few in a thousand wrongly
    alpha = values[..., 3] if channels == 4 else None
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        save_picture(path, values[..., :3], alpha=alpha, bit_depth=16, description="d" * 33)
    expected = np.rint(values[..., :channels].astype(np.float64) * 65535)
    np.testing.assert_array_equal(decode_png16((tmp_path / "a.png").read_bytes()), expected)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.mode == ("RGB" if channels == 3 else "RGBA")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), expected)
        assert page.photometric.name == "RGB"
        assert page.tags["ImageDescription"].value == "d" * 33
        assert [one.name for one in page.extrasamples] == ["UNASSALPHA"] * (channels - 3)


def test_jpeg_lays_transparency_on_white_and_keeps_full_colour_resolution(tmp_path):
    alpha = np.zeros((32, 32), np.float32)
    alpha[8:24] = 0.5
    save_picture(tmp_path / "a.jpg", np.zeros((32, 32, 3), np.float32), alpha=alpha)
    picture = load_picture(tmp_path / "a.jpg")
    assert picture.alpha is None
    np.testing.assert_allclose(picture.pixels[..., 0], 1 - alpha, atol=0.01)
    with Image.open(tmp_path / "a.jpg") as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


def test_values_are_clipped_and_halves_rounded_to_even(tmp_path):
    save_picture(tmp_path / "a.png", np.array([[[-3, 0.5, 7], [0.5 / 255, 1.5 / 255, 2.5 / 255]]]))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[[0, 128, 255], [0, 2, 2]]]


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
        elements=st.floats(0, 1, width=32),
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_round_trip_errs_by_half_a_step_at_most(tmp_path, pixels):
    readers: dict[tuple[str, int], Callable[[Path], np.ndarray]] = {
        (".png", 8): lambda path: load_picture(path).pixels,
        (".tif", 8): lambda path: load_picture(path).pixels,
        (".png", 16): lambda path: decode_png16(path.read_bytes()) / 65535,
        (".tif", 16): lambda path: tifffile.imread(path).reshape(pixels.shape) / 65535,
    }
    for (suffix, bit_depth), read in readers.items():
        path = tmp_path / f"a{suffix}"
        save_picture(path, pixels, bit_depth=bit_depth)
        half_a_step = 0.5 / (2**bit_depth - 1)
        assert np.abs(read(path) - pixels.astype(np.float64)).max() <= half_a_step + 1e-7


@pytest.mark.parametrize(("suffix", "bit_depth"), ALL_ENCODINGS)
def test_equal_input_gives_equal_bytes_that_say_what_they_are(
    tmp_path, suffix, bit_depth, monkeypatch
):
    made_of = {"style": "日本 é \U0001f3a8.png", "steps": 300, "quote": '"\\', "bad": "\udcff"}
    description = json.dumps(made_of, ensure_ascii=False)
    options = {"alpha": noise(20, 30), "bit_depth": bit_depth, "description": description}
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    checksum = save_picture(first, noise(20, 30, 3), **options)
    srgb_profile.cache_clear()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert save_picture(second, noise(20, 30, 3), **options) == checksum
    assert first.read_bytes() == second.read_bytes()
    assert checksum == hashlib.sha256(first.read_bytes()).hexdigest()
    with Image.open(first) as image:
        assert image.info["icc_profile"] == srgb_profile()
        if isinstance(image, PngImagePlugin.PngImageFile):
            read, software = image.text["Description"], image.text["Software"]
        else:
            read, software = image.getexif()[0x010E], image.getexif()[0x0131]
    assert json.loads(read) == made_of
    assert software == "nst_jax"


KEPT = {
    0x010F: "Maker",
    0x0110: "Model 1",
    0x013B: "J\xfcrgen",
    0x8298: "(c) J\xfcrgen",
    0x9003: "2024:05:01 10:11:12",
    0x9011: "+02:00",
}
"""Tags of camera, author, copyright and date."""


def photograph(path: Path) -> Path:
    """A JPEG with all that telephones tell: also orientation, position and a serial number."""
    exif, inner = Image.Exif(), {0xA431: "serial 99"}
    exif[0x0112], exif[0x8825] = 6, {1: "N", 2: (48.0, 8.0, 0.5)}
    for tag, text in KEPT.items():
        if tag >= 0x9000:
            inner[tag] = text
        else:
            exif[tag] = text.encode("latin-1")
    exif[0x8769] = inner
    return save_image(path, Image.fromarray(noise8(34, 48, 3)), exif=exif)


def told_of(path: Path) -> tuple[str, dict[int, object]]:
    """A picture's description, and its other EXIF but for what TIFF needs itself."""
    with Image.open(path) as image:
        if isinstance(image, PngImagePlugin.PngImageFile):
            image.load()
            text = image.text.get("Description", "")
            assert set(image.text) == ({"Description", "Software"} if text else set())
        exif = image.getexif()
        told = dict(exif) | exif.get_ifd(0x8769)
        assert not exif.get_ifd(0x8825)
    if path.suffix != ".png":
        text = told.pop(0x010E, "")
        assert bool(text) == (told.pop(0x0131, "") == "nst_jax")
    structure = {*range(254, 264), 273, 277, 278, 279, 282, 283, 284, 296, 317, 338, 34675, 0x8769}
    return text, {tag: value for tag, value in told.items() if tag not in structure}


@pytest.mark.parametrize(("suffix", "bit_depth"), ALL_ENCODINGS)
def test_a_file_says_what_was_asked_for_and_nothing_of_this_machine(tmp_path, suffix, bit_depth):
    """Names of folders, orientation, position and serial numbers never get into it."""
    taken = read_exif_to_keep(photograph(tmp_path / "a.jpg"))
    assert taken == KEPT
    made = Result(0, Job("a.jpg", "b.jpg"), noise(20, 30, 3), exif=taken)
    seen = []
    for metadata in ("none", "options", "options-and-exif"):
        options = Options(weights=r"x\secret/net.h5", bit_depth=bit_depth, metadata=metadata)
        exif = taken if metadata == "options-and-exif" else {}
        one = dataclasses.replace(made, exif=exif)
        write_result(one, LocalFolder(tmp_path), metadata + suffix, options)
        path = tmp_path / (metadata + suffix)
        text, told = told_of(path)
        assert b"secret" not in path.read_bytes()
        assert told == exif
        assert (json.loads(text)["weights"] if text else "none") == (
            "none" if metadata == "none" else "net.h5"
        )
        seen.append(load_picture(path).pixels)
    assert (seen[0] == seen[1]).all()
    assert (seen[1] == seen[2]).all()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_what_is_taken_over_of_exif_is_found_in_other_formats_too(tmp_path, suffix):
    with Image.open(photograph(tmp_path / "a.jpg")) as image:
        path = save_image(tmp_path / f"b{suffix}", image, exif=image.getexif())
    in_ascii = {tag: text.replace("\xfc", "?") for tag, text in KEPT.items()}  # by Pillow
    assert read_exif_to_keep(path) == in_ascii
    with Image.open(path) as image:
        assert read_memory_exif(image) == in_ascii
    assert read_memory_exif(noise(4, 4, 3)) == {}
    cut = tmp_path / "cut.jpg"
    cut.write_bytes((tmp_path / "a.jpg").read_bytes()[:90])
    assert read_exif_to_keep(cut) == {}


def test_a_rendering_takes_over_the_contents_exif_if_it_is_asked_to(tmp_path, narrow_file):
    content, out = photograph(tmp_path / "a.jpg"), tmp_path / "out.png"
    style = save_image(tmp_path / "b.png", Image.fromarray(noise8(40, 48, 3)))
    options = tiny_options(narrow_file, metadata="options-and-exif", levels=1, preview_every=2)
    render(Job(content, style), out, options, devices=one_device())
    assert told_of(out)[1] == KEPT
    none = dataclasses.replace(options, metadata="none")
    save_preview(LocalFolder(tmp_path), Preview(0, "x", 2, noise(4, 4, 3)), none, NullProgress())
    for preview in (tmp_path / "previews").iterdir():
        said = b"nst_jax" in preview.read_bytes()
        assert said == preview.name.startswith("out")


def test_the_profile_does_not_hold_the_moment_of_its_making():
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ours = srgb_profile()
    assert ours[24:36] == struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    assert ours[:24] + ours[36:] == made[:24] + made[36:]


def test_both_png_writers_write_the_same_metadata(tmp_path):
    metadata = []
    for bit_depth in (8, 16):
        path = tmp_path / "a.png"
        save_picture(path, noise(4, 4, 3), bit_depth=bit_depth, description="日本 é")
        chunks = png_chunks(path.read_bytes())
        metadata.append([(name, body) for name, body in chunks if name == b"iTXt"])
        assert {name for name, _ in chunks} == {b"IHDR", b"iCCP", b"iTXt", b"IDAT", b"IEND"}
    assert metadata[0] == metadata[1]


@pytest.mark.parametrize(
    ("pixels", "alpha", "match"),
    [
        (np.full((2, 2, 3), np.nan), None, "finite pixels"),
        (np.full((2, 2, 3), np.inf), None, "finite pixels"),
        (np.zeros((2, 2, 3)), np.full((2, 2), np.nan), "finite alpha"),
        (np.zeros((2, 2, 3)), np.zeros((2, 3)), "alpha of shape"),
        (np.zeros((2, 2, 4)), None, "shape"),
        (np.zeros((2, 2)), None, "shape"),
        (np.zeros((0, 2, 3)), None, "shape"),
        (np.zeros((2, 2, 3), np.uint8), None, "float pixels"),
    ],
)
def test_values_that_make_no_picture_are_not_written(tmp_path, pixels, alpha, match):
    with pytest.raises(WriteError, match=match):
        save_picture(tmp_path / "a.png", pixels, alpha=alpha)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_too_wide_deep_or_long_described_for_its_format_is_refused(tmp_path):
    for suffix in LOSSY:
        with pytest.raises(OutputError, match="16 bits"):
            save_picture(tmp_path / f"a{suffix}", noise(4, 4, 3), bit_depth=16)
    with pytest.raises(WriteError, match="at most 16383 px"):
        save_picture(tmp_path / "a.webp", np.zeros((1, 16384, 3)))
    with pytest.raises(WriteError, match="at most 65500 px"):
        save_picture(tmp_path / "a.jpg", np.zeros((65501, 1, 3)))
    with pytest.raises(WriteError, match="encoded as JPEG"):
        save_picture(tmp_path / "a.jpg", noise(4, 4, 3), description="x" * 70000)
    assert list(tmp_path.iterdir()) == []
    save_picture(tmp_path / "b.webp", np.zeros((1, 16383, 3)))
    save_picture(tmp_path / "b.jpg", np.zeros((65500, 1, 3)))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_mode_of_any_new_one_and_threads_leave_the_umask_alone(
    tmp_path, umask, mode
):
    before = os.umask(umask)
    try:
        with mock.patch.object(os, "umask") as asked, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: write_bytes(tmp_path / name, b"new"), "abcabc"))
        asked.assert_not_called()
    finally:
        assert os.umask(before) == umask
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    path.write_bytes(b"old")

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, call, mock.Mock(side_effect=full))
    with pytest.raises(WriteError, match="No space left on device") as error:
        save_picture(path, noise(4, 4, 3))
    assert repr(str(path)) in error.value.message
    assert isinstance(error.value.__cause__, OSError)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("none/a.png", r"No such file.*Create the folder"),
        ("folder.png", "directory"),
        ("x" * 300 + ".png", "could not be written"),
        ("a\0b.png", "could not be written"),
    ],
)
def test_where_no_file_can_be_is_a_write_error(tmp_path, name, match):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(WriteError, match=match):
        save_picture(tmp_path / name, noise(4, 4, 3))
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.png"]


# ---- The whole


SOUND = re.compile(
    r"(whole|animated|cmyk|16 bits|floats|transparent palette).*\.(png|jpg|tiff?|webp|gif)"
)
FUZZED = [one for one in SPECIMENS if SOUND.fullmatch(one.file_name)]


def mutate_chunk(content: bytes, chance: random.Random) -> bytes:
    """A PNG with damage inside a chunk, which its check sum does not tell."""
    *chunks, end = png_chunks(content)
    damaged = chance.randrange(len(chunks))
    name, body = chunks[damaged]
    chunks[damaged] = name, mutate(body, chance)
    return content[:8] + b"".join(chunk(*one) for one in (*chunks, end))


@pytest.mark.parametrize("one", FUZZED, ids=lambda one: one.file_name)
def test_a_damaged_file_gives_a_picture_or_a_picture_error(tmp_path, one):
    chance, path = random.Random(one.file_name), tmp_path / one.file_name
    one.write(path)
    content = path.read_bytes()
    for index in range(45):
        damage = mutate_chunk if path.suffix == ".png" and index % 2 == 0 else mutate
        path.write_bytes(damage(content, chance))
        try:
            size = read_picture_size(path, max_pixels=1_000_000)  # keeps the test's memory small
            picture = load_picture(path, max_pixels=1_000_000)
        except PictureError as error:
            assert repr(str(path)) in error.message  # noqa: PT017
        else:
            assert_valid(picture.pixels, picture.alpha)
            assert picture.pixels.shape[:2] == size


def test_loading_and_resizing_is_quick(tmp_path):
    save_picture(tmp_path / "a.jpg", smooth(512, 512))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        resize(load_picture(tmp_path / "a.jpg").pixels, (384, 384))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1  # about 0.015 on an idle core
