"""`nst-jax score`: how near a picture is to its content and its style."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from nst_jax.cli.console import print_json
from nst_jax.request.errors import OptionError


@dataclasses.dataclass(frozen=True)
class Score:
    """Measure how near a finished picture is to its content and its style. 0 is the best.

    Example: nst-jax score cat.jpg waves.jpg cat_waves.png
    """

    content: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CONTENT")]
    """The content picture; it is scaled to the output's size."""
    style: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STYLE")]
    """The style picture; it is scaled to the output's long edge."""
    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUTPUT")]
    """The picture that was made of them."""
    size: int = 0
    """Long edge in pixels at which all are compared; 0: the output's own."""
    json: bool = False
    """Print the scores as one JSON object."""

    def run(self) -> int:
        """Prints the scores; returns the exit status."""
        if self.size < 0 or self.size > 16384:
            raise OptionError(f"size must be 0 or pixels up to 16384, got {self.size}")
        from nst_jax.engine.plan.local_devices import find_devices
        from nst_jax.scores import score  # jax takes a second to import

        find_devices()  # or why there are none
        scores = score(*map(Path, (self.content, self.style, self.output)), size=self.size or None)
        record = dataclasses.asdict(scores)
        if self.json:
            print_json(record)
            return 0
        for name, value in _rows(record):
            print(f"{name:24} {value:.6g}")
        return 0


def _rows(record: dict[str, float | dict[str, float]]) -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            rows += [(f"{name} {tap}", part) for tap, part in value.items()]
        else:
            rows.append((name, value))
    return rows
