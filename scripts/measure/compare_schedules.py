"""What a schedule of levels, step sizes and steps is worth, by the objective that all minimise.

    python scripts/measure/compare_schedules.py [CONTENT STYLE ...] [--sizes 192]
        [--schedules NAME ...] [--output FILE.json] [--sheet FILE.jpg]

Renders the pairs of pictures (two of the examples, where none are named) once for each schedule
and size, and prints crowsonkb/style-transfer-pytorch's objective at each result, as `nst-jax
score` computes it, beside the cost: steps at the last level that would cost as much as all
steps together, and seconds in steps. Run it with nothing else running where seconds count.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tyro.conf import Positional

from nst_jax import Job, Options, render_many
from nst_jax.engine.plan.levels import make_levels
from nst_jax.engine.results import Result
from nst_jax.files.contact_sheet import Tile, draw_grid
from nst_jax.files.images import composite, load_picture, resize
from nst_jax.request.presets import PRESETS
from nst_jax.scores import compare

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = "contents/lighthouse.jpg", "styles/flow.jpg", "contents/lake.jpg", "styles/woodcut.jpg"
PICTURES = tuple(EXAMPLES / name for name in NAMES)
CONSTANT = {"learning_rate": 0.02, "learning_rate_schedule": "constant", "adam_b1": 0.9}
FAST = dict(PRESETS["fast"].values)
BY_ROOT_OF_2 = {"level_ratio": 1.4142}
FIFTH_OF_CROWSONKB = {
    **{name: value for name, value in PRESETS["crowsonkb"].values.items() if name != "size"},
    "weights": "vgg16",
    "steps": 100,
    "first_steps": 200,
}
"""The preset with a fifth of its steps, on the network that scores it."""
SCHEDULES: dict[str, dict[str, Any]] = {
    "default": {},
    "1.41, 50 steps": {**BY_ROOT_OF_2, "steps": 50},
    "2, 60 steps": {"steps": 60},
    "2, 60 steps, larger": {"steps": 60, "learning_rate": 0.06},
    "2, 60 steps, first 150": {"steps": 60, "first_steps": 150},
    "2, 100 steps": {"steps": 100},
    "crowsonkb, a fifth": FIFTH_OF_CROWSONKB,
    "fast": FAST,
    "fast, 1.41, 16 and 5": {**FAST, **BY_ROOT_OF_2, "steps": 5, "first_steps": 16},
    "Adam's usual memory": {"adam_b1": 0.9},
    "a shorter memory": {"adam_b1": 0.6},
    "constant, average of 10": CONSTANT,
    "constant, average of 100": {**CONSTANT, "average_decay": 0.99},
    "larger steps": {"learning_rate": 0.09},
    "smaller steps": {"learning_rate": 0.02},
}


def main(
    pictures: Positional[tuple[Path, ...]] = PICTURES,
    sizes: tuple[int, ...] = (192,),
    schedules: tuple[str, ...] = (),
    output: Path | None = None,
    sheet: Path | None = None,
) -> None:
    """Renders each pair of a content and a style, once for each schedule and size.

    Args:
        pictures: A content, its style, another content, its style, …
        sizes: Long edges in pixels.
        schedules: Names of those to try; none: all.
        output: Takes every objective, as JSON.
        sheet: Takes every picture of the last size, small.
    """
    pairs = list(zip(pictures[::2], pictures[1::2], strict=True))
    names, rows = list(schedules or SCHEDULES), []
    tiles: dict[tuple[int, int], Tile] = {}
    for size in sizes:
        for row, name in enumerate(names):
            found, images = render_pairs(pairs, name, Options(size=size, **SCHEDULES[name]))
            rows.append({"size": size, "schedule": name, **found})
            for column, image in enumerate(images):
                tiles[row, column] = Tile(image, (f"{found['objectives'][column]:.4f}",))
            if output:
                output.write_text(json.dumps(rows, indent=1) + "\n")
    if sheet:
        headings = [f"{content.stem}, {style.stem}" for content, style in pairs]
        drawn = draw_grid("", names, headings, tiles, cell_px=sizes[-1])
        drawn.convert("RGB").save(sheet, quality=80, optimize=True)


def render_pairs(
    pairs: list[tuple[Path, Path]], name: str, options: Options
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Renders all pairs by one schedule; prints a line, and answers with it and the pictures."""
    jobs = [Job(content, style) for content, style in pairs]
    results = sorted(render_many(jobs, options, on_error="raise"), key=lambda one: one.index)
    objectives, images = [], []
    for pair, result in zip(pairs, results, strict=True):
        assert result.image is not None
        shown, asked = (open_fitted(path, max(result.image.shape)) for path in pair)
        objectives.append(compare(shown, asked, result.image).crowsonkb)
        images.append(result.image)
    seconds = sum(result.seconds for result in results) / len(results)
    cost = sum(step_cost(result, options) for result in results) / len(results)
    told = " ".join(f"{value:.4f}" for value in objectives)
    print(f"{options.size} px  {name:26} {cost:6.1f} {seconds:7.1f} s  {told}", flush=True)
    return {"cost": cost, "seconds_in_steps": seconds, "objectives": objectives}, images


def step_cost(result: Result, options: Options) -> float:
    """Steps at the last level that would cost as much as all steps together."""
    assert result.image is not None
    height, width, _ = result.image.shape
    levels = make_levels((height, width), options, options)
    return sum(level.steps * math.prod(level.size) for level in levels) / (height * width)


def open_fitted(path: Path, long_edge: int) -> np.ndarray:
    """The pixels of a picture, opaque and scaled."""
    pixels = composite(load_picture(path), "white")
    height, width = (round(side * long_edge / max(pixels.shape[:2])) for side in pixels.shape[:2])
    return resize(pixels, (height, width))


if __name__ == "__main__":
    tyro.cli(main)
