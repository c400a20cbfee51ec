"""Input pictures looked at: checksum and size, each file read once for as long as it is the same.

What an earlier run has seen, its ledger tells. A file whose stamp (size and times) is still
that one is not read again, unless the user wants every byte verified.
"""

import dataclasses
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nst_jax.engine.inputs.recent_cache import RecentCache
from nst_jax.engine.plan.canvas import Size
from nst_jax.files import images, open_picture
from nst_jax.files.memory_pictures import identify, load_from_memory
from nst_jax.files.storage import RemoteFile, as_file, version_tag
from nst_jax.request.job import PictureSource
from nst_jax.request.options import DEFAULT_MAX_INPUT_PIXELS

# A file may change twice within the resolution of its times: whoever looks that soon after
# it was written can't tell later whether it is still the same.
_SETTLED_AFTER_S = 2.0

_LOADED_BYTES = 2**28
"""Some 40 styles of 512 px at five levels."""


@dataclasses.dataclass(frozen=True)
class PictureInfo:
    """What is known of a picture's bytes.

    Attributes:
        sha256: Of the file's bytes; of a picture in memory see `memory_pictures.identify`.
        size: (height, width) of the upright picture in pixels.
        stamp: What the file had when it was read; empty where that can't be relied on.
        is_animated: Whether the file holds further frames or pages, which are not used.
    """

    sha256: str
    size: Size
    stamp: str = ""
    is_animated: bool = False

    def record(self) -> dict[str, Any]:
        """What a ledger line keeps of it."""
        told = {"sha256": self.sha256, "size": list(self.size), "stamp": self.stamp}
        return told | {"first_frame_of_several": True} if self.is_animated else told


class PictureIndex:
    """Looks at pictures, from several threads at once, and remembers.

    Attributes:
        loaded: Pictures decoded and scaled, of those that several jobs may share.
    """

    def __init__(
        self,
        known: Mapping[str, PictureInfo] | None = None,
        *,
        max_pixels: int = DEFAULT_MAX_INPUT_PIXELS,
    ) -> None:
        """Starts with what is known already.

        Args:
            known: By path, as the run names it.
            max_pixels: Pictures of more pixels are refused.
        """
        self.loaded = RecentCache(_LOADED_BYTES, lambda picture: picture.nbytes)
        self._known = dict(known or {})
        self._sizes: dict[tuple[str, str], Size] = {}
        self._animated: set[str] = set()
        self._notes: dict[str, bool] = {}  # and whether they were taken
        self.max_pixels = max_pixels

    def lookup(self, source: PictureSource) -> PictureInfo:
        """Checksum and size of a picture as it is now.

        Raises:
            PictureError: It is missing, no picture, or can't be read.
        """
        if not isinstance(source, (str, os.PathLike)):
            return PictureInfo(*identify(source))
        file = as_file(source)
        stamp = version_tag(file)
        known = self._known.get(str(file))
        if known and known.stamp and known.stamp == stamp:
            return known
        fresh = self._read_info(file, stamp)
        self._known[str(file)] = fresh
        if fresh.is_animated:
            self._animated.add(str(file))
        return fresh

    def size(self, source: PictureSource) -> Size:
        """(height, width) of the upright picture, from its header where it was not seen yet.

        Raises:
            PictureError: It is missing, no picture, or can't be read.
        """
        if not isinstance(source, (str, os.PathLike)):
            return load_from_memory(source).pixels.shape[:2]
        file = as_file(source)
        known, stamp = self._known.get(str(file)), version_tag(file)
        if known and known.stamp and known.stamp == stamp:
            return known.size
        if (str(file), stamp) not in self._sizes:
            size = images.read_picture_size(file, max_pixels=self.max_pixels)
            self._sizes[str(file), stamp] = size
        return self._sizes[str(file), stamp]

    def sha256(self, source: PictureSource) -> str:
        """The checksum alone; see `lookup`."""
        return self.lookup(source).sha256

    def find_known(self, sources: Iterable[PictureSource]) -> dict[str, PictureInfo]:
        """What is known of these files, by path."""
        paths = [str(as_file(one)) for one in sources if isinstance(one, (str, os.PathLike))]
        return {path: self._known[path] for path in paths if path in self._known}

    def records(self, sources: Iterable[PictureSource]) -> dict[str, Any]:
        """What is known of these files, as a ledger line keeps it."""
        return {path: seen.record() for path, seen in self.find_known(sources).items()}

    def list_animated(self) -> list[str]:
        """Files that hold further frames or pages, of those that no earlier run has seen."""
        return sorted(self._animated)

    def add_note(self, note: str) -> None:
        """Keeps what is to be said of a picture that was decoded, once however often it is."""
        self._notes.setdefault(note, False)

    def take_notes(self) -> list[str]:
        """What is to be said of pictures, as far as no earlier call has had it."""
        fresh = [note for note, is_taken in list(self._notes.items()) if not is_taken]
        self._notes.update(dict.fromkeys(fresh, True))
        return fresh

    def _read_info(self, file: Path | RemoteFile, stamp: str) -> PictureInfo:
        began = time.time()
        header = images.read_picture_header(file, max_pixels=self.max_pixels)
        digest = open_picture.file_digest(file)
        # A store's entity tags are not of time.
        settled = isinstance(file, RemoteFile) or began - _change_time(file) > _SETTLED_AFTER_S
        return PictureInfo(digest, header.size, stamp if settled else "", header.is_animated)


def index_from_ledger(records: Iterable[Mapping[str, Any]]) -> dict[str, PictureInfo]:
    """What the lines of a ledger tell of input files; whatever is not understood is left out."""
    return dict(pair for record in records for pair in _info_pairs(record.get("inputs")))


def _info_pairs(inputs: Any) -> Iterator[tuple[str, PictureInfo]]:
    for path, told in inputs.items() if isinstance(inputs, dict) else ():
        try:
            height, width = map(int, told["size"])
            animated = told.get("first_frame_of_several") is True
            yield (
                path,
                PictureInfo(str(told["sha256"]), (height, width), str(told["stamp"]), animated),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            continue


def _change_time(path: Path) -> float:
    """The earlier one of a file's times: a further change sets both, so either tells of it.

    The date of the content may be of the future: by a camera whose clock was ahead, say.
    """
    try:
        status = path.stat()
        return min(status.st_mtime, status.st_ctime)
    except OSError:  # it has gone meanwhile
        return math.inf
