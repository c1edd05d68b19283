"""Query an index with the images of a new product."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.detection.calibration import floor
from dedup.detection.candidates import Candidates, radius
from dedup.detection.comparison import clusters_of_vectors
from dedup.detection.exact import EVIDENCE
from dedup.detection.lookup import Lookup, arrow, taken
from dedup.detection.verdicts import Look
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
from dedup.sources.cells import is_cell
from dedup.store.decode import Pixels, decode_preview
from dedup.store.decode_pool import Decoders, Reading
from dedup.store.local_files import is_remote
from dedup.store.placeholders import MaxProducts, most_products, without_placeholders
from dedup.store.table_cells import TableCells
from dedup.verification.alignment import LocalFeatures
from dedup.verification.geometric import GeometricVerifier

log = logging.getLogger("dedup")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SHOWN = ["product_id", "url", "sha256_bytes", DIGEST, "vector", "cluster"]
URL, BYTES, PIXELS, NEAR = range(len(TIERS))
"""Ranks of the tiers."""


class QueryImage(NamedTuple):
    """Image of the new product.

    Attributes:
        address: address as the user gave it.
        place: the address, or the path without links, as indexes store it.
        pixels: (3, 200, 100) uint8.
        detail: preview, (h, w, 3) uint8, 320 on the long side at most.
        flat: whether the image has too little contrast to be compared.
        sha256_bytes: digest of the file.
        sha256_pixels: digest of the pixels.
        shown: input of the encoder, (3, 200, 100) uint8: the pixels, or the product alone.
        mask: (h', w') uint8, mask of the product; ``None`` if unknown.
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


class Matches(NamedTuple):
    """Images of the index that match query images, arrays of one length.

    Attributes:
        row: row of the index's images, sorted by product.
        rank: index of the tier in ``TIERS``.
        distance: L2 of the embeddings, 0 for equal pixels.
        query: number of the query image.
        score: score of the classifier, 0 to 1; 1 for equal pixels; NaN without a verifier.
        evidence: evidence in words; "" without a verifier.
    """

    row: Ints
    rank: Ints
    distance: Floats
    query: Ints
    score: Floats
    evidence: npt.NDArray[np.object_]


