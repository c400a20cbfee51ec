"""What a channel responds to: patches of pictures, and pictures made to excite it.

The patches are those of the highest answers (Zeiler and Fergus 2014).
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nst_jax.engine.inputs.session import Session, open_session
from nst_jax.engine.plan.canvas import fit_long_edge
from nst_jax.engine.progress import NullProgress, Progress
from nst_jax.files.encode import save_picture
from nst_jax.files.images import Pixels, composite, load_picture, resize
from nst_jax.files.memory_pictures import load_from_memory
from nst_jax.files.storage import as_file
from nst_jax.model.receptive_field import ReceptiveField, receptive_field
from nst_jax.request.errors import OptionError, PictureError
from nst_jax.request.job import PictureSource, picture_name
from nst_jax.request.options import Options
from nst_jax.request.paths import find_output
from nst_jax.request.studies import NEURON_TAPS, study_options
from nst_jax.request.taps import canonical_tap, smallest_side
from nst_jax.request.validators import to_plain
from nst_jax.study.activation_maximisation import Neuron, before_activation, maximise_activations
from nst_jax.study.feature_search import (
    Patch,
    compute_responses,
    find_patches,
    response_deviations,
    selective_channels,
)
from nst_jax.study.study import Cell, Study

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
        options: The run's; `size`, `levels`, `steps`, `learning_rate` and `tv_weight`, which
            grows with what a position of the tap sees, count, and how the optimiser and the
            network go about it.
        taps: Where the channels are, after their activations.
        channels: Their numbers, from 0, the same at each tap; none: the most telling ones.
        count: How many a tap, where none are named.
        patches: How many a channel.
        progress: Told what happens.

    Raises:
        RequestError: A tap or a channel that does not exist, an option that does not count.
        PictureError: A picture is missing, no picture, or too small for a tap.
    """
    progress, channels = progress or NullProgress(), to_plain(channels)
    folder = Path(find_output(output_dir))
    options = options or study_options("neurons")
    _check_ignored(options)
    session = open_session(options)
    names = [canonical_tap(tap, session.weights.architecture) for tap in taps]
    _check(session, names, channels, count, patches)
    images = [_load(picture, options.size, names) for picture in pictures]
    looked = images or [np.random.default_rng(0).random((options.size,) * 2 + (3,), np.float32)]
    before = [before_activation(tap) for tap in names]
    network = session.network((*names, *before))
    responses = compute_responses(network, looked, [*names, *before], options.size)
    chosen = [
        (tap, channel)
        for tap in names
        for channel in channels or selective_channels([each[tap] for each in responses], count)
    ]
    neurons = [Neuron(place, tap, channel) for place, (tap, channel) in enumerate(chosen)]
    scales = {tap: response_deviations([each[tap] for each in responses]) for tap in before}
    cells = maximise_activations(neurons, scales, session, folder, progress)
    shown = patches if images else 0
    for neuron in neurons:
        field = receptive_field(neuron.tap, session.weights.architecture)
        found = find_patches([each[neuron.tap] for each in responses], neuron.channel, shown, field)
        cells += _write_patches(neuron, found, images, field, shown, folder)
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
    session: Session, taps: Sequence[str], channels: Sequence[int], count: int, patches: int
) -> None:
    if not taps or len(set(taps)) != len(taps) or not all(tap.startswith("relu") for tap in taps):
        raise OptionError(
            f"taps of the study must be at least one relu, none twice, got {' '.join(taps)}"
        )
    if count < 1 or not 0 <= patches <= 32:
        raise OptionError(f"count must be 1 or more and patches 0 to 32, got {count} and {patches}")
    for tap in taps:
        kernel, _ = session.weights.convolutions[before_activation(tap)]
        for channel in channels:
            if not 0 <= channel < kernel.shape[-1]:
                raise OptionError(
                    f"channel {channel} does not exist at {tap}, which has the channels 0 to "
                    f"{kernel.shape[-1] - 1}"
                )


def _load(picture: PictureSource, edge_px: int, taps: Sequence[str]) -> Pixels:
    if isinstance(picture, (str, os.PathLike)):
        opened = load_picture(as_file(picture), edge_px=edge_px)
    else:
        opened = load_from_memory(picture)
    pixels = composite(opened, "white")
    size = fit_long_edge((pixels.shape[0], pixels.shape[1]), edge_px)
    smallest = smallest_side(taps)
    if min(size) < smallest:
        raise PictureError(
            f"picture {picture_name(picture)!r} must be at least {smallest} px on both sides to "
            f"reach the deepest tap, got {size[1]}x{size[0]} (width x height)",
            "Raise --size, crop the picture, or use taps of earlier blocks",
        )
    return resize(pixels, size)


def _write_patches(
    neuron: Neuron,
    found: Sequence[Patch],
    images: Sequence[Pixels],
    field: ReceptiveField,
    columns: int,
    folder: Path,
) -> list[Cell]:
    """A cell a patch, and one that shows where the best of them lies."""
    pictures = [
        (number, _crop(images[one.picture], field.box(one.row, one.column)), f"{one.value:.3g}")
        for number, one in enumerate(found, start=1)
    ]
    if found:
        best = found[0]
        whole = _draw_box(images[best.picture], field.box(best.row, best.column))
        pictures.append((columns + 1, whole, f"{field.edge} px wide"))
    (folder / "patches").mkdir(parents=True, exist_ok=True)
    cells = []
    for column, image, caption in pictures:
        output = f"patches/{neuron.tap}_{neuron.channel}_{column}.png"
        save_picture(folder / output, image)
        cells.append(Cell(neuron.place, column, output, caption=caption, image=image))
    return cells


def _crop(image: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """What lies in a box; beyond the border it is grey."""
    top, left, bottom, right = box
    edge = bottom - top
    wide = np.pad(image, ((edge, edge), (edge, edge), (0, 0)), constant_values=0.5)
    return wide[edge + top : edge + bottom, edge + left : edge + right]


def _draw_box(image: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """The picture with a line around a box, as far as it lies in the picture."""
    top, left, bottom, right = box
    height, width = image.shape[:2]
    first, last = np.clip((top, bottom - 1), 0, height - 1)
    begin, end = np.clip((left, right - 1), 0, width - 1)
    marked = image.copy()
    marked[[first, last], begin : end + 1] = (1.0, 0.25, 0.1)
    marked[first : last + 1, [begin, end]] = (1.0, 0.25, 0.1)
    return marked
