"""PyTorch's files written byte by byte, without PyTorch: sound ones and every kind of liar.

And safetensors', of the same networks, by their own library.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import safetensors.numpy
from networks import Network

NUMBERS = {
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
"""Where torchvision's convolutions stand."""

LAYOUTS = ("zip", "stream")
FORMATS = (*LAYOUTS, "safetensors")

KINDS = {"<f2": "HalfStorage", "<f4": "FloatStorage", "<f8": "DoubleStorage", "<i8": "LongStorage"}

State = dict[str, np.ndarray]


def state_dict(
    network: Network,
    *,
    numbers: Sequence[int] = (),
    classifier: tuple[str, ...] = ("classifier.0", "classifier.3", "classifier.6"),
) -> State:
    """A narrow VGG under torchvision's names, kernels as (output, input, height, width)."""
    state = {}
    numbers = numbers or NUMBERS[network.architecture]
    for number, (kernel, bias) in zip(numbers, network.convolutions.values(), strict=False):
        state[f"features.{number}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        state[f"features.{number}.bias"] = bias
    for name in classifier:
        state[f"{name}.weight"] = np.ones((2, 3), np.float32)
        state[f"{name}.bias"] = np.ones(2, np.float32)
    return state


# The stack machine's language.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    digits = pickle.encode_long(value)
    return b"\x8a" + bytes([len(digits)]) + digits


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def name(module: str, thing: str) -> bytes:
    return f"c{module}\n{thing}\n".encode()


def call(module: str, thing: str, *arguments: bytes) -> bytes:
    return name(module, thing) + b"(" + b"".join(arguments) + b"tR"


EMPTY = name("collections", "OrderedDict") + b")R"


def dictionary(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def ordered(items: Mapping[str, bytes]) -> bytes:
    """An OrderedDict with `_metadata`, as state dictionaries are."""
    metadata = dictionary({"_metadata": dictionary({"": dictionary({"version": number(1)})})})
    return EMPTY + dictionary(items).removeprefix(b"}") + metadata + b"b"


def storage(key: str, count: int, layout: str, kind: str = "FloatStorage") -> bytes:
    """Names a storage that lies elsewhere; a stream says also that it is no view."""
    identity = text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count)
    return b"(" + identity + (b"N" if layout == "stream" else b"") + b"tQ"


def tensor(stored: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    arguments = (stored, number(offset), numbers(*shape), numbers(*strides))
    return call("torch._utils", "_rebuild_tensor_v2", *arguments, b"\x89", EMPTY)


def old_tensor(
    stored: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> bytes:
    """As it was written until 2017."""
    arguments = (stored, number(offset), numbers(*shape), numbers(*strides))
    return call("torch._utils", "_rebuild_tensor", *arguments)


def parameter(value: bytes) -> bytes:
    return call("torch._utils", "_rebuild_parameter", value, b"\x88", EMPTY)


# Whole files.


def pickled(content: bytes) -> bytes:
    return b"\x80\x02" + content + b"."


def zipped(
    program: bytes,
    rows: Mapping[str, np.ndarray],
    *,
    byte_order: str | None = "little",
    compression: int = zipfile.ZIP_STORED,
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """An archive; without a byte order it is one of before 2023."""
    entries = {"data.pkl": program}
    entries |= {"byteorder": byte_order.encode()} if byte_order is not None else {}
    entries |= {f"data/{key}": row.tobytes() for key, row in rows.items()}
    entries |= {"version": b"3\n"} | dict(more or {})
    return packed({f"archive/{name}": content for name, content in entries.items()}, compression)


def packed(entries: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


STREAM_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
STREAM_START = STREAM_MAGIC + pickle.dumps(1001, protocol=2)

_SIZES = {"short": 2, "int": 4, "long": 4}
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": _SIZES}
"""What a stream says of the machine that wrote it."""


def streamed(program: bytes, rows: Mapping[str, np.ndarray], *, keys: bytes | None = None) -> bytes:
    """A file of before 2020."""
    head = STREAM_START + pickle.dumps(MACHINE, protocol=2) + program
    listed = pickle.dumps(list(rows), protocol=2) if keys is None else keys
    stored = (struct.pack("<q", row.size) + row.tobytes() for row in rows.values())
    return head + listed + b"".join(stored)


def written(program: bytes, rows: Mapping[str, np.ndarray], layout: str) -> bytes:
    return zipped(program, rows) if layout == "zip" else streamed(program, rows)


def tensors(state: Mapping[str, np.ndarray], layout: str) -> tuple[dict[str, bytes], State]:
    """Each array as a contiguous tensor of its own, and the rows of numbers by their keys."""
    views, rows = {}, {}
    for index, (array_name, array) in enumerate(state.items()):
        key = str(index)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        stored = storage(key, array.size, layout, KINDS[array.dtype.str])
        views[array_name] = tensor(stored, 0, array.shape, strides)
        rows[key] = array
    return views, rows


def torch_file(state: Mapping[str, np.ndarray], layout: str) -> bytes:
    """A state dictionary as `torch.save` writes it."""
    views, rows = tensors(state, layout)
    return written(pickled(ordered(views)), rows, layout)


def foreign_file(state: State, kind: str) -> bytes:
    return safetensors.numpy.save(state) if kind == "safetensors" else torch_file(state, kind)
