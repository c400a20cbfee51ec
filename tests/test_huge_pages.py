"""Large pages of memory are requested where Linux gives them on request alone."""

import json
import os
import subprocess
import sys

import pytest

from nst_jax.cli.huge_pages import environment_to_begin_with

VARIABLE, VALUE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"

pytestmark = pytest.mark.skipif(
    not getattr(os, "confstr_names", {}).get("CS_GNU_LIBC_VERSION"), reason="no glibc"
)


def setting_of(folder, text):
    path = folder / "enabled"
    path.write_text(text)
    return path


@pytest.mark.parametrize("command", ["render", "batch", "study", "bench"])
def test_commands_of_many_steps_ask_for_them(tmp_path, command):
    setting = setting_of(tmp_path, "always [madvise] never\n")
    given = {"HOME": "/root"}
    asked = environment_to_begin_with([command, "jobs.csv"], given, setting)
    assert asked == {"HOME": "/root", VARIABLE: VALUE}
    assert given == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (["plan", "batch"], {}, "always [madvise] never"),
        (["--help"], {}, "always [madvise] never"),
        ([], {}, "always [madvise] never"),
        (["batch"], {VARIABLE: ""}, "always [madvise] never"),
        (["batch"], {VARIABLE: VALUE}, "always [madvise] never"),
        (["batch"], {}, "[always] madvise never"),
        (["batch"], {}, "always madvise [never]"),
        (["batch"], {}, ""),
    ],
)
def test_others_and_those_that_have_them_stay_as_they_are(tmp_path, arguments, environment, text):
    setting = setting_of(tmp_path, text)
    assert environment_to_begin_with(arguments, environment, setting) is None
    assert environment_to_begin_with(["batch"], {}, tmp_path / "nowhere") is None


_SPY = """
import json, os, sys
import nst_jax.cli.huge_pages as pages
pages.environment_to_begin_with.__defaults__ = (pages.Path(os.environ["SETTING"]),)
pages.begin_with_huge_pages()
print(json.dumps([os.getpid(), sys.argv[1:], os.environ.get("GLIBC_TUNABLES")]))
"""


def test_the_process_stays_the_same_and_begins_but_once_more(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    environment["SETTING"] = str(setting_of(tmp_path, "always [madvise] never"))
    script = tmp_path / "spy.py"
    script.write_text(_SPY)
    begun = subprocess.Popen(
        [sys.executable, str(script), "batch", "a b.csv", "--size", "8"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    told, _ = begun.communicate(timeout=60)
    assert json.loads(told) == [begun.pid, ["batch", "a b.csv", "--size", "8"], VALUE]
