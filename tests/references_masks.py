"""Masked statistics and distances once more, in NumPy, SciPy and float64."""

import numpy as np
import references
import scipy.linalg


def blocks(mask: np.ndarray, depth: int) -> np.ndarray:
    """The mean of each whole square of 2**depth pixels, one by one."""
    side = 2**depth
    height, width = (length // side for length in mask.shape)
    means = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            square = mask[row * side : (row + 1) * side, column * side : (column + 1) * side]
            means[row, column] = np.float64(square).mean()
    return means


def moments(features: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and second moment of the rows of features, each with its weight."""
    rows = np.float64(features).reshape(-1, features.shape[-1])
    shares = np.float64(weights).ravel() / np.float64(weights).sum()
    return shares @ rows, sum(
        share * np.outer(row, row) for share, row in zip(shares, rows, strict=True)
    )


def gram_distance(features: np.ndarray, weights: np.ndarray, target: np.ndarray) -> float:
    return references.relative_loss(moments(features, weights)[1], target)


def gram_distance_backward(
    features: np.ndarray, weights: np.ndarray, target: np.ndarray
) -> np.ndarray:
    slope = references.relative_loss_backward(moments(features, weights)[1], target)
    shares = np.float64(weights) / np.float64(weights).sum()
    return shares[..., None] * (np.float64(features) @ (slope + slope.T))


def wasserstein_distance(
    features: np.ndarray, weights: np.ndarray, target: tuple[np.ndarray, np.ndarray]
) -> float:
    """Over the number of channels; SciPy's root."""
    (mean, own), (other, asked) = (
        _gaussian(*each) for each in (moments(features, weights), target)
    )
    root = scipy.linalg.sqrtm(asked).real
    inner = scipy.linalg.sqrtm(root @ own @ root).real
    return float(((mean - other) ** 2).sum() + np.trace(own + asked - 2 * inner)) / len(mean)


def _gaussian(mean: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return mean, second - np.outer(mean, mean)
