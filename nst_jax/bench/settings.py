"""What a benchmark is asked for, checked before anything heavy is imported."""

import dataclasses
import importlib.util
from typing import Literal, get_args

from nst_jax.request.errors import OptionError
from nst_jax.request.options import Options
from nst_jax.request.taps import DEFAULT_CONTENT_TAPS, DEFAULT_STYLE_TAPS, smallest_side

PeerForm = Literal["eager", "compile"]
PEER_FORMS: tuple[PeerForm, ...] = get_args(PeerForm)
PeerDtype = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """One benchmark: a size and a data type, over batch sizes and numbers of jobs.

    Attributes:
        size: Long edge in pixels.
        batch_sizes: Pictures in one step, each measured; none: what the planner would choose
            for many jobs.
        jobs: Numbers of jobs to render from start to end; none: not measured.
        dtype: What the network computes in; see `Options.dtype`.
        steps: Steps in one timed chunk; "auto": as many as last about a second.
        rounds: Timed rounds, all subjects in each.
        content: A picture file; empty: a synthetic picture.
        style: Likewise.
        weights: A network's name or file; see `Options.weights`.
        peer: Another program that does the same work in the same rounds; empty: none.
        peer_forms: Which of the peer's forms take part.
        peer_dtypes: What the peer's network computes in, each in each form; none: what ours does.
        peer_batch_size: Its pictures in one step; 0: as many as ours. Others render one at a time.

    Raises:
        OptionError: A value is out of its range, or an extra is not installed.
    """

    size: int = 256
    batch_sizes: tuple[int, ...] = ()
    jobs: tuple[int, ...] = ()
    dtype: Literal["auto", "float32", "tensorfloat32", "bfloat16"] = "auto"
    steps: int | Literal["auto"] = "auto"
    rounds: int = 5
    content: str = ""
    style: str = ""
    weights: str = dataclasses.field(default_factory=lambda: Options().weights)
    peer: Literal["", "torch"] = ""
    peer_forms: tuple[PeerForm, ...] = PEER_FORMS
    peer_dtypes: tuple[PeerDtype, ...] = ()
    peer_batch_size: int = 0

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_numbers("batch_size", self.batch_sizes, 4096)
        _check_numbers("jobs", self.jobs, 100_000)
        _check_numbers("rounds", (self.rounds,), 10_000)
        if self.peer_batch_size:
            _check_numbers("peer_batch_size", (self.peer_batch_size,), 4096)
        if self.steps != "auto":
            _check_numbers("steps", (self.steps,), 1_000_000)
        if bool(self.content) != bool(self.style):
            missing = "style" if self.content else "content"
            raise OptionError(f"content and style go together, {missing} is missing")
        if self.peer and not self.peer_forms:
            raise OptionError("peer_forms must name at least one form, got none")
        _check_once("peer_dtype", "a type", self.peer_dtypes)
        if self.peer_dtypes and not self.peer:
            raise OptionError("peer_dtype needs a peer, got none", "Add --peer torch")
        if self.peer:
            check_installed("peer torch", "torch", extra="torch")


def check_installed(wanted: str, module: str, *, extra: str) -> None:
    """Refuses what needs a module that is not there, without importing it.

    Raises:
        OptionError: It is not installed; the remedy names the extra that brings it.
    """
    if importlib.util.find_spec(module) is None:
        raise OptionError(
            f"{wanted} needs {module}, which is not installed", f"pip install 'nst-jax[{extra}]'"
        )


def _check_size(size: int) -> None:
    smallest = smallest_side((*DEFAULT_CONTENT_TAPS, *DEFAULT_STYLE_TAPS))
    if not smallest <= size <= 16384:
        raise OptionError(
            f"size must be from {smallest} px, which reach the deepest tap, to 16384 px, got {size}"
        )


def _check_numbers(name: str, values: tuple[int, ...], largest: int) -> None:
    wrong = [value for value in values if not 1 <= value <= largest]
    if wrong:
        raise OptionError(f"{name} must be a whole number from 1 to {largest}, got {wrong[0]}")
    _check_once(name, "a number", values)


def _check_once(name: str, what: str, values: tuple[object, ...]) -> None:
    if len(set(values)) != len(values):
        raise OptionError(f"{name} must not name {what} twice, got {values}")
