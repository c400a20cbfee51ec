"""Resampling on a canvas, against formulas in float64 and against Pillow."""

import jax
import numpy as np
import pytest
import references_resampling
from PIL import Image

from nst_jax.model.resample import Kernel, bicubic, bilinear, lanczos, resample, weights

Size = tuple[int, int]

KERNELS = {
    "lanczos": (lanczos, references_resampling.lanczos, Image.Resampling.LANCZOS),
    "bicubic": (bicubic, references_resampling.bicubic, Image.Resampling.BICUBIC),
    "bilinear": (bilinear, references_resampling.triangle, Image.Resampling.BILINEAR),
}
EACH_KERNEL = pytest.mark.parametrize(
    ("kernel", "by_hand", "of_pillow"), KERNELS.values(), ids=list(KERNELS)
)

SIZES = {
    "enlarged": ((24, 34), (34, 48)),
    "odd": ((17, 23), (25, 33)),
    "shrunk": ((48, 61), (17, 33)),
    "shrunk much": ((61, 64), (3, 5)),
    "one of each": ((20, 64), (48, 9)),
    "one side stays": ((13, 40), (13, 56)),
    "from one line": ((1, 9), (4, 13)),
    "to one pixel": ((9, 14), (1, 1)),
    "from one pixel": ((1, 1), (5, 7)),
    "much larger": ((5, 7), (48, 64)),
}
CANVAS_IN, CANVAS_OUT = (64, 72), (48, 64)

_resample = jax.jit(resample, static_argnames=("canvas", "kernel"))


def _random(size: Size, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((*size, 3), np.float32)


def _on_canvas(pixels: np.ndarray, canvas: Size, outside: float) -> np.ndarray:
    whole = np.full((*canvas, 3), outside, np.float32)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return whole


def _resampled(
    pixels: np.ndarray, size: Size, kernel: Kernel, *, outside: float = np.nan
) -> np.ndarray:
    """By the compiled function, without the rest of the canvas, which must be zeros."""
    image, old = _on_canvas(pixels, CANVAS_IN, outside), np.int32(pixels.shape[:2])
    whole = np.array(_resample(image, old, np.int32(size), canvas=CANVAS_OUT, kernel=kernel))
    assert whole.shape == (*CANVAS_OUT, 3)
    assert whole.dtype == np.float32
    inside = whole[: size[0], : size[1]].copy()
    whole[: size[0], : size[1]] = 0
    assert not whole.any(), "NaN counts as any"
    return inside


@EACH_KERNEL
@pytest.mark.parametrize(("old", "new"), SIZES.values(), ids=list(SIZES))
def test_an_image_of_another_size_is_what_the_formulas_say(kernel, by_hand, of_pillow, old, new):
    """And zeros around it, whatever was around the source."""
    pixels = _random(old)
    expected = references_resampling.resample(by_hand, pixels, new)
    np.testing.assert_allclose(_resampled(pixels, new, kernel), expected, rtol=0, atol=2e-6)


@EACH_KERNEL
@pytest.mark.parametrize(("old", "new"), SIZES.values(), ids=list(SIZES))
def test_pillow_makes_the_same_picture(kernel, by_hand, of_pillow, old, new):
    """Far within a step of 255, which it may differ by: it rounds between its two passes too."""
    pixels = _random(old, seed=1)
    channels = [Image.fromarray(pixels[..., one]) for one in range(3)]
    made = [np.asarray(one.resize(new[::-1], of_pillow)) for one in channels]
    difference = np.abs(_resampled(pixels, new, kernel) - np.stack(made, axis=-1))
    assert difference.max() < 2e-6 < 1 / 255


@EACH_KERNEL
def test_an_image_of_the_same_size_is_a_copy(kernel, by_hand, of_pillow):
    for size in ((1, 1), (7, 5), (41, 49), CANVAS_OUT):
        pixels = _random(size)
        assert np.array_equal(_resampled(pixels, size, kernel), pixels)


@EACH_KERNEL
def test_what_lies_around_the_source_does_not_matter(kernel, by_hand, of_pillow):
    pixels = _random((13, 22))
    made = [_resampled(pixels, (24, 40), kernel, outside=one) for one in (0, 7, np.inf, np.nan)]
    assert all(np.array_equal(one, made[0]) for one in made)


@EACH_KERNEL
@pytest.mark.parametrize(("old", "new"), [(724, 1024), (1024, 724), (16384, 11), (11, 16384)])
def test_weights_of_long_lines_are_as_exact(kernel, by_hand, of_pillow, old, new):
    """Centres of pixels are compared as whole numbers, so distances lose nothing far out."""
    compiled = jax.jit(weights, static_argnums=(0, 3, 4))
    got = np.asarray(compiled(kernel, np.int32(old), np.int32(new), old, new))
    expected = references_resampling.line_weights(by_hand, old, new)
    assert np.abs(got - expected).max() < 5e-7 * np.abs(expected).max()
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=0, atol=2e-6)


def test_one_program_serves_all_sizes_of_a_pair_of_canvases():
    compiled = jax.jit(lambda *given: resample(*given, CANVAS_OUT, lanczos))
    image = _on_canvas(_random((20, 30)), CANVAS_IN, 0)
    for old, new in (((20, 30), (28, 42)), ((1, 1), CANVAS_OUT), (CANVAS_IN, (3, 4))):
        compiled(image, np.int32(old), np.int32(new))
    assert compiled._cache_size() == 1
