"""Every knob of a rendering, its unit and its default.

`JobOptions` may differ from job to job within one compiled program; a manifest may set
each of them in a row. `Options` adds what is fixed for a whole run. Flags, manifest
columns and these fields have the same names. Values are checked when the object is made;
whether a tap exists depends on the network and is checked by `with_canonical_taps`.
"""

import dataclasses
import functools
import itertools
import math
import operator
import os
import typing
from typing import Any, Literal, NamedTuple

from nst_jax.request.errors import OptionError
from nst_jax.request.field_docs import document_fields
from nst_jax.request.given_names import OptionsType, WithGivenNames
from nst_jax.request.presets import DEFAULT_PRESET
from nst_jax.request.taps import (
    DEFAULT_CONTENT_TAPS,
    DEFAULT_STYLE_TAPS,
    Architecture,
    canonical_tap,
)
from nst_jax.request.validators import (
    ABOVE_0,
    DECAY,
    FROM_0,
    FROM_0_TO_1,
    SHARE,
    TAPS,
    TEXT,
    WEIGHTS,
    Validator,
    number_where,
    one_of,
    to_plain,
    value_or,
    whole_number,
)

DEFAULT_MAX_INPUT_PIXELS = 89_478_485
"""Pillow's own limit: 256 MiB of 8-bit grey."""

StyleLoss = Literal["gram", "wasserstein", "wasserstein_full", "moments"]
"""How styles are compared; each is a kind of target in the model."""

OptimizerKind = Literal["adam", "lbfgs"]

LBFGS_MEMORY = 10
"""Steps that L-BFGS remembers; as crowsonkb's, and SciPy's."""

WEIGHTS_VARIABLE = "NST_JAX_WEIGHTS"
"""The environment variable that names the network where no option does."""


