"""Colours of pictures, kept or handed over; plain NumPy, (h, w, 3) gamma-encoded sRGB in [0, 1].

After a rendering the content's colours can be laid over the output's light and dark; before
it the style's colours can be made the content's (Gatys et al. 2016, 1606.05897, knows both).
No channel is cut off at 0 or 1. A colour that the screen does not have is moved towards the
grey of its own lightness until it has it, so neither lightness nor hue is lost there.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of gamma-encoded values
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709, of linear light

_XYZ_OF_RGB = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)
"""IEC 61966-2-1: linear sRGB to CIE XYZ under D65."""
_WHITE = _XYZ_OF_RGB.sum(1)
_LAB_KNEE = 6 / 29

_RIDGE = 1e-5
"""On the diagonal of covariances of colours, so that grey pictures have an inverse: a
deviation of 0.8 of 255 levels."""

_HALVINGS = 12
"""Of the chroma's share; after them it is exact to a quarter of a thousandth."""


def luma(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Light and dark of gamma-encoded colours (ITU-R BT.601), (h, w) in [0, 1]."""
    return pixels @ LUMA.astype(pixels.dtype)


def take_luminance(output: Pixels, content: Pixels) -> Pixels:
    """The content's colours with the output's luminance, in a linear-light YCbCr.

    Each pixel has the output's luminance (ITU-R BT.709) and the content's two differences
    from its own luminance.

    Args:
        output: Whose light and dark is taken.
        content: Whose colours are taken; the same size.
    """
    shown = _decode(content)
    chroma = shown - (shown @ _LUMINANCE)[..., None]
    return _float32(_encode(_fit_into_gamut(_decode(output) @ _LUMINANCE, chroma)))


def take_lightness(output: Pixels, content: Pixels) -> Pixels:
    """The content's colours with the output's lightness, in CIELAB under D65.

    Args:
        output: Whose lightness L* is taken.
        content: Whose a* and b* are taken; the same size.
    """
    lightness = _lab(output)[..., :1]
    chroma = _lab(content)[..., 1:]

    def colours(share: npt.NDArray[Any], chosen: Any = ...) -> npt.NDArray[Any]:
        lab = (lightness[chosen], share[..., None] * chroma[chosen])
        return _linear_of_lab(np.concatenate(lab, axis=-1))

    whole = colours(np.ones(lightness.shape[:2]))
    beyond = ~_is_inside(whole)
    if beyond.any():
        whole[beyond] = _largest_inside(lambda share: colours(share, beyond), int(beyond.sum()))
    return _float32(_encode(np.clip(whole, 0, 1)))


def match_mean_and_covariance(style: Pixels, content: Pixels) -> Pixels:
    """The style in colours of the content's mean and covariance.

    The linear map between two Gaussians that moves colours least (Pitié and Kokaram 2007),
    which is the symmetric one: A = S^-½ (S^½ C S^½)^½ S^-½.

    Args:
        style: The picture to change, (h, w, 3).
        content: Whose colours it gets, of any size.
    """
    (mean, covariance), (wanted_mean, wanted) = map(color_moments, (style, content))
    root, inverse = _powers(covariance + _RIDGE * np.eye(3), 0.5, -0.5)
    (inner,) = _powers(root @ (wanted + _RIDGE * np.eye(3)) @ root, 0.5)
    moved = wanted_mean + (np.float64(style) - mean) @ (inverse @ inner @ inverse)
    grey = np.clip(luma(moved), 0, 1)
    return _float32(_fit_into_gamut(grey, moved - luma(moved)[..., None]))


def match_histogram(style: Pixels, content: Pixels) -> Pixels:
    """The style with each channel's values distributed as the content's are.

    A value becomes the content's value of the same rank; equal values stay equal.

    Args:
        style: The picture to change, (h, w, 3).
        content: Whose values it gets, of any size.
    """
    channels = [_match_ranks(style[..., one], content[..., one]) for one in range(3)]
    return _float32(np.stack(channels, axis=-1))


RECOLOR_OUTPUT: Mapping[str, Callable[[Pixels, Pixels], Pixels]] = {
    "content": take_lightness,
    "lab": take_lightness,
    "luminance": take_luminance,
}
"""By the option `color`: output and content to the picture that is written."""

RECOLOR_STYLE: Mapping[str, Callable[[Pixels, Pixels], Pixels]] = {
    "match-mean-covariance": match_mean_and_covariance,
    "match-histogram": match_histogram,
}
"""By the option `color`: style and content to the picture whose style is taken."""


def color_moments(
    pixels: Pixels, weights: npt.NDArray[Any] | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean (3,) and covariance (3, 3) of a picture's colours, in float64.

    Args:
        pixels: (h, w, 3).
        weights: (h, w), how much each pixel counts; None: all alike.
    """
    rows = np.float64(pixels).reshape(-1, 3)
    shares = None if weights is None else np.float64(weights).ravel()
    mean = np.average(rows, axis=0, weights=shares)
    return mean, np.cov(rows.T, aweights=shares, bias=True)


def sample_colors(
    mean: npt.NDArray[Any], covariance: npt.NDArray[Any], noise: npt.NDArray[Any]
) -> Pixels:
    """Noise in colours of this mean and covariance, clipped to [0, 1].

    Args:
        mean: (3,).
        covariance: (3, 3).
        noise: (h, w, 3), of mean 0 and variance 1, its channels independent.
    """
    (root,) = _powers(covariance, 0.5)
    return _float32(np.clip(mean + noise @ root, 0, 1))


_GREY_WITHIN = 1 / 255 + 1e-6
"""Between the channels of a grey pixel; what is saved as colour may be rounded by so much."""

_ROWS_AT_ONCE = 64


def is_grey(pixels: Pixels) -> bool:
    """Whether the channels of all pixels are equal, within 1 of 255."""
    blocks = (pixels[row : row + _ROWS_AT_ONCE] for row in range(0, len(pixels), _ROWS_AT_ONCE))
    # One after the other, because a coloured picture shows it in the first.
    return all(bool((_spread(block) <= _GREY_WITHIN).all()) for block in blocks)


def _spread(pixels: Pixels) -> npt.NDArray[Any]:
    """The largest channel less the smallest; `np.ptp` over three takes ten times as long."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    largest = np.maximum(np.maximum(red, green), blue)
    return largest - np.minimum(np.minimum(red, green), blue)


def to_grey(pixels: Pixels) -> Pixels:
    """The same with each pixel's luma in all channels.

    Its light and dark as a viewer has it; and as the network has it, rather than the mean, which
    lies nearest to the pixel: by trial, from content and from noise, the objective is lower.
    """
    return np.repeat(_float32(luma(pixels.astype(np.float64))[..., None]), 3, axis=-1)


def _fit_into_gamut(grey: npt.NDArray[Any], chroma: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Grey plus as much of the chroma as fits into [0, 1]."""
    room = np.where(chroma > 0, 1 - grey[..., None], grey[..., None])
    fits = np.abs(chroma) <= room
    shares = np.where(fits, 1, room / np.where(fits, 1, np.abs(chroma)))
    # Rounding may leave the last place outside.
    return np.clip(grey[..., None] + shares.min(-1, keepdims=True) * chroma, 0, 1)


def _largest_inside(
    colours: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], count: int
) -> npt.NDArray[Any]:
    """Colours of the largest shares of chroma, one for each of `count` pixels, that are inside."""
    inside, outside = np.zeros(count), np.ones(count)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        fits = _is_inside(colours(middle))
        inside, outside = np.where(fits, middle, inside), np.where(fits, outside, middle)
    return colours(inside)


