"""Ask an index which products show the images of a new one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dedup.detection.calibration import floor
from dedup.detection.candidates import Candidates, Look, radius
from dedup.detection.comparison import clusters_of_vectors
from dedup.detection.exact import EVIDENCE
from dedup.download.client import Fetcher
from dedup.errors import ImageError, SourceError
from dedup.runtime.digits import rounded, units
from dedup.runtime.parallel import one_thread
from dedup.runtime.printable import visible
from dedup.schemas import AUTO, TIERS
from dedup.search.build import DIGEST
from dedup.search.embedding import Embed
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.store.decode import Pixels, decode_preview
from dedup.store.decode_pool import Decoders, Reading
from dedup.store.local_files import is_http
from dedup.store.placeholders import without_placeholders
from dedup.verification.alignment import LocalFeatures
from dedup.verification.geometric import GeometricVerifier

log = logging.getLogger("dedup")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SHOWN = ["product_id", "url", "sha256_bytes", DIGEST, "vector", "cluster"]
URL, BYTES, PIXELS, NEAR = range(len(TIERS))
"""The tiers' ranks."""


class Asked(NamedTuple):
    """One image of the new product.

    Attributes:
        address: as it was asked for.
        place: the address, or the path without links, as indexes write it.
        pixels: (3, 200, 100) uint8.
        detail: (h, w, 3) uint8, 320 on the long side at most.
        flat: whether next to nothing is to be seen in them.
        sha256_bytes: of the file.
        sha256_pixels: of the pixels.
        shown: what the encoder is shown, (3, 200, 100) uint8: the pixels, or the product alone.
        mask: (h', w') uint8, where the product is; ``None`` where nobody knows.
    """

    address: str
    place: str
    pixels: Pixels
    detail: Pixels
    flat: bool
    sha256_bytes: str
    sha256_pixels: str
    shown: Pixels
    mask: Pixels | None = None


class Found(NamedTuple):
    """Images of the index for one or more that were asked about, arrays of one length.

    Attributes:
        row: into ``Query.shown``.
        rank: of the tier, into ``TIERS``.
        distance: L2 of the embeddings, 0 for equal pixels.
        query: which image was asked about.
        score: how sure, 0 to 1; 1 for equal pixels; NaN: the distance alone.
        evidence: in words; "": the distance alone.
    """

    row: Ints
    rank: Ints
    distance: Floats
    query: Ints
    score: Floats
    evidence: npt.NDArray[np.object_]


