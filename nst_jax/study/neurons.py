"""What a channel responds to: patches of pictures, and pictures made to excite it.

The patches are those of the highest answers (Zeiler and Fergus 2014); the made pictures
follow the gradient of a channel's mean answer from noise, kept smooth, from coarse to fine
(Erhan et al. 2009; Olah et al. 2017). All channels of all taps are one batch.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_jax.engine.canvas import Size, fitted
from nst_jax.engine.levels import Stage
from nst_jax.engine.pipeline import examine, run
from nst_jax.engine.planning import planned
from nst_jax.engine.prepared import PreparedJob
from nst_jax.engine.progress import Progress, Silence
from nst_jax.engine.receptive import Field, receptive_field
from nst_jax.engine.results import Result
from nst_jax.engine.resuming import left_to_do
from nst_jax.engine.saving import Writer, make_folder
from nst_jax.engine.setup import Request, Setup, open_setup
from nst_jax.files.encode import save_picture
from nst_jax.files.folders import LocalFolder
from nst_jax.files.images import composited, from_array, load_picture, resized
from nst_jax.model.activation import ActivationTarget
from nst_jax.model.objective import Targets
from nst_jax.model.variation import Variation
from nst_jax.spec.errors import OptionError, PictureError
from nst_jax.spec.handling import Handling
from nst_jax.spec.job import Job, PictureSource, completed, picture_name
from nst_jax.spec.options import Options, job_options
from nst_jax.spec.studies import NEURON_TAPS, study_options
from nst_jax.spec.taps import PIXELS, canonical_tap, smallest_side
from nst_jax.study.excitement import Patch, answers, best_patches, spread, telling_channels
from nst_jax.study.study import Cell, Image, Study, Trial, cell_of

_TEXT = (
    "Each row is a channel of the network. The first picture was made for it: from noise, step "
    "by step, into what excites the channel as a whole most, kept smooth.",
    "Beside it are the patches of the given pictures at which the channel answers loudest: as "
    "much of the picture as one position of the tap can see. The last one shows where the best "
    "of them lies. The deeper the tap, the larger the patch.",
)

_IGNORED = (
    *("content_taps", "style_taps", "content_weight", "style_weight", "style_loss", "init"),
    *("init_blend", "content_tap_weights", "style_tap_weights", "style_tap_ratio"),
    *("style_blend_weights", "content_normalization", "style_normalization"),
    *("gradient_normalization", "pixel_blend", "style_scale", "style_size", "seed"),
    "preview_every",
)
"""Options of other studies that change nothing here."""

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
    """Asks each job's image to excite the job's own channel; stands in for `TargetMaker`.

    Args:
        neurons: One a job, by the job's index.
        scales: By tap before its activation, each channel's usual spread: the answer's unit.
        variation: How smoothness is measured.
    """

    def __init__(
        self,
        neurons: Sequence[Neuron],
        scales: Mapping[str, Scale],
        variation: Variation,
    ) -> None:
        self._neurons = neurons
        self._variation = variation
        self._scales = scales

    def targets(self, job: PreparedJob, stage: Stage) -> Targets:
        """No content, and for each tap a direction, which is 0 but at the job's own tap."""
        del stage
        neuron = self._neurons[job.index]
        directions: dict[str, Any] = {
            tap: np.zeros_like(scale) for tap, scale in self._scales.items()
        }
        own = before_activation(neuron.tap)
        directions[own][neuron.channel] = 1 / self._scales[own][neuron.channel]
        asked = {tap: ActivationTarget.of(direction) for tap, direction in directions.items()}
        return Targets(content={}, style=asked, variation=self._variation)


