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

from collections.abc import Mapping

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
    variables = _Variables(environment)
    sources = {
        "Slurm": variables.slurm(),
        "the Kubernetes Indexed Job": variables.worker("JOB_COMPLETION_INDEX", first=0),
        "the Cloud TPU slice": variables.cloud_tpu(),
        "JAX_PROCESS_ID": variables.pair("JAX_PROCESS_ID", "JAX_NUM_PROCESSES"),
        "GNU parallel": variables.worker("PARALLEL_SEQ", first=1),
    }
    found = dict(told or {}) | {name: shard for name, shard in sources.items() if shard}
    several = {name: shard for name, shard in found.items() if shard.count > 1}
    halves, count = variables.halves, variables.number(COUNT_VARIABLE)
    if not several and "Slurm" not in found and variables.is_slurm_script:
        halves.append("SLURM_PROCID is set and SLURM_STEP_NUM_TASKS, which srun sets, is not")
    if not found and not halves and count is not None:
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
    return _common_shard(several or found, count)


def _common_shard(found: Mapping[str, Shard], count: int | None) -> Shard:
    """The one shard that all sources tell."""
    shards = set(found.values())
    answers = [f"{name} says {shard}" for name, shard in found.items()]
    if count is not None and {shard.count for shard in shards} != {count}:
        answers.append(f"{COUNT_VARIABLE} says {count}")
    elif len(shards) == 1:
        return shards.pop()
    raise OptionError(f"shard auto must have one answer, but {' and '.join(answers)}", _REMEDY)


class _Variables:
    """An environment, read by what a scheduler means by its variables.

    Attributes:
        halves: What was found of a number without how many, or the reverse, in words.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.halves: list[str] = []

    def slurm(self) -> Shard | None:
        """A task of an array, a task of a step, or a task of a step of an array's task."""
        array = self._slurm_array()
        if self.is_slurm_script:
            return array
        task = self.pair("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
        if array and task:
            return _within("SLURM_ARRAY_TASK_COUNT times SLURM_STEP_NUM_TASKS", array, task)
        return array or task

    @property
    def is_slurm_script(self) -> bool:
        """Whether this is what `sbatch` runs, or a child of it that no `srun` started."""
        return self.number("SLURM_STEP_NUM_TASKS") is None and self.number("SLURM_PROCID") == 0

    def _slurm_array(self) -> Shard | None:
        told = self._both("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
        if told is None:
            return None
        number, count = told
        first = self.number("SLURM_ARRAY_TASK_MIN") or 0
        step = self.number("SLURM_ARRAY_TASK_STEP") or 1
        index, rest = divmod(number - first, step)
        if rest or not 0 <= index < count:
            raise OptionError(
                "shard auto needs a Slurm array of numbers one after the other, got "
                f"number {number} of {count} from {first} on in steps of {step}",
                "Submit it as --array=0-7; a run of any number of shards renders what is missing",
            )
        return _make_shard("SLURM_ARRAY_TASK_COUNT", index, count)

    def cloud_tpu(self) -> Shard | None:
        """A host of a slice, or of one of several slices."""
        index = self.number("TPU_WORKER_ID")
        names = self._environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
        count = sum(bool(name.strip()) for name in names) or None
        part = self.pair("MEGASCALE_SLICE_ID", "MEGASCALE_NUM_SLICES")
        if index is None and count is None:
            if part is not None:
                self.halves.append("MEGASCALE_SLICE_ID is set and TPU_WORKER_ID is not")
            return None
        told = self._match("TPU_WORKER_ID", index, "TPU_WORKER_HOSTNAMES", count)
        if told is None:
            return None
        host = _make_shard("the Cloud TPU slice", *told)
        who = "MEGASCALE_NUM_SLICES times the hosts of TPU_WORKER_HOSTNAMES"
        return host if part is None else _within(who, part, host)

    def worker(self, name: str, *, first: int) -> Shard | None:
        """A worker's number from `first` on, where NST_JAX_SHARD_COUNT tells how many there are."""
        index, count = self.number(name), self.number(COUNT_VARIABLE)
        if index is None:
            return None
        if count is None:
            self.halves.append(f"{name} is set and {COUNT_VARIABLE}, the number of shards, is not")
            return None
        return _make_shard(name, index - first, count)

    def pair(self, index_name: str, count_name: str) -> Shard | None:
        """A worker's number from 0, and how many there are."""
        told = self._both(index_name, count_name)
        return None if told is None else _make_shard(f"{index_name} and {count_name}", *told)

    def _both(self, index_name: str, count_name: str) -> tuple[int, int] | None:
        index, count = self.number(index_name), self.number(count_name)
        return self._match(index_name, index, count_name, count)

    def _match(
        self, index_name: str, index: int | None, count_name: str, count: int | None
    ) -> tuple[int, int] | None:
        """A number and how many there are; one of them alone is noted as a half."""
        if index is not None and count is not None:
            return index, count
        if index is not None:
            self.halves.append(f"{index_name} is set and {count_name} is not")
        if count is not None:
            self.halves.append(f"{count_name} is set and {index_name} is not")
        return None

    def number(self, name: str) -> int | None:
        """A variable's value; None where it is not set.

        Raises:
            OptionError: It is no whole number.
        """
        text = self._environment.get(name, "").strip()
        if not text:
            return None
        if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
            return int(text)
        echo = repr(text) if len(text) <= _ECHOED else f"{text[:_ECHOED]!r}… ({len(text)} letters)"
        raise OptionError(
            f"{name} must be a whole number of {_MOST_DIGITS} digits at most for shard auto, "
            f"got {echo}",
            _REMEDY,
        )


def _within(who: str, outer: Shard, inner: Shard) -> Shard:
    """The inner shard's place among those of all outer ones."""
    return _make_shard(who, outer.index * inner.count + inner.index, outer.count * inner.count)


def _make_shard(who: str, index: int, count: int) -> Shard:
    try:
        return Shard(index, count)
    except OptionError as error:
        raise OptionError(f"shard auto can't follow {who}: {error.message}", _REMEDY) from error
