"""Shards: the part of a batch that one of several workers takes, the same on every worker.

Jobs are dealt out by a hash of their output's name, in equal numbers; where what each costs is
known, in equal costs. Nobody talks to anybody: each worker deals all jobs out and takes its own.
"""

import dataclasses
import hashlib
import heapq
import re
from collections.abc import Sequence

from nst_jax.request.errors import OptionError
from nst_jax.request.job import Job
from nst_jax.request.outputs import output_key

MOST_SHARDS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Shard:
    """One worker's place among all.

    Attributes:
        index: From 0 to `count` - 1.
        count: How many workers there are.

    Raises:
        OptionError: The index or the count is out of range.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_SHARDS:
            raise OptionError(
                f"a shard must be one of 1 to {MOST_SHARDS}, got {self}",
                "--shard 0/4 is the first of four",
            )
        if not 0 <= self.index < self.count:
            raise OptionError(
                f"the shards of {self.count} are numbered from 0 to {self.count - 1}, got {self}",
                f"The last one is --shard {self.count - 1}/{self.count}",
            )

    def __str__(self) -> str:
        """As the command line has it: `0/4`."""
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """As names of files have it: `0-of-4`."""
        return f"{self.index}-of-{self.count}"


def parse_shard(text: str) -> Shard:
    """The shard that a text such as `0/4` names.

    Raises:
        OptionError: It names none.
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
    if found is None:
        raise OptionError(
            f"shard must be auto, distributed, or I/N with I from 0 to N-1, got {text!r}",
            "--shard 0/4 is the first of four",
        )
    return Shard(int(found[1]), int(found[2]))


def jobs_of_shard(
    jobs: Sequence[Job], shard: Shard, costs: Sequence[float] | None = None
) -> list[Job]:
    """The jobs of one shard, in their order; every job is in exactly one shard.

    Args:
        jobs: All jobs of the batch, with their outputs' names filled in. Their order does not
            matter.
        shard: Which part is wanted.
        costs: What each job costs, in any unit; None: all the same.
    """
    hashes = [hashlib.sha256(output_key(job.output).encode()).digest() for job in jobs]
    if costs is None:
        dealt = sorted(range(len(jobs)), key=hashes.__getitem__)
        own = dealt[shard.index :: shard.count]
    else:
        own = _deal_by_cost(hashes, costs, shard)
    return [jobs[place] for place in sorted(own)]


def _deal_by_cost(hashes: list[bytes], costs: Sequence[float], shard: Shard) -> list[int]:
    """The dearest job first, each to the shard that has least so far."""
    loads = [(0.0, index) for index in range(shard.count)]
    own: list[int] = []
    for place in sorted(range(len(hashes)), key=lambda one: (-costs[one], hashes[one])):
        load, index = loads[0]
        if index == shard.index:
            own.append(place)
        heapq.heapreplace(loads, (load + costs[place], index))
    return own
