"""Names of outputs, and jobs with everything about them filled in."""

import pickle
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_jax.engine.run.preflight import check_inputs_not_overwritten
from nst_jax.files.folders import LocalFolder
from nst_jax.files.remote_folders import RemoteFolder
from nst_jax.request import errors
from nst_jax.request.errors import OutputError
from nst_jax.request.job import Job, every_pair, fill_defaults, picture_name
from nst_jax.request.options import JobOptions, Options
from nst_jax.request.outputs import (
    FORMAT_OF_SUFFIX,
    OutputNames,
    check_output_place,
    check_output_suffix,
    default_output,
    normalize_output,
    validate_output,
)


def outputs_of(*jobs: Job) -> list[str]:
    return [job.output for job in fill_defaults(jobs, Options())]


# Default names.


@pytest.mark.parametrize(
    ("content", "styles", "wanted"),
    [
        ("cat.jpg", ["waves.jpg"], "cat__waves.png"),
        ("a/b/cat.jpg", ["/c/waves.tar.gz"], "cat__waves.tar.png"),
        ("cat", ["a.png", "b.png", "c"], "cat__a+b+c.png"),
        ("Zoë 猫.png", ["воды.png"], "Zoë 猫__воды.png"),
        (".hidden.png", ["s.png"], "hidden__s.png"),
        ("12:30.png", ["a\\b.png"], "12_30__a_b.png"),
        ("a\ud800\udcff.png", ["\ud800"], "a__.png"),  # half a letter, and a broken byte
    ],
)
def test_a_default_name_is_made_of_the_stems(content, styles, wanted):
    assert outputs_of(Job(content, styles)) == [wanted]


@given(st.text(min_size=1), st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_a_default_name_can_always_be_written(content, styles):
    name = default_output(content, styles)
    check_output_place(name)
    check_output_suffix(name)
    assert len(PurePosixPath(name).parts) == 1
    assert len(name.encode()) <= 200


@pytest.mark.parametrize("letter", ["x", "é", "猫", "🎨"])
def test_very_long_stems_leave_room_for_a_number_and_a_suffix(letter):
    job = Job(letter * 300, letter * 300)
    names = outputs_of(*[job] * 12)
    assert len(set(names)) == 12
    for name in names:
        check_output_place(name)
        assert len(name.encode()) <= 200


def test_arrays_have_a_name_too():
    array = np.zeros((4, 4, 3), np.float32)
    assert outputs_of(Job(array, [array, "b.png"])) == ["array__array+b.png"]
    assert picture_name(Path("a") / "b.png") == "a/b.png"


# No two alike.


@pytest.mark.parametrize(
    ("contents", "wanted"),
    [
        (["f/1.jpg", "g/2.jpg"], ["1", "2"]),
        (["f/1.jpg", "g/1.jpg", "g/2.jpg"], ["f_1", "g_1", "2"]),
        (["f/1.jpg", "g/1.png", "g/1.jpg"], ["f_1", "g_1_png", "g_1_jpg"]),
        (["f/1.jpg", "f/1.heic"], ["1_jpg", "1_heic"]),
        (["f/1.jpg", "g/1", "./f/1.jpg"], ["f_1", "g_1", "f_1"]),
        (["x/f/1.jpg", "y/f/1.jpg", "g/1.jpg"], ["x_f_1", "y_f_1", "g_1"]),
        (["F/É.jpg", "g/e\u0301.jpg"], ["F_É", "g_e\u0301"]),
        (["s3://b/f/1.jpg", "s3://b/1.jpg", "/1.jpg"], ["f_1", "b_1", "1"]),
        (["f/1.jpg", "./f/1.jpg"], ["1", "1"]),
    ],
)
def test_pictures_of_one_stem_are_told_apart_by_their_folders_in_any_order(contents, wanted):
    names = dict(zip(contents, wanted, strict=True))
    for order in (contents, contents[::-1]):
        outputs = outputs_of(*(Job(content, "s") for content in dict.fromkeys(order)))
        made = dict(zip(order, outputs, strict=True))
        numbered = [name.replace("_2.png", ".png") for name in map(made.get, contents)]
        assert numbered == [f"{names[content]}__s.png" for content in contents]
        styles = outputs_of(Job("c", ["x", *order[:-1]]), Job("c", order[-1]))
        assert styles[1] == f"c__{names[order[-1]]}.png"


def test_pairs_call_pictures_as_a_pattern_does_whether_they_meet_or_not():
    jobs = every_pair(["f/a/1.jpg", "g/2.jpg"], ["s"], {"f/a/1.jpg": "a_1"})
    assert [job.output for job in jobs] == ["a_1__s.png", "2__s.png"]
    jobs = every_pair(["f/a/1.jpg", "f/a_1.jpg"], ["s"], {"f/a/1.jpg": "a_1"})
    assert [job.output for job in jobs] == ["a_a_1__s.png", "f_a_1__s.png"]


@pytest.mark.parametrize(
    ("jobs", "wanted"),
    [
        (
            [Job("a/cat.png", "s.png"), Job("b/cat.png", "s.png"), Job("c/cat.png", "s.png")],
            ["a_cat__s.png", "b_cat__s.png", "c_cat__s.png"],
        ),
        (
            [Job("cat", "s"), Job("dog", "s", "CAT__s.png"), Job("x", "s", "cat__s_2.png")],
            ["cat__s_3.png", "CAT__s.png", "cat__s_2.png"],
        ),
        ([Job("a", "s"), Job("b", "s", "a__s.png/x.png")], ["a__s_2.png", "a__s.png/x.png"]),
        ([Job("a", "s", "./b//c.png")], ["b/c.png"]),
    ],
    ids=["default names", "given names", "folders", "shortest spelling"],
)
def test_a_default_name_gives_way_wherever_the_other_stands(jobs, wanted):
    assert outputs_of(*jobs) == wanted


SAME = "is taken by another job"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        *(("x.png", "x.png", SAME), ("x.png", "X.PNG", SAME), ("x.png", "./x.png", SAME)),
        ("a/x.png", "a//x.png", SAME),
        ("Straße/É.png", "STRASSE/e\u0301.png", SAME),  # a letter, and the same in two parts
        ("a.png", "a.png/b.png", "another job"),
        ("a.png/b/c.png", "A.PNG", "another job"),
        ("x/a.png/b/c.png", "X/a.png", "another job"),
    ],
)
def test_names_that_some_file_system_can_not_hold_together_are_refused(first, second, said):
    for one, other in ((first, second), (second, first)):
        with pytest.raises(OutputError, match=said):
            outputs_of(Job("a", "s", one), Job("b", "s", other))


