"""A finished job's result, with what it keeps of the content laid over its picture."""

import itertools

import numpy as np

from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.inputs.masks import resize_mask
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.results import Result
from nst_jax.engine.schedule.active_job import ActiveJob
from nst_jax.files.images import Pixels
from nst_jax.model.color import RECOLOR_OUTPUT, to_grey
from nst_jax.request.errors import NonFiniteError, say_count


def make_result(active: ActiveJob, session: Session) -> Result:
    """The result of a job that is finished: its picture, or why it has none."""
    loaded, examined, alpha = active.loaded, active.loaded.examined, active.loaded.content.alpha
    error = active.fault
    if error is None and not active.is_finite:
        error = NonFiniteError(
            f"job {loaded.name!r} must stay in the finite numbers, got inf or nan after "
            f"{say_count(active.steps_before, 'step')}",
            "Lower learning_rate or the weights of the terms",
        )
    image = None
    if error is None and active.image is not None:
        image = composite_with_content(loaded, active.image)
    return Result(
        index=examined.index,
        job=examined.job,
        image=image,
        alpha=None if alpha is None else alpha.copy(),  # which other jobs may share
        exif=loaded.exif,
        losses=active.losses,
        curve=active.curve.points,
        steps=active.steps_before,
        level_ends=_level_ends(active),
        seconds=active.seconds,
        compile_seconds=active.compile_seconds,
        error=error,
        fingerprint=examined.fingerprint,
        attempt=examined.attempts + active.attempts,
        inputs=session.pictures.records(examined.job.pictures),
    )


def _level_ends(active: ActiveJob) -> tuple[int, ...]:
    """After how many steps each level was over; nothing where one ended early."""
    ends = tuple(itertools.accumulate(level.steps for level in active.loaded.levels))
    return ends if ends[-1] == active.steps_before else ()


def composite_with_content(job: LoadedJob, image: Pixels) -> Pixels:
    """What a job has made, with what it asks to keep of the content laid over it.

    Its colours, by the option `color`, or that it and the styles have none; and all of it where
    no mask gives a style. There nothing but the content's few features holds the pixels, and a
    step of Adam is as large for the smallest slope.
    """
    keep = RECOLOR_OUTPUT.get(job.options.color)
    if keep or job.masks:
        content = job.content_at((image.shape[0], image.shape[1]))
        if keep:
            image = keep(image, content)
        if job.masks:
            masks = [resize_mask(mask, image.shape[:2]) for mask in job.masks]
            styled = np.clip(np.sum(masks, axis=0, dtype=np.float32), 0, 1)[..., None]
            image = (content + styled * (image - content)).astype(np.float32)
    return to_grey(image) if job.is_grey else image
