"""Small batches through the command line, in this process: pictures, a manifest, what it said."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from engine_jobs import LANDSCAPE, PORTRAIT, content_of, style_of
from networks import picture
from PIL import Image

from nst_jax import Job
from nst_jax.cli.main import run
from nst_jax.engine.plan.canvas import Size
from nst_jax.engine.progress import NullProgress
from nst_jax.engine.schedule.stop import StopToken
from nst_jax.files.ledger import read_ledger

TINY = (
    *("--size", "32", "--levels", "1", "--steps", "2", "--batch-size", "2"),
    *("--content-taps", "relu1_1", "--style-taps", "relu1_1"),
)
"""Options of a rendering of a moment."""


COLUMNS = "content,style,output,learning_rate,init,content_weight,style_weight"


class Answer(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout; of a run with `--json`."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Jobs done, failed and skipped."""
        return self.json["done"], self.json["failed"], self.json["skipped"]

    @property
    def last_line(self) -> str:
        return self.err.splitlines()[-1]


class Batches:
    """Runs `nst-jax batch jobs.csv` in a folder with the pictures a.png to d.png."""

    def __init__(
        self, folder: Path, weights: str, capsys: pytest.CaptureFixture[str] | None = None
    ) -> None:
        self.folder = folder
        self.out = folder / "out"
        self._options = [*TINY, "--weights", weights, "--no-report"]
        self._capsys = capsys
        for seed, name in enumerate("abcd"):
            save(folder / f"{name}.png", seed)

    def rows(self, *lines: str) -> None:
        """A manifest of these lines, whose last cells may be left out."""
        filled = [line + "," * (COLUMNS.count(",") - line.count(",")) for line in lines]
        (self.folder / "jobs.csv").write_text("\n".join([COLUMNS, *filled, ""]))

    def arguments(self, *more: str) -> list[str]:
        """The command line, as this process or another one takes it."""
        places = [str(self.folder / "jobs.csv"), "--output-dir", str(self.out)]
        return ["batch", *places, *self._options, *more]

    def render(self, output: str) -> list[str]:
        """The command line of a single picture: a.png by b.png."""
        pictures = [str(self.folder / name) for name in ("a.png", "b.png")]
        return ["render", *pictures, "--output", output, *self._options[:-1]]

    def run(self, *more: str) -> Answer:
        assert self._capsys is not None
        self._capsys.readouterr()
        status = run(self.arguments("--json", *more))
        return Answer(status, *self._capsys.readouterr())

    def lines(self) -> list[dict[str, Any]]:
        """All lines of the ledger."""
        return [json.loads(line) for line in (self.out / "ledger.jsonl").read_text().splitlines()]

    def whole_lines(self) -> list[dict[str, Any]]:
        """The lines of the ledger but those that a kill has torn."""
        found: list[dict[str, Any]] = []
        for line in (self.out / "ledger.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def errors(self) -> dict[str, dict[str, Any] | None]:
        """What the last line of each job says of its failure."""
        return {line["job"]: line["error"] for line in self.lines()}

    def sums(self, names: Iterable[str]) -> dict[str, str]:
        return {name: hashlib.sha256((self.out / name).read_bytes()).hexdigest() for name in names}


def save(path: Path, seed: int) -> None:
    save_pixels(path, picture(32, 40, seed=seed))


def save_pixels(path: Path, pixels: np.ndarray) -> str:
    """Writes values of [0, 1] as a picture; returns its name."""
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)
    return str(path)


def save_job(folder: Path, number: int, output: str = "", size: Size = LANDSCAPE) -> Job:
    """A job whose content and style are files in a folder."""
    content = save_pixels(folder / f"c{number}.png", content_of(number, size))
    style = save_pixels(folder / f"s{number}.png", style_of(number))
    return Job(content, style, output or f"{number}.png")


class StopAfter(NullProgress):
    """Asks a run to stop once so many chunks are done; counts the steps of images."""

    def __init__(self, chunks: int) -> None:
        self.stop = StopToken()
        self.image_steps = 0
        self._left = chunks

    def on_step(self, image_steps: int) -> None:
        self.image_steps += image_steps
        self._left -= 1
        if self._left == 0:
            self.stop.request()


def start_process(
    code: str, command: Sequence[str], out: Path, *arguments: str, **variables: str
) -> subprocess.Popen:
    """A process that runs `code` with a batch's command line; variables of its environment."""
    command = [sys.executable, "-c", code, *command, "--output-dir", str(out), *arguments]
    environment = os.environ | variables
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def check_same(folder: Path, single: Path, count: int) -> None:
    """The bytes of a batch that one process rendered, and one row of the ledger a job."""
    names = [f"{number}.png" for number in range(count)]
    for name in names:
        assert (folder / name).read_bytes() == (single / name).read_bytes()
    rows = [(one["job"], one["status"]) for one in read_ledger(folder).values()]
    assert sorted(rows) == [(name, "done") for name in sorted(names)]


def mixed_batch(folder: Path, weights: str, count: int, *more: str) -> list[str]:
    """The command of a batch of mixed tiny jobs: two canvases, unequal numbers of steps."""
    rows = ["content,style,output,steps"]
    for number in range(count):
        save_job(folder, number, size=PORTRAIT if number % 4 == 3 else LANDSCAPE)
        rows.append(f"c{number}.png,s{number}.png,{number}.png,{400 + 100 * (number % 3)}")
    (folder / "jobs.csv").write_text("\n".join(rows))
    return [
        *("batch", str(folder / "jobs.csv"), "--weights", weights, "--size", "32"),
        *("--levels", "1", "--content-taps", "relu1_1", "--style-taps", "relu1_1"),
        *("--preset", "gram", "--no-report", *more),
    ]
