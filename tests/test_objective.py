"""The objective and its gradient against a reverse pass in NumPy, alone and in a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from networks import narrow_network, on_canvas, picture
from test_vgg import build

from nst_jax.model.content import ContentTarget
from nst_jax.model.objective import Targets, Terms, TermWeights, objective
from nst_jax.model.style import GramTarget
from nst_jax.model.targets import content_targets, style_moments, style_targets

NARROW = narrow_network("vgg16")
NETWORK = build(NARROW)
CONTENT = ("conv3_1", "relu4_2")
STYLE = ("conv1_2", "pool2", "relu3_1", "relu5_1")
SIZE = (33, 41)
_with_gradient = jax.value_and_grad(objective, has_aux=True)
_alone = jax.jit(_with_gradient)
_together = jax.jit(jax.vmap(_with_gradient, (0, None, 0, 0, 0)))


def _side_at(tap: str, side: int) -> int:
    names = references.layers("vgg16")
    poolings = [name for name in names[: names.index(tap) + 1] if name.startswith("pool")]
    return side // 2 ** len(poolings)


class Job:
    """A job's image, targets and weights from a seed, as NumPy has them and as the model does."""

    def __init__(self, seed=0, size=SIZE, content=CONTENT, style=STYLE, **options):
        rng = np.random.default_rng(seed)
        self.size, self.image, self.options = size, picture(*size, seed=3 * seed), options
        target = references.vgg(picture(*size, seed=3 * seed + 1), NARROW, **options)
        other = references.vgg(picture(40, 29, seed=3 * seed + 2), NARROW, **options)
        self.content = {tap: np.float32(target[tap]) for tap in content}
        self.style = {tap: np.float32(references.gram(other[tap])) for tap in style}
        self.weights = dict(zip(("content", "style", "tv"), rng.uniform(0.5, 2, 3), strict=True))
        for name, taps in (("content_taps", content), ("style_taps", style)):
            shares = np.float32(rng.dirichlet(np.ones(len(taps))))
            self.weights[name] = dict(zip(taps, shares, strict=True))

    def expected(self, image=None):
        """Value, terms and gradient in float64."""
        image = self.image if image is None else image
        return references.objective(
            image, NARROW, self.content, self.style, self.weights, **self.options
        )

    def arguments(self, canvas=None, network=NETWORK):
        """What the model takes, with the image on a canvas of that size."""
        canvas = canvas or self.size
        content = {
            tap: ContentTarget.from_features(
                on_canvas(value, tuple(_side_at(tap, side) for side in canvas)),
                value.shape[0] * value.shape[1],
            )
            for tap, value in self.content.items()
        }
        style = {tap: GramTarget.from_moments(None, gram) for tap, gram in self.style.items()}
        image = jnp.asarray(on_canvas(self.image, canvas))
        size = jnp.asarray(self.size)
        targets = jax.tree.map(jnp.asarray, Targets(content, style))
        return image, network, size, targets, self.term_weights()

    def term_weights(self):
        single = [jnp.float32(self.weights[name]) for name in ("content", "style", "tv")]
        by_tap = [
            {tap: jnp.float32(weight) for tap, weight in self.weights[f"{term}_taps"].items()}
            for term in SIDES
        ]
        return TermWeights(*single, *by_tap)


SIDES = ("content", "style")


def _stacked(jobs, canvas):
    """The arguments of a batch; the network is the one thing that all share."""
    each = [job.arguments(canvas) for job in jobs]
    image, _, *rest = zip(*each, strict=True)
    size, targets, weights = (jax.tree.map(lambda *a: jnp.stack(a), *part) for part in rest)
    return jnp.stack(image), NETWORK, size, targets, weights


def _check(answer, expected, *, slope_error=1e-4):
    """Value to 1e-5, gradient to 1e-4 of its maximum (law 3 asks 1e-5 of float32 alone).

    The gradient on the canvas, that of the image's own region by hand.
    """
    ((value, terms), gradient), (total, parts, slope) = answer, expected
    height, width = slope.shape[:2]
    rest = np.array(gradient)
    assert float(value) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose([terms.content, terms.style, terms.tv], parts, rtol=1e-5)
    assert references.relative_error(rest[:height, :width], slope) < slope_error
    rest[:height, :width] = 0
    assert not rest.any()


