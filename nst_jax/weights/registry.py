"""The table of known networks: `weights/registry.toml`, in a checkout or in a wheel."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nst_jax.request.errors import WeightsError

REGISTRY_NAME = "registry.toml"

CHECKOUT_FOLDER = Path(__file__).resolve().parents[2] / "weights"
"""Where the registry lies in a checkout, and where converted files go there."""


@dataclasses.dataclass(frozen=True)
class KnownWeights:
    """One network that is known by name. The registry file explains the other fields.

    Attributes:
        size: Bytes of the source file.
        checksum: Of the source file, as `algorithm:digits`; the digits may be the first few.
        mean: Its mean in our input convention, where an answer is kept.
        answer: Mean and standard deviation of each activation on the synthetic picture of
            `nst_jax.weights.verify`; empty where the file could not be had.
        path: Where the converted file lies; None if it is not converted yet.
    """

    name: str
    architecture: str
    publisher: str
    source: str
    licence: str
    size: int
    checksum: str
    verified_here: bool
    package: str = ""
    module: str = ""
    file: str = ""
    url: str = ""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    answer: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    path: Path | None = None


def read_registry() -> list[KnownWeights]:
    """Every entry of the registry, in its order, wherever its file may be.

    Raises:
        WeightsError: This installation has lost its registry.
    """
    with _registry_file().open("rb") as file:
        return [_parse_entry(entry) for entry in tomllib.load(file)["network"]]


def _parse_entry(entry: dict[str, Any]) -> KnownWeights:
    answer = {tap: tuple(values) for tap, values in entry.get("answer", {}).items()}
    return KnownWeights(**entry | {"mean": tuple(entry.get("mean", (0.0,) * 3)), "answer": answer})


def registry_entry(name: str) -> KnownWeights:
    """The registry's entry of a name that is sure to be in it."""
    return next(entry for entry in read_registry() if entry.name == name)


def _registry_file() -> Path:
    in_wheel = Path(__file__).with_name(REGISTRY_NAME)
    in_checkout = CHECKOUT_FOLDER / REGISTRY_NAME
    for path in (in_wheel, in_checkout):
        if path.is_file():
            return path
    raise WeightsError(
        f"the table of known weights, {str(in_wheel)!r}, does not exist", "Install nst_jax again."
    )
