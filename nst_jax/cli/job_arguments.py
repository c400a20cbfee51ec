"""What the commands that render have in common: jobs, and how a run is watched."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from nst_jax.cli.console import print_note
from nst_jax.cli.progress_bars import open_progress
from nst_jax.cli.signals import stop_on_signal
from nst_jax.request.errors import OptionError
from nst_jax.request.job import Job, every_pair
from nst_jax.request.options import Options
from nst_jax.request.presets import find_preset

if TYPE_CHECKING:
    from nst_jax.engine.progress import Progress

Rendering = Annotated[Options, tyro.conf.arg(name="")]
"""Options under headings of their own in `--help`; see `option_groups`."""

PicturePaths = Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH...")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobsCommand:
    """What commands take that are about many jobs."""

    manifest: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[MANIFEST]")] = ""
    """A file with a row a job."""
    contents: PicturePaths = ()
    """Content pictures: files, folders or patterns. Outputs are called CONTENT__STYLE.png; where a
    pattern covers many folders, as f/*/1.jpg does, by the path below: a_1__STYLE.png."""
    styles: PicturePaths = ()
    """Style pictures: files, folders or patterns."""
    options: Rendering

    def load_jobs(self, *, output_dir: str = "", quiet: bool) -> Sequence[Job]:
        """Reads the manifest, or pairs every content with every style.

        Args:
            output_dir: Whose outputs, by its ledger, are no contents and no styles.
            quiet: Whether nothing is said of files that are left out.

        Raises:
            OptionError: Both forms, neither, or half of the second.
            ManifestError: The manifest is wrong in itself.
            RequestError: A place that holds no picture.
        """
        pairs = bool(self.contents or self.styles)
        if bool(self.manifest) == pairs:
            command, got = type(self).__name__.lower(), "both" if pairs else "neither"
            raise OptionError(
                f"{command} needs a manifest, or --contents and --styles, got {got}",
                f"See nst-jax {command} --help",
            )
        if not pairs:
            from nst_jax.files.find_jobs import read_manifest

            return read_manifest(self.manifest, self.options)
        if not (self.contents and self.styles):
            missing = "--styles" if self.contents else "--contents"
            raise OptionError(f"--contents and --styles go together, {missing} is missing")
        places = self.contents, self.styles
        (contents, styles), names = find_pictures(*places, output_dir=output_dir, quiet=quiet)
        return every_pair(contents, styles, names)


def find_pictures(
    *places: Sequence[str], output_dir: str = "", quiet: bool
) -> tuple[list[list[str]], Mapping[str, str]]:
    """The pictures of each list of files, folders and patterns; notes count what is left out.

    Also tells what outputs call them where a pattern covers many folders, by their paths.

    Raises:
        OptionError: A folder or a pattern holds no picture.
        OutputError: The ledger of the output folder can't be read.
    """
    from nst_jax.files.own_files import OwnFiles
    from nst_jax.files.picture_paths import PictureSearch, expand_picture_paths, passed_over_text

    search = PictureSearch(OwnFiles(output_dir))
    found = [expand_picture_paths(some, search) for some in places]
    if search.passed_over and not quiet:
        print_note(passed_over_text(search.passed_over))
    if search.left_out and not quiet:
        count = len(search.left_out)
        pictures = "1 picture is" if count == 1 else f"{count} pictures are"
        first, *more = sorted(set(search.left_out.values()))
        rest = f" and {len(more)} more" if more else ""
        print_note(f"{pictures} left out: earlier runs have put them into {first!r}{rest}")
    return found, search.names


@contextlib.contextmanager
def open_run(
    options: Options, *, quiet: bool, verbose: bool = False, is_here: bool = True
) -> Iterator[dict[str, Any]]:
    """Prepares this process for rendering in a `with` block, until a signal stops it.

    Gives what the engine's functions are told of it: `progress` and `stop`.

    Args:
        options: The run's.
        quiet: Whether to say nothing but faults.
        verbose: Whether to name each program that is compiled or loaded.
        is_here: Whether it renders itself; else its devices are left alone.
    """
    from nst_jax.engine.schedule.stop import StopToken  # jax takes a second to import

    stop = StopToken()
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(open_progress(quiet=quiet, verbose=verbose))
        stack.enter_context(stop_on_signal(stop, progress.note))
        if is_here:
            from nst_jax.engine.device.runtime import configure_process

            stack.enter_context(configure_process())
            _note_unkept_programs()
            _note_devices(options, progress)
            _note_converted_weights(options, progress)
        yield {"progress": progress, "stop": stop}


def _note_unkept_programs() -> None:
    """Says so where the folder that the user has named for programs can't be used."""
    from nst_jax.files.kept_programs import CACHE_VARIABLE, is_off, unkept_text

    if os.environ.get(CACHE_VARIABLE) and not is_off() and (why := unkept_text()):
        print_note(f"{CACHE_VARIABLE} can't be used, so programs are compiled anew: {why}")


def _note_devices(options: Options, progress: "Progress") -> None:
    """Says what this runs on; that it is not what was installed for is a fault, and always said."""
    from nst_jax.engine.plan.devices import choose_precision, data_mesh
    from nst_jax.engine.plan.local_devices import find_devices, missed_gpu_text

    devices = data_mesh(find_devices())
    progress.note(f"on {devices.text(choose_precision(options, devices))}")
    if missed := missed_gpu_text():
        print_note(missed)


def _note_converted_weights(options: Options, progress: "Progress") -> None:
    """Says what a file of another program holds, and where it lies once it is converted."""
    from nst_jax.weights.find import describe_source, find_weights, known_weights

    if options.weights in {entry.name for entry in known_weights()}:
        return
    path = find_weights(options.weights)
    if path.name != os.path.basename(options.weights):
        progress.note(f"weights {options.weights!r} are kept as {path}: {describe_source(path)}")


def note_another_network(options: Options) -> None:
    """Says so where a preset's weights were chosen for features of another size."""
    network = find_preset(options.preset).network
    if network and options.weights != network:
        print_note(
            f"preset {options.preset} is exact on {network} alone; on {options.weights} its terms "
            "have another balance: see content_weight, style_weight and tv_weight"
        )
