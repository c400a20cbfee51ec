"""Options that remember which of them were given, so that a run can fill in the others."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Mapping
from typing import Any

from nst_jax.request.errors import OptionError
from nst_jax.request.presets import DEFAULT_PRESET, Preset, find_preset
from nst_jax.request.run_policy import RunPolicy
from nst_jax.request.validators import did_you_mean, shorten


class WithGivenNames:
    """Has room for names beside the fields of a dataclass: they are no part of its value.

    Attributes:
        given_names: Options that were given by name or by a preset, whatever their values. Options
            that are equal may differ in it.
    """

    __slots__ = ("given_names",)

    given_names: frozenset[str]

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and pickles, which would leave the names behind."""
        fields = dataclasses.fields(typing.cast(Any, self))
        values = {one.name: getattr(self, one.name) for one in fields}
        return functools.partial(type(self), given_names=self.given_names, **values), ()


class OptionsType(type):
    """Makes options that know what they were given, and start from their preset if they have one.

    `Options(preset="crowsonkb", size=256)` is a preset with a size of one's own.

    `dataclasses.replace` makes an object anew from all of its values. To it `given_names` is an
    argument like any other, the first of all that it was not told to change: what stands before
    is changed, what stands after only handed on.
    """

    if not typing.TYPE_CHECKING:  # to a checker the options are as the fields declare them

        @property
        def __signature__(cls) -> inspect.Signature:
            """What `help` and notebooks show: the options with their types and defaults."""
            whole = inspect.signature(cls.__init__)
            hidden = ("self", "given_names")
            shown = [one for name, one in whole.parameters.items() if name not in hidden]
            return whole.replace(parameters=shown)

        def __call__(cls, *unnamed: Any, **values: Any) -> Any:
            if unnamed:
                name, got = cls.__name__, shorten(unnamed[0])
                raise OptionError(
                    f"{name} must be given each option by its name, got {got}",
                    f"Write {name}(steps=50)",
                )
            names = tuple(values)
            unknown = values.keys() - cls.__dataclass_fields__.keys() - {"given_names"}
            if unknown:
                raise OptionError(*_explain_unknown(cls, min(unknown)))
            if "given_names" in values:
                changed = names[: names.index("given_names")]
                names = tuple(sorted(values.pop("given_names").union(changed)))
            elif "preset" in cls.__dataclass_fields__:
                preset = find_preset(values.get("preset", DEFAULT_PRESET))
                values = {**preset.values, **without_first_steps(preset, values), **values}
                names = tuple(values)
            options = super().__call__(**values)
            object.__setattr__(options, "given_names", _as_set(names))
            return options


def without_first_steps(preset: Preset, given: Mapping[str, Any]) -> dict[str, int]:
    """What `first_steps` is where `steps` was given and a preset says the other: the same.

    Else a small picture, whose first level is its only one, would not have the steps that it was
    given.
    """
    is_given_alone = "steps" in given and "first_steps" not in given
    return {"first_steps": 0} if is_given_alone and "first_steps" in preset.values else {}


@functools.lru_cache(maxsize=1024)  # a list may have a million jobs that give the same few
def _as_set(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


def _explain_unknown(kind: type, name: str) -> tuple[str, str]:
    """A fault and its remedy: there is no such option."""
    names = [one.name for one in dataclasses.fields(kind)]
    guess = did_you_mean(name, names) or f"help({kind.__name__}) explains all"
    if name in {one.name for one in dataclasses.fields(RunPolicy)}:
        guess = f"It belongs to a batch's handling: handling=RunPolicy({name}=...)"
    return f"{kind.__name__} must be given options that there are, got {name!r}", guess.strip()
