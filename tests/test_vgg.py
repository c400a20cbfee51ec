"""The whole network, narrow, against NumPy in float64: every tap, both architectures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from networks import DEPTHS, Network, narrow_network, on_canvas, picture

from nst_jax.model import winograd
from nst_jax.model.vgg import VGG
from nst_jax.request.taps import ARCHITECTURES, VGG16

# Sixteen float32 layers, each rounding at 6e-8 and summing up to 108 products: some 4e-7.
CLOSE = 1e-5
BOTH = pytest.mark.parametrize("architecture", sorted(DEPTHS))
POOLINGS = pytest.mark.parametrize("pooling", ["max", "average", "l2"])


def build(network: Network, *, deepest="pool5", **options) -> VGG:
    architecture = ARCHITECTURES[network.architecture]
    mean = [float(value) for value in network.mean]
    return VGG(architecture, network.convolutions, mean, deepest=deepest, **options)


@jax.jit
def _every_tap(network, image, size):
    return network(image, size, network.architecture.taps)


def without_convolutions(taps: tuple[str, ...]) -> tuple[str, ...]:
    """Where no value before an activation is asked for, the two are one operation."""
    return tuple(tap for tap in taps if not tap.startswith("conv"))


@functools.partial(jax.jit, static_argnums=3)
def _compiled(network, image, size, taps):
    return network(image, size, taps)


def features_of(network: VGG, image: np.ndarray, size=None) -> dict[str, np.ndarray]:
    size = jnp.asarray(size or image.shape[:2])
    return {tap: np.asarray(value) for tap, value in _every_tap(network, image, size).items()}


@pytest.mark.parametrize(
    ("architecture", "pooling", "padding"),
    [
        *(("vgg16", "max", "replicate"), ("vgg19", "max", "zero")),
        *(("vgg16", "average", "zero"), ("vgg19", "average", "replicate")),
        *(("vgg16", "l2", "replicate"), ("vgg19", "l2", "zero")),
    ],
)
def test_every_tap_equals_the_definition(architecture, pooling, padding):
    network, image = narrow_network(architecture), picture(37, 45)
    expected = references.vgg(image, network, pooling=pooling, padding=padding)
    taps = ARCHITECTURES[architecture].taps
    assert tuple(expected) == taps
    for asked in (taps, without_convolutions(taps)):
        features = _compiled(
            build(network, pooling=pooling, padding=padding), image, jnp.array([37, 45]), asked
        )
        assert set(features) == set(asked)
        for tap in asked:
            assert features[tap].shape == expected[tap].shape
            assert references.relative_error(features[tap], expected[tap]) < CLOSE, tap


def _kernel_sides(network: VGG) -> dict[str, int]:
    return {name: len(one.kernel[...]) for name, one in network.convolutions.items()}


def test_the_algorithm_for_cpus_gives_the_same_features(monkeypatch):
    monkeypatch.setattr(winograd, "is_profitable", lambda channels_in, _: channels_in > 3)
    network, image = narrow_network("vgg16"), picture(37, 45)
    fast = build(network, use_winograd=True)
    assert list(_kernel_sides(fast).values()) == [3] + 12 * [6]
    features = features_of(fast, image)
    for tap, value in references.vgg(image, network).items():
        assert references.relative_error(features[tap], value) < CLOSE, tap


def test_what_is_made_once_is_made_by_plain_kernels_to_the_last_bit(monkeypatch):
    """A prepared network answers then as one that was never prepared; by Winograd's it differs."""
    monkeypatch.setattr(winograd, "is_profitable", lambda channels_in, _: channels_in > 3)
    network, size = narrow_network("vgg16"), jnp.asarray((40, 48))
    image, tap = jnp.asarray(picture(40, 48)), "relu4_1"
    plain, prepared = (build(network, use_winograd=prepare) for prepare in (False, True))
    expected = plain(image, size, (tap,))[tap]
    once = prepared(image, size, (tap,), use_winograd=False)[tap]
    np.testing.assert_array_equal(once, expected)
    assert (prepared(image, size, (tap,))[tap] != expected).any()


def test_only_wide_layers_are_prepared_for_the_algorithm_for_cpus():
    network = narrow_network("vgg16", channels=(64, 128, 128, 4, 4))
    sides = _kernel_sides(build(network, deepest="relu4_1", use_winograd=True))
    prepared = {name for name, side in sides.items() if side == winograd.TILE}
    assert prepared == {"conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"}
    assert set(_kernel_sides(build(network, deepest="relu4_1")).values()) == {3}


@BOTH
@POOLINGS
def test_a_canvas_changes_no_feature_and_holds_zeros_outside(architecture, pooling):
    narrow = narrow_network(architecture)
    network = build(narrow, deepest="pool4", pooling=pooling)
    for size in ((37, 45), (16, 16), (17, 31), (48, 64)):
        image = picture(*size, seed=size[0])
        alone = references.vgg(image, narrow, pooling=pooling)
        wide = _up_to_pool4(network, on_canvas(image, (48, 64)), jnp.asarray(size))
        for tap, value in wide.items():
            height, width = alone[tap].shape[:2]
            rest = np.array(value)
            error = references.relative_error(rest[:height, :width], alone[tap])
            assert error < CLOSE, (tap, size)
            rest[:height, :width] = 0
            assert not np.any(rest), (tap, size)


