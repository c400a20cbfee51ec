"""How many slots each bucket of jobs gets, chosen once for a run and kept in its `plan.json`.

Slots come from a short list: as many as jobs, devices and memory make worth while, and
never so many that their padding costs more than a smaller size would. The number is part of
a program, and another program may round otherwise. So a resume reuses the plan of the first
run, and every job meets the same program again.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nst_jax.engine.plan.canvas import Size, size_text
from nst_jax.engine.plan.demand import Demand
from nst_jax.engine.plan.devices import Devices
from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.plan.levels import Bucket, Level, count_buckets
from nst_jax.engine.plan.memory_model import (
    WAVE_JOBS,
    CostModel,
    MemoryBudget,
    bytes_text,
    largest_that_fits,
)
from nst_jax.engine.progress import Progress
from nst_jax.request.errors import NoRoomError, OptionError, say_count
from nst_jax.request.options import Options, StaticOptions

_MANY_WAVES = 4
"""From so many on, what the last one leaves empty is no reason for smaller batches."""

_VERSION = 3
_WITH_WIDE_CANVASES = 2  # the version before, in which no picture lay transposed

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

# More pixels than this in one batch gain nothing and only cost memory: about 1.2 GB of
# float32 activations on a CPU, 10 GB of bfloat16 ones on an accelerator.
_LARGEST_BATCH_PIXELS = {"cpu": 4 * 256 * 256, "gpu": 64 * 512 * 512, "tpu": 16 * 512 * 512}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Slots by bucket.

    Attributes:
        slots: Of all devices together, by what jobs must have alike to share them.
        devices: How many devices they are spread over.
        batch: What tells the batch that it was made for from others; empty where nobody said.
    """

    slots: Mapping[Bucket, int]
    devices: int = 1
    batch: str = ""

    def halve(self, bucket: Bucket) -> "Plan":
        """The plan with half the slots for one bucket, after a batch of it did not fit.

        Raises:
            NoRoomError: There was a single slot on each device already.
        """
        slots = self.slots[bucket]
        if slots <= self.devices:
            raise NoRoomError(
                f"a canvas must fit the device's memory, got {size_text(bucket.canvas)}, which "
                "does not even alone",
                "Lower --size",
            )
        fewer = max(1, slots // 2 // self.devices) * self.devices
        return dataclasses.replace(self, slots={**self.slots, bucket: fewer})

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan.json` has it."""
        return {
            "version": _VERSION,
            "devices": self.devices,
            "batch": self.batch,
            "groups": [  # of jobs: buckets
                {
                    "canvas": list(bucket.canvas),
                    "regions": bucket.regions,
                    **bucket.static_options._asdict(),
                    "slots": slots,
                }
                for bucket, slots in self.slots.items()
            ],
        }

    @classmethod
    def from_json(cls, content: Any) -> "Plan":
        """The plan that `to_json` gave, now or in the version before; the first has fixed nothing.

        Of a wide canvas and a high one of that version, which are one now, the more slots count.

        Raises:
            ValueError: The content is no plan.
        """
        try:
            if content["version"] not in (1, _WITH_WIDE_CANVASES, _VERSION):
                raise ValueError(f"unknown version {content['version']!r}")
            entries = content["groups"] if content["version"] != 1 else ()
            slots: dict[Bucket, int] = {}
            for entry in entries:
                bucket = _bucket(entry)
                if content["version"] == _WITH_WIDE_CANVASES:
                    bucket = bucket._replace(canvas=(max(bucket.canvas), min(bucket.canvas)))
                slots[bucket] = max(int(entry["slots"]), slots.get(bucket, 0))
            devices = int(content.get("devices", 1))
            batch = str(content.get("batch", ""))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a plan: {error}") from error
        if any(min(*bucket.canvas, count) < 1 for bucket, count in slots.items()):
            raise ValueError("not a plan: sizes and slots must be 1 or more")
        if devices < 1:
            raise ValueError("not a plan: devices must be 1 or more")
        return cls(slots, devices, batch)


def _bucket(entry: Any) -> Bucket:
    height, width = map(int, entry["canvas"])
    content_taps, style_taps = (
        tuple(map(str, entry[name])) for name in ("content_taps", "style_taps")
    )
    static_options = StaticOptions(content_taps, style_taps, str(entry["gradient_normalization"]))
    return Bucket((height, width), int(entry["regions"]), static_options)


def make_plan(
    jobs: Sequence[ExaminedJob],
    options: Options,
    devices: Devices,
    costs: CostModel,
    progress: Progress,
    earlier: Plan | None = None,
    *,
    whole: Demand | None = None,
) -> Plan:
    """Slots for every bucket of the jobs, within the memory of the devices at hand.

    Args:
        jobs: What will be rendered.
        options: The run's.
        devices: What the batches run on.
        costs: Of the network's programs.
        progress: Told what the user may not expect.
        earlier: The plan of a run that is resumed; it stays as it is.
        whole: The batch that these jobs are a part of; None: they are the whole.

    Raises:
        OptionError: A batch, or even a single picture, fits no device.
    """
    own_taps = {(one.options.content_taps, one.options.style_taps) for one in jobs}
    taps = whole.taps if whole else tuple(own_taps)
    count = len(jobs) if whole is None else whole.jobs
    budget = MemoryBudget(costs, taps, devices.memory_bytes, count)
    made = choose_slots(
        [one.levels for one in jobs],
        options,
        devices,
        earlier,
        budget=budget if jobs else None,
        counts=whole.counts if whole else None,
    )
    if note := padding_note(len(jobs), options):
        progress.note(note)
    return made


def padding_note(jobs: int, options: Options) -> str:
    """What to say where the batch size is beyond the number of jobs; empty where it is not."""
    slots = options.batch_size
    if slots == "auto" or slots <= jobs:
        return ""
    text = say_count(jobs, "job")
    return f"a batch size of {slots} is beyond the {text}: empty slots cost as much as full ones"


def choose_slots(
    jobs: Iterable[tuple[Level, ...]],
    options: Options,
    devices: Devices,
    earlier: Plan | None = None,
    *,
    budget: MemoryBudget | None = None,
    counts: Mapping[Bucket, int] | None = None,
) -> Plan:
    """Slots for each bucket that the jobs' levels are in; what was planned earlier stays.

    Args:
        jobs: The levels of each job.
        options: `batch_size` counts.
        devices: What the batches run on.
        earlier: The plan of a run that is resumed.
        budget: The devices' memory and what programs need of it; None: as if all fitted.
        counts: Jobs by bucket in the whole batch, of which these are a part; a bucket that is
            not among them counts as one of many jobs. None: these jobs are the whole.

    Raises:
        OptionError: A batch, or even a single picture, fits no device.
    """
    pyramids = list(jobs)
    needs: Mapping[Bucket, int] = count_buckets(pyramids)
    if counts is not None:
        needs = {bucket: counts.get(bucket, WAVE_JOBS) for bucket in {*needs, *counts}}
    if budget:
        budget.check_pictures({bucket.canvas for bucket in needs})
        budget.check_styles({level.style_edge for levels in pyramids for level in levels})
    slots = dict(earlier.slots) if earlier else {}
    for bucket, count in sorted(needs.items()):
        if bucket not in slots:
            slots[bucket] = _batch_size(bucket.canvas, count, options, devices, budget)
    if budget:
        _check_batches({bucket: slots[bucket] for bucket in needs}, devices, budget)
    return Plan(slots, devices.count, earlier.batch if earlier else "")


def _batch_size(
    canvas: Size, jobs: int, options: Options, devices: Devices, budget: MemoryBudget | None
) -> int:
    if options.batch_size != "auto":
        return options.batch_size
    pixels = canvas[0] * canvas[1]
    largest = max(1, _LARGEST_BATCH_PIXELS.get(devices.platform, 2**22) // pixels)

    def is_reasonable(size: int) -> bool:
        if size >= 2 * min(jobs, WAVE_JOBS) or devices.slots_on_each(size) > largest:
            return False
        return budget is None or budget.fits(canvas, devices.slots_in_a_memory(size))

    choices = {*_BATCH_SIZES, *(devices.count * size for size in _BATCH_SIZES)}
    sizes = [size for size in choices if is_reasonable(size)] or [1]
    return min(sizes, key=lambda size: (*_cost(size, pixels, jobs, devices), -size))


def _cost(size: int, pixels: int, jobs: int, devices: Devices) -> tuple[float | int, int]:
    """Pixels' worth of device time for all jobs, and the slots of batches that stay empty.

    A batch too small to fill the devices costs as much as one that does. A wave begins with slots
    of its own, so what the last one leaves empty is paid for; among many it does not count.
    """
    waves, rest = divmod(jobs, WAVE_JOBS)
    if waves >= _MANY_WAVES:
        rest = 0
    batches = waves * -(-WAVE_JOBS // size) + -(-rest // size)
    computed = max(devices.slot_cost(size) * pixels, devices.fill_pixels)
    return batches * computed, batches * size - waves * WAVE_JOBS - rest


def _check_batches(slots: Mapping[Bucket, int], devices: Devices, budget: MemoryBudget) -> None:
    held = {bucket: devices.slots_in_a_memory(count) for bucket, count in slots.items()}
    if all(budget.fits(bucket.canvas, count) for bucket, count in held.items()):
        return
    worst = max(held, key=lambda bucket: budget.required_bytes(bucket.canvas, held[bucket]))
    fitting = devices.memories * min(
        largest_that_fits(lambda number, bucket=bucket: budget.fits(bucket.canvas, number), count)
        for bucket, count in held.items()
    )
    raise OptionError(
        f"a batch must fit the device's memory of {budget.text}, got {slots[worst]} slots of "
        f"{size_text(worst.canvas)}, which need "
        f"{bytes_text(budget.required_bytes(worst.canvas, held[worst]))}",
        f"--batch-size {fitting} would fit; a plan.json of other slots must be deleted first",
    )
