"""Draws the four style pictures, and holds the drawing tools that every example shares.

The styles are brush strokes along a flow, a mosaic of fans, a linocut and discs of colour.
Run `make_examples.py` to draw and save them.
"""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

SCALE = 2
Point = tuple[float, float]
Array = np.ndarray
Chance = np.random.Generator
Draw = ImageDraw.ImageDraw


def coordinates(width: int, height: int) -> tuple[Array, Array]:
    """Return x and y of every pixel, measured in picture heights."""
    rows, columns = np.mgrid[0 : height * SCALE, 0 : width * SCALE].astype(np.float32)
    return (columns + 0.5) / (height * SCALE), (rows + 0.5) / (height * SCALE)


def paint_code(code: str) -> Array:
    """Return a colour such as "#ff8800" as three numbers from 0 to 1."""
    return np.array(ImageColor.getrgb(code)[:3], np.float32) / 255


def gradient(value: Array, stops: dict[float, str]) -> Array:
    """Return the colour of every value, blended between the colours at the stops."""
    codes = np.array([paint_code(code) for code in stops.values()])
    channels = [np.interp(value, list(stops), codes[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def smooth(low: float, high: float, value: Array) -> Array:
    """Return a soft step from 0 at `low` to 1 at `high`."""
    part = np.clip((value - low) / (high - low), 0, 1)
    return part * part * (3 - 2 * part)


def cover(picture: Array, colour: Array, mask: Array) -> Array:
    """Return the picture with a colour, or a second picture, laid over it where the mask is 1."""
    return picture + (colour - picture) * mask[..., None]


def value_noise(x: Array, y: Array, seed: int) -> Array:
    """Return smooth random values from 0 to 1 that change once per unit."""
    table = np.random.default_rng(seed).random((256, 256), dtype=np.float32)
    column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    across, down = smooth(0, 1, x - column), smooth(0, 1, y - row)
    left, right, top, bottom = column & 255, (column + 1) & 255, row & 255, (row + 1) & 255
    upper = table[top, left] * (1 - across) + table[top, right] * across
    lower = table[bottom, left] * (1 - across) + table[bottom, right] * across
    return upper * (1 - down) + lower * down


def fractal_noise(x: Array, y: Array, octaves: int, seed: int) -> Array:
    """Return noise from 0 to 1 with finer and fainter detail in every octave."""
    total = np.zeros(np.broadcast(x, y).shape, np.float32)
    for octave in range(octaves):
        total += 0.5**octave * value_noise(x, y, seed + octave)
        x, y = 1.6 * x - 1.2 * y + 7.3, 1.2 * x + 1.6 * y + 3.1
    return total / (2 - 0.5 ** (octaves - 1))


def relief(height: Array, strength: float) -> Array:
    """Return how brightly a light from the upper left meets a bumpy surface, around 0."""
    down, across = np.gradient(height)
    return np.clip(-strength * (down + across), -1, 1)


def shaken(code: Array, chance: Chance) -> tuple[int, int, int]:
    """Return a colour for drawing, a little brighter or darker than the given one by chance."""
    shade = code * chance.uniform(0.78, 1.18) + chance.normal(0, 0.022, 3)
    red, green, blue = (np.clip(shade, 0, 1) * 255).astype(int).tolist()
    return red, green, blue


def canvas(width: int, height: int, code: str) -> Image.Image:
    """Return an enlarged picture of one colour to draw on."""
    return Image.new("RGB", (width * SCALE, height * SCALE), code)


def to_array(image: Image.Image) -> Array:
    """Return the picture's pixels as numbers from 0 to 1."""
    return np.asarray(image, np.float32) / 255


def to_image(picture: Array) -> Image.Image:
    """Return pixels from 0 to 1 as a picture of the same size."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


def finish(picture: Array) -> Image.Image:
    """Return the enlarged drawing at its final size, with smooth edges."""
    image = to_image(picture)
    return image.resize((image.width // SCALE, image.height // SCALE), Image.Resampling.LANCZOS)


# Every whirl: its centre across and down, its size, and which way it turns.
WHIRLS = (
    (0.34, 0.36, 0.26, 1.0),
    (0.93, 0.62, 0.3, -1.0),
    (0.3, 0.85, 0.16, -0.8),
    (0.9, 0.15, 0.14, 0.9),
)
BAND_PAINTS = "#102a54 #1d4f8c #2a8c98 #e9c46a #f4a63a #d9572f #7b2d5b #2b2350"


def flow_direction(x: Array, y: Array) -> Array:
    """Return the angle in which the paint flows at each place, around four whirls."""
    bend = 0.5 * (fractal_noise(x * 3, y * 3, 2, 401) - 0.5)
    across, down = 0.35 + bend, 0.12 * np.sin(5 * x) + bend
    for left, top, size, turn in WHIRLS:
        away_x, away_y = x - left, y - top
        pull = turn * np.exp(-(away_x**2 + away_y**2) / (2 * size**2)) / size * 1.6
        across, down = across - away_y * pull, down + away_x * pull
    return np.arctan2(down, across)


def flow_tone(x: Array, y: Array) -> Array:
    """Return which paint belongs at each place: rings around the nearest whirl."""
    nearest = np.full_like(x, 9)
    for left, top, size, _ in WHIRLS:
        nearest = np.minimum(nearest, np.hypot(x - left, y - top) / size**0.7 / 0.38)
    return 3 + 2.3 * nearest + 1.6 * (fractal_noise(x * 3, y * 3, 3, 403) - 0.5)


def stroke_paths(chance: Chance, count: int, length: int) -> Array:
    """Return the points of many strokes that follow the flow, as stroke, point and axis."""
    place = chance.uniform(-0.05, [[1.22], [1.05]], (2, count)).astype(np.float32)
    points = [place]
    for _ in range(length):
        angle = flow_direction(*points[-1])
        step = 0.008 * np.stack([np.cos(angle), np.sin(angle)])
        points.append(points[-1] + step.astype(np.float32))
    return np.stack(points).transpose(2, 0, 1)


def bristles(path: Array, width: float, count: int) -> list[Array]:
    """Return the lines that the brush's hairs leave side by side along a path."""
    ahead = np.gradient(path, axis=0)
    sideways = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    sideways /= np.linalg.norm(sideways, axis=1, keepdims=True) + 1e-9
    swell = np.sqrt(np.sin(np.linspace(0.25, np.pi - 0.15, len(path))))[:, None]
    return [path + sideways * swell * offset for offset in np.linspace(-width, width, count)]


def brush(
    layers: tuple[Draw, Draw], path: Array, width: float, code: Array, chance: Chance
) -> None:
    """Draw one stroke of many hairs, in colour and as thickness of the paint."""
    colour, thickness = layers
    for number, line in enumerate(bristles(path, width, 7)):
        points = [tuple(point) for point in line.tolist()]
        height = 90 + 110 * (number % 2) + int(chance.integers(50))
        pen = max(2, round(width * 0.42))
        colour.line(points, shaken(code, chance), pen)
        thickness.line(points, height, pen)


def flow() -> Image.Image:
    """Draw thick brush strokes that swirl around four whirls."""
    colour = canvas(448, 384, "#1b2a52")
    thickness = Image.new("L", colour.size, 60)
    layers = ImageDraw.Draw(colour), ImageDraw.Draw(thickness)
    chance, paints = np.random.default_rng(411), BAND_PAINTS.split()
    for count, length, width in ((900, 14, 9.0), (1600, 12, 6.5), (1300, 9, 4.5)):
        paths = stroke_paths(chance, count, length)
        tones = flow_tone(*paths[:, length // 2].T) + chance.normal(0, 0.35, count)
        for path, tone in zip(paths, tones, strict=True):
            code = paint_code(paints[int(tone) % len(paints)])
            brush(layers, path * colour.height, width, code, chance)
    bumps = to_array(thickness.filter(ImageFilter.GaussianBlur(0.9)))
    return finish(to_array(colour) * (1 + 0.9 * relief(bumps, 1.2))[..., None])


MOSAIC_SIZE, GROUT = 420, "#3b342f"
# Every fan: its centre across and down, and its radius.
FANS = (
    (0.02, 0.3, 0.5),
    (1.05, 0.12, 0.55),
    (0.55, 0.42, 0.42),
    (0.02, 0.95, 0.46),
    (1.1, 0.72, 0.48),
    (0.5, 1.05, 0.44),
)
TILE_PAINTS = (
    ("#f2e8cf", "#e3a72f", "#c8553d", "#8c2f39", "#2a6f6f", "#123c4a"),
    ("#e3a72f", "#f2e8cf", "#3a8f9c", "#1f5f8b", "#1b3358", "#d9c9a0"),
    ("#c8553d", "#f0c987", "#f2e8cf", "#5fa8a0", "#2a6f6f", "#8c2f39"),
)


def tile(
    draw: Draw, centre: Point, ring: Point, angles: Point, code: Array, chance: Chance
) -> None:
    """Draw one uneven stone between two rings and two angles."""
    corners = []
    for radius, angle in ((0, 0), (0, 1), (1, 1), (1, 0)):
        length = ring[radius] + chance.normal(0, 0.0016)
        turn = angles[angle] + chance.normal(0, 0.0016) / max(ring[1], 0.01)
        corners.append((centre[0] + length * np.cos(turn), centre[1] + length * np.sin(turn)))
    size = MOSAIC_SIZE * SCALE
    draw.polygon([(x * size, y * size) for x, y in corners], shaken(code, chance))


def fan(
    draw: Draw, place: tuple[float, float, float], paints: tuple[str, ...], chance: Chance
) -> None:
    """Draw rings of stones around a centre, over whatever lay there."""
    x, y, radius = place
    size, step, gap = MOSAIC_SIZE * SCALE, 0.031, 0.0042
    draw.circle((x * size, y * size), radius * size, GROUT)
    draw.circle((x * size, y * size), step * size, paints[0])
    for number in range(1, int(radius / step)):
        inner, outer = number * step + gap / 2, (number + 1) * step - gap / 2
        count = round(2 * np.pi * (number + 0.5) * step / 0.036)
        cuts = (np.arange(count + 1) + chance.uniform(0, 1)) * 2 * np.pi / count
        spare = gap / (outer + inner)
        for start, end in pairwise(cuts):
            stray = int(chance.random() < 0.12)
            code = paint_code(paints[(number // 2 + stray) % len(paints)])
            tile(draw, (x, y), (inner, outer), (start + spare, end - spare), code, chance)


def mosaic() -> Image.Image:
    """Draw a mosaic of overlapping fans of little stones with dark joints."""
    image = canvas(MOSAIC_SIZE, MOSAIC_SIZE, GROUT)
    chance = np.random.default_rng(421)
    for number, place in enumerate(FANS):
        fan(ImageDraw.Draw(image), place, TILE_PAINTS[number % 3], chance)
    picture = to_array(image)
    x, y = coordinates(MOSAIC_SIZE, MOSAIC_SIZE)
    stone = 0.9 + 0.2 * fractal_noise(x * 70, y * 70, 3, 423)
    raised = (picture.max(axis=-1) > 0.24).astype(np.float32)
    bumps = to_array(to_image(raised).filter(ImageFilter.GaussianBlur(1.6)))
    return finish(picture * stone[..., None] * (1 + 0.55 * relief(bumps, 2.5))[..., None])


# Every hill: how far down it lies, how far it swings, and whether it is printed in red.
HILLS = ((0.5, 0.1, 0), (0.62, 0.12, 1), (0.78, 0.085, 0))


def carve(phase: Array, tone: Array, wobble: Array) -> Array:
    """Return 1 where ink stays between carved lines: the darker the tone, the wider."""
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (phase + wobble))
    return smooth(-0.12, 0.12, tone * 1.2 - 0.1 - wave)


def woodcut_sky(x: Array, y: Array, wobble: Array) -> tuple[Array, Array]:
    """Return the black and the red ink of a sun with rays and of curling sky lines."""
    distance, angle = np.hypot(x - 0.74, y - 0.34), np.arctan2(y - 0.34, x - 0.74)
    rays = carve(angle / (2 * np.pi) * 54, 0.25 + 0.5 * smooth(0.2, 0.75, distance), 0.6 * wobble)
    rings = carve(distance * 30, 0.3 + 0.6 * smooth(0.3, 0.9, distance), wobble)
    near = smooth(0.4, 0.403, distance + 0.04 * np.sin(9 * angle))
    black = (rays * (1 - near) + rings * near) * smooth(0.19, 0.2, distance)
    return black, smooth(0.155, 0.15, distance)


def woodcut_hill(x: Array, below: Array, slant: float, wobble: Array) -> Array:
    """Return a hill's black ink: slanting cuts that close with depth, under a dark outline."""
    cuts = (x + slant * below) * 26 + 6 * below
    lines = carve(cuts, np.minimum(0.2 + 3.2 * below, 0.88), wobble)
    return np.maximum(lines, smooth(0.012, 0.009, np.abs(below)))


def woodcut() -> Image.Image:
    """Draw a woodcut in two inks: a sun over rolling hills, cut in parallel lines."""
    x, y = coordinates(448, 384)
    wobble = 0.7 * (fractal_noise(x * 7, y * 7, 3, 431) - 0.5)
    black, red = woodcut_sky(x, y, wobble)
    for number, (base, rise, is_red) in enumerate(HILLS):
        below = y - base - rise * np.sin(3.1 * x + 2.1 * number + 0.4)
        inside = smooth(0, 0.003, below)
        black += (woodcut_hill(x, below, 0.8 - 0.6 * number, wobble) - black) * inside
        red += (is_red - red) * inside
    worn = smooth(0.2, 0.3, fractal_noise(x * 90, y * 90, 3, 433))
    paper = np.ones((*x.shape, 3), np.float32) * paint_code("#f1e4c8")
    picture = cover(paper, paint_code("#d8472b"), red * (0.75 + 0.25 * worn))
    return finish(cover(picture, paint_code("#1c1a1f"), black * (0.8 + 0.2 * worn)))


# Every disc: its centre across and down, and its radius.
DISCS = (
    (0.33, 0.36, 0.36),
    (0.82, 0.27, 0.27),
    (0.72, 0.72, 0.33),
    (0.2, 0.86, 0.26),
    (1.0, 0.55, 0.17),
    (0.5, 0.58, 0.17),
)
_WASHES = "#e4572e #f3a712 #f7d774 #2e86ab #1b4965 #76b041 #d7498a #6a4c93 #2ec4b6 #f28f79"
WASHES = np.array([paint_code(code) for code in _WASHES.split()])


def disc(picture: Array, x: Array, y: Array, number: int) -> Array:
    """Return the picture with one more translucent disc of coloured ring pieces."""
    left, top, size = DISCS[number]
    chance = np.random.default_rng(441 + number)
    sway = 0.012 * (fractal_noise(x * 9, y * 9, 3, 443 + number) - 0.5)
    distance = np.hypot(x - left, y - top) + sway
    angle = (np.arctan2(y - top, x - left) / (2 * np.pi) + chance.uniform(0, 1) + sway) % 1
    ring, sector = (distance / size * 5).astype(int).clip(0, 5), (angle * 4).astype(int) % 4
    chart = chance.permuted(np.tile(np.arange(len(WASHES)), (6, 1)), axis=1)[:, :4]
    from_edge = 0.5 - np.abs((distance / size * 5) % 1 - 0.5)
    pool = 1 - 0.32 * smooth(0.13, 0.0, from_edge)
    pigment = 0.82 + 0.42 * fractal_noise(x * 12, y * 12, 5, 447 + number)
    wash = WASHES[chart[ring, sector]] * (pool * pigment)[..., None]
    wash += (1 - wash) * (0.33 * ((angle * 4) % 1) ** 1.5)[..., None]
    inside = smooth(size, size - 0.003, distance)
    return cover(picture, 0.75 * wash + 0.25 * wash * picture, 0.86 * inside)


def circles() -> Image.Image:
    """Draw overlapping translucent discs cut into rings and quarters of bright colour."""
    x, y = coordinates(448, 400)
    slanting_fields = (x * 3.1 + y * 1.7).astype(int) + 3 * (y * 2.6 - x * 1.1 + 2).astype(int)
    picture = WASHES[slanting_fields % len(WASHES)] * 0.5 + 0.5 * paint_code("#fff8e6")
    for number in range(len(DISCS)):
        picture = disc(picture, x, y, number)
    grain = 0.97 + 0.1 * fractal_noise(x * 110, y * 110, 3, 449)
    return finish(picture * grain[..., None])
