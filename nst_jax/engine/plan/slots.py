"""How many slots each group of jobs gets, chosen once for a run and kept in its `plan.json`.

Slots come from a short ladder: as many as jobs, devices and memory make worth while, and
never so many that their padding costs more than a smaller rung would. The number is part of
a program, and another program may round otherwise. So a resume reuses the plan of the first
run, and every job meets the same program again.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from nst_jax.engine.plan.canvas import Size, size_text
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.levels import Bucket, Level
from nst_jax.engine.plan.memory_budget import MemoryBudget, bytes_text, largest_that_fits
from nst_jax.request.errors import NoRoomError, OptionError
from nst_jax.request.options import Options, StaticOptions

WAVE_JOBS = 32
"""Jobs that go through the levels together; bounds host memory and the wait for the first."""

_MANY_WAVES = 4
"""From so many on, what the last one leaves empty is no reason for smaller batches."""

_VERSION = 2

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

# More pixels than this in one batch gain nothing and only cost memory: about 1.2 GB of
# float32 activations on a CPU, 10 GB of bfloat16 ones on an accelerator.
_LARGEST_BATCH_PIXELS = {"cpu": 4 * 256 * 256, "gpu": 64 * 512 * 512, "tpu": 16 * 512 * 512}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Slots by group.

    Attributes:
        slots: Of all devices together, by what jobs must have alike to share them.
        devices: How many devices they are spread over.
        batch: What tells the batch that it was made for from others; empty where nobody said.
    """

    slots: Mapping[Bucket, int]
    devices: int = 1
    batch: str = ""

    def halve(self, group: Bucket) -> "Plan":
        """The plan with half the slots for one group, after a batch of it did not fit.

        Raises:
            NoRoomError: There was a single slot on each device already.
        """
        slots = self.slots[group]
        if slots <= self.devices:
            raise NoRoomError(
                f"a canvas must fit the device's memory, got {size_text(group.canvas)}, which "
                "does not even alone",
                "Lower --size",
            )
        fewer = max(1, slots // 2 // self.devices) * self.devices
        return dataclasses.replace(self, slots={**self.slots, group: fewer})

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan.json` has it."""
        return {
            "version": _VERSION,
            "devices": self.devices,
            "batch": self.batch,
            "groups": [
                {
                    "canvas": list(group.canvas),
                    "regions": group.regions,
                    **group.structure._asdict(),
                    "slots": slots,
                }
                for group, slots in self.slots.items()
            ],
        }

    @classmethod
    def from_json(cls, content: Any) -> "Plan":
        """The plan that `to_json` gave. One of the first version has fixed nothing.

        Raises:
            ValueError: The content is no plan.
        """
        try:
            if content["version"] not in (1, _VERSION):
                raise ValueError(f"unknown version {content['version']!r}")
            entries = content["groups"] if content["version"] == _VERSION else ()
            slots = {_bucket(entry): int(entry["slots"]) for entry in entries}
            devices = int(content.get("devices", 1))
            batch = str(content.get("batch", ""))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a plan: {error}") from error
        if any(min(*group.canvas, count) < 1 for group, count in slots.items()):
            raise ValueError("not a plan: sizes and slots must be 1 or more")
        if devices < 1:
            raise ValueError("not a plan: devices must be 1 or more")
        return cls(slots, devices, batch)


def _bucket(entry: Any) -> Bucket:
    height, width = map(int, entry["canvas"])
    content_taps, style_taps = (
        tuple(map(str, entry[name])) for name in ("content_taps", "style_taps")
    )
    structure = StaticOptions(content_taps, style_taps, str(entry["gradient_normalization"]))
    return Bucket((height, width), int(entry["regions"]), structure)


def choose_slots(
    ladders: Iterable[tuple[Level, ...]],
    options: Options,
    devices: Devices,
    earlier: Plan | None = None,
    *,
    room: MemoryBudget | None = None,
    counts: Mapping[Bucket, int] | None = None,
) -> Plan:
    """Slots for each group that the jobs' stages are in; what was planned earlier stays.

    Args:
        ladders: The stages of each job.
        options: `batch_size` counts.
        devices: What the batches run on.
        earlier: The plan of a run that is resumed.
        room: The devices' memory and what programs need of it; None: as if all fitted.
        counts: Jobs by group in the whole batch, of which these are a part; a group that is
            not among them counts as one of many jobs. None: these jobs are the whole.

    Raises:
        OptionError: A batch, or even a single picture, fits no device.
    """
    listed = list(ladders)
    stages = [stage for ladder in listed for stage in ladder]
    needs: Mapping[Bucket, int] = collections.Counter(
        group for one in listed for group in {stage.bucket for stage in one}
    )
    if counts is not None:
        needs = {group: counts.get(group, WAVE_JOBS) for group in {*needs, *counts}}
    if room:
        room.check_pictures({group.canvas for group in needs})
        room.check_styles({stage.style_edge for stage in stages})
    slots = dict(earlier.slots) if earlier else {}
    for group, jobs in sorted(needs.items()):
        if group not in slots:
            slots[group] = _batch_size(group.canvas, jobs, options, devices, room)
    if room:
        _check_batches({group: slots[group] for group in needs}, devices, room)
    return Plan(slots, devices.count, earlier.batch if earlier else "")


def _batch_size(
    canvas: Size, jobs: int, options: Options, devices: Devices, room: MemoryBudget | None
) -> int:
    if options.batch_size != "auto":
        return options.batch_size
    pixels = canvas[0] * canvas[1]
    largest = max(1, _LARGEST_BATCH_PIXELS.get(devices.platform, 2**22) // pixels)

    def reasonable(rung: int) -> bool:
        if rung >= 2 * min(jobs, WAVE_JOBS) or devices.slots_on_each(rung) > largest:
            return False
        return room is None or room.fits(canvas, devices.slots_in_a_memory(rung))

    ladder = {*_BATCH_SIZES, *(devices.count * rung for rung in _BATCH_SIZES)}
    rungs = [rung for rung in ladder if reasonable(rung)] or [1]
    return min(rungs, key=lambda rung: (*_cost(rung, pixels, jobs, devices), -rung))


def _cost(rung: int, pixels: int, jobs: int, devices: Devices) -> tuple[float | int, int]:
    """Pixels' worth of device time for all jobs, and the slots of batches that stay empty.

    A batch too small to fill the devices costs as much as one that does. A wave begins with slots
    of its own, so what the last one leaves empty is paid for; among many it does not count.
    """
    waves, rest = divmod(jobs, WAVE_JOBS)
    if waves >= _MANY_WAVES:
        rest = 0
    batches = waves * -(-WAVE_JOBS // rung) + -(-rest // rung)
    computed = max(devices.slot_cost(rung) * pixels, devices.fill_pixels)
    return batches * computed, batches * rung - waves * WAVE_JOBS - rest


def _check_batches(slots: Mapping[Bucket, int], devices: Devices, room: MemoryBudget) -> None:
    held = {group: devices.slots_in_a_memory(count) for group, count in slots.items()}
    if all(room.fits(group.canvas, count) for group, count in held.items()):
        return
    worst = max(held, key=lambda group: room.required_bytes(group.canvas, held[group]))
    fitting = devices.memories * min(
        largest_that_fits(lambda number, group=group: room.fits(group.canvas, number), count)
        for group, count in held.items()
    )
    raise OptionError(
        f"a batch must fit the device's memory of {room.text}, got {slots[worst]} slots of "
        f"{size_text(worst.canvas)}, which need "
        f"{bytes_text(room.required_bytes(worst.canvas, held[worst]))}",
        f"--batch-size {fitting} would fit; a plan.json of other slots must be deleted first",
    )