class Query:
    """Find the products that show a new product's images; loads encoder and index once.

    A placeholder, flat or shown by more than ``max_products`` products, is no evidence. It is
    found by equal pixels alone, and is near to no other image.

    Args:
        index: index to query.
        matcher: search for near images.
        checkpoint: checkpoint of the encoder; ``None`` for the one that the index names.
        max_products: products listed of an image that more products show, by smallest id; ``auto``
            for ``placeholders.most_products`` of the index.
        min_contrast: contrast below which an image is flat, see ``decode.contrast``.
        verifier: verifier of images that are near or have visual words in common; ``None`` for
            none. With ``min_score=auto``, the score is the lowest that calibration would choose
            for ``matcher.precision``.
        fetcher: client for images with a web address.
        decoders: running child processes that decode the images; ``None`` starts some at the
            first query, with the default limits. They end with this object or the process.

    Raises:
        ArtifactError: the checkpoint is missing, or not that of the index.
    """

    @one_thread()
    def __init__(
        self,
        index: Index,
        matcher: RadiusSearch,
        checkpoint: str | Path | None = None,
        max_products: MaxProducts = AUTO,
        min_contrast: float = 3.0,
        verifier: GeometricVerifier | None = None,
        fetcher: Fetcher | None = None,
        decoders: Decoders | None = None,
    ) -> None:
        self.fetcher = fetcher or Fetcher()
        self.decoders = decoders
        self._idle: dict[int, Decoders] = {}
        """Decoders between two queries, by the process that started them; a fork starts others."""
        weakref.finalize(self, _stop, self._idle)
        index.check_encoder(checkpoint or index.manifest["checkpoint"])
        self.reader: str = index.manifest["reader"]
        self.max_products = most_products(index.images, max_products)
        self.min_contrast = min_contrast
        self.embed = Embed(checkpoint or index.manifest["checkpoint"])
        shown = index.images.loc[index.images["vector"] >= 0, SHOWN]
        # Sorted by product, so that the order of rows is the order of product ids.
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
        self.look: Look | None = None
        if verifier is not None:
            is_auto = verifier.min_score == AUTO
            min_score = floor(matcher.precision) if is_auto else float(verifier.min_score)
            self.look = Look(
                first["url"].tolist(), rows, index.sight, verifier, min_score, matcher.variants
            )
        where = "the index" if index.folder is None else f"the index {index.folder}"
        log.info("%s answers by %s", where, self._rule(float(matcher.threshold)))

    def _rule(self, threshold: float) -> str:
        """Describe which images are found, and how to ask for more."""
        if self.look is not None:
            return (
                "equal images, and near ones that are verified with a score of "
                f"{self.look.min_score:.3g} or more"
            )
        if threshold > 0:
            return f"equal images, and those within matcher.threshold={threshold:.4g}"
        return (
            "equal images alone (matcher.threshold=0, no verifier): for near duplicates as well, "
            "add verifier=local matcher.threshold=auto"
        )

    def __call__(self, addresses: str | Sequence[str]) -> pd.DataFrame:
        """Find the products that show one of these images, surest and closest first.

        Args:
            addresses: images of the new product, each a path or an http(s) address.

        Returns:
            Columns ``product_id``, ``distance``, ``tier``, ``image`` (of the product),
            ``query_image`` (address of the query), ``cluster``, ``score`` (0 to 1, before any
            calibration; missing without a verifier), ``evidence`` (in words) and ``title``. Each
            product once, by its surest tier, then its smallest distance; no rows without a match.

        Raises:
            SourceError: an image cannot be read, or none is named.
        """
        start = time.perf_counter()
        names = [addresses] if isinstance(addresses, str) else sorted(set(addresses))
        if not names:
            raise SourceError("the query names no image: name one address or more")
        images = [self._image(*each) for each in zip(names, self._read(names), strict=True)]
        before = time.perf_counter()
        vectors = self.embed({"pixels": np.stack([image.shown for image in images])})["embedding"]
        embedding = time.perf_counter() - before
        answer = self.answer(images, vectors)
        elapsed = time.perf_counter() - start
        log.info("answered in %.0f ms (embedding %.0f)", 1000 * elapsed, 1000 * embedding)
        return answer

    @one_thread()
    def answer(
        self, images: Sequence[QueryImage], vectors: npt.NDArray[np.float32]
    ) -> pd.DataFrame:
        """Find the products for query images that are read and embedded, (q, d)."""
        equal = [self.by_digest.first(image.sha256_pixels) for image in images]
        parts = [self._exact(number, image, equal[number]) for number, image in enumerate(images)]
        is_evidence = np.array(
            [self._is_evidence(*each) for each in zip(images, equal, strict=True)]
        )
        compared = [image for image, use in zip(images, is_evidence, strict=True) if use]
        parts.append(self._near(vectors[is_evidence], np.flatnonzero(is_evidence), compared))
        matches = Matches(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        # Rows are in the order of their products' ids and then addresses.
        order = np.lexsort((matches.query, matches.row, matches.distance, matches.rank))
        best = np.sort(np.unique(self.product[matches.row[order]], return_index=True)[1])
        return self._table(matches, order[best], images)

    def _table(self, matches: Matches, best: Ints, images: Sequence[QueryImage]) -> pd.DataFrame:
        rows = matches.row[best]
        ids = taken(self.product_id, rows)
        titles = self.titles(ids)
        columns = {
            "product_id": ids,
            "distance": matches.distance[best],
            "tier": [TIERS[rank] for rank in matches.rank[best]],
            "image": taken(self.by_url.texts, rows),
            "query_image": [images[query].address for query in matches.query[best]],
            "cluster": self.cluster[rows],
            "score": matches.score[best],
            "evidence": matches.evidence[best],
            "title": [titles.get(key, "") for key in ids],
        }
        return pd.DataFrame(columns)

    def _read(self, addresses: Sequence[str]) -> list[Reading]:
        """Read images as the index did: in child processes with limits."""
        with self._lent() as decoders:
            started = [(address, self._begin(address, decoders)) for address in addresses]
            return [_result(*each) for each in started]

    @contextmanager
    def _lent(self) -> Iterator[Decoders]:
        """Lend decoders to one query at a time; after an error they are stopped at once."""
        if self.decoders is not None:
            yield self.decoders
            return
        process = os.getpid()
        decoders = self._idle.pop(process, None)
        if decoders is None:
            decoders = Decoders(self.reader, max_bytes=self.fetcher.max_bytes).__enter__()
        try:
            yield decoders
        except BaseException:
            decoders.__exit__()
            raise
        if self._idle.setdefault(process, decoders) is not decoders:  # of another thread's query
            decoders.__exit__()

    def _begin(self, address: str, decoders: Decoders) -> Future[Reading]:
        with _about(address):
            if is_cell(address):
                with TableCells(self.fetcher.max_bytes) as cells:
                    return decoders.submit(cells.read(address))
            return decoders.submit(self.fetcher.fetch(address) if is_remote(address) else address)

    def _image(self, address: str, reading: Reading) -> QueryImage:
        detail = decode_preview(reading.image.detail)
        mask, shown = self.product_of(detail) or (None, reading.image.pixels)
        return QueryImage(
            address=address,
            place=address if is_remote(address) or is_cell(address) else os.path.realpath(address),
            pixels=reading.image.pixels,
            detail=detail,
            flat=bool(np.float32(reading.contrast) < self.min_contrast),  # stored as float32
            sha256_bytes=reading.sha256_bytes,
            sha256_pixels=reading.sha256_pixels,
            shown=shown,
            mask=mask,
        )

    def _is_evidence(self, image: QueryImage, equal: int | None) -> bool:
        """Return whether an image may be near to others: it is no placeholder.

        ``equal`` is a row with equal pixels.
        """
        is_shared = equal is not None and self.clusters[self.vector[equal]] < 0
        return not is_shared and not image.flat

    def _exact(self, number: int, image: QueryImage, equal: int | None) -> Matches:
        """Find images with the same address or equal pixels; ``equal`` is a row of the latter."""
        rows = np.empty(0, np.int64)
        if equal is not None:
            rows = self._rows_of(self.vector[[equal]])[0]
        same = self.by_url.rows(image.place)
        if len(same) and not image.flat:
            rows = np.union1d(rows, same)
        rows = self._smallest(rows, image.address)
        same_url = np.array(taken(self.by_url.texts, rows), object) == image.place
        same_bytes = np.array(taken(self.sha256_bytes, rows), object) == image.sha256_bytes
        rank = np.where(same_url, URL, np.where(same_bytes, BYTES, PIXELS))
        zeros, evidence = np.zeros(len(rows)), np.array(EVIDENCE, object)[rank]
        return Matches(rows, rank, zeros, np.full(len(rows), number), zeros + 1, evidence)

    def _smallest(self, rows: Ints, address: str) -> Ints:
        """Keep the rows, ascending, of the ``max_products`` smallest ids."""
        place = np.cumsum(np.diff(self.product[rows], prepend=-1) > 0)
        if not len(rows) or place[-1] <= self.max_products:
            return rows
        log.warning(
            "%d products show %s, so it is probably a placeholder: listing %d of them",
            place[-1], address, self.max_products,
        )  # fmt: skip
        return rows[place <= self.max_products]

    def _near(
        self, vectors: npt.NDArray[np.float32], numbers: Ints, images: Sequence[QueryImage]
    ) -> Matches:
        """Find images near to query images, of embeddings (q, d) and numbers (q,)."""
        none, empty = np.empty(0, np.int64), np.empty(0)
        if not len(vectors) or (self.prepared is None and self.look is None):
            return Matches(none, none, empty, none, empty, np.empty(0, object))
        candidates, distance = Candidates(none, none), empty
        if self.prepared is not None:
            near = self.prepared.search(vectors)
            candidates, distance = Candidates(near.left, near.right), near.distance
        score, evidence = np.full(len(distance), np.nan), np.full(len(distance), "", object)
        if self.look is not None:
            features = [LocalFeatures.of(image.detail, image.mask) for image in images]
            copies = self.look(features, candidates)
            candidates, score, evidence = Candidates(*copies[:2]), copies.score, copies.evidence
            apart = vectors[candidates.left].astype(np.float64) - self.vectors[candidates.right]
            distance = np.linalg.norm(apart, axis=1)
        left, right = candidates.left, candidates.right
        unit = np.maximum(units(vectors)[left], units(self.vectors[right]))
        distance = rounded(distance, unit)
        rows, match = self._rows_of(right)
        rank = np.full(len(rows), NEAR)
        queries = numbers[left[match]]
        return Matches(rows, rank, distance[match], queries, score[match], evidence[match])

    def _rows_of(self, vectors: Ints) -> tuple[Ints, Ints]:
        """Find the rows of each vector; with each row, the place of its vector in ``vectors``."""
        first, counts = self.starts[vectors], self.starts[vectors + 1] - self.starts[vectors]
        which = np.repeat(np.arange(len(vectors)), counts)
        within = np.arange(len(which)) - np.repeat(counts.cumsum() - counts, counts)
        return self.by_vector[first[which] + within], which


def _stop(idle: dict[int, Decoders]) -> None:
    """Stop the decoders that this process started."""
    decoders = idle.pop(os.getpid(), None)
    if decoders is not None:
        decoders.__exit__()


@contextmanager
def _about(address: str) -> Iterator[None]:
    """Turn an error of an image into one that names the image."""
    try:
        yield
    except ImageError as error:
        raise SourceError(f"the image {visible(address)} cannot be read: {error}") from error


def _result(address: str, started: Future[Reading]) -> Reading:
    with _about(address):
        return started.result()
