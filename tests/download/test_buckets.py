"""Addresses of object storage, and what its servers answer, by small servers on the loopback."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dedup.download import buckets
from dedup.download.buckets import CREDENTIALS, Buckets, copy, is_bucket, read_place
from dedup.download.client import Fetcher
from dedup.download.hosts import Patience, UnreachableError
from dedup.errors import FetchError

Serve = Callable[..., str]

BODY = b"an image"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
LONG_AGO = "Wed, 01 Jan 2020 00:00:00 GMT"
OBJECT = (  # as https://cloud.google.com/storage/docs/json_api/v1/objects has it
    b'{"kind": "storage#object", "name": "1.jpg", "bucket": "shop", "size": "%d", "etag": "CAE=",'
    b' "generation": "5", "updated": "2020-01-01T00:00:00Z", "timeCreated": "2020-01-01T00:00:00Z"}'
)


@dataclass
class Service:
    """A server of one object, as S3, Google and Azure answer.

    Attributes:
        status: of its answers; 0 to close the connection, -1 to say nothing.
        body: of the object.
        asked: methods and paths of the requests.
    """

    status: int = 200
    body: bytes = BODY
    asked: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def handler(self) -> type:
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def answer(self) -> None:
                service.asked.append(f"{self.command} {self.path}")
                if service.status <= 0:
                    service.ended.wait(0 if service.status == 0 else 20)
                    self.close_connection = True
                    return
                is_part = self.command == "GET" and "Google" not in self.headers["User-Agent"]
                is_description = "/storage/v1/" in self.path and "alt=media" not in self.path
                body = OBJECT % len(service.body) if is_description else service.body
                body = body if service.status == 200 else b""
                self.send_response(206 if is_part and body else service.status)
                for name, value in (
                    ("Content-Length", str(len(body))), ("ETag", '"v1"'),
                    ("Last-Modified", LONG_AGO), ("x-ms-creation-time", LONG_AGO),
                    ("x-ms-blob-type", "BlockBlob"), ("x-ms-server-encrypted", "true"),
                    ("x-ms-lease-state", "available"), ("x-ms-lease-status", "unlocked"),
                    ("Content-Type", "application/octet-stream"),
                    ("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}"),
                ):  # fmt: skip
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_GET = do_HEAD = answer  # noqa: N815

        return Handler


@pytest.fixture
def service(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service that this process finds as each of the three."""
    found = Service()
    address = serve(handler=found.handler())
    for name, value in {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
        "STORAGE_EMULATOR_HOST": address, "AZURE_STORAGE_BLOB_ENDPOINT": address,
        "AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": KEY,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return found


PLACES = {
    "s3://shop/a/1.jpg": ("s3", "shop", "shop/a/1.jpg", ""),
    "S3://shop/a b%20?c#d.jpg": ("s3", "shop", "shop/a b%20?c#d.jpg", ""),
    "gs://shop.test/ü": ("gs", "shop.test", "shop.test/ü", ""),
    "az://box/1": ("az", "box", "box/1", ""),
    "abfss://box@acc.dfs.core.windows.net/1": ("abfss", "box", "box/1", "acc"),
    "hf://datasets/a/b@main/1.csv": ("hf", "datasets", "datasets/a/b@main/1.csv", ""),
}


@pytest.mark.parametrize("address", PLACES)
def test_a_place(address: str) -> None:
    assert tuple(read_place(address)) == PLACES[address]


@pytest.mark.parametrize(
    "address",
    [
        *("s3://", "s3://shop", "s3://shop/", "s3:///1.jpg", "s3:/shop/1.jpg", "s3://a b/1.jpg"),
        *("s3://key@shop/1.jpg", "s3://key:secret@shop/1.jpg", "az://box:key@acc/1", "s3://../1"),
        *("abfs://box@acc.example.org/1", "gs://user@shop/1", "s3://shop:80/1", "s3a://shop/1"),
    ],
)
def test_no_place(address: str) -> None:
    with pytest.raises(FetchError) as error:
        read_place(address)
    assert error.value.reason == "bad_url"


@pytest.mark.parametrize("address", ["/s3://a/b", "s3:/a/b", "http://s3/1", "a.csv", "", "s3"])
def test_other_addresses_are_no_buckets(address: str) -> None:
    assert not is_bucket(address)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "abfs"])
def test_an_object_is_read_once_and_known_again(service: Service, scheme: str) -> None:
    address, storage = f"{scheme}://shop/1.jpg", Buckets(5, 5)
    first = storage.fetch(address, 100)
    assert first.image == BODY
    assert first.validators.etag in ('"v1"', '"CAE="')
    assert storage.fetch(address, 100, first.validators).image is None
    other = storage.fetch(f"{scheme}://shop/2.jpg", 100, first.validators)  # of another object
    assert other.image == BODY
    with pytest.raises(FetchError, match="too_large: 8 bytes, more than 7"):
        storage.fetch(address, 7)


STATUSES = {
    400: "http_400",
    401: "http_40[13]",
    403: "http_403",
    404: "not_found",
    503: "http_503|connection",
    0: "connection|truncated",
}


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_an_answer_has_its_reason(service: Service, scheme: str, status: int) -> None:
    service.status = status
    with pytest.raises(FetchError, match=STATUSES[status]):
        Buckets(1, 5, attempts=1).fetch(f"{scheme}://shop/1.jpg", 100)


@pytest.mark.parametrize(  # Azure's own attempts take six seconds
    ("scheme", "status"), [("s3", 503), ("s3", 0), ("gs", 503)]
)
def test_an_answer_is_tried_again(service: Service, scheme: str, status: int) -> None:
    service.status = status
    fetcher = Fetcher(attempts=1, connect_timeout=1, patience=Patience(backoff=0.01))
    with pytest.raises(FetchError, match=STATUSES[status]):
        fetcher.fetch(f"{scheme}://shop/1.jpg")
    assert len(service.asked) >= 2


def test_a_silent_server_costs_an_attempt_its_time(service: Service) -> None:
    service.status = -1
    with pytest.raises(UnreachableError, match="timeout"):  # the server hangs up after 20 s
        Fetcher(timeout=0.5, idle_timeout=60, attempts=1).fetch("s3://shop/1.jpg")
    service.ended.set()


def test_a_silent_server_ends_a_copy(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PATIENCE_SECONDS", 0.5)
    service.status = -1
    with pytest.raises(UnreachableError, match="timeout: no byte in 0 s"):
        copy("s3://shop/1.csv", tmp_path / "1.csv")
    service.ended.set()


def test_a_disk_that_refuses_a_copy_is_no_fault_of_the_storage(
    service: Service, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        copy("s3://shop/1.csv", tmp_path / "no such folder" / "1.csv")


NO_KEYS = {
    "az://box/1": (("AZURE_STORAGE_KEY",), "no_credentials"),
    "abfs://box/1": (("AZURE_STORAGE_ACCOUNT",), "no_credentials"),
    "abfs://box@other.dfs.core.windows.net/1": ((), "bad_url: it names another account"),
}


@pytest.mark.parametrize("address", NO_KEYS)
def test_without_credentials_nothing_is_asked(
    service: Service, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    absent, reason = NO_KEYS[address]
    for name in absent:
        monkeypatch.delenv(name)
    with pytest.raises(FetchError, match=reason):
        Buckets(1, 5).fetch(address, 100)
    assert service.asked == []


def test_every_scheme_has_its_file_system() -> None:
    assert buckets._MAKERS.keys() == CREDENTIALS.keys()
