"""The elements of a MAT-file, walked before any of them is read: does each hold what it claims?

A MAT-file of version 5 is a header of 128 bytes and then elements. An element is a tag, its
type and its count of bytes, and a content. The content of a matrix is elements again:

    array flags    the class of the matrix: numbers, text, cell or struct
    dimensions     one int32 each
    name           empty for a matrix inside another
    then           numbers, text: one element of values
                   cell: a matrix for each member
                   struct: the longest field name's length, all field names, and a matrix for
                   each field of each member

A compressed element is a zlib stream of one matrix.

SciPy believes all that a file says of itself: it asks for the memory of a cell array of any
size before it looks for the members, divides by a length of zero, and inflates whatever comes
out of a stream. So every claim is held against what there is first, by this walk, which keeps
no values and inflates in small pieces.
"""

import dataclasses
import math
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import BinaryIO

from nst_jax.weights.errors import InvalidWeights

HEADER_BYTES = 128
MOST_INFLATED_BYTES = 700_000_000
"""What compressed elements may grow to in all. A VGG-19 with its classifier takes 575 MB."""

_MOST_ELEMENTS = 100_000
"""A published network has some 15,000, most of them for the names of what it tells apart."""

_DEEPEST_MATRIX = 16
_MOST_DIMENSIONS = 8
_LONGEST_NAME = 64
_MOST_FIELDS = 256
_TAG_BYTES = 8
_PIECE_BYTES = 2**18

_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED, _UTF8 = 1, 5, 6, 14, 15, 16
_CELL, _STRUCT, _TEXT = 1, 2, 4
_NUMBERS = range(6, 16)
_COMPLEX_FLAG = 0x800

_BYTES_BY_NUMBER_TYPE = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
"""What a number takes in the file; integers are stored as short as they fit."""

_BYTES_BY_TEXT_TYPE = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
_BYTES_OF_A_READ_VALUE = 4
"""At least: an integer becomes a float32, and a character takes four bytes too."""

_OTHER_CLASSES = {3: "an object", 5: "a sparse matrix", 16: "a function", 17: "an object"}


def check_elements(path: Path) -> None:
    """Walks through all elements of a MAT-file of version 5.

    Raises:
        InvalidWeights: An element claims more than there is, grows too large, or is of a class that
            no network needs.
    """
    end = path.stat().st_size
    allowance = _Allowance()
    names = set()
    with path.open("rb") as file:
        order = ">" if file.read(HEADER_BYTES).endswith(b"MI") else "<"
        while file.tell() < end:
            name = _check_variable(_Plain(file), end, order, allowance)
            if name in names:
                raise _damaged("holds two variables of one name")
            names.add(name)


@dataclasses.dataclass
class _Allowance:
    """What the rest of a file may still ask for."""

    bytes: int = MOST_INFLATED_BYTES
    elements: int = _MOST_ELEMENTS

    def spend(self, count: int) -> None:
        """Notes bytes that will take memory without taking room in the file."""
        self.bytes -= count
        if self.bytes < 0:
            raise InvalidWeights(
                f"grows to more than {MOST_INFLATED_BYTES // 10**6} MB when it is read, "
                "more than the largest network that is read here"
            )

    def count_element(self) -> None:
        """Notes one more element."""
        self.elements -= 1
        if self.elements < 0:
            raise InvalidWeights(
                f"holds more than {_MOST_ELEMENTS} elements, which no network needs"
            )


