"""Jobs in mid-schedule from one run to the next, in one file of the output folder.

The file says of each job its output's name, its fingerprint and where it stands. The next run
takes up those whose fingerprint it asks for; a file that is damaged, foreign or out of date
costs time and nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nst_jax.engine.plan.examined_job import ExaminedJob
from nst_jax.engine.progress import Progress
from nst_jax.engine.results import LossPoint
from nst_jax.engine.schedule.snapshot import JobSnapshot
from nst_jax.files.array_archive import read_archive, write_archive
from nst_jax.files.folders import Folder, reason_of

STATE_NAME = "state.npz"


class CheckpointFile:
    """Keeps the jobs under way of one run.

    Attributes:
        snapshots: Where unfinished jobs stand, by their index; as far as it is known.
    """

    def __init__(
        self,
        folder: Folder | None,
        requests: Iterable[ExaminedJob],
        progress: Progress,
        *,
        name: str = STATE_NAME,
        others: Iterable[str] = (),
    ) -> None:
        """Reads what an earlier run has kept.

        Args:
            folder: Where the file lies; None: nothing is kept.
            requests: The jobs of this run that are not finished.
            progress: Told when nothing can be kept.
            name: The file's.
            others: Files of workers that are no more; they are taken over, and removed at the end.
        """
        self._folder, self._progress, self._name = folder, progress, name
        self._others = tuple(others)
        self._requests = {request.index: request for request in requests}
        self.snapshots: dict[int, JobSnapshot] = {}
        for one in (*self._others, name):
            self._load(one)

    def save(self, snapshots: Sequence[JobSnapshot]) -> int:
        """Writes where these jobs stand, beside those that are still to be taken up.

        Returns:
            How many jobs the file holds; 0 where it can't be written.
        """
        self.snapshots |= {snapshot.index: snapshot for snapshot in snapshots}
        if not self.snapshots or self._folder is None:
            return 0
        try:
            with self._folder.open_atomic(self._name) as file:
                write_archive(file, *_pack(self.snapshots, self._requests))
        except OSError as error:
            self._progress.note(f"the jobs under way can't be kept: {reason_of(error)}")
            return 0
        return len(self.snapshots)

    @property
    def steps_taken(self) -> int:
        """Steps that need not be taken again, as far as stages are behind them."""
        return sum(snapshot.steps for snapshot in self.snapshots.values())

    def discard(self, index: int) -> None:
        """Forgets a job that has its result."""
        self.snapshots.pop(index, None)

    def remove(self) -> None:
        """Removes the files: every job has its result."""
        if self._folder is not None:
            for name in (*self._others, self._name):
                self._folder.remove(name)

    def _load(self, name: str) -> None:
        """Adds what a file has, where it is further than what is known."""
        try:
            content = None if self._folder is None else self._folder.read(name)
            if content is None:
                return
            header, arrays = read_archive(content)
            found = list(_unpack(header, arrays, self._requests.values()))
        except OSError as error:
            self._progress.note(f"{name} is passed over: {reason_of(error)}")
            return
        except ValueError as error:
            self._progress.note(f"{name} is passed over: {error}")
            return
        for snapshot in found:
            known = self.snapshots.get(snapshot.index)
            if known is None or known.steps < snapshot.steps:
                self.snapshots[snapshot.index] = snapshot


def _pack(
    snapshots: Mapping[int, JobSnapshot], requests: Mapping[int, ExaminedJob]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A header for the file, and its arrays by job and name."""
    header: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for number, snapshot in enumerate(snapshots.values()):
        request = requests[snapshot.index]
        header.append(
            {
                "job": request.job.output,
                "fingerprint": request.fingerprint,
                "level": snapshot.level,
                "steps": snapshot.steps,
                "seconds": snapshot.seconds,
                "compile_seconds": snapshot.compile_seconds,
                "losses": dict(snapshot.losses),
                "curve": [list(point) for point in snapshot.curve],
                "arrays": list(snapshot.arrays),
            }
        )
        for index, array in enumerate(snapshot.arrays.values()):
            arrays[f"{number}/{index}"] = array
    return header, arrays


def _unpack(
    header: Any, arrays: Mapping[str, np.ndarray], requests: Iterable[ExaminedJob]
) -> Iterator[JobSnapshot]:
    """The jobs of a file that this run asks for.

    Raises:
        ValueError: The header is another program's.
    """
    wanted = {(one.job.output, one.fingerprint): one.index for one in requests}
    try:
        for number, entry in enumerate(header):
            index = wanted.get((entry["job"], entry["fingerprint"]))
            if index is not None:
                yield _read_snapshot(index, entry, arrays, number)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a foreign header: {error!r}") from error


def _read_snapshot(
    index: int, entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray], number: int
) -> JobSnapshot:
    names = entry["arrays"]
    return JobSnapshot(
        index=index,
        level=int(entry["level"]),
        steps=int(entry["steps"]),
        seconds=float(entry["seconds"]),
        compile_seconds=float(entry["compile_seconds"]),
        losses={str(name): float(value) for name, value in entry["losses"].items()},
        curve=[LossPoint(int(step), *map(float, losses)) for step, *losses in entry["curve"]],
        arrays={str(name): arrays[f"{number}/{place}"] for place, name in enumerate(names)},
    )
