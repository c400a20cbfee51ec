"""What the commands that render have in common: options, jobs, and how a run is watched.

A line gives some options; the preset, which may stand anywhere in it, decides the rest. So the
parser passes on what was given and nothing else, and shows a preset's values in `--help` alone.
"""

import contextlib
import dataclasses
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro._singleton import EXCLUDE_FROM_CALL  # as tyro's own TypedDicts have it: not passed on
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from nst_jax.cli.console import print_note
from nst_jax.cli.progress_bars import open_progress
from nst_jax.cli.signals import stop_on_signal
from nst_jax.request.errors import ManifestError, OptionError
from nst_jax.request.job import Job, every_pair
from nst_jax.request.manifest import parse_manifest, read_manifest
from nst_jax.request.options import Options
from nst_jax.request.outputs import is_url
from nst_jax.request.presets import DEFAULT_PRESET, find_preset

if TYPE_CHECKING:
    from nst_jax.engine.progress import Progress

Rendering = Annotated[Options, tyro.conf.arg(name="rendering")]
"""Options under a heading of their own in `--help`."""

PicturePaths = Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH...")]


def options_registry(arguments: Sequence[str]) -> ConstructorRegistry:
    """How tyro makes Options that have no default: of what the line gives alone.

    Args:
        arguments: The line. Where it asks for help, its preset's values are shown as defaults.

    Raises:
        OptionError: Help is asked for, with a preset that there is not.
    """
    named: list[str] = []
    if not {"-h", "--help"}.isdisjoint(arguments):
        named = re.findall(r"--preset[= ]([^\s-]\S*)", " ".join(arguments))
    shown = Options(preset=named[-1] if named else DEFAULT_PRESET)
    registry = ConstructorRegistry()
    is_asking = False  # for tyro's own rule, from within this one

    @registry.struct_rule
    def make_of_what_is_given(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal is_asking
        if info.type is not Options or is_asking:
            return None
        has_default = isinstance(info.default, Options)
        default = info.default if has_default else shown
        is_asking = True
        spec = registry.get_struct_spec(dataclasses.replace(info, default=default))
        is_asking = False
        assert isinstance(spec, StructConstructorSpec)  # of a dataclass and its own instance
        fields = (one for one in spec.fields if one.name != "given_names")
        return dataclasses.replace(
            spec, fields=tuple(fields if has_default else map(_omit_default, fields))
        )

    return registry


def _omit_default(field: StructFieldSpec) -> StructFieldSpec:
    """The same field, which only shows its default."""
    value = field.default
    text = shlex.join(map(str, value)) if isinstance(value, tuple) else str(value)
    hint = tyro.conf.arg(help_behavior_hint=f"(default: {text})")
    kind: Any = Annotated[field.type, hint]
    return dataclasses.replace(field, type=kind, default=EXCLUDE_FROM_CALL)


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
            return _read_manifest(self.manifest, self.options)
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
def open_run(options: Options, *, quiet: bool, is_here: bool = True) -> Iterator[dict[str, Any]]:
    """Prepares this process for rendering in a `with` block, until a signal stops it.

    Gives what the engine's functions are told of it: `progress` and `stop`.

    Args:
        options: The run's.
        quiet: Whether to say nothing but faults.
        is_here: Whether it renders itself; else its devices are left alone.
    """
    from nst_jax.engine.schedule.stop import StopToken  # jax takes a second to import

    stop = StopToken()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop_on_signal(stop))
        progress = stack.enter_context(open_progress(quiet=quiet))
        if is_here:
            from nst_jax.engine.device.runtime import configure_process

            stack.enter_context(configure_process())
            _note_unkept_programs()
            _note_devices(options, progress)
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


def note_another_network(options: Options) -> None:
    """Says so where a preset's weights were chosen for features of another size."""
    network = find_preset(options.preset).network
    if network and options.weights != network:
        print_note(
            f"preset {options.preset} is exact on {network} alone; on {options.weights} its terms "
            "have another balance: see content_weight, style_weight and tv_weight"
        )


def _read_manifest(name: str, options: Options) -> Sequence[Job]:
    if not is_url(name):
        return read_manifest(Path(name), options)
    from nst_jax.files.storage import RemoteFile

    try:
        content = RemoteFile(name).content
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ManifestError(f"manifest {name!r} can't be read: {reason}") from error
    return parse_manifest(content, name, options)
