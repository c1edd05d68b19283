"""Find the duplicates in an index; runs without torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.detection.blocks import Blocks, are_together, block_cells
from dedup.detection.comparison import Comparison, decided, meant
from dedup.detection.exact import exact_pairs
from dedup.detection.grouping import Grouping, best_pairs
from dedup.detection.results import DetectionResult
from dedup.errors import ArtifactError, ConfigError
from dedup.runtime.parallel import one_thread
from dedup.schemas import AUTO, NEAR, PAIRS
from dedup.search.clustering import nearest_centroids
from dedup.search.image_access import ImageAccess
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.search.state import SearchState
from dedup.store.placeholders import placeholders, without_placeholders
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.relations import NOTHING, VARIANT, families, settled

log = logging.getLogger("dedup")

Ints = npt.NDArray[np.int64]
ENDS = ["product_id_a", "product_id_b"]


@dataclass(frozen=True)
class Detector:
    """Every two products that are duplicates: by equal pixels, by distance or by a second look.

    Args:
        matcher: tells which embeddings are near each other. Its threshold may be ``auto``: with a
            verifier, as far as its budget of candidates goes; without, as far as the judge expects
            ``matcher.precision``.
        grouping: makes groups of the pairs.
        verifier: looks again at near images, and at images with visual words in common.
        max_products: an image that more products than this show proves nothing.
        min_contrast: nor does one with less contrast, 0 to 127.5.
        block_by: a column of the user's: only products with equal cells in it are compared. One
            with a blank cell is compared with all.
        estimate_recall: whether edited copies are made to estimate how many would be found; for
            who calls this, see ``dedup.detection.recall``.
    """

    matcher: RadiusSearch
    grouping: Grouping
    verifier: GeometricVerifier | None = None
    max_products: int = 100
    min_contrast: float = 3.0
    block_by: str | None = None
    estimate_recall: bool = True

    @one_thread()
    def __call__(
        self, index: Index, since: SearchState | None = None, others: Collection[str] | None = None
    ) -> tuple[DetectionResult, SearchState]:
        """Search an index.

        Args:
            index: what to search.
            since: an earlier search. Images that it compared are not compared with each other
                again; the result is the same.
            others: ids of products; only pairs of one of these and one of the rest are taken.

        Raises:
            ConfigError: a column is not in the table, or there are too many pairs.
            ArtifactError: ``since`` does not fit.
        """
        self._check(index, since)
        images = without_placeholders(index.images, self.max_products, self.min_contrast)
        exact = exact_pairs(images)
        blocks = self._blocks(index, images)
        comparison = Comparison(index, images, self.matcher, self.verifier, blocks, self.block_by)
        search = comparison.search(since, others)
        near, calibration = decided(search, self.matcher, self.verifier)
        near = near.assign(distance=meant(near, index))
        near = settled(near, self.matcher.variants, self.verifier is not None)
        candidates = self._between(index, _shown_by(near, images).assign(tier="near"), others)
        called = candidates.assign(score=candidates["surety"])
        pairs = best_pairs(
            pd.concat(
                [self._between(index, exact, others), called.loc[called["reported"], PAIRS.names]]
            )
        )
        related = best_pairs(called[~called["reported"] & (called["relation"] != NOTHING)])
        related = _without(related, pairs)
        groups = self.grouping(pairs, index)
        found = DetectionResult(
            pairs=pairs,
            groups=groups,
            shared=placeholders(index.images, self.max_products, self.min_contrast),
            search=search.facts,
            calibration=calibration,
            candidates=best_pairs(candidates[PAIRS.names]),
            related=related,
            families=families(related[related["relation"] == VARIANT], groups),
        )
        return found, search

    def _between(
        self, index: Index, pairs: pd.DataFrame, others: Collection[str] | None
    ) -> pd.DataFrame:
        """Those pairs that are asked for."""
        if others is not None:
            pairs = pairs[pairs[ENDS[0]].isin(list(others)) != pairs[ENDS[1]].isin(list(others))]
        if self.block_by is not None:
            cells = block_cells(index.products, index.manifest["id_column"], self.block_by)
            pairs = pairs[are_together(*(pairs[end].map(cells) for end in ENDS))]
        return pairs

    def _blocks(self, index: Index, images: pd.DataFrame) -> Blocks | None:
        """What may be compared with what; ``None`` for all with all."""
        if self.block_by is None:
            return None
        cells = block_cells(index.products, index.manifest["id_column"], self.block_by)
        if n_blank := int((cells == "").sum()):
            log.info(
                "%d of %d products have no %s: each is compared with all",
                n_blank, len(cells), self.block_by,
            )  # fmt: skip
        return Blocks.of(images, cells, len(index.vectors))

    def _check(self, index: Index, since: SearchState | None) -> None:
        columns = list(index.products.columns)
        self.grouping.check(columns)
        if self.block_by is not None and self.block_by not in columns:
            raise ConfigError(
                f"block_by={self.block_by}: the table has no such column. It has "
                + ", ".join(map(str, columns))
            )
        if since is None:
            return
        facts, threshold = since.facts, self.matcher.threshold
        if facts.checkpoint_sha256 != index.manifest["checkpoint_sha256"]:
            raise ArtifactError("since= names a search with another checkpoint: leave it out")
        if facts.block_by not in (None, self.block_by):
            raise ArtifactError(
                f"since= names a search with detection.block_by={facts.block_by}, and this one "
                f"has {self.block_by}: pairs are missing there. Leave since out"
            )
        looks = self.verifier is not None or threshold == AUTO
        if facts.looked != looks or (threshold == AUTO) != (facts.asked == AUTO):
            raise ArtifactError(
                "since= names a search with another matcher.threshold or verifier: it cannot be "
                "gone on with. Leave since out"
            )
        if looks and facts.asked != threshold:
            raise ArtifactError(
                f"since= names a search at threshold {facts.asked}, and this one is at "
                f"{threshold}: with a verifier both must be the same. Leave since out"
            )
        too_near = not isinstance(threshold, str) and facts.threshold < threshold
        if too_near or not (facts.lossless and self.matcher.lossless):
            raise ArtifactError(
                f"since= names a search at threshold {facts.threshold:g}, lossless="
                f"{facts.lossless}, and this one is at {threshold}, lossless="
                f"{self.matcher.lossless}: both must be lossless, and the earlier threshold no "
                "lower. Leave since out"
            )


def _without(pairs: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Those pairs of products that are not among others."""
    ends = (pd.MultiIndex.from_frame(it[ENDS]) for it in (pairs, known))
    mine, theirs = ends
    return pairs[~mine.isin(theirs)].reset_index(drop=True)


