"""Everything that can go wrong and is not a defect of ours, as one tree.

    NstJaxError                  catch this one to catch them all
    ├── RequestError             the request is wrong; nothing was rendered
    │   ├── OptionError          an option's value, or two that contradict each other
    │   ├── TapError             a tap that the network does not have
    │   ├── ManifestError        a manifest that is wrong in itself, all its faults at once
    │   ├── OutputError          an output name or folder that can't be written
    │   └── WeightsError         network weights that are missing, damaged or foreign
    ├── JobError                 one job's own fault; the other jobs are not touched
    │   ├── PictureError         a picture that is missing, no picture, or too small
    │   │   └── ReadError        a picture that could not be read this time
    │   ├── NonFiniteError       the optimisation left the finite numbers
    │   ├── NoRoomError          a job that exceeds the device's memory even alone
    │   ├── DeviceError          the device failed, each time that it was tried
    │   └── WriteError           the finished picture could not be written
    └── StoppedError             the run ended before its end, as it was asked to

A message is one sentence: the thing, the rule, what was got, where. The remedy, how to
mend it, is a second one. `kind` is the word that a ledger line carries. What is the machine's
fault (`is_transient`) may go well another time; what is the job's own will not.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


def say_count(count: int, thing: str) -> str:
    """How many of a thing there are: 1 job, 2 jobs."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


class NstJaxError(Exception):
    """A fault with a message and a remedy, both meant for the user's eyes.

    Attributes:
        message: One sentence: thing, rule, what was got, where.
        remedy: How to mend it; empty where there is nothing to add.
        kind: A short stable word for scripts and ledgers.
        is_transient: Whether the same request may succeed another time.
        summary: What a batch had done that this ended early, as `batch --json` prints it; None
            where none had begun.
    """

    kind: ClassVar[str] = "error"
    is_transient: ClassVar[bool] = False

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy.rstrip(".")
        self.summary: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.remedy)


class RequestError(NstJaxError):
    """The request is wrong; nothing was rendered."""

    kind = "request"


class OptionError(RequestError):
    kind = "option"


class TapError(RequestError):
    kind = "tap"


class ManifestError(RequestError):
    """A manifest refused whole. `faults` lists each fault with its line."""

    kind = "manifest"

    def __init__(self, message: str, remedy: str = "", faults: Sequence[str] = ()) -> None:
        super().__init__(message, remedy)
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.remedy, self.faults)


class OutputError(RequestError):
    kind = "output"


class WeightsError(RequestError):
    kind = "weights"


class JobError(NstJaxError):
    """One job's own fault; the other jobs are not touched."""

    kind = "job"


class PictureError(JobError):
    kind = "picture"


class ReadError(PictureError):
    kind = "read"
    is_transient = True


class NonFiniteError(JobError):
    kind = "nonfinite"


class NoRoomError(JobError):
    kind = "memory"
    is_transient = True


class DeviceError(JobError):
    kind = "device"
    is_transient = True


class WriteError(JobError):
    kind = "write"
    is_transient = True


class StoppedError(NstJaxError):
    """The run ended before its end; what is done is kept, and the next run goes on."""

    kind = "stopped"


def reason_of(error: OSError) -> str:
    """What the system says, in lower case, for the end of a sentence."""
    return (error.strerror or str(error) or type(error).__name__).lower()