class _Plain:
    """Elements as they lie in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @property
    def position(self) -> int:
        """Where the next byte lies."""
        return self._file.tell()

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        content = self._file.read(count)
        if len(content) != count:
            raise _damaged("ends within an element")
        return content

    def skip(self, count: int) -> None:
        """Leaves out `count` bytes; whoever asks has checked that they are there."""
        self._file.seek(count, os.SEEK_CUR)


class _Inflated:
    """The elements of a zlib stream, of which never more than a piece is in memory."""

    def __init__(self, file: BinaryIO, compressed_bytes: int, allowance: _Allowance) -> None:
        self._file = file
        self._left = compressed_bytes
        self._allowance = allowance
        self._inflater = zlib.decompressobj()
        self._piece = b""
        self.position = 0

    def read(self, count: int) -> bytes:
        """The next `count` bytes; few, because they are kept."""
        while len(self._piece) < count:
            self._piece += self._inflate()
        content, self._piece = self._piece[:count], self._piece[count:]
        self.position += count
        return content

    def skip(self, count: int) -> None:
        """Leaves out `count` bytes, which may be any number."""
        self.position += count
        while count > len(self._piece):
            count -= len(self._piece)
            self._piece = self._inflate()
        self._piece = self._piece[count:]

    def check_at_end(self) -> None:
        """Refuses a stream that goes on, or that stops before its checksum."""
        while not self._piece and not self._inflater.eof:
            self._piece = self._inflate()
        if self._piece:
            raise _damaged("holds more in a compressed element than its matrix")

    def _inflate(self) -> bytes:
        """The next piece. It may be empty, but then the stream has come closer to its end."""
        compressed = self._inflater.unconsumed_tail
        if not compressed:
            compressed = self._file.read(min(self._left, _PIECE_BYTES))
            self._left -= len(compressed)
        if self._inflater.eof or not compressed:
            raise _damaged("holds a compressed element that is cut short")
        try:
            piece = self._inflater.decompress(compressed, _PIECE_BYTES)
        except zlib.error as error:
            raise _damaged("holds a compressed element that can't be inflated") from error
        self._allowance.spend(len(piece))
        return piece


def _check_variable(stream: _Plain, end: int, order: str, allowance: _Allowance) -> bytes:
    """Walks through the next element of the file, a matrix or a compressed one.

    Returns:
        The variable's name.
    """
    kind, size, content = _Walk(stream, order, allowance).tag(end)
    if content is not None or kind not in (_MATRIX, _COMPRESSED) or size == 0:
        raise _damaged("has something else than a matrix among its variables")
    element_end = stream.position + size
    if kind == _MATRIX:
        return _Walk(stream, order, allowance).matrix(element_end)
    inflated = _Inflated(stream._file, size, allowance)
    walk = _Walk(inflated, order, allowance)
    kind, size, content = walk.tag(sys.maxsize)  # how much comes out of a stream shows at its end
    if content is not None or kind != _MATRIX:
        raise _damaged("holds a compressed element that is no matrix")
    name = walk.matrix(_TAG_BYTES + size)
    inflated.check_at_end()
    stream._file.seek(element_end)
    return name


class _Walk:
    """Goes through one variable. `end` is always the position behind the element walked in."""

    def __init__(self, stream: _Plain | _Inflated, order: str, allowance: _Allowance) -> None:
        self._stream = stream
        self._order = order
        self._allowance = allowance

    def tag(self, end: int) -> tuple[int, int, bytes | None]:
        """The next element's type and size.

        An element of up to four bytes may lie in its own tag; then they are the third value,
        and nothing follows.
        """
        self._allowance.count_element()
        self._check_room(_TAG_BYTES, end)
        content = self._stream.read(_TAG_BYTES)
        kind, size = struct.unpack(f"{self._order}II", content)
        if kind <= 0xFFFF:
            self._check_room(size, end)
            return kind, size, None
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise _damaged("has an element that does not fit into its own tag")
        return kind, size, content[4 : 4 + size]

    def matrix(self, end: int, depth: int = 1) -> bytes:
        """Walks through a matrix whose tag has been read.

        Returns:
            Its name.
        """
        array_class = self._array_class(end)
        count = math.prod(self._dimensions(end))
        name = self._content(end, (_INT8, _UTF8), _LONGEST_NAME)
        if array_class == _CELL:
            self._members(count, end, depth)
        elif array_class == _STRUCT:
            self._members(count * self._fields(count, end), end, depth)
        elif array_class == _TEXT:
            self._values(count, _BYTES_BY_TEXT_TYPE, end)
        else:
            self._values(count, _BYTES_BY_NUMBER_TYPE, end)
        if self._stream.position != end:
            raise _damaged("holds a matrix that does not end where it says")
        return name

    def _array_class(self, end: int) -> int:
        flags = self._content(end, (_UINT32,), 8)
        if len(flags) != 8:
            raise _damaged("holds a matrix without flags")
        [flag] = struct.unpack_from(f"{self._order}I", flags)
        array_class = flag & 0xFF
        if array_class not in (_CELL, _STRUCT, _TEXT, *_NUMBERS):
            what = _OTHER_CLASSES.get(array_class, f"an array of the unknown class {array_class}")
            raise InvalidWeights(
                f"holds {what}; only numbers, text, cells and structs are read",
                "Save nothing but the network's layers, parameters and normalization, as arrays "
                "of numbers.",
            )
        if flag & _COMPLEX_FLAG:
            raise InvalidWeights("holds complex numbers, which no network has")
        return array_class

    def _dimensions(self, end: int) -> tuple[int, ...]:
        content = self._content(end, (_INT32, _UINT32), 4 * _MOST_DIMENSIONS)
        sides = struct.unpack(f"{self._order}{len(content) // 4}i", content[: len(content) & ~3])
        if len(sides) < 2 or len(content) % 4 or min(sides) < 0:
            raise _damaged("holds a matrix without sound dimensions")
        return sides

    def _fields(self, count: int, end: int) -> int:
        """The number of fields of a struct array with `count` members."""
        content = self._content(end, (_INT32,), 4)
        length = int.from_bytes(content, "big" if self._order == ">" else "little", signed=True)
        names = self._content(end, (_INT8, _UTF8), _LONGEST_NAME * _MOST_FIELDS)
        if len(content) != 4 or not 1 <= length <= _LONGEST_NAME or len(names) % length:
            raise _damaged("holds a struct whose field names are not laid out soundly")
        if not names and count > 1:
            raise _damaged("holds many structs without a field")
        return len(names) // length

    def _members(self, count: int, end: int, depth: int) -> None:
        if depth >= _DEEPEST_MATRIX:
            raise InvalidWeights(f"holds matrices in matrices, more than {_DEEPEST_MATRIX} deep")
        self._check_room(count * _TAG_BYTES, end)
        for _ in range(count):
            kind, size, content = self.tag(end)
            if kind != _MATRIX or content is not None:
                raise _damaged("holds a cell or a field that is no matrix")
            if size:  # an empty one may be a tag alone
                self.matrix(self._stream.position + size, depth + 1)

    def _values(self, count: int, bytes_by_type: dict[int, int], end: int) -> None:
        """Leaves out the values of `count` numbers or characters."""
        kind, size, content = self.tag(end)
        if kind not in bytes_by_type:
            raise _damaged("stores values in a type that is not theirs")
        needed = count * bytes_by_type[kind]
        # A character may take more than its type says, if it is not of the Latin alphabet.
        if size < needed or (size > needed and bytes_by_type is _BYTES_BY_NUMBER_TYPE):
            raise _damaged("holds a matrix with fewer or more values than its dimensions say")
        self._allowance.spend(max(0, count * _BYTES_OF_A_READ_VALUE - size))
        if content is None:
            self._skip_padded(size, end)

    def _content(self, end: int, kinds: tuple[int, ...], longest: int) -> bytes:
        """The content of a short element, of one of these types."""
        kind, size, content = self.tag(end)
        if kind not in kinds or size > longest:
            raise _damaged("holds a matrix whose head is not laid out soundly")
        if content is None:
            content = self._stream.read(size)
            self._skip_padded(0, end, size)
        return content

    def _skip_padded(self, size: int, end: int, already_read: int = 0) -> None:
        """Leaves out `size` bytes and what fills up to the next multiple of eight."""
        size += -(size + already_read) % 8
        self._check_room(size, end)
        self._stream.skip(size)

    def _check_room(self, size: int, end: int) -> None:
        if self._stream.position + size > end:
            raise _damaged("has an element that claims more bytes than there are")


def _damaged(how: str) -> InvalidWeights:
    return InvalidWeights(f"is damaged or cut short: it {how}")
