"""Tables and images in object storage, read from a server on the loopback as from a disk."""

from __future__ import annotations

import gzip
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.config.limits import check_limits
from dedup.download.buckets import CREDENTIALS
from dedup.download.client import SCHEMES, Fetcher
from dedup.download.hosts import Patience
from dedup.errors import ConfigError, SourceError
from dedup.pipeline.freshness import changes_since, describe_table, warn_of_changed_table
from dedup.search.index import Index
from dedup.sources.auto import AutoSource
from dedup.sources.csv import CsvSource
from dedup.sources.jsonl import JsonlSource
from dedup.sources.merchant import MerchantSource
from dedup.sources.parquet import ParquetSource
from dedup.sources.table_copies import table_path
from dedup.store.image_store import ImageStore
from tests.conftest import draw, encoded
from tests.conftest import run as run_command
from tests.store.test_image_store import asking_for
from tests.support.buckets import Proxy, Storage, storage

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("moto") is None, reason="moto, the server of S3, is not installed"
)

Serve = Callable[..., str]

COLUMNS = ["productId", "title", "imageUrlStr"]
ROWS = [("P1", "Skirt, 40 %", "a.jpg"), ("P2", "Größe", "https://x.test/2.jpg")]
CSV = "".join(f'"{a}","{b}","{c}"\n' for a, b, c in [COLUMNS, *ROWS]).encode()
JSONL = b'{"productId": "P1", "title": "t", "imageUrlStr": "https://x.test/1.jpg"}\n'
FEED = (
    b'<rss xmlns:g="http://base.google.com/ns/1.0"><channel><item><g:id>P1</g:id><title>t</title>'
    b"<g:image_link>https://x.test/1.jpg</g:image_link></item></channel></rss>"
)
SHOPIFY = b"Handle,Title,Image Src\nskirt,Skirt,https://x.test/1.jpg\n"
QUICK = Patience(backoff=0.05)
IMAGES = [encoded(draw(number)) for number in range(60)]


