"""What each style loss costs in a step, beside the network that all of them need.

    python scripts/compare_style_losses.py [--size 256] [--batch-size 1] [--rounds 7]

Times the engine's own step program with each loss, in turns in one process, on the levels of
the default schedule. `moments` costs next to nothing beside the network and is what the others
are compared with. The last line is the mean over the schedule, weighted by steps and seconds.
"""

import argparse
import statistics
import time

from nst_jax.bench.workload import Studio, Workload, synthetic_pair
from nst_jax.engine.progress import Silence
from nst_jax.request.options import Options

LOSSES = ("moments", "gram", "wasserstein")
_ROUND_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="long edge in pixels")
    parser.add_argument("--batch-size", type=int, default=1, help="pictures in a step")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each loss")
    arguments = parser.parse_args()
    pair = synthetic_pair(arguments.size)
    studios = {loss: Studio(Options(style_loss=loss), Silence()) for loss in LOSSES}
    whole: dict[str, float] = dict.fromkeys(LOSSES, 0.0)
    for size, steps in studios["moments"].level_sizes(pair, arguments.size):
        workloads = {
            loss: studio.workload(pair, size, arguments.batch_size)
            for loss, studio in studios.items()
        }
        seconds = _seconds_a_step(workloads, arguments.rounds)
        _print(f"{size} px", seconds)
        for loss, taken in seconds.items():
            whole[loss] += steps * taken
    _print("schedule", whole)


def _seconds_a_step(workloads: dict[str, Workload], rounds: int) -> dict[str, float]:
    """Median seconds of a step of one image, by loss."""
    first = next(iter(workloads.values()))
    steps = max(1, round(_ROUND_S / _seconds(first, 1)))
    taken: dict[str, list[float]] = {loss: [] for loss in workloads}
    for _ in range(rounds):
        for loss, workload in workloads.items():
            taken[loss].append(_seconds(workload, steps) / steps / workload.batch_size)
    return {loss: statistics.median(each) for loss, each in taken.items()}


def _seconds(workload: Workload, steps: int) -> float:
    began = time.perf_counter()
    workload.run(steps)
    return time.perf_counter() - began


def _print(what: str, seconds: dict[str, float]) -> None:
    beside = ", ".join(
        f"{loss} {taken:.4f} s ({100 * (taken / seconds['moments'] - 1):+.1f} %)"
        for loss, taken in seconds.items()
    )
    print(f"{what:9} {beside}", flush=True)


if __name__ == "__main__":
    main()