@given(
    st.text(st.sampled_from("aA./\\:\0é~ "), max_size=12),
    st.sampled_from(["", ".png", ".JPG", ".tiff", ".gif"]),
    st.sampled_from([8, 16]),
)
def test_the_quick_look_at_a_name_says_what_the_rules_say(stem, suffix, bit_depth):
    def refused(*checks) -> bool:
        try:
            for check in checks:
                check()
        except OutputError:
            return True
        return False

    name = stem + suffix
    slowly = refused(
        lambda: check_output_place(name), lambda: check_output_suffix(name, bit_depth=bit_depth)
    )
    assert refused(lambda: validate_output(name, bit_depth=bit_depth)) == slowly
    if not slowly:
        wanted = str(PurePosixPath(name))
        assert validate_output(name, bit_depth=bit_depth) == normalize_output(name) == wanted


@given(st.text(st.sampled_from("a./b "), min_size=1, max_size=12))
def test_stems_are_those_of_pathlib(name):
    wanted = f"{PurePosixPath(name).stem}__s"
    if set(name.split("/")).isdisjoint({".", ".."}):  # pathlib takes these out
        assert outputs_of(Job(name, "s"))[0] == (wanted.lstrip(".") or "output") + ".png"


def free_names(wanted: list[str]) -> list[str]:
    taken = OutputNames()
    return [taken.claim_free_name(name) for name in wanted]


@given(st.lists(st.sampled_from(["a.png", "A.png", "a_2.png", "b.png"])))
def test_default_names_are_unique_even_without_case(wanted):
    names = free_names(wanted)
    assert len({name.casefold() for name in names}) == len(wanted)
    assert names == free_names(wanted)


def test_ten_thousand_equal_default_names_are_numbered_at_once():
    names = free_names(["a.png"] * 10_000)
    assert names[-1] == "a_10000.png"  # squared time would be minutes


# Given names.


