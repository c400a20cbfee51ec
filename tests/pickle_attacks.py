"""Pickles that would run something. Each would make the folder `marker`."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np


def array_tree() -> dict[str, dict[str, dict[str, np.ndarray]]]:
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((3, 3, 2, 4), np.float32)
    bias = generator.standard_normal(4, np.float32)
    return {"Net": {"Conv_0": {"kernel": kernel, "bias": bias}}}


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __call__(self) -> None:
        """Only what looks callable may be pickled as the function of another call."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def mkdir(marker: Path) -> Calls:
    return Calls(os.mkdir, str(marker))


def expression(marker: Path) -> str:
    return f"__import__('os').mkdir({str(marker)!r})"


def by_hand(*parts: object) -> Callable[[Path], bytes]:
    """A pickle written in the stack machine's own language; a Path part is the marker."""

    def content(marker: Path) -> bytes:
        texts = [str(marker).encode() if part is Path else part for part in parts]
        return b"".join(text for text in texts if isinstance(text, bytes))

    return content


def dumped(attack: Callable[[Path], object], protocol: int = 4) -> Callable[[Path], bytes]:
    return lambda marker: pickle.dumps(attack(marker), protocol=protocol)


OF_EACH_PROTOCOL: dict[str, Callable[[Path], object]] = {
    "os.system": lambda marker: Calls(os.system, f"mkdir {marker}"),
    "eval": lambda marker: Calls(eval, expression(marker)),
    "among arrays": lambda marker: {**array_tree(), "z": mkdir(marker)},
}

EXECUTING = {
    **{
        f"{name}, protocol {protocol}": dumped(attack, protocol)
        for name, attack in OF_EACH_PROTOCOL.items()
        for protocol in (0, 2, 4)
    },
    "os.mkdir": dumped(mkdir),
    "exec": dumped(lambda marker: Calls(exec, expression(marker))),
    "getattr chain": dumped(
        lambda marker: Calls(Calls(getattr, Calls(__import__, "os"), "mkdir"), str(marker))
    ),
    "deep inside": dumped(lambda marker: {**array_tree(), "z": {"z": {"z": mkdir(marker)}}}),
    "in an array of objects": dumped(lambda marker: np.array([mkdir(marker)], object)),
    "as a key": dumped(lambda marker: {mkdir(marker): 1}),
    "INST": by_hand(b"(S'", Path, b"'\nios\nmkdir\n."),
    "OBJ": by_hand(b"(cos\nmkdir\nS'", Path, b"'\no."),
    "NEWOBJ": by_hand(
        b"\x80\x02cbuiltins\nmap\n(cos\nmkdir\n(S'", Path, b"'\nlt\x81cbuiltins\nlist\n\x8c\x00."
    ),
    "numpy's own exec": by_hand(
        b"\x80\x03cnumpy.testing._private.utils\nrundocs\nX\x05\x00\x00\x00a.txt\x85R."
    ),
    "a dotted way out": by_hand(b"\x80\x04\x8c\x05numpy\x8c\x15ndarray.__class__.mro\x93)R."),
}
