"""Groups against slow versions and laws, the rules for pairs and for the product that is kept."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.detection.grouping import Grouping, best_pairs
from dedup.errors import ConfigError
from dedup.schemas import GROUPS, HEALTH, INDEX_IMAGES, PAIRS, RELATIONS, TIERS
from dedup.search.index import Index
from tests.support.effort import examples

Link = tuple[str, str, str, float]  # two products, tier, distance
Keep = Sequence[str]


def pairs_of(links: Sequence[Link]) -> pd.DataFrame:
    """Pairs that join these products."""
    rows = [
        (min(a, b), max(a, b), d, tier, f"{a}.jpg", f"{b}.jpg", np.nan, "", RELATIONS[0])
        for a, b, tier, d in links
    ]
    return best_pairs(pd.DataFrame(rows, columns=PAIRS.names))


def near(*ends: str) -> list[Link]:
    """Links such as ``AB``, all equally close."""
    return [(two[0], two[1], "near", 0.5) for two in ends]


def index_of(
    rows: Sequence[Mapping[str, str]] = (), images: Sequence[tuple[str, str, int, int]] = ()
) -> Index:
    """An index of the user's rows, and of ok images: product, content, width and height."""
    pixels = pd.DataFrame(
        list(images), columns=["product_id", "sha256_pixels", "width", "height"]
    ).assign(status="ok")
    pixels[["width", "height"]] = pixels[["width", "height"]].astype(np.int32)
    table = pd.DataFrame(list(rows), columns=None if rows else ["id"])
    empty = np.zeros((0, 2), np.float32)
    return Index(
        pixels.reindex(columns=INDEX_IMAGES.names), empty, empty, table, {"id_column": "id"}
    )


def kept_of(
    keep: Keep,
    rows: Sequence[Mapping[str, str]] = (),
    images: Sequence[tuple[str, str, int, int]] = (),
) -> str:
    """The product kept of A, B and C, which are all paired."""
    groups = Grouping(keep=keep)(pairs_of(near("AB", "AC", "BC")), index_of(rows, images))
    (kept,) = groups.loc[groups["kept"], "product_id"]
    assert groups["product_id"].tolist() == ["A", "B", "C"]
    return str(kept)


def cells(column: str, **values: str) -> list[dict[str, str]]:
    """Rows of a table with one column besides the id."""
    return [{"id": key, column: value} for key, value in values.items()]


def as_sets(groups: pd.DataFrame) -> dict[str, set[str]]:
    """Every kept product with the members of its group, itself among them."""
    home = groups.groupby("group_id")["product_id"].apply(set)
    kept = groups[groups["kept"]]
    return {key: home[g] for key, g in zip(kept["product_id"], kept["group_id"], strict=True)}


names = st.sampled_from("ABCDEFGHIJ")
links = st.lists(
    st.tuples(names, names, st.sampled_from(TIERS), st.sampled_from([0.0, 0.25, 0.5])).filter(
        lambda link: link[0] != link[1]
    ),
    max_size=25,
)
prices = st.dictionaries(names, st.sampled_from(["", "1", "2", "10"]))


def slow_order(ids: set[str], price: dict[str, str]) -> list[str]:
    """The best first: the highest price, then the smallest id."""
    return sorted(ids, key=lambda key: (-float(price.get(key) or "-inf"), key))


def slow_kept(pairs: pd.DataFrame, price: dict[str, str]) -> dict[str, set[str]]:
    """The linkage ``kept`` as its text says it, one product at a time."""
    close: dict[str, dict[str, tuple[int, float]]] = {}
    for row in pairs.to_dict("records"):
        a, b = row["product_id_a"], row["product_id_b"]
        for one, other in ((a, b), (b, a)):
            close.setdefault(one, {})[other] = (TIERS.index(row["tier"]), row["distance"])
    order = slow_order(set(close), price)
    kept: list[str] = []
    for key in order:
        if not any(other in kept for other in close[key]):
            kept.append(key)
    groups = {key: {key} for key in kept}
    for key in set(close) - set(kept):
        home = min((*close[key][one], order.index(one), one) for one in kept if one in close[key])
        groups[str(home[-1])].add(key)
    return {key: group for key, group in groups.items() if len(group) > 1}


