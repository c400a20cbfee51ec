"""The documentation: its commands are commands, its links lead somewhere, its tables are whole.

Commands are parsed as the command line parses them and not run; those of the start page are run
in a slow test, on the examples at a tiny size.
"""

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from nst_jax.cli import main
from nst_jax.cli.option_groups import GROUPS
from nst_jax.request.options import JOB_FIELDS, SHARED_FIELDS
from nst_jax.request.presets import PRESETS

build_pages = pytest.importorskip("build_pages", reason="mkdocs is not installed")

ROOT = Path(__file__).parent.parent
PAGES = sorted(build_pages.all_pages())
START = "docs/start.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n)+")
_INLINE = re.compile(r"`(nst-jax [^`]+)`")
_SCHEMATIC = re.compile(r"…|\.\.\.|\||\[|\b[A-Z]{4,}\b|--[a-z-]+ [IN]\b")
"""What stands in a text for something else: such a line is a form, not a command."""

_COMMANDS = [get_args(one)[0] for one in get_args(main._Command)]
_NAMES = {
    *(kind.__name__.lower() for kind in _COMMANDS),
    *("layers", "pixels", "reconstruct", "balance", "neurons"),
    *("list", "fetch", "convert", "verify"),
}


class Line(NamedTuple):
    """A command line of a page."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments, without variables before the command and comments behind it."""
        words = shlex.split(self.text.replace("\n", " "), comments=True)
        while "=" in words[0]:
            del words[0]
        return words[1:] if words[0] == "nst-jax" else words[3:]


def code_blocks(page: str) -> Iterator[str]:
    """The code of a page that is no Python and no text; fenced, or indented by four spaces."""
    text = (ROOT / page).read_text()
    for found in _FENCE.finditer(text):
        if found[1] in ("sh", ""):
            yield found[2]
    for found in _INDENTED.finditer(_FENCE.sub("", text)):
        yield re.sub(r"^ {4}", "", found[0], flags=re.MULTILINE)


def block_commands(page: str) -> Iterator[Line]:
    """The command lines in code blocks."""
    for block in code_blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"([A-Z_]+=\S+ )*(nst-jax|python -m nst_jax) ", line):
                yield Line(page, line)


def inline_commands(page: str) -> Iterator[Line]:
    """The command lines in sentences, but for forms and mere names of commands."""
    for found in _INLINE.finditer(_FENCE.sub("", (ROOT / page).read_text())):
        line = Line(page, found[1])
        if not _SCHEMATIC.search(found[1]) and not _NAMES.issuperset(line.words):
            yield line


LINES = sorted(
    {
        line
        for page in PAGES
        if page != "CHANGELOG.md"  # which names commands as they were
        for line in (*block_commands(page), *inline_commands(page))
    }
)


@pytest.fixture
def parse(monkeypatch):
    """Parses a command line with the real parser; returns the status, and runs nothing."""
    for kind in _COMMANDS:
        monkeypatch.setattr(kind, "run", lambda self: 0)

    def parse(words: Sequence[str]) -> Any:
        try:
            return main.run(words)
        except SystemExit as leave:  # 0 of --help, 2 of a wrong line
            return leave.code

    return parse


# Commands.


@pytest.mark.parametrize("page", sorted({line.page for line in LINES}))
def test_every_command_in_a_page_is_a_command(page, parse, capsys):
    wrong = [line.text for line in LINES if line.page == page and parse(line.words) != 0]
    assert wrong == [], capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "nst-jax render a.png b.png --outptu x.png",
        "nst-jax render a.png b.png --output x.png --size tall",
        "nst-jax render a.png b.png --output x.png --preset fats",
        "nst-jax paint a.png",
        "nst-jax weights fetch",
    ],
)
def test_a_wrong_command_would_be_found(line, parse):
    assert parse(Line("", line).words) != 0


