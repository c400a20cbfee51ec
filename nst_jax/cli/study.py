"""`nst-jax study layers | pixels | reconstruct | balance | neurons`: experiments on the method."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from nst_jax.cli.console import print_json
from nst_jax.cli.job_arguments import Rendering
from nst_jax.cli.progress_bars import open_progress
from nst_jax.cli.signals import stop_on_signal
from nst_jax.request.errors import OptionError
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
class _Common:
    """What every study takes."""

    output_dir: Folder
    """Where pictures, numbers and the page go."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Say nothing but faults."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the page's path and the study's numbers as one JSON object."""

    def outcome(self, make: Callable[..., "Outcome"]) -> int:
        """Makes the study and writes it; returns the exit status."""
        if not self.output_dir:
            raise OptionError("study must be told where to write, got an empty --output-dir")
        from nst_jax.engine.device.process import configure_process
        from nst_jax.engine.run.writer import make_folder
        from nst_jax.engine.schedule.stop import StopToken
        from nst_jax.study.study_files import study_record, write_study

        stop = StopToken()
        with (
            stop_on_signal(stop),
            open_progress(quiet=self.quiet or self.json) as progress,
            configure_process(),
        ):
            study = make(output_dir=self.output_dir, progress=progress, stop=stop)
        make_folder(Path(self.output_dir))
        page = write_study(study, Path(self.output_dir))
        if self.json:
            print_json({"page": str(page)} | study_record(study))
        elif not self.quiet:
            print(f"Look at {page}")
        return 3 if any(cell.error for cell in study.cells) else 0


@dataclasses.dataclass(frozen=True)
class Layers(_Common):
    """Render every content tap with every depth of style, in one batch.

    Example: nst-jax study layers cat.jpg waves.jpg --output-dir layers
    """

    content: Picture
    """The picture whose things are shown."""
    style: StylePicture
    """The picture whose manner is taken."""
    grid: Literal["full", "content", "style", "corners"] = "full"
    """Which cells: all; every content tap with the deepest style; every depth of style with one
    content tap; or the first and last of both."""
    balance: float = BALANCE
    """Weight of the style's term, which is 1 at the content, beside the content's, which is 1 at
    the style."""
    options: Rendering = dataclasses.field(
        default_factory=functools.partial(study_options, "layers")
    )

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.layers import study_layers

        def make(**how: Any) -> "Outcome":
            chosen = {"grid": self.grid, "balance": self.balance}
            return study_layers(self.content, self.style, options=self.options, **chosen, **how)

        return self.outcome(make)


@dataclasses.dataclass(frozen=True)
class Pixels(_Common):
    """See what happens without a network: blends, raw pixels, colours alone; hidden layers last.

    Example: nst-jax study pixels cat.jpg waves.jpg --output-dir pixels
    """

    content: Picture
    """The picture whose things are shown."""
    style: StylePicture
    """The picture whose manner is taken."""
    ratios: tuple[float, ...] = RATIOS
    """Shares of the style, between 0 and 1, a column each."""
    options: Rendering = dataclasses.field(
        default_factory=functools.partial(study_options, "pixels")
    )

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.pixels import study_pixels

        def make(**how: Any) -> "Outcome":
            chosen = {"options": self.options, "ratios": self.ratios}
            return study_pixels(self.content, self.style, **chosen, **how)

        return self.outcome(make)


@dataclasses.dataclass(frozen=True)
class Reconstruct(_Common):
    """Reconstruct a content from each tap alone, and a style from each depth, from noise.

    Example: nst-jax study reconstruct cat.jpg waves.jpg --output-dir reconstruct
    """

    content: Picture
    """The picture to be found again."""
    style: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[STYLE]")] = ""
    """The picture whose texture is to be found again."""
    options: Rendering = dataclasses.field(
        default_factory=functools.partial(study_options, "reconstruct")
    )

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.reconstruct import study_reconstruct

        def make(**how: Any) -> "Outcome":
            return study_reconstruct(self.content, self.style or None, options=self.options, **how)

        return self.outcome(make)


@dataclasses.dataclass(frozen=True)
class Balance(_Common):
    """Render every style weight with every learning rate, or number of steps, as a grid.

    Example: nst-jax study balance cat.jpg waves.jpg --output-dir balance
    """

    content: Picture
    """The picture whose things are shown."""
    style: StylePicture
    """The picture whose manner is taken."""
    style_weights: tuple[float, ...] = STYLE_WEIGHTS
    """A row each."""
    learning_rates: tuple[float, ...] = LEARNING_RATES
    """A column each, unless there are step counts."""
    step_counts: tuple[int, ...] = ()
    """A column each: steps at each level."""
    options: Rendering = dataclasses.field(
        default_factory=functools.partial(study_options, "balance")
    )

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.study.balance import study_balance

        def make(**how: Any) -> "Outcome":
            return study_balance(
                self.content,
                self.style,
                options=self.options,
                style_weights=self.style_weights,
                learning_rates=self.learning_rates,
                step_counts=self.step_counts,
                **how,
            )

        return self.outcome(make)


@dataclasses.dataclass(frozen=True)
class Neurons(_Common):
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
    options: Rendering = dataclasses.field(
        default_factory=functools.partial(study_options, "neurons")
    )

    def run(self) -> int:
        """Runs the study; returns the exit status."""
        from nst_jax.files.picture_paths import expand_picture_paths
        from nst_jax.study.neurons import study_neurons

        listed = expand_picture_paths(self.pictures)

        def make(*, stop: Any, **how: Any) -> "Outcome":
            del stop  # what is finished is kept, the others begin anew
            return study_neurons(
                listed,
                options=self.options,
                taps=self.taps,
                channels=self.channels,
                count=self.count,
                patches=self.patches,
                **how,
            )

        return self.outcome(make)


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
