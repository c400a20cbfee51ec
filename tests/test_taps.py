"""Names of taps: canonical ones, other programs' words for them, and what is said of wrong ones."""

import dataclasses

import pytest
from engine_jobs import Notes

from nst_jax import JobOptions, Options
from nst_jax.engine.inputs.examine import say_taps
from nst_jax.request import presets, taps
from nst_jax.request.errors import RequestError, TapError
from nst_jax.request.taps import ARCHITECTURES, VGG16, VGG19, canonical_tap

BOTH = pytest.mark.parametrize("architecture", [VGG16, VGG19], ids=lambda vgg: vgg.name)


@BOTH
def test_every_canonical_name_is_its_own(architecture):
    assert len(set(architecture.taps)) == len(architecture.taps)
    for tap in architecture.taps:
        assert canonical_tap(tap, architecture) == tap


@pytest.mark.parametrize(("name", "convolutions"), [("vgg16", 13), ("vgg19", 16)])
def test_the_networks_have_their_published_depth(name, convolutions):
    architecture = ARCHITECTURES[name]
    assert architecture.name == name
    assert len(architecture.convolutions) == sum(architecture.depths) == convolutions
    assert len(architecture.taps) == 1 + 2 * convolutions + 5


def test_taps_come_in_the_order_of_computation():
    assert VGG16.taps[:6] == ("pixels", "conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1")
    assert VGG16.taps[-3:] == ("conv5_3", "relu5_3", "pool5")
    assert VGG19.taps[-3:] == ("conv5_4", "relu5_4", "pool5")
    assert VGG16.convolutions[:3] == ("conv1_1", "conv1_2", "conv2_1")


# The positions are those of torchvision's own listing (`print(vgg19().features)`).
ALIASES = [
    ("block1_conv1", "relu1_1", "relu1_1"),
    ("block4_conv2", "relu4_2", "relu4_2"),
    ("block5_conv3", "relu5_3", "relu5_3"),
    ("block4_pool", "pool4", "pool4"),
    ("features.0", "conv1_1", "conv1_1"),
    ("features.1", "relu1_1", "relu1_1"),
    ("features.4", "pool1", "pool1"),
    ("features.15", "relu3_3", "relu3_3"),
    ("features.16", "pool3", "conv3_4"),
    ("features.20", "relu4_2", "relu4_1"),
    ("features.22", "relu4_3", "relu4_2"),
    ("features.29", "relu5_3", "relu5_1"),
    ("features.30", "pool5", "conv5_2"),
    ("r42", "relu4_2", "relu4_2"),
    ("r11", "relu1_1", "relu1_1"),
    ("p4", "pool4", "pool4"),
    (" Relu4_2 ", "relu4_2", "relu4_2"),
    ("Block4_Conv2", "relu4_2", "relu4_2"),
]


@pytest.mark.parametrize(("alias", "in_vgg16", "in_vgg19"), ALIASES)
def test_other_programs_names_are_understood(alias, in_vgg16, in_vgg19):
    assert canonical_tap(alias, VGG16) == in_vgg16
    assert canonical_tap(alias, VGG19) == in_vgg19


def test_a_name_that_one_network_has_may_be_none_in_another():
    assert canonical_tap("features.36", VGG19) == "pool5"
    assert canonical_tap("relu3_4", VGG19) == "relu3_4"
    for name, architecture, said in (
        ("features.31", VGG16, "features.31"),
        ("features.37", VGG19, "features.37"),
        ("relu3_4", VGG16, "relu3_1 to relu3_3"),
    ):
        with pytest.raises(TapError, match=said):
            canonical_tap(name, architecture)


