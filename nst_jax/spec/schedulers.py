"""Which shard a process is, as its scheduler's environment variables tell (`--shard auto`).

Slurm               an array (SLURM_ARRAY_TASK_ID, _COUNT, _MIN, _STEP), the tasks of a step
                    (SLURM_PROCID, SLURM_STEP_NUM_TASKS), or both: tasks within an array
Kubernetes          JOB_COMPLETION_INDEX of an Indexed Job, and NST_JAX_SHARD_COUNT
Cloud TPU           TPU_WORKER_ID and TPU_WORKER_HOSTNAMES of a slice; with MEGASCALE_SLICE_ID and
                    MEGASCALE_NUM_SLICES of several
jax.distributed     JAX_PROCESS_ID and JAX_NUM_PROCESSES
GNU parallel        PARALLEL_SEQ, counted from 1, and NST_JAX_SHARD_COUNT

A source that says "the only one of one" says nothing where another knows more.
"""

from collections.abc import Callable, Mapping

from nst_jax.spec.errors import OptionError
from nst_jax.spec.shards import Shard

COUNT_VARIABLE = "NST_JAX_SHARD_COUNT"
"""How many shards there are, where a scheduler tells its workers' numbers and not how many."""

_REMEDY = "Name the shard: --shard I/N, with I from 0 to N-1"


def scheduled_shard(
    environment: Mapping[str, str], told: Mapping[str, Shard] | None = None
) -> Shard:
    """The shard that this process is.

    Args:
        environment: Its variables.
        told: What else is known, by who says so.

    Raises:
        OptionError: Nobody tells, one tells half of it, or two contradict each other.
    """
    found = dict(told or {})
    halves: list[str] = []
    for name, source in _SOURCES.items():
        shard = source(environment, halves)
        if shard is not None:
            found[name] = shard
    if not found:
        raise _nobody_tells(halves)
    several = {name: shard for name, shard in found.items() if shard.count > 1} or found
    _check_agreement(several, environment)
    return next(iter(several.values()))


def _nobody_tells(halves: list[str]) -> OptionError:
    if halves:
        return OptionError(f"shard auto must know one of how many it is, but {halves[0]}", _REMEDY)
    return OptionError(
        "shard auto needs the variables of Slurm, a Kubernetes Indexed Job, a Cloud TPU slice, "
        "jax.distributed or GNU parallel, got none",
        _REMEDY,
    )


def _check_agreement(found: Mapping[str, Shard], environment: Mapping[str, str]) -> None:
    told = [f"{name} says {shard}" for name, shard in found.items()]
    counts = {shard.count for shard in found.values()}
    count = _number(environment, COUNT_VARIABLE)
    if count is not None and counts != {count}:
        told.append(f"{COUNT_VARIABLE} says {count}")
    elif len(set(found.values())) == 1:
        return
    raise OptionError(f"shard auto must have one answer, but {' and '.join(told)}", _REMEDY)


def _slurm(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    """A task of an array, a task of a step, or a task of a step of an array's task."""
    array = _slurm_array(environment, halves)
    task = _pair(environment, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    if array and task:
        return Shard(array.index * task.count + task.index, array.count * task.count)
    return array or task


def _slurm_array(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    number = _number(environment, "SLURM_ARRAY_TASK_ID")
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    if number is None or count is None:
        if number is not None:
            halves.append("SLURM_ARRAY_TASK_ID is set and SLURM_ARRAY_TASK_COUNT is not")
        return None
    first = _number(environment, "SLURM_ARRAY_TASK_MIN") or 0
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") or 1
    index, rest = divmod(number - first, step)
    if rest or not 0 <= index < count:
        raise OptionError(
            "shard auto needs a Slurm array of numbers one after the other, got "
            f"number {number} of {count} from {first} on in steps of {step}",
            "Submit it as --array=0-7; a run of any number of shards renders what is missing",
        )
    return Shard(index, count)


def _kubernetes(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    index = _number(environment, "JOB_COMPLETION_INDEX")
    return _counted("JOB_COMPLETION_INDEX", index, environment, halves)


def _parallel(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    number = _number(environment, "PARALLEL_SEQ")
    index = None if number is None else number - 1
    return _counted("PARALLEL_SEQ", index, environment, halves)


def _cloud_tpu(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    """A host of a slice, or of one of several slices."""
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "").strip()
    index = _number(environment, "TPU_WORKER_ID")
    if index is None or not hosts:
        return None
    host = _checked("the Cloud TPU slice", index, len(hosts.split(",")))
    part = _pair(environment, "MEGASCALE_SLICE_ID", "MEGASCALE_NUM_SLICES")
    if part is None:
        return host
    return Shard(part.index * host.count + host.index, part.count * host.count)


def _jax(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    return _pair(environment, "JAX_PROCESS_ID", "JAX_NUM_PROCESSES")


_SOURCES: Mapping[str, Callable[[Mapping[str, str], list[str]], Shard | None]] = {
    "Slurm": _slurm,
    "the Kubernetes Indexed Job": _kubernetes,
    "the Cloud TPU slice": _cloud_tpu,
    "JAX_PROCESS_ID": _jax,
    "GNU parallel": _parallel,
}


def _counted(
    name: str, index: int | None, environment: Mapping[str, str], halves: list[str]
) -> Shard | None:
    if index is None:
        return None
    count = _number(environment, COUNT_VARIABLE)
    if count is None:
        halves.append(f"{name} is set and {COUNT_VARIABLE}, the number of shards, is not")
        return None
    return _checked(name, index, count)


def _pair(environment: Mapping[str, str], index_name: str, count_name: str) -> Shard | None:
    index, count = _number(environment, index_name), _number(environment, count_name)
    return None if index is None or count is None else _checked(index_name, index, count)


def _checked(who: str, index: int, count: int) -> Shard:
    try:
        return Shard(index, count)
    except OptionError as error:
        raise OptionError(f"shard auto can't follow {who}: {error.message}", _REMEDY) from error


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise OptionError(f"{name} must be a whole number for shard auto, got {text!r}", _REMEDY)
    return int(text)