@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_equal_the_ones_by_hand(seed):
    job = Job(seed)
    _check(_alone(*job.arguments()), job.expected())


@pytest.mark.parametrize(
    ("content", "style"),
    [(("relu4_2",), ("relu4_2",)), (("pixels", "pool1"), ("pixels", "relu2_2"))],
)
def test_a_tap_may_serve_both_and_the_pixels_may_be_one(content, style):
    job = Job(content=content, style=style)
    _check(_alone(*job.arguments()), job.expected())


@pytest.mark.parametrize(("kind", "scale"), [("average", 1.0), ("average", 2.0), ("l2", 0.78)])
def test_other_poolings_have_their_own_gradients(kind, scale):
    pooling = {"pooling": kind, "pooling_scale": scale}
    job = Job(**pooling)
    _check(_alone(*job.arguments(network=build(NARROW, **pooling))), job.expected())


@pytest.mark.parametrize(
    ("content", "style"), [(CONTENT, STYLE), (("conv1_1", "relu1_1"), ("conv1_2", "pool2"))]
)
def test_a_replicated_border_is_the_image_s_own_wherever_the_canvas_ends(content, style):
    """The gradient of what stands outside goes to the border that it repeats.

    An image as large as its canvas, narrower, less high, and both.
    """
    network = build(NARROW, padding="replicate")
    for size in (SIZE, (33, 30), (20, 41), (20, 30)):
        job = Job(size=size, content=content, style=style, padding="replicate")
        _check(_alone(*job.arguments(SIZE, network)), job.expected())


@pytest.mark.parametrize("passed", [False, True])
def test_each_tap_has_its_own_weight_in_whatever_order_they_are_given(passed):
    """A dict that is passed to a compiled function arrives there sorted by its keys."""
    job = Job(content=("relu2_1", "conv1_1"), style=("relu2_2", "pool1", "relu1_1"))
    arguments = job.arguments()
    captured = jax.jit(lambda: objective(*arguments))
    value, _ = jax.jit(objective)(*arguments) if passed else captured()
    assert float(value) == pytest.approx(job.expected()[0], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "average"}, {"pooling": "l2"}, {"padding": "replicate"}],
    ids=lambda one: str(one),
)
def test_finite_differences_confirm_the_gradient_by_hand(options):
    job = Job(1, **options)
    image, step = np.float64(job.image), 1e-6
    gradient = job.expected(image)[2]
    for seed in range(4):
        direction = np.random.default_rng(seed).normal(size=image.shape)
        ahead, behind = (job.expected(image + s * direction)[0] for s in (step, -step))
        slope = (ahead - behind) / (2 * step)
        assert slope == pytest.approx(np.vdot(gradient, direction), rel=1e-6)


def test_the_total_is_the_weighted_sum_of_the_unweighted_terms():
    job = Job()
    (value, terms), _ = _alone(*job.arguments())
    assert isinstance(terms, Terms)
    parts = [terms.content, terms.style, terms.tv]
    weights = [job.weights[name] for name in ("content", "style", "tv")]
    assert float(terms.total) == float(value) == pytest.approx(np.dot(weights, parts), rel=1e-6)
    job.weights.update(content=0.0, style=3.0, tv=0.0)
    (value, again), _ = _alone(*job.arguments())
    assert float(value) == pytest.approx(3 * float(terms.style), rel=1e-6)
    np.testing.assert_allclose(again[1:], terms[1:], rtol=1e-6)


@jax.jit
def _targets(image, network, size):
    moments = style_moments(image, network, size, STYLE)
    return Targets(
        content_targets(image, network, size, CONTENT),
        style_targets([moments], jnp.ones(1), "gram"),
    )


def test_the_objective_is_zero_at_its_own_targets():
    size, image = jnp.asarray(SIZE), jnp.asarray(on_canvas(picture(*SIZE), (48, 48)))
    weights = Job().term_weights()._replace(tv=jnp.float32(0))
    (value, terms), _ = _alone(image, NETWORK, size, _targets(image, NETWORK, size), weights)
    assert float(value) == pytest.approx(0, abs=1e-9)
    assert float(terms.tv) > 0