def slow_single(pairs: pd.DataFrame, price: dict[str, str]) -> dict[str, set[str]]:
    """Components, by joining sets."""
    sets: list[set[str]] = []
    for a, b in zip(pairs["product_id_a"], pairs["product_id_b"], strict=True):
        joined = [one for one in sets if a in one or b in one]
        sets = [one for one in sets if one not in joined] + [{a, b}.union(*joined)]
    return {slow_order(one, price)[0]: one for one in sets}


SLOW: dict[str, Callable[[pd.DataFrame, dict[str, str]], dict[str, set[str]]]] = {
    "kept": slow_kept,
    "single": slow_single,
}


@pytest.mark.parametrize("linkage", SLOW)
@settings(deadline=None, max_examples=examples(150), derandomize=True)
@given(found=links, price=prices, seed=st.integers(0, 9))
def test_groups_are_those_of_a_slow_version(
    linkage: str, found: list[Link], price: dict[str, str], seed: int
) -> None:
    pairs, index = pairs_of(found), index_of([{"id": "Z", "price": "5"}, *cells("price", **price)])
    grouping = Grouping(linkage, ["highest:price"])
    groups = grouping(pairs, index)
    assert as_sets(groups) == SLOW[linkage](pairs, price)
    mixed = Index(
        index.images, index.vectors, index.centroids,
        index.products.sample(frac=1, random_state=seed), index.manifest,
    )  # fmt: skip
    again = grouping(pairs.sample(frac=1, random_state=seed), mixed)
    pd.testing.assert_frame_equal(again, groups)


@settings(deadline=None, max_examples=examples(150), derandomize=True)
@given(found=links, linkage=st.sampled_from(["kept", "single"]))
def test_laws_of_groups(found: list[Link], linkage: str) -> None:
    pairs = pairs_of(found)
    groups = Grouping(linkage, [])(pairs, index_of())
    assert groups.columns.tolist() == GROUPS.names
    assert groups["product_id"].is_unique
    assert groups.groupby("group_id")["kept"].sum().eq(1).all()
    smallest = groups.groupby("group_id")["product_id"].transform("min")
    assert groups["group_id"].tolist() == smallest.tolist()
    ordered = groups.sort_values(["group_id", "product_id"], ignore_index=True)
    pd.testing.assert_frame_equal(ordered, groups)
    paired = {*zip(pairs["product_id_a"], pairs["product_id_b"], strict=True)}
    for kept, members in as_sets(groups).items():
        assert len(members) > 1
        if linkage == "kept":
            assert {(min(kept, one), max(kept, one)) for one in members - {kept}} <= paired


def test_a_chain_is_cut_where_the_kept_product_is_out_of_reach() -> None:
    chain = pairs_of(near("AB", "BC", "CD", "DE"))
    assert as_sets(Grouping("single", [])(chain, index_of())) == {"A": set("ABCDE")}
    cut = as_sets(Grouping("kept", [])(chain, index_of()))
    assert cut == {"A": {"A", "B"}, "C": {"C", "D"}}  # D is as close to C as to E, and C is first


def test_a_product_joins_the_kept_one_that_it_is_closest_to() -> None:
    pairs = pairs_of([("A", "C", "near", 0.5), ("B", "C", "near", 0.25)])
    assert as_sets(Grouping("kept", [])(pairs, index_of())) == {"B": {"B", "C"}}
    surer = pairs_of([("A", "C", "same_pixels", 0.0), ("B", "C", "same_url", 0.0)])
    assert as_sets(Grouping("kept", [])(surer, index_of())) == {"B": {"B", "C"}}


def test_a_group_is_called_by_its_smallest_id_whichever_is_kept() -> None:
    rows = cells("price", A="1", B="3", C="2")
    groups = Grouping("kept", ["highest:price"])(pairs_of(near("AB", "BC")), index_of(rows))
    assert groups.to_numpy().tolist() == [
        ["A", "A", False], ["B", "A", True], ["C", "A", False]
    ]  # fmt: skip


def test_no_pairs_no_groups() -> None:
    for linkage in ("kept", "single"):
        groups = Grouping(linkage)(pairs_of([]), index_of())
        assert groups.empty
        assert groups.columns.tolist() == GROUPS.names


def test_the_smallest_id_is_kept_where_no_rule_decides() -> None:
    assert kept_of([]) == "A"
    assert kept_of(["most_images", "largest"]) == "A"


