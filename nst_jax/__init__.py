"""Neural style transfer for many pairs at once, as few compiled JAX programs.

    from nst_jax import Job, Options, render, render_many

    render(Job("cat.jpg", "waves.jpg"), "cat_waves.png", Options(size=512))
    for result in render_many([Job("cat.jpg", "waves.jpg"), Job("dog.jpg", "waves.jpg")]):
        print(result.job.output, result.losses, result.image.shape)

Importing the package does not import jax; the first rendering does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nst_jax.engine.device.recent_sessions import forget_programs
from nst_jax.request.errors import JobError, NstJaxError, RequestError
from nst_jax.request.job import Job
from nst_jax.request.options import JobOptions, Options
from nst_jax.request.run_policy import RunPolicy

if TYPE_CHECKING:
    from nst_jax.api import render, render_batch, render_many
    from nst_jax.engine.cluster.ray_batch import render_on_ray
    from nst_jax.engine.results import Result, Summary
    from nst_jax.files.find_jobs import every_pair, read_manifest

Handling = RunPolicy  # its earlier name

__version__ = "0.1.0"

__all__ = [
    "Handling",
    "Job",
    "JobError",
    "JobOptions",
    "NstJaxError",
    "Options",
    "RequestError",
    "Result",
    "RunPolicy",
    "Summary",
    "every_pair",
    "forget_programs",
    "read_manifest",
    "render",
    "render_batch",
    "render_many",
    "render_on_ray",
]

_IMPORTED_LATE = {
    "every_pair": "nst_jax.files.find_jobs",
    "read_manifest": "nst_jax.files.find_jobs",
    "render": "nst_jax.api",
    "render_many": "nst_jax.api",
    "render_batch": "nst_jax.api",
    "render_on_ray": "nst_jax.engine.cluster.ray_batch",
    "Result": "nst_jax.engine.results",
    "Summary": "nst_jax.engine.results",
}


def __dir__() -> list[str]:
    """For completion, which would not know of what is imported late."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Imports what needs jax, or takes a while, when it is first asked for."""
    if name in _IMPORTED_LATE:
        return getattr(importlib.import_module(_IMPORTED_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
