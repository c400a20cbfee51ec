"""What a squared distance is multiplied by: one factor a target.

Every program of the field squares the same differences and divides them by something else.
With ‖x - t‖² of n numbers of a target t that describes c channels:

    relative      / ‖t‖²     0 is a perfect match and 1 as far away as nothing at all, so a
                             weight means the same at every size and for every network
    mean          / n        contents of jcjohnson, crowsonkb, pystiche; styles of pystiche,
                             and of gordicaleksa, who sums Grams over channels and positions
    quarter_mean  / (4 n)    Gatys et al. 2016, styles; Coursera, both
    channel_mean  / (n c²)   jcjohnson, ProGamerGov, anishathalye, Gatys' notebook: Grams over
                             channels and positions
    half_sum      / 2        Gatys et al. 2016, contents
    half_root     / (2 √n)   cysmith, contents

Gram matrices are means over positions in all of them. Those that the papers leave as sums
are defined for styles of the content's size alone, where both say the same.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float32

# Keeps a black target (all features zero) from dividing by nothing; far below any real one.
_TINY = 1e-8


def scale(normalization: str, squares: Any, *, count: Any, channels: int) -> Float32[Array, ""]:
    """The factor of a squared distance, in float32.

    Args:
        normalization: One of those above.
        squares: ‖t‖².
        count: n.
        channels: c.
    """
    count = jnp.float32(count)
    divisors = {
        "relative": squares + _TINY,
        "mean": count,
        "quarter_mean": 4 * count,
        "channel_mean": count * channels**2,
        "half_sum": 2.0,
        "half_root": 2 * jnp.sqrt(count),
    }
    return 1 / jnp.float32(divisors[normalization])


def sum_of_squares(*arrays: Any) -> Float32[Array, ""]:
    """‖t‖² of a target of one array or several, in float32."""
    squares = (jnp.sum(jnp.square(jnp.asarray(one, jnp.float32))) for one in arrays)
    return sum(squares, jnp.float32(0))
