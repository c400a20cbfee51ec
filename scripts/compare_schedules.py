"""What a schedule of step sizes and steps is worth, by the objective that all of them minimise.

    python scripts/compare_schedules.py [--size 192] [CONTENT STYLE ...]

Renders each pair of pictures (two of the examples, where none are named) once for each
schedule, all as one batch, and prints crowsonkb/style-transfer-pytorch's objective at the
result, as `nst-jax score` computes it, beside the cost: steps at the last level that would
cost as much as all steps together.
"""

import argparse
from pathlib import Path

from nst_jax import Job, Options, render_many
from nst_jax.engine.levels import stages
from nst_jax.engine.scoring import scored
from nst_jax.files.images import composited, load_picture, resized
from nst_jax.spec.options import JobOptions, job_options

EXAMPLES = Path(__file__).parents[1] / "examples"
PAIRS = [
    (EXAMPLES / "contents/lighthouse.jpg", EXAMPLES / "styles/flow.jpg"),
    (EXAMPLES / "contents/lake.jpg", EXAMPLES / "styles/woodcut.jpg"),
]
CONSTANT = {"learning_rate": 0.02, "learning_rate_schedule": "constant"}
SCHEDULES: dict[str, dict] = {
    "default": {},
    "fast": {"steps": 18, "learning_rate": 0.04},
    "constant, average of 10": CONSTANT,
    "constant, average of 100": {**CONSTANT, "average_decay": 0.99},
    "constant, twice the steps": {**CONSTANT, "steps": 100},
    "more steps at the first level": {"first_steps": 100, "steps": 40},
    "larger steps": {"learning_rate": 0.06},
    "smaller steps": {"learning_rate": 0.015},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=192, help="long edge in pixels")
    parser.add_argument("pictures", nargs="*", type=Path, help="CONTENT STYLE, in turns")
    arguments = parser.parse_args()
    options = Options(size=arguments.size)
    pairs = list(zip(arguments.pictures[::2], arguments.pictures[1::2], strict=True)) or PAIRS
    for content, style in pairs:
        print(f"{content.name}, {style.name}")
        own = {name: job_options(options, **values) for name, values in SCHEDULES.items()}
        jobs = [Job(content, style, options=one) for one in own.values()]
        results = sorted(render_many(jobs, options, on_error="raise"), key=lambda one: one.index)
        for (name, one), result in zip(own.items(), results, strict=True):
            assert result.image is not None
            size = result.image.shape[:2]
            pictures = (_opened(content, size), _opened(style, size), result.image)
            cost = _steps_at_the_last_level(size, options, one)
            print(f"  {name:28} {scored(*pictures).crowsonkb:.4f}  {cost:6.1f}")


def _opened(path: Path, size: tuple[int, int]):
    pixels = composited(load_picture(path), "white")
    longest = max(pixels.shape[:2])
    height, width = (round(side * max(size) / longest) for side in pixels.shape[:2])
    return resized(pixels, (height, width))


def _steps_at_the_last_level(size: tuple[int, int], options: Options, own: JobOptions) -> float:
    ladder = stages(size, options, own)
    pixels = sum(stage.steps * stage.size[0] * stage.size[1] for stage in ladder)
    return pixels / (size[0] * size[1])


if __name__ == "__main__":
    main()
