"""Whatever goes wrong with a weights file becomes one clear sentence that names the file.

The code that finds a fault mostly does not know which file it looks at, and the code that
knows the file does not know what was found. So the finder raises an `InvalidWeights`, half a
sentence, and `explain_read_errors` or `explain_write_errors` around it adds the file's name and
how to mend it.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from nst_jax.request.errors import WeightsError
from nst_jax.request.paths import hint_at_spelling

MEND_A_COPY = (
    "Delete it and run the command again: a known network is converted anew. "
    "Any other has to be copied or converted again from its source."
)


class InvalidWeights(WeightsError):
    """What is wrong with a file's content, to be read after "weights file 'name' "."""


@contextlib.contextmanager
def explain_read_errors(path: Path, remedy: str = MEND_A_COPY) -> Iterator[None]:
    """Turns every exception of the `with` block into a `WeightsError` about `path`.

    Args:
        path: The file that is read in the block. It is checked to be an ordinary file first.
        remedy: What to do when its content is at fault and the finder has no better advice.

    Raises:
        WeightsError: The file is missing, may not be read, or is not what it should be.
    """
    try:
        _check_plain_file(path)
        yield
    except InvalidWeights as fault:
        message = f"weights file {str(path)!r} {fault.message}"
        raise WeightsError(message, fault.remedy or remedy) from fault
    except WeightsError:
        raise  # complete already: it speaks of another file
    except Exception as error:
        # Broad on purpose: for a damaged file HDF5's reader raises OSError, RuntimeError,
        # KeyError, ValueError, TypeError and others, with texts about its own insides.
        raise _explain(error, path, remedy) from error


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turns every failure to write `path` into a `WeightsError`.

    Raises:
        WeightsError: The folder is missing or may not be written, the disk is full, or
            what should be written is no network.
    """
    try:
        yield
    except InvalidWeights as fault:
        message = f"weights can't be written to {str(path)!r}: the network {fault.message}"
        raise WeightsError(message, fault.remedy) from fault
    except (OSError, RuntimeError, ValueError) as error:  # a full disk is any of them in HDF5
        message = f"weights can't be written to {str(path)!r}: {reason_of(error)}"
        raise WeightsError(
            message, "Name a file in a folder that exists, may be written and has room."
        ) from error


def _check_plain_file(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise InvalidWeights("is a folder", "Name the file itself.")
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for a writer, perhaps for ever.
        raise InvalidWeights("is no ordinary file", "Name a file on a disk.")
    if status.st_size == 0:
        raise InvalidWeights("is empty (0 bytes)")


def _explain(error: Exception, path: Path, remedy: str) -> WeightsError:
    name = f"weights file {str(path)!r}"
    if isinstance(error, FileNotFoundError):
        return WeightsError(f"{name} does not exist", hint_at_spelling(str(path)))
    if isinstance(error, PermissionError):
        return WeightsError(f"{name} may not be read by this user", "Change its permissions.")
    if isinstance(error, MemoryError):
        return WeightsError(f"{name} needs more memory than there is", "Free some memory.")
    if isinstance(error, OSError) and error.errno:
        reason = os.strerror(error.errno)  # HDF5 puts its own insides into error.strerror
        return WeightsError(f"{name} could not be read: {reason}", "Check the path and the disk.")
    return WeightsError(f"{name} is damaged or cut short", remedy)


def reason_of(error: Exception) -> str:
    """What the system says of a failure, in words."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else "the file system refused"
