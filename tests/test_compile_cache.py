"""Compiled programs on disk: the second run compiles nothing, and no run fails for it."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from engine_jobs import Studio, image_of, tiny_job, tiny_options
from jax.experimental.compilation_cache import compilation_cache

from nst_jax.engine.device import runtime
from nst_jax.engine.device.runtime import (
    CACHE_VARIABLE,
    cache_folder,
    count_cache_hits,
    persistent_cache,
)

FOLDER = "jax_compilation_cache_dir"


@pytest.fixture(autouse=True)
def without_the_cache_of_the_session():
    """Else nothing would be compiled here at all."""
    before = getattr(jax.config, FOLDER)
    jax.config.update(FOLDER, None)
    compilation_cache.reset_cache()
    yield
    jax.config.update(FOLDER, before)
    compilation_cache.reset_cache()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Where programs are kept while the test lasts."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "programs"))
    jax.clear_caches()
    return tmp_path / "programs"


def _rendered(weights, **changes):
    """A picture and the programs of a new engine, which remembers nothing."""
    jax.clear_caches()
    studio = Studio(tiny_options(weights, levels=1, **changes))
    (result,) = studio.render([tiny_job(0)])
    return image_of(result), studio.programs


def _compiled_anew():
    """A program that no other test has compiled."""
    jax.jit(lambda x: x + np.float32(next(_NUMBERS))).lower(1.0).compile()


_NUMBERS = itertools.count(100)


def _kept(root):
    return [path.name for path in root.rglob("*-cache")]


def _skip_where_nothing_comes_back():
    """On some CPUs the backend rejects what it has stored itself (jax-ml/jax#38445)."""
    for _ in range(2):
        with persistent_cache() as folder:
            pass
    if folder is None:
        pytest.skip("this CPU rejects what its compiler stored")


def test_a_second_engine_loads_what_the_first_compiled(narrow_file, root):
    _skip_where_nothing_comes_back()
    with persistent_cache():
        first, programs = _rendered(narrow_file)
    assert programs.loaded == set()
    with persistent_cache():
        second, others = _rendered(narrow_file)
    assert others.loaded == set(others.compiled) == set(programs.compiled)
    assert second.tobytes() == first.tobytes()
    assert others.memory == programs.memory


def test_another_batch_size_is_another_program(narrow_file, root):
    _skip_where_nothing_comes_back()
    with persistent_cache():
        _rendered(narrow_file)
        _, programs = _rendered(narrow_file, batch_size=2)
    missed = set(programs.compiled) - programs.loaded
    assert [name.split()[0] for name in missed] == ["step"]


def test_a_second_process_loads_what_the_first_compiled(root):
    program = (
        "import jax; from nst_jax.engine.device.runtime import *\n"
        "with persistent_cache() as folder, count_cache_hits() as loads:\n"
        "    jax.jit(lambda x: x * 3).lower(1.0).compile()\n"
        "print(loads.count, folder is not None)"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program]
    said = [
        subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout.split()
        for _ in range(2)
    ]
    if said[1][1] == "False":
        pytest.skip("this CPU rejects what its compiler stored")
    assert said[0] == ["0", "True"]
    # Its own tiny program came back before it was watched.
    assert said[1] == ["2", "True"] or said[1] == ["1", "True"]


@pytest.mark.parametrize("value", ["", "off", "OFF", " "])
def test_it_can_be_switched_off(root, monkeypatch, value):
    monkeypatch.setenv(CACHE_VARIABLE, value)
    with persistent_cache() as folder:
        assert getattr(jax.config, FOLDER) is None
        _compiled_anew()
    assert folder is None
    assert not root.exists()


def test_a_library_call_keeps_nothing(narrow_file, root):
    _, programs = _rendered(narrow_file)
    assert programs.loaded == set()
    assert not root.exists()


def test_jax_is_left_as_it_was(root):
    names = (FOLDER, *runtime._SETTINGS)
    before = [getattr(jax.config, name) for name in names]
    with persistent_cache() as folder:
        assert getattr(jax.config, FOLDER) == str(folder)
        _compiled_anew()
    assert [getattr(jax.config, name) for name in names] == before
    kept = len(_kept(root))
    assert kept
    _compiled_anew()
    assert len(_kept(root)) == kept


def test_jax_is_left_as_it_was_by_a_run_that_fails(root):
    before = getattr(jax.config, FOLDER)
    with pytest.raises(KeyError), persistent_cache():
        raise KeyError
    assert getattr(jax.config, FOLDER) == before


def test_a_folder_that_can_not_be_made_is_no_fault(root):
    root.write_text("a file is in the way")
    with persistent_cache() as folder:
        _compiled_anew()
    assert folder is None


def test_a_folder_that_can_not_be_written_is_no_fault(root):
    with (
        mock.patch.object(Path, "touch", side_effect=PermissionError),
        persistent_cache() as folder,
    ):
        _compiled_anew()
    assert folder is None


def test_a_machine_that_rejects_what_it_stored_goes_without(root):
    """As if nothing ever came back: the first try can't know, the second does."""
    with mock.patch.object(runtime, "_HIT", "an event that never comes"):
        with persistent_cache() as first:
            assert getattr(jax.config, FOLDER) == str(first)
        with persistent_cache() as second:
            assert getattr(jax.config, FOLDER) is None
    assert first is not None
    assert second is None


def test_a_cache_that_the_user_has_set_up_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    own = str(tmp_path / "own")
    jax.config.update(FOLDER, own)
    try:
        with persistent_cache() as folder:
            assert getattr(jax.config, FOLDER) == own
        assert folder is None
    finally:
        jax.config.update(FOLDER, None)


def test_a_folder_of_ours_goes_before_one_that_jax_already_uses(tmp_path, root):
    own = tmp_path / "own"
    before = {name: getattr(jax.config, name) for name in (FOLDER, *runtime._SETTINGS)}
    jax.config.update(FOLDER, str(own))
    compilation_cache.reset_cache()
    try:
        for name, value in runtime._SETTINGS.items():
            jax.config.update(name, value)
        _compiled_anew()
        count = len(_kept(own))
        with persistent_cache():
            _compiled_anew()
        assert count
        assert len(_kept(own)) == count
        assert _kept(root)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_programs_go_to_the_users_cache_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    with mock.patch("platformdirs.user_cache_dir", return_value=str(tmp_path)) as asked:
        folder = cache_folder()
    asked.assert_called_with("nst_jax")
    assert folder is not None
    assert folder.parent == tmp_path / "programs"
    assert jax.__version__ in folder.name
    assert "cpu" in folder.name


def test_another_version_or_processor_has_another_folder(root):
    here = cache_folder()
    with mock.patch.object(jax, "__version__", "99.0"):
        newer = cache_folder()
    with mock.patch.object(runtime, "_processor", return_value="another"):
        elsewhere = cache_folder()
    assert len({here, newer, elsewhere}) == 3
    assert cache_folder() == here


def test_a_damaged_entry_is_compiled_anew(narrow_file, root):
    _skip_where_nothing_comes_back()
    with persistent_cache():
        first, _ = _rendered(narrow_file)
    for path in root.rglob("*run_chunk*-cache"):
        path.write_bytes(path.read_bytes()[:100])
    with persistent_cache(), pytest.warns(UserWarning, match="persistent compilation cache"):
        second, programs = _rendered(narrow_file)
    assert [name.split()[0] for name in set(programs.compiled) - programs.loaded] == ["step"]
    assert second.tobytes() == first.tobytes()


def test_only_loads_in_the_block_are_counted(root):
    _skip_where_nothing_comes_back()

    def compiled():
        jax.jit(lambda x: np.float32(5) * x).lower(1.0).compile()

    with persistent_cache():
        compiled()
        with count_cache_hits() as loads:
            compiled()
        compiled()
    assert loads.count == 1
