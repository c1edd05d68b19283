"""Pairs of products to groups, and which product of a group is kept."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dedup.errors import ConfigError
from dedup.schemas import GROUPS, PAIRS, RELATIONS, TIERS
from dedup.search.index import Index

Ints = npt.NDArray[np.int64]
ENDS = ["product_id_a", "product_id_b"]
LINKAGES = ("kept", "single")
OF_IMAGES = ("most_images", "largest")
OF_COLUMNS = ("highest", "lowest", "true")
YES = ("true", "1", "yes", "y", "in stock")
"""What a cell says, in any case, to count as true."""


def best_pairs(candidates: pd.DataFrame) -> pd.DataFrame:
    """Each two products once: by the surest tier, then relation, then score, then distance.

    A pair without a score comes after those that have one.

    Args:
        candidates: columns of ``PAIRS``, in any order, two products perhaps more than once.

    Returns:
        Schema ``PAIRS``, sorted by both ids.
    """
    rank = candidates["tier"].map({tier: place for place, tier in enumerate(TIERS)})
    kind = candidates["relation"].map({name: place for place, name in enumerate(RELATIONS)})
    by = [*ENDS, "rank", "kind", "doubt", "distance", "image_a", "image_b"]
    ranked = candidates.assign(rank=rank, kind=kind, doubt=-candidates["score"].astype(float))
    ranked = ranked.sort_values(by).drop_duplicates(ENDS)
    pairs: pd.DataFrame = ranked[PAIRS.names].reset_index(drop=True)
    return pairs


class Grouping:
    """Makes groups of pairs, and keeps one product of each.

    Args:
        linkage: ``single`` joins whatever is linked through any number of pairs. ``kept`` asks for
            a pair of each product with the kept one of its group, so that a chain of images,
            each a little unlike the one before, does not join what has nothing in common.
        keep: rules for the kept product, the first is the strongest; where all of them leave a
            draw, the smallest id wins. ``most_images``: most distinct ok images. ``largest``: the
            ok image with most pixels. ``highest:COLUMN`` and ``lowest:COLUMN``: by the user's
            column, as numbers where every cell that is not empty is one, else as text, which puts
            dates such as 2024-05-31 in order; empty cells lose. ``true:COLUMN``: cells that say
            true, 1, yes, y or in stock. A product on several rows counts with the best of them.
    """

    def __init__(
        self, linkage: str = "kept", keep: str | Sequence[str] = ("most_images", "largest")
    ) -> None:
        self.linkage = linkage
        self.keep = keep

    def __call__(self, pairs: pd.DataFrame, index: Index) -> pd.DataFrame:
        """Put products into groups, whatever the order of the rows.

        With linkage ``kept``, products are gone through from the best to the worst: one that no
        kept product is paired with is kept. Each other product then joins the kept one that it is
        closest to: by the surest tier, then the distance, then the better one. A product that is
        kept and that none joined, for all its partners found closer ones, is in no group; so two
        products of a pair may be in two groups, or one of them in none.

        Between two catalogues, as ``matching.merged`` makes them one, a product of one's own comes
        before every product of the other.

        Args:
            pairs: schema ``PAIRS``.
            index: gives the images and the user's table that the rules look at.

        Returns:
            Schema ``GROUPS``; a group's id is its smallest product id, the same in every run.

        Raises:
            ConfigError: as for ``check``.
        """
        self.check(list(index.products.columns))
        codes, ids = pd.factorize(pairs[ENDS].to_numpy().ravel(), sort=True)
        left, right = codes.reshape(-1, 2).T
        place = _places(self._rules(), pd.Index(ids), index)
        if self.linkage == "single":
            member, kept = _single(left, right, place)
        else:
            rank = np.array([TIERS.index(tier) for tier in pairs["tier"]], np.int64)
            member, kept = _by_kept(left, right, rank, pairs["distance"].to_numpy(), place)
        return _table(member, kept, ids)

    def check(self, columns: Sequence[str]) -> None:
        """Make sure that the settings fit a table with these columns, before any work.

        Raises:
            ConfigError: the linkage or a rule does not exist, or its column is not in the table.
        """
        if self.linkage not in LINKAGES:
            raise ConfigError(f"linkage is {self.linkage}: set it to {' or '.join(LINKAGES)}")
        for name, column in self._rules():
            rule = f"{name}:{column}" if column else name
            if name not in OF_IMAGES + OF_COLUMNS or (name in OF_COLUMNS) != bool(column):
                known = [*OF_IMAGES, *(f"{one}:COLUMN" for one in OF_COLUMNS)]
                raise ConfigError(f"keep: there is no rule {rule}, {_hint(rule, known)}")
            if column and column not in columns:
                hint = _hint(column, list(columns))
                raise ConfigError(f"keep: {rule}: the table has no column {column}, {hint}")

    def _rules(self) -> list[tuple[str, str]]:
        """Name and column of each rule; the column is empty where there is none."""
        keep = [self.keep] if isinstance(self.keep, str) else self.keep or []
        return [(name, column) for name, _, column in (str(rule).partition(":") for rule in keep)]


def _hint(wrong: str, known: Sequence[str]) -> str:
    """The nearest of the known names, or all of them."""
    folded = {name.casefold(): name for name in reversed(known)}
    near = difflib.get_close_matches(wrong.casefold(), folded, n=1)
    return f"did you mean {folded[near[0]]}?" if near else f"there are: {', '.join(known)}"


def _single(left: Ints, right: Ints, place: Ints) -> tuple[Ints, Ints]:
    """Connected components: every product and the best product of its component.

    Args:
        left: (n_pairs,), one product of each pair.
        right: (n_pairs,), the other one.
        place: (n_products,), 0 for the product to be kept before all others.

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
    """Members that are paired with their kept product, as ``_single`` gives them.

    Args:
        left: (n_pairs,), one product of each pair.
        right: (n_pairs,), the other one.
        rank: (n_pairs,), of the tier, 0 is surest.
        distance: (n_pairs,), lower is closer.
        place: (n_products,), 0 for the product to be kept before all others.
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
    """Which of the places 0 to n - 1 are kept: those that are not linked to an earlier kept one."""
    early, late = np.minimum(a, b), np.maximum(a, b)
    order = np.argsort(early)
    passed = bytearray(n)
    # All links from earlier places come first, so a place is settled before its own links come.
    for here, there in zip(early[order].tolist(), late[order].tolist(), strict=True):
        if not passed[here]:
            passed[there] = 1
    kept: npt.NDArray[np.bool_] = np.frombuffer(passed, np.uint8) == 0
    return kept


def _table(member: Ints, kept: Ints, ids: npt.NDArray[np.object_]) -> pd.DataFrame:
    """Members and their kept products, numbers in the sorted ``ids``, in the schema ``GROUPS``."""
    smallest = pd.Series(member).groupby(kept).transform("min").to_numpy(dtype=np.int64)
    order = np.lexsort([member, smallest])
    columns = {"product_id": ids[member], "group_id": ids[smallest], "kept": member == kept}
    return pd.DataFrame(columns, columns=GROUPS.names).iloc[order].reset_index(drop=True)


def _places(rules: Sequence[tuple[str, str]], ids: pd.Index[str], index: Index) -> Ints:
    """The place of each of the sorted ids by the rules, (n,): 0 is kept before all others."""
    keys = [_cost(name, column, index).reindex(ids) for name, column in rules]
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
    """What a rule makes of each product, by id, lower is better; without those that it lacks."""
    if name in OF_IMAGES:
        ok = index.images[index.images["status"] == "ok"]
        if name == "most_images":
            shown = ok[["product_id", "sha256_pixels"]].drop_duplicates()
            return -shown.groupby("product_id", sort=False).size().astype(float)
        pixels = ok["width"].astype(float) * ok["height"].astype(float)
        return -pixels.groupby(ok["product_id"], sort=False).max()
    cells = index.products[column].str.strip()
    if name == "true":
        value = -cells.str.casefold().isin(YES).astype(float)
    else:
        value = _order(cells[cells != ""]) * (-1.0 if name == "highest" else 1.0)
    owner = index.products.loc[value.index, index.manifest["id_column"]]
    return value.groupby(owner, sort=False).min()


def _order(cells: pd.Series[str]) -> pd.Series[float]:
    """The place of each cell among the distinct values: numbers where all are, else texts."""
    numbers = pd.to_numeric(cells, errors="coerce")
    values = cells if numbers.isna().any() else numbers
    return pd.Series(pd.factorize(values, sort=True)[0].astype(float), cells.index)