def clustered_table(index: Index) -> pd.DataFrame:
    """The user's table with one more column, ``cluster``: that of the record's first good image.

    A record without one has an empty cell. Should the table have a column of that name already,
    it is replaced.
    """
    ok = index.images[index.images["vector"] >= 0].drop_duplicates("record")
    cluster = pd.Series(ok["cluster"].astype(str).to_numpy(), index=ok["record"].to_numpy())
    return index.products.assign(cluster=cluster.reindex(index.products.index).fillna(""))


def merged(index: Index, other: Index, prefix: str) -> tuple[Index, set[str]]:
    """Two catalogues as one index, to be compared with each other.

    Args:
        index: gives the centroids, the manifest and the columns' names.
        other: made with the same encoder; its ids get ``prefix``, so that equal ids stay apart.
        prefix: such as ``B:``.

    Returns:
        The index, and the other's ids in it.

    Raises:
        ArtifactError: the two were made with different encoders or foregrounds.
        ConfigError: an id of ``index`` starts with the prefix.
    """
    if index.manifest["checkpoint_sha256"] != other.manifest["checkpoint_sha256"]:
        raise ArtifactError(
            "against= names an index made with another checkpoint: distances between the two mean "
            "nothing. Make both with one checkpoint"
        )
    if index.shows != other.shows:
        raise ArtifactError(
            "against= names an index made with another foreground: distances between the two mean "
            "nothing. Make both with one foreground="
        )
    taken = index.images["product_id"].str.startswith(prefix)
    if taken.any():
        raise ConfigError(
            f"prefix={prefix}: the id {index.images['product_id'][taken].iloc[0]!r} starts with "
            "it. Choose another prefix"
        )
    images = other.images.assign(product_id=_prefixed(other.images["product_id"], prefix))
    images["record"] += len(index.products)
    place, vectors = _placed(index, other)
    images["vector"] = np.append(place, -1)[images["vector"]]
    labels = nearest_centroids(other.vectors, index.centroids)
    images["cluster"] = np.append(labels, -1)[other.images["vector"]]
    key = other.manifest["id_column"]
    products = other.products.assign(**{key: _prefixed(other.products[key], prefix)})
    names = {key: index.manifest["id_column"]}
    if index.manifest["title_column"] and other.manifest["title_column"]:
        names[other.manifest["title_column"]] = index.manifest["title_column"]
    url, other_url = (it.manifest.get("url_column") for it in (index, other))
    if url and other_url and url not in products.columns:
        names[other_url] = url
    products = products.rename(columns=names)
    thumbnails = [index.thumbnails, other.thumbnails]
    both = replace(
        index,
        images=pd.concat([index.images, images], ignore_index=True),
        vectors=vectors,
        products=pd.concat([index.products, products], ignore_index=True).fillna(""),
        manifest={**index.manifest, "against": {"prefix": prefix}},
        thumbnails=lambda urls: thumbnails[1](urls) | thumbnails[0](urls),
        sight=_both(index, other),
    )
    return both, set(images["product_id"])


