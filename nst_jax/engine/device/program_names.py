"""What is in the names of programs of one objective."""

from typing import Any

from nst_jax.engine.device.solver import Problem
from nst_jax.model.style import RegionsTarget


def taps_text(problems: Problem) -> str:
    """What tells the objectives of two steps apart."""
    asked = problems.targets
    content, style = (",".join(taps) for taps in (asked.content, asked.style))
    kinds = set(map(_kind_text, asked.style.values()))
    gradients = " with unit gradients" if problems.weights.gradient_norms else ""
    return f"content {content} style {style} by {' and '.join(sorted(kinds))}{gradients}"


def _kind_text(target: Any) -> str:
    if isinstance(target, RegionsTarget):
        return f"{_kind_text(target.targets[0])} in regions {len(target.targets)}"
    return type(target).__name__.removesuffix("Target")
