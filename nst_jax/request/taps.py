"""Taps: the places in a VGG network where features are read, and what people call them.

The canonical names are `relu4_2` (after the activation), `conv4_2` (the same convolution
before its activation), `pool4` (a pooling's output) and `pixels` (the image itself).

Other programs' names are understood at this edge alone and turned into canonical ones:

    Keras            block4_conv2   after its activation    relu4_2
                     block4_pool                            pool4
    torchvision      features.22    by position             relu4_2 (in vgg19)
    Gatys' notebook  r42, p4                                relu4_2, pool4

Papers that say "conv4_2" mostly mean `relu4_2`: Caffe's activation overwrites its input.
Here `conv4_2` is the value before the activation.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable

from nst_jax.request.errors import TapError

PIXELS = "pixels"
"""The tap that is the image itself."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A VGG's table: how many 3x3 convolutions stand before each pooling.

    Attributes:
        name: What weight files and users call it.
        depths: Convolutions of each block.
        channels: Output channels of each block in the published network. A weight file may
            be narrower (pruned); its own kernels decide.
    """

    name: str
    depths: tuple[int, ...]
    channels: tuple[int, ...] = (64, 128, 256, 512, 512)

    @property
    def convolutions(self) -> tuple[str, ...]:
        """Names of all convolutions, in order: `conv1_1`, `conv1_2`, `conv2_1`, ..."""
        return tuple(
            f"conv{block}_{depth}"
            for block, count in enumerate(self.depths, start=1)
            for depth in range(1, count + 1)
        )

    @property
    def taps(self) -> tuple[str, ...]:
        """Every tap from the image to the deepest, in the order of computation."""
        names = [PIXELS]
        for block, count in enumerate(self.depths, start=1):
            for depth in range(1, count + 1):
                names += [f"conv{block}_{depth}", f"relu{block}_{depth}"]
            names.append(f"pool{block}")
        return tuple(names)


VGG16 = Architecture("vgg16", (2, 2, 3, 3, 3))
VGG19 = Architecture("vgg19", (2, 2, 4, 4, 4))
ARCHITECTURES = {architecture.name: architecture for architecture in (VGG16, VGG19)}

DEFAULT_CONTENT_TAPS = ("relu4_2",)
DEFAULT_STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@functools.lru_cache(maxsize=4096)  # a hundred thousand jobs have few names
def canonical_tap(name: str, architecture: Architecture) -> str:
    """The canonical name of a tap that is given in any known program's words.

    Raises:
        TapError: The network has no such tap; the message lists those of the block.
    """
    tap = _translate(name.strip().lower(), architecture)
    if tap not in architecture.taps:
        raise TapError(
            f"tap {name!r} does not exist in {architecture.name}",
            _valid_taps_near(tap, architecture),
        )
    return tap


def deepest_tap(taps: Iterable[str], architecture: Architecture) -> str:
    """The one of `taps` that is computed last."""
    return max(taps, key=architecture.taps.index)


@functools.lru_cache(maxsize=4096)
def block_of(tap: str) -> int:
    """The block of a canonical tap, from 1; 0 for `pixels`."""
    return 0 if tap == PIXELS else int(re.sub(r"^\D+", "", tap).split("_")[0])


def poolings_before(tap: str) -> int:
    """How many poolings lie between the image and a canonical tap.

    A tap's features are `2 ** poolings_before(tap)` times smaller than the image, rounded
    down, which is also the smallest side an image may have to reach the tap.
    """
    return block_of(tap) if tap.startswith("pool") else max(block_of(tap) - 1, 0)


def smallest_side(taps: Iterable[str]) -> int:
    """Pixels that both sides of an image need so that each tap has at least one position."""
    return max(2 ** poolings_before(tap) for tap in taps)


def _translate(name: str, architecture: Architecture) -> str:
    if match := re.fullmatch(r"block(\d)_(conv(\d)|pool)", name):
        block, _, depth = match.groups()
        return f"relu{block}_{depth}" if depth else f"pool{block}"
    if match := re.fullmatch(r"r(\d)_?(\d)", name):
        return f"relu{match[1]}_{match[2]}"
    if match := re.fullmatch(r"p(\d)", name):
        return f"pool{match[1]}"
    if match := re.fullmatch(r"features\.(\d+)", name):
        return _torchvision_taps(architecture).get(int(match[1]), name)
    return name


@functools.cache
def _torchvision_taps(architecture: Architecture) -> dict[int, str]:
    """torchvision numbers a VGG's layers straight through: conv, relu, conv, relu, pool, ..."""
    return dict(enumerate(architecture.taps[1:]))


def _valid_taps_near(tap: str, architecture: Architecture) -> str:
    match = re.match(r"(?:relu|conv|pool)(\d)", tap)
    block = int(match[1]) if match else 0
    if 1 <= block <= len(architecture.depths):
        depth = architecture.depths[block - 1]
        names = (
            f"relu{block}_1 to relu{block}_{depth}, conv{block}_1 to conv{block}_{depth}, "
            f"pool{block}"
        )
        return f"Block {block} has {names}"
    return (
        f"There are pixels and the blocks 1 to {len(architecture.depths)}, as in relu4_2 or pool3"
    )
