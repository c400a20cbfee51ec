"""What was made lately and may be wanted again: by key, bounded in bytes, for several threads."""

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Hashable
from typing import Any


class RecentCache:
    """Keeps what was used last, up to a number of bytes; larger things are not kept at all.

    What a key stands for follows from the key alone, so it is the same whether it was kept or made
    again.
    """

    def __init__(self, limit_bytes: int, count_bytes: Callable[[Any], int]) -> None:
        """Starts empty.

        Args:
            limit_bytes: How many bytes are kept at the most.
            count_bytes: How many a value has.
        """
        self._limit_bytes = limit_bytes
        self._count_bytes = count_bytes
        self._lock = threading.Lock()
        self._making: dict[Hashable, concurrent.futures.Future[Any]] = {}
        self._kept: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, made now where it is not there.

        One thread makes it; others that ask for the same key wait, and get what it raises too.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            future, is_mine = self._making.get(key), False
            if future is None:
                future, is_mine = concurrent.futures.Future(), True
                self._making[key] = future
        if is_mine:
            self._make(key, make, future)
        try:
            return future.result()
        finally:
            del future  # whose error would hold this frame, and by its callers a batch's arrays

    def forget(self) -> None:
        """Drops everything that is kept."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _make(
        self,
        key: Hashable,
        make: Callable[[], Any],
        future: concurrent.futures.Future[Any],
    ) -> None:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            future.set_exception(error)
            del future
            return
        with self._lock:
            del self._making[key]
            self._keep(key, value)
        future.set_result(value)

    def _keep(self, key: Hashable, value: Any) -> None:
        count = self._count_bytes(value)
        if count > self._limit_bytes:
            return
        self._kept[key] = value
        self._bytes += count
        while self._bytes > self._limit_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= self._count_bytes(dropped)
