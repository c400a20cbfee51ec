"""Draws the two landscapes among the contents: a lighthouse at dusk and a mountain lake.

Run `make_examples.py` to draw and save them.
"""

import numpy as np
from examples_styles import (
    Array,
    Chance,
    Draw,
    Point,
    coordinates,
    cover,
    finish,
    fractal_noise,
    gradient,
    paint_code,
    relief,
    smooth,
    to_array,
    to_image,
)
from PIL import Image, ImageDraw

DUSK = {0.0: "#ffdf9e", 0.1: "#fbb072", 0.28: "#d97f83", 0.55: "#6d6299", 1.0: "#253a72"}
SEA_LINE, SUN_X, TOWER_X = 0.64, 0.48, 1.1
# The gable, the long wall, the roof, the roof's edge and the chimney.
COTTAGE = (
    ("#d8b79c", ((1.22, 0.46), (1.27, 0.41), (1.32, 0.46), (1.32, 0.55), (1.22, 0.55))),
    ("#8d7680", ((1.32, 0.46), (1.46, 0.46), (1.46, 0.54), (1.32, 0.55))),
    ("#5d3138", ((1.265, 0.4), (1.42, 0.4), (1.475, 0.468), (1.325, 0.468))),
    ("#7c4440", ((1.213, 0.468), (1.265, 0.4), (1.273, 0.41), (1.224, 0.474))),
    ("#5b3540", ((1.37, 0.37), (1.395, 0.37), (1.395, 0.43), (1.37, 0.43))),
)


def dusk_light(x: Array, y: Array) -> Array:
    """Return the evening sky without clouds, with the glow around the low sun."""
    sky = gradient((SEA_LINE - y) / SEA_LINE, DUSK)
    distance = np.hypot((x - SUN_X) * 0.8, y - SEA_LINE + 0.05)
    return sky + np.exp(-7 * distance)[..., None] * np.array([0.5, 0.3, 0.08], np.float32)


def dusk_sky(x: Array, y: Array) -> Array:
    """Return the evening sky with clouds lit from below and the sun's disc."""
    sky = dusk_light(x, y)
    farness = 1 / (np.maximum(SEA_LINE - y, 0) + 0.16)
    across, along = (x - 0.75) * farness * 0.75, farness * 1.5
    thickness = fractal_noise(across, along, 6, 11)
    towards_sun = fractal_noise(across, along + 0.12, 6, 11)
    fire = np.exp(-1.6 * np.abs(x - SUN_X)) * smooth(0.0, 0.6, y)
    lit = cover(sky * 0 + paint_code("#a58bb0"), paint_code("#ffb27a"), fire)
    shade = smooth(-0.1, 0.13, thickness - towards_sun)[..., None]
    clouds = lit * (1.12 - 0.55 * shade)
    sky = cover(sky, clouds, 0.85 * smooth(0.47, 0.66, thickness))
    disc = smooth(0.034, 0.03, np.hypot(x - SUN_X, y - SEA_LINE + 0.05))
    return cover(sky, paint_code("#fff6cf"), disc)


def sea(x: Array, y: Array) -> Array:
    """Return waves that mirror the sky and glitter below the sun."""
    depth = np.maximum(y - SEA_LINE, 0.004)
    farness = 1 / (depth + 0.07)
    waves = fractal_noise((x - SUN_X) * 3.2 * farness + 40, 4.5 * farness, 4, 31)
    seen = np.clip(SEA_LINE - 0.75 * depth - 0.5 * (waves - 0.35), 0, SEA_LINE)
    water = dusk_light(x, seen) * np.array([0.62, 0.68, 0.78], np.float32)
    water = cover(water, paint_code("#16305a"), smooth(0.0, 0.4, depth) * 0.55)
    path = np.exp(-(((x - SUN_X) / (0.035 + 0.35 * depth)) ** 2))
    sparkle = fractal_noise((x - SUN_X) * 9 * farness, 14 * farness, 2, 35)
    glitter = path * smooth(0.5, 0.62, 0.55 * waves + 0.45 * sparkle + 0.04)
    return cover(water, paint_code("#ffe2a0"), glitter)