@jax.jit
def _up_to_pool4(network, image, size):
    """The values before the activations of two blocks, and fused activations in the others."""
    taps = network.architecture.taps[: network.architecture.taps.index("pool4") + 1]
    split = tuple(tap for tap in taps if tap[:5] in ("conv1", "conv3"))
    return network(image, size, split + without_convolutions(taps))


def test_what_lies_outside_of_an_image_does_not_matter_and_its_pixels_are_zero_there():
    network, image = build(narrow_network("vgg16")), picture(21, 33)
    clean = features_of(network, on_canvas(image, (32, 48)), (21, 33))
    dirty = features_of(network, on_canvas(image, (32, 48), filler=0.5), (21, 33))
    for tap in VGG16.taps[1:]:
        np.testing.assert_array_equal(dirty[tap], clean[tap], err_msg=tap)
    np.testing.assert_array_equal(dirty["pixels"], on_canvas(image, (32, 48)))


@pytest.mark.parametrize(
    ("taps", "count"),
    [
        (("pixels",), 0),
        (("conv1_1",), 1),
        (("relu1_1",), 1),
        (("pool1", "relu1_1"), 2),
        (("relu4_2", "conv4_2", "relu2_1"), 9),
        (("relu1_1", "relu5_1"), 11),
        (("pool5",), 13),
    ],
)
def test_nothing_is_computed_behind_the_deepest_tap(taps, count):
    image, size = jax.ShapeDtypeStruct((32, 32, 3), jnp.float32), jnp.array([32, 32])
    program = jax.jit(lambda network, image: network(image, size, taps))
    text = program.lower(build(narrow_network("vgg16")), image).as_text()
    assert text.count("stablehlo.convolution") == count


def test_only_the_constants_up_to_the_deepest_tap_are_kept_or_asked_for():
    network = build(narrow_network("vgg19"), deepest="relu3_2")
    expected = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2")
    assert tuple(network.convolutions) == expected
    assert tuple(build(narrow_network("vgg19"), deepest="pool2").convolutions) == expected[:4]
    # A weight file that ends early reaches its own taps.
    network = narrow_network("vgg16")
    first = network._replace(convolutions={"conv1_1": network.convolutions["conv1_1"]})
    value = build(first, deepest="relu1_1")(jnp.zeros((4, 4, 3)), jnp.array([4, 4]), ("relu1_1",))
    assert value["relu1_1"].shape == (4, 4, 4)


def test_a_bfloat16_network_is_near_the_float32_one():
    """bfloat16 rounds at 2^-9 = 0.2 %; thirteen layers of it stay within 3 % of the maximum."""
    narrow, image = narrow_network("vgg16"), picture(37, 45)
    features = features_of(build(narrow, dtype=jnp.bfloat16), image)
    expected = references.vgg(image, narrow)
    for tap, value in expected.items():
        assert features[tap].dtype == (jnp.float32 if tap == "pixels" else jnp.bfloat16), tap
        assert references.relative_error(features[tap], value) < 0.03, tap
    # That they differ at all shows that the layers did compute in bfloat16.
    assert references.relative_error(features["relu3_1"], expected["relu3_1"]) > 1e-4


def test_a_mapped_network_equals_one_by_one():
    network, taps = build(narrow_network("vgg16")), ("conv2_2", "pool3", "relu4_1")
    images = np.stack([on_canvas(picture(20, 24 + s, seed=s), (32, 32)) for s in range(3)])
    sizes = np.array([[20, 24 + s] for s in range(3)])
    mapped = jax.vmap(lambda network, *one: network(*one, taps), (None, 0, 0))
    together = jax.jit(mapped)(network, images, sizes)
    for slot in range(3):
        alone = _compiled(network, images[slot], sizes[slot], taps)
        for tap in taps:
            assert references.relative_error(together[tap][slot], alone[tap]) < 1e-5


@pytest.mark.parametrize(
    ("name", "deepest", "count"),
    [
        ("vgg16", "relu5_3", 14_714_688),  # Keras' count of VGG16(include_top=False)
        ("vgg19", "relu5_4", 20_024_384),  # and of VGG19
        ("vgg16", "relu1_2", 38_720),
        ("vgg19", "relu4_1", 3_505_728),
    ],
)
def test_the_published_tables_have_the_published_number_of_parameters(name, deepest, count):
    architecture = ARCHITECTURES[name]
    total, channels = 0, 3
    for tap in architecture.taps[: architecture.taps.index(deepest) + 1]:
        if tap.startswith("conv"):
            width = architecture.channels[int(tap[4]) - 1]
            total, channels = total + 9 * channels * width + width, width
    assert total == count