def test_targets_equal_the_references_on_any_canvas():
    image = picture(*SIZE)
    expected = references.vgg(image, NARROW)
    targets = _targets(on_canvas(image, (48, 48)), NETWORK, jnp.asarray(SIZE))
    for tap, target in targets.style.items():
        assert references.relative_error(target.gram, references.gram(expected[tap])) < 1e-5
    for tap, target in targets.content.items():
        height, width, _ = expected[tap].shape
        value = target.features
        assert references.relative_error(value[:height, :width], expected[tap]) < 1e-5


@pytest.mark.parametrize("size", [(33, 41), (17, 31), (48, 16), (47, 48)])
def test_a_canvas_changes_neither_loss_nor_gradient(size):
    job = Job(size=size)
    _check(_alone(*job.arguments((48, 48))), job.expected(), slope_error=1e-5)


def test_a_batch_equals_its_jobs_one_by_one():
    jobs = [Job(1, (33, 41)), Job(2, (48, 48)), Job(3, (17, 20)), Job(4, (48, 30))]
    (values, terms), gradients = _together(*_stacked(jobs, (48, 48)))
    for slot, job in enumerate(jobs):
        (value, own), gradient = _alone(*job.arguments((48, 48)))
        assert float(values[slot]) == pytest.approx(float(value), rel=1e-5)
        np.testing.assert_allclose([part[slot] for part in terms], own, rtol=1e-5)
        assert references.relative_error(gradients[slot], gradient) < 1e-5


def test_a_job_s_bytes_depend_on_neither_its_neighbours_nor_its_slot():
    """Nor on a neighbour that left the finite numbers.

    On a canvas as the engine makes them; some CPUs round the rests of odd sides otherwise.
    """
    jobs, other, broken = [Job(seed) for seed in range(4)], Job(4), Job(5)
    broken.image = np.full_like(broken.image, np.nan)
    (values, _), gradients = _together(*_stacked(jobs, (48, 48)))
    for before, after in ((other, jobs[2]), (broken, jobs[2]), (other, broken)):
        beside = [before, jobs[1], after, jobs[3]]
        (again, _), slopes = _together(*_stacked(beside, (48, 48)))
        for slot in (1, 3):
            np.testing.assert_array_equal(again[slot], values[slot])
            np.testing.assert_array_equal(slopes[slot], gradients[slot])
    (again, _), slopes = _together(*_stacked(jobs[1:] + jobs[:1], (48, 48)))
    np.testing.assert_array_equal(np.roll(again, 1), values)
    np.testing.assert_array_equal(np.roll(slopes, 1, axis=0), gradients)


def _in_a_loop(gradient, *arguments) -> str:
    """The text of the compiled program that follows a gradient for three steps."""
    first, *rest = arguments

    def descend(first, *rest):
        step = lambda _, value: value - 0.1 * gradient(value, *rest)  # noqa: E731
        return jax.lax.fori_loop(0, 3, step, first)

    return jax.jit(descend).lower(first, *rest).compile().as_text()


def test_no_convolution_in_a_loop_has_a_transposed_or_grouped_kernel():
    """Those two run on a naive kernel, several times slower than the rest of the step."""
    gradient = jax.vmap(jax.grad(objective, has_aux=True), (0, None, 0, 0, 0))
    text = _in_a_loop(lambda *a: gradient(*a)[0], *_stacked([Job(0), Job(1)], SIZE))
    # 11 to relu5_1, forward and backward; the last step back, to three channels, is a product.
    assert text.count(" convolution(") == 21
    assert "01io" in text
    assert "01oi" not in text
    assert "group_count" not in text


def test_the_test_for_transposed_kernels_can_fail():
    def plain(image, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        value = jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=numbers
        )
        return jnp.sum(value**2)

    shapes = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    assert "01oi" in _in_a_loop(jax.grad(plain), *shapes)
    grouped = jax.vmap(jax.grad(plain))
    mapped = jnp.ones((2, 1, 8, 8, 3)), jnp.ones((2, 3, 3, 3, 4))
    assert "group_count" in _in_a_loop(grouped, *mapped)
