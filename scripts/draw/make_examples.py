"""Draws the example pictures: four contents and four styles, the same on every run.

The still life is drawn here by following rays of light through a small modelled scene, and the
river town from many little shapes; the landscapes and the styles have modules of their own. The
pictures come from this code alone. To draw them into `examples/` or another folder:

    python scripts/draw/make_examples.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
from examples_contents import lake, lighthouse, mirrored
from examples_styles import (
    Array,
    Point,
    circles,
    coordinates,
    cover,
    finish,
    flow,
    fractal_noise,
    gradient,
    mosaic,
    paint_code,
    smooth,
    to_array,
    to_image,
    woodcut,
)
from PIL import Image, ImageDraw, ImageFilter

# Every apple: its middle, its size, and the seed of its streaks.
APPLES = (
    ((0.64, 0.29, -0.2), 0.4, 21),
    ((0.12, 0.26, -0.8), 0.36, 22),
    ((-1.02, 0.28, -0.35), 0.38, 23),
)
TWIGS = ((-0.85, 1.95, 0.05), (-0.45, 2.2, 0.3), (0.05, 2.12, 0.1), (0.36, 1.84, 0.3))
MOUTH = np.array([-0.28, 1.3, 0.15], np.float32)
LEMON = np.array([0.93, 0.23, -0.85], np.float32)
LAMP = np.array([-0.76, 0.5, -0.41], np.float32)
TABLE, WALL, VASE, APPLE, FRUIT, TWIG, BERRY = 0, 1, 2, 3, 6, 7, 8


def vase_distance(point: Array) -> Array:
    """Return about how far each point is from the hollow vase."""
    x, y, z = point
    belly = 0.17 + 0.4 * np.exp(-(((y - 0.72) / 0.42) ** 2)) + 0.12 * smooth(1.3, 1.62, y)
    wall = np.abs(np.hypot(x + 0.28, z - 0.15) - belly + 0.02) - 0.02
    return 0.75 * np.maximum(np.maximum(wall, y - 1.6), -y)


def apple_distance(point: Array, centre: tuple[float, ...], size: float) -> Array:
    """Return about how far each point is from an apple with its stem."""
    x, y, z = (point[axis] - centre[axis] for axis in range(3))
    ring = 0.26 * size + 0.14 * y
    flesh = np.hypot(np.hypot(x, z) - ring, 0.98 * y) - 0.72 * size
    bent = np.hypot(x - 0.35 * (y - 0.4 * size), z) - 0.022
    stem = np.maximum(bent, np.abs(y - 0.75 * size) - 0.3 * size)
    return 0.85 * np.minimum(flesh, stem)


def lemon_distance(point: Array) -> Array:
    """Return about how far each point is from the lemon."""
    x, y, z = (point[axis] - LEMON[axis] for axis in range(3))
    along, aside = 0.9 * x + 0.44 * z, 0.9 * z - 0.44 * x
    tip = 0.06 * np.exp(-(y**2 + aside**2) / 0.006) * smooth(0.1, 0.3, np.abs(along))
    return 0.75 * (np.sqrt((0.74 * along) ** 2 + y**2 + aside**2) - 0.23 - tip)


def twig_distances(point: Array) -> Array:
    """Return how far each point is from the nearest twig, and from the nearest berry."""
    nearest = np.full((2, point.shape[1]), 9, np.float32)
    for number, end in enumerate(TWIGS):
        line = np.array(end, np.float32) - MOUTH
        away = point - MOUTH[:, None]
        along = np.clip(line @ away / (line @ line), 0, 1)
        twig = np.linalg.norm(away - line[:, None] * along, axis=0) - 0.013
        nearest[0] = np.minimum(nearest[0], twig)
        for part in (0.6, 0.73, 0.86, 1.0):
            side = 0.1 * np.cos(11 * part + number) * (1.15 - part)
            berry = away - (line * part + np.array([side, 0.02, -abs(side)], np.float32))[:, None]
            nearest[1] = np.minimum(nearest[1], np.linalg.norm(berry, axis=0) - 0.062)
    return nearest


def bouquet_distances(point: Array) -> Array:
    """Return the twigs' and berries' distances, or the way to the ball that holds them all."""
    ball = np.linalg.norm(point - np.array([[-0.25], [1.75], [0.2]]), axis=0) - 0.8
    answer = np.stack([ball, ball]).astype(np.float32)
    near = ball < 0.1
    answer[:, near] = twig_distances(point[:, near])
    return answer


def distances(point: Array) -> Array:
    """Return the distance of each point to every thing of the still life."""
    apples = [apple_distance(point, centre, size) for centre, size, _ in APPLES]
    things = [point[1], 2.2 - point[2], vase_distance(point), *apples, lemon_distance(point)]
    return np.stack([*things, *bouquet_distances(point)]).astype(np.float32)


def march(start: Array, direction: Array) -> Array:
    """Return where rays from the start first meet something."""
    travelled = np.full(direction.shape[1], 3.0, np.float32)
    moving = np.arange(direction.shape[1])
    for _ in range(120):
        step = distances(start + direction[:, moving] * travelled[moving]).min(axis=0)
        travelled[moving] += step
        moving = moving[step > 0.0015]
    return start + direction * travelled


def soft_shadow(point: Array, normal: Array) -> Array:
    """Return how much of the lamp each point sees, from 0 to 1."""
    light, travelled = np.ones_like(point[0]), np.full_like(point[0], 0.03)
    direction, start = LAMP[:, None], point + 0.01 * normal
    for _ in range(26):
        nearest = distances(start + direction * travelled)[VASE:].min(axis=0)
        light = np.minimum(light, 0.5 + 0.5 * nearest / (0.09 * travelled))
        travelled += np.clip(nearest, 0.025, 0.25)
    return smooth(0, 1, light)


def surface_normal(point: Array) -> Array:
    """Return the direction in which each surface faces."""
    steps = 0.002 * np.eye(3, dtype=np.float32)[:, :, None]
    ahead = np.stack([distances(point + step).min(axis=0) for step in steps])
    rises = ahead - np.stack([distances(point - step).min(axis=0) for step in steps])
    return rises / (np.linalg.norm(rises, axis=0) + 1e-9)


def wood(point: Array) -> Array:
    """Return the colour of the table's boards."""
    x, _, z = point
    board = np.floor(z / 0.55 + 0.3)
    grain = fractal_noise(x * 2.5 + 9 * board, z * 30, 5, 201)
    rings = 0.5 + 0.5 * np.sin(26 * fractal_noise(x * 0.5 + 5 * board, z * 2.4, 3, 203))
    tone = 0.65 * grain + 0.25 * rings + 0.12 * np.sin(7 * board)
    colour = gradient(tone, {0.1: "#4a2917", 0.5: "#84522f", 0.9: "#b78352"})
    gap = np.abs((z / 0.55 + 0.3) % 1 - 0.5)
    return cover(colour, paint_code("#1c0f0a"), smooth(0.485, 0.497, gap))


