"""Jobs in mid-schedule from one run to the next, in one file of the output folder.

The file says of each job its output's name, its fingerprint and where it stands. The next run
takes up those whose fingerprint it asks for; a file that is damaged, foreign or out of date
costs time and nothing else.
"""

import concurrent.futures
from collections.abc import Iterable, Mapping
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
    """The jobs in mid-schedule of one run, in a file.

    Attributes:
        snapshots: Where unfinished jobs stand, by their index; as far as it is known.
    """

    def __init__(
        self,
        folder: Folder | None,
        jobs: Iterable[ExaminedJob],
        progress: Progress,
        *,
        name: str = STATE_NAME,
        others: Iterable[str] = (),
    ) -> None:
        """Loads what an earlier run has saved.

        Args:
            folder: Where the file lies; None: nothing is saved.
            jobs: Those of this run that are not finished.
            progress: Told when nothing can be saved.
            name: The file's.
            others: Files of workers that are no more; they are loaded too, and removed at the end.
        """
        self._folder, self._progress, self._names = folder, progress, (*others, name)
        self._jobs = {job.index: job for job in jobs}
        self.snapshots: dict[int, JobSnapshot] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._writing: concurrent.futures.Future[int] | None = None
        if folder:
            for one in self._names:
                self._load(folder, one)

    @property
    def steps_taken(self) -> int:
        """Steps that need not be taken again."""
        return sum(snapshot.step_count for snapshot in self.snapshots.values())

    def __enter__(self) -> "CheckpointFile":
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for what is under way."""
        self._thread.shutdown()

    def save(self, snapshots: Iterable[JobSnapshot]) -> int:
        """Writes where these jobs stand, beside those that are still to be taken up.

        Returns:
            How many jobs the file holds; 0 where it can't be written.
        """
        self._wait()
        self.snapshots |= {snapshot.index: snapshot for snapshot in snapshots}
        return self._write(self.snapshots)

    def save_behind(self, snapshots: Iterable[JobSnapshot]) -> None:
        """The same in a thread of its own; waits for what it was given before."""
        self._wait()
        self.snapshots |= {snapshot.index: snapshot for snapshot in snapshots}
        self._writing = self._thread.submit(self._write, dict(self.snapshots))

    def _wait(self) -> None:
        if self._writing:
            self._writing.result()

    def _write(self, snapshots: Mapping[int, JobSnapshot]) -> int:
        if not snapshots or self._folder is None:
            return 0
        try:
            with self._folder.open_atomic(self._names[-1]) as file:
                write_archive(file, *_pack(snapshots, self._jobs))
        except OSError as error:
            self._progress.note(f"the jobs in mid-schedule can't be kept: {reason_of(error)}")
            return 0
        return len(snapshots)

    def discard(self, index: int) -> None:
        """Forgets a job that has its result."""
        self.snapshots.pop(index, None)

    def remove(self) -> None:
        """Removes the files: every job has its result."""
        self._wait()
        if self._folder:
            for name in self._names:
                self._folder.remove(name)

    def _load(self, folder: Folder, name: str) -> None:
        """Adds what a file has, where it is further than what is known."""
        try:
            if (content := folder.read(name)) is None:
                return
            header, arrays = read_archive(content)
            found = _unpack(header, arrays, self._jobs)
        except (OSError, ValueError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else error
            self._progress.note(f"{name} is passed over: {reason}")
            return
        outputs = {one.job.output for one in self._jobs.values()}
        if changed := sum(entry["job"] in outputs for entry in header) - len(found):
            self._progress.note(
                f"{changed} of the jobs in mid-schedule in {name} are other jobs now "
                "(inputs, options, weights or method): they begin anew"
            )
        for snapshot in found:
            known = self.snapshots.get(snapshot.index)
            if known is None or known.step_count < snapshot.step_count:
                self.snapshots[snapshot.index] = snapshot


def _pack(
    snapshots: Mapping[int, JobSnapshot], jobs: Mapping[int, ExaminedJob]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A header for the file, and its arrays by job and name."""
    header: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for number, snapshot in enumerate(snapshots.values()):
        job = jobs[snapshot.index]
        whose = {"job": job.job.output, "fingerprint": job.fingerprint}
        header.append(vars(snapshot) | whose | {"arrays": list(snapshot.arrays)})
        for place, array in enumerate(snapshot.arrays.values()):
            arrays[f"{number}/{place}"] = array
    return header, arrays


def _unpack(
    header: Any, arrays: Mapping[str, np.ndarray], jobs: Mapping[int, ExaminedJob]
) -> list[JobSnapshot]:
    """The jobs of a file that this run asks for.

    Raises:
        ValueError: The header is another program's.
    """
    wanted = {(one.job.output, one.fingerprint): one.index for one in jobs.values()}
    try:
        return [
            JobSnapshot(
                index=wanted[key],
                level=int(entry["level"]),
                steps=int(entry["steps"]),
                seconds=float(entry["seconds"]),
                compile_seconds=float(entry["compile_seconds"]),
                losses={str(name): float(value) for name, value in entry["losses"].items()},
                curve=[LossPoint(int(step), *map(float, rest)) for step, *rest in entry["curve"]],
                arrays={name: arrays[f"{n}/{place}"] for place, name in enumerate(entry["arrays"])},
                is_transposed=bool(entry.get("is_transposed")),
            )
            for n, entry in enumerate(header)
            if (key := (entry["job"], entry["fingerprint"])) in wanted
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a foreign header: {error!r}") from error
