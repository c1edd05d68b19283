"""Read objects from object storage, by the file systems of pyarrow.

Credentials and endpoints come from the environment alone, never from an address. Every wait has a
limit. A failure has the reason that it would have on the web.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple, TypeVar

from dedup.download.hosts import PATIENCE, RETRYABLE, UnreachableError
from dedup.download.validators import ETAG, UNKNOWN, Answer, Validators, place_of
from dedup.errors import FetchError

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS to a file with a key, or log in with gcloud",
    **dict.fromkeys(
        ("az", "abfs", "abfss"),
        "AZURE_STORAGE_ACCOUNT, and AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN",
    ),
    "hf": "HF_TOKEN, or log in with hf auth login",
}
"""Schemes of object storage, each with what to set in the environment, for messages."""
FORBIDDEN = ("http_401", "http_403", "no_credentials")
"""Reasons of an object that the credentials at hand may not read."""
ATTEMPTS = 5
"""Attempts to copy an object, at most."""
PASSING = RETRYABLE | {"changed"}
"""Reasons for which a copy is tried again, besides those of an ``UnreachableError``."""
PATIENCE_SECONDS = 15.0
"""Seconds without a byte after which a copy is given up."""
CONNECT_SECONDS, IDLE_SECONDS = 5.0, 5.0
"""Seconds to connect, and without a byte, in one request of a copy."""

_PIECE = 2**23
_ADDRESS = re.compile(rf"({'|'.join(CREDENTIALS)})://([^/]*)/(.+)", re.IGNORECASE | re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,221}")
_OF_ACCOUNT = re.compile(r"([^@:]+)@([a-z0-9]{3,24})\.dfs\.core\.windows\.net", re.IGNORECASE)

_STATUS = re.compile(r"HTTP status(?: code)?:? (\d{3})|Azure Error: \[\w*\] (\d{3})")
_CURL = re.compile(r"(?:curlCode: |CURL error \[)(\d+)")
_OF_CURL = {"6": "dns", "18": "truncated", "28": "timeout", "35": "tls", "60": "tls"}
_WORDS = (
    ("OAuth2 access token", "no_credentials"),
    ("ACCESS_DENIED", "http_403"),
    ("INVALID_ACCESS_KEY_ID", "http_403"),
    ("SIGNATURE_DOES_NOT_MATCH", "http_403"),
    ("SLOW_DOWN", "http_503"),
    ("SERVICE_UNAVAILABLE", "http_503"),
    ("THROTTLING", "http_503"),
    ("INTERNAL_FAILURE", "http_500"),
    ("Could not resolve", "dns"),
    ("Name or service not known", "dns"),
    ("Temporary failure in name resolution", "dns"),
    ("Connection refused", "connection"),
    ("Timeout was reached", "timeout"),
    ("NETWORK_CONNECTION", "connection"),
    ("get a new connection", "connection"),
    ("Error while sending request", "connection"),
    ("UNAVAILABLE", "connection"),
)
"""Words of pyarrow's errors, each with the reason; the first that is there counts."""
_UNREACHABLE = ("connection", "dns", "timeout")
_DETAILS = {
    "connection": "no connection to the object storage",
    "dns": "the name of the object storage's host is unknown",
    "no_credentials": "the environment has no credentials, or their server does not answer",
    "timeout": "no answer in time",
    "tls": "the TLS handshake failed",
    "truncated": "the connection closed before the object was complete",
}

T = TypeVar("T")


class Place(NamedTuple):
    """Place of an object.

    Attributes:
        scheme: in lower case, such as ``s3``.
        bucket: bucket or container.
        path: bucket and key, as pyarrow names the object.
        account: account that an Azure address names; "" for none.
    """

    scheme: str
    bucket: str
    path: str
    account: str = ""

    @property
    def origin(self) -> str:
        """Scheme and bucket."""
        return f"{self.scheme}://{self.bucket}"


def is_bucket(address: str) -> bool:
    """Tell whether an address has a scheme of object storage."""
    scheme, sign, _ = address.partition("://")
    return bool(sign) and scheme.lower() in CREDENTIALS


def read_place(address: str) -> Place:
    """Parse an address such as ``s3://bucket/key``; the key is taken as it is written.

    Raises:
        FetchError: ``bad_url``, for no bucket and key, or a name or password before the bucket.
    """
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise FetchError("bad_url", "expected a bucket and a key, as in s3://bucket/folder/1.jpg")
    scheme, bucket, key = match[1].lower(), match[2], match[3]
    account = ""
    if scheme in ("abfs", "abfss") and (both := _OF_ACCOUNT.fullmatch(bucket)):
        bucket, account = both[1], both[2].lower()
    if "@" in bucket:
        raise FetchError(
            "bad_url",
            "a name or password stands before the bucket, and credentials come from the "
            f"environment alone: remove it, and set {CREDENTIALS[scheme]}",
        )
    if not _BUCKET.fullmatch(bucket):
        raise FetchError("bad_url", "no bucket has such a name")
    return Place(scheme, bucket, f"{bucket}/{key}", account)


