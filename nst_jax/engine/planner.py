"""How many slots each canvas gets, chosen once for a run and kept in its `plan.json`.

The number of slots is part of a program, and another program may round otherwise. So a
resume reuses the plan of the first run, and every job meets the same program again.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from nst_jax.engine.canvas import Size
from nst_jax.engine.devices import Devices
from nst_jax.engine.levels import Stage
from nst_jax.spec.options import Options

WAVE_JOBS = 32
"""Jobs that go through the levels together; bounds host memory and the wait for the first."""

_LADDER = (1, 2, 4, 8, 16, 32, 64, 128)

# More pixels than this in one batch gain nothing and only cost memory: about 1.2 GB of
# float32 activations on a CPU, 10 GB of bfloat16 ones on an accelerator.
_LARGEST_BATCH_PIXELS = {"cpu": 4 * 256 * 256, "gpu": 64 * 512 * 512, "tpu": 16 * 512 * 512}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Slots by canvas."""

    slots: Mapping[Size, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "canvases": [
                {"canvas": list(canvas), "slots": slots} for canvas, slots in self.slots.items()
            ],
        }

    @classmethod
    def from_json(cls, content: Any) -> "Plan":
        """The plan that `to_json` gave.

        Raises:
            ValueError: The content is no plan.
        """
        try:
            if content["version"] != 1:
                raise ValueError(f"unknown version {content['version']!r}")
            entries = [
                (tuple(map(int, entry["canvas"])), int(entry["slots"]))
                for entry in content["canvases"]
            ]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a plan: {error!r}") from error
        if any(len(canvas) != 2 or min(*canvas, slots) < 1 for canvas, slots in entries):
            raise ValueError("not a plan: sizes and slots must be 1 or more")
        return cls({(canvas[0], canvas[1]): slots for canvas, slots in entries})


def plan(
    ladders: Iterable[tuple[Stage, ...]],
    options: Options,
    devices: Devices,
    earlier: Plan | None = None,
) -> Plan:
    """Slots for each canvas that the jobs' stages need; what was planned earlier stays.

    Args:
        ladders: The stages of each job.
        options: `batch_size` counts.
        devices: What the batches run on.
        earlier: The plan of a run that is resumed.
    """
    needs = collections.Counter(stage.canvas for ladder in ladders for stage in ladder)
    slots = dict(earlier.slots) if earlier else {}
    for canvas, jobs in sorted(needs.items()):
        if canvas not in slots:
            slots[canvas] = _slots(canvas, min(jobs, WAVE_JOBS), options, devices)
    return Plan(slots)


def _slots(canvas: Size, jobs: int, options: Options, devices: Devices) -> int:
    if options.batch_size != "auto":
        return options.batch_size
    pixels = canvas[0] * canvas[1]
    largest = max(1, _LARGEST_BATCH_PIXELS.get(devices.platform, 2**22) // pixels)
    enough = -(-jobs // devices.count)
    rungs = [devices.count * rung for rung in _LADDER if rung <= largest and rung < 2 * enough]
    return min(rungs, key=lambda rung: (_cost(rung, pixels, jobs, devices), -rung))


def _cost(rung: int, pixels: int, jobs: int, devices: Devices) -> int:
    """Pixels' worth of device time for all jobs, a batch too small to fill it counted full."""
    batches = -(-jobs // rung)
    return batches * max(rung * pixels, devices.fill_pixels)
