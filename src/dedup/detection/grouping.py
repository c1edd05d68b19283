"""Group pairs of products, and choose the product of each group that is kept."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dedup.detection.cell_values import numbers_of, truths_of
from dedup.detection.constraints import Nodes, grouped
from dedup.errors import ConfigError
from dedup.review.standing import Links
from dedup.schemas import GROUPS, PAIR_RELATIONS, PAIRS, PROBLEMS, TIERS
from dedup.search.index import Index

Ints = npt.NDArray[np.int64]
ENDS = ["product_id_a", "product_id_b"]
LINKAGES = ("kept", "single")
log = logging.getLogger("dedup")

OF_IMAGES = ("most_images", "cleanest", "largest", "healthiest")
OF_COLUMNS = ("highest", "lowest", "true")


def best_pairs(candidates: pd.DataFrame) -> pd.DataFrame:
    """Keep one row a pair of products: by the surest tier, then relation, score and distance.

    A row without a score comes after those that have one.

    Args:
        candidates: columns of ``PAIRS``, in any order, and perhaps ``copy_of``; pairs may be
            repeated.

    Returns:
        Schema ``PAIRS``, with ``copy_of`` where that is given, sorted by both ids.
    """
    rank = candidates["tier"].map({tier: place for place, tier in enumerate(TIERS)})
    kind = candidates["relation"].map({name: place for place, name in enumerate(PAIR_RELATIONS)})
    by = [*ENDS, "rank", "kind", "doubt", "distance", "image_a", "image_b"]
    ranked = candidates.assign(rank=rank, kind=kind, doubt=-candidates["score"].astype(float))
    ranked = ranked.sort_values(by).drop_duplicates(ENDS)
    names = [*PAIRS.names, *ranked.columns.intersection(["copy_of"])]
    pairs: pd.DataFrame = ranked[names].reset_index(drop=True)
    return pairs


class Grouping:
    """Group pairs of products, and keep one product of each group.

    Args:
        linkage: ``single`` joins products by connected components. ``kept`` requires a pair of
            each product with the kept product of its group, so that a chain of slightly
            different images does not join products that have nothing in common.
        keep: rules for the kept product, the strongest first; the smallest id decides a draw.
            ``most_images``: most distinct ok images. ``cleanest``: the product whose images are
            the originals of other products' copies: the sum of ``copy_of`` over its pairs, which
            has no say on equal images. ``largest``: the ok image with most pixels.
            ``healthiest``: a usable image, then the fewest problems, of its best image.
            ``highest:COLUMN`` and ``lowest:COLUMN``: by a column of the user's table, as numbers
            where most cells that are not empty are numbers, see ``cell_values``; the others then
            count as empty, with a warning. Otherwise as text, which sorts dates such as 2024-05-31;
            empty cells lose. ``true:COLUMN``: cells that say yes, such as true, ja, in stock or a
            number above 0. A product on several rows counts with its best row.
    """

    def __init__(
        self,
        linkage: str = "kept",
        keep: str | Sequence[str] = ("most_images", "cleanest", "largest"),
    ) -> None:
        self.linkage = linkage
        self.keep = keep

    def __call__(
        self,
        pairs: pd.DataFrame,
        index: Index,
        health: pd.DataFrame | None = None,
        links: Links | None = None,
    ) -> pd.DataFrame:
        """Group products; the order of the rows does not matter.

        With linkage ``kept``, products are visited from the best to the worst. A product without
        a pair with a kept product is kept. Each other product then joins the closest kept product:
        by the surest tier, then the distance, then the rules. A kept product that no product
        joins is in no group. So the products of a pair may be in two groups, or one in none.

        Between two catalogues, merged by ``detector.merged``, the user's own products come before
        those of the other catalogue.

        Args:
            pairs: schema ``PAIRS``, and perhaps ``copy_of``, -1 (the image of product a is the
                copy) to 1; without it ``cleanest`` is a draw.
            index: index with the images and the table that the rules read.
            health: schema ``HEALTH``, for the rule ``healthiest``.
            links: people's decisions. Products that are the same share a group; products that are
                not never do. The product that somebody chose to keep comes before the rules,
                among those that were decided to be the same.

        Returns:
            Schema ``GROUPS``; a group's id is its smallest product id, the same in every run.

        Raises:
            ConfigError: as for ``check``.
        """
        self.check(list(index.products.columns), judged=health is not None)
        codes, ids = pd.factorize(pairs[ENDS].to_numpy().ravel(), sort=True)
        left, right = codes.reshape(-1, 2).T
        known = {"cleanest": _copied(pairs), "healthiest": _ills(health)}
        place = _places(self._rules(), pd.Index(ids), index, known)
        rank = np.array([TIERS.index(tier) for tier in pairs["tier"]], np.int64)
        distance = pairs["distance"].to_numpy()
        if links is not None:
            nodes = Nodes.of(list(ids), place, links)
            member, kept = grouped(left, right, rank, distance, nodes, self.linkage)
        elif self.linkage == "single":
            member, kept = _single(left, right, place)
        else:
            member, kept = _by_kept(left, right, rank, distance, place)
        return _table(member, kept, ids)

    def check(self, columns: Sequence[str], judged: bool = True) -> None:
        """Check the settings against the columns of a table, before any work.

        Args:
            columns: of the user's table.
            judged: whether the health of images is judged.

        Raises:
            ConfigError: the linkage or a rule does not exist, or its column is not in the table;
                or a rule needs the health of images.
        """
        if self.linkage not in LINKAGES:
            raise ConfigError(f"linkage is {self.linkage}: set it to {' or '.join(LINKAGES)}")
        for name, column in self._rules():
            rule = f"{name}:{column}" if column else name
            if name not in OF_IMAGES + OF_COLUMNS or (name in OF_COLUMNS) != bool(column):
                rules = [*OF_IMAGES, *(f"{each}:COLUMN" for each in OF_COLUMNS)]
                raise ConfigError(f"keep: there is no rule {rule}, {_hint(rule, rules)}")
            if name == "healthiest" and not judged:
                raise ConfigError("keep: healthiest needs the settings of health, which is null")
            if column and column not in columns:
                hint = _hint(column, list(columns))
                raise ConfigError(f"keep: {rule}: the table has no column {column}, {hint}")

    def _rules(self) -> list[tuple[str, str]]:
        """Split each rule into its name and its column; "" for no column."""
        keep: object = () if self.keep is None else self.keep
        keep = keep if isinstance(keep, Sequence) and not isinstance(keep, str) else [keep]
        return [(name, column) for name, _, column in (str(rule).partition(":") for rule in keep)]


def _hint(wrong: str, names: Sequence[str]) -> str:
    """Suggest the nearest name, or list all names."""
    folded = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(wrong.casefold(), folded, n=1)
    return f"did you mean {folded[near[0]]}?" if near else f"there are: {', '.join(names)}"


def _single(left: Ints, right: Ints, place: Ints) -> tuple[Ints, Ints]:
    """Group by connected components: every product with the best product of its component.

    Args:
        left: (n_pairs,), left product of each pair.
        right: (n_pairs,), right product of each pair.
        place: (n_products,), rank by the rules; 0 is kept before all others.

    Returns:
        Members and the kept product of each, two arrays of one length.
    """
    n = len(place)
    links = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    component = connected_components(links, directed=False)[1].astype(np.int64)
    best_first = np.argsort(place)
    first = np.unique(component[best_first], return_index=True)[1]
    return np.arange(n), best_first[first][component]


def _by_kept(
    left: Ints, right: Ints, rank: Ints, distance: npt.NDArray[np.float64], place: Ints
) -> tuple[Ints, Ints]:
    """Group each product with the closest kept product that it is paired with.

    Args:
        left: (n_pairs,), left product of each pair.
        right: (n_pairs,), right product of each pair.
        rank: (n_pairs,), rank of the tier, 0 is surest.
        distance: (n_pairs,), lower is closer.
        place: (n_products,), rank by the rules; 0 is kept before all others.

    Returns:
        Members and the kept product of each, as of ``_single``.
    """
    kept = _greedy(place[left], place[right], len(place))[place]
    member, other = np.append(left, right), np.append(right, left)
    joins = np.flatnonzero(~kept[member] & kept[other])
    member, other, pair = member[joins], other[joins], joins % max(len(left), 1)
    order = np.lexsort([place[other], distance[pair], rank[pair], member])
    closest = order[np.unique(member[order], return_index=True)[1]]
    chosen = np.unique(other[closest])
    return np.append(member[closest], chosen), np.append(other[closest], chosen)


def _greedy(a: Ints, b: Ints, n: int) -> npt.NDArray[np.bool_]:
    """Keep the places, 0 to n - 1, without a link to an earlier kept place; (n,)."""
    early, late = np.minimum(a, b), np.maximum(a, b)
    order = np.argsort(early)
    is_dropped = bytearray(n)
    # Links from earlier places come first, so a place is decided before its own links.
    for start, end in zip(early[order].tolist(), late[order].tolist(), strict=True):
        if not is_dropped[start]:
            is_dropped[end] = 1
    kept: npt.NDArray[np.bool_] = np.frombuffer(is_dropped, np.uint8) == 0
    return kept


def _table(member: Ints, kept: Ints, ids: npt.NDArray[np.object_]) -> pd.DataFrame:
    """Make the table ``GROUPS`` of members and kept products, numbers in the sorted ``ids``."""
    smallest = pd.Series(member).groupby(kept).transform("min").to_numpy(dtype=np.int64)
    order = np.lexsort([member, smallest])
    columns = {"product_id": ids[member], "group_id": ids[smallest], "kept": member == kept}
    return pd.DataFrame(columns, columns=GROUPS.names).iloc[order].reset_index(drop=True)


def _copied(pairs: pd.DataFrame) -> pd.Series[float]:
    """Sum up, by product, how far its images are copies of others; less than 0: originals."""
    if "copy_of" not in pairs:
        return pd.Series(dtype=float)
    ends = [pairs[end] for end in ENDS]
    values = pd.concat([-pairs["copy_of"], pairs["copy_of"]])
    total: pd.Series[float] = values.groupby(pd.concat(ends).to_numpy(), sort=False).sum()
    return total.round(6)  # sums of tenths, whatever their order


def _ills(health: pd.DataFrame | None) -> pd.Series[float]:
    """Count, by product, the problems of its best image; an unusable one has more than any."""
    if health is None:
        return pd.Series(dtype=float)
    n_problems = np.array([len(some.split()) for some in health["problems"]], float)
    unusable = ~health["usable"].to_numpy(bool)
    ills = pd.Series(n_problems + len(PROBLEMS) * unusable, health.index)
    least: pd.Series[float] = ills.groupby(health["product_id"], sort=False).min()
    return least


def _places(
    rules: Sequence[tuple[str, str]],
    ids: pd.Index[str],
    index: Index,
    known: Mapping[str, pd.Series[float]],
) -> Ints:
    """Rank the sorted ids by the rules, (n,); 0 is kept before all others.

    Args:
        rules: names and columns.
        ids: of the products.
        index: with what the rules read.
        known: cost of each product by the rules that need more than the index.
    """
    costs = (known[name] if name in known else _cost(name, column, index) for name, column in rules)
    keys = [cost.reindex(ids) for cost in costs]
    if "against" in index.manifest:
        prefix = index.manifest["against"]["prefix"]
        keys.insert(0, pd.Series(ids.str.startswith(prefix), ids, dtype=float))
    # lexsort takes the strongest key last, and is stable: draws stay in the order of the ids
    worst_last = [key.fillna(np.inf).to_numpy() for key in reversed(keys)]
    order = np.lexsort([np.arange(len(ids)), *worst_last])
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    return place


def _cost(name: str, column: str, index: Index) -> pd.Series[float]:
    """Compute a rule's cost of each product, by id, lower is better; products may be missing."""
    if name in OF_IMAGES:
        ok = index.images[index.images["status"] == "ok"]
        if name == "most_images":
            shown = ok[["product_id", "sha256_pixels"]].drop_duplicates()
            return -shown.groupby("product_id", sort=False).size().astype(float)
        pixels = ok["width"].astype(float) * ok["height"].astype(float)
        return -pixels.groupby(ok["product_id"], sort=False).max()
    cells = index.products[column].str.strip()
    if name == "true":
        value = -truths_of(cells, column).astype(float)
    else:
        value = _order(cells[cells != ""], column) * (-1.0 if name == "highest" else 1.0)
    owner = index.products.loc[value.index, index.manifest["id_column"]]
    return value.groupby(owner, sort=False).min()


def _order(cells: pd.Series[str], column: str) -> pd.Series[float]:
    """Rank cells by their distinct values: as numbers where most are numbers, otherwise as text.

    A cell that is no number among numbers loses, as an empty one does.
    """
    numbers = numbers_of(cells, column)
    is_number = numbers.notna()
    if is_number.mean() > 0.5 and not is_number.all():
        log.warning(
            "grouping.keep: %d of %d cells in the column %s are no numbers, such as %r: they count "
            "as empty",
            int((~is_number).sum()), len(cells), column, cells[~is_number].iloc[0][:40],
        )  # fmt: skip
        cells, numbers = cells[is_number], numbers[is_number]
    values = numbers if len(numbers) and numbers.notna().all() else cells
    return pd.Series(pd.factorize(values, sort=True)[0].astype(float), cells.index)
