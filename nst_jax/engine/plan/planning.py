"""The plan of examined jobs: slots by canvas, within the memory of the devices at hand."""

from collections.abc import Sequence

from nst_jax.engine.inputs.session import ExaminedJob, Session
from nst_jax.engine.plan.demand import Demand
from nst_jax.engine.plan.memory_budget import MemoryBudget
from nst_jax.engine.plan.memory_model import CostModel
from nst_jax.engine.plan.slots import Plan, choose_slots
from nst_jax.engine.progress import Progress


def make_plan(
    requests: Sequence[ExaminedJob],
    setup: Session,
    progress: Progress,
    earlier: Plan | None = None,
    *,
    whole: Demand | None = None,
) -> Plan:
    """Slots for every canvas of the jobs.

    Args:
        requests: The jobs.
        setup: What they share.
        progress: Told what the user may not expect.
        earlier: The plan of a run that is resumed; it stays as it is.
        whole: The batch that these jobs are a part of; None: they are the whole.

    Raises:
        OptionError: A batch, or even a single picture, fits no device.
    """
    ladders = [one.levels for one in requests]
    own_taps = {(one.options.content_taps, one.options.style_taps) for one in requests}
    room = MemoryBudget(
        costs=cost_model(setup),
        taps=whole.taps if whole else tuple(own_taps),
        limit_bytes=setup.devices.memory_bytes,
    )
    made = choose_slots(
        ladders,
        setup.options,
        setup.devices,
        earlier,
        room=room if requests else None,
        counts=whole.counts if whole else None,
    )
    if note := padding_note(len(requests), setup):
        progress.note(note)
    return made


def cost_model(setup: Session) -> CostModel:
    """What the programs of this network cost in this setup."""
    return CostModel(
        architecture=setup.weights.architecture,
        channels={
            name: (kernel.shape[2], kernel.shape[3])
            for name, (kernel, _) in setup.weights.convolutions.items()
        },
        value_bytes=setup.precision.dtype.itemsize,
        use_winograd=setup.use_winograd,
        optimizer=setup.options.optimizer,
        tv_loss=setup.options.tv_loss,
    )


def padding_note(jobs: int, setup: Session) -> str:
    """What to say where the batch size is beyond the number of jobs; empty where it is not."""
    slots = setup.options.batch_size
    if slots == "auto" or slots <= jobs:
        return ""
    text = "1 job" if jobs == 1 else f"{jobs} jobs"
    return f"a batch size of {slots} is beyond the {text}: empty slots cost as much as full ones"