def cliff_top(x: Array) -> Array:
    """Return the height on the picture of the cliff's grassy edge."""
    slope = 0.53 + 0.5 * smooth(0.95, 0.68, x) - 0.03 * smooth(1.1, 1.5, x)
    return slope + 0.05 * (fractal_noise(x * 7, x * 0, 5, 41) - 0.5)


def cliff(x: Array, y: Array) -> Array:
    """Return rock in slanting layers, lit from the sun's side, with grass on top."""
    warped = x + 0.1 * fractal_noise(x * 6, y * 6, 3, 43)
    ledges = np.abs((7 * y + 1.6 * x + 2.5 * fractal_noise(x * 5, y * 5, 2, 47)) % 2 - 1)
    blocks = np.abs(2 * fractal_noise(warped * 7, y * 5, 6, 45) - 1) - 0.35 * ledges
    light = relief(blocks, 15) + 0.25 - 0.6 * smooth(0.75, 1.45, x)
    rock = gradient(light, {-0.8: "#1d1a2b", -0.1: "#54404a", 0.3: "#a8705a", 0.9: "#f2b27c"})
    below = y - cliff_top(x)
    turf = fractal_noise(x * 60, y * 18, 3, 51)
    dry = turf + 0.3 * smooth(1.3, 0.8, x)
    grass = gradient(dry, {0.2: "#232f2c", 0.6: "#56633a", 1: "#c9a35c"})
    edge = 0.03 + 0.05 * fractal_noise(x * 14, y * 4, 4, 53)
    return cover(grass, rock, smooth(0.0, 0.02, below - edge))


def shore(picture: Array, rock: Array, x: Array, y: Array) -> Array:
    """Return the picture with a far headland, and the cliff with its dark mirror image."""
    far_edge = SEA_LINE - 0.06 * smooth(0.25, 0.0, x) * (0.6 + fractal_noise(x * 14, x * 0, 4, 61))
    picture = cover(picture, paint_code("#8d6680"), smooth(0, 0.004, y - far_edge) * (y < SEA_LINE))
    shadow = smooth(-0.22, 0.02, x - 0.9 + 0.6 * (y - 0.6)) * smooth(SEA_LINE, SEA_LINE + 0.02, y)
    picture = cover(picture, paint_code("#2a2444"), 0.6 * shadow)
    return cover(picture, rock, smooth(0, 0.004, y - cliff_top(x)))


def round_wall(
    picture: Array, x: Array, y: Array, span: Point, widths: Point, colour: Array
) -> Array:
    """Return the picture with an upright round wall, lit from the left, from top to bottom."""
    part = np.clip((y - span[0]) / (span[1] - span[0]), 0, 1)
    half = widths[0] + (widths[1] - widths[0]) * part
    across = np.clip((x - TOWER_X) / half, -1, 1)
    light = 0.28 + 0.85 * np.clip(-0.75 * across + 0.66 * np.sqrt(1 - across**2), 0, 1) ** 1.2
    tint = np.array([1.08, 0.96, 0.9], np.float32) * light[..., None] + np.array([0, 0.01, 0.06])
    inside = smooth(0.003, 0, np.abs(x - TOWER_X) - half)
    inside = inside * smooth(-0.002, 0.002, y - span[0]) * smooth(0.002, -0.002, y - span[1])
    return cover(picture, colour * tint, inside)


def tower(picture: Array, x: Array, y: Array) -> Array:
    """Return the picture with the banded lighthouse, its gallery and its lantern."""
    sag = 0.012 * np.sqrt(np.clip(1 - ((x - TOWER_X) / 0.07) ** 2, 0, 1))
    band = np.sin((y - sag - 0.2) / 0.33 * np.pi * 5)
    white = np.ones_like(picture) * paint_code("#f4ece0")
    stripes = cover(white, paint_code("#b8322c"), smooth(-0.06, 0.06, band))
    picture = round_wall(picture, x, y, (0.205, 0.555), (0.042, 0.068), stripes)
    bars = smooth(0.75, 0.95, np.cos((x - TOWER_X) * 190))
    glass = cover(white + paint_code("#1a1000"), paint_code("#3a2a2a"), bars)
    inside = (np.abs(x - TOWER_X) < 0.03) & (y > 0.125) & (y < 0.19)
    picture = cover(picture, glass, inside.astype(np.float32))
    picture = round_wall(picture, x, y, (0.188, 0.207), (0.058, 0.056), paint_code("#4a3d46"))
    picture = round_wall(picture, x, y, (0.075, 0.128), (0.002, 0.038), paint_code("#a82f2c"))
    return round_wall(picture, x, y, (0.045, 0.078), (0.002, 0.004), paint_code("#4a3d46"))


