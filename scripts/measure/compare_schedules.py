"""What a schedule of step sizes and steps is worth, by the objective that all of them minimise.

    python scripts/measure/compare_schedules.py [--size 192] [--figures FOLDER] [CONTENT STYLE ...]

Renders each pair of pictures (two of the examples, where none are named) once for each
schedule, all as one batch, and prints crowsonkb/style-transfer-pytorch's objective at the
result, as `nst-jax score` computes it, beside the cost: steps at the last level that would
cost as much as all steps together. With --figures (extra `plots`) the pictures and the curves of
their objectives go into FOLDER, as schedules.jpg and schedules.png.
"""

import argparse
import importlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from nst_jax import Job, Options, render_many
from nst_jax.engine.plan.levels import Level, pyramid
from nst_jax.engine.results import Result
from nst_jax.files.contact_sheet import Tile, draw_grid
from nst_jax.files.images import composite, load_picture, resize
from nst_jax.request.options import job_options
from nst_jax.request.presets import PRESETS
from nst_jax.scores import compare

Pair = tuple[Path, Path]

EXAMPLES = Path(__file__).parents[2] / "examples"
PAIRS = [
    (EXAMPLES / "contents/lighthouse.jpg", EXAMPLES / "styles/flow.jpg"),
    (EXAMPLES / "contents/lake.jpg", EXAMPLES / "styles/woodcut.jpg"),
]
CONSTANT = {"learning_rate": 0.02, "learning_rate_schedule": "constant", "adam_b1": 0.9}
FAST = dict(PRESETS["fast"].values)
SCHEDULES: dict[str, dict] = {
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=192, help="long edge in pixels")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw into it")
    parser.add_argument("pictures", nargs="*", type=Path, help="CONTENT STYLE, in turns")
    arguments = parser.parse_args()
    options = Options(size=arguments.size)
    pairs = list(zip(arguments.pictures[::2], arguments.pictures[1::2], strict=True)) or PAIRS
    finished = {pair: _rendered(*pair, options) for pair in pairs}
    for pair, results in finished.items():
        print(f"{pair[0].name}, {pair[1].name}")
        for name, result in results.items():
            print(f"  {name:28} {_objective(pair, result):.4f}  {_cost(result, options):6.1f}")
    if arguments.figures:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        _save_pictures(finished, arguments.figures / "schedules.jpg")
        _save_curves(finished, options, arguments.figures / "schedules.png")


def _rendered(content: Path, style: Path, options: Options) -> dict[str, Result]:
    """A result for each schedule."""
    own = [job_options(options, **values) for values in SCHEDULES.values()]
    jobs = [Job(content, style, options=one) for one in own]
    results = sorted(render_many(jobs, options, on_error="raise"), key=lambda one: one.index)
    return dict(zip(SCHEDULES, results, strict=True))


def _objective(pair: Pair, result: Result) -> float:
    image = _image(result)
    content, style = (_opened(path, image.shape[:2]) for path in pair)
    return compare(content, style, image).crowsonkb


def _image(result: Result):
    assert result.image is not None
    return result.image


def _opened(path: Path, size: tuple[int, int]):
    pixels = composite(load_picture(path), "white")
    longest = max(pixels.shape[:2])
    height, width = (round(side * max(size) / longest) for side in pixels.shape[:2])
    return resize(pixels, (height, width))


def _cost(result: Result, options: Options) -> float:
    """Steps at the last level that would cost as much as all."""
    size, ladder = _ladder(result, options)
    pixels = sum(stage.steps * stage.size[0] * stage.size[1] for stage in ladder)
    return pixels / (size[0] * size[1])


def _ladder(result: Result, options: Options) -> tuple[tuple[int, int], Sequence[Level]]:
    height, width = _image(result).shape[:2]
    own = result.job.options
    assert own is not None
    return (height, width), pyramid((height, width), options, own)


def _save_pictures(finished: Mapping[Pair, Mapping[str, Result]], path: Path) -> None:
    """Pairs in rows, schedules in columns, each with its objective."""
    tiles = {
        (row, column): Tile(_image(result), [f"{_objective(pair, result):.4f}"])
        for row, (pair, results) in enumerate(finished.items())
        for column, result in enumerate(results.values())
    }
    rows = [f"{content.stem}, {style.stem}" for content, style in finished]
    draw_grid("Schedules", rows, list(SCHEDULES), tiles, 176).save(path, quality=72, optimize=True)


def _save_curves(
    finished: Mapping[Pair, Mapping[str, Result]], options: Options, path: Path
) -> None:
    """The objective at the last level by the steps taken there; a panel for each pair."""
    plt = importlib.import_module("matplotlib.pyplot")  # the extra `plots`

    figure, panels = plt.subplots(1, len(finished), figsize=(5 * len(finished), 4), squeeze=False)
    for panel, (pair, results) in zip(panels[0], finished.items(), strict=True):
        for name, result in results.items():
            before = sum(stage.steps for stage in _ladder(result, options)[1][:-1])
            last = [point for point in result.curve if point.step > before]
            steps = [point.step - before for point in last]
            panel.plot(steps, [point.total for point in last], label=name)
        panel.set(title=f"{pair[0].stem}, {pair[1].stem}", yscale="log")
        panel.set(xlabel="steps at the last level", ylabel="objective of the last image")
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    Image.open(drawn).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path)


if __name__ == "__main__":
    main()