def study_neurons(
    pictures: Sequence[PictureSource],
    output_dir: str | Path,
    options: Options | None = None,
    *,
    taps: Sequence[str] = NEURON_TAPS,
    channels: Sequence[int] = (),
    count: int = 4,
    patches: int = 4,
    progress: Progress | None = None,
) -> Study:
    """Shows what channels respond to.

    Args:
        pictures: To look for patches in; none: only made pictures.
        output_dir: Where pictures and ledger go.
        options: The run's; `size`, `levels`, `steps`, `learning_rate` and `tv_weight` count, the
            last for each pixel of the width that a position of the tap sees, and how the
            optimiser and the network go about it.
        taps: Where the channels are, after their activations.
        channels: Their numbers, from 0, the same at each tap; none: the most telling ones.
        count: How many a tap, where none are named.
        patches: How many a channel.
        progress: Told what happens.

    Raises:
        RequestError: A tap or a channel that does not exist, an option that does not count.
        PictureError: A picture is missing, no picture, or too small for a tap.
    """
    progress, folder = progress or Silence(), Path(output_dir)
    options = options or study_options("neurons")
    _check_ignored(options)
    setup = open_setup(options)
    names = [canonical_tap(tap, setup.weights.architecture) for tap in taps]
    _check(setup, names, channels, count, patches)
    images = [_opened(picture, options.size, names) for picture in pictures]
    looked = images or [np.random.default_rng(0).random((options.size,) * 2 + (3,), np.float32)]
    before = [before_activation(tap) for tap in names]
    network = setup.network((*names, *before))
    said = answers(network, looked, [*names, *before], options.size)
    neurons = _neurons(said, names, channels, count)
    scales = {tap: spread([each[tap] for each in said]) for tap in before}
    cells = _made(neurons, scales, setup, folder, progress)
    shown = patches if images else 0
    for neuron in neurons:
        field = receptive_field(neuron.tap, setup.weights.architecture)
        found = best_patches([each[neuron.tap] for each in said], neuron.channel, shown, field)
        cells += _patch_cells(neuron, found, images, field, shown, folder)
    return Study(
        kind="neurons",
        title="What a channel responds to",
        text=_TEXT if images else _TEXT[:1],
        rows=[neuron.name for neuron in neurons],
        columns=["made for it", *(f"patch {n}" for n in range(1, shown + 1))]
        + (["where"] if shown else []),
        cells=cells,
        inputs={},
        settings={"pictures": [picture_name(picture) for picture in pictures]},
    )


def before_activation(tap: str) -> str:
    """The same channels before their activation: silent ones have a gradient there too."""
    return tap.replace("relu", "conv")


def _check_ignored(options: Options) -> None:
    """Refuses an option that was given and would change nothing."""
    usual = study_options("neurons", init="noise"), Options(preset=options.preset)
    for name in _IGNORED:
        value = getattr(options, name)
        if all(value != getattr(one, name) for one in usual):
            raise OptionError(
                f"{name} does not count in a study of neurons, which has no content and no style "
                f"to compare with, got {value!r}",
                f"Leave {name} out",
            )


def _check(
    setup: Setup, taps: Sequence[str], channels: Sequence[int], count: int, patches: int
) -> None:
    if not taps or len(set(taps)) != len(taps) or not all(tap.startswith("relu") for tap in taps):
        raise OptionError(
            f"taps of the study must be at least one relu, none twice, got {' '.join(taps)}"
        )
    if count < 1 or not 0 <= patches <= 32:
        raise OptionError(f"count must be 1 or more and patches 0 to 32, got {count} and {patches}")
    for tap in taps:
        kernel, _ = setup.weights.convolutions[before_activation(tap)]
        for channel in channels:
            if not 0 <= channel < kernel.shape[-1]:
                raise OptionError(
                    f"channel {channel} does not exist at {tap}, which has the channels 0 to "
                    f"{kernel.shape[-1] - 1}"
                )


def _opened(picture: PictureSource, edge_px: int, taps: Sequence[str]) -> Image:
    if isinstance(picture, (str, Path)):
        pixels = composited(load_picture(Path(picture)), "white")
    else:
        pixels = composited(from_array(np.asarray(picture)), "white")
    size = fitted((pixels.shape[0], pixels.shape[1]), edge_px)
    smallest = smallest_side(taps)
    if min(size) < smallest:
        raise PictureError(
            f"picture {picture_name(picture)!r} must be at least {smallest} px on both sides to "
            f"reach the deepest tap, got {size[1]}x{size[0]} (width x height)",
            "Raise --size, crop the picture, or use taps of earlier blocks",
        )
    return resized(pixels, size)


def _neurons(
    said: Sequence[Mapping], taps: Sequence[str], channels: Sequence[int], count: int
) -> list[Neuron]:
    chosen = [
        (tap, channel)
        for tap in taps
        for channel in (channels or telling_channels([each[tap] for each in said], count))
    ]
    return [Neuron(place, tap, channel) for place, (tap, channel) in enumerate(chosen)]