@pytest.mark.parametrize(
    "name", ["x.png", "a/b.jpg", "a b.webp", "é.tif", "..a/x.png"[2:], "a..png"]
)
def test_a_plain_relative_name_is_taken(name):
    check_output_place(name)
    check_output_suffix(name)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *((name, "relative") for name in ("/x.png", "C:\\x.png", "c:x.png", "~/x.png")),
        *((name, "inside") for name in ("../x.png", "a/../../x.png")),
        ("a\\x.png", "use /"),
        ("a\0.png", "NUL"),
        *((name, "dot") for name in (".x.png", "a/.b/x.png")),
        ("\ud800.png", "UTF-8"),
        ("é" * 101 + ".png", "200 bytes"),
        ("report/pictures/a.png", "lie outside of the report's own pictures"),
        ("Report/Pictures/deep/a.png", "lie outside of the report's own pictures"),
    ],
)
def test_a_name_that_leaves_its_place_or_hides_is_refused(name, rule):
    with pytest.raises(OutputError, match=rule):
        check_output_place(name)


def test_the_suffix_chooses_a_known_format_in_any_case_and_others_are_refused_with_the_list():
    for suffix in FORMAT_OF_SUFFIX:
        check_output_suffix(f"folder.x/name{suffix}")
        check_output_suffix(f"x{suffix.upper()}")
    for name in ("x.png", "x.tif", "x.TIFF"):
        check_output_suffix(name, bit_depth=16)
    for name in ("x", "x.", "x.gif", "png", "x.png.txt", "x.png.bmp", ".png", "", "x.png "):
        with pytest.raises(OutputError, match="must end in") as error:
            check_output_suffix(name)
        assert all(suffix in str(error.value) for suffix in FORMAT_OF_SUFFIX)
        assert repr(name) in str(error.value)
    for name in ("x.jpg", "x.jpeg", "x.webp"):
        with pytest.raises(OutputError, match="16 bits"):
            check_output_suffix(name, bit_depth=16)


# Jobs.


def test_a_job_without_options_of_its_own_has_those_of_the_run():
    (first, second) = fill_defaults(
        [Job("a", "b"), Job("a", "b", options=JobOptions(steps=3))], Options(steps=9, size=64)
    )
    assert first.options == JobOptions(steps=9)
    assert second.options == JobOptions(steps=3)
    assert fill_defaults([first], Options())[0] is first, "nothing is missing"


def test_one_style_is_one_whether_it_is_a_path_or_an_array():
    array = np.zeros((4, 4, 3), np.float32)
    for style in ("b", Path("b"), array):
        assert Job("a", style).styles == (style,)
    assert Job("a", ["b", "c"]).styles == ("b", "c")


def test_every_pair_goes_content_by_content():
    pairs = [(job.content, job.styles) for job in every_pair(["a", "b"], ["s", "t"])]
    assert pairs == [("a", ("s",)), ("a", ("t",)), ("b", ("s",)), ("b", ("t",))]
    assert every_pair(["a"], []) == []


# Errors.


def test_every_error_has_a_kind_of_its_own_and_survives_pickling():
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.NstJaxError)
    ]
    assert len({kind.kind for kind in kinds}) == len(kinds)
    for kind in kinds:
        copy = pickle.loads(pickle.dumps(kind("it must be so, got no", "Mend it.")))
        assert type(copy) is kind
        assert str(copy) == "it must be so, got no. Mend it"
    manifest = errors.ManifestError("bad", "", ["line 1: bad"])
    assert pickle.loads(pickle.dumps(manifest)).faults == ("line 1: bad",)


def test_no_output_takes_the_place_of_a_picture_that_is_read(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    folder = LocalFolder(tmp_path / "link")
    pictures = [tmp_path / "deep/../cat.png", np.zeros((2, 2, 3)), "s3://bucket/dog.png"]
    check_inputs_not_overwritten(pictures, ["dog.png", "deep/cat.png"], folder)
    with pytest.raises(OutputError, match=r"output 'cat.png' would take the place"):
        check_inputs_not_overwritten(pictures, ["dog.png", "cat.png"], folder)
    with pytest.raises(OutputError, match=r"output 'dog.png' would take the place"):
        check_inputs_not_overwritten(pictures, ["cat.png", "dog.png"], RemoteFolder("s3://bucket"))
