"""What the studies of the method are made with, unless the user says otherwise."""

from typing import Any, Literal

from nst_jax.request.options import Options
from nst_jax.request.taps import PIXELS

StudyKind = Literal["layers", "pixels", "reconstruct", "balance", "neurons"]

RAW = "raw"
"""The style's depth that compares pixels with pixels, and no statistics at all."""

STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

CONTENT_TAPS = (PIXELS, "relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
"""The image itself, then one tap of each block (Gatys et al. 2016, figure 1)."""

STYLE_DEPTHS = (RAW, PIXELS, *STYLE_TAPS)
"""Pixel by pixel; colours alone; then the taps from the first up to one, all together."""

NEURON_TAPS = CONTENT_TAPS[1:]

BALANCE = 2.0
"""Weight of a style term that is 1 at the content, beside a content term that is 1 at the style."""

RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Shares of the style, from 0 to 1."""

STYLE_WEIGHTS = (3.0, 10.0, 30.0, 100.0, 300.0)
LEARNING_RATES = (0.005, 0.02, 0.08)

# Gram matrices, as in the paper's own figures, and steps that suit them.
_SMALL: dict[str, Any] = {
    "size": 128,
    "levels": 2,
    "steps": 30,
    "style_loss": "gram",
}
_PATIENT: dict[str, Any] = {"learning_rate": 0.03, "adam_b1": 0.9}
"""Of studies that begin with noise."""

_OWN: dict[StudyKind, dict[str, Any]] = {
    "layers": _SMALL | {"content_taps": CONTENT_TAPS, "style_taps": STYLE_DEPTHS},
    "pixels": _SMALL | {"style_taps": STYLE_TAPS},
    "reconstruct": _SMALL
    | _PATIENT
    | {"content_taps": CONTENT_TAPS[1:], "style_taps": STYLE_TAPS, "steps": 100, "tv_weight": 1.0},
    "balance": {"size": 128, "steps": 60},
    "neurons": _SMALL
    | _PATIENT
    | {"steps": 80, "tv_weight": 0.5, "learning_rate": 0.02, "noise_range": 0.1},
}


def study_options(kind: StudyKind, **changes: Any) -> Options:
    """The options that a study is made for: small pictures, some minutes on a CPU.

    Raises:
        OptionError: A change is out of its range.
    """
    return Options(**(_OWN[kind] | changes))
