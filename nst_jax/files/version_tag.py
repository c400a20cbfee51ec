"""What tells without reading a file that it is still the same."""

from pathlib import Path

from nst_jax.files.storage import RemoteFile


def version_tag(file: Path | RemoteFile) -> str:
    """Size and times of a file, or its entity tag in a store; empty where it is missing.

    The time of the last change of its status can't be set by any program, so that another
    content of the same size and date is noticed as well.
    """
    try:
        if isinstance(file, RemoteFile):
            return file.version_tag()
        status = file.stat()
    except (OSError, ValueError):  # whoever reads the file learns why
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