CONV4_2 = (
    "tap conv4_2 is before the activation; what most programs call so is after it, here relu4_2"
)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ([{"content_taps": ("conv4_2",)}, {"content_taps": ("conv4_2",), "seed": 1}], [CONV4_2]),
        ([{"content_taps": ("Conv4_2",)}], ["tap Conv4_2 is taken for conv4_2", CONV4_2]),
        (
            [{"style_taps": ("conv1_1", "relu2_1")}, {"content_taps": ("conv4_2",)}],
            [CONV4_2.replace("conv4_2", "conv1_1, conv4_2").replace("relu4_2", "relu1_1, relu4_2")],
        ),
        ([{"content_taps": ("block4_conv2",)}], ["tap block4_conv2 is taken for relu4_2"]),
        ([{"content_taps": ("features.19",)}], ["tap features.19 is taken for conv4_2"]),
        ([{"style_taps": ("relu1_1", "pool4")}, {"content_taps": ("pixels",)}], []),
        ([], []),
    ],
)
def test_it_is_said_once_what_a_name_is_taken_for_and_that_conv4_2_is_not_relu4_2(wanted, said):
    notes = Notes()
    say_taps([JobOptions(**one) for one in wanted], Options(), VGG16, notes)
    assert notes.said == said


def test_nothing_is_said_of_what_a_preset_names(monkeypatch):
    gram = presets.PRESETS["gram"]
    caffe = dataclasses.replace(gram, values={**gram.values, "content_taps": ("conv4_2",)})
    monkeypatch.setattr(presets, "PRESETS", {"gram": caffe})
    notes, options = Notes(), Options(preset="gram")
    say_taps([options], options, VGG16, notes)
    assert notes.said == []


@pytest.mark.parametrize(
    "name", ["relu4_9", "conv4_4", "block4_conv4", "r44", "relu4_0", "relu4_2x"]
)
def test_an_unknown_tap_is_told_what_its_block_has(name):
    with pytest.raises(TapError) as caught:
        canonical_tap(name, VGG16)
    message = str(caught.value)
    for expected in (repr(name), "vgg16", "relu4_1 to relu4_3", "conv4_1 to conv4_3", "pool4"):
        assert expected in message
    assert isinstance(caught.value, RequestError)


@pytest.mark.parametrize("name", ["", "relu6_1", "relu0_1", "p6", "fc7", "r4_22", "x4_2", "22"])
def test_a_name_of_no_block_is_told_which_blocks_there_are(name):
    with pytest.raises(TapError, match="blocks 1 to 5"):
        canonical_tap(name, VGG19)


@pytest.mark.parametrize(
    ("tap", "block", "poolings"),
    [
        ("pixels", 0, 0),
        ("conv1_1", 1, 0),
        ("relu1_2", 1, 0),
        ("pool1", 1, 1),
        ("relu2_1", 2, 1),
        ("conv4_2", 4, 3),
        ("pool4", 4, 4),
        ("relu5_1", 5, 4),
        ("pool5", 5, 5),
    ],
)
def test_poolings_are_counted_from_the_image(tap, block, poolings):
    assert taps.block_of(tap) == block
    assert taps.poolings_before(tap) == poolings
    assert taps.smallest_side([tap]) == 2**poolings


def test_the_deepest_tap_decides_the_smallest_side():
    assert taps.smallest_side(("relu1_1", "relu4_2", "conv2_1")) == 8
    assert taps.smallest_side(taps.DEFAULT_STYLE_TAPS) == 16


def test_the_deepest_tap_is_the_one_computed_last():
    assert taps.deepest_tap(["relu4_1", "pool3", "pixels"], VGG16) == "relu4_1"
    assert taps.deepest_tap(["relu4_2", "conv4_2"], VGG16) == "relu4_2"
    assert taps.deepest_tap(["relu3_3", "pool3", "conv3_3"], VGG16) == "pool3"
    assert taps.deepest_tap(["pixels"], VGG16) == "pixels"


@BOTH
def test_the_default_taps_exist(architecture):
    for tap in (*taps.DEFAULT_CONTENT_TAPS, *taps.DEFAULT_STYLE_TAPS):
        assert tap in architecture.taps