def beams(picture: Array, x: Array, y: Array) -> Array:
    """Return the picture with the lantern's glow and its two beams of light."""
    across, down = x - TOWER_X, y - 0.157
    distance = np.hypot(across, down) + 1e-4
    angle = np.abs(down + 0.1 * across) / (np.abs(across) + 0.01)
    beam = smooth(0.12, 0.02, angle) * np.exp(-1.6 * distance) * smooth(0.02, 0.06, np.abs(across))
    light = 0.55 * beam + 0.9 * np.exp(-16 * distance)
    return picture + (1 - picture) * light[..., None] * paint_code("#ffedb0")


def cottage(picture: Array) -> Array:
    """Return the picture with the keeper's house beside the tower."""
    image = to_image(picture)
    draw, unit = ImageDraw.Draw(image), image.height
    for code, points in COTTAGE:
        draw.polygon([(x * unit, y * unit) for x, y in points], code)
    for left, top in ((1.35, 0.485), (1.405, 0.485), (1.255, 0.475)):
        glass = [left * unit, top * unit, (left + 0.026) * unit, (top + 0.033) * unit]
        draw.rectangle(glass, "#ffd577", "#fff0c8")
    return to_array(image)


def lighthouse() -> Image.Image:
    """Draw a lighthouse on a cliff at dusk above a glittering sea."""
    x, y = coordinates(512, 342)
    picture = cover(dusk_sky(x, y), sea(x, y), smooth(0, 0.003, y - SEA_LINE))
    rock = cliff(x, y)
    picture = cottage(shore(picture, rock, x, y))
    ground = fractal_noise(x * 40, x * 0, 3, 71) * 0.03
    grass = smooth(0, 0.006, y - 0.535 - ground) * smooth(1.0, 1.06, x)
    picture = cover(tower(picture, x, y), rock, grass)
    return finish(beams(np.clip(picture, 0, 1), x, y))


WATER_LINE = 0.57
EYE_HEIGHT, FOCAL, MIDDLE, LEVEL = 0.2, 1.1, 0.375, 0.5
# Every peak: where it stands across and away, its height and its width.
PEAKS = (
    (-0.55, 8.0, 2.9, 2.7),
    (1.8, 9.5, 2.3, 2.4),
    (-2.9, 8.5, 1.9, 2.2),
    (1.9, 5.4, 0.85, 1.5),
    (-1.9, 5.0, 0.75, 1.4),
    (0.4, 6.0, 0.4, 1.3),
)

FAR_FIR_PAINTS = (("#3f6163", "#5f837c"), ("#294d47", "#4f7558"), ("#17332c", "#4a6a38"))
# Every fir at the front: where it stands across and down, and its height.
NEAR_FIRS = (
    (0.2, 0.86, 0.33),
    (0.02, 0.9, 0.72),
    (0.13, 0.93, 0.56),
    (0.72, 0.93, 0.42),
    (0.66, 0.95, 0.24),
)


def mountain_height(across: Array, away: Array) -> Array:
    """Return the ground's height above the lake: cones broken up by sharp ridges."""
    bend = 0.5 * (fractal_noise(across * 0.8, away * 0.8, 3, 101) - 0.5)
    cones = np.zeros_like(bend)
    for left, far, height, width in PEAKS:
        distance = np.hypot(across + bend - left, away + bend - far)
        cones += height * np.maximum(0, 1 - distance / width) ** 1.15
    ridges = 1 - np.abs(2 * fractal_noise(across * 0.9 + 5, away * 0.9, 6, 103) - 1)
    return cones * (0.5 + 0.65 * ridges**1.5) + 0.12 * ridges * smooth(3.5, 5, away) - 0.03


