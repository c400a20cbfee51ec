"""Output folders as a batch leaves them, made in a moment: pictures, ledger, run record."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from networks import picture
from PIL import Image

from nst_jax.engine.results import LossPoint, Result
from nst_jax.files.ledger import Ledger
from nst_jax.request.errors import NstJaxError, PictureError
from nst_jax.request.job import Job
from nst_jax.request.options import JobOptions

LOSSES = ("total", "content", "style", "tv")

RUN = {
    "versions": {"python": "3.11.0", "nst-jax": "0.1.0"},
    "devices": {"platform": "cpu", "kind": "cpu", "count": 1},
    "options": {"size": 48, "weights": "/somewhere/vgg16", "levels": 2},
    "weights": {"source": "a test", "sha256": "0" * 64},
    "summary": {"seconds": 12.5, "step_seconds": 8.0, "image_steps_per_second": 4.5, "done": 3},
    "phases": {"steps": 8.0, "targets": 1.0, "compilation": 2.5, "image_steps": 36},
    "compiled": {"step 48x48 x 4": 2.5},
    "loaded": [],
}


def save(path: Path, seed: int = 0, size: tuple[int, int] = (30, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(255 * picture(*size, seed=seed))).save(path)
    return path


def result(
    folder: Path,
    job: Job,
    number: int = 0,
    *,
    error: NstJaxError | None = None,
    size: tuple[int, int] = (30, 40),
) -> Result:
    """A job's end, its picture in the folder where it is done."""
    losses = {name: 1.0 / (number + 1 + place) for place, name in enumerate(LOSSES)}
    curve = tuple(LossPoint(step, 9 / step, 3 / step, 1 / step, 0.1) for step in (1, 5, 20, 40))
    if error:
        return Result(number, job, error=error, steps=3)
    path = save(folder / job.output, seed=number + 50, size=size)
    return Result(
        index=number,
        job=job,
        losses=losses,
        curve=curve,
        steps=40,
        seconds=number + 0.25,
        compile_seconds=0.5,
        output=str(path),
        fingerprint=f"{number:064x}",
        sha256=f"{number:064x}",
    )


def write(folder: Path, results: Sequence[Result], run: dict[str, Any] | None = None) -> None:
    """Appends ledger lines, and the run record where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    with Ledger(folder) as ledger:
        for one in results:
            ledger.append(one.record())
    if run:
        (folder / "run.json").write_text(json.dumps(run))


def small_batch(root: Path) -> Path:
    """Two contents with two styles, one of a TIFF, and a job that failed."""
    inputs, folder = root / "inputs", root / "renders"
    for seed, name in enumerate(("cat.png", "dog.png", "waves.png", "stars.png")):
        save(inputs / name, seed)
    pairs = [("cat", "waves"), ("cat", "stars"), ("dog", "waves")]
    results = [
        result(
            folder,
            Job(
                inputs / f"{content}.png",
                inputs / f"{style}.png",
                output=f"deep/{content}_{style}.{suffix}",
                options=JobOptions(style_weight=10.0 + number),
            ),
            number,
        )
        for number, ((content, style), suffix) in enumerate(
            zip(pairs, ("png", "jpg", "tif"), strict=True)
        )
    ]
    lost = Job(inputs / "no.png", [inputs / "waves.png", inputs / "stars.png"], output="lost.png")
    fault = PictureError("picture 'no.png' does not exist", "Check the path")
    write(folder, [*results, result(folder, lost, 3, error=fault)], RUN)
    return folder