def glaze(point: Array) -> Array:
    """Return the colour of the vase: blue glaze with a pale painted band."""
    x, y, z = point
    angle = np.arctan2(z - 0.15, x + 0.28)
    tone = y + 0.15 * fractal_noise(angle * 4, y * 3, 4, 211)
    colour = gradient(tone, {0.1: "#123a5c", 0.8: "#1f6c8c", 1.5: "#3aa09a"})
    petals = np.abs(np.sin(7 * angle)) * 0.17
    flower = smooth(0.02, 0, np.abs(y - 0.74) - petals) * (np.abs(y - 0.74) > 0.02)
    lines = np.minimum(np.abs(y - 0.52), np.abs(y - 0.96))
    colour = cover(colour, paint_code("#f1e6cc"), flower)
    return cover(colour, paint_code("#e9b44c"), smooth(0.024, 0.014, lines))


def apple_skin(point: Array, number: int) -> Array:
    """Return an apple's colour: red streaks over yellow, a green hollow and a brown stem."""
    centre, size, seed = APPLES[number]
    x, y, z = (point[axis] - centre[axis] for axis in range(3))
    angle = np.arctan2(z, x)
    streaks = fractal_noise(angle * 9, y * 2.5, 4, seed)
    blush = streaks + 0.28 * np.sin(angle + 2.2 * number) + 0.12
    skin = gradient(blush, {0.25: "#d8b23c", 0.45: "#d2492c", 0.75: "#a3161f", 1: "#7c0f1d"})
    skin = cover(skin, paint_code("#b9b048"), smooth(0.32, 0.05, np.hypot(x, z) / size) * (y > 0))
    stem = (np.hypot(x, z) < 0.3 * size) & (y > 0.53 * size)
    return cover(skin, paint_code("#4a2f1c"), stem.astype(np.float32))