def test_images_decide() -> None:
    images = [("A", "p1", 9, 9), ("B", "p1", 9, 9), ("B", "p2", 1, 1), ("C", "p3", 90_000, 90_000)]
    assert kept_of(["most_images"], images=images) == "B"
    assert kept_of(["largest"], images=images) == "C"
    assert kept_of(["most_images"], images=[*images, ("A", "p1", 5, 5), ("A", "p1", 6, 6)]) == "B"
    assert kept_of(["most_images", "largest"], images=[*images, ("C", "p4", 1, 1)]) == "C"


@pytest.mark.parametrize(
    ("rule", "values", "kept"),
    [
        ("highest:x", {"A": "9", "B": "10", "C": " 9.5 "}, "B"),
        ("lowest:x", {"A": "9", "B": "1e1", "C": "-3"}, "C"),
        ("highest:x", {"A": "9", "B": "10", "C": "ten"}, "B"),  # as text
        ("lowest:x", {"A": "9", "B": "10", "C": "ten"}, "A"),  # most are numbers
        ("lowest:x", {"A": "2024-10-01", "B": "2023-12-31", "C": "2024-02-01"}, "B"),
        ("lowest:x", {"A": "", "B": "3", "C": "  "}, "B"),
        ("lowest:x", {"A": "100", "B": "20", "C": "€5"}, "C"),
        ("lowest:x", {"A": "1.299,00", "B": "999,00", "C": "1.050,00"}, "B"),
        ("true:x", {"A": "nein", "B": "ja"}, "B"),
        ("highest:x", {"A": "", "B": "-3"}, "B"),
        ("highest:x", {"A": "", "B": "", "C": ""}, "A"),
        ("lowest:x", {"A": "9007199254740993", "B": "9007199254740992", "C": "1e16"}, "A"),
        ("lowest:x", {"A": "9007199254740993", "B": "9007199254740992"}, "B"),
        ("true:x", {"A": "false", "B": " In Stock ", "C": "true"}, "B"),
        ("true:x", {"A": "0", "B": "no", "C": "1"}, "C"),
        ("true:x", {"A": "out of stock", "C": "Y"}, "C"),
    ],
)
def test_columns_decide(rule: str, values: dict[str, str], kept: str) -> None:
    assert kept_of([rule], cells("x", **values)) == kept


def test_a_product_on_several_rows_counts_with_the_best() -> None:
    rows = [*cells("x", A="5", B="1", C="4"), *cells("x", A="", B="6", C="3")]
    for order in (rows, rows[::-1]):
        assert kept_of(["highest:x"], order) == "B"
        assert kept_of(["lowest:x"], order) == "B"
    rows = [*cells("x", A="0", B="no", C=""), *cells("x", A="", B="yes", C="no")]
    for order in (rows, rows[::-1]):
        assert kept_of(["true:x"], order) == "B"


def test_the_first_rule_that_tells_products_apart_decides() -> None:
    rows = [
        {"id": "A", "stock": "true", "price": "7"},
        {"id": "B", "stock": "false", "price": "1"},
        {"id": "C", "stock": "TRUE", "price": "5"},
    ]
    assert kept_of(["true:stock", "lowest:price"], rows) == "C"
    assert kept_of(["lowest:price", "true:stock"], rows) == "B"
    assert kept_of("highest:price", rows) == "A"


