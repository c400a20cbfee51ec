"""The inverse square root of a positive semi-definite matrix, by products of matrices alone.

A coupled iteration: Y goes to A^½ and Z to A^-½, from Y = A / ‖A‖ and Z = 1,

    T = Z Y,   P = a + b T + c T²,   Y ← Y P,   Z ← P Z.

With a, b, c = 15/8, -10/8, 3/8 in every step it is Newton and Schulz's of the third order.
Here each step has its own: those whose composition is nearest to one on all singular values
from `_SMALLEST` of the largest on (the Polar Express, Amsel et al. 2025, arXiv 2505.16932).
Six such steps, 21 products, do what 20 of Newton and Schulz's, 59 products, do. What is smaller is
raised as far and no further, so a singular matrix does no harm.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

_STEPS = 6
_SMALLEST = 1e-3
"""Singular values of the root from here on, as shares of the largest, come out right."""

_TINY = 1e-12  # far below the norm of any covariance of features
_EXCHANGES = 40  # of points where the error is largest; far more than any interval needs

Quintic = tuple[float, float, float]
"""a, b and c of x (a + b x² + c x⁴)."""


def quintics(smallest: float, steps: int) -> tuple[Quintic, ...]:
    """Odd polynomials one after the other, each the nearest to 1 on what the last one leaves.

    Args:
        smallest: Where the interval begins that ends with 1.
        steps: How many polynomials.
    """
    low, high, found = smallest, 1.0, []
    for _ in range(steps):
        a, b, c = _nearest_to_one(low, high)
        found.append((a, b, c))
        low = low * (a + b * low**2 + c * low**4)
        high = 2 - low  # an error of both signs
    return tuple(found)


def _nearest_to_one(low: float, high: float) -> Quintic:
    """The odd quintic with the smallest largest error on [low, high], by Remez's exchange."""
    if high - low < 1e-3 * high:  # all is one already, and the exchange would divide by nothing
        return 15 / 8 / high, -10 / 8 / high**3, 3 / 8 / high**5
    points = np.linspace(low, high, 4)
    a = b = c = 0.0
    for _ in range(_EXCHANGES):
        equations = np.stack([points, points**3, points**5, [1, -1, 1, -1]], axis=1)
        a, b, c, _ = np.linalg.solve(equations, np.ones(4))
        turning = np.sqrt(np.sort(np.roots([5 * c, 3 * b, a])))
        points = np.array([low, *turning, high])
    return float(a), float(b), float(c)


_QUINTICS = quintics(_SMALLEST, _STEPS)


def inverse_root(
    matrix: Float32[Array, "n n"], polynomials: tuple[Quintic, ...] = _QUINTICS
) -> Float32[Array, "n n"]:
    """A^-½ of a symmetric positive semi-definite A; the root itself is A A^-½.

    Args:
        matrix: A; all zero is fine and gives something finite.
        polynomials: Of the steps.
    """
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    norm = jnp.sqrt(jnp.sum(matrix**2)) + _TINY
    root = matrix / norm
    inverse = _polynomial(polynomials[0], root, identity)  # the first step, whose Z is 1
    root = product(root, inverse)
    for one in polynomials[1:-1]:
        change = _polynomial(one, product(inverse, root), identity)
        root, inverse = product(root, change), product(change, inverse)
    change = _polynomial(polynomials[-1], product(inverse, root), identity)
    return product(change, inverse) / jnp.sqrt(norm)


def product(one: Float32[Array, "m k"], other: Float32[Array, "k n"]) -> Float32[Array, "m n"]:
    """In full float32 everywhere: the iteration amplifies what a shorter factor loses."""
    return jnp.matmul(one, other, precision=jax.lax.Precision.HIGHEST)


def _polynomial(
    quintic: Quintic, matrix: Float32[Array, "n n"], identity: Float32[Array, "n n"]
) -> Float32[Array, "n n"]:
    a, b, c = quintic
    return a * identity + b * matrix + c * product(matrix, matrix)