def _made(
    neurons: Sequence[Neuron],
    scales: Mapping[str, Scale],
    setup: Setup,
    folder: Path,
    progress: Progress,
) -> list[Cell]:
    """A picture for each neuron, all in one batch; what is there and up to date is kept."""
    jobs = completed([_job(neuron, tuple(scales), setup) for neuron in neurons], setup.options)
    requests = [one for one in examine(jobs, setup, progress) if isinstance(one, Request)]
    asked = {one.index: _fingerprint(one, neurons[one.index], scales) for one in requests}
    make_folder(folder)
    place = LocalFolder(folder)
    marked = [dataclasses.replace(one, fingerprint=asked[one.index]) for one in requests]
    work = left_to_do(marked, place.records(), place, Handling())
    left = {one.index for one in work.requests}
    missing = [one for one in requests if one.index in left]
    with Writer(place, setup.options, progress) as writer:
        for result in _rendered(missing, neurons, scales, setup, progress):
            writer.put(dataclasses.replace(result, fingerprint=asked[result.index]))
    if writer.fault:
        raise writer.fault
    records = place.records()
    trials = [
        Trial(neuron.place, 0, job.output, job_options(job.options or setup.options))
        for neuron, job in zip(neurons, jobs, strict=True)
    ]
    return [cell_of(trial, records[trial.output], folder, lambda _: {}) for trial in trials]


def _rendered(
    requests: Sequence[Request],
    neurons: Sequence[Neuron],
    scales: Mapping[str, Scale],
    setup: Setup,
    progress: Progress,
) -> Iterator[Result]:
    if not requests:
        return
    plan = planned(requests, setup, progress)
    renderer = setup.renderer(
        requests,
        progress,
        targets=lambda programs, variation: ChannelTargets(neurons, scales, variation),
    )
    progress.started(len(requests), sum(one.image_steps for one in requests))
    yield from run(requests, setup, renderer, plan)


def _fingerprint(request: Request, neuron: Neuron, scales: Mapping[str, Scale]) -> str:
    """What a made picture follows from: what other jobs do, its channel, the answer's unit."""
    unit = float(scales[before_activation(neuron.tap)][neuron.channel])
    text = f"{request.fingerprint}|{neuron.tap}|{neuron.channel}|{unit!r}"
    return hashlib.sha256(text.encode()).hexdigest()


def _job(neuron: Neuron, taps: tuple[str, ...], setup: Setup) -> Job:
    """A job whose content and style do not count; they only have the size of the picture.

    The deeper the tap, the finer the grain that excites it beside its motif. So smoothness counts
    as much more as a position of the tap sees.
    """
    options, field = setup.options, receptive_field(neuron.tap, setup.weights.architecture)
    grey = np.full((options.size, options.size, 3), 0.5, np.float32)
    own = job_options(
        options,
        init="noise",
        tv_weight=options.tv_weight * field.edge,
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
    return Job(grey, grey, output=f"{neuron.tap}_{neuron.channel}.png", options=own)


def _patch_cells(
    neuron: Neuron,
    found: Sequence[Patch],
    images: Sequence[Image],
    field: Field,
    columns: int,
    folder: Path,
) -> list[Cell]:
    """A cell a patch, and one that shows where the best of them lies."""
    cells = []
    for number, patch in enumerate(found, start=1):
        seen = _cropped(images[patch.picture], field.box(patch.row, patch.column))
        cells.append((number, seen, f"{patch.value:.3g}"))
    if found:
        best = found[0]
        whole = _boxed(images[best.picture], field.box(best.row, best.column))
        cells.append((columns + 1, whole, f"{field.edge} px wide"))
    (folder / "patches").mkdir(parents=True, exist_ok=True)
    made = []
    for column, image, caption in cells:
        output = f"patches/{neuron.tap}_{neuron.channel}_{column}.png"
        save_picture(folder / output, image)
        made.append(Cell(neuron.place, column, output, caption=caption, image=image))
    return made


def _cropped(image: Image, box: tuple[int, int, int, int]) -> Image:
    """What lies in a box; beyond the border it is grey."""
    top, left, bottom, right = box
    seen = np.full((bottom - top, right - left, 3), 0.5, np.float32)
    inside = _inside(box, (image.shape[0], image.shape[1]))
    seen[inside[0] - top : inside[2] - top, inside[1] - left : inside[3] - left] = image[
        inside[0] : inside[2], inside[1] : inside[3]
    ]
    return seen


def _boxed(image: Image, box: tuple[int, int, int, int]) -> Image:
    """The picture with a line around a box."""
    marked = image.copy()
    top, left, bottom, right = _inside(box, (image.shape[0], image.shape[1]))
    bottom, right = bottom - 1, right - 1
    for rows, columns in (
        *((row, slice(left, right + 1)) for row in (top, bottom)),
        *((slice(top, bottom + 1), column) for column in (left, right)),
    ):
        marked[rows, columns] = (1.0, 0.25, 0.1)
    return marked


def _inside(box: tuple[int, int, int, int], size: Size) -> tuple[int, int, int, int]:
    top, left, bottom, right = box
    return max(0, top), max(0, left), min(size[0], bottom), min(size[1], right)
