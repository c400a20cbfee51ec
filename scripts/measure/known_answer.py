"""Prints a network's known answer as lines for weights/registry.toml.

python scripts/measure/known_answer.py NAME_OR_FILE
"""

import sys

from nst_jax.weights.find import find_weights
from nst_jax.weights.format import read_weights
from nst_jax.weights.verify import activation_stats, relu_taps


def main(name_or_file: str) -> None:
    weights = read_weights(find_weights(name_or_file))
    print(f"mean = {list(weights.mean)}")
    print("[network.answer]")
    for tap, (mean, deviation) in activation_stats(
        weights, relu_taps(weights.architecture)
    ).items():
        print(f"{tap} = [{mean:.6g}, {deviation:.6g}]")


if __name__ == "__main__":
    main(*sys.argv[1:])
