"""Our own format without its seal: another program has written it after our description."""

from pathlib import Path
from typing import Any

import h5py

from nst_jax.weights.containers.arrays import Arrays
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.format import FORMAT, VERSION
from nst_jax.weights.network import NetworkWeights
from nst_jax.weights.publishers.publisher import (
    InputConvention,
    Progress,
    PublishedNetwork,
    pair_arrays,
    read_published,
)

_ATTRIBUTES = ("format", "version", "architecture", "source", "source_sha256", "licence", "mean")


def is_ours(arrays: Arrays) -> bool:
    """Whether the arrays are called as in our format."""
    return "conv1_1/kernel" in arrays


def read_plain(path: Path, arrays: Arrays, progress: Progress) -> NetworkWeights:
    """The network of a plain HDF5 file in our layout.

    Args:
        path: The file, whose attributes say what the network is.
        arrays: What it holds.
        progress: Called after each convolution.

    Raises:
        InvalidWeights: It lacks an attribute, is of another version, or is no whole network.
    """
    with h5py.File(path, "r", locking=False) as file:  # many mounts have no locks
        told: dict[str, Any] = {
            name: value.decode() if isinstance(value, bytes) else value  # a text of fixed length
            for name, value in file.attrs.items()
        }
    if told.get("format") != FORMAT:
        raise InvalidWeights(
            f"is an HDF5 file, but its format attribute is not {FORMAT!r}", "Name its publisher."
        )
    for name in _ATTRIBUTES:
        if name not in told:
            raise InvalidWeights(f"must have the attribute {name!r}, but does not")
    if told["version"] != VERSION:
        raise InvalidWeights(
            f"has version {told['version']} of the format, but only version {VERSION} is read here",
            "Update nst_jax, or convert the weights again with this one.",
        )
    red, green, blue = told["mean"]
    groups = {name.partition("/")[0] for name in arrays}
    published = PublishedNetwork(
        pair_arrays(arrays, {group: f"{group}/" for group in groups}),
        convention=InputConvention("RGB", 1.0, (float(red), float(green), float(blue))),
        source=str(told["source"]),
        licence=str(told["licence"]),
    )
    weights = read_published(published, str(told["source_sha256"]), progress)
    if weights.architecture.name != told["architecture"]:
        raise InvalidWeights(
            f"must have {weights.architecture.name} as its architecture, "
            f"got {told['architecture']!r}"
        )
    if told.get("content_sha256", weights.content_sha256) != weights.content_sha256:
        raise InvalidWeights(
            "is damaged: its numbers do not have the checksum that they were written with"
        )
    return weights
