"""The user's cache folder, where there is one: for what can be made again."""

from pathlib import Path

import platformdirs


def user_cache_folder() -> Path | None:
    """The folder of this program in the user's cache; None where the user has no home.

    So it is in containers that run under any number: no HOME, or an empty or relative one, no
    XDG_CACHE_HOME, and nobody of that number in the list of users.
    """
    try:
        folder = Path(platformdirs.user_cache_dir("nst_jax"))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # older platformdirs keep what is relative
