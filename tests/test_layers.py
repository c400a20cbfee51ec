"""One layer at a time against NumPy in float64, forward and backward.

Tolerances: float32 rounds at 6e-8; a sum of 9 * 8 products loses at most some 1e-6 of the
largest value. 1e-5 of the maximum leaves Winograd's transforms their room.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from hypothesis import given, settings
from hypothesis import strategies as st

from nst_jax.model import layers, winograd

CLOSE = 1e-5
ALGORITHMS = pytest.mark.parametrize("algorithm", ["plain", "winograd"])
KINDS = pytest.mark.parametrize("kind", ["max", "average", "l2"])
SIDES = st.integers(1, 13)

# Every height and width from 1 to 13, odd and even together; each size is a compilation.
BOTH_LAYERS = pytest.mark.parametrize(
    ("layer", "height", "width"),
    [
        *((layers.convolve, side, 14 - side) for side in range(1, 14)),
        *((layers.convolve_relu, *size) for size in ((1, 1), (3, 7), (8, 5), (13, 12))),
    ],
)


class Case:
    """Random features, kernel, bias and gradient of the output, with the model's constants."""

    def __init__(self, height, width, *, size=None, seed=0, algorithm="plain"):
        rng = np.random.default_rng(seed)
        self.size = np.array(size or (height, width))
        self.mask = layers.region_mask(jnp.asarray(self.size), (height, width))
        inside = np.asarray(self.mask)
        self.features = (rng.normal(size=(height, width, 5)) * inside).astype(np.float32)
        self.gradient = rng.normal(size=(height, width, 7)).astype(np.float32)
        self.kernel = rng.normal(size=(3, 3, 5, 7)).astype(np.float32)
        self.bias = rng.normal(size=7).astype(np.float32)
        kernels = self.kernel, layers.flip_kernel(self.kernel)
        if algorithm == "winograd":
            kernels = tuple(map(winograd.transform_kernel, kernels))
        self.constants = (*map(jnp.asarray, kernels), jnp.asarray(self.bias), self.mask)

    def own(self, array):
        """The image's own region of an array on the canvas."""
        return np.asarray(array)[: self.size[0], : self.size[1]]

    def forward_and_backward(self, layer):
        output, backward = _pulled_back(layer, self.features, self.constants, self.gradient)
        return np.asarray(output), np.asarray(backward)


@functools.partial(jax.jit, static_argnums=0)
def _pulled_back(layer, features, constants, gradient):
    output, backward = jax.vjp(lambda value: layer(value, *constants), features)
    return output, backward(gradient)[0]


def test_the_references_agree_with_scipy_and_with_each_other():
    case = Case(6, 9)
    expected = references.convolve_by_scipy(case.features, case.kernel, case.bias)
    output = references.convolve(case.features, case.kernel, case.bias)
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)
    # <K x, g> = <x, Kᵀ g>
    forward = np.vdot(output - case.bias, case.gradient)
    backward = np.vdot(case.features, references.convolve_backward(case.gradient, case.kernel))
    np.testing.assert_allclose(forward, backward, rtol=1e-12)


@ALGORITHMS
@BOTH_LAYERS
def test_a_convolution_and_one_with_its_activation_equal_their_definition(
    algorithm, layer, height, width
):
    """The activation stops the gradient where it is zero."""
    case = Case(height, width, seed=height, algorithm=algorithm)
    output, backward = case.forward_and_backward(layer)
    expected = references.convolve(case.features, case.kernel, case.bias)
    passed = case.gradient
    if layer is layers.convolve_relu:
        expected, passed = np.maximum(expected, 0), passed * (output > 0)
    assert references.relative_error(output, expected) < CLOSE
    expected = references.convolve_backward(np.float64(passed), case.kernel)
    assert references.relative_error(backward, expected) < CLOSE