@pytest.mark.parametrize(
    ("grouping", "said"),
    [
        (Grouping("complete"), "linkage is complete: set it to kept or single"),
        (Grouping(keep=["most_image"]), "no rule most_image, did you mean most_images"),
        (Grouping(keep=["higest:price"]), "no rule higest:price, did you mean highest:COLUMN"),
        (Grouping(keep=["oldest"]), "no rule oldest, "),
        (Grouping(keep=["highest"]), "no rule highest, did you mean highest:COLUMN"),
        (Grouping(keep=["largest:price"]), "no rule largest:price, "),
        (Grouping(keep=["largest", "lowest:prise"]), "no column prise, did you mean Price"),
        (Grouping(keep=["lowest:zzz"]), "no column zzz, there are: id, Price, Date"),
    ],
)
def test_settings_that_do_not_fit_are_refused(grouping: Grouping, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        grouping.check(["id", "Price", "Date"])
    with pytest.raises(ConfigError, match=said):
        grouping(pairs_of([]), index_of([{"id": "A", "Price": "1", "Date": ""}]))


def test_settings_that_fit_are_not() -> None:
    Grouping("single", ["true:inStock", "lowest:a:b", "most_images"]).check(["inStock", "a:b"])
    Grouping().check([])


candidates = st.lists(
    st.tuples(
        st.just("A"), st.sampled_from("BCD"), st.sampled_from([0.0, 0.25, 0.5]),
        st.sampled_from(TIERS), st.sampled_from("uv"), st.sampled_from("xy"),
        st.sampled_from([np.nan, 0.0, 0.5, 1.0]), st.just("mirrored"),
        st.sampled_from(RELATIONS),
    ),
    max_size=20,
)  # fmt: skip


@settings(deadline=None, max_examples=examples(150), derandomize=True)
@given(rows=candidates)
def test_the_surest_tier_then_relation_then_score_then_distance_is_kept(
    rows: list[tuple[str, str, float, str, str, str, float, str, str]],
) -> None:
    best: dict[str, tuple[object, ...]] = {}
    for row in rows:
        _, other, distance, tier, *images, score, _, called = row
        doubt = 2.0 if np.isnan(score) else 1 - score
        key = (TIERS.index(tier), RELATIONS.index(called), doubt, distance, *images)
        best[other] = min(best.get(other, key), key)
    pairs = best_pairs(pd.DataFrame(rows, columns=PAIRS.names))
    assert pairs.columns.tolist() == PAIRS.names
    assert pairs["product_id_b"].tolist() == sorted(best)
    rank = [TIERS.index(tier) for tier in pairs["tier"]]
    doubt = 1 - pairs["score"].astype(float).fillna(-1)
    kind = [RELATIONS.index(name) for name in pairs["relation"]]
    values = (pairs[name] for name in ("distance", "image_a", "image_b"))
    keys = zip(rank, kind, doubt, *values, strict=True)
    assert list(keys) == [best[other] for other in sorted(best)]


def test_the_product_whose_images_were_copied_is_kept() -> None:
    pairs = pairs_of(near("AB", "AC", "BC"))
    images = [("A", "p1", 9, 9), ("B", "p2", 5, 5), ("C", "p3", 5, 5)]
    told = pairs.assign(copy_of=[-1.0, -0.5, 0.5])  # A is a copy of B and C, and C one of B
    for keep, kept in (["cleanest", "largest"], "B"), (["largest", "cleanest"], "A"):
        groups = Grouping(keep=keep)(told, index_of(images=images))
        assert groups.loc[groups["kept"], "product_id"].tolist() == [kept]
    for table in (pairs, pairs.assign(copy_of=0.0)):  # nothing is told: the next rule decides
        groups = Grouping(keep=["cleanest", "largest"])(table, index_of(images=images))
        assert groups.loc[groups["kept"], "product_id"].tolist() == ["A"]


@pytest.mark.parametrize(
    ("ills", "kept"),
    [
        ({}, "A"),
        ({"A": ["too_small"]}, "B"),
        ({"A": ["aspect"], "B": ["dark"]}, "C"),
        ({"A": ["dark"], "B": ["aspect low_contrast compressed"], "C": ["dark"]}, "B"),
        ({"A": ["aspect compressed"], "B": ["aspect"], "C": ["dark"]}, "B"),
        ({"A": ["dark", ""], "B": ["aspect"]}, "A"),
        ({"A": ["dark"], "B": ["dark"], "C": ["dark"]}, "A"),
    ],
)
def test_the_healthiest_is_a_usable_image_with_the_fewest_problems(
    ills: dict[str, list[str]], kept: str
) -> None:
    rows = [
        (key, f"{key}{n}.jpg", problems, "dark" not in problems and "small" not in problems)
        for key in "ABC"
        for n, problems in enumerate(ills.get(key, [""]))
    ]
    health = pd.DataFrame(rows, columns=["product_id", "image", "problems", "usable"])
    groups = Grouping(keep=["healthiest", "largest"])(
        pairs_of(near("AB", "AC", "BC")), index_of(), health.reindex(columns=HEALTH.names)
    )
    assert groups.loc[groups["kept"], "product_id"].tolist() == [kept]


def test_the_healthiest_is_not_known_where_no_image_is_judged() -> None:
    with pytest.raises(ConfigError, match="healthiest needs the settings of health"):
        Grouping(keep="healthiest")(pairs_of(near("AB")), index_of())
