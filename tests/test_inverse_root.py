"""The inverse root against an eigendecomposition in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from nst_jax.model.inverse_root import inverse_root, quintics


def matrix_of(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix with these eigenvalues, and its eigenvectors."""
    normal = np.random.default_rng(seed).normal(size=(len(values), len(values)))
    vectors = np.linalg.qr(normal)[0]
    return (vectors * values) @ vectors.T, vectors


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("smallest", [1e-1, 1e-4])
def test_it_is_the_inverse_root(smallest, scale):
    values = np.geomspace(smallest, 1, 40) * scale
    matrix, vectors = matrix_of(values)
    found = np.asarray(inverse_root(jnp.float32(matrix)), np.float64)
    assert np.abs(found @ found @ matrix - np.eye(40)).max() < 0.02
    expected = (vectors / np.sqrt(values)) @ vectors.T
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_more_steps_are_nearer():
    matrix, _ = matrix_of(np.geomspace(1e-3, 1, 20))
    found = np.asarray(inverse_root(jnp.float32(matrix), quintics(1e-3, 8)), np.float64)
    assert np.abs(found @ found @ matrix - np.eye(20)).max() < 1e-3


def test_each_polynomial_is_as_far_from_one_at_the_ends_of_its_interval():
    low, high = 1e-3, 1.0
    for a, b, c in quintics(1e-3, 6):
        grid = np.linspace(low, high, 10001)
        values = grid * (a + b * grid**2 + c * grid**4)
        error = 1 - values[0]
        assert np.abs(1 - values).max() == pytest.approx(error, rel=1e-3)
        low, high = 1 - error, 1 + error
    assert 1 - low < 1e-3


def test_singular_and_empty_matrices_stay_finite():
    singular, _ = matrix_of(np.array([1.0, 0.5, 0, 0, 0]))
    for matrix in (singular, np.zeros((5, 5)), np.full((3, 3), 1e-20)):
        assert np.isfinite(np.asarray(inverse_root(jnp.float32(matrix)))).all()
