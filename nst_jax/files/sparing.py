"""No output takes the place of a picture that is read."""

import functools
import os
from collections.abc import Iterable

from nst_jax.files.folders import Folder
from nst_jax.request.errors import OutputError
from nst_jax.request.outputs import is_url


def check_inputs_not_overwritten(
    pictures: Iterable[object], outputs: Iterable[str], folder: Folder
) -> None:
    """Refuses outputs that would take the place of a picture.

    Args:
        pictures: Paths and addresses; what has neither, such as an array, is passed over.
        outputs: Names relative to the folder.
        folder: Where they go.

    Raises:
        OutputError: One would.
    """
    resolved = functools.cache(os.path.realpath)  # of folders, which are few

    def place(name: str) -> str:
        if is_url(name):
            return name
        parent, base = os.path.split(name)
        return os.path.join(resolved(parent), base)

    names = {os.fspath(one) for one in pictures if isinstance(one, (str, os.PathLike))}
    read = {place(os.fsdecode(name)) for name in names}
    for output in outputs:
        if place(folder.path_of(output)) in read:
            raise OutputError(
                f"output {output!r} would take the place of a picture that is read",
                "Name another file or folder",
            )
