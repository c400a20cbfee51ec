"""A connection to a Ray cluster, and what a worker is to it."""

import contextlib
import dataclasses
import importlib
import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from nst_jax.request.errors import OptionError

_KNOCK_S = 10.0


def import_ray() -> Any:
    """The package.

    Raises:
        OptionError: It is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise OptionError(
            "engine ray needs the package ray, which is not installed", "pip install 'nst-jax[ray]'"
        ) from error


@dataclasses.dataclass(frozen=True)
class WorkerResources:
    """What each worker asks of the cluster, in the words of Ray, and how many there are."""

    count: int
    options: Mapping[str, Any]


class Cluster:
    """A connection to a cluster; use it in a `with` block. One that was there already stays.

    Attributes:
        ray: The package.
    """

    def __init__(self, ray: Any, address: str) -> None:
        self.ray = ray
        self._address = address
        self._is_ours = not ray.is_initialized()

    def __enter__(self) -> "Cluster":
        if self._is_ours:
            where = self._address or os.environ.get("RAY_ADDRESS") or None
            try:
                _check_reachable(where)
                with _keep_signal_handler(), warnings.catch_warnings():
                    # Ray's children begin another program at once, and never wait for a lock.
                    warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
                    self.ray.init(address=where, log_to_driver=False, logging_level="error")
            except (OSError, RuntimeError, ValueError) as error:
                first_line = str(error).strip().split("\n")[0]
                raise OptionError(
                    f"the Ray cluster at {where or 'this machine'} can't be reached: {first_line}",
                    "Start one with `ray start --head`, or name another --address",
                ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self.ray.shutdown()

    def worker_resources(self, workers: int) -> WorkerResources:
        """One worker a GPU, a TPU host, or else a node with all its cores; 0: of all there are."""
        nodes = [node["Resources"] for node in self._alive_nodes()]
        if gpus := sum(int(node.get("GPU", 0)) for node in nodes):
            return WorkerResources(workers or gpus, {"num_gpus": 1})
        if tpus := [int(node["TPU"]) for node in nodes if node.get("TPU")]:
            return WorkerResources(workers or len(tpus), {"resources": {"TPU": min(tpus)}})
        cores = [int(node["CPU"]) for node in nodes if node.get("CPU")]
        least = min(cores, default=1)
        count = workers or sum(one // least for one in cores) or 1
        return WorkerResources(count, {"num_cpus": least})

    def lost_nodes(self) -> int:
        """How many nodes have gone so far."""
        return len(self.ray.nodes()) - len(self._alive_nodes())

    def _alive_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def _keep_signal_handler() -> Iterator[None]:
    """Puts back the handler of SIGTERM, which Ray replaces by one that exits after a dump."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _check_reachable(where: str | None) -> None:
    """Finds out in seconds what Ray would take minutes for: whether anybody is there.

    Raises:
        OSError: Nobody is.
    """
    found = re.fullmatch(r"\[?([^/\[\]]+?)\]?:(\d{1,5})", where or "")
    if found:
        socket.create_connection((found[1], int(found[2])), _KNOCK_S).close()
