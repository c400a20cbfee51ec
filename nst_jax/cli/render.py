"""`nst-jax render`: one content in the manner of one style or several."""

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated

import tyro

from nst_jax.cli.console import print_json
from nst_jax.cli.job_arguments import Rendering, note_another_network, open_run
from nst_jax.request.errors import OptionError
from nst_jax.request.job import Job, check_job
from nst_jax.request.outputs import check_output_suffix
from nst_jax.request.validators import SECONDS

if TYPE_CHECKING:
    from nst_jax.engine.results import Result

Masks = Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE...")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Render:
    """Render one content picture in the manner of one style picture, or of several blended.

    Example: nst-jax render cat.jpg waves.jpg --output cat_waves.png
    """

    content: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CONTENT")]
    """The picture whose things are shown."""
    style: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="STYLE")]
    """The picture, or the pictures, whose manner is taken."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")]
    """Where the output goes: .png, .jpg, .webp or .tif. A file of that name is replaced."""
    masks: Masks = ()
    """Where each style applies, one a style: grey pictures shaped as CONTENT, white where it
    does. What is black in all of them keeps the content. None: all styles everywhere."""
    style_masks: Masks = ()
    """Which part of each style counts, one a style. None: the whole picture."""
    init_image: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the optimisation starts from with --init file: a picture shaped as CONTENT."""
    options: Rendering
    checkpoint_every: float = 120.0
    """Seconds between two savings of the picture in progress, in a hidden file beside FILE; 0:
    only when it is interrupted. The same command goes on from there."""
    quiet: bool = False
    """Say nothing but faults."""
    verbose: bool = False
    """Also name each program that is compiled or loaded."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> int:
        """Renders; returns the exit status."""
        if not self.style:
            raise OptionError("render needs at least one style picture, got none")
        if "" in (self.content, *self.style):  # as a variable of the shell that is not set
            raise OptionError("content and style must name a picture, got nothing")
        job = Job(
            self.content,
            self.style,
            masks=self.masks,
            style_masks=self.style_masks,
            init_image=self.init_image,
        )
        check_job(job, self.options)
        SECONDS.check("checkpoint_every", self.checkpoint_every)
        check_output_suffix(self.output, bit_depth=self.options.bit_depth)
        if not self.quiet:
            note_another_network(self.options)
        from nst_jax.engine.render import render  # jax takes a second to import

        began, quiet = time.monotonic(), self.quiet or self.json
        with open_run(self.options, quiet=quiet, verbose=self.verbose) as run:
            every = self.checkpoint_every
            result = render(job, self.output, self.options, checkpoint_every=every, **run)
            run["progress"].note(_end_text(result, time.monotonic() - began))
        if self.json:
            print_json(result.record())
        return 0


def _end_text(result: "Result", seconds: float) -> str:
    """What was written where, and how long that took."""
    assert result.image is not None
    height, width, _ = result.image.shape
    parts = f"{result.seconds:.1f} s in steps, {result.compile_seconds:.1f} s preparing them"
    return f"wrote {result.output} ({width}x{height}) in {seconds:.1f} s: {parts}"
