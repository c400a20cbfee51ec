"""Pictures that a batch may meet and nobody wants: one table, each made by a few lines.

`SPECIMENS` says of each what becomes of it: a picture of a known size, or a refusal that says
a certain thing. What is damaged at random may become either.
"""

import functools
import io
import itertools
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from nst_jax.files.open_picture import can_decode_heic

HEIGHT, WIDTH = 20, 32


class Specimen(NamedTuple):
    """A hostile file.

    Attributes:
        name: Of the file; bytes where no text can be.
        content: Its bytes, or what writes it.
        size: (height, width) of what it decodes to; None: it is refused, or may be.
        said: Part of the refusal; empty where it may decode as well.
        animated: Whether it holds further frames.
    """

    name: str | bytes
    content: bytes | Callable[[Path], object]
    size: tuple[int, int] | None = (HEIGHT, WIDTH)
    said: str = ""
    animated: bool = False

    @property
    def file_name(self) -> str:
        return os.fsdecode(self.name)

    def write(self, path: Path) -> None:
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)


def noise(height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(values[..., 0] if channels == 1 else values)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    check_sum = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check_sum


def png(
    width: int, height: int, *extra: bytes, pixels: bytes = b"", depth: int = 8, kind: int = 2
) -> bytes:
    """A PNG of any colour type, RGB if none is given; it may promise more than `pixels` hold."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    parts = (header, *extra, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


ROWS = (b"\0" + bytes(range(96))) * HEIGHT
"""Pixels of an RGB PNG of the usual size."""

KINDS = {
    "png": encode(noise(), "PNG"),
    "jpg": encode(noise(), "JPEG"),
    "webp": encode(noise(), "WEBP"),
    "tif": encode(noise(), "TIFF", compression="tiff_lzw"),
    "gif": encode(noise().quantize(64), "GIF"),
    "avif": encode(noise(), "AVIF"),
    "jp2": encode(noise(), "JPEG2000"),
    "bmp": encode(noise(), "BMP"),
    "ppm": encode(noise(), "PPM"),
    "tga": encode(noise(), "TGA", compression="tga_rle"),
    "pcx": encode(noise(), "PCX"),
    "sgi": encode(noise(), "SGI"),
    "qoi": encode(noise(), "QOI"),
}
"""A sound file of each format that is decoded and that Pillow can write, by its suffix."""

if can_decode_heic():
    KINDS["heic"] = encode(noise(), "HEIF")


def made_by(make: Callable[[], bytes]) -> Callable[[Path], object]:
    """Of what takes time to make: only where it is asked for."""
    return lambda path: path.write_bytes(make())


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Some bytes exchanged, mostly in the header; at times a part taken out or doubled."""
    result = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        reach = 120 if chance.random() < 0.6 else len(result)
        place = chance.randrange(min(reach, len(result)))
        result[place] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
    first, last = sorted(chance.randrange(len(result)) for _ in range(2))
    if chance.random() < 0.1:
        del result[first:last]
    elif chance.random() < 0.1:
        result[first:first] = result[first:last]
    return bytes(result)


def animation(kind: str) -> bytes:
    first, second = noise(), noise().transpose(Image.Transpose.ROTATE_180)
    if kind == "GIF":
        first, second = first.quantize(32), second.quantize(32)
    return encode(first, kind, save_all=True, append_images=[second], lossless=True)


def tiff(values: np.ndarray, **options: object) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, values, **options)


def plain_tiff(width: int, height: int, pixels: bytes, mark: bytes = b"", **tags: int) -> bytes:
    """A little-endian TIFF of one strip; tags are named by a letter and their number."""
    start = 8 + len(mark)
    known = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: start, 279: len(pixels)}
    known |= {int(name[1:]): value for name, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, known[tag]) for tag in sorted(known))
    head = struct.pack("<2sHI", b"II", 42, start + len(pixels)) + mark + pixels
    return head + struct.pack("<H", len(known)) + entries + bytes(4)


def pages(path: Path, *kinds: int, sub_images: int = 0, **options: object) -> None:
    """A TIFF of a small page of each kind but the last, which is of the usual size."""
    values = np.asarray(noise())
    with tifffile.TiffWriter(path) as file:
        for kind in kinds[:-1]:
            small = values[::2, ::2]
            file.write(small, photometric="rgb", subfiletype=kind, subifds=sub_images, **options)
        file.write(values, photometric="rgb", subfiletype=kinds[-1])


def layers_alone() -> bytes:
    """A Photoshop file that says of its merged picture that there is none."""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, HEIGHT, WIDTH, 8, 3) + bytes(4)
    resource = b"8BIM" + struct.pack(">HHI", 1057, 0, 6) + struct.pack(">IBx", 1, 0)
    resources = struct.pack(">I", len(resource)) + resource
    return head + resources + bytes(4) + bytes(2) + bytes(3 * HEIGHT * WIDTH)


@functools.cache
def compressed_zeros() -> bytes:
    """80 MB of them, in 80 KB."""
    return zlib.compress(bytes(80_000_000), 9)