@document_fields
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions(WithGivenNames, metaclass=OptionsType):
    """What may differ from job to job."""

    if not typing.TYPE_CHECKING:  # first, as `OptionsType` needs it
        given_names: dataclasses.InitVar[frozenset[str]] = dataclasses.field(default=frozenset())
    content_weight: float = 0.015
    """How strongly the content's features are kept. Useful: 0.004 to 0.06."""
    style_weight: float = 1.0
    """How strongly the style's statistics are matched. Larger: more style, less content. Useful:
    0.25 to 4."""
    tv_weight: float = 2.0
    """Smoothness: weight of the mean difference of neighbouring pixels; see tv_loss. Useful: 0 to
    8."""
    content_normalization: Literal["relative", "mean", "quarter_mean", "half_sum", "half_root"] = (
        "mean"
    )
    """What the squared distance of features is divided by. relative: by the content's own norm;
    mean: by how many numbers they are; quarter_mean: by four times that (Coursera); half_sum:
    by 2 (Gatys et al. 2016); half_root: by twice the root of their number (cysmith)."""
    style_normalization: Literal["relative", "mean", "quarter_mean", "channel_mean"] = "relative"
    """Likewise for gram and moments. channel_mean: Grams over channels too, then the mean
    (jcjohnson). Wasserstein distances are always over the number of channels."""
    tv_normalization: Literal["mean", "sum"] = "mean"
    """Whether tv_weight counts for the mean over all pixels and channels or for their sum."""
    gradient_normalization: Literal["none", "l1"] = "none"
    """l1: each term's gradient at its tap gets its weight as L1 norm, as jcjohnson's
    -normalize_gradients has it; then terms count by their direction alone."""
    content_taps: tuple[str, ...] = DEFAULT_CONTENT_TAPS
    """Where the content is compared. There are relu1_1 to relu5_3 (relu5_4 on vgg19), conv1_1 and
    so on, which are the same before their activation, pool1 to pool5, and pixels for the picture
    itself."""
    style_taps: tuple[str, ...] = DEFAULT_STYLE_TAPS
    """Where the style is compared, of the same list. Deeper taps hold larger structures."""
    content_tap_weights: tuple[float, ...] = ()
    """One a content tap, scaled to sum to 1; none: all equal."""
    style_tap_weights: tuple[float, ...] = ()
    """One a style tap, scaled to sum to 1; none: as style_tap_ratio says."""
    style_tap_ratio: float = 0.25
    """Weight of a style tap over that of the one before it. Large weights on deep taps, which
    hold whole motifs, print ghosts of them over the content. Useful: 0.1 to 1."""
    style_blend_weights: tuple[float, ...] = ()
    """One a style picture, scaled to sum to 1; none: all equal."""
    pixel_blend: float = 0.0
    """What the tap pixels compares with: 0 the content, 1 the style picture stretched over it,
    between them their blend. For experiments."""
    style_scale: float = 1.0
    """Long edge of the style picture over that of the output. Larger: larger strokes. Useful: 0.5
    to 2."""
    style_size: int = 0
    """Long edge of the style picture in pixels at the last level, in place of style_scale. At
    coarser levels it is as much smaller as the output is. 0: as style_scale says."""
    learning_rate: float = 0.045
    """Adam's step size, in units of the full range of a pixel, 0 to 1."""
    learning_rate_schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    """How the step size falls in the course of each level."""
    learning_rate_end: float = 0.2
    """What is left of the step size at a level's end, as a share, where it falls."""
    adam_b1: float = 0.8
    """Memory of Adam's mean of the gradient, from 0 up to 1. Its usual 0.9 ends higher here."""
    adam_b2: float = 0.99
    """Memory of Adam's mean of its square. Its usual 0.999 is long for such short schedules."""
    adam_eps: float = 1e-8
    """What Adam adds to the root of that mean."""
    average_decay: float = 0.9
    """Memory of the moving average of the image, which is the result; 0: the last image."""
    clip: Literal["each_step", "end"] = "each_step"
    """When pixels are brought back into their range: after each step, or when a level is over."""
    steps: int = 75
    """Steps of the optimiser at each level, at most. Useful: 30 to 300."""
    first_steps: int = 0
    """Steps at the job's first level; 0: as many as at the others, as also where steps is given
    and a preset has this."""
    early_stop: float = 0.0
    """End a level once 20 steps have lowered the objective by less than this share, asked every
    20 steps from the 40th on. 0: never."""
    seed: int = 0
    """Seed of everything random in the job."""
    init: Literal[
        "content", "noise", "noisy-content", "grey", "style-statistics", "blend", "file"
    ] = "content"
    """Where the optimisation starts. noise: around grey; noisy-content: around the content;
    style-statistics: noise of the styles' mean colour and covariance; blend: content and
    styles mixed; file: the picture init_image."""
    noise_ratio: float = 1.0
    """Share of noise where init is noise, 0 to 1; the rest is the content."""
    noise_range: float = 0.5
    """How far noise reaches to either side, in units of the full range of a pixel, 0 to 1."""
    init_blend: float = 0.5
    """Share of the styles where init is blend, 0 to 1; the rest is the content."""
    color: Literal[
        "style", "content", "lab", "luminance", "match-mean-covariance", "match-histogram"
    ] = "style"
    """Whose colours the output has. content, which is another name of lab: the photo's colours
    under the result's lightness in CIELAB; luminance: likewise in linear-light YCbCr. match-...:
    the style gets the content's colours first, by their mean and covariance or channel by
    channel."""
    alpha: Literal["keep", "white", "black"] = "keep"
    """A content's transparency: kept in the output, or laid on white or black. Where it is
    kept, the network sees the picture on white."""

    def __post_init__(self, *_: frozenset[str]) -> None:
        _check_values(self)
        _check_count(self, "content_tap_weights", "content_taps")
        _check_count(self, "style_tap_weights", "style_taps")
        if self.style_size and self.style_scale != 1:
            raise OptionError(
                f"style_size and style_scale can't both be given, got {self.style_size!r} and "
                f"{self.style_scale!r}"
            )

    @property
    def static_options(self) -> "StaticOptions":
        """What of these options is part of a program; jobs that differ in it never share one."""
        return StaticOptions(self.content_taps, self.style_taps, self.gradient_normalization)


if not typing.TYPE_CHECKING:
    del JobOptions.given_names  # the argument's default, which would hide the attribute


class StaticOptions(NamedTuple):
    """Options of a job that are no arrays; see `JobOptions.static_options`."""

    content_taps: tuple[str, ...]
    style_taps: tuple[str, ...]
    gradient_normalization: str = "none"


def _default_weights() -> str:
    return os.environ.get(WEIGHTS_VARIABLE) or "vgg16"


