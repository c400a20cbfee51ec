"""What a term is worth at the other picture: the unit in which cells of a grid are compared.

The content's term is 1 at the style picture and the style's term is 1 at the content picture,
whatever the tap. So a weight means the same in every cell.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax.engine.inputs.session import open_session
from nst_jax.files.images import Pixels, resize
from nst_jax.model.objective import own_region
from nst_jax.model.style import Moments
from nst_jax.model.targets import make_style_target, style_moments
from nst_jax.model.vgg import VGG
from nst_jax.request.options import JobOptions, job_options
from nst_jax.request.studies import RAW
from nst_jax.request.taps import PIXELS
from nst_jax.study.study import Pair


@dataclasses.dataclass(frozen=True)
class Units:
    """What the terms of the objective are worth before anything is optimised.

    Attributes:
        content: By content tap, the content's term at the style picture, which is stretched
            to the content's shape.
        style: By style tap, the style's term at the content picture.
        content_power: Mean square of the content's pixels.
        style_power: Of the stretched style's.
        distance: Mean square of their difference.
    """

    content: Mapping[str, float]
    style: Mapping[str, float]
    content_power: float
    style_power: float
    distance: float


def measure_units(pair: Pair) -> Units:
    """The units of a pair at the size of the output, for every tap of the pair's options."""
    own, options = pair.prepared.options, pair.options
    network = open_session(options).network((*own.content_taps, *own.style_taps))
    stretched = resize(pair.style, pair.prepared.content.size)
    content, other = (
        _features(network, image, own.content_taps) for image in (pair.content, stretched)
    )
    seen = _features(network, pair.content, own.style_taps)
    moments = _moments(network, pair.style, own.style_taps)
    size = jnp.asarray(pair.content.shape[:2])

    def style_unit(tap: str) -> float:
        target = make_style_target(options.style_loss, own.style_normalization, moments[tap])
        return _unit(target.distance(seen[tap], own_region(size, tap, seen[tap])))

    return Units(
        content={tap: _unit(_relative(other[tap], content[tap])) for tap in own.content_taps},
        style={tap: style_unit(tap) for tap in own.style_taps},
        content_power=float(np.mean(np.float64(pair.content) ** 2)),
        style_power=float(np.mean(np.float64(stretched) ** 2)),
        distance=_unit(np.mean((np.float64(pair.content) - stretched) ** 2)),
    )


def apply_units(
    own: JobOptions, units: Units, content_tap: str, depth: Sequence[str], balance: float
) -> JobOptions:
    """Options whose content term is one tap's and whose style term is a depth's, in units.

    Two comparisons of pixels are one, with the blend of both pictures: the sum of two squared
    distances is a squared distance to the point between them, and a constant.

    Args:
        own: Names every tap of the study.
        units: Of the pair.
        content_tap: The one that counts; empty: none.
        depth: The style taps that count, all equally, or (`RAW`,); empty: none.
        balance: Weight of the style's term where the content's is 1.
    """
    content = {content_tap: 1 / units.content[content_tap]} if content_tap else {}
    style, blend = {}, 0.0
    if tuple(depth) == (RAW,):
        content[PIXELS], blend = _pixel_term(units, content.get(PIXELS, 0.0), balance)
    else:
        style = {tap: balance / len(depth) / units.style[tap] for tap in depth}
    return job_options(
        own,
        content_normalization="relative",
        gradient_normalization="none",
        content_weight=float(sum(content.values())),
        content_tap_weights=_weights(content, own.content_taps),
        style_weight=float(sum(style.values())),
        style_tap_weights=_weights(style, own.style_taps),
        pixel_blend=blend,
    )


def _pixel_term(units: Units, content_weight: float, balance: float) -> tuple[float, float]:
    """Weight of the tap `pixels`, and the blend that it compares with.

    a ‖x - c‖² + b ‖x - s‖² = (a + b) ‖x - m‖² + constant, m = (a c + b s) / (a + b)
    """
    to_content = content_weight / units.content_power
    to_style = balance / units.distance
    blend = to_style / (to_content + to_style)
    # ‖(1 - p) c + p s‖², by the powers of c and s and of their difference.
    mixed_power = (
        (1 - blend) * units.content_power
        + blend * units.style_power
        - blend * (1 - blend) * units.distance
    )
    return (to_content + to_style) * mixed_power, blend


def _weights(given: Mapping[str, float], taps: Sequence[str]) -> tuple[float, ...]:
    """One a tap; all equal where none counts, because a term's own weight is 0 then."""
    return tuple(given.get(tap, 0.0) for tap in taps) if given else ()


def _relative(value: Any, target: Any) -> float:
    value, target = np.float64(value), np.float64(target)
    return float(((value - target) ** 2).sum() / max(float((target**2).sum()), 1e-12))


def _features(network: VGG, image: Pixels, taps: Sequence[str]) -> dict[str, jax.Array]:
    look = jax.jit(lambda network, image, size: network(image, size, tuple(taps)))
    return look(network, jnp.asarray(image), jnp.asarray(image.shape[:2]))


def _moments(network: VGG, image: Pixels, taps: Sequence[str]) -> dict[str, Moments]:
    look = jax.jit(lambda network, image, size: style_moments(image, network, size, tuple(taps)))
    return look(network, jnp.asarray(image), jnp.asarray(image.shape[:2]))


def _unit(value: Any) -> float:
    """What is divided by; two equal pictures leave a term as it is."""
    number = float(np.asarray(value))
    return number if number > 1e-6 else 1.0
