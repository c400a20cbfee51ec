"""`nst-jax score`: how near a picture is to its content and its style."""

import dataclasses
from collections.abc import Mapping
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
        from nst_jax.scores import compare, load_together  # jax takes a second to import

        find_devices()  # or why there are none
        paths = map(Path, (self.content, self.style, self.output))
        content, style, output = load_together(*paths, size=self.size or None)
        scores = dataclasses.asdict(compare(content, style, output))
        untouched = dataclasses.asdict(compare(content, style, content))
        if self.json:
            print_json(scores | {"untouched": untouched})
            return 0
        height, width, _ = output.shape
        print(f"Distances at {width}x{height} px; 0 is the best of each.")
        print(f"{'':26}{'the picture':>14}{'untouched photo':>18}")
        for name, sentence in _SENTENCES.items():
            print(f"\n{sentence}")
            for (row, value), (_, before) in zip(
                _rows(name, scores[name]), _rows(name, untouched[name]), strict=True
            ):
                print(f"  {row:24}{value:>14.4g}{before:>18.4g}")
        return 0


_SENTENCES = {
    "crowsonkb": "All together, as crowsonkb's program and the default look weigh it.",
    "content": "Content: how far features at relu4_2 are from the photo's, of their own size.",
    "content_mse": "The same as a mean squared difference.",
    "lpips": "Content as people see it: LPIPS, a learned distance from the photo.",
    "wasserstein": "Style: how far means and covariances of features are from the style's.",
    "gram": "Style: the same by Gram matrices, of the style's own size.",
    "colors_to_style": "Colours: how far those of the picture are from the style's.",
    "colors_to_content": "Colours: how far they are from the photo's.",
}
"""What each score says, in the order of interest."""


def _rows(name: str, value: float | Mapping[str, float]) -> list[tuple[str, float]]:
    return [*value.items()] if isinstance(value, Mapping) else [(name, value)]
