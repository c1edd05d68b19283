"""Each distinct picture fetched and decoded once, and kept so that random batches read fast.

A store is a folder of shards, see ``shards``. They follow the order of the catalogue, so a run that
was killed and run again ends with the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import FileLock
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dedup.artifacts import FORMAT, IMAGE_SHAPE, IMAGES, Catalogue
from dedup.decode import decode, resizer
from dedup.errors import ArtifactError, ImageError, SourceError
from dedup.fetch import fetch, version
from dedup.files import read_json, write_csv, write_json
from dedup.keypoints import N_KEYPOINTS
from dedup.parallel import in_order
from dedup.shards import ADVICE, ENTRIES, PLACE, Loaded, Shards
from dedup.words import Vocabulary, Words

log = logging.getLogger("dedup")

FACTS = [name for name in ENTRIES.names if name not in ("url", "version", *PLACE)]
THUMBNAIL_SIZE = (720, 240)


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
        self._shards = Shards(self.path)

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
            pixels[here] = self._shards.pixels(int(shard), rows[here, 1])
        return pixels

    def details(self, urls: Sequence[str]) -> list[npt.NDArray[np.uint8]]:
        """Pictures in their own aspect, by address; see ``details_at``."""
        return self.details_at(self.rows(urls))

    def details_at(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint8]]:
        """The details at (n, 2) places, each (h, w, 3) uint8 RGB, at most 320 on its long side.

        Raises:
            ArtifactError: the store lacks one of the pictures, or a file of a shard.
            CorruptError: a shard cannot be read, or a detail in it is not whole.
        """
        return [self._shards.detail(shard, row) for shard, row in rows.tolist()]

    def words(self, urls: Sequence[str]) -> Words:
        """The visual words of pictures, by address, (n, N_KEYPOINTS) int32, -1 at the end of each.

        They are found for whole shards at a time, and kept beside them.

        Raises:
            ArtifactError: the store lacks one of the pictures, or a file of a shard.
            CorruptError: a shard cannot be read, or a detail in it is not whole.
        """
        rows, vocabulary = self.rows(urls), Vocabulary.load()
        if len(rows) and rows.min() < 0:
            raise ArtifactError(f"the store {self.path} lacks a picture that it was asked for")
        shards = np.unique(rows[:, 0]).tolist()
        self._find_words([s for s in shards if self._lacks_words(s, vocabulary)], vocabulary)
        words = np.empty((len(rows), N_KEYPOINTS), np.int32)
        for shard in shards:
            here = rows[:, 0] == shard
            words[here] = self._shards.words(shard, vocabulary)[rows[here, 1]]
        return words

    def thumbnails(self, urls: Sequence[str]) -> dict[str, Image.Image]:
        """Small RGB pictures in their original aspect; addresses that are missing are left out."""
        rows = self.rows(urls)
        thumbnails = {}
        for url, (shard, row) in zip(urls, rows.tolist(), strict=True):
            if row >= 0:
                thumbnails[url] = Image.fromarray(self._shards.detail(shard, row))
                thumbnails[url].thumbnail(THUMBNAIL_SIZE, Image.Resampling.LANCZOS)
        return thumbnails

    def digest(self) -> str:
        """SHA-256 over what is in the store, whatever the order in which it came."""
        table = self.entries.sort_index()[FACTS].astype(str)
        lines = ("\t".join(row) for row in table.reset_index().to_numpy().tolist())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def entries(self) -> pd.DataFrame:
        """Every address in the store, by address, with its shard; the latest reading of each."""
        if self._entries is None:
            self._entries = (
                self._shards.entries().drop_duplicates("url", keep="last").set_index("url")
            )
        return self._entries

    def _claim(self) -> None:
        """Check that the folder is this store's, or make it so; sweep up after a killed run."""
        resizer(self.reader)  # else a mistyped name would claim the folder for good
        manifest = {"format": FORMAT, "reader": self.reader, "image_shape": list(IMAGE_SHAPE)}
        file = self.path / "manifest.json"
        if file.exists():
            found = read_json(file, "a store", ADVICE)
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
                self._shards.write(shard + start // self.shard_rows, loaded)
        self._entries = None

    def _load(self, url: str) -> Loaded:
        entry: dict[str, Any] = dict.fromkeys(ENTRIES.names, "")
        entry |= {"url": url, "version": version(url)}
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
        return Loaded(entry, picture)

    def _lacks_words(self, shard: int, vocabulary: Vocabulary) -> bool:
        try:
            self._shards.words(shard, vocabulary)
        except ArtifactError:
            return True
        return False

    def _find_words(self, shards: Sequence[int], vocabulary: Vocabulary) -> None:
        """Find the words of all pictures of some shards, and keep them."""
        if not shards:
            return

        def words(place: tuple[int, int]) -> Words:
            return vocabulary.words_in(self._shards.detail(*place))

        with _progress() as progress:
            sizes = [self._shards.size(shard) for shard in shards]
            bar = progress.add_task("finding keypoints", total=sum(sizes))
            for shard, size in zip(shards, sizes, strict=True):
                found = np.empty((size, N_KEYPOINTS), np.int32)
                for row, one in enumerate(in_order(words, ((shard, row) for row in range(size)))):
                    found[row] = one
                    progress.advance(bar)
                self._shards.keep_words(shard, found, vocabulary)

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
