"""What a schedule of step sizes and steps is worth, by the objective that all of them minimise.

    python scripts/measure/compare_schedules.py [--size 192] [CONTENT STYLE ...]

Renders each pair of pictures (two of the examples, where none are named) once for each
schedule, all as one batch, and prints crowsonkb/style-transfer-pytorch's objective at the
result, as `nst-jax score` computes it, beside the cost: steps at the last level that would
cost as much as all steps together.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tyro.conf import Positional

from nst_jax import Job, Options, render_many
from nst_jax.engine.plan.levels import make_levels
from nst_jax.files.images import composite, load_picture, resize
from nst_jax.request.options import job_options
from nst_jax.request.presets import PRESETS
from nst_jax.scores import compare

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = "contents/lighthouse.jpg", "styles/flow.jpg", "contents/lake.jpg", "styles/woodcut.jpg"
PICTURES = tuple(EXAMPLES / name for name in NAMES)
CONSTANT = {"learning_rate": 0.02, "learning_rate_schedule": "constant", "adam_b1": 0.9}
FAST = dict(PRESETS["fast"].values)
SCHEDULES: dict[str, dict[str, Any]] = {
    "default": {},
    "fast": FAST,
    "fast, 15 steps": {**FAST, "steps": 15},
    "Adam's usual memory": {"adam_b1": 0.9},
    "a shorter memory": {"adam_b1": 0.6},
    "constant, average of 10": CONSTANT,
    "constant, average of 100": {**CONSTANT, "average_decay": 0.99},
    "more steps at the first level": {"first_steps": 100, "steps": 40},
    "larger steps": {"learning_rate": 0.09},
    "smaller steps": {"learning_rate": 0.02},
}


def main(pictures: Positional[tuple[Path, ...]] = PICTURES, size: int = 192) -> None:
    """Renders each pair of a content and a style, up to SIZE pixels, once for each schedule."""
    for pair in zip(pictures[::2], pictures[1::2], strict=True):
        print(*(path.stem for path in pair))
        render_pair(*pair, Options(size=size))


def render_pair(content: Path, style: Path, options: Options) -> None:
    """Prints objective and cost of each schedule, which are all one batch."""
    own = [job_options(options, **values) for values in SCHEDULES.values()]
    jobs = [Job(content, style, options=one) for one in own]
    results = sorted(render_many(jobs, options, on_error="raise"), key=lambda one: one.index)
    for name, result in zip(SCHEDULES, results, strict=True):
        assert result.image is not None
        assert result.job.options is not None
        shape = result.image.shape[0], result.image.shape[1]
        shown, asked = (open_fitted(path, max(shape)) for path in (content, style))
        levels = make_levels(shape, options, result.job.options)
        cost = sum(level.steps * math.prod(level.size) for level in levels) / math.prod(shape)
        objective = compare(shown, asked, result.image).crowsonkb
        print(f"  {name:28} {objective:.4f}  {cost:6.1f}", flush=True)


def open_fitted(path: Path, long_edge: int) -> np.ndarray:
    """The pixels of a picture, opaque and scaled."""
    pixels = composite(load_picture(path), "white")
    height, width = (round(side * long_edge / max(pixels.shape[:2])) for side in pixels.shape[:2])
    return resize(pixels, (height, width))


if __name__ == "__main__":
    tyro.cli(main)
