"""The seal of a weights file: a checksum of all its bytes, in front of them.

HDF5's own reader trusts a file's inner addresses and lengths: one flipped byte in the wrong
place and it crashes the process or searches for ever. So our files are checked byte for
byte before HDF5 sees them. The seal lies in what HDF5 calls the user block, a prefix that
every HDF5 reader skips. It is one line of text and zeros:

    nst_jax weights, sha256 of all bytes after the first 512: 3a91...

A plain HDF5 file, written by another program, has no seal and is read without it.
"""

import hashlib
from io import BufferedRandom, BufferedReader
from pathlib import Path

from nst_jax.files.weights.faults import Fault

SEAL_BYTES = 512
"""The smallest user block that HDF5 knows."""

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SEAL_START = b"nst_jax "

_MEND_A_FOREIGN_FILE = (
    "Another program's weights have to be converted first (nst-jax weights convert). "
    "If it was a known network's file, delete it: it is converted anew."
)


def write_seal(path: Path) -> None:
    """Seals a finished HDF5 file that has a user block of `SEAL_BYTES`."""
    with path.open("rb+") as file:
        file.seek(SEAL_BYTES)
        seal = _seal_of_rest(file)
        file.seek(0)
        file.write(seal)


def check_seal(file: BufferedReader) -> None:
    """Refuses a file that is not, byte for byte, what it was when it was sealed.

    Raises:
        Fault: It is damaged, or neither sealed nor HDF5.
    """
    start = file.read(SEAL_BYTES)
    if start.startswith(_SEAL_START):
        if start != _seal_of_rest(file):
            raise Fault("is damaged or cut short: its bytes do not have their checksum")
    elif not start.startswith(_HDF5_SIGNATURE):
        raise Fault("is no weights file: it does not begin as one", _MEND_A_FOREIGN_FILE)


def is_sealed(path: Path) -> bool:
    """Whether a file begins with a seal. Whether it holds is not looked at."""
    with path.open("rb") as file:
        return file.read(len(_SEAL_START)) == _SEAL_START


def _seal_of_rest(file: BufferedReader | BufferedRandom) -> bytes:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    line = f"nst_jax weights, sha256 of all bytes after the first {SEAL_BYTES}: {digest}\n"
    return line.encode().ljust(SEAL_BYTES, b"\0")