class Query:
    """Answers which products show a new one's images; loads encoder and index once.

    An image that is flat, or that more than ``max_products`` products show, proves nothing: asked
    about, it is found by equal pixels alone, and it is near to no other.

    Args:
        index: the index to ask.
        matcher: finds near images.
        checkpoint: the encoder; the one that the index names if ``None``.
        max_products: of an image that more products show, so many are answered, by smallest id.
        min_contrast: less is flat, see ``decode.contrast``.
        verifier: if given, looks again at what is near or has visual words in common. A score of
            ``auto`` is the least that a precision of ``matcher.precision`` ever asks for.
        fetcher: how images with a web address are fetched.
        decoders: child processes that decode the images, entered already; ``None`` starts some
            for each question, with the limits that are usual.

    Raises:
        ArtifactError: the checkpoint is missing, or not the one the index was made with.
    """

    @one_thread()
    def __init__(
        self,
        index: Index,
        matcher: RadiusSearch,
        checkpoint: str | Path | None = None,
        max_products: int = 100,
        min_contrast: float = 3.0,
        verifier: GeometricVerifier | None = None,
        fetcher: Fetcher | None = None,
        decoders: Decoders | None = None,
    ) -> None:
        self.fetcher = fetcher or Fetcher()
        self.decoders = decoders
        index.check_encoder(checkpoint or index.manifest["checkpoint"])
        self.reader: str = index.manifest["reader"]
        self.max_products = max_products
        self.min_contrast = min_contrast
        self.embed = Embed(checkpoint or index.manifest["checkpoint"])
        shown = index.images.loc[index.images["vector"] >= 0, SHOWN]
        # By product, so that a row's number is the order of its product's id.
        shown = shown.sort_values(["product_id", "url"], ignore_index=True)
        self.product_id = arrow(shown["product_id"])
        self.sha256_bytes = arrow(shown["sha256_bytes"])
        self.by_url = Lookup(shown["url"])
        self.by_digest = Lookup(shown[DIGEST])
        self.product: Ints = pd.factorize(shown["product_id"])[0].astype(np.int64)
        self.vector: Ints = shown["vector"].to_numpy(np.int64)
        self.cluster: Ints = shown["cluster"].to_numpy(np.int64)
        self.by_vector: Ints = np.argsort(self.vector, kind="stable")
        counts = np.bincount(self.vector, minlength=len(index.vectors))
        self.starts: Ints = np.concatenate([[0], counts.cumsum()])
        compared = without_placeholders(index.images, max_products, min_contrast)
        self.clusters = clusters_of_vectors(compared, len(index.vectors))
        first = shown.iloc[np.unique(self.vector, return_index=True)[1]]
        first = first[self.clusters[first["vector"]] >= 0]
        rows = first["vector"].to_numpy(np.int64)
        if matcher.threshold == AUTO:
            near = (verifier or GeometricVerifier()).near_candidates
            matcher = matcher.at(radius(index.vectors[rows], near))
        self.prepared = (
            matcher.prepare(index.vectors, self.clusters, index.centroids)
            if float(matcher.threshold) > 0
            else None
        )
        self.vectors = index.vectors
        self.product_of = index.sight.product
        self.titles = index.titles
        self.look = None
        if verifier is not None:
            auto = verifier.min_score == AUTO
            least = floor(matcher.precision) if auto else float(verifier.min_score)
            self.look = Look(
                first["url"].tolist(), rows, index.sight, verifier, least, matcher.variants
            )

    def __call__(self, addresses: str | Sequence[str]) -> pd.DataFrame:
        """The products that show one of these images, surest and closest first.

        Args:
            addresses: the new product's images, each a path or an http(s) address.

        Returns:
            Columns ``product_id``, ``distance``, ``tier``, ``image`` (the product's image),
            ``query_image`` (the address that was asked), ``cluster``, ``score`` (how sure, 0 to
            1, before any calibration; missing where the distance alone decides), ``evidence``
            (in words) and ``title``. Each product once, by its surest tier, then its smallest
            distance; no row where nothing matches.

        Raises:
            SourceError: an image cannot be read, or none is named.
        """
        start = time.perf_counter()
        names = [addresses] if isinstance(addresses, str) else sorted(set(addresses))
        if not names:
            raise SourceError("no image was asked about: name one address or more")
        asked = [self._asked(*one) for one in zip(names, self._read(names), strict=True)]
        before = time.perf_counter()
        vectors = self.embed({"pixels": np.stack([one.shown for one in asked])})["embedding"]
        embedding = time.perf_counter() - before
        answer = self.answer(asked, vectors)
        elapsed = time.perf_counter() - start
        log.info("answered in %.0f ms (embedding %.0f)", 1000 * elapsed, 1000 * embedding)
        return answer

    @one_thread()
    def answer(self, asked: Sequence[Asked], vectors: npt.NDArray[np.float32]) -> pd.DataFrame:
        """What ``__call__`` returns, for images that are read and embedded, (q, d)."""
        equal = [self.by_digest.first(one.sha256_pixels) for one in asked]
        parts = [self._exact(number, one, equal[number]) for number, one in enumerate(asked)]
        telling = np.array([self._tells(*one) for one in zip(asked, equal, strict=True)])
        told = [one for one, tells in zip(asked, telling, strict=True) if tells]
        parts.append(self._near(vectors[telling], np.flatnonzero(telling), told))
        found = Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        # Rows are in the order of their products' ids and then addresses.
        order = np.lexsort((found.query, found.row, found.distance, found.rank))
        best = np.sort(np.unique(self.product[found.row[order]], return_index=True)[1])
        return self._table(found, order[best], asked)

    def _table(self, found: Found, best: Ints, asked: Sequence[Asked]) -> pd.DataFrame:
        rows = found.row[best]
        ids = taken(self.product_id, rows)
        titles = self.titles(ids)
        columns = {
            "product_id": ids,
            "distance": found.distance[best],
            "tier": [TIERS[rank] for rank in found.rank[best]],
            "image": taken(self.by_url.texts, rows),
            "query_image": [asked[query].address for query in found.query[best]],
            "cluster": self.cluster[rows],
            "score": found.score[best],
            "evidence": found.evidence[best],
            "title": [titles.get(key, "") for key in ids],
        }
        return pd.DataFrame(columns)

    def _read(self, addresses: Sequence[str]) -> list[Reading]:
        """Read images as an index's are: in child processes, whose limits they cannot pass."""
        usual = Decoders(self.reader, max_bytes=self.fetcher.max_bytes)
        with nullcontext(self.decoders) if self.decoders else usual as decoders:
            begun = [(address, self._begin(address, decoders)) for address in addresses]
            return [_result(*one) for one in begun]

    def _begin(self, address: str, decoders: Decoders) -> Future[Reading]:
        with _about(address):
            return decoders.submit(self.fetcher.fetch(address) if is_http(address) else address)

    def _asked(self, address: str, found: Reading) -> Asked:
        detail = decode_preview(found.image.detail)
        mask, shown = self.product_of(detail) or (None, found.image.pixels)
        return Asked(
            address=address,
            place=address if is_http(address) else os.path.realpath(address),
            pixels=found.image.pixels,
            detail=detail,
            flat=bool(np.float32(found.contrast) < self.min_contrast),  # float32: as stored
            sha256_bytes=found.sha256_bytes,
            sha256_pixels=found.sha256_pixels,
            shown=shown,
            mask=mask,
        )

    def _tells(self, one: Asked, equal: int | None) -> bool:
        """Whether an image may be near to others: it is not flat, nor shared by too many.

        ``equal`` is a row with equal pixels.
        """
        shared = equal is not None and self.clusters[self.vector[equal]] < 0
        return not shared and not one.flat

    def _exact(self, number: int, one: Asked, equal: int | None) -> Found:
        """Products with the very address, and with equal pixels; ``equal`` is a row of these."""
        rows = np.empty(0, np.int64)
        if equal is not None:
            rows = self._rows_of(self.vector[[equal]])[0]
        same = self.by_url.rows(one.place)
        if len(same) and not one.flat:
            rows = np.union1d(rows, same)
        rows = self._smallest(rows, one.address)
        same_url = np.array(taken(self.by_url.texts, rows), object) == one.place
        same_bytes = np.array(taken(self.sha256_bytes, rows), object) == one.sha256_bytes
        rank = np.where(same_url, URL, np.where(same_bytes, BYTES, PIXELS))
        zeros, evidence = np.zeros(len(rows)), np.array(EVIDENCE, object)[rank]
        return Found(rows, rank, zeros, np.full(len(rows), number), zeros + 1, evidence)

    def _smallest(self, rows: Ints, address: str) -> Ints:
        """Those rows, ascending, that belong to the ``max_products`` smallest ids."""
        place = np.cumsum(np.diff(self.product[rows], prepend=-1) > 0)
        if not len(rows) or place[-1] <= self.max_products:
            return rows
        log.warning(
            "%s is shown by %d products, so it proves little: %d of them are listed",
            address, place[-1], self.max_products,
        )  # fmt: skip
        return rows[place <= self.max_products]

    def _near(
        self, vectors: npt.NDArray[np.float32], numbers: Ints, asked: Sequence[Asked]
    ) -> Found:
        """Images near to those asked about, of embeddings (q, d) and numbers (q,)."""
        none, empty = np.empty(0, np.int64), np.empty(0)
        if not len(vectors) or (self.prepared is None and self.look is None):
            return Found(none, none, empty, none, empty, np.empty(0, object))
        found, distance = Candidates(none, none), empty
        if self.prepared is not None:
            matches = self.prepared.search(vectors)
            found, distance = Candidates(matches.left, matches.right), matches.distance
        score, evidence = np.full(len(distance), np.nan), np.full(len(distance), "", object)
        if self.look is not None:
            copies = self.look([LocalFeatures.of(one.detail, one.mask) for one in asked], found)
            found, score, evidence = Candidates(*copies[:2]), copies.score, copies.evidence
            apart = vectors[found.left].astype(np.float64) - self.vectors[found.right]
            distance = np.linalg.norm(apart, axis=1)
        unit = np.maximum(units(vectors)[found.left], units(self.vectors[found.right]))
        distance = rounded(distance, unit)
        rows, match = self._rows_of(found.right)
        rank = np.full(len(rows), NEAR)
        queries = numbers[found.left[match]]
        return Found(rows, rank, distance[match], queries, score[match], evidence[match])

    def _rows_of(self, vectors: Ints) -> tuple[Ints, Ints]:
        """The rows that show each of these vectors, and which of them each row shows."""
        first, counts = self.starts[vectors], self.starts[vectors + 1] - self.starts[vectors]
        which = np.repeat(np.arange(len(vectors)), counts)
        within = np.arange(len(which)) - np.repeat(counts.cumsum() - counts, counts)
        return self.by_vector[first[which] + within], which


