"""Step programs compiled and looked at without a picture: their memory and what they exchange."""

import dataclasses

import jax

from nst_jax.engine.device.compiled_facts import bytes_on_each_device, collectives_in
from nst_jax.engine.device.program_shapes import ProgramShapes
from nst_jax.engine.device.programs import ProgramCache
from nst_jax.engine.plan.levels import Bucket
from nst_jax.engine.plan.program_list import StepBatch
from nst_jax.request.options import Options


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What a compiled step program says of itself.

    Attributes:
        bytes_per_device: Arguments, results and temporary memory; None where the backend
            does not tell.
        collectives: Operations that make devices wait for each other, one for each.
        flops_per_device: Operations of one step on each device, as the compiler counts them:
            a loop's body once, and of a batch what one device does. None where untold.
        bytes_accessed_per_device: Likewise what its operations read and write. It counts each
            operand of each fused operation, wherever that lies.
        network_bytes: The part of `bytes_per_device` that is the network, whatever the batch.
        seconds: Of compilation; of loading, where a cache had the program.
    """

    bytes_per_device: int | None
    collectives: list[str]
    flops_per_device: float | None = None
    bytes_accessed_per_device: float | None = None
    network_bytes: int = 0
    seconds: float = 0.0


def analyze_step(
    programs: ProgramCache, bucket: Bucket, slots: int, options: Options
) -> CompiledStep:
    """Compiles a step program, or takes the one that is there, and looks at it.

    Args:
        programs: Where the network is.
        bucket: What its jobs have alike.
        slots: How many there are.
        options: The run's.
    """
    named = ProgramShapes(programs, options).find(StepBatch(bucket, slots))
    program = named.compile()
    costs = program.cost_analysis() or {}
    return CompiledStep(
        bytes_on_each_device(program),
        collectives_in(program.as_text()),
        costs.get("flops"),
        costs.get("bytes accessed"),
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(programs.network)),
        programs.compiled[named.name],
    )
