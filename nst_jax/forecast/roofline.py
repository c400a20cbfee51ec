"""What a run would be on TPU chips that are not at hand: compiled for them, then estimated.

Memory, operations, bytes and collectives are the TPU compiler's own account of the programs
that a run would step with. Seconds are not: they are the chip's roofline, the larger of
operations by the peak of products and bytes by the peak of the memory's traffic, as if nothing
ever waited. No program reaches it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax

from nst_jax.engine.progress import Progress
from nst_jax.forecast.chips import Peak, published_peak
from nst_jax.forecast.plan_report import make_plan_report
from nst_jax.forecast.report import CanvasReport, PlanReport, StepReport
from nst_jax.forecast.topologies import Topology
from nst_jax.request.errors import OptionError
from nst_jax.request.job import Job
from nst_jax.request.options import Options

Bound = Literal["operations", "bytes"]

NO_PEAK = "no peak is published for what the network computes in: no estimate of time"


@dataclasses.dataclass(frozen=True)
class StepRoofline:
    """One step program on the chips of a topology.

    Attributes:
        step: The program.
        slots_on_each: Slots of the batch on each chip.
        limit_bytes: What a program may use on each chip.
        peak: Of products in what the network computes in; None where none is published.
        bytes_per_second: Peak of the memory's traffic.
    """

    step: StepReport
    slots_on_each: int
    limit_bytes: int
    peak: Peak | None
    bytes_per_second: float

    @property
    def flops_per_image_step(self) -> float:
        """Operations as the compiler counts them, all and not just the model's."""
        return (self.step.compiled.flops_per_device or 0) / self.slots_on_each

    @property
    def bytes_accessed_per_image_step(self) -> float:
        """What all operations read and write, as the compiler counts it."""
        return (self.step.compiled.bytes_accessed_per_device or 0) / self.slots_on_each

    @property
    def slots_that_fit(self) -> int | None:
        """On each chip, if memory grows with the slots as it does up to here; an estimate.

        Far too high where so little is computed that most of it never leaves the chip.
        """
        seen = self.step.compiled
        if seen.bytes_per_device is None:
            return None
        each = (seen.bytes_per_device - seen.network_bytes) / self.slots_on_each
        return int((self.limit_bytes - seen.network_bytes) / each)

    @property
    def _bounds(self) -> dict[Bound, float] | None:
        """Seconds of an image-step by each of the two peaks; None where one is not known."""
        if self.peak is None:
            return None
        return {
            "bytes": self.bytes_accessed_per_image_step / self.bytes_per_second,
            "operations": self.flops_per_image_step / self.peak.operations_per_second,
        }

    @property
    def chip_seconds(self) -> float | None:
        """Of one chip for one step of one image, by the roofline; an estimate."""
        return max(self._bounds.values()) if self._bounds else None

    @property
    def bound_by(self) -> Bound | None:
        """Which of the two peaks the estimate is of."""
        return max(self._bounds, key=self._bounds.__getitem__) if self._bounds else None

    @property
    def seconds(self) -> float | None:
        """Of all its steps in the run, by the roofline."""
        if self.chip_seconds is None:
            return None
        return self.step.batch_steps * self.slots_on_each * self.chip_seconds

    def record(self) -> dict[str, Any]:
        """The step as `plan --json` prints it among its canvas's."""
        seen = self.step.compiled
        return {
            "style": self.step.style_kind,
            "batch_steps": self.step.batch_steps,
            "bytes_per_chip": seen.bytes_per_device,
            "slots_that_fit_a_chip": self.slots_that_fit,
            "flops_per_image_step": round(self.flops_per_image_step),
            "bytes_accessed_per_image_step": round(self.bytes_accessed_per_image_step),
            "collectives": len(seen.collectives),
            "compile_seconds": round(seen.seconds, 3),
            "roofline_chip_seconds_per_image_step": self.chip_seconds,
            "bound_by": self.bound_by,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class TopologyReport:
    """A run on the chips of a topology.

    Attributes:
        plan: The run, compiled for them.
        topology: The chips.
    """

    plan: PlanReport
    topology: Topology

    def steps(self, canvas: CanvasReport) -> list[StepRoofline]:
        """The step programs of one canvas."""
        chip, devices = self.topology.chip, self.topology.devices
        bytes_per_second = chip.bytes_per_second
        assert bytes_per_second is not None
        peak = published_peak(chip.kinds[0], self.plan.dtype)
        return [
            StepRoofline(
                one, devices.slots_on_each(one.slots), devices.memory_bytes, peak, bytes_per_second
            )
            for one in canvas.steps
        ]

    @property
    def batch_that_fits(self) -> int | None:
        """Slots of the largest canvas over all chips; an estimate, see `slots_that_fit`."""
        largest = self.plan.canvases[-1:]
        each = [step.slots_that_fit for canvas in largest for step in self.steps(canvas)]
        known = [fitting for fitting in each if fitting is not None]
        return min(known) * self.topology.devices.count if known else None

    @property
    def seconds(self) -> float | None:
        """Of all steps by the roofline; None where that is not known, or nothing is planned."""
        every = [step.seconds for canvas in self.plan.canvases for step in self.steps(canvas)]
        known = [seconds for seconds in every if seconds is not None]
        return sum(known) if known and len(known) == len(every) else None

    @property
    def images_per_hour(self) -> float | None:
        """Of all chips together, by the roofline."""
        planned = self.plan.jobs - len(self.plan.failures)
        return 3600 * planned / self.seconds if self.seconds else None

    @property
    def notes(self) -> list[str]:
        """What the user may want to know."""
        notes = list(self.plan.notes)
        if self.seconds is None and self.plan.canvases:
            notes.append(NO_PEAK)
        if self.topology.hosts > 1:
            notes.append(
                f"{self.topology.name} has {self.topology.hosts} hosts, which share the jobs and "
                "nothing else (nst-jax batch --shard); the batches are those of all chips together"
            )
        return notes

    def record(self) -> dict[str, Any]:
        """The forecast as `plan --topology --json` prints it: a plan, and what is known beyond."""
        record = self.plan.record()
        for canvas, line in zip(self.plan.canvases, record["canvases"], strict=True):
            line["steps"] = [step.record() for step in self.steps(canvas)]
        return record | {
            "topology": self.topology.record(),
            "batch_that_fits": self.batch_that_fits,
            "seconds": self.seconds,
            "images_per_hour": self.images_per_hour,
            "seconds_are": "an estimate: the chip's roofline, which no program reaches",
            "notes": self.notes,
        }


def forecast_on_topology(
    jobs: Sequence[Job], options: Options, topology: Topology, progress: Progress
) -> TopologyReport:
    """Compiles every step program of a run for a topology; nothing is rendered.

    Raises:
        OptionError: A batch, or even a single picture, does not fit a chip.
        RequestError: The request is wrong in itself.
    """
    try:
        made = make_plan_report(
            jobs,
            options,
            compile_steps=True,
            measure=False,
            progress=progress,
            devices=topology.devices,
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise OptionError(
            f"a batch must fit the memory of each chip of {topology.name}, the TPU compiler says: "
            f"{str(error).splitlines()[0]}",
            "Lower --batch-size or --size",
        ) from error
    return TopologyReport(made, topology)
