"""An S3 server of our own on the loopback (moto's), whose answers can be made to fail."""

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from time import sleep
from typing import Any
from unittest import mock

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from nst_jax.files import storage

BUCKET = "bucket"

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
"""All that a client asks for in the environment, beside the endpoint."""

Request = tuple[str, str]
"""Its method and its path, such as `("PUT", "/bucket/out/x.png")`."""


@dataclasses.dataclass
class Store:
    """The server, and what it was asked.

    Attributes:
        requests: Every request so far, in order.
        fault: What becomes of a request before it is answered; see `failure`.
        page: Objects in one answer to a listing; 0: as many as S3 gives.
    """

    requests: list[Request] = dataclasses.field(default_factory=list)
    fault: Callable[[Request], int] = lambda request: 200
    page: int = 0

    @property
    def client(self) -> Any:
        """A plain client, which does not go through what is tested."""
        return boto3.client("s3")

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=name, Body=content)

    def get(self, name: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=name)

    def names(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def asked(self, method: str, part: str = "") -> list[str]:
        """The paths of the requests of one method that have a part in them."""
        return [path for asked, path in self.requests if asked == method and part in path]


@contextlib.contextmanager
def run_server() -> Iterator[Store]:
    """A server with an empty bucket, in threads of this process, whose environment names it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = Store()
    moto = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if not request[1].startswith("/moto-api"):
            store.requests.append(request)
            status = store.fault(request)
            if status != 200:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start(f"{status} Injected", [("Content-Type", "application/xml")])
                return [_ERROR % (_CODES[status], b"an injected fault")]
            if store.page and "list-type=2" in environ["QUERY_STRING"]:
                environ["QUERY_STRING"] += f"&max-keys={store.page}"
        return moto(environ, start)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
    try:
        with mock.patch.dict(os.environ, ENVIRONMENT | address):
            store.client.create_bucket(Bucket=BUCKET)
            yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_ERROR = b'<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>'
_CODES = {500: b"InternalError", 503: b"ServiceUnavailable", 403: b"AccessDenied"}


def reset(server: Store, monkeypatch: pytest.MonkeyPatch, *, emptied: str = "") -> Iterator[Store]:
    """For one test: the server healthy and empty below a name; pauses before a try are short."""
    monkeypatch.setattr(storage, "_BACK_OFF_S", 0.01)
    for name in server.names(emptied):
        server.remove(name)
    server.requests.clear()
    storage._open_file_system.cache_clear()
    yield server
    server.fault = failure(0)
    storage._open_file_system.cache_clear()


def failure(
    times: int, method: str = "", part: str = "", *, status: int = 500, seconds: float = 0
) -> Callable[[Request], int]:
    """A fault: the first so many requests of a kind get this status, so late; -1: all of them."""
    left = [times]

    def fault(request: Request) -> int:
        if request[0] != (method or request[0]) or part not in request[1] or not left[0]:
            return 200
        left[0] -= 1
        sleep(seconds)
        return status

    return fault


def every_other(status: int = 503) -> Callable[[Request], int]:
    """A fault: each request of the same method and path fails the first time."""
    met: set[Request] = set()

    def fault(request: Request) -> int:
        if request in met:
            met.remove(request)
            return 200
        met.add(request)
        return status

    return fault