@document_fields
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(JobOptions):
    """What a run is asked for: defaults for every job, and what all jobs share."""

    preset: str = DEFAULT_PRESET
    """Named settings that all other options start from; see nst-jax presets."""
    size: int = 512
    """Long edge of the output in pixels."""
    levels: int | Literal["auto"] = "auto"
    """Resolutions from coarse to fine, each level_ratio times the one before; 1: only the last.
    More levels: larger strokes, and most steps are cheap ones. auto: as many as bring the
    coarsest long edge nearest to 128 px."""
    level_ratio: float = 2.0
    """How much larger a level is than the one before, 1.2 to 4. Smaller: more levels, each with
    programs and steps of its own."""
    style_loss: StyleLoss = "wasserstein"
    """How styles are compared: wasserstein for means and covariances (full: slower, all
    directions alike), gram as Gatys et al. (weights: see the preset gram), moments for each
    channel alone."""
    tv_loss: Literal["squared", "absolute", "nine_point"] = "nine_point"
    """How neighbouring pixels differ: squared, absolute (edges may be sharp), or squared to all
    eight neighbours."""
    pooling: Literal["max", "average", "l2"] = "max"
    """How the network halves its features: max as it was trained, average for softer pictures,
    l2 between them."""
    pooling_scale: float = 1.0
    """A factor on each pooling's output. Averages are smaller than what the network was trained
    with; 2 makes up for it, and 0.78 for l2, as in crowsonkb/style-transfer-pytorch."""
    padding: Literal["replicate", "zero"] = "replicate"
    """What the network sees beyond a picture's border: the border again, or the mean colour as
    it was trained, which can leave a frame."""
    preprocessing: Literal["network", "none"] = "network"
    """What the network is given. none: RGB from 0 to 1 as it is, to a network that was trained
    on BGR from 0 to 255 less a mean, as a Coursera course has it."""
    optimizer: OptimizerKind = "adam"
    """What moves the pixels. lbfgs takes fewer but dearer steps, each with a line search; it has
    no learning rate, and is best with clip end and average_decay 0."""
    dtype: Literal["auto", "float32", "tensorfloat32", "bfloat16"] = "auto"
    """What the network computes in. auto: bfloat16 on GPU and TPU, float32 on CPU.
    tensorfloat32: float32 with shorter factors in products, on GPUs that have it."""
    weights: str = dataclasses.field(default_factory=_default_weights)
    """The network: a name that `nst-jax weights list` shows, or a file of any known publisher.
    Without it the environment variable NST_JAX_WEIGHTS, or else vgg16."""
    bit_depth: Literal[8, 16] = 8
    """Bits a channel of PNG and TIFF outputs."""
    metadata: Literal["none", "options", "options-and-exif"] = "options"
    """What output files say beside their pixels and colour profile. options: this program's name
    and the options, the network by its base name; options-and-exif: also date, author, copyright
    and camera of the content's EXIF, never orientation, thumbnail or position. What is finished
    stays as it is."""
    batch_size: int | Literal["auto"] = "auto"
    """Pictures in one compiled step; empty places are padded."""
    preview_every: int = 0
    """Also show each running picture at every so many of its steps, as PNG files in the folder
    previews beside the outputs. 0: never."""
    max_input_pixels: int = DEFAULT_MAX_INPUT_PIXELS
    """Most pixels of an input that are decoded; a larger one fails its job. JPEG counts at the
    scale, down to 1/8, that leaves twice the long edge at which the job uses it."""


JOB_FIELDS = tuple(field.name for field in dataclasses.fields(JobOptions))
"""Names of the options that a manifest may set in a row."""

SHARED_FIELDS = tuple(
    field.name for field in dataclasses.fields(Options) if field.name not in JOB_FIELDS
)
"""Names of the options that all jobs of a run share."""


def job_options(options: JobOptions, **changes: Any) -> JobOptions:
    """The per-job part of `options`, with some values changed and checked.

    Raises:
        OptionError: A value is out of its range.
    """
    values = {name: getattr(options, name) for name in JOB_FIELDS} | changes
    return JobOptions(**values)


def non_default_options(options: JobOptions) -> dict[str, Any]:
    """The per-job options that are not at their defaults."""
    values = {name: getattr(options, name) for name in JOB_FIELDS}
    default = JobOptions()
    return {name: value for name, value in values.items() if value != getattr(default, name)}