def mountain_distance(width: int, height: int) -> Array:
    """Return how far each pixel's view goes until it meets the ground, or infinity."""
    away = np.geomspace(3.4, 12, 900, dtype=np.float32)[:, None]
    columns = (np.arange(width, dtype=np.float32) + 0.5) / height
    ground = mountain_height((columns - MIDDLE) / FOCAL * away, np.broadcast_to(away, (900, width)))
    skyline = np.maximum.accumulate((ground - EYE_HEIGHT) / away * FOCAL, axis=0)
    views = LEVEL - (np.arange(height, dtype=np.float32) + 0.5) / height
    first = np.stack([np.searchsorted(line, views) for line in skyline.T], axis=1)
    return np.append(away[:, 0], np.inf)[first].astype(np.float32)


def mountain_colour(across: Array, away: Array) -> Array:
    """Return forest, rock and snow, lit by a low sun from the left, with blue haze."""
    step = 0.004 * away
    height = mountain_height(across, away)
    rise_across = (mountain_height(across + step, away) - height) / step
    rise_away = (mountain_height(across, away + step) - height) / step
    steep = 1 / np.sqrt(1 + rise_across**2 + rise_away**2)
    light = np.clip((-0.8 * rise_across - 0.35 * rise_away + 0.45) * steep, 0, 1)[..., None]
    patches = fractal_noise(across * 6, away * 6, 4, 111)
    rock = cover(paint_code("#6f5f5b") * np.ones_like(light), paint_code("#8e7765"), patches)
    forest = smooth(0.75, 0.45, height + 0.5 * patches - 0.1)
    snow = smooth(0.85, 1.1, height + 0.5 * patches) * smooth(0.4, 0.55, steep + 0.3 * patches)
    ground = cover(rock, paint_code("#40603c"), forest)
    ground = cover(ground, paint_code("#f4f3f6"), snow)
    lit = ground * (np.array([1.15, 0.98, 0.8]) * light + np.array([0.3, 0.38, 0.54]))
    return cover(lit.astype(np.float32), paint_code("#b9cbe0"), smooth(2.5, 15, away) * 0.6)


def morning_sky(x: Array, y: Array) -> Array:
    """Return a clear sky with a few bright clouds."""
    sky = gradient(y, {0: "#3f7fc0", 0.3: "#8dbbe0", 0.52: "#f7e3c8"})
    cloud = fractal_noise(x * 2.6 + 1, y * 5.5 + 2, 6, 121)
    light = smooth(-0.06, 0.1, cloud - fractal_noise(x * 2.6 + 0.88, y * 5.5 + 1.8, 6, 121))
    colour = cover(np.ones_like(sky) * paint_code("#b7c3d8"), paint_code("#fffaf0"), light)
    return cover(sky, colour, smooth(0.5, 0.68, cloud) * smooth(0.5, 0.3, y))


def fir(draw: Draw, foot: Point, height: float, colours: tuple[str, str], chance: Chance) -> None:
    """Draw one fir tree: drooping branches all around a trunk, lit from the left."""
    x, y = foot
    draw.line([(x, y), (x, y - height * 0.97)], colours[0], max(1, round(height * 0.025)))
    dark, bright = paint_code(colours[0]) * 255, paint_code(colours[1]) * 255
    for tier in np.repeat(np.linspace(0.98, 0.0, max(8, round(height / 4))), 12):
        angle = chance.uniform(-np.pi, np.pi)
        reach = height * (0.015 + 0.2 * tier) * chance.uniform(0.6, 1.1)
        start = y - height * (1 - tier * 0.9)
        tip = (x + reach * np.cos(angle), start + height * 0.07 + 0.2 * reach * np.sin(angle))
        light = 0.5 - 0.33 * np.cos(angle) + 0.12 * np.sin(angle) + chance.uniform(-0.35, 0.3)
        width = height * (0.004 + 0.012 * tier)
        red, green, blue = (dark + (bright - dark) * np.clip(light, 0, 1)).astype(int)
        under = ((x + tip[0]) / 2, tip[1] + 0.5 * width)
        draw.polygon([(x, start - width), tip, under, (x, start + width)], (red, green, blue))


