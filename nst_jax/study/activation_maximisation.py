"""Activation maximisation: pictures made to excite channels, all channels of all taps as one batch.

Each follows the gradient of its channel's mean answer from noise, kept smooth, from coarse to fine
(Erhan et al. 2009; Olah et al. 2017).
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_jax.engine.device.targets import VARIATIONS
from nst_jax.engine.inputs.examine import examine_jobs
from nst_jax.engine.inputs.load import LoadedJob
from nst_jax.engine.inputs.session import Session
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import Level
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.engine.run.folder_run import FolderRun
from nst_jax.engine.run.remaining import remaining_work
from nst_jax.files.folders import LocalFolder
from nst_jax.files.ledger import read_ledger
from nst_jax.model.activation import ActivationTarget
from nst_jax.model.objective import Targets
from nst_jax.model.receptive_field import receptive_field
from nst_jax.request.job import Job, fill_defaults
from nst_jax.request.options import Options, job_options
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.taps import PIXELS
from nst_jax.study.study import Cell, Trial, read_cell

_SMOOTHNESS_POWER = 1.5
"""Of the width in pixels that a position sees; by trial, from relu1_2 to relu5_2."""

Scale = npt.NDArray[np.float32]
"""(c,): each channel's usual spread at a tap before its activation."""


@dataclasses.dataclass(frozen=True)
class Neuron:
    """A channel of a tap; `place` is its row."""

    place: int
    tap: str
    channel: int

    @property
    def name(self) -> str:
        """For headings."""
        return f"{self.tap} channel {self.channel}"


class ChannelTargets:
    """Asks each job's image to excite the job's own channel; stands in for `TargetCache`.

    Args:
        neurons: One a job, by the job's index.
        scales: By tap before its activation, each channel's usual spread: the answer's unit.
        options: `tv_loss` says how smoothness is measured.
    """

    def __init__(
        self,
        neurons: Sequence[Neuron],
        scales: Mapping[str, Scale],
        options: Options,
    ) -> None:
        self._neurons = neurons
        self._variation = VARIATIONS[options.tv_loss]
        self._scales = scales

    def make_targets(self, job: LoadedJob, level: Level) -> Targets:
        """No content, and for each tap a direction, which is 0 but at the job's own tap."""
        del level
        neuron = self._neurons[job.index]
        directions: dict[str, Any] = {
            tap: np.zeros_like(scale) for tap, scale in self._scales.items()
        }
        own = before_activation(neuron.tap)
        directions[own][neuron.channel] = 1 / self._scales[own][neuron.channel]
        asked = {tap: ActivationTarget(direction) for tap, direction in directions.items()}
        return Targets(content={}, style=asked, variation=self._variation)

    def forget(self) -> None:
        """Nothing: all of it is on the host."""


def before_activation(tap: str) -> str:
    """The same channels before their activation: silent ones have a gradient there too."""
    return tap.replace("relu", "conv")


def maximise_activations(
    neurons: Sequence[Neuron],
    scales: Mapping[str, Scale],
    session: Session,
    folder: Path,
    progress: Progress,
) -> list[Cell]:
    """A picture for each neuron, all in one batch; what is there and up to date is kept.

    Args:
        neurons: `place` counts from 0.
        scales: By tap before its activation, for every tap of the neurons.
        session: Its options say how large, how smooth and in how many steps.
        folder: Where pictures and ledger go.
        progress: Told what happens.

    Raises:
        WriteError: A picture or the ledger can't be written.
    """
    jobs = fill_defaults(
        [_job(neuron, tuple(scales), session) for neuron in neurons], session.options
    )
    examined = examine_jobs(jobs, session, NullProgress())  # nobody has named these taps
    ready = [one for one in examined if isinstance(one, ExaminedJob)]
    marks = {one.index: _fingerprint(one, neurons[one.index], scales) for one in ready}
    place = LocalFolder(folder)
    place.make()
    marked = [dataclasses.replace(one, fingerprint=marks[one.index]) for one in ready]
    work = remaining_work(marked, place.read_records(), place, RunPolicy(), session)
    left = {one.index for one in work.jobs}
    run = FolderRun(
        folder=place,
        session=session,
        work=dataclasses.replace(work, jobs=[one for one in ready if one.index in left]),
        progress=progress,
        is_resumable=False,
        targets=ChannelTargets(neurons, scales, session.options),
        mark=lambda result: dataclasses.replace(result, fingerprint=marks[result.index]),
    )
    fault = run.render()
    if fault:
        raise fault
    records = read_ledger(folder)
    trials = [
        Trial(neuron.place, 0, job.output, job_options(job.options or session.options))
        for neuron, job in zip(neurons, jobs, strict=True)
    ]
    return [read_cell(trial, records[trial.output], folder, lambda _: {}) for trial in trials]


def _fingerprint(request: ExaminedJob, neuron: Neuron, scales: Mapping[str, Scale]) -> str:
    """What a made picture follows from: what other jobs do, its channel, the answer's unit."""
    unit = float(scales[before_activation(neuron.tap)][neuron.channel])
    text = f"{request.fingerprint}|{neuron.tap}|{neuron.channel}|{unit!r}"
    return hashlib.sha256(text.encode()).hexdigest()


def _job(neuron: Neuron, taps: tuple[str, ...], session: Session) -> Job:
    """A job whose content and style do not count; they only have the size of the picture.

    The style has a colour, because of two grey pictures comes a grey one.

    The deeper the tap, the more fine grain excites it beside its motif; at the first ones fine
    lines are the motif. So smoothness counts the more, the more a position of the tap sees.
    """
    options, field = session.options, receptive_field(neuron.tap, session.weights.architecture)
    grey = np.full((options.size, options.size, 3), 0.5, np.float32)
    coloured = grey * np.array([1, 1, 0], np.float32)
    own = job_options(
        options,
        init="noise",
        tv_weight=options.tv_weight * field.edge**_SMOOTHNESS_POWER,
        content_weight=0.0,
        gradient_normalization="none",
        content_taps=(PIXELS,),
        content_tap_weights=(),
        style_weight=1.0,
        style_taps=taps,
        style_tap_weights=tuple(float(tap == before_activation(neuron.tap)) for tap in taps),
        style_blend_weights=(),
        seed=neuron.channel,
    )
    return Job(grey, coloured, output=f"{neuron.tap}_{neuron.channel}.png", options=own)
