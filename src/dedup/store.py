"""Each distinct picture fetched and decoded once, and kept so that random batches read fast.

A store is a folder of shards. A shard is ``shard-00000.npy``, the pixels of its pictures,
(n, 3, 200, 100) uint8, and ``shard-00000.parquet``, one row for each address with its digests,
status and place among the pixels. The table is written last: a shard without it was cut off and
is made again. Shards follow the order of the catalogue, so a run that was killed and run again
ends with the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from filelock import FileLock
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dedup.artifacts import (
    FORMAT,
    IMAGE_SHAPE,
    IMAGES,
    Catalogue,
    read_array,
    read_json,
    read_table,
    write_array,
    write_csv,
    write_json,
    write_table,
)
from dedup.decode import decode, resizer
from dedup.errors import ArtifactError, CorruptError, ImageError, SourceError
from dedup.fetch import fetch, version

log = logging.getLogger("dedup")

ENTRIES = pa.schema(
    [
        ("url", pa.string()),
        ("version", pa.string()),  # size and time of a file; a changed file is read again
        ("sha256_bytes", pa.string()),
        ("sha256_pixels", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("contrast", pa.float32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("row", pa.int64()),  # among the shard's pixels; -1 where it failed
    ]
)
FACTS = [name for name in ENTRIES.names if name not in ("url", "version", "row")]
THUMBNAIL_HEIGHT = 240


class Loaded(NamedTuple):
    """One address, read."""

    entry: dict[str, Any]
    pixels: npt.NDArray[np.uint8] | None


class ImageStore:
    """A folder of decoded pictures.

    Args:
        path: the folder; made when first needed.
        reader: how pictures are resized, see ``decode``. A store has one reader.
        workers: threads that fetch and decode.
        shard_rows: addresses in a shard; a killed run repeats at most so many.
        retry: read again what failed before.
    """

    def __init__(
        self,
        path: str | Path,
        reader: str = "pillow",
        workers: int = 16,
        shard_rows: int = 1024,
        retry: bool = False,
    ) -> None:
        self.path = Path(path)
        self.reader = reader
        self.workers = workers
        self.shard_rows = shard_rows
        self.retry = retry
        self._entries: pd.DataFrame | None = None
        self._shards: dict[int, npt.NDArray[np.uint8]] = {}

    def ingest(self, catalogue: Catalogue, report_dir: Path) -> pd.DataFrame:
        """Read every picture that the catalogue asks for and the store lacks.

        Where an address fails and the request has alternates, the next one is tried.

        Args:
            catalogue: what a source read.
            report_dir: where ``failures.csv`` goes, if anything is not ok.

        Returns:
            One row for each request, schema ``IMAGES``: bad pictures are rows with a reason.

        Raises:
            SourceError: not one picture could be read.
            ArtifactError: the store belongs to another reader or format.
            ConfigError: there is no such reader.
        """
        requests = catalogue.requests.reset_index(drop=True)
        open_rows = requests["status"] == ""
        urls = requests["url"].copy()
        turn = 0
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / "lock"):
            self._claim()
            while True:
                self._add(urls[open_rows].drop_duplicates().tolist())
                open_rows &= self._facts(urls)["status"] == "failed"
                open_rows &= requests["alternates"].str.len() > turn
                if not open_rows.any():
                    break
                urls[open_rows] = requests.loc[open_rows, "alternates"].str[turn]
                turn += 1
        images = self._images(requests, urls)
        _account(images, report_dir / "failures.csv")
        return images

    def rows(self, urls: Sequence[str]) -> npt.NDArray[np.int64]:
        """Where pictures lie, (n, 2) int64: shard and row; -1 for those the store lacks."""
        places = self.entries.reindex(list(urls))[["shard", "row"]].fillna(-1)
        return places.to_numpy(dtype=np.int64)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The pixels at (n, 2) places, (n, 3, 200, 100) uint8.

        Raises:
            ArtifactError: a shard is missing.
            CorruptError: a shard cannot be read, or holds fewer pictures than its table says.
        """
        pixels = np.empty((len(rows), *IMAGE_SHAPE), np.uint8)
        for shard in np.unique(rows[:, 0]):
            here = rows[:, 0] == shard
            pixels[here] = self._pixels(int(shard), rows[here, 1].max() + 1)[rows[here, 1]]
        return pixels

    def thumbnails(self, urls: Sequence[str]) -> dict[str, Image.Image]:
        """Small RGB pictures in their original aspect; addresses that are missing are left out."""
        rows = self.rows(urls)
        found = rows[:, 1] >= 0
        kept = [url for url, here in zip(urls, found, strict=True) if here]
        sizes = self.entries.loc[kept, ["width", "height"]].to_numpy()
        return {
            url: Image.fromarray(pixels.transpose(1, 2, 0)).resize(
                (max(1, round(THUMBNAIL_HEIGHT * min(width / height, 3))), THUMBNAIL_HEIGHT)
            )
            for url, pixels, (width, height) in zip(
                kept, self.read(rows[found]), sizes, strict=True
            )
        }

    def digest(self) -> str:
        """SHA-256 over what is in the store, whatever the order in which it came."""
        table = self.entries.sort_index()[FACTS].astype(str)
        lines = ("\t".join(row) for row in table.reset_index().to_numpy().tolist())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def entries(self) -> pd.DataFrame:
        """Every address in the store, by address, with its shard; the latest reading of each."""
        if self._entries is None:
            tables = [
                read_table(path).assign(shard=int(path.stem.removeprefix("shard-")))
                for path in sorted(self.path.glob("shard-*.parquet"))
            ]
            empty = ENTRIES.empty_table().to_pandas().assign(shard=np.int64())
            every = pd.concat(tables) if tables else empty
            self._entries = every.drop_duplicates("url", keep="last").set_index("url")
        return self._entries

    def _claim(self) -> None:
        """Check that the folder is this store's, or make it so; sweep up after a killed run."""
        resizer(self.reader)  # else a mistyped name would claim the folder for good
        manifest = {"format": FORMAT, "reader": self.reader, "image_shape": list(IMAGE_SHAPE)}
        file = self.path / "manifest.json"
        if file.exists():
            found = read_json(file, "a store", "delete the folder to make it anew")
            differing = [key for key in manifest if found.get(key) != manifest[key]]
            if differing:
                raise ArtifactError(
                    f"the store {self.path} was made with "
                    + ", ".join(f"{key}={found.get(key)}, not {manifest[key]}" for key in differing)
                    + ": name another folder with store.path=PATH"
                )
        else:
            write_json(manifest, file)
        for part in self.path.glob(".*.part"):
            part.unlink()
        self._entries = None

    def _add(self, urls: Sequence[str]) -> None:
        known = self.entries
        if self.retry:
            known = known[known["status"] == "ok"]
        versions = dict(zip(known.index, known["version"], strict=True))
        new = [url for url in urls if versions.get(url) != version(url)]
        if not new:
            return
        shard = int(self.entries["shard"].max()) + 1 if len(self.entries) else 0
        with (
            _progress() as progress,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            bar = progress.add_task("reading pictures", total=len(new))
            for start in range(0, len(new), self.shard_rows):
                loaded = []
                for one in pool.map(self._load, new[start : start + self.shard_rows]):
                    loaded.append(one)
                    progress.advance(bar)
                self._commit(shard + start // self.shard_rows, loaded)
        self._entries = None

    def _load(self, url: str) -> Loaded:
        entry: dict[str, Any] = dict.fromkeys(ENTRIES.names, "")
        entry |= {"url": url, "version": version(url), "row": -1}
        entry |= {"width": 0, "height": 0, "contrast": 0.0}
        try:
            data = fetch(url)
            entry["sha256_bytes"] = hashlib.sha256(data).hexdigest()
            picture = decode(data, self.reader)
        except ImageError as error:
            entry |= {"status": "failed", "reason": error.reason, "detail": error.detail}
            return Loaded(entry, None)
        entry["sha256_pixels"] = hashlib.sha256(picture.pixels.tobytes()).hexdigest()
        entry |= {"width": picture.width, "height": picture.height, "status": "ok"}
        entry["contrast"] = contrast(picture.pixels)
        return Loaded(entry, picture.pixels)

    def _commit(self, shard: int, loaded: Sequence[Loaded]) -> None:
        """Write one shard, pixels first: only its table makes it part of the store."""
        good: list[npt.NDArray[np.uint8]] = []
        for one in loaded:
            if one.pixels is not None:
                one.entry["row"] = len(good)
                good.append(one.pixels)
        pixels = np.stack(good) if good else np.empty((0, *IMAGE_SHAPE), np.uint8)
        write_array(pixels, self.path / f"shard-{shard:05}.npy")
        table = pd.DataFrame([one.entry for one in loaded], columns=ENTRIES.names)
        write_table(table, ENTRIES, self.path / f"shard-{shard:05}.parquet")

    def _pixels(self, shard: int, n_rows: int) -> npt.NDArray[np.uint8]:
        """A shard's pixels, of which its table names ``n_rows`` or more."""
        file = self.path / f"shard-{shard:05}.npy"
        if shard not in self._shards:
            self._shards[shard] = read_array(file)
        pixels = self._shards[shard]
        if pixels.shape[1:] != IMAGE_SHAPE or pixels.dtype != np.uint8 or len(pixels) < n_rows:
            raise CorruptError(
                f"{file} holds {pixels.dtype} of shape {pixels.shape}, not {n_rows} pictures or "
                "more: delete the store's folder to make it anew"
            )
        return pixels

    def _facts(self, urls: Iterable[str]) -> pd.DataFrame:
        return self.entries[FACTS].reindex(list(urls)).reset_index(drop=True)

    def _images(self, requests: pd.DataFrame, urls: pd.Series[str]) -> pd.DataFrame:
        facts = self._facts(urls)
        closed = requests["status"] != ""
        facts.loc[closed, ["status", "reason"]] = requests.loc[closed, ["status", "reason"]]
        facts[["width", "height"]] = facts[["width", "height"]].fillna(0).astype(np.int32)
        seen = facts["contrast"].where(facts["status"] == "ok", 0)
        facts["contrast"] = seen.astype(np.float32)
        asked = requests[["record", "product_id"]].assign(url=urls)
        images: pd.DataFrame = pd.concat([asked, facts.fillna("")], axis=1)[IMAGES.names]
        return images


def contrast(pixels: npt.NDArray[np.uint8]) -> float:
    """How much there is to be seen: the largest of the channels' standard deviations.

    Args:
        pixels: (3, 200, 100) uint8.

    Returns:
        0, for one flat colour, to 127.5; summed in whole numbers, so the same on every machine.
    """
    values = pixels.reshape(len(pixels), -1).astype(np.int64)
    n = values.shape[1]
    spread = n * (values**2).sum(axis=1) - values.sum(axis=1) ** 2
    return float(np.sqrt(spread.max()) / n)


def _account(images: pd.DataFrame, failures: Path) -> None:
    """Say how it went, and list what is not ok."""
    bad = images[images["status"] != "ok"]
    n_ok = len(images) - len(bad)
    n_products = images.loc[images["product_id"] != "", "product_id"].nunique()
    log.info("%d pictures ok, of %d products", n_ok, n_products)
    if bad.empty:
        return
    counts = (bad["status"] + ":" + bad["reason"]).value_counts().sort_index()
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    write_csv(bad, failures)
    if not n_ok:
        raise SourceError(
            f"not one of {len(images)} pictures could be read: {reasons}. See {failures}"
        )
    log.warning("%d pictures not ok: %s. See %s", len(bad), reasons, failures)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),  # stdout carries results alone
    )
