"""Hook of mkdocs: makes one site of the Markdown files of the whole repository.

- A page may lie outside docs/, as README.md does. It and the files that pages link to become part
  of the site.
- Links in the pages are written for a reader of the repository. They are rewritten so that they
  lead to the same page or file in the site.
- `<!-- options: GROUP -->` and `<!-- presets -->` are replaced by tables that are made from the
  code, so that they are never out of date.
"""

import posixpath
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the code of this checkout, whatever is installed

from nst_jax.cli.option_groups import GROUPS  # noqa: E402, it is found now
from nst_jax.request.field_docs import field_texts  # noqa: E402
from nst_jax.request.options import JOB_FIELDS, Options  # noqa: E402
from nst_jax.request.presets import PRESETS, Preset  # noqa: E402

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "scripts/README.md": "scripts/README.md",
    "scripts/launch/README.md": "scripts/launch/README.md",
    "weights/README.md": "weights/README.md",
}
"""Pages outside docs/: their paths in the repository, and in the site's sources."""

_REPOSITORY_PATHS = {place: path for path, place in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
"""The target of a relative link or picture, and its anchor."""

_CODE = re.compile(r"^```(?s:.*?)^```$|^(?: {4}.*\n)+|`[^`\n]+`", re.MULTILINE)
_TABLE = re.compile(r"<!-- (options: (?P<group>[a-z ]+)|presets) -->")


# ---- Events of mkdocs.


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside docs/, and what pages link to that is no page."""
    for path, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    for path in sorted(set(linked_files())):
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lets links lead through the site, and fills in tables."""
    place = page.file.src_uri
    if place == "options.md":
        markdown = fill_tables(markdown)
    return rewrite_links(markdown, place)


# ---- Links.


def all_pages() -> list[str]:
    """The repository's paths of all pages."""
    return [*PAGES, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]


def links_of(path: str) -> Iterator[str]:
    """What a page links to, as paths in the repository."""
    text = _CODE.sub("", (ROOT / path).read_text())
    for found in _LINK.finditer(text):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(path), found[1]))


def linked_files() -> Iterator[str]:
    """Files outside docs/ that pages link to and that are no pages."""
    for path in all_pages():
        for target in links_of(path):
            is_inside = not target.startswith("../") and (ROOT / target).is_file()
            if is_inside and target not in PAGES and not target.startswith("docs/"):
                yield target


def rewrite_links(markdown: str, place: str) -> str:
    """A page's text whose links lead to where the site has their targets.

    Args:
        markdown: As it stands in the repository.
        place: Of the page among the site's sources.
    """
    folder = posixpath.dirname(_REPOSITORY_PATHS.get(place, f"docs/{place}"))

    def rewrite(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[1]))
        target = PAGES.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(target, posixpath.dirname(place) or ".") + (found[2] or "")

    return _LINK.sub(rewrite, markdown)


# ---- Tables from the code.


def fill_tables(markdown: str) -> str:
    """The options page with its tables.

    Raises:
        PluginError: A group has no place on the page, or a place names no group.
    """
    places = {found["group"] for found in _TABLE.finditer(markdown)} - {None}
    if places != set(GROUPS):
        raise PluginError(f"docs/options.md must have the groups {[*GROUPS]}, got {[*places]}")
    return _TABLE.sub(
        lambda found: options_table(found["group"]) if found["group"] else presets_text(), markdown
    )


def options_table(group: str) -> str:
    """The options of a group: flag, what it does, its values and its default."""
    texts, types, defaults = field_texts(Options), typing.get_type_hints(Options), Options()
    rows = [
        (
            f"`--{name.replace('_', '-')}`" + ("" if name in JOB_FIELDS else " †"),
            _cell(texts[name]),
            _type_text(types[name]),
            _value_text(_default(name, defaults)),
        )
        for name in GROUPS[group]
    ]
    return _table(("option", "what it does", "values", "default"), rows)


def presets_text() -> str:
    """Every preset: what it is, where it is from, and what it sets."""
    return "\n\n".join(map(_preset_text, PRESETS.values()))


def _preset_text(preset: Preset) -> str:
    parts = [f"### `{preset.name}` {{ #preset-{preset.name} }}", _sentence(preset.summary)]
    if preset.source:
        parts.append(f"Source: {preset.source}.")
    if preset.network:
        parts.append(
            f"Its objective is exact on the network `{preset.network}` and approximate on others."
        )
    if preset.values:
        rows = [(f"`{name}`", _value_text(value)) for name, value in preset.values.items()]
        parts.append(_table(("option", "value"), rows))
    if preset.departures:
        points = "\n".join(f"- {departure}" for departure in preset.departures)
        parts += ["It differs from its source in this:", points]
    return "\n\n".join(parts)


def _default(name: str, defaults: Options) -> Any:
    """A default that does not depend on who builds the page."""
    return "vgg16" if name == "weights" else getattr(defaults, name)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _type_text(kind: Any) -> str:
    """The values that an option takes, in words."""
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if "tuple" in str(kind):
        return "numbers" if "float" in str(kind) else "names"
    parts = typing.get_args(kind) or (kind,)
    words = {int: "whole number", float: "number", str: "text"}
    return " or ".join(words.get(part) or _type_text(part) for part in parts)


def _value_text(value: Any) -> str:
    if value == ():
        return ""
    values = value if isinstance(value, tuple) else (value,)
    texts = [f"{one:.6g}" if isinstance(one, float) else str(one) for one in values]
    return f"`{' '.join(texts)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
