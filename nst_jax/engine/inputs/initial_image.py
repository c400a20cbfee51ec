"""Where the optimisation starts: what a job's `init` says, at its first level's size.

Everything random comes from the job's seed at the picture's own size, so it is the same
alone and in any batch.
"""

import numpy as np
import numpy.typing as npt

from nst_jax.engine.inputs.load import LoadedJob, LoadedPicture
from nst_jax.engine.inputs.masks import resize_mask
from nst_jax.engine.plan.canvas import Size
from nst_jax.files.images import Pixels, resize
from nst_jax.model.color import color_moments, sample_colors
from nst_jax.request.options import normalized_weights


def initial_image(job: LoadedJob, size: Size) -> Pixels:
    """(h, w, 3) float32 in [0, 1] of the given size."""
    own = job.options
    match own.init:
        case "content":
            return job.content_at(size)
        case "grey":
            return np.full((*size, 3), 0.5, np.float32)
        case "noise":
            noise = np.float32(0.5) + _noise(own.seed, own.noise_range, size)
            return _mix(job.content_at(size), noise, own.noise_ratio)
        case "noisy-content":
            return np.clip(job.content_at(size) + _noise(own.seed, own.noise_range, size), 0, 1)
        case "style-statistics":
            return _style_colours(job, size)
        case "blend":
            return _mix(job.content_at(size), _styles(job, size), own.init_blend)
        case "file":
            assert job.init_image is not None
            return resize(job.init_image, size)


def _noise(seed: int, half_range: float, size: Size) -> Pixels:
    """Uniform on both sides of 0."""
    uniform = np.random.default_rng(seed).random((*size, 3), dtype=np.float32)
    return (uniform - np.float32(0.5)) * np.float32(2 * half_range)


def _mix(one: Pixels, other: Pixels, share: float) -> Pixels:
    """The first where the share is 0, the second where it is 1."""
    mixed = np.float32(1 - share) * one + np.float32(share) * other
    return np.asarray(mixed, np.float32)


def _style_colours(job: LoadedJob, size: Size) -> Pixels:
    """Noise of the mean and covariance of the styles' colours, each style with its weight."""
    blend = normalized_weights(job.options.style_blend_weights, len(job.styles))
    means, covariances = zip(*map(_colours_of, job.styles), strict=True)
    noise = np.random.default_rng(job.options.seed).standard_normal((*size, 3))
    return sample_colors(
        np.average(means, axis=0, weights=blend),
        np.average(covariances, axis=0, weights=blend),
        noise,
    )


def _colours_of(style: LoadedPicture) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mask = None if style.mask is None else resize_mask(style.mask, style.size)
    return color_moments(style.pixels, mask)


def _styles(job: LoadedJob, size: Size) -> Pixels:
    """The style pictures laid over the whole image, each with its weight."""
    blend = normalized_weights(job.options.style_blend_weights, len(job.styles))
    layers = (
        np.float32(share) * _cover(style.pixels, size)
        for share, style in zip(blend, job.styles, strict=True)
    )
    return np.asarray(np.sum(list(layers), axis=0), np.float32)


def _cover(pixels: Pixels, size: Size) -> Pixels:
    """A picture scaled until it covers another size, and cut to it around its middle."""
    height, width = pixels.shape[:2]
    factor = max(size[0] / height, size[1] / width)
    large = max(size[0], round(height * factor)), max(size[1], round(width * factor))
    top, left = (large[0] - size[0]) // 2, (large[1] - size[1]) // 2
    return resize(pixels, large)[top : top + size[0], left : left + size[1]]
