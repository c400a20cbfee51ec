"""Style losses through the engine, on the picture's own colours too, alone and in a batch."""

from typing import get_args

import numpy as np
import pytest
from engine_jobs import (
    LANDSCAPE,
    Studio,
    content_of,
    image_of,
    same,
    style_of,
    tiny_job,
    tiny_options,
)
from test_masks import halves

from nst_jax import Job
from nst_jax.request.options import JobOptions, StyleLoss

COLOURS = {
    "content_taps": ("relu1_1",),
    "style_taps": ("pixels",),
    "steps": 25,
    "learning_rate": 0.03,
    "content_weight": 0.1,
}


def statistics(image: np.ndarray) -> np.ndarray:
    """Mean and covariance of the colours."""
    flat = np.float64(image).reshape(-1, 3)
    return np.concatenate([flat.mean(0), np.cov(flat.T).ravel()])


@pytest.mark.parametrize("loss", get_args(StyleLoss))
def test_colours_alone_come_near_the_style_s_by_every_loss(narrow_file, loss):
    """Statistics of the pixels and no histogram; the same bytes in a batch and alone."""
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=2, style_loss=loss))
    jobs = [tiny_job(number, **COLOURS) for number in range(3)]
    together = studio.render(jobs)
    for number, result in enumerate(together):
        content, style, own = map(
            statistics, (content_of(number), style_of(number), image_of(result))
        )
        assert np.abs(own - style).max() < 0.3 * np.abs(content - style).max()
    assert same(studio.render(jobs[2:])[0], together[2])


def test_moments_work_in_regions(narrow_file):
    """Half of the picture is drawn to one style's colours, half to the other's."""
    studio = Studio(tiny_options(narrow_file, levels=1, batch_size=2, style_loss="moments"))
    dark, light = np.full((40, 48, 3), 0.1, np.float32), np.full((40, 48, 3), 0.9, np.float32)
    own = JobOptions(**COLOURS | {"style_weight": 300.0})
    job = Job(content_of(0), (dark, light), "", own, masks=halves(LANDSCAPE))
    left, right = np.split(image_of(studio.render([job])[0]), 2, axis=1)
    assert left.mean() < 0.35
    assert right.mean() > 0.65
