"""Ask web addresses again whether they show the same image.

The folder ``answers`` of a store holds a row for each web address that was asked: what its server
sent to recognise the image by, and when. The rows are no part of the images: without them an
address is fetched as a whole, and its bytes are compared. An image is written before its row. A row
counts only for the bytes that it names. So after a kill no stored image passes for a newer one.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dedup.download.validators import DATE, ETAG, UNKNOWN, Validators
from dedup.errors import ArtifactError
from dedup.runtime.durations import DAY, seconds_in
from dedup.runtime.files import read_json, write_json
from dedup.runtime.nouns import counted
from dedup.store.derived import DerivedRows
from dedup.store.local_files import is_remote
from dedup.store.shards import Loaded

log = logging.getLogger("dedup")

FOLDER, MARKER = "answers", "refresh.json"
"""Folder of the answers in a store, and the file there that names an unfinished refresh."""
GOES_ON = DAY
"""Age in seconds up to which an unfinished refresh is gone on with."""
ANSWERS = pa.schema(
    [
        ("key", pa.string()),  # SHA-256 of the address
        ("sha256_bytes", pa.string()),  # of the image that the answer was about
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("place", pa.string()),
        ("confirmed", pa.float64()),  # when the address last showed this, in seconds since 1970
        ("asked", pa.float64()),  # when it was last asked, whatever came of it
    ]
)
_TEXTS = {
    "sha256_bytes": "(?:[0-9a-f]{64})?", "etag": f"(?:{ETAG})?", "last_modified": f"(?:{DATE})?",
    "place": "(?:[0-9a-f]{16})?",
}  # fmt: skip
_TIMES = ["confirmed", "asked"]


@dataclass(frozen=True)
class Known:
    """What a store has of an address that is asked again.

    Attributes:
        sha256_bytes: of the image, or of what was no image.
        reason: of the failure; "" for an image.
        validators: of the image.
        confirmed: when the address last showed it, in seconds since 1970; 0 if unknown.
        asked: when the address was last asked, likewise.
    """

    sha256_bytes: str
    reason: str
    validators: Validators
    confirmed: float
    asked: float


class Refresh:
    """Which addresses are asked again, and what came of it.

    Args:
        store: folder of the store.
        max_age: age from which an address is asked again, see ``durations``; ``None`` for never.
        is_forced: whether every address is asked again, whatever its age.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Path,
        max_age: float | str | None,
        is_forced: bool,
        clock: Callable[[], float],
    ) -> None:
        self.folder = store / FOLDER
        self._max_age = None if max_age is None else seconds_in(max_age)
        self._is_forced = is_forced
        self._clock = clock
        self._since = 0.0

    @contextmanager
    def run(self, *, is_dry: bool = False) -> Iterator[None]:
        """Begin to read a catalogue; by a writer that holds the store's lock, unless it is dry.

        Args:
            is_dry: whether addresses are chosen, and none is asked.
        """
        self._due: dict[str, Known] = {}
        self._answered: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._rows: pd.DataFrame | None = None
        self._answers = DerivedRows(self.folder, ANSWERS, _is_possible, latest="asked")
        if is_dry:
            self._since = _unfinished(self.folder / MARKER, self._clock()) or self._clock()
            yield
            return
        with self._answers:
            if self._is_forced:
                self._since = self._started()
            yield
        if self._is_forced:
            (self.folder / MARKER).unlink(missing_ok=True)
        self._report()

    def due(self, urls: Sequence[str], entries: pd.DataFrame) -> dict[str, Known]:
        """Choose the addresses to ask again, each once in a run.

        Args:
            urls: distinct addresses of which the store has an image or a failure.
            entries: of the store, by address.
        """
        if self._max_age is None and not self._is_forced:
            return {}
        urls = [url for url in urls if is_remote(url) and url not in self._answered]
        rows = self._find(urls, entries)
        is_old, now = np.zeros(len(urls), bool), self._clock()
        confirmed, asked = (rows[name].to_numpy() for name in _TIMES)
        if self._max_age is not None:  # a time to come is the mistake of some clock
            is_old |= (now - confirmed >= self._max_age) | (confirmed - now > DAY)
        if self._is_forced:
            is_old |= (asked < self._since) | (asked - now > DAY)
        stored = entries[["sha256_bytes", "reason"]].reindex(urls)
        facts = zip(
            urls,
            is_old.tolist(),
            stored.to_numpy().tolist(),
            rows[[*_TEXTS, *_TIMES]].to_numpy().tolist(),
            strict=True,
        )
        due = {
            url: _known(digest, reason, *answer)
            for url, is_asked, (digest, reason), answer in facts
            if is_asked
        }
        self._due |= due
        return due

    def note(self, loaded: Iterable[Loaded]) -> None:
        """Keep what web addresses have answered; of new images, once they are in the store."""
        now = self._clock()
        self._answers.add(self._row(row, now) for row in loaded if is_remote(str(row.entry["url"])))

    def reused(self, urls: Iterable[str], failed: Collection[str]) -> None:
        """Say how many web images were not asked for, where no setting tells to ask for them.

        Args:
            urls: addresses of all images.
            failed: those whose images could not be read.
        """
        if self._max_age is None and not self._is_forced:
            reused = {url for url in urls if is_remote(url)} - self._answered
            n_failed = len(reused.intersection(failed))
            if n_failed:
                log.warning(
                    "%s from the web failed in an earlier run and %s not asked for again: "
                    "store.retry=true does so, store.retry=[timeout,5xx] by reason",
                    counted(n_failed, "image"), "was" if n_failed == 1 else "were",
                )  # fmt: skip
            if n_reused := len(reused) - n_failed:
                log.info(
                    "%s from the web as read before: store.refresh=true asks for them again, "
                    "store.max_age=7d for those read more than 7 days ago",
                    counted(n_reused, "image"),
                )

    def _row(self, loaded: Loaded, now: float) -> tuple[Any, ...]:
        entry, validators = loaded.entry, loaded.validators
        url, known = entry["url"], self._due.get(entry["url"])
        self._answered.add(url)
        digest, confirmed = entry["sha256_bytes"], now
        if known is not None:
            is_lost = loaded.is_kept and entry["status"] != "ok" and not known.reason
            if is_lost:
                digest, validators, confirmed = (
                    known.sha256_bytes,
                    known.validators,
                    known.confirmed,
                )
                self._failures[entry["reason"]] += 1
            else:
                self._counts["unchanged" if loaded.is_kept else "replaced"] += 1
        texts = (validators.etag, validators.last_modified, validators.place)
        asked = now if known is None or known.asked < now else math.nextafter(known.asked, math.inf)
        return _key(url), digest, *texts, confirmed, asked  # later than before, by any clock

    def _find(self, urls: Sequence[str], entries: pd.DataFrame) -> pd.DataFrame:
        """Find the rows of addresses, with empty ones for addresses that have none."""
        if self._rows is None:  # all at once: alternates come in several turns
            web = [url for url in entries.index if is_remote(url)]
            self._rows = self._answers.find([_key(url) for url in web])
        rows = self._rows.reindex([_key(url) for url in urls])
        return rows.fillna({**dict.fromkeys(_TEXTS, ""), **dict.fromkeys(_TIMES, 0.0)})

    def _started(self) -> float:
        """Return when the refresh began: now, or in an earlier run that was stopped."""
        now = self._clock()
        since = _unfinished(self.folder / MARKER, now)
        if since is not None:
            began = datetime.fromtimestamp(since).strftime("%Y-%m-%d %H:%M")
            log.info("going on with the refresh that began at %s", began)
            return since
        if self.folder.is_symlink():
            raise ArtifactError(f"{self.folder} is a symbolic link: remove it")
        self.folder.mkdir(exist_ok=True)
        write_json({"started": now}, self.folder / MARKER)
        return now

    def _report(self) -> None:
        n_asked = sum(self._counts.values()) + sum(self._failures.values())
        if not n_asked:
            return
        what = [f"{self._counts['unchanged']} unchanged", f"{self._counts['replaced']} replaced"]
        log.info("asked %s again: %s", counted(n_asked, "web address", "web addresses"),
                 ", ".join(what))  # fmt: skip
        if n_lost := sum(self._failures.values()):
            reasons = ", ".join(f"{n} {reason}" for reason, n in self._failures.most_common())
            log.warning(
                "%s could not be read again and %s as before: %s",
                counted(n_lost, "image"), "stays" if n_lost == 1 else "stay", reasons,
            )  # fmt: skip


def _known(
    sha256_bytes: str,
    reason: str,
    answered: str,
    etag: str,
    last_modified: str,
    place: str,
    confirmed: float,
    asked: float,
) -> Known:
    """Describe what is stored; validators count only where the same bytes were answered."""
    is_same = bool(sha256_bytes) and answered == sha256_bytes
    validators = Validators(etag, last_modified, place) if is_same else UNKNOWN
    return Known(sha256_bytes, reason, validators, confirmed, asked)


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _is_possible(rows: pd.DataFrame) -> bool:
    """Tell whether a run can have written these rows: they go into the headers of requests."""
    times = rows[_TIMES].to_numpy()
    is_time = bool((np.isfinite(times) & (times >= 0)).all())
    return is_time and all(rows[name].str.fullmatch(form).all() for name, form in _TEXTS.items())


def _unfinished(marker: Path, now: float) -> float | None:
    """Read when an unfinished refresh began; ``None`` where none is gone on with."""
    if not marker.is_file():
        return None
    try:
        started = read_json(marker, "a store's answers", "delete it").get("started")
    except ArtifactError as error:
        log.warning("%s. The refresh begins anew", error)
        return None
    is_recent = isinstance(started, float) and 0 <= now - started < GOES_ON
    return started if is_recent else None
