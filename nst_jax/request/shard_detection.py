"""Which shard a process is, as its scheduler's environment variables tell (`--shard auto`).

Slurm               an array (SLURM_ARRAY_TASK_ID, _COUNT, _MIN, _STEP), the tasks of a step
                    (SLURM_PROCID, SLURM_STEP_NUM_TASKS), or both: tasks within an array
Kubernetes          JOB_COMPLETION_INDEX of an Indexed Job, and NST_JAX_SHARD_COUNT
Cloud TPU           TPU_WORKER_ID and TPU_WORKER_HOSTNAMES of a slice; with MEGASCALE_SLICE_ID and
                    MEGASCALE_NUM_SLICES of several
jax.distributed     JAX_PROCESS_ID and JAX_NUM_PROCESSES
GNU parallel        PARALLEL_SEQ, counted from 1, and NST_JAX_SHARD_COUNT

A source that says "the only one of one" says nothing where another knows more. One that tells a
half, a number without how many or the reverse, is refused whatever the others tell. The script of
a Slurm job is the exception: SLURM_PROCID is 0 there and no step's size is told; it is one process
of its array's task, or of what it starts.
"""

from collections.abc import Callable, Mapping

from nst_jax.request.errors import OptionError
from nst_jax.request.shards import Shard

COUNT_VARIABLE = "NST_JAX_SHARD_COUNT"
"""How many shards there are, where a scheduler tells its workers' numbers and not how many."""

_REMEDY = "Name the shard: --shard I/N, with I from 0 to N-1"

_MOST_DIGITS = 9
_ECHOED = 20


def detect_shard(environment: Mapping[str, str], told: Mapping[str, Shard] | None = None) -> Shard:
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
    several = {name: shard for name, shard in found.items() if shard.count > 1}
    if not several and "Slurm" not in found and _is_job_script(environment):
        halves.append("SLURM_PROCID is set and SLURM_STEP_NUM_TASKS, which srun sets, is not")
    if not found and not halves and _number(environment, COUNT_VARIABLE) is not None:
        halves.append(
            f"{COUNT_VARIABLE} is set and no worker's number, such as JOB_COMPLETION_INDEX or "
            "PARALLEL_SEQ, is"
        )
    if halves:
        raise OptionError(f"shard auto must know one of how many it is, but {halves[0]}", _REMEDY)
    if not found:
        raise OptionError(
            "shard auto needs the variables of Slurm, a Kubernetes Indexed Job, a Cloud TPU slice, "
            "jax.distributed or GNU parallel, got none",
            _REMEDY,
        )
    _check_agreement(several or found, environment)
    return next(iter((several or found).values()))


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
    if _is_job_script(environment):
        return array
    task = _pair(environment, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", halves)
    if array and task:
        who = "SLURM_ARRAY_TASK_COUNT times SLURM_STEP_NUM_TASKS"
        return _within(who, array, task)
    return array or task


def _is_job_script(environment: Mapping[str, str]) -> bool:
    """Whether this is the script that `sbatch` runs, or a child of it that no `srun` started."""
    sizes = _number(environment, "SLURM_STEP_NUM_TASKS")
    return sizes is None and _number(environment, "SLURM_PROCID") == 0


def _slurm_array(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    told = _both(environment, "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", halves)
    if told is None:
        return None
    number, count = told
    first = _number(environment, "SLURM_ARRAY_TASK_MIN") or 0
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") or 1
    index, rest = divmod(number - first, step)
    if rest or not 0 <= index < count:
        raise OptionError(
            "shard auto needs a Slurm array of numbers one after the other, got "
            f"number {number} of {count} from {first} on in steps of {step}",
            "Submit it as --array=0-7; a run of any number of shards renders what is missing",
        )
    return _checked("SLURM_ARRAY_TASK_COUNT", index, count)


def _kubernetes(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    index = _number(environment, "JOB_COMPLETION_INDEX")
    return _counted("JOB_COMPLETION_INDEX", index, environment, halves)


def _parallel(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    number = _number(environment, "PARALLEL_SEQ")
    index = None if number is None else number - 1
    return _counted("PARALLEL_SEQ", index, environment, halves)


def _cloud_tpu(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    """A host of a slice, or of one of several slices."""
    index = _number(environment, "TPU_WORKER_ID")
    names = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    count = sum(bool(name.strip()) for name in names) or None
    part = _pair(environment, "MEGASCALE_SLICE_ID", "MEGASCALE_NUM_SLICES", halves)
    if index is None and count is None:
        if part is not None:
            halves.append("MEGASCALE_SLICE_ID is set and TPU_WORKER_ID is not")
        return None
    told = _told_both("TPU_WORKER_ID", index, "TPU_WORKER_HOSTNAMES", count, halves)
    if told is None:
        return None
    host = _checked("the Cloud TPU slice", *told)
    who = "MEGASCALE_NUM_SLICES times the hosts of TPU_WORKER_HOSTNAMES"
    return host if part is None else _within(who, part, host)


def _jax(environment: Mapping[str, str], halves: list[str]) -> Shard | None:
    return _pair(environment, "JAX_PROCESS_ID", "JAX_NUM_PROCESSES", halves)


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


def _pair(
    environment: Mapping[str, str], index_name: str, count_name: str, halves: list[str]
) -> Shard | None:
    told = _both(environment, index_name, count_name, halves)
    return None if told is None else _checked(f"{index_name} and {count_name}", *told)


def _both(
    environment: Mapping[str, str], index_name: str, count_name: str, halves: list[str]
) -> tuple[int, int] | None:
    index, count = _number(environment, index_name), _number(environment, count_name)
    return _told_both(index_name, index, count_name, count, halves)


def _told_both(
    index_name: str, index: int | None, count_name: str, count: int | None, halves: list[str]
) -> tuple[int, int] | None:
    """A number and how many there are; one of them alone is noted as a half."""
    if index is not None and count is not None:
        return index, count
    if index is not None:
        halves.append(f"{index_name} is set and {count_name} is not")
    if count is not None:
        halves.append(f"{count_name} is set and {index_name} is not")
    return None


def _within(who: str, outer: Shard, inner: Shard) -> Shard:
    """The inner shard's place among those of all outer ones."""
    return _checked(who, outer.index * inner.count + inner.index, outer.count * inner.count)


def _checked(who: str, index: int, count: int) -> Shard:
    try:
        return Shard(index, count)
    except OptionError as error:
        raise OptionError(f"shard auto can't follow {who}: {error.message}", _REMEDY) from error


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        echo = repr(text) if len(text) <= _ECHOED else f"{text[:_ECHOED]!r}… ({len(text)} letters)"
        raise OptionError(
            f"{name} must be a whole number of {_MOST_DIGITS} digits at most for shard auto, "
            f"got {echo}",
            _REMEDY,
        )
    return int(text)