def surface_colour(point: Array, thing: Array) -> Array:
    """Return the colour of every point's own surface, before light falls on it."""
    plaster = fractal_noise(point[0] * 1.5, point[1] * 1.5, 6, 221)
    colour = gradient(plaster, {0.1: "#71796b", 0.9: "#8f947c"})
    colour *= (1.1 - 0.15 * np.hypot(point[0] + 0.9, point[1] - 1.6))[:, None]
    dots = fractal_noise(point[0] * 45, point[1] * 45 + point[2] * 30, 2, 223)
    colour[thing == FRUIT] = gradient(dots[thing == FRUIT], {0.2: "#d9a514", 0.7: "#f5d033"})
    colour[thing == TABLE] = wood(point[:, thing == TABLE])
    colour[thing == VASE] = glaze(point[:, thing == VASE])
    colour[thing == TWIG] = paint_code("#4f3a25")
    colour[thing == BERRY] = paint_code("#e2622a")
    for number in range(len(APPLES)):
        chosen = thing == APPLE + number
        colour[chosen] = apple_skin(point[:, chosen], number)
    return colour


def light_up(point: Array, direction: Array) -> Array:
    """Return the colour each ray sees: lamp light, shadow, shine and soft light all around."""
    thing, normal = distances(point).argmin(axis=0), surface_normal(point)
    lamp_seen = np.where(thing == WALL, 1, soft_shadow(point, normal))
    facing = np.clip(LAMP @ normal, 0, 1) * lamp_seen
    openness = np.clip(0.25 + distances(point + 0.16 * normal).min(axis=0) / 0.21, 0, 1)
    halfway = LAMP[:, None] - direction
    shine = np.clip((normal * halfway).sum(axis=0) / np.linalg.norm(halfway, axis=0), 0, 1)
    gloss = np.array([0.05, 0, 0.9, 0.35, 0.35, 0.35, 0.2, 0, 0.5], np.float32)[thing]
    shine = (shine**70 + 0.15 * shine**12) * gloss * smooth(0, 0.2, facing)
    warm, cool = np.array([1.35, 1.16, 0.9]), np.array([0.26, 0.29, 0.36])
    light = facing[:, None] * warm + (openness * (0.8 + 0.3 * normal[1]))[:, None] * cool
    colour = surface_colour(point, thing) ** 2.2 * light * 1.45 + shine[:, None]
    return np.clip(colour, 0, 1) ** (1 / 2.2)


def still_life() -> Image.Image:
    """Draw a glazed vase, three apples and a lemon on a table in window light."""
    x, y = coordinates(432, 416)
    across, up = (x - x.mean()).ravel() * 0.94, (0.5 - y).ravel()
    direction = np.stack([across, up * 0.94 - 0.185, np.full_like(up, 1.75)])
    direction /= np.linalg.norm(direction, axis=0)
    start = np.array([[0.0], [1.35], [-5.6]], np.float32)
    parts = np.array_split(direction, 24, axis=1)
    seen = np.concatenate([light_up(march(start, rays), rays) for rays in parts])
    picture = seen.reshape(*x.shape, 3).astype(np.float32)
    corners = smooth(0.35, 0.8, np.hypot(x - x.mean(), y - 0.5))
    return finish(picture * (1 - 0.3 * corners)[..., None])


QUAY = 0.68
WALLS = ("#c98f4e", "#a8503f", "#d9bf92", "#5f8583", "#b9706a", "#8a9a6c", "#cfa07a", "#6d7fa0")
ROOFS = ("#5a3036", "#6e3d38", "#453445", "#7a4a3c")
GLOWING = ("#ffd27a", "#ffbe5c", "#ffe3a3", "#f9a74b")
DARK_GLASS = ("#2c3350", "#38405f")
Box = tuple[float, float, float, float]


