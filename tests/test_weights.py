"""Weight files: what is written is read, and whatever is damaged is refused in one sentence.

Networks are narrow and seeded. `plain_file` writes the layout as another program would,
with h5py alone: such a file is converted, and a fault is found by the check that it is meant
for and not by the seal, which would refuse any edited file.
"""

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from weight_files import MEAN, convert_source, make_weights, refusal

from nst_jax.request.errors import WeightsError
from nst_jax.request.taps import VGG16, VGG19, Architecture
from nst_jax.weights import format as weights_module
from nst_jax.weights.format import read_weights, report_of, write_weights
from nst_jax.weights.network import NetworkWeights

SEAL_START = b"nst_jax weights, sha256 of all bytes after this line: "

Edit = Callable[[Any], object]
"""Of an open HDF5 file."""


def changed(name: str, kernel: object, bias: object) -> NetworkWeights:
    network = make_weights()
    convolutions = {**network.convolutions, name: (np.array(kernel), np.array(bias))}
    return dataclasses.replace(network, convolutions=convolutions)


def saved(path: Path, network: NetworkWeights | None = None) -> Path:
    write_weights(path, network or make_weights())
    return path


def plain_file(path: Path, edit: Edit = lambda file: None) -> Path:
    """A file made from the published description, without either checksum, then edited."""
    with h5py.File(path, "w") as file:
        file.attrs.update(format="nst_jax weights", version=1, architecture="vgg16")
        file.attrs.update(source="a test", source_sha256="0" * 64, licence="none", mean=MEAN)
        for name, tensor in make_weights().tensors():
            file[name] = tensor
        edit(file)
    return path


# What is written is what is read.


@pytest.mark.parametrize("architecture", [VGG16, VGG19], ids=lambda it: it.name)
def test_what_is_written_is_read_by_us_and_any_hdf5_program_and_reported(
    tmp_path: Path, architecture: Architecture
) -> None:
    network = make_weights(architecture)
    path = saved(tmp_path / "narrow.h5", network)
    read = read_weights(path)
    assert read.architecture is architecture
    assert list(read.convolutions) == list(architecture.convolutions)
    with h5py.File(path) as file:
        assert file.attrs["format"] == "nst_jax weights"
        assert file.attrs["version"] == 1
        assert file.attrs["architecture"] == architecture.name
        np.testing.assert_array_equal(file.attrs["mean"], MEAN)
        assert sorted(file) == sorted(architecture.convolutions)
        for (name, wanted), (_, got) in zip(network.tensors(), read.tensors(), strict=True):
            np.testing.assert_array_equal(got, wanted, err_msg=name)
            np.testing.assert_array_equal(file[name], wanted, err_msg=name)
            assert got.dtype == np.float32
            assert not got.flags.writeable
    assert (read.mean, read.source, read.source_sha256) == (MEAN, "a test", "0" * 64)
    report = report_of(read)
    assert report.architecture == architecture.name
    assert report.convolutions == len(network.convolutions)
    assert report.parameters == sum(tensor.size for _, tensor in network.tensors())
    assert report.channels == tuple(b.size for _, b in network.convolutions.values())
    assert report.content_sha256 == read.content_sha256 == network.content_sha256
    assert (report.source, report.licence, read.licence) == ("a test", "none", "none")


def test_a_plain_file_of_another_program_is_converted(tmp_path: Path) -> None:
    path = plain_file(tmp_path / "plain.h5")
    with path.open() as held:  # HDF5's own lock is refused then, as by mounts that have none
        fcntl.flock(held, fcntl.LOCK_EX)
        read = convert_source(path)
    assert read.content_sha256 == make_weights().content_sha256
    assert (read.mean, read.source, read.source_sha256) == (MEAN, "a test", "0" * 64)
    texts = lambda file: file.attrs.update(architecture=np.bytes_("vgg16"), licence="free")  # noqa: E731
    assert convert_source(plain_file(tmp_path / "other.h5", texts)).licence == "free"


