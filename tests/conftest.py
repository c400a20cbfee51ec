"""What must be set before the first array: eight CPU devices, and no accelerator by accident.

Nothing of `nst_jax` may be imported up here: `--jaxtyping-packages` hooks its import later.
"""

import os

import jax

os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_num_cpu_devices", 8)
