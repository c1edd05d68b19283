"""Apply people's decisions to the pairs of a detection."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.detection.constraints import Union
from dedup.detection.exact import EVIDENCE
from dedup.detection.grouping import best_pairs
from dedup.review.decisions import APART, DUPLICATE, Decision, Digests, Pair, pair_of
from dedup.review.ledger import Ledger
from dedup.review.standing import Catalogue, Links, Standing, standing, verdict_of
from dedup.schemas import DECIDED, PAIRS, RELATIONS, TIERS
from dedup.search.index import Index
from dedup.search.radius import l2_distance

ENDS = ["product_id_a", "product_id_b"]
VARIANT = "variant"


@dataclass(frozen=True)
class Settled:
    """Pairs of a detection after people's decisions.

    Attributes:
        directed: duplicates, columns of ``PAIRS`` and ``copy_of``: without those that people
            refused, with those that people confirmed.
        proposed: rows of ``directed`` that the search itself proposed.
        related: related pairs without those that were decided; variants that people confirmed.
        links: constraints of the groups.
        table: schema ``DECIDED``.
    """

    directed: pd.DataFrame
    proposed: pd.DataFrame
    related: pd.DataFrame
    links: Links
    table: pd.DataFrame


def settle(
    ledger: Ledger,
    index: Index,
    directed: pd.DataFrame,
    related: pd.DataFrame,
    candidates: pd.DataFrame,
) -> Settled:
    """Apply the decisions of a ledger.

    Args:
        ledger: the decisions.
        index: the index that was searched.
        directed: the pairs to report, columns of ``PAIRS`` and ``copy_of``.
        related: the related pairs, schema ``PAIRS``.
        candidates: all pairs that were compared, schema ``PAIRS``.
    """
    catalogue = Catalogue.of(index)
    proposed = pd.concat([directed[PAIRS.names], related[PAIRS.names]])
    state = standing(ledger, catalogue, catalogue.evidence(proposed))
    own, others = (_verdicts(table, state) for table in (directed, related))
    kept = directed[~np.isin(own, APART)]
    confirmed = _asked(state.links, catalogue)
    missing = sorted(confirmed.keys() - _keys(kept))
    rows = pd.concat([related, candidates])[PAIRS.names]
    added = _added(missing, rows, index, catalogue, confirmed)
    variants = pd.concat([directed[own == VARIANT], related[others == VARIANT]])[PAIRS.names]
    variants = variants.assign(relation=RELATIONS[-1])
    open_ = related[~np.isin(others, [*APART, DUPLICATE])]
    open_ = open_[~_are_in(open_, confirmed.keys())]
    return Settled(
        directed=best_pairs(pd.concat([kept, added.assign(copy_of=0.0)])) if len(added) else kept,
        proposed=kept[PAIRS.names],
        related=best_pairs(pd.concat([open_, variants])) if len(variants) else open_,
        links=state.links,
        table=_table(state),
    )


def _verdicts(pairs: pd.DataFrame, state: Standing) -> npt.NDArray[np.object_]:
    return np.array([state.verdict(pair) for pair in _pairs(pairs)], object)


def _pairs(pairs: pd.DataFrame) -> Iterable[Pair]:
    return zip(pairs[ENDS[0]], pairs[ENDS[1]], strict=True)


def _keys(pairs: pd.DataFrame) -> set[Pair]:
    return set(_pairs(pairs))


def _are_in(pairs: pd.DataFrame, keys: Collection[Pair]) -> npt.NDArray[np.bool_]:
    return np.array([pair in keys for pair in _pairs(pairs)], bool)


def _asked(links: Links, catalogue: Catalogue) -> dict[Pair, str]:
    """Find the pairs by which confirmed duplicates hang together, of products that are there.

    Returns:
        Each pair with its evidence in words.
    """
    there = catalogue.images
    pairs = {pair: "confirmed" for pair in links.same if there.keys() >= {*pair}}
    names = sorted({key for pair in links.same for key in pair})
    code = {key: number for number, key in enumerate(names)}
    whole, direct = Union(len(names)), Union(len(names))
    for one, other in links.same:
        whole.join(code[one], code[other])
    for one, other in pairs:
        direct.join(code[one], code[other])
    first: dict[int, str] = {}
    for key in names:  # products joined by others that are gone
        if key in there:
            start = first.setdefault(whole.root(code[key]), key)
            if direct.root(code[start]) != direct.root(code[key]):
                direct.join(code[start], code[key])
                pairs[pair_of(start, key)] = "confirmed through others"
    return pairs


def _added(
    missing: Sequence[Pair],
    rows: pd.DataFrame,
    index: Index,
    catalogue: Catalogue,
    confirmed: dict[Pair, str],
) -> pd.DataFrame:
    """Make rows of confirmed pairs that the search did not report; columns of ``PAIRS``."""
    known = rows[_are_in(rows, {*missing})]
    known = best_pairs(known) if len(known) else known
    known = known.assign(score=1.0, evidence=[confirmed[pair] for pair in _pairs(known)])
    rest = [pair for pair in missing if pair not in _keys(known)]
    addresses = _addresses(index, {key for pair in rest for key in pair})
    new = [_row(pair, addresses, catalogue, confirmed[pair]) for pair in rest]
    made = pd.DataFrame(
        [(*row[:2], 0.0, *row[2:]) for row in new if row is not None], columns=PAIRS.names
    )
    vector = index.images[index.images["vector"] >= 0].drop_duplicates("url")
    place = pd.Series(vector["vector"].to_numpy(), index=vector["url"].to_numpy())
    if len(made):
        ends = [index.vectors[place[made[f"image_{end}"]].to_numpy()] for end in ("a", "b")]
        made["distance"] = np.where(made["tier"] == "near", l2_distance(*ends), 0.0)
    added: pd.DataFrame = known.assign(relation=RELATIONS[0])[PAIRS.names]
    return pd.concat([added, made]) if len(made) else added


def _addresses(index: Index, products: set[str]) -> dict[str, list[str]]:
    """List the addresses of the good images of products."""
    ok = index.images[index.images["product_id"].isin(products) & (index.images["vector"] >= 0)]
    found: dict[str, list[str]] = {}
    for product, url in zip(ok["product_id"], ok["url"], strict=True):
        found.setdefault(product, []).append(url)
    return found


def _row(
    pair: Pair, addresses: dict[str, list[str]], catalogue: Catalogue, evidence: str
) -> tuple[str, str, str, str, str, float, str, str] | None:
    """Make a row of ``PAIRS`` without its distance; ``None`` where a product has no image.

    Equal images are its evidence where there are some, else the first ones.
    """
    left, right = (addresses.get(product, []) for product in pair)
    if not left or not right:
        return None
    of = catalogue.of_address
    ranked = [
        (_tier(one, other, of[one], of[other]), one, other) for one in left for other in right
    ]
    rank, one, other = min(ranked, key=lambda row: row[0])
    text = f"{evidence}: {EVIDENCE[rank]}" if rank < len(EVIDENCE) else evidence
    return *pair, TIERS[rank], one, other, 1.0, text, RELATIONS[0]


def _tier(one: str, other: str, left: Digests, right: Digests) -> int:
    """Return the rank of the tier of two images."""
    if one == other:
        return 0
    return 1 if left.bytes == right.bytes else 2 if left.pixels == right.pixels else 3


def _table(state: Standing) -> pd.DataFrame:
    """Make the table ``DECIDED``."""
    rows: dict[Pair, tuple[str, str, Decision]] = {}
    for row in state.gone:
        rows[row.pair] = (row.verdict, "gone", row)
    for pair, decisions in state.settled.items():
        how = "decided" if decisions[0].pair == pair else "follows"
        rows[pair] = (verdict_of(decisions), how, decisions[0])
    for pair, row in state.reopened.items():
        rows[pair] = (row.verdict, "reopened", row)
    table = [
        (*pair, verdict, how, row.reviewer, row.made_at)
        for pair, (verdict, how, row) in sorted(rows.items())
    ]
    return pd.DataFrame(table, columns=DECIDED.names)
