"""One of several workers in one output folder: which it is, and its files.

Workers share the folder, its plan and nothing else. Each has a part of the ledger, a state and a
run record of its own. All deal the same jobs out, or the plan tells that one of them does not.
"""

import dataclasses
import os
from pathlib import PurePath

import jax

from nst_jax.engine.plan.local_devices import find_devices
from nst_jax.request.errors import OptionError
from nst_jax.request.shard_detection import detect_shard
from nst_jax.request.shards import Shard, parse_shard

_JOIN_SECONDS = 300
"""How long `distributed` waits for the other processes to begin."""

_LEAVE_SECONDS = 30 * 24 * 3600
"""How long one that is done waits for the others to be; JAX would abort it after 5 minutes."""


def resolve_shard(asked: Shard | str | None) -> Shard | None:
    """The shard that was asked for; None: the whole.

    Args:
        asked: `I/N`; `auto`, which the scheduler's variables answer; `distributed`, which joins
            the processes by `jax.distributed` and takes this one's number; empty: the whole.

    Raises:
        OptionError: It is out of range, nobody tells, or JAX does not find what it is told to use.
    """
    if isinstance(asked, Shard) or not asked:
        return asked or None
    if asked not in ("auto", "distributed"):
        return parse_shard(asked)
    if asked == "distributed" and not jax.distributed.is_initialized():
        _join_processes()
    joined = jax.distributed.is_initialized()
    if joined:
        find_devices()  # or why there are none
    process = Shard(jax.process_index(), jax.process_count()) if joined else None
    if asked == "auto":
        return detect_shard(os.environ, {"jax.distributed": process} if process else {})
    return process


def _join_processes() -> None:
    """Joins the other processes.

    Raises:
        OptionError: They can't be found.
    """
    numbers = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
    try:
        count, index = (int(number) if number else None for number in numbers)
        jax.distributed.initialize(
            num_processes=count,
            process_id=index,
            initialization_timeout=_JOIN_SECONDS,
            shutdown_timeout_seconds=_LEAVE_SECONDS,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        first_line = str(error).split("\n")[0]
        raise OptionError(
            f"shard distributed could not join the other processes: {first_line}",
            "Where nothing detects them, set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID; or do without: --shard I/N needs none of it",
        ) from error


@dataclasses.dataclass(frozen=True)
class WorkerFiles:
    """Names of the files that a run, or one of several workers, writes for itself.

    Attributes:
        part: The worker's, as in `ledger-PART.jsonl`; empty: the whole run.
    """

    part: str = ""

    @property
    def is_alone(self) -> bool:
        """Whether nobody else is in the folder."""
        return not self.part

    def name(self, plain: str) -> str:
        """A file's name: `state.npz`, or `state-PART.npz`."""
        path = PurePath(plain)
        return f"{path.stem}-{self.part}{path.suffix}" if self.part else plain
