"""The child of `nst_jax.weights.subprocess_reader`: converts one file and says how it went.

python -m nst_jax.weights.subprocess_main SOURCE DESTINATION PUBLISHER MEMORY
"""

import contextlib
import json
import sys
from pathlib import Path

from nst_jax.request.errors import WeightsError
from nst_jax.weights.convert import convert_here


def main(source: str, destination: str, publisher: str, memory: str) -> None:
    """Converts `source`; every line on stdout is a word to the parent."""
    _say(ready=True)
    _limit(int(memory))
    try:
        convert_here(Path(source), Path(destination), publisher=publisher, progress=_progress)
    except WeightsError as error:
        _say(fault=error.message, remedy=error.remedy)
    else:
        _say(written=True)


def _limit(memory: int) -> None:
    """Bounds this process' memory, and leaves no core dump if it crashes."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _progress(done: int, total: int) -> None:
    _say(done=done, total=total)


def _say(**word: object) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