def zeros_in(name: bytes) -> bytes:
    """A PNG that has them in a chunk of its metadata."""
    return png(32, 20, chunk(name, b"k\0\0" + compressed_zeros()), pixels=ROWS)


def more_rows_than_said() -> bytes:
    empty, rows = (chunk(b"IDAT", one) for one in (zlib.compress(b""), compressed_zeros()))
    return png(32, 20).replace(empty, rows)


@functools.cache
def icon_bomb() -> bytes:
    """An icon of 16 pixels, as its header says, that holds a picture of 64 million."""
    picture = png(8000, 8000, pixels=b"\0" * 24001 * 8000)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + picture


def fits_bomb() -> bytes:
    cards = ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 16", "NAXIS2  = 16", "END")
    return "".join(f"{card:<80}" for card in cards).encode().ljust(2880) + bytes(2880)


def icc_profile(kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version-2 ICC profile; `kind` is its class, its colour space and its connection space."""
    places, start = b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        places += name + struct.pack(">2I", start, len(content))
        start += len(content)
    header = bytearray(128)
    struct.pack_into(">I", header, 0, start)
    header[8:12], header[12:24], header[36:40] = b"\x02\x10\0\0", kind, b"acsp"
    struct.pack_into(">3i", header, 68, 63190, 65536, 54061)
    return bytes(header) + struct.pack(">I", len(tags)) + places + b"".join(tags.values())


def green_cyan_profile() -> bytes:
    """A minimal printer profile of two steps an ink, whose cyan ink prints as green."""
    paper, green, black = (255, 128, 128), (128, 78, 178), (0, 128, 128)  # as 8-bit Lab
    inks = np.ndindex(2, 2, 2, 2)
    grid = [
        paper if ink == (0, 0, 0, 0) else green if ink == (1, 0, 0, 0) else black for ink in inks
    ]
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *np.eye(3, dtype=int).flatten() * 65536)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix
    table += identity * 4 + np.array(grid, np.uint8).tobytes() + identity * 3
    return icc_profile(b"prtrCMYKLab ", {b"A2B0": table})


def _whole_and_damaged() -> Iterator[Specimen]:
    for suffix, content in KINDS.items():
        yield Specimen(f"whole.{suffix}", content)
        for share in (10, 60):
            cut = content[: len(content) * share // 100]
            yield Specimen(f"cut at {share} %.{suffix}", cut, None, "picture")
        for seed in range(2):
            damaged = mutate(content, random.Random(seed))
            yield Specimen(f"damaged {seed}.{suffix}", damaged, None)


def _bombs() -> Iterator[Specimen]:
    many, other = "must have at most 89478485 pixels", "not decoded here"
    yield Specimen("bomb.png", png(60000, 60000, pixels=bytes(1000)), None, many)
    yield Specimen("bomb.ppm", b"P6 60000 60000 255\n" + bytes(99), None, many)
    heads = (("gif", b"GIF8", 6, "<HH"), ("bmp", b"BM", 18, "<ii"), ("jpg", b"\xff\xc0", 5, ">HH"))
    for suffix, mark, offset, sides in heads:
        content = bytearray(KINDS[suffix])
        struct.pack_into(sides, content, content.index(mark) + offset, 60000, 60000)
        said = "must have at most" if suffix == "jpg" else many  # of an eighth, in so few bytes
        yield Specimen(f"bomb.{suffix}", bytes(content), None, said)
    yield Specimen("bomb.ico", made_by(icon_bomb), None, other)
    yield Specimen("bomb.fits", fits_bomb(), None, other)
    yield Specimen("text bomb.png", made_by(lambda: zeros_in(b"zTXt")), None, "damaged")
    yield Specimen("profile bomb.png", made_by(lambda: zeros_in(b"iCCP")), None, "damaged")
    yield Specimen("more rows than said.png", made_by(more_rows_than_said))


def _previews() -> Iterator[Specimen]:
    """Files whose first image is a small copy of another one."""
    raw, grey = "seems to be a raw photograph", bytes(range(256)) * 2
    yield Specimen("preview first.tif", lambda path: pages(path, 1, 0))
    yield Specimen("previews alone.tif", lambda path: pages(path, 1, 1, 1), None, raw)
    nef = {"sub_images": 1}
    yield Specimen("raw.nef", lambda path: pages(path, 1, 0, **nef), None, raw)
    yield Specimen("raw without a mark.nef", lambda path: pages(path, 0, 0, **nef), None, raw)
    dng = {"extratags": [(50706, 1, 4, bytes([1, 4, 0, 0]), True)]}
    yield Specimen("raw.dng", lambda path: pages(path, 0, 1, **dng), None, raw)
    yield Specimen("raw.cr2", plain_tiff(32, 16, grey, b"CR\x02\0"), None, raw)
    yield Specimen("old preview.tif", plain_tiff(32, 16, grey, t255=2), None, raw)
    yield Specimen("mask alone.tif", plain_tiff(32, 16, grey, t254=4), None, raw)
    yield Specimen("layers.psd", layers_alone(), None, "got layers alone")


def _shapes() -> Iterator[Specimen]:
    for height, width in ((1, 1), (1, 40), (40, 1), (20, 30000), (30000, 20)):
        for kind in ("PNG", "JPEG"):
            name = f"{height} by {width}.{kind.lower()}"
            yield Specimen(name, encode(noise(height, width), kind), (height, width))
    for orientation in range(1, 9):
        size = (WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH)
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield Specimen(f"turned {orientation}.jpg", encode(noise(), "JPEG", exif=exif), size)
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        yield Specimen(f"animated.{kind.lower()}", animation(kind), animated=True)


def _colours() -> Iterator[Specimen]:
    cmyk, values = noise().convert("CMYK"), np.asarray(noise())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profiles = {"no": None, "a": green_cyan_profile(), "half a": srgb[:200], "a wrong": srgb}
    for name, profile in profiles.items():
        content = encode(cmyk, "JPEG", icc_profile=profile)
        yield Specimen(f"cmyk with {name} profile.jpg", content)
    for name, profile in (("junk", b"no profile" * 9), ("no tags", srgb.replace(b"XYZ", b"???"))):
        yield Specimen(f"profile of {name}.png", encode(noise(), "PNG", icc_profile=profile))
    palette = encode(noise().quantize(9), "PNG", transparency=bytes(range(9)))
    yield Specimen("transparent palette.png", palette)
    yield Specimen("16 bits.tif", tiff(values.astype(np.uint16) * 257, photometric="rgb"))
    yield Specimen("16 bits of grey.tif", tiff(values[..., 0].astype(np.uint16) * 257))
    grey, other = values[..., 0].astype(np.float32) / 255, "not decoded here"
    yield Specimen("floats.tif", tiff(grey))
    yield Specimen("not a number.tif", tiff(np.where(grey > 0.5, np.nan, grey)), None, "finite")
    yield Specimen("infinite.tif", tiff(np.where(grey > 0.5, np.inf, grey)), None, "finite")
    colours = tiff(np.stack([grey] * 3, -1), photometric="rgb")
    yield Specimen("float colours.tif", colours, None, other)
    yield Specimen("doubles.tif", tiff(grey.astype(np.float64)), None, other)
    comment = encode(noise(), "JPEG", comment=b"x" * 60_000)
    segments = comment[:2] + comment[2:].split(b"\xff\xdb", 1)[0] * 100 + comment[2:]
    yield Specimen("6 MB of comments.jpg", segments)
    texts = PngImagePlugin.PngInfo()
    for number in range(50):
        texts.add_text(f"key {number}", "x" * 100_000)
    yield Specimen("5 MB of text.png", encode(noise(), "PNG", pnginfo=texts))
    exif = chunk(b"eXIf", b"MM\0*" + b"\xff" * 200_000)
    yield Specimen("long broken exif.png", png(32, 20, exif, pixels=ROWS))
    blocks = (b"\0", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1", b"x" * 50)
    for kind, (number, block) in itertools.product(("PNG", "JPEG"), enumerate(blocks)):
        name = f"broken exif {number}.{kind.lower()}"
        yield Specimen(name, encode(noise(), kind, exif=block))


def _no_pictures() -> Iterator[Specimen]:
    yield Specimen("zero bytes.png", b"", None, "empty")
    yield Specimen("text.png", b"no picture", None, "no picture")
    yield Specimen("page.jpg", b"<html><img src=x></html>", None, "no picture")
    yield Specimen("script.svg", b"<svg><script/></svg>", None, "no picture")
    yield Specimen("vector.eps", encode(noise(), "EPS"), None, "PostScript")
    yield Specimen("in truth a jpeg.png", KINDS["jpg"])
    yield Specimen("in truth a png.jpg", KINDS["png"])
    yield Specimen("no suffix", KINDS["webp"])
    yield Specimen("pipe.png", os.mkfifo, None, "named pipe")
    yield Specimen("device.png", lambda path: path.symlink_to("/dev/zero"), None, "device")
    yield Specimen("loop.png", lambda path: path.symlink_to(path.name), None, "symbolic links")
    yield Specimen("to nowhere.png", lambda path: path.symlink_to("no"), None, "does not exist")
    yield Specimen("missing.png", lambda path: None, None, "does not exist")


NAMES: tuple[str | bytes, ...] = (
    *("two words.png", "two\nlines.png", "🎨 猫.png", b"caf\xe9.png", "\x1b[31mred.png"),
    *("=1+1.png", "@sum.png", "-dash.png", '"quoted".png', "a;b.png", "<b>bold.png", "%2e%2e.png"),
)

SPECIMENS: tuple[Specimen, ...] = (
    *_whole_and_damaged(),
    *_bombs(),
    *_previews(),
    *_shapes(),
    *_colours(),
    *_no_pictures(),
    *(Specimen(name, KINDS["png"]) for name in NAMES),
)