@contextmanager
def _about(address: str) -> Iterator[None]:
    """Make what is wrong with an image an error that names it."""
    try:
        yield
    except ImageError as error:
        raise SourceError(f"the image {visible(address)} cannot be read: {error}") from error


def _result(address: str, begun: Future[Reading]) -> Reading:
    with _about(address):
        return begun.result()


class Lookup:
    """Where a text stands in a column, without a pass over the column.

    Args:
        column: of texts.

    Attributes:
        texts: the column as Arrow has it.
    """

    def __init__(self, column: pd.Series[str]) -> None:
        self.texts = arrow(column)
        hashes = pd.util.hash_array(column.to_numpy(object), categorize=False)
        self.order: Ints = np.argsort(hashes, kind="stable")
        self.hashes = hashes[self.order]

    def rows(self, text: str) -> Ints:
        """The places where the text stands, ascending."""
        places = self._candidates(text)
        found: Ints = places[np.array(taken(self.texts, places), object) == text]
        return found

    def first(self, text: str) -> int | None:
        """The first place where the text stands, or ``None``."""
        places = self._candidates(text)
        return next((int(at) for at in places if self.texts[at].as_py() == text), None)

    def _candidates(self, text: str) -> Ints:
        if not _is_utf8(text):  # a file's name may be other bytes, an index holds none such
            return np.empty(0, np.int64)
        wanted = pd.util.hash_array(np.array([text], object), categorize=False)
        start = np.searchsorted(self.hashes, wanted, "left")[0]
        stop = np.searchsorted(self.hashes, wanted, "right")[0]
        return self.order[start:stop]


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def arrow(column: pd.Series[str]) -> pa.Array:
    """A column of texts that gives a few of them at once, in a third of the memory of objects."""
    return pa.array(column.to_numpy(object), pa.large_string())


def taken(column: pa.Array, rows: Ints) -> list[str]:
    """The texts in some rows."""
    texts: list[str] = column.take(pa.array(rows)).to_pylist()
    return texts
