"""What default outputs call their pictures: by stems, and by folders where stems are not enough.

A name follows from the pictures alone and not from their order in a list: else a picture that is
added would take the name of another one, and what is finished would be rendered anew.
"""

import collections
import os
import posixpath
from collections.abc import Iterable, Mapping

from nst_jax.request.outputs import is_url, name_key, stem_and_suffix


def name_pictures(paths: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """What pictures are called whose own stem would not do, by their paths.

    Two of one stem have the name of their folder before it, and so many of the folders above as
    tell them apart; two of one stem in one folder have their suffix behind it.

    Args:
        paths: Of pictures that stand in the same place of a job; any number of times.
        known: What is already decided, in place of a stem.
    """
    known = known or {}
    first: dict[str, str] = {}
    alike: dict[str, dict[str, None]] = {}
    for path in dict.fromkeys(paths):
        key = name_key(known.get(path) or stem_and_suffix(path)[0])
        other = first.setdefault(key, path)
        if other is not path:
            alike.setdefault(key, {other: None})[path] = None
    names = dict(known)
    for some in alike.values():
        names |= _tell_apart({path: known.get(path) or stem_and_suffix(path)[0] for path in some})
    return names


def _tell_apart(stems: Mapping[str, str]) -> dict[str, str]:
    places = {path: path if is_url(path) else os.path.abspath(path) for path in stems}
    if len(set(places.values())) == 1:
        return {}  # one picture, spelled in several ways
    in_folder = collections.Counter(map(posixpath.dirname, set(places.values())))
    heads = _shortest_ends(in_folder)
    names = {}
    for path, place in places.items():
        folder = posixpath.dirname(place)
        tail = stem_and_suffix(path)[1][1:] if in_folder[folder] > 1 else ""
        names[path] = "_".join(filter(None, (heads[folder], stems[path], tail)))
    return names


def _shortest_ends(folders: Iterable[str]) -> dict[str, str]:
    """As many of a folder's last parts as none of the others ends in; none for a single one."""
    waiting, ends, depth = list(folders), dict[str, str](), 0
    while waiting:
        found = {
            folder: "_".join(folder.split("/")[-depth:] if depth else ()) for folder in waiting
        }
        count = collections.Counter(map(name_key, found.values()))
        for folder in waiting:
            if count[name_key(found[folder])] == 1 or depth > folder.count("/"):
                ends[folder] = found[folder]
        waiting = [folder for folder in waiting if folder not in ends]
        depth += 1
    return ends