def _is_inside(colours: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    inside = (colours >= -1e-6) & (colours <= 1 + 1e-6)
    return np.asarray(inside.all(-1))


def _decode(encoded: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Linear light of sRGB values (IEC 61966-2-1)."""
    encoded = np.asarray(encoded, np.float64)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _encode(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The way back of `_decode`."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _lab(encoded: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """CIELAB of sRGB: L* from 0 to 100, a*, b*."""
    relative = _decode(encoded) @ _XYZ_OF_RGB.T / _WHITE
    x, y, z = np.moveaxis(_lab_curve(relative), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _linear_of_lab(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Linear sRGB of CIELAB, possibly outside of [0, 1]."""
    y = (lab[..., 0] + 16) / 116
    curved = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    small = 3 * _LAB_KNEE**2 * (curved - 4 / 29)
    relative = np.where(curved > _LAB_KNEE, curved**3, small)
    return (relative * _WHITE) @ np.linalg.inv(_XYZ_OF_RGB).T


def _lab_curve(relative: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    small = relative / (3 * _LAB_KNEE**2) + 4 / 29
    return np.where(relative > _LAB_KNEE**3, np.cbrt(relative), small)


def _powers(symmetric: npt.NDArray[Any], *exponents: float) -> list[npt.NDArray[np.float64]]:
    """Powers of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(symmetric)
    values = np.maximum(values, 0)
    return [(vectors * values**exponent) @ vectors.T for exponent in exponents]


def _match_ranks(values: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    distinct, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / values.size
    targets = (np.arange(wanted.size) + 0.5) / wanted.size
    matched = np.interp(ranks, targets, np.sort(wanted, axis=None))
    return matched[places.reshape(values.shape)] if len(distinct) else values


def _float32(values: npt.NDArray[Any]) -> Pixels:
    return values.astype(np.float32)
