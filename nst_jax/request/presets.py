"""Presets: named settings, each what a program or a paper of the field does.

A preset is a set of options that differ from the defaults, and where it still departs from
its source. Losses on features need no translation: a network's own preprocessing is folded
into its first kernel, so that features have the source's unit wherever the network has the
source's numbers. Pixels are 0 to 1 here; where a source counts 0 to 255, its step sizes are
divided by 255 and its sums of squared pixels multiplied by 255². The biases make features
anything but proportional to the input, so on a network of other numbers a preset is an
approximation, and the balance of content and style another one.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from nst_jax.request.errors import OptionError
from nst_jax.request.validators import did_you_mean

DEFAULT_PRESET = "default"

_STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_ORIGINAL_VGG19 = "vgg19-keras"
_LEVELS = 255.0
"""Of a pixel, where a source counts them so."""

_GRAM: Mapping[str, Any] = {
    "content_weight": 1.0,
    "content_normalization": "relative",
    "style_loss": "gram",
    "style_weight": 30.0,
    "style_tap_ratio": 0.5,
    "tv_loss": "squared",
    "tv_weight": 15.0,
    "learning_rate": 0.02,
    "learning_rate_schedule": "constant",
    "adam_b1": 0.9,
    "steps": 150,
}
"""Gram matrices, contents and styles relative to their own norms."""

_ONE_SIZE = {**_GRAM, "levels": 1, "padding": "zero", "average_decay": 0.0}
"""What everybody did before there were levels, replicated borders and averages of iterates."""

_ORIGINAL = {
    **_ONE_SIZE,
    "weights": _ORIGINAL_VGG19,
    "style_taps": _STYLE_TAPS,
    "style_tap_weights": (1.0, 1.0, 1.0, 1.0, 1.0),
}
"""On the network that the paper and those after it used, its five taps alike."""

_COURSE = {
    **_ORIGINAL,
    "size": 400,
    "content_weight": 10.0,
    "content_normalization": "quarter_mean",
    "style_weight": 40.0,
    "style_normalization": "quarter_mean",
    "tv_weight": 0.0,
    "adam_b2": 0.999,
}

_OWN_SCALING = "pictures are scaled by Lanczos, and a style keeps its own aspect ratio"


@dataclasses.dataclass(frozen=True)
class Preset:
    """Named settings.

    Attributes:
        name: What `--preset` takes.
        summary: What it is, in a line.
        source: Where its numbers come from.
        network: The network whose numbers make its objective exact; empty: any.
        values: Options that differ from the defaults, by their names.
        departures: Where it does otherwise than its source.
    """

    name: str
    summary: str
    source: str = ""
    network: str = ""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    departures: tuple[str, ...] = ()


_ALL = (
    Preset(DEFAULT_PRESET, "what nst-jax does unless told otherwise"),
    Preset(
        "fast",
        "a good look at about a ninth of the default's cost at 512 px",
        values={
            "steps": 8,
            "first_steps": 24,
            "learning_rate": 0.04,
            "learning_rate_end": 0.5,
            "adam_b1": 0.6,
            "average_decay": 0.5,
        },
    ),
    Preset("gram", "Gram matrices, each term relative to its target's norm", values=_GRAM),
    Preset(
        "gatys2016",
        "the paper: Gram matrices, average pooling, L-BFGS from noise",
        "Gatys, Ecker and Bethge 2016, Image Style Transfer Using Convolutional Neural Networks",
        _ORIGINAL_VGG19,
        _ORIGINAL
        | {
            "size": 512,
            "pooling": "average",
            "content_weight": 1.0,
            "content_normalization": "half_sum",
            "style_weight": 1000.0,
            "style_normalization": "quarter_mean",
            "tv_weight": 0.0,
            "optimizer": "lbfgs",
            "steps": 500,
            "clip": "end",
            "init": "noise",
        },
        (
            "the paper's network was rescaled to a mean activation of 1; this is the original "
            "one, whose balance of content and style is another",
            "the paper scales a style to the content's size, where its sums over positions are "
            "these means",
            "the paper gives no number of steps: 500 is its authors' later notebook's",
            "L-BFGS has a line search, and 10 steps of memory",
            "noise is uniform over the range of a pixel",
        ),
    ),
    Preset(
        "neural-style",
        "jcjohnson's program: relu4_2, five Grams, total variation, L-BFGS from noise",
        "github.com/jcjohnson/neural-style, its defaults",
        _ORIGINAL_VGG19,
        _ORIGINAL
        | {
            "size": 512,
            "content_weight": 5.0,
            "content_normalization": "mean",
            "style_weight": 500.0,  # 100 for each of five taps
            "style_normalization": "channel_mean",
            "tv_weight": 1e-3 / 2 * _LEVELS**2,  # its gradient is that of half the squares
            "tv_normalization": "sum",
            "optimizer": "lbfgs",
            "steps": 1000,
            "learning_rate": 10 / _LEVELS,
            "adam_b2": 0.999,
            "adam_eps": 1e-8 * _LEVELS,
            "clip": "end",
            "init": "grey",
        },
        (
            "it begins from the mean colour and noise too faint to see; this from grey",
            "a pixel has 255 levels; there it has 256",
            "its total variation leaves out the last row and column, and is not in the loss "
            "that it prints",
            "L-BFGS has a line search, and 10 steps of memory for its 100",
            "an odd row or column is dropped by a pooling; there the window is cut short",
            _OWN_SCALING,
        ),
    ),
    Preset(
        "crowsonkb",
        "style-transfer-pytorch: Wasserstein-2, coarse to fine, averaged iterates",
        "github.com/crowsonkb/style-transfer-pytorch, its defaults",
        "vgg19",
        {
            "weights": "vgg19",
            "size": 512,
            "levels": "auto",
            "level_ratio": 1.4142,
            "content_weight": 0.015,
            "content_normalization": "mean",
            "style_loss": "wasserstein_full",
            "style_weight": 1.0,
            "style_taps": _STYLE_TAPS,
            "style_tap_weights": (256.0, 64.0, 16.0, 4.0, 1.0),
            "tv_loss": "nine_point",
            "tv_weight": 2.0,
            "learning_rate": 0.02,
            "learning_rate_schedule": "constant",
            "adam_b1": 0.9,
            "adam_b2": 0.99,
            "average_decay": 0.99,
            "steps": 500,
            "first_steps": 1000,
        },
        (
            "Adam's moments count as one step at the next level, scaled as gradients are; there "
            "they keep all their weight",
            "a level's start has no part in its average; there it counts as one step",
            "pictures are scaled by Lanczos for its bicubic, and small styles are enlarged",
        ),
    ),
    Preset(
        "coursera-2018",
        "the deep learning course, TensorFlow 1: conv4_2, noise 0.6",
        "Coursera, Convolutional Neural Networks, week 4, first version",
        _ORIGINAL_VGG19,
        _COURSE
        | {
            "pooling": "average",
            "learning_rate": 2 / _LEVELS,
            "adam_eps": 1e-8 * _LEVELS,
            "steps": 140,
            "clip": "end",
            "init": "noise",
            "noise_ratio": 0.6,
            "noise_range": 20 / _LEVELS,
        },
        (
            "noise is around grey; there it is around the network's mean colour",
            "its pictures are 400x300, whatever their aspect ratio; here the long edge is 400 px",
            "it says that pictures look well after some 140 steps, and takes more or fewer",
        ),
    ),
    Preset(
        "coursera-2022",
        "the deep learning course, TensorFlow 2: block5_conv4, alpha 10, beta 40",
        "Coursera, Convolutional Neural Networks, week 4, second version",
        _ORIGINAL_VGG19,
        _COURSE
        | {
            "preprocessing": "none",
            "content_taps": ("relu5_4",),
            "learning_rate": 0.01,
            "adam_eps": 1e-7,
            "steps": 2501,
            "init": "noisy-content",
            "noise_range": 0.25,
        },
        ("its pictures are squashed to 400x400; here the long edge is 400 px",),
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})
"""By name."""


def find_preset(name: Any) -> Preset:
    """The preset of that name.

    Raises:
        OptionError: There is none.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise OptionError(
            f"preset must be one of {', '.join(PRESETS)}, got {name!r}",
            f"{did_you_mean(name, PRESETS)}nst-jax presets tells what each sets",
        )
    return PRESETS[name]