def test_the_checksums_are_those_that_the_readme_describes(tmp_path: Path) -> None:
    network = make_weights()
    digest = hashlib.sha256()
    for name in VGG16.convolutions:
        for part, tensor in zip(("kernel", "bias"), network.convolutions[name], strict=True):
            digest.update(" ".join([f"{name}/{part}", *map(str, tensor.shape)]).encode() + b"\n")
            digest.update(tensor.astype("<f4").tobytes())
    digest.update(np.array(MEAN, "<f8").tobytes())
    assert network.content_sha256 == digest.hexdigest()
    content = saved(tmp_path / "narrow.h5", network).read_bytes()
    line, rest = content.split(b"\n", maxsplit=1)
    assert line == SEAL_START + hashlib.sha256(rest).hexdigest().encode()
    index = json.loads(rest.split(b"\n", maxsplit=1)[0])
    assert index["content_sha256"] == network.content_sha256
    for name, tensor in network.tensors():
        start, *shape = index["arrays"][name]
        stored = np.frombuffer(content[start : start + tensor.nbytes], "<f4")
        np.testing.assert_array_equal(stored.reshape(shape), tensor)


def test_every_number_and_the_mean_count_for_the_checksum() -> None:
    network = make_weights()
    kernel, bias = network.convolutions["conv5_3"]
    nudged = changed("conv5_3", kernel, np.nextafter(bias, np.float32(9)))
    other_mean = dataclasses.replace(network, mean=(0.5, 0.456, 0.406))
    other_source = dataclasses.replace(network, source="elsewhere", source_sha256="", licence="")
    assert nudged.content_sha256 != network.content_sha256
    assert other_mean.content_sha256 != network.content_sha256
    assert other_source.content_sha256 == network.content_sha256


def test_equal_networks_make_equal_bytes_at_any_time(tmp_path: Path) -> None:
    first = saved(tmp_path / "first.h5").read_bytes()
    time.sleep(1.1)  # HDF5 keeps times in seconds
    assert saved(tmp_path / "second.h5").read_bytes() == first


# Damaged bytes.


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not weights\n", "does not begin as one"),
        (b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096, "does not begin as one"),
        (b"nst_jax weights", "does not begin as one"),
        (SEAL_START, "do not have their checksum"),
        (SEAL_START + b"0" * 64 + b"\n{}", "do not have their checksum"),
    ],
)
def test_what_is_no_weights_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "other.h5"
    path.write_bytes(content)
    assert words in refusal(path, read_weights).message


def damaged(content: bytes) -> Iterator[bytes]:
    """Cut short anywhere, with each byte of the seal itself and with any bytes changed."""
    for length in [*range(1, len(content), 997), len(content) - 1]:
        yield content[:length]
    for position in range(512):
        yield content[:position] + b"\x01" + content[position + 1 :]
    generator = random.Random(0)
    for _ in range(600):
        mutated = bytearray(content)
        for _ in range(generator.choice([1, 1, 2, 5])):
            mutated[generator.randrange(len(content))] ^= generator.randrange(1, 256)
        if mutated != content:
            yield bytes(mutated)


def test_any_damage_is_refused_before_hdf5_reads_it(tmp_path: Path) -> None:
    """HDF5's reader crashes or hangs on some of these; see `nst_jax.weights.seal`."""
    path = saved(tmp_path / "narrow.h5")
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        refusal(path, read_weights)


def resealed(path: Path, edit: Callable[[Any], object]) -> Path:
    """A sound file whose index is edited and then sealed again, as an attacker could."""
    content = saved(path).read_bytes()
    rest = content.split(b"\n", maxsplit=1)[1]
    index = json.loads(rest.split(b"\n", maxsplit=1)[0])
    edit(index)
    room = 16384 - len(SEAL_START) - 65
    sealed = (json.dumps(index).encode() + b"\n").ljust(room, b"\0") + content[16384:]
    path.write_bytes(SEAL_START + hashlib.sha256(sealed).hexdigest().encode() + b"\n" + sealed)
    return path


def placed(*place: object) -> Callable[[Any], object]:
    return lambda index: index["arrays"].update({"conv1_1/bias": [*place]})


