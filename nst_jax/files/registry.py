"""The table of known networks: `weights/registry.toml`, in a checkout or in a wheel."""

import dataclasses
import tomllib
from pathlib import Path

from nst_jax.spec.errors import WeightsError

REGISTRY_NAME = "registry.toml"

CHECKOUT_FOLDER = Path(__file__).resolve().parents[2] / "weights"
"""Where the registry lies in a checkout, and where converted files go there."""


@dataclasses.dataclass(frozen=True)
class KnownWeights:
    """One network that is known by name. The registry file explains the other fields.

    Attributes:
        size: Bytes of the source file.
        sha256: Hash of the source file.
        path: Where the converted file lies; None if it is not converted yet.
    """

    name: str
    architecture: str
    source: str
    distribution: str
    module: str
    file: str
    size: int
    sha256: str
    licence: str
    verified_here: bool
    path: Path | None = None


def registered_weights() -> list[KnownWeights]:
    """Every entry of the registry, in its order, wherever its file may be.

    Raises:
        WeightsError: This installation has lost its registry.
    """
    with _registry_file().open("rb") as file:
        return [KnownWeights(**entry) for entry in tomllib.load(file)["network"]]


def registered(name: str) -> KnownWeights:
    """The registry's entry of a name that is sure to be in it."""
    return next(entry for entry in registered_weights() if entry.name == name)


def _registry_file() -> Path:
    in_wheel = Path(__file__).with_name(REGISTRY_NAME)
    in_checkout = CHECKOUT_FOLDER / REGISTRY_NAME
    for path in (in_wheel, in_checkout):
        if path.is_file():
            return path
    raise WeightsError(
        f"the table of known weights, {str(in_wheel)!r}, does not exist", "Install nst_jax again."
    )