def test_the_search_for_commands_finds_them(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "Say `nst-jax plan --size 64`, not `nst-jax plan`, nor `nst-jax batch … --quiet`.\n\n"
        "    A=1 nst-jax programs  # kept\n\n"
        "```sh\npython -m nst_jax plan \\\n  jobs.csv\npip install x\n```\n"
        "```python\nnst-jax no\n```\n"
    )
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    found = [*block_commands("page.md"), *inline_commands("page.md")]
    assert sorted(line.words for line in found) == [
        ["plan", "--size", "64"],
        ["plan", "jobs.csv"],
        ["programs"],
    ]
    assert len({line.page for line in LINES}) > 8
    assert len(LINES) > 40


@pytest.mark.parametrize("page", PAGES)
def test_every_script_that_a_page_calls_is_there(page):
    called = re.findall(r"python (scripts/\S+\.py)", "".join(code_blocks(page)))
    assert [name for name in called if not (ROOT / name).is_file()] == []


# Links and tables.


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file_that_is_there(page):
    assert [target for target in build_pages.links_of(page) if not (ROOT / target).is_file()] == []


def test_a_link_that_leads_nowhere_would_be_found_and_links_lead_through_the_site(
    tmp_path, monkeypatch
):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("[b](b.md) [x](../README.md#top) [u](https://u.org)")
    monkeypatch.setattr(build_pages, "ROOT", tmp_path)
    assert [*build_pages.links_of("docs/a.md")] == ["docs/b.md", "README.md"]
    rewrite = build_pages.rewrite_links
    assert rewrite("[x](../README.md#top)", "a.md") == "[x](index.md#top)"
    assert rewrite("[x](docs/b/c.md)", "index.md") == "[x](b/c.md)"
    assert rewrite("[x](../looks.md)", "benchmarks/README.md") == "[x](../looks.md)"
    assert rewrite("![x](../examples/a.jpg)", "a.md") == "![x](examples/a.jpg)"
    assert rewrite("[x](#y) [u](https://u.org)", "a.md") == "[x](#y) [u](https://u.org)"


def test_every_page_is_in_the_navigation_and_begins_with_a_title():
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    places = {build_pages.PAGES.get(page, page.removeprefix("docs/")) for page in PAGES}
    assert set(re.findall(r"(\S+\.md)$", navigation, re.MULTILINE)) == places
    assert [page for page in PAGES if not (ROOT / page).read_text().startswith("# ")] == []


def test_the_options_page_has_every_option_with_its_text_and_every_preset():
    filled = build_pages.fill_tables((ROOT / "docs" / "options.md").read_text())
    for name in (*JOB_FIELDS, *SHARED_FIELDS):
        assert filled.count(f"| `--{name.replace('_', '-')}`") == 1, name
    assert filled.count(" † |") == len(SHARED_FIELDS)
    assert all(f"### `{name}`" in filled for name in PRESETS)
    assert "Long edge of the output in pixels." in filled
    assert "<!--" not in filled


def test_a_group_of_options_without_a_place_ends_the_build():
    page = (ROOT / "docs" / "options.md").read_text()
    for group in GROUPS:
        with pytest.raises(build_pages.PluginError, match="must have the groups"):
            build_pages.fill_tables(page.replace(f"<!-- options: {group} -->", ""))


def test_no_page_names_a_place_of_one_machine():
    private = re.compile(r"/(tmp|root|work)/|/home/\w")
    assert [page for page in PAGES if private.search((ROOT / page).read_text())] == []


# The start page, run.


@pytest.mark.slow
def test_the_commands_of_the_start_page_run_one_after_the_other(tmp_path, monkeypatch, narrow_file):
    lines = [*block_commands(START)]
    assert len(lines) >= 9
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NST_JAX_WEIGHTS", narrow_file)
    for line in lines:
        words = line.words
        if "--size" in words:
            words[words.index("--size") + 1] = "48"
            words += ["--steps", "2"]
        assert main.run(words) == 0, line.text
    for name in ("lighthouse_flow.png", "two_styles.png", "pairs/index.png"):
        assert Path(name).is_file(), name
    assert len([*Path("renders").glob("*.png")]) == 6
    assert len([*Path("pairs").glob("*__*.png")]) == 16
    assert Path("renders/report/index.html").is_file()
