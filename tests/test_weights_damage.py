"""Files of every kind that are damaged by chance: each is converted, or refused in one line.

HDF5's and SciPy's readers may crash or hang on them, so each is read in a child, as users' files
are. Those that code of ours reads are tried in this process as well, and many more of them.
"""

import random
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch_files
from networks import Network, narrow_network

from nst_jax.request.errors import WeightsError
from nst_jax.weights.convert import convert, convert_here
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.format import read_weights

INTERESTING = (0, 1, 2, 7, 8, 14, 15, 0xFF, 0xFFFF, 0x10001, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)

ONE_EACH = (1, 1, 1, 1, 1)
"""Channels of a network that is hardly more than its names: most of its file is structure."""


def hdf5_file(libver: str = "earliest", **options: object) -> Callable[[Path, Network], None]:
    def write(path: Path, network: Network) -> None:
        with h5py.File(path, "w", libver=libver) as file:
            for name, pair in network.convolutions.items():
                layer = name.replace("conv", "block").replace("_", "_conv")
                for part, array in zip(("kernel:0", "bias:0"), pair, strict=True):
                    file.create_dataset(f"{layer}/{layer}/{part}", data=array, **options)

    return write


def matlab_file(path: Path, network: Network, *, compressed: bool = False) -> None:
    layers = np.empty((1, len(network.convolutions)), object)
    layers[0, :] = [
        {"type": "conv", "name": name, "filters": np.abs(kernel), "biases": bias[None]}
        for name, (kernel, bias) in network.convolutions.items()
    ]
    scipy.io.savemat(path, {"layers": layers}, do_compression=compressed)


def torch_file(kind: str) -> Callable[[Path, Network], None]:
    def write(path: Path, network: Network) -> None:
        state = torch_files.state_dict(network, classifier=())
        path.write_bytes(torch_files.foreign_file(state, kind))

    return write


IN_CHILD: dict[str, Callable[[Path, Network], None]] = {
    "HDF5": hdf5_file(),
    "HDF5, compressed": hdf5_file(compression="gzip"),
    "HDF5, latest": hdf5_file("latest"),
    "MATLAB": matlab_file,
    "MATLAB, compressed": lambda path, network: matlab_file(path, network, compressed=True),
}
BY_US = {kind: torch_file(kind) for kind in torch_files.FORMATS}


def damaged(path: Path, count: int, seed: int) -> Iterator[bytes]:
    """Truncations, bytes that were changed, added or cut out, and lengths that lie."""
    rng = random.Random(seed)
    content = path.read_bytes()
    small = [
        at for at in range(0, len(content) - 4, 4) if content[at + 2 : at + 4] == b"\0\0"
    ]  # what may be a tag, a length or an address
    for _ in range(count):
        changed = bytearray(content)
        at = rng.randrange(len(content))
        match rng.randrange(6):
            case 0:
                del changed[at:]
            case 1:
                del changed[at : at + rng.choice([1, 4, 40])]
            case 2:
                changed[at:at] = rng.randbytes(rng.choice([1, 4, 40]))
            case 3:
                for _ in range(rng.choice([1, 1, 2, 8])):
                    changed[rng.randrange(len(content))] = rng.randrange(256)
            case _:
                struct.pack_into("<I", changed, rng.choice(small), rng.choice(INTERESTING))
        yield bytes(changed)


def is_converted(change: Callable[[Path, Path], object], source: Path, content: bytes) -> bool:
    """Whether a file becomes a network; all but that or one clear line is a failure."""
    source.write_bytes(content)
    folder = source.parent / "out"
    folder.mkdir(exist_ok=True)
    destination = folder / "out.h5"
    error = None
    try:
        change(source, destination)
    except WeightsError as caught:
        error = caught
    assert not isinstance(error, InvalidWeights)
    assert "\n" not in str(error)
    assert "Error" not in str(error)
    assert [path.name for path in folder.iterdir()] == ([] if error else ["out.h5"])
    if not error:
        assert all(np.isfinite(array).all() for _, array in read_weights(destination).tensors())
        destination.unlink()
    return error is None


def prove_each_ends_well(
    change: Callable[[Path, Path], object], kind: str, folder: Path, count: int
) -> None:
    source = folder / "source"
    (IN_CHILD | BY_US)[kind](source, narrow_network("vgg16", channels=ONE_EACH))
    assert is_converted(change, source, source.read_bytes())
    ends = [is_converted(change, source, content) for content in damaged(source, count, seed=1)]
    assert not all(ends)
    assert any(not end for end in ends)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient_reader")
@pytest.mark.parametrize("kind", [*IN_CHILD, *BY_US])
def test_a_damaged_file_ends_well_in_a_child(kind: str, tmp_path: Path) -> None:
    count = 80 if kind in IN_CHILD else 6
    began = time.monotonic()
    prove_each_ends_well(convert, kind, tmp_path, count)
    assert time.monotonic() - began < (count + 1) * 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", BY_US)
def test_a_damaged_file_ends_well_in_this_process(kind: str, tmp_path: Path) -> None:
    prove_each_ends_well(convert_here, kind, tmp_path, 400)
