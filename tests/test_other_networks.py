"""Any network renders: VGG-19 as VGG-16 does, in both types; a publisher's file; one by the
environment.
"""

from pathlib import Path

import h5py
import networks
import numpy as np
import pytest
from engine_jobs import content_of, shared_programs, style_of, tiny_options, write_narrow_weights

from nst_jax import Job, Options, Result, render
from nst_jax.request.options import WEIGHTS_VARIABLE

DEEP = {"content_taps": ("relu3_4",), "style_taps": ("relu1_1", "relu4_4")}
"""Taps that only VGG-19 has."""


@pytest.fixture(scope="module")
def vgg19_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("vgg19")
    return write_narrow_weights(folder / "vgg19.h5", architecture="vgg19")


def rendered(weights: str, **changes: object) -> Result:
    options = tiny_options(weights, **{"levels": 1, "batch_size": 1, "steps": 20} | changes)
    return render(Job(content_of(0), style_of(0)), options=options)


def keras_file(path: Path) -> str:
    """The narrow network as Keras 2 stores it."""
    with h5py.File(path, "w") as file:
        for name, (kernel, bias) in networks.narrow_network("vgg19").convolutions.items():
            layer = f"block{name[4]}_conv{name[6]}"
            file[f"{layer}/{layer}/kernel:0"] = kernel
            file[f"{layer}/{layer}/bias:0"] = bias
    return str(path)


def test_vgg19_renders_at_taps_of_its_own(vgg19_file: str) -> None:
    with shared_programs():
        result = rendered(vgg19_file, **DEEP)
        start = rendered(vgg19_file, **DEEP, learning_rate=1e-9, steps=1)
    assert result.losses["total"] < 0.8 * start.losses["total"]


@pytest.mark.slow
def test_vgg19_in_bfloat16_is_near_float32(vgg19_file: str) -> None:
    """Narrow networks differ by up to 6 % in objective; see `test_precision`."""
    exact, coarse = (rendered(vgg19_file, **DEEP, dtype=dtype) for dtype in ("float32", "bfloat16"))
    np.testing.assert_allclose(coarse.losses["total"], exact.losses["total"], rtol=0.1)
    assert np.abs(coarse.image - exact.image).mean() < 0.05


def test_a_publishers_file_is_rendered_with_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NST_JAX_WEIGHTS_DIR", str(tmp_path / "converted"))
    with shared_programs():
        result = rendered(keras_file(tmp_path / "my vgg.h5"), steps=1)
        assert result.error is None
        [converted] = (tmp_path / "converted").iterdir()
        assert converted.name.startswith("my vgg-")
        assert rendered(str(converted), steps=1).fingerprint == result.fingerprint


def test_the_environment_names_the_network_where_no_option_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    assert Options().weights == "vgg16"
    monkeypatch.setenv(WEIGHTS_VARIABLE, "mine.h5")
    assert Options().weights == "mine.h5"
    assert Options(weights="yours.h5").weights == "yours.h5"
    monkeypatch.setenv(WEIGHTS_VARIABLE, "")
    assert Options().weights == "vgg16"
