"""How a run handles accidents: none of it changes a picture."""

import dataclasses

from nst_jax.request.field_docs import document_fields
from nst_jax.request.validators import SECONDS, to_plain, whole_number


@document_fields
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPolicy:
    """How often to try again, when to give up, what to look at again, what to keep."""

    retries: int = 2
    """Tries again, with growing pauses, after a fault of the machine: a disk, a network, a
    device. Each job has as many."""
    retry_failed: bool = False
    """Also try jobs again that failed by their own fault before, their inputs being the same."""
    fail_fast: bool = False
    """Stop at the first job that fails."""
    max_failures: int = 0
    """Stop once so many jobs have failed; 0: never."""
    keep_older: bool = False
    """Leave finished pictures that an older version of the method, other options or other inputs
    have made; else they are rendered again."""
    verify: bool = False
    """Read every input and every finished output again; else sizes and times stand in for files
    that were read before."""
    checkpoint_every: float = 120.0
    """Seconds between two savings of the jobs in progress, which a power failure then can't
    take; 0: save them only when the run is interrupted."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            object.__setattr__(self, one.name, to_plain(getattr(self, one.name)))
        whole_number(0, 100).check("retries", self.retries)
        whole_number(0, 10**9).check("max_failures", self.max_failures)
        SECONDS.check("checkpoint_every", self.checkpoint_every)

    def ends_at(self, failures: int) -> bool:
        """Whether so many failed jobs end the run."""
        allowed = 1 if self.fail_fast else self.max_failures
        return 0 < allowed <= failures