def zipped(name: str, body: bytes) -> bytes:
    """A ZIP archive of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, body)
    return buffer.getvalue()


def as_parquet() -> bytes:
    """The rows as a Parquet file."""
    buffer = io.BytesIO()
    columns = dict(zip(COLUMNS, map(list, zip(*ROWS, strict=True)), strict=True))
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    with storage() as found:
        yield found


@pytest.fixture
def bucket(server: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """The server, found by this process."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def unsteady(bucket: Storage, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A proxy before the server that breaks a fifth of the answers."""
    proxy = Proxy(bucket.address, share=0.2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", serve(handler=proxy.handler()))
    return proxy


TABLES = {
    "csv": ("products.csv", CSV, CsvSource),
    "csv.gz": ("products.csv.gz", gzip.compress(CSV), CsvSource),
    "csv.zip": ("products.zip", zipped("products.csv", CSV), CsvSource),
    "cp1252": ("odd.csv", CSV.decode().encode("cp1252"), CsvSource),
    "jsonl": ("products.jsonl", JSONL, JsonlSource),
    "parquet": ("products.parquet", as_parquet(), ParquetSource),
    "merchant": ("feed.xml", FEED, MerchantSource),
    "auto_csv": ("some.csv", CSV, AutoSource),
    "auto_shopify": ("export.csv", SHOPIFY, AutoSource),
    "auto_merchant": ("a feed.xml", FEED, AutoSource),
    "auto_parquet": ("table", as_parquet(), AutoSource),
    "auto_jsonl": ("50%20off?#.jsonl", JSONL, AutoSource),
}


@pytest.mark.parametrize(("name", "body", "kind"), TABLES.values(), ids=TABLES)
def test_a_table_is_read_as_from_a_disk(
    bucket: Storage, tmp_path: Path, name: str, body: bytes, kind: type
) -> None:
    (tmp_path / name).write_bytes(body)
    address = bucket.put(f"feeds/{name}", body)
    there, here = kind(address), kind(str(tmp_path / name))
    found, expected = there.read(), here.read()
    pd.testing.assert_frame_equal(found.products, expected.products)
    urls = [url.replace(str(tmp_path), "s3://shop/feeds") for url in expected.requests["url"]]
    assert found.requests["url"].tolist() == urls
    assert there.check() == here.check()
    assert there.digest() == here.digest()


def test_a_table_is_read_through_broken_answers(unsteady: Proxy, server: Storage) -> None:
    address = server.put("often.csv", CSV)
    unsteady.share = 0.6
    assert CsvSource(address).read().products["title"].tolist() == ["Skirt, 40 %", "Größe"]
    assert unsteady.n_broken > 0


LOCATIONS = {
    "relative": ("images/1.jpg", "s3://shop/feeds/images/1.jpg", ""),
    "absolute": ("s3://other/ä b%20c?d.jpg", "s3://other/ä b%20c?d.jpg", ""),
    "upper case": ("S3://Shop/1.jpg", "s3://Shop/1.jpg", ""),
    "above": ("../1.jpg", "../1.jpg", "outside_folder"),
    "root": ("/etc/passwd", "/etc/passwd", "outside_folder"),
    "password": ("s3://key:secret@shop/1.jpg", "s3://key:secret@shop/1.jpg", "bad_url"),
    "no key": ("s3://shop", "s3://shop", "bad_url"),
    "no bucket": ("s3:///1.jpg", "s3:///1.jpg", "bad_url"),
}


@pytest.mark.parametrize(("cell", "url", "reason"), LOCATIONS.values(), ids=LOCATIONS)
def test_the_addresses_in_a_table(bucket: Storage, cell: str, url: str, reason: str) -> None:
    table = f'productId,title,imageUrlStr\nP1,t,"{cell}"\nP2,t,https://x.test/2.jpg\n'
    requests = CsvSource(bucket.put("feeds/cells.csv", table.encode())).read().requests
    assert requests.loc[0, ["url", "reason"]].tolist() == [url, reason]


def test_a_table_that_is_replaced_is_copied_again(bucket: Storage) -> None:
    address = bucket.put("changing.csv", CSV)
    first = table_path(address)
    assert table_path(address) is first
    before = CsvSource(address).digest()
    bucket.put("changing.csv", CSV.replace(b"Skirt", b"Shirt"))
    assert CsvSource(address).digest() != before
    assert CsvSource(address).read().products["title"][0] == "Shirt, 40 %"


def stored(folder: Path, addresses: list[str], **settings: object) -> ImageStore:
    """A store into which images were read."""
    known: dict[str, object] = {"schemes": [*SCHEMES, "s3"], "patience": QUICK, **settings}
    store = ImageStore(folder, fetcher=Fetcher(**known), workers=1)  # type: ignore[arg-type]
    store.ingest(asking_for(*([address] for address in addresses)), folder.parent)
    return ImageStore(folder)


def test_images_are_the_same_as_from_a_disk_through_broken_answers(
    unsteady: Proxy, server: Storage, tmp_path: Path
) -> None:
    paths, addresses = [], []
    for number, image in enumerate(IMAGES):
        paths.append(str(tmp_path / f"{number:02}.jpg"))
        Path(paths[-1]).write_bytes(image)
        addresses.append(server.put(f"images/{number:02}.jpg", image))
    there = stored(tmp_path / "there" / "store", addresses)
    here = stored(tmp_path / "here" / "store", paths)
    facts = ["sha256_bytes", "sha256_pixels", "width", "height", "contrast", "status"]
    pd.testing.assert_frame_equal(
        there.entries.loc[addresses, facts].reset_index(drop=True),
        here.entries.loc[paths, facts].reset_index(drop=True),
    )
    assert np.array_equal(there.read(there.rows(addresses)), here.read(here.rows(paths)))
    for mine, other in zip(there.details(addresses), here.details(paths), strict=True):
        assert np.array_equal(mine, other)
    assert unsteady.n_broken > 10


def failures(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "failures.csv", keep_default_na=False).set_index("failure_url")


def test_what_cannot_be_read_has_one_reason(bucket: Storage, tmp_path: Path) -> None:
    good, empty = bucket.put("good.jpg", IMAGES[0]), bucket.put("empty.jpg", b"")
    large = bucket.put("large.jpg", b"x" * 10_000_000)
    gone, nowhere = "s3://shop/gone.jpg", "s3://no-such-bucket/1.jpg"
    addresses = [good, empty, large, gone, nowhere, "gs://shop/1.jpg"]
    stored(tmp_path / "store", addresses, max_bytes=5_000_000)
    table = failures(tmp_path)
    assert table["failure_reason"].to_dict() == {
        empty: "empty", large: "too_large", gone: "not_found", nowhere: "not_found",
        "gs://shop/1.jpg": "blocked_scheme",
    }  # fmt: skip
    assert "fetch.schemes=[http,https,file,s3,gs]" in table["failure_detail"]["gs://shop/1.jpg"]


def test_a_table_reads_no_bucket_and_no_file_by_itself(
    unsteady: Proxy, server: Storage, tmp_path: Path
) -> None:
    secret = server.put("secret.jpg", IMAGES[0])
    here = tmp_path / "here.jpg"
    here.write_bytes(IMAGES[1])
    stored(tmp_path / "store", [secret, str(here)], schemes=["file"])
    assert failures(tmp_path)["failure_reason"].to_dict() == {secret: "blocked_scheme"}
    assert unsteady.n_answers == 0
    store = stored(tmp_path / "store", [secret, str(here)])  # read at once when it may be
    assert (store.entries.loc[[secret, str(here)], "status"] == "ok").all()
    with pytest.raises(SourceError, match=r"blocked_scheme \(fetch.schemes=\[http,https,file,s3\]"):
        stored(tmp_path / "other" / "store", [str(here)], schemes=["s3"])


def test_an_image_that_stays_costs_no_body(
    unsteady: Proxy, server: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    addresses = [server.put(f"fresh/{n}.jpg", IMAGES[n]) for n in range(3)]
    unsteady.share = 0
    stored(tmp_path / "store", addresses)
    server.put("fresh/1.jpg", IMAGES[5])
    unsteady.n_answers = 0
    fetcher = Fetcher(schemes=["s3"])
    again = ImageStore(tmp_path / "store", fetcher=fetcher, workers=1, refresh=True)
    with caplog.at_level("INFO"):
        again.ingest(asking_for(*([address] for address in addresses)), tmp_path)
    assert "asked 3 web addresses again: 2 unchanged, 1 replaced" in caplog.text
    assert unsteady.n_answers == 4  # three heads, and one body


@pytest.mark.parametrize("scheme", [*CREDENTIALS, *SCHEMES])
def test_each_scheme_may_be_set(scheme: str) -> None:
    check_limits({"fetch": {"schemes": [scheme]}})


@pytest.mark.parametrize("value", [[], ["ftp"], "s3", None])
def test_other_schemes_may_not_be_set(value: object) -> None:
    with pytest.raises(ConfigError, match=r"fetch\.schemes=.*expected a list of some of http, "):
        check_limits({"fetch": {"schemes": value}})


def test_an_index_tells_that_its_table_changed(
    bucket: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = CsvSource(bucket.put("indexed.csv", CSV))
    described = describe_table(source)
    assert described["table"]["path"] == "s3://shop/indexed.csv"
    images = pd.DataFrame({"url": [""], "status": "failed", "reason": "no_url"})
    index = Index.__new__(Index)
    object.__setattr__(index, "manifest", described)
    object.__setattr__(index, "images", images)
    assert changes_since(index, source, None) == ""
    warn_of_changed_table(index, tmp_path, tmp_path)
    assert not caplog.records
    bucket.put("indexed.csv", CSV + b'"P3","t","c.jpg"\n')
    expected = "s3://shop/indexed.csv has changed since the index was made"
    assert changes_since(index, source, None) == expected
    warn_of_changed_table(index, tmp_path, tmp_path)
    assert f"{expected}, and this is about the table as it was" in caplog.text
    gone = {"table": {**described["table"], "path": "s3://shop/gone.csv"}}
    object.__setattr__(index, "manifest", gone)
    assert changes_since(index, CsvSource("s3://shop/gone.csv"), None) == ""


def test_commands_read_a_shop_from_a_bucket(server: Storage, tmp_path: Path) -> None:
    rows = [f"P{number},t,images/{number}.jpg\n" for number in (0, 1, 2, 3, 0)]
    for number in range(4):
        server.put(f"whole/images/{number}.jpg", IMAGES[number])
    table = "productId,title,imageUrlStr\n" + "".join(rows).replace("P0", "P9", 1)
    address = server.put("whole/products.csv", table.encode())
    settings = [
        *("encoder=bundled", "verifier=none", f"source.path={address}", "source=auto"),
        *("store.workers=1", "fetch.schemes=[http,https,file,s3]"),
    ]
    done = run_command("detect", *settings, cwd=tmp_path, **server.environment)
    assert "read 5 images of 5 products" in done.stderr
    groups = pd.read_csv(tmp_path / "runs" / "detect" / "latest" / "groups.csv")
    assert set(groups["product_id"]) == {"P0", "P9"}


MISSING = {
    "key": ("s3://shop/gone.csv", "s3://shop/gone.csv is not there (no such bucket"),
    "bucket": ("s3://nowhere/a.csv", "s3://nowhere/a.csv is not there (no such bucket"),
    "password": (
        "s3://k:secret@shop/a.csv",
        "s3://...@shop/a.csv is no address of a table",
    ),
    "azure": ("az://box/a.csv", "az://box/a.csv may not be read (the environment has no"),
    "package": ("hf://datasets/a/b/c.csv", "hf:// needs the package huggingface_hub"),
}


@pytest.mark.parametrize(("address", "message"), MISSING.values(), ids=MISSING)
def test_a_table_that_cannot_be_read_ends_a_command(
    server: Storage, tmp_path: Path, address: str, message: str
) -> None:
    if address.startswith("hf:") and importlib.util.find_spec("huggingface_hub"):
        pytest.skip("huggingface_hub is installed")
    done = run_command("detect", address, cwd=tmp_path, code=2, **server.environment)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "secret" not in done.stderr
