"""How fast this machine was when it last rendered, kept beside its compiled programs. No jax."""

import contextlib
import json
import math
from pathlib import Path

from nst_jax.files.atomic import write_bytes

SPEED_NAME = "speed.json"

_FEWEST_SECONDS = 5.0
"""In steps; a shorter run tells little."""


def read_speed(build: Path | None, dtype: str) -> float | None:
    """Pixels of pictures times steps, a second; None where nobody has measured.

    Args:
        build: The folder of the programs of this build on this device; None: there is none.
        dtype: What the network computes in.
    """
    if build is None:
        return None
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        speed = float(json.loads((build / SPEED_NAME).read_bytes())[dtype])
        return speed if math.isfinite(speed) and speed > 0 else None
    return None


def keep_speed(build: Path | None, dtype: str, pixel_steps: float, seconds: float) -> None:
    """Keeps what a run has shown; that it can't be kept is no fault."""
    if build is None or seconds < _FEWEST_SECONDS or not build.is_dir():
        return
    with contextlib.suppress(OSError, ValueError):
        try:
            kept = json.loads((build / SPEED_NAME).read_bytes())
        except (OSError, ValueError):
            kept = {}
        kept = (kept if isinstance(kept, dict) else {}) | {dtype: pixel_steps / seconds}
        write_bytes(build / SPEED_NAME, json.dumps(kept).encode(), durable=False)
