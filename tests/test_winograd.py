"""Winograd's algorithm for itself: exact transforms, a bounded error; see `test_layers`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

from nst_jax.model import winograd

_correlated = jax.jit(winograd.correlate)


def _case(height, width, channels=(3, 5), seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(height, width, channels[0])).astype(np.float32)
    kernel = rng.normal(size=(3, 3, *channels)).astype(np.float32)
    return features, kernel


def _expected(features, kernel):
    return references.convolve(features, kernel, np.zeros(kernel.shape[3]))


def test_the_transforms_are_exact():
    """Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A in float64 is the convolution, tile by tile."""
    rng = np.random.default_rng(0)
    tile, kernel = rng.normal(size=(6, 6)), rng.normal(size=(3, 3))
    transformed_tile = winograd._INPUT @ tile @ winograd._INPUT.T
    transformed_kernel = winograd._KERNEL @ kernel @ winograd._KERNEL.T
    output = winograd._OUTPUT @ (transformed_kernel * transformed_tile) @ winograd._OUTPUT.T
    whole = references.convolve(tile[..., None], kernel[..., None, None], np.zeros(1))[..., 0]
    np.testing.assert_allclose(output, whole[1:-1, 1:-1], rtol=0, atol=1e-13)


def test_the_error_stays_small_at_a_real_layer_s_depth():
    """2304 products a value: about 1e-5 of the largest one, as documented; direct has 1e-6."""
    features, kernel = _case(9, 11, channels=(256, 128))
    output = _correlated(features, jnp.asarray(winograd.transform_kernel(kernel)))
    assert references.relative_error(output, _expected(features, kernel)) < 3e-5


def test_a_mapped_batch_equals_one_by_one():
    pictures = np.stack([_case(6, 5, seed=seed)[0] for seed in range(3)])
    kernel = jnp.asarray(winograd.transform_kernel(_case(6, 5)[1]))
    together = jax.jit(jax.vmap(winograd.correlate, (0, None)))(pictures, kernel)
    for slot, alone in enumerate(pictures):
        assert references.relative_error(together[slot], _correlated(alone, kernel)) < 1e-5


@pytest.mark.parametrize(("height", "width"), [(4, 4), (7, 9), (21, 8), (33, 5)])
@pytest.mark.parametrize("fewest_tiles", [1, 5, 16])
def test_strips_give_what_a_convolution_gives(monkeypatch, height, width, fewest_tiles):
    monkeypatch.setattr(winograd, "_FEWEST_TILES", fewest_tiles)
    pictures = np.stack([_case(height, width, seed=seed)[0] for seed in range(2)])
    _, kernel = _case(height, width)
    transformed = jnp.asarray(winograd.transform_kernel(kernel))
    together = jax.jit(jax.vmap(winograd.correlate, (0, None)))(pictures, transformed)
    for picture, output in zip(pictures, together, strict=True):
        assert references.relative_error(output, _expected(picture, kernel)) < 1e-5


def test_a_strip_is_a_few_rows_unless_kernels_are_large_or_one_picture_has_all_cores():
    small, large = 36 * 64 * 64, 36 * 512 * 512
    assert winograd._rows_of_strip(small, batch=2, down=64, across=64) == 1
    assert winograd._rows_of_strip(small, batch=2, down=16, across=8) == 4
    assert winograd._rows_of_strip(small, batch=2, down=9, across=8) == 3
    assert winograd._rows_of_strip(small, batch=1, down=64, across=64) == 64
    assert winograd._rows_of_strip(large, batch=2, down=64, across=64) == 64


@pytest.mark.parametrize(
    ("channels", "answer"),
    [((3, 64), False), ((64, 3), False), ((64, 64), True), ((128, 64), True), ((512, 512), True)],
)
def test_it_pays_only_where_channels_are_many(channels, answer):
    assert winograd.is_profitable(*channels) is answer
