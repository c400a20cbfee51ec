"""How a run handles accidents: none of it changes a picture."""

import dataclasses
import math

from nst_jax.request.errors import OptionError


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
    verify: bool = False
    """Read every input and every finished output again; else sizes and times stand in for files
    that were read before."""
    checkpoint_every: float = 120.0
    """Seconds between two savings of the jobs in progress, which a power failure then can't
    take; 0: save them only when the run is interrupted."""

    def __post_init__(self) -> None:
        for name, most in (("retries", 100), ("max_failures", 10**9)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                raise OptionError(f"{name} must be a whole number from 0 to {most}, got {value!r}")
        check_seconds("checkpoint_every", self.checkpoint_every)

    @property
    def failures_allowed(self) -> int | None:
        """How many failed jobs end the run; None: any number is borne."""
        return 1 if self.fail_fast else self.max_failures or None


def check_seconds(name: str, value: float) -> None:
    """Refuses a time that is negative, infinite, or no number.

    Raises:
        OptionError: It is.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise OptionError(f"{name} must be 0 or more seconds, got {value!r}")