@functools.lru_cache(maxsize=4096)
def with_canonical_taps(options: JobOptions, architecture: Architecture) -> JobOptions:
    """The same job options with canonical names of taps; one object for options that are equal.

    Raises:
        TapError: The network has no such tap.
        OptionError: Two names mean the same tap.
    """
    given = options.content_taps, options.style_taps
    content, style = (tuple(canonical_tap(tap, architecture) for tap in taps) for taps in given)
    if (content, style) == given and type(options) is JobOptions:
        return options  # as most are; to check them again takes its time
    return job_options(options, content_taps=content, style_taps=style)


def foreign_tap_names(options: JobOptions, architecture: Architecture) -> dict[str, str]:
    """Names in `options` that are another program's, and what they were taken for."""
    names = (*options.content_taps, *options.style_taps)
    canonical = {name: canonical_tap(name, architecture) for name in names}
    return {name: tap for name, tap in canonical.items() if name != tap}


def normalized_weights(
    weights: tuple[float, ...], count: int, *, ratio: float = 1.0
) -> tuple[float, ...]:
    """Weights scaled to sum to 1; where none are given, each is `ratio` times the one before."""
    given = weights or tuple(ratio**index for index in range(count))
    total = math.fsum(given)
    return tuple(weight / total for weight in given)


_RULES = {
    **dict.fromkeys(("content_weight", "style_weight", "tv_weight", "early_stop"), FROM_0),
    **dict.fromkeys(("learning_rate", "style_tap_ratio", "adam_eps"), ABOVE_0),
    **dict.fromkeys(("noise_ratio", "noise_range", "init_blend", "pixel_blend"), FROM_0_TO_1),
    **dict.fromkeys(("adam_b1", "adam_b2", "average_decay"), DECAY),
    **dict.fromkeys(("content_taps", "style_taps"), TAPS),
    **dict.fromkeys(("content_tap_weights", "style_tap_weights", "style_blend_weights"), WEIGHTS),
    "style_scale": number_where("a number above 0, at most 8", lambda value: 0 < value <= 8),
    "style_size": value_or(0, whole_number(16, 16384, "pixels")),
    "learning_rate_end": SHARE,
    "steps": whole_number(1, 1_000_000),
    "first_steps": whole_number(0, 1_000_000),
    "seed": whole_number(0, 2**32 - 1),
    "size": whole_number(16, 16384, "pixels"),
    "levels": value_or("auto", whole_number(1, 16)),
    "level_ratio": number_where("a number from 1.2 to 4", lambda value: 1.2 <= value <= 4),
    "pooling_scale": number_where("a number above 0, at most 16", lambda value: 0 < value <= 16),
    "weights": Validator("the name of a network or a file", TEXT.holds),
    "batch_size": value_or("auto", whole_number(1, 4096)),
    "preview_every": whole_number(0, 1_000_000),
    "max_input_pixels": whole_number(1, None, "pixels"),
}
"""Of each option that is not a choice among a few."""


@functools.cache
def _rules(kind: type[JobOptions]) -> tuple[Any, ...]:
    """Names, defaults and rules of a kind of options, and what reads all its values."""
    types = typing.get_type_hints(kind)
    fields = [one for one in dataclasses.fields(kind) if one.name != "preset"]  # looked up before
    names = tuple(one.name for one in fields)
    rules = tuple(_RULES.get(name) or one_of(typing.get_args(types[name])) for name in names)
    return names, tuple(one.default for one in fields), rules, operator.attrgetter(*names)


def _check_values(options: JobOptions) -> None:
    """Looks at those that are not the defaults: few are, and a list may have a million jobs."""
    names, defaults, rules, values_of = _rules(type(options))
    values = values_of(options)
    changed = map(operator.is_not, values, defaults)
    for name, value, rule in itertools.compress(zip(names, values, rules, strict=True), changed):
        plain = to_plain(value)  # jobs with the same options are told by them
        if plain is not value:
            object.__setattr__(options, name, plain)
        rule.check(name, plain)


def _check_count(options: JobOptions, name: str, counted: str) -> None:
    values, count = getattr(options, name), len(getattr(options, counted))
    if values and len(values) != count:
        raise OptionError(
            f"{name} must have one number for each of the {count} {counted}, got {len(values)}"
        )
