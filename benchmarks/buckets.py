"""Do images from object storage make the same store as files, where answers break?

    python benchmarks/buckets.py

Draws images, and reads them into two stores: from files, and from moto's server of S3 behind a
proxy that breaks a share of the answers (503, or cut). The server, the proxy and the reader are
processes of their own. The settings are the defaults, but for fetch.schemes.

It needs ``moto[s3]``, ``flask`` and ``flask-cors``, as the tests do.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from dedup.store.image_store import ImageStore

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.conftest import Server
from tests.support.buckets import Proxy, storage

INGEST = """
import sys
from pathlib import Path
from dedup.download.client import SCHEMES, Fetcher
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore

folder = Path(sys.argv[2])
store = ImageStore(folder / "store", fetcher=Fetcher(schemes=[*SCHEMES, "s3"]))
store.ingest(CsvSource(sys.argv[1]).read(), folder)
"""
FACTS = ["status", "sha256_bytes", "sha256_pixels", "width", "height", "contrast"]


def drawn(number: int) -> bytes:
    """Draw the file of an image like no other."""
    noise = np.random.default_rng(number).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((300, 400), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def ingested(table: str, folder: Path, environment: dict[str, str]) -> float:
    """Read a table's images into a store; return the seconds."""
    folder.mkdir()
    start = time.perf_counter()
    command = [sys.executable, "-c", INGEST, table, str(folder)]
    subprocess.run(command, check=True, env=environment)
    return time.perf_counter() - start


def are_equal(one: ImageStore, other: ImageStore, names: list[tuple[str, str]]) -> bool:
    """Compare two stores: the facts, the pixels and the previews of all images."""
    lefts, rights = [left for left, _ in names], [right for _, right in names]
    if (one.rows(lefts) < 0).any() or (other.rows(rights) < 0).any():
        return False
    facts = one.entries.loc[lefts, FACTS].to_numpy() == other.entries.loc[rights, FACTS].to_numpy()
    pixels = np.array_equal(one.read(one.rows(lefts)), other.read(other.rows(rights)))
    details = zip(one.details(lefts), other.details(rights), strict=True)
    return bool(facts.all()) and pixels and all(np.array_equal(*both) for both in details)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--share", type=float, default=0.2, help="of the answers that break")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, storage() as server:
        folder = Path(place)
        (folder / "images").mkdir()
        names = [f"images/{number:05}.jpg" for number in range(options.images)]
        for number, name in enumerate(names):
            (folder / name).write_bytes(drawn(number))
        rows = "".join(f"P{name[7:12]},Drawn,{name}\n" for name in names)
        table = f"productId,title,imageUrlStr\n{rows}".encode()
        (folder / "products.csv").write_bytes(table)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: server.put(name, (folder / name).read_bytes()), names))
        server.put("products.csv", table)
        proxy = Proxy(server.address, options.share)
        front = Server(("127.0.0.1", 0), proxy.handler())
        threading.Thread(target=front.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{front.server_port}"
        environment = {**os.environ, **server.environment, "AWS_ENDPOINT_URL": address}
        files = ingested(str(folder / "products.csv"), folder / "files", environment)
        bucket = ingested("s3://shop/products.csv", folder / "bucket", environment)
        front.shutdown()
        pairs = [(f"s3://shop/{name}", str((folder / name).resolve())) for name in names]
        stores = [ImageStore(folder / name / "store") for name in ("bucket", "files")]
        n_ok = int((stores[0].entries["status"] == "ok").sum())
        print("| images | read | answers | broken | from files, s | from the bucket, s | equal |")
        print("|---:|---:|---:|---:|---:|---:|---|")
        print(
            f"| {options.images:,} | {n_ok:,} | {proxy.n_answers:,} | {proxy.n_broken:,} "
            f"| {files:.1f} | {bucket:.1f} | {'yes' if are_equal(*stores, pairs) else 'NO'} |"
        )


if __name__ == "__main__":
    main()