class Town:
    """Two sheets with the same shapes: the town on clear glass, and only its lamps on black."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        """Start with empty sheets."""
        self.sheet = Image.new("RGBA", size)
        self.lamps = Image.new("RGB", size)
        self.chance = np.random.default_rng(seed)

    def shape(self, points: list[Point], code: str, lamp: bool = False) -> None:
        """Fill a shape, given in picture heights, and cover or light it on the lamp sheet."""
        corners = [(x * self.sheet.height, y * self.sheet.height) for x, y in points]
        ImageDraw.Draw(self.sheet).polygon(corners, code)
        ImageDraw.Draw(self.lamps).polygon(corners, code if lamp else "black")

    def box(self, box: Box, code: str, lamp: bool = False) -> None:
        """Fill an upright box given by its left, top, right and bottom."""
        left, top, right, bottom = box
        self.shape([(left, top), (right, top), (right, bottom), (left, bottom)], code, lamp)

    def pick(self, codes: tuple[str, ...]) -> str:
        """Return one of the colours by chance."""
        return codes[self.chance.integers(len(codes))]

    def window(self, box: Box, lit: bool) -> None:
        """Draw a window with a pale frame and a cross bar."""
        left, top, right, bottom = box
        self.box((left - 0.004, top - 0.004, right + 0.004, bottom + 0.005), "#d8c9b4")
        self.box(box, self.pick(GLOWING if lit else DARK_GLASS), lit)
        middle = (left + right) / 2
        self.box((middle - 0.0015, top, middle + 0.0015, bottom), "#6d5a50")

    def roof(self, box: Box, height: float) -> None:
        """Draw one of three kinds of roof upon a wall: pointed, stepped or sloping."""
        left, top, right, _ = box
        middle, kind, code = (left + right) / 2, self.chance.integers(3), self.pick(ROOFS)
        if kind == 0:
            self.shape([(left - 0.008, top), (middle, top - height), (right + 0.008, top)], code)
        elif kind == 1:
            wall = self.pick(WALLS)
            for step in (0, 0.25, 0.5, 0.75):
                half = (right - left) / 2 * (1 - step)
                self.box((middle - half, top - height * (step + 0.25), middle + half, top), wall)
        else:
            slope = [(left - 0.006, top), (left + 0.02, top - 0.7 * height)]
            self.shape([*slope, (right - 0.02, slope[1][1]), (right + 0.006, top)], code)
        self.box((right - 0.035, top - 0.8 * height, right - 0.018, top - 0.2 * height), "#553338")

    def house(self, left: float, width: float, top: float, lit_share: float) -> None:
        """Draw one narrow house with its roof, windows, shop and door."""
        wall = (left, top, left + width, QUAY)
        self.roof(wall, width * self.chance.uniform(0.45, 0.8))
        self.box(wall, self.pick(WALLS))
        pitch = width / max(2, round(width / 0.05))
        for above in np.arange(top + 0.025, QUAY - 0.14, 0.08):
            for start in np.arange(left + 0.27 * pitch, left + width - 0.5 * pitch, pitch):
                lit = bool(self.chance.random() < lit_share)
                self.window((start, above, start + pitch * 0.46, above + 0.048), lit)
        self.box((left + width, top, left + width + 0.005, QUAY), "#3a2a38")
        self.window((left + 0.015, QUAY - 0.06, left + width - 0.055, QUAY - 0.02), lit_share > 0.3)
        self.box((left + width - 0.04, QUAY - 0.065, left + width - 0.015, QUAY), "#4a2c2c")

    def boat(self, left: float, top: float) -> None:
        """Draw a rowing boat on the water."""
        for depth, code in ((0.035, "#2a2030"), (0.018, "#c9865a")):
            rim = [(left, top), (left + 0.03, top + 0.012), (left + 0.13, top + 0.012)]
            bow, keel = (left + 0.165, top - 0.004), top + depth
            self.shape([*rim, bow, (left + 0.14, keel), (left + 0.025, keel)], code)

    def street_lamp(self, x: float) -> None:
        """Draw a lamp post on the quay."""
        self.box((x - 0.002, QUAY - 0.085, x + 0.002, QUAY), "#1d1a28")
        self.box((x - 0.007, QUAY - 0.1, x + 0.007, QUAY - 0.084), "#fff0bf", True)

    def church(self, left: float) -> None:
        """Draw a church tower with a spire behind the houses."""
        self.box((left, 0.25, left + 0.1, QUAY), "#6a5a72")
        self.box((left + 0.06, 0.25, left + 0.1, QUAY), "#564a66")
        self.shape([(left - 0.01, 0.25), (left + 0.05, 0.03), (left + 0.11, 0.25)], "#3d4a66")
        self.box((left + 0.035, 0.3, left + 0.065, 0.36), "#ffce7d", True)


def evening(x: Array, y: Array) -> Array:
    """Return the sky just after sunset, with thin clouds, a moon and far hills."""
    sky = gradient(y, {0: "#1d2f63", 0.25: "#4b5f9c", 0.45: "#c08fa6", 0.62: "#ffbd85"})
    cloud = fractal_noise(x * 2, y * 9, 6, 301)
    sky = cover(sky, paint_code("#f0a08c"), 0.7 * smooth(0.48, 0.75, cloud) * smooth(0, 0.3, y))
    moon = np.hypot(x - 1.93, y - 0.16)
    sky = sky + 0.35 * np.exp(-14 * moon)[..., None]
    sky = cover(sky, paint_code("#fff5dc"), smooth(0.043, 0.037, moon))
    for height, code, seed in ((0.47, "#8a7399", 303), (0.54, "#5f5880", 305)):
        hills = height + 0.16 * (fractal_noise(x * 2.2, x * 0, 5, seed) - 0.5)
        sky = cover(sky, paint_code(code), smooth(0, 0.005, y - hills))
    return sky


def build_town(size: tuple[int, int]) -> Town:
    """Return the town along the quay: hazy houses behind, bright ones in front, lamps."""
    town = Town(size, 311)
    for left in np.arange(-0.05, 2.4, 0.13):
        town.house(left, 0.14, town.chance.uniform(0.34, 0.44), 0.25)
    haze = Image.new("RGBA", size, "#8a7399")
    haze.putalpha(town.sheet.getchannel("A"))
    town.sheet = Image.blend(town.sheet, haze, 0.55)
    town.church(0.68)
    left = -0.03
    while left < 2.4:
        width = town.chance.uniform(0.11, 0.2)
        town.house(left, width, town.chance.uniform(0.3, 0.47), 0.55)
        left += width + 0.004
    for x in np.arange(0.09, 2.4, 0.21):
        town.street_lamp(x)
    town.box((0, QUAY, 2.4, QUAY + 0.045), "#5b4c52")
    return town


def town_light(town: Town, sky: Array, x: Array, y: Array) -> Array:
    """Return the town before the sky, in blue shade, with a glow around windows and lamps."""
    colours = to_array(town.sheet)
    shade = gradient(y, {0.25: "#e0cfd8", 0.5: "#b09db0", 0.68: "#e0b898"})
    rough = 0.82 + 0.36 * fractal_noise(x * 40, y * 60, 4, 313)
    shaded = colours[..., :3] * shade * rough[..., None]
    lamps = to_array(town.lamps)
    shaded = np.where(lamps.max(axis=-1, keepdims=True) > 0, lamps, shaded)
    bright = cover(sky, shaded, colours[..., 3])
    for radius, strength in ((5, 0.5), (20, 0.6)):
        glow = to_array(town.lamps.filter(ImageFilter.GaussianBlur(radius)))
        bright = bright + (1 - bright) * np.clip(strength * glow, 0, 1)
    return bright


def river(picture: Array, x: Array, y: Array) -> Array:
    """Return the picture with the river that mirrors the town's lights."""
    line = QUAY + 0.045
    smeared = to_image(picture).filter(ImageFilter.BoxBlur((0.5, 5)))
    water = mirrored(to_array(smeared), x, y, line) * np.array([0.9, 0.88, 0.95], np.float32)
    water = cover(water, paint_code("#18244a"), smooth(line, 1.1, y) * 0.6)
    return cover(picture, water, smooth(0, 0.004, y - line))


def river_town() -> Image.Image:
    """Draw old houses with lit windows along a river in the evening, a wide panorama."""
    x, y = coordinates(512, 216)
    size = (x.shape[1], x.shape[0])
    picture = river(town_light(build_town(size), evening(x, y), x, y), x, y)
    boats = Town(size, 317)
    boats.boat(0.5, 0.84)
    boats.boat(1.62, 0.8)
    sheet = to_array(boats.sheet)
    return finish(cover(picture, sheet[..., :3], sheet[..., 3]))


PICTURES = {
    "contents": (lighthouse, lake, still_life, river_town),
    "styles": (flow, mosaic, woodcut, circles),
}


def save_all(folder: Path) -> None:
    """Draw every picture and save it as a JPEG file named after its function."""
    for part, painters in PICTURES.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for painter in painters:
            path = folder / part / f"{painter.__name__}.jpg"
            painter().save(path, quality=88, optimize=True)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    beside = Path(__file__).resolve().parents[2] / "examples"
    save_all(Path(sys.argv[1]) if len(sys.argv) > 1 else beside)
