"""One CPU device with all threads against several host devices, on the same cores.

    python scripts/measure/compare_devices.py [--size 256] [--jobs 4] [--steps 8] [--rounds 3]

JAX can cut a CPU into several devices that share its cores. Each number of devices renders
the same batch in a process of its own, in turns; printed are the seconds of an image-step,
compilation apart, as the median of the rounds.
"""

import argparse
import os
import statistics
import subprocess
import sys

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="long edge in pixels")
    parser.add_argument("--jobs", type=int, default=4, help="pictures in the batch")
    parser.add_argument("--steps", type=int, default=8, help="steps of each picture")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each number of devices")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(_seconds_per_image_step(arguments))
        return
    counts = sorted({1, 2, arguments.jobs})
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(arguments.rounds):
        for count in taken:
            taken[count].append(_in_a_process(count))
    for count, seconds in taken.items():
        ratio = statistics.median(one / other for one, other in zip(seconds, taken[1], strict=True))
        print(
            f"{count} devices: {statistics.median(seconds):.4f} s an image-step "
            f"({min(seconds):.4f} to {max(seconds):.4f}), {ratio:.3f} times that of 1 device"
        )


def _in_a_process(count: int) -> float:
    flags = f"--xla_force_host_platform_device_count={count}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, *sys.argv[1:], "--inside"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _seconds_per_image_step(arguments: argparse.Namespace) -> float:
    from nst_jax import Job, Options, render_many

    side = arguments.size
    pictures = np.random.default_rng(0).random((2, side, side, 3), dtype=np.float32)
    options = Options(
        preset="gram",
        size=side,
        levels=1,
        steps=arguments.steps,
        batch_size=arguments.jobs,
        weights="vgg16",
    )
    results = list(render_many([Job(*pictures)] * arguments.jobs, options))
    return sum(result.seconds for result in results) / sum(result.steps for result in results)


if __name__ == "__main__":
    main()