def far_shore(picture: Array) -> Array:
    """Return the picture with a wood of small firs along the far shore."""
    image = to_image(picture)
    draw = ImageDraw.Draw(image)
    chance = np.random.default_rng(131)
    unit = image.height
    for row, colours in enumerate(FAR_FIR_PAINTS):
        for left in np.sort(chance.uniform(-0.02, 0.77, 85)):
            density = 0.55 + 1.6 * abs(left - 0.44) - 0.08 * row
            height = unit * 0.055 * density * chance.uniform(0.7, 1.25)
            foot = (left * unit, unit * (WATER_LINE - 0.012 + 0.007 * row))
            fir(draw, foot, height, colours, chance)
    return to_array(image)


def mirrored(picture: Array, x: Array, y: Array, line: float) -> Array:
    """Return what rippled water below the line shows: the picture upside down, swaying."""
    depth = np.maximum(y - line, 0)
    farness = 1 / (depth + 0.04)
    ripple = fractal_noise((x - x.mean()) * 1.5 * farness, 3 * farness, 3, 141) - 0.5
    rows = np.clip((2 * line - y + ripple * 0.16 * depth) * y.shape[0], 0, y.shape[0] * line - 1)
    aside = np.clip(x + ripple * 0.03 * depth, 0, x[0, -1]) * y.shape[0]
    return picture[rows.astype(np.int32), aside.astype(np.int32)]


def reflection(picture: Array, x: Array, y: Array) -> Array:
    """Return the picture with its lower part turned into the clear water of the lake."""
    depth = np.maximum(y - WATER_LINE, 0)
    water = mirrored(picture, x, y, WATER_LINE) * np.array([0.74, 0.84, 0.88], np.float32)
    water = cover(water, paint_code("#123f4c"), smooth(0, 0.45, depth) * 0.6)
    water = cover(water, paint_code("#dfeaf0"), smooth(0.012, 0.0, depth) * 0.5)
    return cover(picture, water, smooth(0, 0.002, y - WATER_LINE))


def near_shore(picture: Array, x: Array, y: Array) -> Array:
    """Return the picture with a stony bank and tall firs at the front."""
    edge = 0.93 - 0.1 * smooth(0.45, 0.0, x) - 0.05 * smooth(0.5, 0.75, x)
    edge = edge + 0.035 * (fractal_noise(x * 11, x * 0, 4, 151) - 0.5)
    stones = np.abs(2 * fractal_noise(x * 13, y * 22, 4, 153) - 1)
    light = relief(stones, 9) + 0.5 - stones * 0.3
    bank = gradient(light, {0: "#1c2422", 0.4: "#4d4c3f", 0.7: "#8b8468", 1.1: "#d8cba0"})
    moss = smooth(0.45, 0.6, fractal_noise(x * 6, y * 9, 4, 155))
    bank = cover(bank, bank * 0.4 + paint_code("#46582a") * 0.6, moss)
    image = to_image(cover(picture, bank, smooth(0, 0.004, y - edge)))
    draw, chance = ImageDraw.Draw(image), np.random.default_rng(157)
    for left, foot, height in NEAR_FIRS:
        place = (left * image.height, foot * image.height)
        fir(draw, place, height * image.height, ("#10231f", "#6d8a45"), chance)
    return to_array(image)


def lake() -> Image.Image:
    """Draw a mountain lake with fir trees that mirrors the snowy peaks."""
    x, y = coordinates(384, 512)
    away = mountain_distance(x.shape[1], x.shape[0])
    seen = np.isfinite(away)
    distance = np.where(seen, away, 12)
    mountains = mountain_colour((x - MIDDLE) / FOCAL * distance, distance)
    picture = cover(morning_sky(x, y), mountains, seen.astype(np.float32))
    mist = smooth(0.45, 0.56, y) * (0.3 + 0.4 * fractal_noise(x * 3, y * 12, 4, 133))
    picture = far_shore(cover(picture, paint_code("#c3d2dc"), mist))
    return finish(near_shore(reflection(picture, x, y), x, y))
