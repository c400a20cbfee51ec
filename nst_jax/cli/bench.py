"""`nst-jax bench`: how fast the engine is here, and how that compares."""

import dataclasses
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from nst_jax.bench.settings import (
    PEER_FORMS,
    PeerDtype,
    PeerForm,
    Settings,
    check_installed,
)
from nst_jax.cli.console import print_json, print_table
from nst_jax.cli.progress_bars import ProgressLines, Quiet
from nst_jax.request.errors import OptionError
from nst_jax.request.options import Options

if TYPE_CHECKING:
    from nst_jax.bench.report import Report

_TEXT_LETTERS = 80

Numbers = Annotated[tuple[int, ...], tyro.conf.arg(metavar="N...")]
PeerName = Literal["none", "torch"]


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure the engine's own step program, of the default look, on this machine's first device.

    Every number is the median of the rounds, with the lowest and the highest; one round of
    warm-up is left out. The peer computes loss and gradient alone, of Gram matrices and without
    an optimiser, in the same rounds; then ours does Gram matrices too. A ratio above 1 says that
    ours is faster, optimiser and all.

    Example: nst-jax bench --size 256 --batch-size 1 4 --peer torch
    """

    size: int = 256
    """Long edge of the pictures in pixels."""
    batch_size: Numbers = ()
    """Pictures in one step, one measurement each; none: what many jobs would get."""
    jobs: Numbers = ()
    """Numbers of jobs to render from start to end, few steps a level, one measurement each."""
    dtype: Literal["auto", "float32", "tensorfloat32", "bfloat16"] = "auto"
    """What the network computes in. auto: bfloat16 on GPU and TPU, float32 on CPU."""
    steps: int | Literal["auto"] = "auto"
    """Steps in one timed chunk. auto: as many as last about a second."""
    rounds: int = 5
    """Timed rounds."""
    content: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A content picture; none: a synthetic one."""
    style: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A style picture; none: a synthetic one."""
    weights: str = dataclasses.field(default_factory=lambda: Options().weights)
    """The network: a name that `nst-jax weights list` shows, or a file of any known publisher."""
    peer: PeerName = "none"
    """Another program to race. torch: PyTorch (extra `torch`)."""
    peer_forms: tuple[PeerForm, ...] = PEER_FORMS
    """The peer's forms that take part; the fastest is the one that counts."""
    peer_dtype: tuple[PeerDtype, ...] = ()
    """What the peer's network computes in, each in each form; none: what ours does."""
    peer_batch_size: int = 0
    """The peer's pictures in one step; 0: as many as ours. 1 is how other programs render."""
    plot: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Draw the measurements into this file (extra `plots`)."""
    quiet: bool = False
    """Say nothing but the results and faults."""
    json: bool = False
    """Print the results as one JSON object."""

    def run(self) -> int:
        """Measures; returns the exit status."""
        settings = self._settings()
        if self.plot:
            check_installed("--plot", "matplotlib", extra="plots")
            if not Path(self.plot).parent.is_dir():  # said before minutes of measuring
                raise OptionError(f"plot must go into a folder that exists, got {self.plot!r}")
        if settings.peer:  # leave it memory of a GPU; JAX alone would take three quarters
            os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        from nst_jax.bench.benchmark import benchmark  # jax takes a second to import
        from nst_jax.engine.device.runtime import one_device_per_core

        one_device_per_core()
        # Plain lines, because a bar that draws itself takes time from what is being timed.
        with Quiet() if self.quiet or self.json else ProgressLines() as progress:
            report = benchmark(settings, progress)
        if self.plot:
            from nst_jax.bench.plotting import write_plot

            write_plot(report, Path(self.plot))
        if self.json:
            print_json(report.record())
        else:
            _print_tables(report)
        return 0

    def _settings(self) -> Settings:
        renamed: dict[str, Any] = {
            "batch_sizes": self.batch_size,
            "peer": "" if self.peer == "none" else self.peer,
            "peer_dtypes": self.peer_dtype,
        }
        same = {field.name for field in dataclasses.fields(Settings)} - set(renamed)
        return Settings(**renamed, **{name: getattr(self, name) for name in same})


def _print_tables(report: "Report") -> None:
    from nst_jax.bench.tables import batch_rows, explanations, headline_rows, jobs_rows

    print_table(headline_rows(report))
    for heading, *rows in filter(None, (batch_rows(report), jobs_rows(report.record()))):
        print_table(rows, heading)
    print()
    for line in explanations(report):
        print(textwrap.fill(line, _TEXT_LETTERS))
