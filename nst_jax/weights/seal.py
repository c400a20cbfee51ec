"""The seal of a weights file: a checksum of its bytes and an index of its arrays, in front.

HDF5's own reader trusts a file's inner addresses and lengths: one wrong byte, by accident or
by intent, and it crashes the process or searches for ever. So our files are read without it.
The seal says where each array lies, and it lies in what HDF5 calls the user block, a prefix
that every HDF5 reader skips: the file remains one for all other programs.

    nst_jax weights, sha256 of all bytes after this line: 3a91...
    {"architecture": "vgg16", ..., "arrays": {"conv1_1/kernel": [18432, 3, 3, 3, 64], ...}}
    zeros up to 16384 bytes, then HDF5

A plain HDF5 file, written by another program, has no seal; see `publishers.ours`.
"""

import hashlib
import json
from collections.abc import Mapping
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any

from nst_jax.weights.errors import InvalidWeights

SEAL_BYTES = 16384
"""The user block; HDF5 wants a power of two."""

_START = "nst_jax weights, sha256 of all bytes after this line: "
_FIRST_LINE_BYTES = len(_START) + 64 + 1


def write_seal(path: Path, header: Mapping[str, Any]) -> None:
    """Seals a finished HDF5 file that has a user block of `SEAL_BYTES`.

    Raises:
        InvalidWeights: The index does not fit, because its texts are too long.
    """
    second = json.dumps(header).encode() + b"\n"
    room = SEAL_BYTES - _FIRST_LINE_BYTES
    if len(second) > room:
        raise InvalidWeights(f"must describe itself in {room} bytes, got {len(second)}")
    with path.open("rb+") as file:
        file.seek(_FIRST_LINE_BYTES)
        file.write(second.ljust(room, b"\0"))
        first = _first_line(file)
        file.seek(0)
        file.write(first)


def read_header(file: BufferedReader) -> Any:
    """The index of a file that is, byte for byte, what it was when it was sealed.

    Raises:
        InvalidWeights: It is damaged.
    """
    first = file.read(_FIRST_LINE_BYTES)
    if first != _first_line(file):
        raise InvalidWeights("is damaged or cut short: its bytes do not have their checksum")
    file.seek(_FIRST_LINE_BYTES)
    return json.loads(file.read(SEAL_BYTES - _FIRST_LINE_BYTES).rstrip(b"\0"))


def peek_header(path: Path) -> Any:
    """The index alone, in no time; whether the seal holds is not looked at."""
    with path.open("rb") as file:
        return json.loads(file.read(SEAL_BYTES)[_FIRST_LINE_BYTES:].rstrip(b"\0"))


def is_sealed(path: Path) -> bool:
    """Whether a file begins with a seal. Whether it holds is not looked at."""
    with path.open("rb") as file:
        return file.read(len(_START)) == _START.encode()


def _first_line(file: BufferedReader | BufferedRandom) -> bytes:
    """The first line that is right for all the other bytes."""
    file.seek(_FIRST_LINE_BYTES)
    return f"{_START}{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
