"""`nst-jax study layers | pixels | reconstruct | balance | neurons`: experiments on the method."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from nst_jax.cli.console import print_json
from nst_jax.cli.job_arguments import Rendering, find_pictures, open_run
from nst_jax.request.errors import OptionError
from nst_jax.request.paths import find_path
from nst_jax.request.studies import (
    BALANCE,
    LEARNING_RATES,
    NEURON_TAPS,
    RATIOS,
    STYLE_WEIGHTS,
    study_options,
)

if TYPE_CHECKING:
    from nst_jax.study.study import Study as Outcome

Picture = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CONTENT")]
StylePicture = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STYLE")]
Folder = Annotated[str, tyro.conf.arg(metavar="DIR")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _StudyCommand:
    """What every study takes."""

    output_dir: Folder
    """Where pictures, numbers and the page go."""
    quiet: bool = False
    """Say nothing but faults."""
    json: bool = False
    """Print the page's path and the study's numbers as one JSON object."""

    def run_study(self, make: Callable[..., "Outcome"], *what: Any, **how: Any) -> int:
        """Makes the study of these arguments and writes it; returns the exit status."""
        if not self.output_dir:
            raise OptionError("study must be told where to write, got an empty --output-dir")
        from nst_jax.files.folders import LocalFolder
        from nst_jax.study.study_files import study_record, write_study

        with open_run(how["options"], quiet=self.quiet or self.json) as run:
            study = make(*what, **how, **run, output_dir=self.output_dir)
        folder = Path(find_path(self.output_dir))
        LocalFolder(folder).make()
        page = write_study(study, folder)
        if self.json:
            print_json({"page": str(page)} | study_record(study))
        elif not self.quiet:
            print(f"Look at {page}")
        return 3 if any(cell.error for cell in study.cells) else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PairStudy(_StudyCommand):
    """What studies of a content and a style take."""

    content: Picture
    """The picture whose things are shown."""
    style: StylePicture
    """The picture whose manner is taken."""


@dataclasses.dataclass(frozen=True)
class Layers(_PairStudy):
    """Render every content tap with every depth of style, in one batch.

    Example: nst-jax study layers cat.jpg waves.jpg --output-dir layers
    """

    grid: Literal["full", "content", "style", "corners"] = "full"
    """Which cells: all; every content tap with the deepest style; every depth of style with one
    content tap; or the first and last of both."""
    balance: float = BALANCE
    """Weight of the style's term, which is 1 at the content, beside the content's, which is 1 at
    the style."""
    options: Rendering = dataclasses.field(default_factory=lambda: study_options("layers"))

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.layers import study_layers

        how = {"options": self.options, "grid": self.grid, "balance": self.balance}
        return self.run_study(study_layers, self.content, self.style, **how)


@dataclasses.dataclass(frozen=True)
class Pixels(_PairStudy):
    """See what happens without a network: blends, raw pixels, colours alone; hidden layers last.

    Example: nst-jax study pixels cat.jpg waves.jpg --output-dir pixels
    """

    ratios: tuple[float, ...] = RATIOS
    """Shares of the style, between 0 and 1, a column each."""
    options: Rendering = dataclasses.field(default_factory=lambda: study_options("pixels"))

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.pixels import study_pixels

        how = {"options": self.options, "ratios": self.ratios}
        return self.run_study(study_pixels, self.content, self.style, **how)


@dataclasses.dataclass(frozen=True)
class Reconstruct(_StudyCommand):
    """Reconstruct a content from each tap alone, and a style from each depth, from noise.

    Example: nst-jax study reconstruct cat.jpg waves.jpg --output-dir reconstruct
    """

    content: Picture
    """The picture to be found again."""
    style: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[STYLE]")] = ""
    """The picture whose texture is to be found again."""
    options: Rendering = dataclasses.field(default_factory=lambda: study_options("reconstruct"))

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.reconstruct import study_reconstruct

        style = self.style or None
        return self.run_study(study_reconstruct, self.content, style, options=self.options)


@dataclasses.dataclass(frozen=True)
class Balance(_PairStudy):
    """Render every style weight with every learning rate, or number of steps, as a grid.

    Example: nst-jax study balance cat.jpg waves.jpg --output-dir balance
    """

    style_weights: tuple[float, ...] = STYLE_WEIGHTS
    """A row each."""
    learning_rates: tuple[float, ...] = LEARNING_RATES
    """A column each, unless there are step counts."""
    step_counts: tuple[int, ...] = ()
    """A column each: steps at each level."""
    options: Rendering = dataclasses.field(default_factory=lambda: study_options("balance"))

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.balance import study_balance

        return self.run_study(
            study_balance,
            self.content,
            self.style,
            options=self.options,
            style_weights=self.style_weights,
            learning_rates=self.learning_rates,
            step_counts=self.step_counts,
        )


@dataclasses.dataclass(frozen=True)
class Neurons(_StudyCommand):
    """Show what channels respond to: patches of pictures, and pictures made to excite them.

    Example: nst-jax study neurons photos/ --output-dir neurons

    Example: nst-jax study neurons --taps relu3_1 --channels 17 80 --output-dir neurons
    """

    pictures: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[PATH...]")]
    """Pictures to look for patches in: files, folders or patterns. None: no patches."""
    taps: tuple[str, ...] = NEURON_TAPS
    """Where the channels are."""
    channels: tuple[int, ...] = ()
    """Their numbers, from 0, the same at each tap. None: the most selective ones."""
    count: int = 4
    """How many channels a tap, where none are named."""
    patches: int = 4
    """How many patches a channel."""
    options: Rendering = dataclasses.field(default_factory=lambda: study_options("neurons"))

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.neurons import study_neurons

        def make(*what: Any, stop: Any, **how: Any) -> "Outcome":
            del stop  # what is finished is kept, the others begin anew
            return study_neurons(*what, **how)

        where = self.output_dir
        (found,), _ = find_pictures(self.pictures, output_dir=where, quiet=self.quiet)
        return self.run_study(
            make,
            found,
            options=self.options,
            taps=self.taps,
            channels=self.channels,
            count=self.count,
            patches=self.patches,
        )


@dataclasses.dataclass(frozen=True)
class Study:
    """Experiments on the method itself: what each layer knows, one batch an experiment."""

    action: (
        Annotated[Layers, tyro.conf.subcommand("layers")]
        | Annotated[Pixels, tyro.conf.subcommand("pixels")]
        | Annotated[Reconstruct, tyro.conf.subcommand("reconstruct")]
        | Annotated[Balance, tyro.conf.subcommand("balance")]
        | Annotated[Neurons, tyro.conf.subcommand("neurons")]
    )

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        return self.action.run()
