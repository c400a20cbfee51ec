"""Named arrays and a few words in one file: a plain ZIP of `.npy` members, no pickle in it.

Members are stored as they are, so a file is never larger in memory than on disk, and each has
a checksum, so damage is noticed. Whatever is wrong with a file, reading it is a ValueError.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from nst_jax.files.atomic import BinaryFile

_HEADER_NAME = "header.json"
_FORMAT = "nst_jax bundle 1"


def write_archive(file: BinaryFile, header: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of numbers by name, and a header that JSON can hold.

    Raises:
        OSError: The file can't be written.
        ValueError: An array holds Python objects.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        text = json.dumps({"format": _FORMAT, "header": header})
        # A name alone would be given the time of the clock, and before 1980 that is an error.
        archive.writestr(zipfile.ZipInfo(_HEADER_NAME), text)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_archive(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The header and the arrays that `write_archive` wrote.

    Raises:
        ValueError: It is another file, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("a foreign file: a member is compressed")
            start = json.loads(archive.read(_HEADER_NAME))
            if not isinstance(start, dict) or start.get("format") != _FORMAT:
                raise ValueError("a foreign file: its header is another one")
            names = [name for name in archive.namelist() if name != _HEADER_NAME]
            arrays = {name.removesuffix(".npy"): _read_array(archive, name) for name in names}
            return start.get("header"), arrays
    except ValueError:
        raise
    except Exception as error:
        # Broad on purpose: for damaged archives zipfile and NumPy raise BadZipFile, OSError,
        # EOFError, KeyError, RuntimeError, MemoryError, struct.error and others.
        raise ValueError(f"a damaged or foreign file: {error or type(error).__name__}") from error


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # reading to the end is what compares the checksum
            raise ValueError("a damaged file: a member is too long")
    return array
