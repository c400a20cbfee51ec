"""Every control with every other: runs, stays finite, and is the same alone as among others.

What changes the program is covered first, in a few programs; then every per-job control is
covered together with the number of the program.
"""

import itertools
from typing import Any

import numpy as np
import pytest
from covering import covering, pairs_of
from engine_jobs import (
    STYLE_SIZE,
    Studio,
    assert_same,
    content_of,
    image_of,
    own_options,
    same,
    style_of,
    tiny_options,
)
from test_masks import halves

from nst_jax import Job

pytestmark = pytest.mark.slow

SIZES = [(22, 32), (24, 32)]
"""Of one canvas."""

STATIC: dict[str, Any] = {
    "style_loss": ["gram", "wasserstein", "wasserstein_full", "moments"],
    "pool": [("max", 1.0), ("average", 2.0), ("l2", 0.78)],
    "padding": ["replicate", "zero"],
    "tv_loss": ["squared", "absolute", "nine_point"],
    "gradient_normalization": ["none", "l1"],
    "regions": [0, 1, 2],
    "style_taps": [("relu1_1", "relu2_1"), ("pixels", "pool1")],
}
PROGRAMS = covering(STATIC)
OWN: dict[str, Any] = {
    "init": ["content", "noise", "noisy-content", "grey", "style-statistics", "blend", "file"],
    "noise_ratio": [1.0, 0.6],
    "color": [
        *("style", "content", "lab", "luminance", "match-mean-covariance", "match-histogram"),
    ],
    "alpha": ["keep", "white", "black"],
    "strokes": [{}, {"style_scale": 0.7}, {"style_size": 24}],
    "style_masks": [False, True],
    "blend": [False, True],
    "style_tap_weights": [(), (1.0, 3.0)],
    "style_normalization": ["relative", "mean", "quarter_mean", "channel_mean"],
    "content_normalization": ["relative", "mean", "quarter_mean", "half_sum", "half_root"],
    "tv_normalization": ["mean", "sum"],
    "learning_rate_schedule": ["constant", "cosine", "exponential"],
    "average_decay": [0.9, 0.0],
    "clip": ["each_step", "end"],
    "early_stop": [0.0, 0.1],
    "seed": [0, 9],
    "size": SIZES,
}
PER_JOB = {**OWN, "program": range(len(PROGRAMS))}
ROWS = covering(PER_JOB)


def job_of(row: dict[str, Any], number: int) -> Job:
    """The job that a row describes, with a content of its own."""
    program = PROGRAMS[row["program"]]
    regions, size = program["regions"], row["size"]
    styles = [style_of(number), 1 - style_of(number + 1)][: regions or 2]
    alpha = np.linspace(0, 1, size[1], dtype=np.float32)[None, :, None].repeat(size[0], axis=0)
    plain = set(OWN) - {"strokes", "style_masks", "blend", "size"}
    own = {name: row[name] for name in plain} | row["strokes"]
    return Job(
        np.concatenate([content_of(number, size), alpha], axis=-1),
        styles,
        options=own_options(
            **own,
            steps=2,
            content_taps=("relu2_1",),
            style_taps=program["style_taps"],
            gradient_normalization=program["gradient_normalization"],
            style_blend_weights=(1.0, 3.0)[: len(styles)] if row["blend"] else (),
        ),
        masks=halves(size)[:regions],
        style_masks=halves(STYLE_SIZE)[: len(styles)] if row["style_masks"] else (),
        init_image=content_of(number + 1, size) if row["init"] == "file" else None,
    )


@pytest.mark.parametrize(("factors", "rows"), [(STATIC, PROGRAMS), (PER_JOB, ROWS)])
def test_the_rows_hold_every_pair_of_values(factors, rows):
    places = [{name: factors[name].index(row[name]) for name in factors} for row in rows]
    seen = {pair for row in places for pair in pairs_of(row)}
    counts = [len(values) for values in factors.values()]
    assert len(seen) == sum(one * other for one, other in itertools.combinations(counts, 2))


@pytest.mark.parametrize("program", range(len(PROGRAMS)))
def test_all_controls_go_together_and_keep_the_batch_laws(narrow_file, program):
    asked = PROGRAMS[program]
    pooling, scale = asked["pool"]
    studio = Studio(
        tiny_options(
            narrow_file,
            size=32,
            levels=1,
            pooling=pooling,
            pooling_scale=scale,
            **{name: asked[name] for name in ("style_loss", "padding", "tv_loss")},
        )
    )
    jobs = [job_of(row, number) for number, row in enumerate(ROWS) if row["program"] == program]
    together = studio.render(jobs)
    for job, result in zip(jobs, together, strict=True):
        image = image_of(result)
        assert np.isfinite(image).all()
        assert 0 <= image.min() <= image.max() <= 1
        assert all(np.isfinite(value) for value in result.losses.values())
        assert (result.alpha is None) == (job.options is None or job.options.alpha != "keep")
    assert all(same(*pair) for pair in zip(studio.render(jobs[::-1]), together[::-1], strict=True))
    assert_same(studio.render(jobs[:1]), together[:1])
