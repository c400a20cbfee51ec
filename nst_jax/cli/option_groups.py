"""The options of a rendering as the command line takes them: in groups, none with a default.

A line gives some options; the preset, which may stand anywhere in it, decides the rest. So the
parser passes on what was given and nothing else, and shows a preset's values in `--help` alone.
"""

import dataclasses
import re
import shlex
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import tyro
from tyro._singleton import is_missing
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from nst_jax.request.field_docs import field_texts
from nst_jax.request.layered_options import override_options
from nst_jax.request.options import Options
from nst_jax.request.presets import DEFAULT_PRESET

GROUPS: Mapping[str, tuple[str, ...]] = {
    "look": (
        *("preset", "size", "steps", "content_weight", "style_weight", "tv_weight"),
        *("levels", "content_taps", "style_taps", "style_loss", "weights"),
    ),
    "strokes and colours": (
        *("style_scale", "style_size", "style_tap_ratio", "style_blend_weights"),
        *("color", "alpha"),
    ),
    "start": ("init", "noise_ratio", "noise_range", "init_blend", "seed"),
    "optimiser": (
        *("optimizer", "learning_rate", "learning_rate_schedule", "learning_rate_end"),
        *("adam_b1", "adam_b2", "adam_eps", "average_decay", "clip"),
        *("first_steps", "level_ratio", "early_stop"),
    ),
    "fidelity to papers": (
        *("content_normalization", "style_normalization", "tv_normalization"),
        *("gradient_normalization", "content_tap_weights", "style_tap_weights", "tv_loss"),
        *("pooling", "pooling_scale", "padding", "preprocessing", "pixel_blend"),
    ),
    "machine": (
        *("dtype", "batch_size", "bit_depth", "metadata", "preview_every", "max_input_pixels"),
    ),
}
"""What stands together in `--help`, in the order of use."""

_SHOWN = ("look", "strokes and colours", "start")
"""By `--help`; the others by `--help-all`."""

HELP_ALL = "--help-all"

_MORE = (
    "Look, strokes and colours, and start are shown; --help-all also shows the optimiser, fidelity "
    "to papers, and machine."
)


def is_help(arguments: Sequence[str]) -> bool:
    """Whether a line asks for help."""
    return not {"-h", "--help", HELP_ALL}.isdisjoint(arguments)


def options_registry(arguments: Sequence[str]) -> ConstructorRegistry:
    """How tyro makes Options, and how it shows all of our commands.

    Args:
        arguments: The line. Where it asks for help, its preset's values are shown as defaults.

    Raises:
        OptionError: Help is asked for, with a preset that there is not.
    """
    shows_help = is_help(arguments)
    named = re.findall(r"--preset[= ]([^\s-]\S*)", " ".join(arguments)) if shows_help else []
    shown = Options(preset=named[-1] if named else DEFAULT_PRESET)
    groups = _SHOWN if shows_help and HELP_ALL not in arguments else tuple(GROUPS)
    registry = ConstructorRegistry()
    is_asking = False  # for tyro's own rule, from within this one

    @registry.struct_rule
    def make(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal is_asking
        kind = info.type
        if kind is Options:
            return _options_spec(info.default, shown, groups)
        if is_asking or not getattr(kind, "__module__", "").startswith("nst_jax."):
            return None
        is_asking = True
        try:
            spec = registry.get_struct_spec(info)
        finally:
            is_asking = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(map(_tidy, spec.fields)))

    return registry


def _options_spec(default: Any, shown: Options, groups: Sequence[str]) -> StructConstructorSpec:
    """Options in groups, each of the values that the line gives."""
    start = default if isinstance(default, Options) else None

    def make_options(**given: Mapping[str, Any]) -> Options:
        values = {name: value for group in given.values() for name, value in group.items()}
        return Options(**values) if start is None else override_options(start, values)

    return StructConstructorSpec(
        instantiate=make_options,
        fields=tuple(
            StructFieldSpec(
                name=name.replace(" ", "_"),
                type=Annotated[
                    _group_type(name, start or shown, is_part=len(groups) < len(GROUPS)),
                    tyro.conf.arg(name=name),
                ],  # type: ignore[arg-type]
                default={},
            )
            for name in groups
        ),
    )


def _group_type(group: str, shown: Options, *, is_part: bool) -> Any:
    """A mapping of those options of a group that are given, each with its text and default."""
    types, texts = typing.get_type_hints(Options), field_texts(Options)
    fields = {
        name: Annotated[
            types[name],
            tyro.conf.arg(help=texts[name], help_behavior_hint=_default_text(getattr(shown, name))),
        ]
        for name in GROUPS[group]
    }
    make: Callable[..., Any] = getattr(typing, "TypedDict")  # noqa: B009, a checker wants a literal
    kind = make(group, fields, total=False)
    kind.__doc__ = _MORE if is_part and group == _SHOWN[0] else None
    return kind


def _default_text(value: Any) -> str:
    if value == ():
        return ""
    return f"(default: {shlex.join(map(str, value)) if isinstance(value, tuple) else value})"


def _tidy(field: StructFieldSpec) -> StructFieldSpec:
    """The same field with its text in one line, which is broken where the terminal ends.

    Of a default that says nothing nothing is said; a list that has none is required.
    """
    text = field.helptext() if callable(field.helptext) else field.helptext
    kind: Any = field.type
    if is_missing(field.default):
        is_list = "tuple" in str(kind)
        hint = "(required)" if is_list else None
    else:
        hint = "" if field.default in ((), None, "", False, 0) else None
    if hint is not None:
        kind = Annotated[kind, tyro.conf.arg(help_behavior_hint=hint)]
    return dataclasses.replace(field, type=kind, helptext=text and " ".join(text.split()))
