"""How many slots each canvas gets, chosen once for a run and kept in its `plan.json`.

Slots come from a short ladder: as many as jobs, devices and memory make worth while, and
never so many that their padding costs more than a smaller rung would. The number is part of
a program, and another program may round otherwise. So a resume reuses the plan of the first
run, and every job meets the same program again.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from nst_jax.engine.canvas import Size, size_text
from nst_jax.engine.devices import Devices
from nst_jax.engine.levels import Stage
from nst_jax.engine.room import Room, bytes_text, largest_that_fits
from nst_jax.spec.errors import NoRoomError, OptionError
from nst_jax.spec.options import Options

WAVE_JOBS = 32
"""Jobs that go through the levels together; bounds host memory and the wait for the first."""

_LADDER = (1, 2, 4, 8, 16, 32, 64, 128)

# More pixels than this in one batch gain nothing and only cost memory: about 1.2 GB of
# float32 activations on a CPU, 10 GB of bfloat16 ones on an accelerator.
_LARGEST_BATCH_PIXELS = {"cpu": 4 * 256 * 256, "gpu": 64 * 512 * 512, "tpu": 16 * 512 * 512}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Slots by canvas.

    Attributes:
        slots: Of all devices together.
        devices: How many devices they are spread over.
        batch: What tells the batch that it was made for from others; empty where nobody said.
    """

    slots: Mapping[Size, int]
    devices: int = 1
    batch: str = ""

    def halved(self, canvas: Size) -> "Plan":
        """The plan with half the slots for one canvas, after a batch of it did not fit.

        Raises:
            NoRoomError: There was a single slot on each device already.
        """
        slots = self.slots[canvas]
        if slots <= self.devices:
            raise NoRoomError(
                f"a canvas must fit the device's memory, got {size_text(canvas)}, which does not "
                "even alone",
                "Lower --size",
            )
        fewer = max(1, slots // 2 // self.devices) * self.devices
        return dataclasses.replace(self, slots={**self.slots, canvas: fewer})

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan.json` has it."""
        return {
            "version": 1,
            "devices": self.devices,
            "batch": self.batch,
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
            devices = int(content.get("devices", 1))
            batch = str(content.get("batch", ""))
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a plan: {error!r}") from error
        if any(len(canvas) != 2 or min(*canvas, slots) < 1 for canvas, slots in entries):
            raise ValueError("not a plan: sizes and slots must be 1 or more")
        if devices < 1:
            raise ValueError("not a plan: devices must be 1 or more")
        return cls({(canvas[0], canvas[1]): slots for canvas, slots in entries}, devices, batch)


def plan(
    ladders: Iterable[tuple[Stage, ...]],
    options: Options,
    devices: Devices,
    earlier: Plan | None = None,
    *,
    room: Room | None = None,
    counts: Mapping[Size, int] | None = None,
) -> Plan:
    """Slots for each canvas that the jobs' stages need; what was planned earlier stays.

    Args:
        ladders: The stages of each job.
        options: `batch_size` counts.
        devices: What the batches run on.
        earlier: The plan of a run that is resumed.
        room: The devices' memory and what programs need of it; None: as if all fitted.
        counts: Jobs by canvas in the whole batch, of which these are a part; a canvas that is
            not among them counts as that of many jobs. None: these jobs are the whole.

    Raises:
        OptionError: A batch, or even a single picture, fits no device.
    """
    listed = list(ladders)
    stages = [stage for ladder in listed for stage in ladder]
    needs: Mapping[Size, int] = collections.Counter(
        canvas for one in listed for canvas in {s.canvas for s in one}
    )
    if counts is not None:
        needs = {canvas: counts.get(canvas, WAVE_JOBS) for canvas in {*needs, *counts}}
    if room:
        room.check_pictures(needs)
        room.check_styles({stage.style_edge for stage in stages})
    slots = dict(earlier.slots) if earlier else {}
    for canvas, jobs in sorted(needs.items()):
        if canvas not in slots:
            slots[canvas] = _slots(canvas, min(jobs, WAVE_JOBS), options, devices, room)
    if room:
        _check_batches({canvas: slots[canvas] for canvas in needs}, devices, room)
    return Plan(slots, devices.count, earlier.batch if earlier else "")


def _slots(canvas: Size, jobs: int, options: Options, devices: Devices, room: Room | None) -> int:
    if options.batch_size != "auto":
        return options.batch_size
    pixels = canvas[0] * canvas[1]
    largest = max(1, _LARGEST_BATCH_PIXELS.get(devices.platform, 2**22) // pixels)

    def reasonable(rung: int) -> bool:
        if rung >= 2 * jobs or devices.slots_on_each(rung) > largest:
            return False
        return room is None or room.fits(canvas, devices.slots_in_a_memory(rung))

    ladder = {*_LADDER, *(devices.count * rung for rung in _LADDER)}
    rungs = [rung for rung in ladder if reasonable(rung)] or [1]
    return min(rungs, key=lambda rung: (*_cost(rung, pixels, jobs, devices), -rung))


def _cost(rung: int, pixels: int, jobs: int, devices: Devices) -> tuple[float | int, int]:
    """Pixels' worth of device time for all jobs, and the slots of batches that stay empty.

    A batch too small to fill the devices costs as much as one that does.
    """
    batches = -(-jobs // rung)
    computed = max(devices.slots_paid(rung) * pixels, devices.fill_pixels)
    return batches * computed, batches * rung - jobs


def _check_batches(slots: Mapping[Size, int], devices: Devices, room: Room) -> None:
    held = {canvas: devices.slots_in_a_memory(count) for canvas, count in slots.items()}
    if all(room.fits(canvas, count) for canvas, count in held.items()):
        return
    worst = max(held, key=lambda canvas: room.needed(canvas, held[canvas]))
    fitting = devices.memories * min(
        largest_that_fits(lambda number, canvas=canvas: room.fits(canvas, number), count)
        for canvas, count in held.items()
    )
    raise OptionError(
        f"a batch must fit the device's memory of {room.text}, got {slots[worst]} slots of "
        f"{size_text(worst)}, which need {bytes_text(room.needed(worst, held[worst]))}",
        f"--batch-size {fitting} would fit; a plan.json of other slots must be deleted first",
    )
