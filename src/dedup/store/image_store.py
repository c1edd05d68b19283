"""Fetch and decode each distinct image once, and keep it for fast reading in random batches.

A store is a folder of shards, see ``shards``. They follow the order of the catalogue. So a run that
was killed and started again ends with the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from dedup.download.client import Fetcher
from dedup.errors import ArtifactError, CorruptError, StalledError
from dedup.runtime.files import locked, read_json, write_json
from dedup.runtime.invocation import command
from dedup.runtime.nouns import counted
from dedup.runtime.progress import reading
from dedup.runtime.shortages import NO_ROOM
from dedup.schemas import IMAGE_SHAPE, IMAGES
from dedup.sources.catalogue import Catalogue
from dedup.store.decode import resizer
from dedup.store.derived_arrays import (
    Array,
    ArrayDerivation,
    DerivedArrays,
    check_places,
    kept_bytes,
)
from dedup.store.failures import account
from dedup.store.ingest import Ingest
from dedup.store.local_files import version
from dedup.store.measures import FORMATS, MEASURES, VERSION, are_possible, measure_preview
from dedup.store.refresh import Known, Refresh
from dedup.store.repair import settle
from dedup.store.shard_writer import ShardWriter
from dedup.store.shards import ENTRIES, PLACE, Loaded, Shards, advice, described

log = logging.getLogger("dedup")

FACTS = [name for name in ENTRIES.names if name not in ("url", "version", *PLACE)]
THUMBNAIL_SIZE = (720, 240)
BYTES_OF_A_IMAGE = 90_000
"""Approximate size of an image in a store."""
MEASURED = ArrayDerivation(
    "health", VERSION, [*MEASURES, *FORMATS], np.float64, (len(MEASURES),), are_possible
)
"""Measures of health, taken while an image is decoded. They are not named by OpenCV's version: what
is known of a file alone cannot be computed again."""


class ImageStore:
    """A folder of decoded images.

    Args:
        path: the folder; made when first needed.
        reader: resizes images, see ``decode``. A store has one reader.
        fetcher: fetches images with a web address.
        workers: number of child processes that decode; ``None`` for one on each core.
        decode_timeout: seconds for one image, after which its child process is killed.
        decode_memory: maximum memory of a child process for one image, in bytes.
        shard_rows: number of addresses in a shard; a killed run repeats those of a few shards.
        retry: failures to read again: ``True`` for all, or reasons such as ``timeout``, ``5xx``
            for every ``http_500`` to ``http_599``.
        wait: wait for another run that writes into the store, instead of an error.
        formulas: treatment of formulas in ``failures.csv``, see ``files.write_rows``.
        max_age: age from which images from the web are asked for again, as a number of days or a
            text such as ``7d`` or ``12h``; ``None`` for never.
        refresh: ask again for all images from the web, whatever their age.
        clock: seconds since 1970, by which an age is told.
    """

    def __init__(
        self,
        path: str | Path,
        reader: str = "pillow",
        fetcher: Fetcher | None = None,
        workers: int | None = None,
        decode_timeout: float = 20.0,
        decode_memory: int = 2**30,
        shard_rows: int = 512,
        retry: bool | str | Sequence[str] = False,
        wait: bool = False,
        formulas: str = "keep",
        max_age: float | str | None = None,
        refresh: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self.reader = reader
        self.shard_rows = shard_rows
        self.retry = retry
        self.wait = wait
        self.formulas = formulas
        self._ingest = Ingest(
            fetcher or Fetcher(), reader, workers, decode_timeout, decode_memory, shard_rows
        )
        self._refresh = Refresh(self.path, max_age, refresh, clock)
        self._entries: pd.DataFrame | None = None
        self._held: Mapping[str, str] | None = None
        self._gone = False
        self._shards = Shards(self.path, described(reader))
        self._derived = DerivedArrays(self._shards)

    def ingest(self, catalogue: Catalogue, report_dir: Path) -> pd.DataFrame:
        """Read the images of a catalogue that the store lacks.

        Where an address fails and the request has alternates, the next one is tried. Web addresses
        are asked again if ``max_age`` or ``refresh`` says so. An image stays if its server says
        that it is unchanged, if the same bytes come, and if none come; other bytes replace it.

        Args:
            catalogue: read by a source.
            report_dir: folder for ``failures.csv``, if any image is not ok.

        Returns:
            One row for each request, schema ``IMAGES``: bad images are rows with a reason.

        Raises:
            SourceError: not one image could be read.
            ArtifactError: the store belongs to another reader or format.
            ConfigError: there is no such reader.
            LockedError: another run writes into the store, and ``wait`` is not set.
            StalledError: the disk is full, or no host answers any more.
        """
        requests = catalogue.requests.reset_index(drop=True)
        with locked(self.path, self.wait):
            self._claim()
            with self._refresh.run():
                urls = self._read(requests)
            self._refresh.reused(urls, self._failed())
        images = self._images(requests, urls)
        account(catalogue, images, report_dir / "failures.csv", self.formulas)
        return images

    def read_anew(self, urls: Sequence[str]) -> list[Loaded]:
        """Read images again, whatever the store has of them, in the order of their addresses."""
        loaded: dict[str, Loaded] = {}
        self._ingest(urls, lambda rows: loaded.update({row.entry["url"]: row for row in rows}))
        return [loaded[url] for url in urls]

    def rows(self, urls: Sequence[str]) -> npt.NDArray[np.int64]:
        """Find the places of images, (n, 2) int64: shard and row; -1 for a missing image."""
        places = self.entries.reindex(list(urls))[["shard", "row"]].fillna(-1)
        return places.to_numpy(dtype=np.int64)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Read the pixels at (n, 2) places, (n, 3, 200, 100) uint8.

        Raises:
            ArtifactError: a shard is missing.
            CorruptError: a shard cannot be read, or holds fewer images than its table.
        """
        pixels = np.empty((len(rows), *IMAGE_SHAPE), np.uint8)
        for shard in np.unique(rows[:, 0]):
            here = rows[:, 0] == shard
            pixels[here] = self._shards.pixels(int(shard), rows[here, 1])
        return pixels

    def details(self, urls: Sequence[str]) -> list[npt.NDArray[np.uint8]]:
        """Read previews by address; see ``details_at``."""
        return self.details_at(self.rows(urls))

    def details_at(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint8]]:
        """Read the previews at (n, 2) places, each (h, w, 3) uint8 RGB.

        A preview keeps the image's aspect, and has at most 320 pixels on its long side.

        Raises:
            ArtifactError: the store lacks one of the images, or a file of a shard.
            CorruptError: a shard cannot be read, or a preview in it is damaged.
        """
        return [self._shards.detail(shard, row) for shard, row in rows.tolist()]

    def derive(
        self,
        derivation: ArrayDerivation,
        function: Callable[[npt.NDArray[np.uint8]], Array],
        urls: Sequence[str],
        label: str,
        of: ArrayDerivation | None = None,
    ) -> Array:
        """Compute a function of images, or read its values where they are kept.

        Values are computed for whole shards at a time, and kept beside them.

        Args:
            derivation: names the function.
            function: a preview, (h, w, 3) uint8 RGB, to its value.
            urls: addresses of the images.
            label: of the progress bar.
            of: values that are kept, see ``prepare``: the function takes these and no preview.

        Returns:
            (n, *shape), a row for each address.

        Raises:
            ArtifactError: the store lacks one of the images, or a file of a shard.
            CorruptError: a shard cannot be read, or a preview in it is not whole.
        """
        self.prepare(derivation, function, urls, label, of)
        return self._derived.read(derivation, self.rows(urls))

    def prepare(
        self,
        derivation: ArrayDerivation,
        function: Callable[[npt.NDArray[np.uint8]], Array],
        urls: Sequence[str],
        label: str,
        of: ArrayDerivation | None = None,
    ) -> None:
        """Compute a function of images where its values are not kept; as ``derive``, unread."""

        def value(place: tuple[int, int]) -> Array:
            if of is None:
                return function(self._shards.detail(*place))
            return function(self._derived.read(of, np.array([place]))[0])

        rows = self.rows(urls)
        check_places(rows, self.path)
        missing = self._derived.missing(derivation, np.unique(rows[:, 0]).tolist())
        self._derived.compute(derivation, missing, value, label)

    def kept(self, derivation: ArrayDerivation, urls: Sequence[str]) -> list[Array | None]:
        """Read a function's values of images; ``None`` where they are not kept.

        Raises:
            ArtifactError: the store lacks one of the images, or a file of a shard.
            CorruptError: a shard cannot be read.
        """
        rows = self.rows(urls)
        check_places(rows, self.path)
        missing = self._derived.missing(derivation, np.unique(rows[:, 0]).tolist())
        known = np.flatnonzero(~np.isin(rows[:, 0], missing))
        values: list[Array | None] = [None] * len(urls)
        for place, value in zip(known, self._derived.read(derivation, rows[known]), strict=True):
            values[place] = value
        return values

    def measures(self, urls: Sequence[str]) -> npt.NDArray[np.float64]:
        """Read the measures of images' health, (n, len(MEASURES)), see ``measures``.

        A shard by an earlier version has none: they are computed from its previews, and what only
        the file tells is NaN. All are NaN of an image that the store lacks.

        Raises:
            ArtifactError: a file of a shard is missing.
            CorruptError: a shard cannot be read, or a preview in it is not whole.
        """
        values = np.full((len(urls), len(MEASURES)), np.nan)
        known = np.flatnonzero(self.rows(urls)[:, 0] >= 0).tolist()
        wanted = [urls[place] for place in known]
        if wanted:
            values[known] = self.derive(MEASURED, measure_preview, wanted, "measuring images")
        return values

    def thumbnails(self, urls: Sequence[str]) -> dict[str, Image.Image]:
        """Make small RGB images in their original aspect; missing images are left out.

        A missing store gives one warning.
        """
        if urls and not self._gone and not self.path.is_dir():
            self._gone = True
            log.warning("no images are shown: the store %s is gone", self.path)
        rows = self.rows(urls)
        thumbnails = {}
        for url, (shard, row) in zip(urls, rows.tolist(), strict=True):
            if row >= 0:
                thumbnails[url] = Image.fromarray(self._shards.detail(shard, row))
                thumbnails[url].thumbnail(THUMBNAIL_SIZE, Image.Resampling.LANCZOS)
        return thumbnails

    def digest(self) -> str:
        """Compute the SHA-256 of the store's content, whatever the order of its addresses."""
        table = self.entries.sort_index()[FACTS].astype(str)
        lines = ("\t".join(row) for row in table.reset_index().to_numpy().tolist())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def entries(self) -> pd.DataFrame:
        """Latest entry of every address in the store, by address, with its shard.

        Of an address that ``hold`` names it is the latest with the image that is held.
        """
        if self._entries is None:
            entries = self._shards.entries()
            latest = entries.drop_duplicates("url", keep="last")
            if self._held:
                is_held = entries["sha256_pixels"] == entries["url"].map(self._held)
                held = entries[is_held].drop_duplicates("url", keep="last")
                others = latest[~latest["url"].isin(held["url"])]
                self._warn_replaced(latest, held)
                latest = pd.concat([others, held])
            self._entries = latest.set_index("url")
        return self._entries

    def hold(self, images: pd.DataFrame) -> None:
        """Read the images as an index knows them, whatever their addresses showed later.

        Args:
            images: of the index, schema ``IMAGES``.
        """
        ok = images[images["status"] == "ok"]
        self._held = dict(zip(ok["url"], ok["sha256_pixels"], strict=True))
        self._entries = None

    def unread(self, urls: Sequence[str]) -> list[str]:
        """List the addresses that the next ``ingest`` reads or asks again.

        Args:
            urls: distinct addresses of files and of the web.
        """
        with self._refresh.run(is_dry=True):
            new, due = self._choose(urls)
        return [url for url in urls if url in new or url in due]

    def _claim(self) -> None:
        """Claim the folder for this store, and clean up after a killed run."""
        resizer(self.reader)  # else a mistyped name would claim the folder for good
        manifest = described(self.reader)
        file = self.path / "manifest.json"
        if file.exists():
            old = read_json(file, "a store", advice(self.path))
            differing = [key for key in manifest if old.get(key) != manifest[key]]
            if differing:
                raise ArtifactError(
                    f"the store {self.path} was made with "
                    + ", ".join(f"{key}={old.get(key)}, not {manifest[key]}" for key in differing)
                    + ": name another folder with store.path=PATH"
                )
        elif self._shards.present():
            raise CorruptError(f"{file} is missing: {advice(self.path)}")
        else:
            write_json(manifest, file)
        settle(self._shards)
        self._entries = None

    def _read(self, requests: pd.DataFrame) -> list[str]:
        """Read an image for each open request; return the addresses used, or tried last."""
        is_open, urls = requests["status"] == "", requests["url"].tolist()
        self._add(requests.loc[is_open, "url"].drop_duplicates().tolist())
        rows = np.flatnonzero(is_open & requests["url"].isin(self._failed())).tolist()
        others = requests["alternates"].iloc[rows].tolist()
        alternates, start = dict(zip(rows, others, strict=True)), 0
        while rows:
            # First one at a time, then more: thousands in one cell need few turns.
            stop = start + max(1, start // 2)
            tried = {row: more for row in rows if (more := alternates[row][start:stop])}
            self._add(list(dict.fromkeys(chain.from_iterable(tried.values()))))
            failed = self._failed()
            for row, some in tried.items():
                urls[row] = next((url for url in some if url not in failed), some[-1])
            rows, start = [row for row in tried if urls[row] in failed], stop
        return urls

    def _failed(self) -> set[str]:
        return set(self.entries.index[self.entries["status"] == "failed"])

    def _add(self, urls: Sequence[str]) -> None:
        new, due = self._choose(urls)
        wanted = [url for url in urls if url in new or url in due]
        if not wanted:
            return
        saved = ShardWriter(
            self._write, self._refresh.note, self.shard_rows, len(self._shards.committed())
        )
        try:
            with reading(len(wanted)) as show:
                self._ingest(wanted, saved, show, due)
        finally:
            self._entries = None
            saved.end()

    def _choose(self, urls: Sequence[str]) -> tuple[set[str], dict[str, Known]]:
        """Choose the addresses to read, and those to ask again."""
        entries = self.entries
        is_bad = entries["status"] != "ok"
        again = [why for why in entries.loc[is_bad, "reason"].unique() if self._is_read_again(why)]
        kept = entries[~(is_bad & entries["reason"].isin(again))]
        reasons = kept["reason"].where(kept["status"] != "ok", "")
        tried = {reason: self._ingest.tried_with(reason) for reason in reasons.unique()}
        settings = dict(zip(kept.index, reasons.map(tried), strict=True))
        versions = dict(zip(kept.index, kept["version"], strict=True))
        new = {url for url in urls if versions.get(url) != version(url) + settings.get(url, "")}
        return new, self._refresh.due([url for url in urls if url not in new], entries)

    def _warn_replaced(self, latest: pd.DataFrame, held: pd.DataFrame) -> None:
        """Warn of images that were read anew since an index was made."""
        now = dict(zip(latest["url"], latest["sha256_pixels"], strict=True))
        then = zip(held["url"], held["sha256_pixels"], strict=True)
        n_replaced = sum(now[url] != digest for url, digest in then)
        if n_replaced:
            log.warning(
                "%s replaced since the index was made, and the index has the earlier: run %s "
                "change=update with the table to compare what is there now",
                f"{counted(n_replaced, 'image')} {'was' if n_replaced == 1 else 'were'}",
                command("cluster"),
            )  # fmt: skip

    def _is_read_again(self, reason: str) -> bool:
        if isinstance(self.retry, bool):
            return self.retry
        reasons = self.retry.split(",") if isinstance(self.retry, str) else self.retry
        status = re.fullmatch(r"http_([1-5])\d\d", reason)
        return reason in reasons or (status is not None and f"{status[1]}xx" in reasons)

    def _write(self, shard: int, loaded: Sequence[Loaded]) -> None:
        try:
            self._shards.write(shard, loaded, _measured(loaded))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise StalledError(
                f"cannot write to the store {self.path}: {NO_ROOM[error.errno]}. The next shard "
                f"takes some {len(loaded) * BYTES_OF_A_IMAGE // 10**6 + 1} MB. Make room and run "
                "the same command again: it goes on from here, and the store so far is whole"
            ) from error

    def _facts(self, urls: Iterable[str]) -> pd.DataFrame:
        return self.entries[FACTS].reindex(list(urls)).reset_index(drop=True)

    def _images(self, requests: pd.DataFrame, urls: Sequence[str]) -> pd.DataFrame:
        facts = self._facts(urls)
        closed = requests["status"] != ""
        facts.loc[closed, ["status", "reason"]] = requests.loc[closed, ["status", "reason"]]
        facts[["width", "height"]] = facts[["width", "height"]].fillna(0).astype(np.int32)
        contrast = facts["contrast"].where(facts["status"] == "ok", 0)
        facts["contrast"] = contrast.astype(np.float32)
        named = requests[["record", "product_id"]].assign(url=urls)
        images: pd.DataFrame = pd.concat([named, facts.fillna("")], axis=1)[IMAGES.names]
        return images


def _measured(loaded: Sequence[Loaded]) -> dict[str, bytes]:
    """Return the file of the measures of a shard's images, by its ending; nothing without any."""
    images = [row.image for row in loaded if row.image is not None]
    measures = [image.measures for image in images if image.measures is not None]
    if not images or len(measures) < len(images):
        return {}
    previews = [hashlib.sha256(image.detail).hexdigest() for image in images]
    return {MEASURED.ending: kept_bytes(np.stack(measures), previews)}
