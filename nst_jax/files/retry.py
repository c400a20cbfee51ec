"""The retry policy of everything that may fail and pass: call again, after growing pauses."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def retry(
    call: Callable[[], Answer],
    *,
    back_off_s: float,
    is_transient: Callable[[Exception], bool],
    tries: int = sys.maxsize,
) -> Answer:
    """What a call returns, made again as long as it fails with what may pass.

    Args:
        call: Whatever it raises in its last try is raised.
        back_off_s: Seconds before the second try; twice as long before each further one.
        is_transient: Whether an exception may not come again; asked once for each try that
            failed and is not the last, so it may count, and tell that there is another try.
        tries: The most, the first one included; left out, `is_transient` alone decides.
    """
    failures = 0
    while True:
        try:
            return call()
        except Exception as error:
            failures += 1
            if failures >= tries or not is_transient(error):
                raise
        time.sleep(pause_s(back_off_s, failures))


def pause_s(back_off_s: float, failures: int) -> float:
    """Seconds to wait after so many failures, at least 1: exponential back-off."""
    return back_off_s * 2 ** (failures - 1)
