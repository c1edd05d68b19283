"""Detect the duplicates in an index; runs without torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.detection.blocks import Blocks, are_together, block_cells
from dedup.detection.calibration import of_report
from dedup.detection.comparison import Comparison, decided, meant
from dedup.detection.decided import settle
from dedup.detection.exact import exact_pairs
from dedup.detection.galleries import judge
from dedup.detection.grouping import Grouping, best_pairs
from dedup.detection.health import HealthRules
from dedup.detection.recalibration import Recalibration, categories_of
from dedup.detection.results import DetectionResult
from dedup.errors import ArtifactError, ConfigError
from dedup.review.ledger import Ledger
from dedup.runtime.parallel import one_thread
from dedup.schemas import AUTO, NEAR, PAIRS, SHARED_IMAGE
from dedup.search.clustering import nearest_centroids
from dedup.search.image_access import ImageAccess
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.search.state import SearchState
from dedup.store.measures import MEASURES
from dedup.store.placeholders import (
    MaxProducts,
    listed,
    placeholders,
    with_equal_evidence,
    without_placeholders,
)
from dedup.verification.direction import told
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.relations import NOTHING, VARIANT, decide_relations, variant_families

log = logging.getLogger("dedup")

Ints = npt.NDArray[np.int64]
ENDS = ["product_id_a", "product_id_b"]


@dataclass(frozen=True)
class Detector:
    """Detect duplicate products by equal pixels, by embedding distance, or by verification.

    Args:
        matcher: search for near embeddings. With ``threshold=auto`` and a verifier, its radius
            follows from the budget of candidates. Without a verifier, the classifier chooses the
            threshold that gives ``matcher.precision``.
        grouping: grouping of the pairs.
        verifier: verifier of near images and of images with visual words in common.
        max_products: number of products above which an image is a placeholder, and no evidence;
            ``auto``: by the number of products, see ``placeholders.most_products``.
        min_contrast: contrast, 0 to 127.5, below which an image is no evidence of near
            duplicates; equal pixels of an image that is not blank are.
        block_by: column of the user's table; only products with equal cells are compared. A
            product with a blank cell is compared with all.
        estimate_recall: whether the caller estimates recall with edited copies, see
            ``dedup.detection.recall``.
        health: limits of a healthy image; ``None`` judges none.
        ledger: people's decisions, which come before what the images say; ``None`` for none.
        calibration: what people's decisions make of the scores; ``None`` for nothing.
    """

    matcher: RadiusSearch
    grouping: Grouping
    verifier: GeometricVerifier | None = None
    max_products: MaxProducts = AUTO
    min_contrast: float = 3.0
    block_by: str | None = None
    estimate_recall: bool = True
    health: HealthRules | None = field(default_factory=HealthRules)
    ledger: Ledger | None = None
    calibration: Recalibration | None = None

    @one_thread()
    def __call__(
        self, index: Index, since: SearchState | None = None, others: Collection[str] | None = None
    ) -> tuple[DetectionResult, SearchState]:
        """Detect the duplicates in an index.

        Args:
            index: index of the catalogue.
            since: earlier search. Images that it compared are not compared with each other
                again; the result is the same.
            others: product ids of the other catalogue; only pairs across the two are kept.

        Raises:
            ConfigError: a column is not in the table, or there are too many pairs.
            ArtifactError: ``since`` has other settings.
        """
        self._check(index, since)
        images = without_placeholders(index.images, self.max_products, self.min_contrast)
        equal = with_equal_evidence(index.images, self.max_products, self.min_contrast)
        blocks = self._blocks(index, images)
        comparison = Comparison(index, images, self.matcher, self.verifier, blocks, self.block_by)
        if since is not None and since.facts.verdicts != comparison.verdicts:
            log.warning("since= names a search with another classifier: all is compared again")
            since = None
        category = self._category(index, comparison.verdicts)
        search = comparison.search(since, others)
        near, calibration = decided(search, self.matcher, self.verifier, self.calibration, category)
        near = near.assign(distance=meant(near, index))
        near = decide_relations(near, self.matcher.variants, self.verifier is not None)
        compared = _product_pairs(near, images).assign(tier="near")
        compared = compared.assign(verified=compared["score"], score=compared["surety"])
        is_reported = compared["reported"]
        copies = _told(compared.loc[is_reported, [*PAIRS.names, "copy_of"]])
        alike = pd.concat([exact_pairs(equal).assign(copy_of=0.0), copies])
        is_evidence = index.images.index.isin(equal.index)
        judged = judge(alike, index.images, is_evidence, near[near["reported"]])
        directed = best_pairs(self._allowed(index, judged.pairs, others))
        pairs = directed[PAIRS.names]
        kin = compared.loc[~is_reported & (compared["relation"] != NOTHING), PAIRS.names]
        related = _without(best_pairs(self._allowed(index, kin, others)), pairs)
        aside = best_pairs(self._allowed(index, judged.related, others))[PAIRS.names]
        aside = _without(aside, pd.concat([pairs, related])).assign(relation=SHARED_IMAGE)
        related = best_pairs(pd.concat([related, aside])) if len(aside) else related
        candidates = self._allowed(index, compared.assign(score=compared["verified"]), others)
        candidates = best_pairs(candidates[PAIRS.names])
        silent = placeholders(index.images, self.max_products, self.min_contrast)
        shared = listed(pd.concat([silent, judged.shared])) if len(judged.shared) else silent
        health = None if self.health is None else self.health(index, silent)
        links, reported, table = None, pairs, None
        if self.ledger is not None:
            settled = settle(self.ledger, index, directed, related, candidates)
            directed, related, links = settled.directed, settled.related, settled.links
            pairs, reported, table = directed[PAIRS.names], settled.proposed, settled.table
        groups = self.grouping(directed, index, health, links)
        result = DetectionResult(
            pairs=pairs,
            groups=groups,
            shared=shared,
            search=search.facts,
            calibration=of_report(calibration, reported),
            candidates=candidates,
            related=related,
            families=variant_families(related[related["relation"] == VARIANT], groups),
        )
        if health is not None:
            result = replace(result, health=health)
        if table is not None:
            result = replace(result, decided=table)
        return result, search

    def _allowed(
        self, index: Index, pairs: pd.DataFrame, others: Collection[str] | None
    ) -> pd.DataFrame:
        """Keep the pairs across the two catalogues, and inside the blocks."""
        if others is not None:
            pairs = pairs[pairs[ENDS[0]].isin(list(others)) != pairs[ENDS[1]].isin(list(others))]
        if self.block_by is not None:
            cells = block_cells(index.products, index.manifest["id_column"], self.block_by)
            pairs = pairs[are_together(*(pairs[end].map(cells) for end in ENDS))]
        return pairs

    def _category(self, index: Index, verdicts: str | None) -> dict[str, str] | None:
        """Return the category of each image by digest, where a calibration has some.

        Raises:
            ArtifactError: the calibration is of another classifier.
            ConfigError: its column is missing, or no scores are calibrated.
        """
        if self.calibration is None:
            return None
        if AUTO not in (self.matcher.threshold, getattr(self.verifier, "min_score", None)):
            raise ConfigError(
                "calibration= recalibrates the scores that an automatic threshold is chosen by: "
                "leave it out, or use verifier=local verifier.min_score=auto"
            )
        self.calibration.check(verdicts)
        if not self.calibration.column:
            return None
        of = categories_of(index.products, index.manifest["id_column"], self.calibration.column)
        shown = index.images.drop_duplicates("sha256_pixels")
        products = shown["product_id"].to_numpy(object).tolist()
        digests = shown["sha256_pixels"].to_numpy(object).tolist()
        return {digest: of.get(key, "") for digest, key in zip(digests, products, strict=True)}

    def _blocks(self, index: Index, images: pd.DataFrame) -> Blocks | None:
        """Return the blocks to compare inside of; ``None`` to compare all with all."""
        if self.block_by is None:
            return None
        cells = block_cells(index.products, index.manifest["id_column"], self.block_by)
        named = cells[cells.index != ""]  # a record without an id is no product
        if n_blank := int((named == "").sum()):
            log.info(
                "%d of %d products have no %s: each is compared with all",
                n_blank, len(named), self.block_by,
            )  # fmt: skip
        return Blocks.of(images, cells, len(index.vectors))

    def _check(self, index: Index, since: SearchState | None) -> None:
        columns = list(index.products.columns)
        self.grouping.check(columns, judged=self.health is not None)
        if self.block_by is not None and self.block_by not in columns:
            raise ConfigError(
                f"block_by={self.block_by}: the table has no such column. It has "
                + ", ".join(map(str, columns))
            )
        if since is None:
            return
        facts, threshold = since.facts, self.matcher.threshold
        if facts.checkpoint_sha256 != index.manifest["checkpoint_sha256"]:
            raise ArtifactError(
                "since= names a search with another checkpoint, whose distances cannot be "
                "compared: leave since out"
            )
        if facts.against:
            raise ArtifactError(
                "since= names a search between two catalogues, which compared no pair inside "
                "either: name an earlier run of this catalogue, or leave since out"
            )
        if facts.block_by not in (None, self.block_by):
            raise ArtifactError(
                f"since= names a search with detection.block_by={facts.block_by}, which lacks "
                f"pairs that detection.block_by={self.block_by} needs: set "
                f"detection.block_by={facts.block_by} too, or leave since out"
            )
        is_verified = self.verifier is not None or threshold == AUTO
        if facts.looked != is_verified or (threshold == AUTO) != (facts.asked == AUTO):
            raise ArtifactError(
                "since= names a search with another matcher.threshold or verifier, which cannot "
                "be continued: leave since out, or use the settings of that search"
            )
        if is_verified and facts.asked != threshold:
            raise ArtifactError(
                f"since= names a search at threshold {facts.asked}, and this one is at "
                f"{threshold}: with a verifier both must be the same. Leave since out"
            )
        is_lower = not isinstance(threshold, str) and facts.threshold < threshold
        if is_lower or not (facts.lossless and self.matcher.lossless):
            raise ArtifactError(
                f"since= names a search at threshold {facts.threshold:g}, lossless="
                f"{facts.lossless}, and this one is at {threshold}, lossless="
                f"{self.matcher.lossless}: both must be lossless, and the earlier threshold no "
                "lower. Leave since out"
            )


def _without(pairs: pd.DataFrame, dropped: pd.DataFrame) -> pd.DataFrame:
    """Drop the pairs of products that are also in another table."""
    keys, dropped_keys = (pd.MultiIndex.from_frame(table[ENDS]) for table in (pairs, dropped))
    return pairs[~keys.isin(dropped_keys)].reset_index(drop=True)


def clustered_table(index: Index) -> pd.DataFrame:
    """Add the column ``cluster`` to the user's table: the cluster of a record's first good image.

    The cell is empty for a record without an image that could be read. A column of that name is
    replaced.
    """
    ok = index.images[index.images["vector"] >= 0].drop_duplicates("record")
    cluster = pd.Series(ok["cluster"].astype(str).to_numpy(), index=ok["record"].to_numpy())
    return index.products.assign(cluster=cluster.reindex(index.products.index).fillna(""))


def merged(index: Index, other: Index, prefix: str) -> tuple[Index, set[str]]:
    """Merge two catalogues into one index, to compare them with each other.

    Args:
        index: the first index, whose centroids, manifest and column names are kept.
        other: the other index, of the same encoder; its ids get ``prefix``, so that equal ids
            stay apart.
        prefix: prefix of the other's ids, such as ``B:``.

    Returns:
        The index, and the other's ids in it.

    Raises:
        ArtifactError: the indexes were made with different encoders or foregrounds.
        ConfigError: an id of ``index`` starts with the prefix.
    """
    if index.manifest["checkpoint_sha256"] != other.manifest["checkpoint_sha256"]:
        raise ArtifactError(
            "against= names an index made with another checkpoint: embeddings of different "
            "checkpoints cannot be compared. Make both indexes with the same checkpoint"
        )
    if index.shows != other.shows:
        raise ArtifactError(
            "against= names an index made with another foreground: embeddings of different "
            "foregrounds cannot be compared. Make both indexes with the same foreground="
        )
    has_prefix = index.images["product_id"].str.startswith(prefix)
    if has_prefix.any():
        raise ConfigError(
            f"prefix={prefix}: the id {index.images['product_id'][has_prefix].iloc[0]!r} starts "
            "with it. Choose another prefix"
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
    for url, other_url in zip(index.url_columns, other.url_columns, strict=False):
        if url not in products.columns:
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
    """Give access to the images of both indexes."""
    first_urls = set(index.images["url"])

    def look_up(urls: Sequence[str], first: Callable[..., Any], second: Callable[..., Any]) -> Any:
        is_first = np.array([url in first_urls for url in urls], bool)
        parts = [
            access(list(np.array(urls, object)[where])) if where.any() else []
            for access, where in ((first, is_first), (second, ~is_first))
        ]
        order = np.argsort(np.concatenate([np.flatnonzero(is_first), np.flatnonzero(~is_first)]))
        together = [*parts[0], *parts[1]]
        return [together[place] for place in order]

    return ImageAccess(
        lambda urls: look_up(urls, index.sight.details, other.sight.details),
        lambda urls: np.array(
            look_up(urls, index.sight.words, other.sight.words), np.int32
        ).reshape(len(urls), -1),
        index.sight.product,
        lambda urls: look_up(urls, index.sight.masks, other.sight.masks),
        # Cached results carry the name of one reader.
        index.sight.derived if index.manifest["reader"] == other.manifest["reader"] else None,
        lambda urls: np.array(
            look_up(urls, index.sight.measures, other.sight.measures), np.float64
        ).reshape(len(urls), len(MEASURES)),
        lambda urls: look_up(urls, index.sight.keypoints, other.sight.keypoints),
    )


def _prefixed(ids: pd.Series[str], prefix: str) -> pd.Series[str]:
    return (prefix + ids).where(ids != "", "")


def _placed(index: Index, other: Index) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Merge the vectors of two indexes; equal pixels share a vector.

    Returns:
        Row of each of the other's vectors, and all vectors.
    """
    first, second = (each.images.drop_duplicates("vector") for each in (index, other))
    first, second = (images[images["vector"] >= 0] for images in (first, second))
    row_of = pd.Series(first["vector"].to_numpy(), index=first["sha256_pixels"].to_numpy())
    place = np.full(len(other.vectors), -1, np.int64)
    place[second["vector"]] = second["sha256_pixels"].map(row_of).fillna(-1).astype(np.int64)
    new = np.flatnonzero(place < 0)
    place[new] = len(index.vectors) + np.arange(len(new))
    return place, np.concatenate([index.vectors, other.vectors[new]])


def _product_pairs(near: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Pair the products of near images; columns of ``PAIRS`` without ``tier``."""
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
    pairs["copy_of"] = np.where(swap[:, 0], -pairs["copy_of"], pairs["copy_of"]) + 0.0
    return pairs


def _told(pairs: pd.DataFrame) -> pd.DataFrame:
    """Name the product whose image is the copy in the evidence of duplicates."""
    columns = (pairs[name] for name in ("copy_of", *ENDS, "evidence"))
    return pairs.assign(evidence=[told(*row) for row in zip(*columns, strict=True)])
