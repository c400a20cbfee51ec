"""What a picture follows from, as one number: inputs, options, weights, method."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from nst_jax.engine.inputs.picture_index import PictureIndex
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.results import METHOD_VERSION
from nst_jax.request.job import Job
from nst_jax.request.options import JOB_FIELDS, SHARED_FIELDS, JobOptions, Options

# The weights count by their content, a preset by what it sets; batch size, previews, limits and
# metadata not at all: they are how, not what.
_NOT_COUNTED = (
    *("weights", "preset", "batch_size", "dtype", "preview_every", "max_input_pixels"),
    "metadata",
)

_ONLY_LEVEL_RATIO = 1.4142
"""Before there was the option. It does not count, as it did not then."""


def fingerprint(
    job: Job,
    own: JobOptions,
    options: Options,
    pictures: PictureIndex,
    *,
    dtype: str,
    weights_sha256: str,
    method: int = METHOD_VERSION,
) -> str:
    """sha256 over everything that decides a job's picture, as hexadecimal digits.

    Args:
        job: With its output's name filled in; the suffix counts, because it is the format.
        own: The job's options with canonical taps.
        options: The run's.
        pictures: What looks at the job's pictures.
        dtype: What the network really computes in.
        weights_sha256: The content of the network's weights.
        method: The version of the method that makes the picture, or has made it.

    Raises:
        PictureError: An input can't be read.
    """
    content = {
        "method": method,
        "content": pictures.sha256(job.content),
        "styles": [pictures.sha256(style) for style in job.styles],
        "masks": [pictures.sha256(mask) for mask in job.masks],
        "style_masks": [pictures.sha256(mask) for mask in job.style_masks],
        "init_image": None if job.init_image is None else pictures.sha256(job.init_image),
        "options": _options_that_count(own, options),
        "dtype": dtype,
        "weights": weights_sha256,
        "suffix": PurePosixPath(job.output).suffix.lower(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def session_fingerprint(
    job: Job, own: JobOptions, session: Session, method: int = METHOD_VERSION
) -> str:
    """The fingerprint of a job in a session; see `fingerprint`."""
    return fingerprint(
        job,
        own,
        session.options,
        session.pictures,
        dtype=session.precision.name,
        weights_sha256=session.weights.content_sha256,
        method=method,
    )


def shared_options(options: Options) -> dict[str, Any]:
    """What all jobs of a run have in common and their pictures follow from."""
    counted = {name: getattr(options, name) for name in SHARED_FIELDS if name not in _NOT_COUNTED}
    if options.levels == 1 or options.level_ratio == _ONLY_LEVEL_RATIO:
        del counted["level_ratio"]
    return counted


@functools.lru_cache(maxsize=256)
def _options_that_count(own: JobOptions, options: Options) -> Mapping[str, Any]:
    """The options that decide a picture, by name."""
    return shared_options(options) | {name: getattr(own, name) for name in JOB_FIELDS}