@dataclass
class Buckets:
    """File systems of object storage, each opened once.

    Args:
        connect_timeout: seconds to connect.
        idle_timeout: seconds without a byte.
        attempts: attempts of one request within pyarrow.
    """

    connect_timeout: float
    idle_timeout: float
    attempts: int = 1
    _systems: dict[str, Any] = field(default_factory=dict)

    def fetch(self, address: str, max_bytes: int, before: Validators = UNKNOWN) -> Answer:
        """Fetch an object, if it changed.

        Args:
            address: address of object storage.
            max_bytes: largest object.
            before: validators of the object that is known already.

        Raises:
            FetchError: ``bad_url``, ``not_found``, ``http_403`` and the like, ``no_credentials``,
                ``connection``, ``dns``, ``timeout``, ``tls``, ``truncated``, ``too_large``,
                ``empty``, or ``unreadable`` for all else.
        """
        with self.opened(address) as thing:
            validators = Validators(etag=thing.etag, place=place_of(address))
            if thing.etag and validators == before:
                return Answer(None, before)
            if (thing.size or 0) > max_bytes:
                raise FetchError("too_large", f"{thing.size} bytes, more than {max_bytes}")
            body = thing.read(max_bytes + 1)
        if len(body) > max_bytes:
            raise FetchError("too_large", f"more than {max_bytes} bytes")
        thing.check_size(len(body))
        if not body:
            raise FetchError("empty", "the object is empty")
        return Answer(body, validators)

    @contextmanager
    def opened(self, address: str) -> Iterator[Opened]:
        """Open an object, with what its storage says of it; see ``fetch`` for errors."""
        place = read_place(address)
        with _translated():
            stream = self._system(place).open_input_stream(place.path, compression=None)
        with stream:
            with _translated():
                metadata = stream.metadata() or {}
            yield Opened.of(stream, metadata)

    def _system(self, place: Place) -> Any:
        if place.origin not in self._systems:  # two threads may make two, and one is kept
            self._systems.setdefault(place.origin, _MAKERS[place.scheme](place, self))
        return self._systems[place.origin]


class Opened(NamedTuple):
    """An open object.

    Attributes:
        stream: its bytes.
        etag: in quotes, changes with the content; "" for none.
        size: in bytes; ``None`` if unknown.
    """

    stream: Any
    etag: str
    size: int | None

    @classmethod
    def of(cls, stream: Any, metadata: Mapping[str, bytes]) -> Opened:
        """Read the metadata of pyarrow, whose names depend on the storage."""
        known = {name.lower(): value.decode("latin-1") for name, value in metadata.items()}
        etag, size = known.get("etag", ""), known.get("content-length") or known.get("size") or ""
        etag = etag if etag.startswith(('"', "W/")) or not etag else f'"{etag}"'
        is_usable = re.fullmatch(ETAG, etag) is not None
        return cls(stream, etag if is_usable else "", int(size) if size.isdigit() else None)

    def read(self, n_bytes: int) -> bytes:
        """Read the next bytes, at most so many; see ``Buckets.fetch`` for errors."""
        with _translated():
            body: bytes = self.stream.read(n_bytes)
        return body

    def check_size(self, n_bytes: int) -> None:
        """Check that the whole object was read.

        Raises:
            FetchError: ``truncated``.
        """
        if self.size is not None and n_bytes != self.size:
            raise FetchError("truncated", f"{n_bytes} bytes of {self.size}")


