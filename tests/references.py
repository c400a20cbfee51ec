"""The model once more in NumPy and float64, written from the formulas: no jax, no autodiff.

Every backward function takes the gradient of its output and gives that of its input.
"""

import itertools
from collections.abc import Mapping

import numpy as np
from networks import DEPTHS, Network
from scipy import ndimage

Features = dict[str, np.ndarray]


def relative_error(value, expected) -> float:
    """Largest difference over the largest expected magnitude."""
    expected = np.asarray(expected, np.float64)
    difference = np.abs(np.asarray(value, np.float64) - expected)
    return float(difference.max() / np.abs(expected).max())


def convolve(
    features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, *, padding: str = "zero"
) -> np.ndarray:
    """A correlation with zeros or the edge around the image, one shifted product a position."""
    height, width, _ = features.shape
    mode = {"zero": "constant", "replicate": "edge"}[padding]
    padded = np.pad(np.float64(features), ((1, 1), (1, 1), (0, 0)), mode=mode)
    output = np.zeros((height, width, len(bias))) + bias
    for i in range(3):
        for j in range(3):
            output += padded[i : i + height, j : j + width] @ np.float64(kernel[i, j])
    return output


def convolve_by_scipy(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The same by another hand: slow, and only here to check the one above."""
    planes = [
        sum(
            ndimage.correlate(np.float64(features[..., c]), kernel[..., c, d], mode="constant")
            for c in range(kernel.shape[2])
        )
        for d in range(kernel.shape[3])
    ]
    return np.stack(planes, axis=-1) + bias


def convolve_backward(
    gradient: np.ndarray, kernel: np.ndarray, *, padding: str = "zero"
) -> np.ndarray:
    """Each output's gradient spread over the nine inputs it came from."""
    height, width, _ = gradient.shape
    padded = np.zeros((height + 2, width + 2, kernel.shape[2]))
    for i in range(3):
        for j in range(3):
            padded[i : i + height, j : j + width] += gradient @ np.float64(kernel[i, j]).T
    if padding == "replicate":  # what stood outside was the border's
        for axis in (0, 1):
            inner = np.take(padded, range(1, padded.shape[axis] - 1), axis)
            ends = np.moveaxis(inner, axis, 0)
            ends[0] += np.take(padded, 0, axis)
            ends[-1] += np.take(padded, -1, axis)
            padded = inner
        return padded
    return padded[1:-1, 1:-1]


def _windows(features: np.ndarray) -> np.ndarray:
    """(h, w, c) to (h // 2, w // 2, c, 4): the four values of each window."""
    height, width, channels = features.shape[0] // 2, features.shape[1] // 2, features.shape[2]
    even = features[: 2 * height, : 2 * width].reshape(height, 2, width, 2, channels)
    return even.transpose(0, 2, 4, 1, 3).reshape(height, width, channels, 4)


def pool(features: np.ndarray, kind: str) -> np.ndarray:
    windows = _windows(features)
    match kind:
        case "max":
            return windows.max(-1)
        case "average":
            return windows.mean(-1)
        case "l2":
            return np.linalg.norm(windows, axis=-1)
    raise ValueError(kind)


def pool_backward(features: np.ndarray, gradient: np.ndarray, kind: str) -> np.ndarray:
    """To the largest value of a window (in equal parts, if several), a quarter to each, or to
    each its share of the norm."""
    windows = _windows(features)
    height, width, channels, _ = windows.shape
    if kind == "l2":
        norm = np.linalg.norm(windows, axis=-1, keepdims=True)
        spread = gradient[..., None] * windows / np.where(norm > 0, norm, 1)
    else:
        shares = windows == windows.max(-1, keepdims=True) if kind == "max" else windows == windows
        spread = gradient[..., None] * shares / shares.sum(-1, keepdims=True)
    even = spread.reshape(height, width, channels, 2, 2).transpose(0, 3, 1, 4, 2)
    whole = np.zeros(features.shape)
    whole[: 2 * height, : 2 * width] = even.reshape(2 * height, 2 * width, channels)
    return whole


def layers(architecture: str) -> list[str]:
    """Every tap in the order of computation."""
    names = ["pixels"]
    for block, depth in enumerate(DEPTHS[architecture], start=1):
        for index in range(1, depth + 1):
            names += [f"conv{block}_{index}", f"relu{block}_{index}"]
        names.append(f"pool{block}")
    return names


def vgg(
    image: np.ndarray,
    network: Network,
    *,
    pooling: str = "max",
    pooling_scale: float = 1.0,
    deepest: str = "pool5",
    padding: str = "zero",
) -> Features:
    """The features of every tap up to `deepest`; `padding` is the first convolution's."""
    names = layers(network.architecture)
    features = {"pixels": np.float64(image)}
    value = features["pixels"] - network.mean
    for name in names[1 : names.index(deepest) + 1]:
        if name.startswith("conv"):
            edge = padding if name == "conv1_1" else "zero"
            value = convolve(value, *network.convolutions[name], padding=edge)
        else:
            pooled = not name.startswith("relu")
            value = pooling_scale * pool(value, pooling) if pooled else np.maximum(value, 0)
        features[name] = value
    return features


def vgg_backward(
    features: Features,
    gradients: Mapping[str, np.ndarray],
    network: Network,
    *,
    pooling: str = "max",
    pooling_scale: float = 1.0,
    padding: str = "zero",
) -> np.ndarray:
    """From gradients of some taps to the gradient of the image."""
    names = [name for name in layers(network.architecture) if name in features]
    gradient = np.zeros(features[names[-1]].shape)
    for before, name in reversed(list(itertools.pairwise(names))):
        gradient = gradient + gradients.get(name, 0)
        if name.startswith("conv"):
            edge = padding if name == "conv1_1" else "zero"
            gradient = convolve_backward(gradient, network.convolutions[name][0], padding=edge)
        elif name.startswith("relu"):
            gradient = gradient * (features[before] > 0)
        else:
            gradient = pooling_scale * pool_backward(features[before], gradient, pooling)
    return gradient + gradients.get("pixels", 0)


def gram(features: np.ndarray) -> np.ndarray:
    flat = np.float64(features).reshape(-1, features.shape[-1])
    return flat.T @ flat / len(flat)


def gram_backward(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    flat = np.float64(features).reshape(-1, features.shape[-1])
    return (flat @ (gradient + gradient.T) / len(flat)).reshape(features.shape)


def strong_directions(features: np.ndarray, rank: int) -> list[np.ndarray]:
    """Mean, directions of the largest variance, deviation along each, and variance of the rest."""
    flat = np.float64(features).reshape(-1, features.shape[-1])
    centred = flat - flat.mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(flat))
    variances, weak = np.maximum(variances, 0), max(flat.shape[1] - rank, 0)
    parts = flat.mean(0), directions[:, weak:], np.sqrt(variances[weak:]), variances[:weak].sum()
    return [np.float32(part) for part in parts]


def relative_loss(value: np.ndarray, target: np.ndarray) -> float:
    """The content's and the Gram matrix' loss alike."""
    target = np.float64(target)
    return float(((value - target) ** 2).sum() / (target**2).sum())


def relative_loss_backward(value: np.ndarray, target: np.ndarray) -> np.ndarray:
    target = np.float64(target)
    return 2 * (value - target) / (target**2).sum()


def total_variation(image: np.ndarray) -> float:
    image = np.float64(image)
    down, across = np.diff(image, axis=0), np.diff(image, axis=1)
    return float((down**2).sum() + (across**2).sum()) / image.size


def total_variation_backward(image: np.ndarray) -> np.ndarray:
    image, gradient = np.float64(image), np.zeros(image.shape)
    down, across = np.diff(image, axis=0), np.diff(image, axis=1)
    gradient[1:] += down
    gradient[:-1] -= down
    gradient[:, 1:] += across
    gradient[:, :-1] -= across
    return 2 * gradient / image.size


def objective(image, network, content, style, weights, **options):
    """Value, terms (content, style, tv) and gradient of the objective.

    Args:
        content: Target features by tap.
        style: Target Gram matrices by tap.
        weights: `content`, `style`, `tv` and, by tap, `content_taps` and `style_taps`.
        options: The network's `pooling`, `pooling_scale` and `padding`.
    """
    deepest = _deepest({**content, **style}, network)
    features = vgg(image, network, deepest=deepest, **options)
    terms = np.zeros(3)
    gradients = {tap: np.zeros(features[tap].shape) for tap in {**content, **style}}
    for tap, target in content.items():
        part = float(weights["content_taps"][tap])
        terms[0] += part * relative_loss(features[tap], target)
        slope = relative_loss_backward(features[tap], target)
        gradients[tap] += weights["content"] * part * slope
    for tap, target in style.items():
        part, own = float(weights["style_taps"][tap]), gram(features[tap])
        terms[1] += part * relative_loss(own, target)
        slope = gram_backward(features[tap], relative_loss_backward(own, target))
        gradients[tap] += weights["style"] * part * slope
    terms[2] = total_variation(image)
    gradient = vgg_backward(features, gradients, network, **options)
    gradient = gradient + weights["tv"] * total_variation_backward(image)
    return terms @ [weights["content"], weights["style"], weights["tv"]], terms, gradient


def _deepest(taps, network: Network) -> str:
    return max(taps, key=layers(network.architecture).index)
