"""The command `nst-jax`: reads the arguments, runs a command, turns faults into exit codes.

0    all done
1    a defect of ours
2    the request is wrong; nothing was rendered
3    some jobs failed, the rest are done
128 and the number of a signal that ended it (130 Ctrl-C, 143 SIGTERM): run the same command again
     to go on

`batch`, `render` and `study` finish the chunk of steps on the device and keep the jobs in
mid-schedule before they end so; see `nst_jax.cli.signals`.
"""

import contextlib
import errno
import io
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import tyro

from nst_jax import __version__
from nst_jax.cli.batch import Batch
from nst_jax.cli.bench import Bench
from nst_jax.cli.console import WrappedOutput, drop_output, print_note
from nst_jax.cli.option_groups import HELP_ALL, is_help, options_registry
from nst_jax.cli.plan import Plan
from nst_jax.cli.presets import Presets
from nst_jax.cli.programs import Programs
from nst_jax.cli.render import Render
from nst_jax.cli.report import Report
from nst_jax.cli.score import Score
from nst_jax.cli.signals import (
    GO_ON,
    SHELL_BASE,
    SignalExit,
    Termination,
    end_on_signals,
    exit_message,
)
from nst_jax.cli.study import Study
from nst_jax.cli.warmup import Warmup
from nst_jax.cli.weights import Weights
from nst_jax.engine.progress import AHEAD_THREAD
from nst_jax.request.errors import NstJaxError, PictureError, RequestError
from nst_jax.request.paths import expand_home

TRACEBACK_VARIABLE = "NST_JAX_TRACEBACK"

# JAX's switches for finding faults in programs of one's own. Pictures are the same without, and
# what is in ours on purpose (infinities, copies between host and device) is no fault.
_DEBUGGING = (
    *("DEBUG_INFS", "DEBUG_NANS", "DISABLE_JIT", "ENABLE_X64", "CHECK_TRACER_LEAKS", "NO_TRACING"),
    *("TRANSFER_GUARD", "TRANSFER_GUARD_HOST_TO_DEVICE", "TRANSFER_GUARD_DEVICE_TO_HOST"),
    *("TRANSFER_GUARD_DEVICE_TO_DEVICE", "NUMPY_DTYPE_PROMOTION", "NUMPY_RANK_PROMOTION"),
)

_DESCRIPTION = (
    "Neural style transfer for many content/style pairs at once, as few compiled JAX programs."
)

_Command = (
    Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Batch, tyro.conf.subcommand("batch")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Presets, tyro.conf.subcommand("presets")]
    | Annotated[Programs, tyro.conf.subcommand("programs")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Score, tyro.conf.subcommand("score")]
    | Annotated[Study, tyro.conf.subcommand("study")]
    | Annotated[Warmup, tyro.conf.subcommand("warmup")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line of this process; never returns."""
    end_on_signals()
    status = run(sys.argv[1:] if arguments is None else arguments)
    if status > SHELL_BASE and any(one.name == AHEAD_THREAD for one in threading.enumerate()):
        _end_without_waiting(status)
    sys.exit(status)


def _end_without_waiting(status: int) -> NoReturn:
    """Ends a run that was stopped while threads still compile; Python would wait for them."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; returns the exit status."""
    _print_any_name()
    for name in _DEBUGGING:
        os.environ.pop(f"JAX_{name}", None)
    try:
        status = _run(arguments)
        if sys.stdout:  # None where it was closed before we began
            sys.stdout.flush()  # here, where a reader that has gone is still no fault
        return status
    except NstJaxError as error:
        print_note(str(error))
        # A picture's own fault reaches here from `render` alone, where it is the request.
        return 2 if isinstance(error, (RequestError, PictureError)) else 3
    except SignalExit as end:
        print_note(f"{end}; {GO_ON}")
        return end.status
    except (KeyboardInterrupt, Termination) as end:
        number = end.number if isinstance(end, Termination) else signal.SIGINT
        print_note(exit_message(number))
        return SHELL_BASE + number
    except BrokenPipeError:  # whoever read our output has gone
        drop_output(sys.stdout)
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
            print_note("the output can't be written: no space is left where it goes")
            drop_output(sys.stdout)
            return 2
        if name := _wrong_variable(error):
            first_line = str(error).split("\n")[0]
            print_note(f"{name} must be what JAX takes, got {os.environ[name]!r}: {first_line}")
            return 2
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        print_note(
            f"a defect of ours: {type(error).__name__}: {error}. Please report it, with what "
            f"{TRACEBACK_VARIABLE}=1 makes the same command print"
        )
        return 1


def _wrong_variable(error: Exception) -> str:
    """The variable of the environment that JAX complains of when it is imported; else nothing."""
    said = str(error).lower().replace(".", "_")
    names = (name for name in os.environ if name.startswith("JAX_") and name.lower() in said)
    return next(names, "") if isinstance(error, ValueError) else ""


def _print_any_name() -> None:
    """Lets names through that the terminal's encoding lacks, as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(arguments: Sequence[str]) -> int:
    if list(arguments) == ["--version"]:
        print(f"nst-jax {__version__}")
        return 0
    with contextlib.ExitStack() as stack:
        if is_help(arguments) and sys.stdout:
            width = min(shutil.get_terminal_size().columns, 100)
            stack.enter_context(contextlib.redirect_stdout(WrappedOutput(sys.stdout, width)))
        command = _parse(arguments)
    return command.run()


def _parse(arguments: Sequence[str]) -> Any:
    """The command of a line; where that asks for help, prints it and ends."""
    return tyro.cli(
        _Command,
        prog="nst-jax",
        description=_DESCRIPTION,
        args=["--help" if one == HELP_ALL else _expand_home(one) for one in arguments],
        config=(
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagCreatePairsOff,
        ),
        registry=options_registry(arguments),
    )


def _expand_home(argument: str) -> str:
    """An argument as a shell gives it: some leave `~` alone behind an option's `=`."""
    return re.sub(r"(?<==)~.*|^~.*", lambda found: expand_home(found[0]), argument, flags=re.DOTALL)


if __name__ == "__main__":
    main()