def copy(address: str, target: Path, known: str = "") -> str:
    """Copy an object into a file, unless it is the one that is known.

    Args:
        address: address of object storage.
        target: file to write.
        known: ETag of the object that was copied before; "" for none.

    Returns:
        ETag of the object; "" if its storage has none.

    Raises:
        FetchError: see ``Buckets.fetch``; after several attempts, or some time without a byte.
        OSError: the file cannot be written.
    """
    progress = _Progress(monotonic())
    answer = in_thread(lambda: _copied(address, target, known, progress))
    while not answer.done():
        left = progress.latest + PATIENCE_SECONDS - monotonic()
        if left <= 0:
            raise progress.failure
        with suppress(TimeoutError):
            answer.result(left)
    return answer.result()


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Run a function in a thread that a stopping process leaves behind."""
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def run() -> None:
        try:
            answer.set_result(function())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer


@dataclass
class _Progress:
    """Progress of a copy.

    Attributes:
        latest: time of the latest byte.
        failure: of the latest attempt.
    """

    latest: float
    failure: FetchError = field(
        default_factory=lambda: UnreachableError("timeout", f"no byte in {PATIENCE_SECONDS:.0f} s")
    )


def _copied(address: str, target: Path, known: str, progress: _Progress) -> str:
    """Copy an object with further attempts."""
    buckets = Buckets(CONNECT_SECONDS, IDLE_SECONDS, attempts=3)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _copied_once(buckets, address, target, known, progress)
        except FetchError as error:
            progress.failure = error
            is_passing = isinstance(error, UnreachableError) or error.reason in PASSING
            if not is_passing or attempt == (2 if error.reason == "dns" else ATTEMPTS):
                raise
            sleep(PATIENCE.between(attempt))
    raise AssertionError("the last attempt returns or raises")


def _copied_once(
    buckets: Buckets, address: str, target: Path, known: str, progress: _Progress
) -> str:
    with buckets.opened(address) as thing:
        if known and thing.etag == known:
            return known
        size = 0
        with target.open("wb") as file:
            while piece := thing.read(_PIECE):
                size += file.write(piece)
                progress.latest = monotonic()
    thing.check_size(size)
    with buckets.opened(address) as after:
        if after[1:] != thing[1:]:
            raise FetchError("changed", "it changed while it was read")
    return thing.etag


def _s3(place: Place, settings: Buckets) -> Any:
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(place.bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=settings.connect_timeout,
        request_timeout=settings.idle_timeout,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=settings.attempts),
    )


def _gs(place: Place, settings: Buckets) -> Any:
    from pyarrow import fs

    endpoint = os.environ.get("STORAGE_EMULATOR_HOST", "")
    scheme, _, host = endpoint.rpartition("://")
    return fs.GcsFileSystem(
        anonymous=bool(endpoint),
        endpoint_override=host or None,
        scheme=(scheme or "http") if endpoint else None,
        retry_time_limit=timedelta(seconds=max(1.0, settings.connect_timeout)),
    )


def _azure(place: Place, settings: Buckets) -> Any:
    from pyarrow import fs

    known = os.environ
    account = known.get("AZURE_STORAGE_ACCOUNT") or known.get("AZURE_STORAGE_ACCOUNT_NAME") or ""
    key = known.get("AZURE_STORAGE_KEY") or known.get("AZURE_STORAGE_ACCOUNT_KEY")
    token = None if key else known.get("AZURE_STORAGE_SAS_TOKEN")
    if not account or not (key or token):  # pyarrow ends the process where it finds none itself
        raise FetchError("no_credentials", "the environment has no credentials")
    if place.account not in ("", account.lower()):
        raise FetchError("bad_url", "it names another account than AZURE_STORAGE_ACCOUNT")
    scheme, _, host = known.get("AZURE_STORAGE_BLOB_ENDPOINT", "").rstrip("/").rpartition("://")
    hosts = {"blob_storage_authority": host, "dfs_storage_authority": host} if host else {}
    schemes = {"blob_storage_scheme": scheme, "dfs_storage_scheme": scheme} if scheme else {}
    access = {"account_key": key} if key else {"sas_token": token}
    return fs.AzureFileSystem(account, **access, **hosts, **schemes)


def _hf(place: Place, settings: Buckets) -> Any:
    from pyarrow import fs

    try:
        from huggingface_hub import HfFileSystem
    except ImportError as error:
        raise FetchError(
            "no_package", "hf:// needs the package huggingface_hub: pip install huggingface_hub"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem()))


_MAKERS: dict[str, Callable[[Place, Buckets], Any]] = {
    "s3": _s3, "gs": _gs, "az": _azure, "abfs": _azure, "abfss": _azure, "hf": _hf,
}  # fmt: skip


@contextmanager
def _translated() -> Iterator[None]:
    """Translate the errors of pyarrow and of the file systems that it calls."""
    try:
        yield
    except (FetchError, MemoryError):
        raise
    except Exception as error:  # those of fsspec's file systems have no type in common
        raise _as_fetch_error(error) from error


def _as_fetch_error(error: Exception) -> FetchError:
    """Translate an error by its type or its text, which may hold a token and is left out."""
    text = str(error)
    if isinstance(error, FileNotFoundError) or re.search("Bucket '.*' not found", text):
        return FetchError("not_found", "no such bucket, or no such object in it")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if found := _STATUS.search(text):
        status = found[1] or found[2]
    words = (reason for sign, reason in _WORDS if sign in text)
    curl = _CURL.search(text)
    reason = next(words, "")
    if status and reason != "no_credentials":
        reason = f"http_{status}"
    elif curl and reason != "no_credentials":
        reason = _OF_CURL.get(curl[1], "connection")
    elif not reason:
        reason = "http_403" if isinstance(error, PermissionError) else "unreadable"
    if reason.startswith("http_"):
        return FetchError(reason, f"the storage answered with status {reason[5:]}")
    detail = _DETAILS.get(reason) or re.sub(r"\?[^\s']*", "", text.partition("\n")[0])[:200]
    return (UnreachableError if reason in _UNREACHABLE else FetchError)(reason, detail)
