"""Colours of finished pictures; plain arithmetic on NumPy or JAX arrays, sRGB in [0, 1]."""

import numpy as np
import numpy.typing as npt

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def with_colours_of(
    content: npt.NDArray[np.float32], output: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The output's light and dark in the content's colours (Gatys et al. 2016, 1606.05897).

    Each pixel keeps the content's chroma and takes the output's luma, both of BT.601, then
    is clipped to [0, 1].

    Args:
        content: (h, w, 3).
        output: (h, w, 3), the same size.
    """
    difference = (output - content) @ _LUMA
    return np.clip(content + difference[..., None], 0, 1).astype(np.float32)