LIES: list[Callable[[Any], object]] = [
    placed(10**15, 2),
    placed(-4, 2),
    placed(0, 2**62, 2**62),
    placed(0, -1),
    placed(),
    placed("a", "b"),
    placed(0, 1.5),
    lambda index: index.update(arrays=[]),
    lambda index: index.update(arrays={}),
    lambda index: index["arrays"].update(more=[0, 1]),
    lambda index: index.update(mean=None),
    lambda index: index.update(mean=["a", "b", "c"]),
    lambda index: index.update(architecture="vgg17"),
    lambda index: index.update(architecture="vgg19"),
    lambda index: index.update(content_sha256="0" * 64),
    lambda index: index.update(mean=[0.5, 0.5, 0.5]),
    lambda index: index.clear(),
]


def test_a_seal_that_lies_is_refused(tmp_path: Path) -> None:
    sound = resealed(tmp_path / "lies.h5", lambda index: None)
    assert read_weights(sound).content_sha256 == make_weights().content_sha256
    for lie in LIES:
        refusal(resealed(tmp_path / "lies.h5", lie), read_weights)


def test_a_sealed_file_is_read_without_hdf5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seal can be made by anyone, so that what lies behind it is not trusted to HDF5."""
    path = saved(tmp_path / "narrow.h5")
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("HDF5 was asked"))
    assert read_weights(path).content_sha256 == make_weights().content_sha256


# Faults of a plain file's content. Each edit is one fault in an otherwise sound file.


def replaced(name: str, array: object) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = array

    return edit


def attribute(name: str, value: object) -> Edit:
    return lambda file: file.attrs.__setitem__(name, value)


def not_finite(value: float) -> Edit:
    return lambda file: file["conv2_1/kernel"].__setitem__((0, 0, 0, 0), value)


FAULTS: dict[str, tuple[Edit, str]] = {
    "no format": (lambda file: file.attrs.pop("format"), "its format attribute is not"),
    "other format": (attribute("format", "keras"), "its format attribute is not"),
    "newer version": (attribute("version", 2), "has version 2 of the format"),
    "other network": (attribute("architecture", "vgg19"), "must have vgg16 as its architecture"),
    **{
        f"no {name}": (
            lambda file, name=name: file.attrs.pop(name),
            f"must have the attribute {name!r}",
        )
        for name in ("version", "architecture", "source", "source_sha256", "licence", "mean")
    },
    "many names": (attribute("architecture", ["vgg16"] * 9), "is damaged"),
    "a mean of two": (attribute("mean", [0.5, 0.5]), "is damaged"),
    "a mean in words": (attribute("mean", ["a", "b", "c"]), "is damaged"),
    "a mean of 255": (attribute("mean", [123.7, 116.8, 103.9]), "three numbers from 0 to 1"),
    "a mean of nan": (attribute("mean", [np.nan, 0.5, 0.5]), "three numbers from 0 to 1"),
    "no last group": (lambda file: file.pop("conv5_3"), "must have 2, 2, 3, 3, 3 (vgg16)"),
    "no bias": (lambda file: file.pop("conv4_2/bias"), "must hold conv4_2/bias"),
    "text": (replaced("conv1_1/bias", "a"), "must hold conv1_1/bias"),
    "a scalar": (replaced("conv1_1/kernel", np.float32(1)), "the shape ()"),
    "no channels": (replaced("conv1_1/kernel", np.ones((3, 3, 3, 0), "f4")), "1 or more"),
    "five by five": (replaced("conv1_1/kernel", np.ones((5, 5, 3, 3), "f4")), "got (5, 5, 3, 3)"),
    "other order": (replaced("conv1_1/kernel", np.ones((8, 3, 3, 3), "f4")), "got (8, 3, 3, 3)"),
    "broken chain": (
        replaced("conv3_1/kernel", np.ones((3, 3, 77, 2), "f4")),
        "must hold conv3_1/kernel in the shape (3, 3, ",
    ),
    "a long bias": (replaced("conv1_1/bias", np.ones(99, "f4")), "conv1_1/bias in the shape"),
    "nan": (not_finite(np.nan), "not finite in conv2_1/kernel"),
    "infinity": (not_finite(-np.inf), "not finite in conv2_1/kernel"),
    "other checksum": (attribute("content_sha256", "0" * 64), "the checksum that they were"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_and_the_fault_is_named(tmp_path: Path, fault: str) -> None:
    edit, words = FAULTS[fault]
    assert words in refusal(plain_file(tmp_path / "faulty.h5", edit)).message


def test_the_remedy_fits_the_fault(tmp_path: Path) -> None:
    newer = plain_file(tmp_path / "newer.h5", attribute("version", 2))
    assert refusal(newer).remedy.startswith("Update nst_jax")
    assert refusal(newer, read_weights).remedy.startswith("Convert it first")
    damaged = saved(tmp_path / "damaged.h5")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    remedy = refusal(damaged, read_weights).remedy
    assert remedy.startswith("Delete it and run the command again")


# Files that can't be read or written.


def test_a_missing_file_a_folder_a_pipe_and_what_the_system_withholds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "narrow.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    for other, words in (
        (tmp_path / "missing.h5", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe.h5", "is no ordinary file"),
    ):
        assert words in refusal(other, read_weights).message
    for number, words in (
        (errno.EACCES, "may not be read by this user"),
        (errno.EIO, "could not be read: Input/output error"),
    ):
        fault = OSError(number, "[Errno 5] Unable to synchronously open file (addr = 0)")
        # Not chmod: root may read everything.
        monkeypatch.setattr(Path, "open", mock.Mock(side_effect=fault))
        assert words in refusal(path, read_weights).message


def test_a_destination_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.h5").mkdir()
    for name in ("weights.npz", "weights", "weights.h5.old", "missing/narrow.h5", "folder.h5"):
        is_named_well = name.endswith(".h5")
        words = "can't be written to" if is_named_well else r"must end in \.h5"
        with pytest.raises(WeightsError, match=words) as caught:
            write_weights(tmp_path / name, make_weights())
        assert caught.value.remedy
        assert (caught.value.__cause__ is not None) == is_named_well
    assert [path.name for path in tmp_path.iterdir()] == ["folder.h5"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_full_or_locked_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, index: object) -> None:
        path.write_bytes(b"half")
        raise OSError(number, "HDF5 says much here")

    path = saved(tmp_path / "narrow.h5")
    before = path.read_bytes()
    monkeypatch.setattr(weights_module, "write_seal", refuse)
    with pytest.raises(WeightsError, match=os.strerror(number)):
        write_weights(path, make_weights(seed=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


ONES = np.ones((3, 3, 3, 2), np.float32)
WIDER = np.ones((3, 3, 4, 2), np.float32)
WHOLE = make_weights().convolutions
NO_NUMBERS = WHOLE["conv1_1"][0] * np.float32(np.nan)
LESS = {name: pair for name, pair in WHOLE.items() if name != "conv5_3"}


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (changed("conv1_1", NO_NUMBERS, WHOLE["conv1_1"][1]), "not finite"),
        (changed("conv1_1", WIDER, ONES[0, 0, 0]), r"\(3, 3, 3, 1 or more\)"),
        (changed("conv1_1", ONES, np.ones(3, np.float32)), r"\(2,\)"),
        (
            changed("conv5_3", WHOLE["conv5_3"][0], WHOLE["conv5_3"][1].astype(np.float64)),
            "conv5_3/bias as float32, got float64",  # not quietly rounded
        ),
        (dataclasses.replace(make_weights(), convolutions=LESS), "must hold conv5_3"),
        (dataclasses.replace(make_weights(), licence="x" * 20000), "must describe itself in"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    tmp_path: Path, network: NetworkWeights, words: str
) -> None:
    with pytest.raises(WeightsError, match=words):
        write_weights(tmp_path / "bad.h5", network)
    assert not list(tmp_path.iterdir())


WRITER = """
import sys
from pathlib import Path
from nst_jax.weights.format import read_weights, write_weights

folder = Path(sys.argv[1])
networks = [read_weights(folder / name) for name in ("first.h5", "second.h5")]
print("ready", flush=True)
while True:
    for network in networks:
        write_weights(folder / "shared.h5", network)
"""


def test_a_reader_meets_whole_files_while_another_process_writes(tmp_path: Path) -> None:
    first, second = make_weights(seed=1), make_weights(seed=2)
    for name, network in (("first", first), ("second", second), ("shared", first)):
        saved(tmp_path / f"{name}.h5", network)
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            until = time.monotonic() + 2
            seen = set()
            while time.monotonic() < until:
                seen.add(read_weights(tmp_path / "shared.h5").content_sha256)
            assert writer.poll() is None
        finally:
            writer.kill()
    assert seen == {first.content_sha256, second.content_sha256}