def _both(index: Index, other: Index) -> ImageAccess:
    """Looks up the images of either."""
    mine = set(index.images["url"])

    def looked_up(urls: Sequence[str], ours: Callable[..., Any], theirs: Callable[..., Any]) -> Any:
        is_mine = np.array([url in mine for url in urls], bool)
        parts = [
            look(list(np.array(urls, object)[where])) if where.any() else []
            for look, where in ((ours, is_mine), (theirs, ~is_mine))
        ]
        order = np.argsort(np.concatenate([np.flatnonzero(is_mine), np.flatnonzero(~is_mine)]))
        together = [*parts[0], *parts[1]]
        return [together[place] for place in order]

    return ImageAccess(
        lambda urls: looked_up(urls, index.sight.details, other.sight.details),
        lambda urls: np.array(
            looked_up(urls, index.sight.words, other.sight.words), np.int32
        ).reshape(len(urls), -1),
        index.sight.product,
        lambda urls: looked_up(urls, index.sight.masks, other.sight.masks),
        # Kept results are told apart by one reader's name.
        index.sight.derived if index.manifest["reader"] == other.manifest["reader"] else None,
    )


def _prefixed(ids: pd.Series[str], prefix: str) -> pd.Series[str]:
    return (prefix + ids).where(ids != "", "")


def _placed(index: Index, other: Index) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Where the other's vectors stand among both: equal pixels share one."""
    mine, theirs = (it.images.drop_duplicates("vector") for it in (index, other))
    mine, theirs = (it[it["vector"] >= 0] for it in (mine, theirs))
    known = pd.Series(mine["vector"].to_numpy(), index=mine["sha256_pixels"].to_numpy())
    place = np.full(len(other.vectors), -1, np.int64)
    place[theirs["vector"]] = theirs["sha256_pixels"].map(known).fillna(-1).astype(np.int64)
    new = np.flatnonzero(place < 0)
    place[new] = len(index.vectors) + np.arange(len(new))
    return place, np.concatenate([index.vectors, other.vectors[new]])


def _shown_by(near: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Every two different products that show two near images; columns of ``PAIRS``, but tier."""
    shown = images[images["sha256_pixels"].isin(pd.unique(near[NEAR.names[:2]].to_numpy().ravel()))]
    shown = shown[["sha256_pixels", "product_id", "url"]].drop_duplicates()
    pairs = near
    for end in ("a", "b"):
        names = [f"pixels_{end}", f"product_id_{end}", f"image_{end}"]
        pairs = pairs.merge(shown.set_axis(names, axis=1), on=names[0])
    pairs = pairs[pairs["product_id_a"] != pairs["product_id_b"]]
    swap = (pairs["product_id_a"] > pairs["product_id_b"]).to_numpy()[:, None]
    for name in ("product_id", "image"):
        ends = [f"{name}_a", f"{name}_b"]
        pairs[ends] = np.where(swap, pairs[ends[::-1]], pairs[ends])
    return pairs
