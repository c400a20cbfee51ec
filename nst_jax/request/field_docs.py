"""The texts under a dataclass's fields in its source, made a part of its docstring."""

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Mapping
from typing import TypeVar

_Kind = TypeVar("_Kind", bound=type)
_WIDTH = 96


def document_fields(kind: _Kind) -> _Kind:
    """Adds an `Attributes` section: the fields, each with its text; inherited ones come last.

    Editors and the command line find these texts in the source, `help` and notebooks do not. Where
    there is no source, nothing is added.
    """
    lines = [
        textwrap.fill(
            f"{name}: {text}",
            _WIDTH,
            initial_indent=" " * 4,
            subsequent_indent=" " * 8,
            break_on_hyphens=False,
        )
        for name, text in field_texts(kind).items()
    ]
    if lines:
        kind.__doc__ = "\n".join([inspect.cleandoc(kind.__doc__ or ""), "", "Attributes:", *lines])
    return kind


def field_texts(kind: type) -> Mapping[str, str]:
    """The text under each field of a dataclass, in one line; its own first, then inherited ones."""
    parents = [one for one in kind.__mro__ if "__dataclass_fields__" in vars(one)]
    found = [_texts_by_class(one.__module__).get(one.__name__, {}) for one in parents]
    return {name: text for texts in found for name, text in texts.items()}


@functools.cache
def _texts_by_class(module: str) -> Mapping[str, Mapping[str, str]]:
    """What stands under each field of each class of a module."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    classes = (one for one in tree.body if isinstance(one, ast.ClassDef))
    return {one.name: _texts_in(one) for one in classes}


def _texts_in(tree: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = " ".join(text.split())
    return texts