@pytest.mark.parametrize("layer", [layers.convolve, layers.convolve_relu])
def test_neither_the_network_s_constants_nor_what_only_feeds_zeros_have_a_gradient(layer):
    case = Case(4, 4)
    kernel, flipped, bias, mask = case.constants

    def total(kernel, flipped, bias):
        return layer(jnp.asarray(case.features), kernel, flipped, bias, mask).sum()

    for gradient in jax.grad(total, argnums=(0, 1, 2))(kernel, flipped, bias):
        assert not np.any(gradient)
    if layer is layers.convolve_relu:
        silent = kernel, flipped, jnp.full(7, -1e3), mask
        for array in _pulled_back(layer, case.features, silent, case.gradient):
            assert not np.any(array)


@ALGORITHMS
@pytest.mark.parametrize("layer", [layers.convolve, layers.convolve_relu])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(height=SIDES, width=SIDES)
def test_a_canvas_changes_nothing_inside_and_holds_zeros_outside(algorithm, layer, height, width):
    case = Case(13, 15, size=(height, width), seed=height + 20 * width, algorithm=algorithm)
    output, backward = case.forward_and_backward(layer)
    expected = references.convolve(case.own(case.features), case.kernel, case.bias)
    gradient = np.float64(case.own(case.gradient))
    if layer is layers.convolve_relu:
        expected = np.maximum(expected, 0)
        gradient = gradient * (case.own(output) > 0)
    assert references.relative_error(case.own(output), expected) < CLOSE
    assert not np.any(np.where(case.mask, 0, output))
    expected = references.convolve_backward(gradient, case.kernel)
    assert references.relative_error(case.own(backward), expected) < CLOSE


@functools.partial(jax.jit, static_argnums=(2, 3))
def _pooled_back(features, gradient, kind, scale=1.0):
    output, backward = jax.vjp(lambda value: layers.pool(value, kind, scale), features)
    return output, backward(gradient)[0]


@KINDS
@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 2), (2, 3), (9, 7), (8, 5), (5, 6)])
def test_a_pooling_equals_its_definition_and_drops_an_odd_last_row(kind, height, width):
    rng = np.random.default_rng(10 * height + width)
    features = rng.normal(size=(height, width, 3)).astype(np.float32)
    gradient = rng.normal(size=(height // 2, width // 2, 3)).astype(np.float32)
    output, backward = _pooled_back(features, gradient, kind)
    assert references.relative_error(output, references.pool(features, kind)) < 1e-6
    expected = references.pool_backward(features, gradient, kind)
    assert references.relative_error(backward, expected) < 1e-6
    assert not np.any(np.asarray(backward)[2 * (height // 2) :])
    assert not np.any(np.asarray(backward)[:, 2 * (width // 2) :])


@KINDS
def test_a_pooling_s_scale_is_a_factor_on_both_ways_and_bfloat16_is_kept(kind):
    rng = np.random.default_rng(0)
    features = np.float32(np.maximum(rng.normal(size=(7, 6, 3)), 0))  # some windows all 0
    gradient = np.float32(rng.normal(size=(3, 3, 3)))
    features[:2, :2] = 0
    output, backward = _pooled_back(features, gradient, kind, 1.7)
    assert references.relative_error(output, 1.7 * references.pool(features, kind)) < 1e-6
    expected = 1.7 * references.pool_backward(features, gradient, kind)
    assert references.relative_error(backward, expected) < 1e-6
    assert layers.pool(jnp.ones((4, 4, 2), jnp.bfloat16), kind).dtype == jnp.bfloat16


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_a_tie_shares_the_gradient_and_loses_none_of_it(seed):
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 3, (5, 4, 3)).astype(np.float32)
    gradient = rng.uniform(1, 2, (2, 2, 3)).astype(np.float32)
    output, backward = map(np.asarray, _pooled_back(features, gradient, "max"))
    np.testing.assert_array_equal(output, references.pool(features, "max"))
    largest = features[:4] == output.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(backward[:4] > 0, largest)
    sums = 4 * references.pool(backward, "average")
    np.testing.assert_allclose(sums, gradient, rtol=1e-6)
