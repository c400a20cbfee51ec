"""What a schedule of levels, step sizes and steps is worth, by the objective that all minimise.

    python scripts/measure/compare_schedules.py [CONTENT STYLE ...] [--sizes 192]
        [--schedules NAME ...] [--output FILE.json] [--pictures-dir DIR]

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
from PIL import Image
from tyro.conf import Positional

from nst_jax import Job, Options, render_many
from nst_jax.engine.plan.levels import make_levels
from nst_jax.engine.results import Result
from nst_jax.files.images import composite, load_picture, resize, to_8_bit
from nst_jax.request.presets import PRESETS
from nst_jax.scores import compare

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = "contents/lighthouse.jpg", "styles/flow.jpg", "contents/lake.jpg", "styles/woodcut.jpg"
PICTURES = tuple(EXAMPLES / name for name in NAMES)
CONSTANT = {"learning_rate": 0.02, "learning_rate_schedule": "constant", "adam_b1": 0.9}
FAST = dict(PRESETS["fast"].values)
BY_ROOT_OF_2 = {"level_ratio": 1.4142}
SCHEDULES: dict[str, dict[str, Any]] = {
    "default": {},
    "1.41, 50 steps": {**BY_ROOT_OF_2, "steps": 50},
    "2, 50 steps": {"level_ratio": 2.0, "steps": 50},
    "2, 75 steps": {"level_ratio": 2.0, "steps": 75},
    "2, 100 steps": {"level_ratio": 2.0, "steps": 100},
    "fast": FAST,
    "fast, 1.41": {**FAST, **BY_ROOT_OF_2, "steps": 5, "first_steps": 16},
    "fast, 2, 8 steps": {**FAST, "level_ratio": 2.0, "steps": 8, "first_steps": 16},
    "fast, 2, 6 steps": {**FAST, "level_ratio": 2.0, "steps": 6, "first_steps": 24},
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
    pictures_dir: Path | None = None,
) -> None:
    """Renders each pair of a content and a style, once for each schedule and size.

    Args:
        pictures: A content, its style, another content, its style, …
        sizes: Long edges in pixels.
        schedules: Names of those to try; none: all.
        output: Takes every objective, as JSON.
        pictures_dir: Takes every picture, as PNG.
    """
    pairs = list(zip(pictures[::2], pictures[1::2], strict=True))
    rows = []
    for size in sizes:
        for name in schedules or SCHEDULES:
            row = render_pairs(pairs, name, Options(size=size, **SCHEDULES[name]), pictures_dir)
            rows.append({"size": size, "schedule": name, **row})
            if output:
                output.write_text(json.dumps(rows, indent=1) + "\n")


def render_pairs(
    pairs: list[tuple[Path, Path]], name: str, options: Options, pictures_dir: Path | None
) -> dict[str, Any]:
    """Renders all pairs by one schedule and prints a line; the same for a file."""
    jobs = [Job(content, style) for content, style in pairs]
    results = sorted(render_many(jobs, options, on_error="raise"), key=lambda one: one.index)
    objectives = []
    for (content, style), result in zip(pairs, results, strict=True):
        assert result.image is not None
        shown, asked = (open_fitted(path, max(result.image.shape)) for path in (content, style))
        objectives.append(compare(shown, asked, result.image).crowsonkb)
        if pictures_dir:
            path = f"{content.stem}-{style.stem}-{options.size}-{name}.png".replace(" ", "_")
            pictures_dir.mkdir(parents=True, exist_ok=True)
            Image.fromarray(to_8_bit(result.image)).save(pictures_dir / path)
    seconds = sum(result.seconds for result in results) / len(results)
    cost = sum(step_cost(result, options) for result in results) / len(results)
    told = " ".join(f"{value:.4f}" for value in objectives)
    print(f"{options.size} px  {name:26} {cost:6.1f} {seconds:7.1f} s  {told}", flush=True)
    return {"cost": cost, "seconds_in_steps": seconds, "objectives": objectives}


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
