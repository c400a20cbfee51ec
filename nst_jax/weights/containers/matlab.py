"""Arrays out of a MAT-file, as MatConvNet keeps a network in it.

MATLAB's own arrays, cells and structs say little of what they hold: a path through them is
one of positions. MatConvNet gives its structs names, and those are what is gone by here:

    layers         a cell array of structs: name, type, and either filters and biases, or
                   (later) the cell array weights, with the filters first and the biases second
    params         of a DagNN: a struct array with name and value
    normalization  a struct with averageImage; in later files, a field of the struct meta

They become `conv1_1/filters`, `conv1_1/biases`, `params/conv1_1f`, `normalization/averageImage`.

SciPy reads the file, and believes all that it says of itself: a damaged or hostile one can ask
for all memory or crash. That is left to `nst_jax.weights.subprocess_reader`.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nst_jax.weights.containers.arrays import Arrays, Container, StoredArray
from nst_jax.weights.errors import InvalidWeights

_VARIABLES = ["layers", "params", "normalization", "meta"]
_VERSION_7_3 = b"MATLAB 7.3 MAT-file"

_LONGEST_NAME = 64
_NAMES_OF_WEIGHTS = ("filters", "biases")
_NAMES_OF_NORMALISATION = ("gamma", "beta", "moments")


def _is_matlab(start: bytes) -> bool:
    is_version_5 = start.startswith(b"MATLAB 5.0 MAT-file") and start[124:128] in (
        b"\x00\x01IM",
        b"\x01\x00MI",
    )
    return is_version_5 or start.startswith(_VERSION_7_3)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Arrays]:
    with path.open("rb") as file:
        if file.read(len(_VERSION_7_3)) == _VERSION_7_3:
            raise InvalidWeights(
                "is a MAT-file of version 7.3, which is not read",
                "Load it in MATLAB and save it with the option '-v7'.",
            )
    arrays = _arrays(_load(path))
    if not arrays:
        raise InvalidWeights(
            "is a MAT-file without a network: none of its variables is 'layers' or 'params' "
            "as MatConvNet keeps them",
            "Save the network with 'save(file, '-struct', 'net')'.",
        )
    yield arrays


def _load(path: Path) -> dict[str, object]:
    """The file's variables as SciPy reads them: no axis left out, structs as records."""
    from scipy.io import loadmat

    with warnings.catch_warnings():
        # What SciPy warns of are oddities of damaged files. They show in what it returns.
        warnings.simplefilter("ignore")
        return loadmat(
            path,
            appendmat=False,
            mat_dtype=False,  # it would copy every array
            struct_as_record=True,
            squeeze_me=False,
            variable_names=_VARIABLES,
        )


def _arrays(variables: dict[str, object]) -> dict[str, StoredArray]:
    arrays = {}
    for name, value in _name_values(variables):
        if name in arrays:
            raise InvalidWeights(f"holds two arrays that are both named {name}")
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            # MATLAB stores numbers of any precision as integers where they all are integral.
            dtype = value.dtype if value.dtype.kind == "f" else np.dtype(np.float32)
            read = functools.partial(value.astype, dtype, copy=False)
            arrays[name] = StoredArray(value.shape, dtype, read)
    return arrays


def _name_values(variables: dict[str, object]) -> Iterator[tuple[str, object]]:
    for index, layer in enumerate(_structs(variables.get("layers")), start=1):
        name = _text(layer.get("name")) or f"layer {index}"
        for part, value in _layer_values(layer):
            yield f"{name}/{part}", value
    for param in _structs(variables.get("params")):
        yield f"params/{_text(param.get('name'))}", param.get("value")
    for holder in (variables, *_structs(variables.get("meta"))):
        for normalisation in _structs(holder.get("normalization")):
            if "averageImage" in normalisation:
                yield "normalization/averageImage", normalisation["averageImage"]


def _layer_values(layer: dict[str, object]) -> Iterator[tuple[str, object]]:
    is_normalisation = _text(layer.get("type")).lower() == "bnorm"
    parts = _NAMES_OF_NORMALISATION if is_normalisation else _NAMES_OF_WEIGHTS
    for part in parts:
        if part in layer:
            yield part, layer[part]
    weights = layer.get("weights")
    if isinstance(weights, np.ndarray) and weights.dtype == object:
        yield from zip(parts, weights.flat, strict=False)


def _structs(value: object) -> Iterator[dict[str, object]]:
    """The structs of a struct array, or of a cell array of them, each by its field names."""
    if isinstance(value, np.ndarray) and value.dtype.names:
        for record in value.flat:
            yield {name: record[name] for name in value.dtype.names}
    elif isinstance(value, np.ndarray) and value.dtype == object:
        for member in value.flat:
            yield from _structs(member)


def _text(value: object) -> str:
    """A row of characters, which SciPy reads as an array of one string; "" for anything else.

    Also for what can't be a name: whoever finds a fault may put the name into a sentence.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1:
        text = str(value.flat[0])
        return text if text.isprintable() and len(text) <= _LONGEST_NAME else ""
    return ""


CONTAINER = Container("MATLAB", _is_matlab, _open)
