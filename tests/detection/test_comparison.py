"""Detection with a second look, on tiny shops whose copies are known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.detection.comparison import clusters_of_vectors, decided
from dedup.detection.detector import Detector, merged
from dedup.detection.grouping import Grouping
from dedup.errors import ArtifactError
from dedup.schemas import AUTO, INDEX_IMAGES
from dedup.search.image_access import ImageAccess
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.search.state import SearchState
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.keypoints import N_KEYPOINTS, RgbImage
from dedup.verification.visual_words import Vocabulary, Words
from tests.detection.test_detector import MANIFEST
from tests.support.searches import search_facts
from tests.verification.test_colour import product, turned
from tests.verification.test_keypoints import patches

FAR, NEAR_BY = 3.0, 0.5
"""Embeddings of unlike images are some 2.8 apart here, those of near ones 0.1."""


def seeded(name: str) -> np.random.Generator:
    return np.random.default_rng([ord(letter) for letter in name])


def make_images() -> dict[str, RgbImage]:
    """Eight images by name; of A a mirrored and cropped copy, of B the product in other colours."""
    found = {name: patches(place, (120, 160)) for place, name in enumerate("ABCDEFGH")}
    found["A copy"] = np.ascontiguousarray(found["A"][8:112, ::-1][:, 12:150])
    found["B"], found["B blue"] = product(2), turned(product(2), 120)
    return found


IMAGES = make_images()


@cache
def words_of(name: str) -> Words:
    """The visual words of an image."""
    return Vocabulary.load().words_in(IMAGES[name])


def shop(names: Sequence[str], near: Mapping[str, str] | None = None) -> Index:
    """One product for each image; ``near`` ones have an embedding close to another's.

    The embeddings of all others, the copies' too, are random: words alone lead to them.
    """
    beside = {"B blue": "B"} if near is None else near
    vectors = []
    for name in names:
        vector = seeded(beside.get(name, name)).normal(size=4)
        vectors.append(vector + (0.05 if name in beside else 0))
    urls = [f"/{name}.png" for name in names]
    images = pd.DataFrame(
        {
            "record": np.arange(len(names)), "product_id": list(names), "url": urls,
            "sha256_bytes": [f"b{name}" for name in names],
            "sha256_pixels": [f"p{name}" for name in names],
            "width": 160, "height": 120, "contrast": np.float32(30), "status": "ok",
            "reason": "", "detail": "", "vector": np.arange(len(names)),
            "cluster": np.zeros(len(names), np.int64),
        },
        columns=INDEX_IMAGES.names,
    )  # fmt: skip
    by_url = dict(zip(urls, names, strict=True))
    sight = ImageAccess(
        lambda some: [IMAGES[by_url[url]] for url in some],
        lambda some: np.array([words_of(by_url[url]) for url in some], np.int32).reshape(
            -1, N_KEYPOINTS
        ),
    )
    return Index(
        images, np.array(vectors, np.float32), np.zeros((1, 4), np.float32),
        pd.DataFrame({"id": list(names)}), dict(MANIFEST), sight=sight,
    )  # fmt: skip


def detection(
    threshold: float | str = NEAR_BY, min_score: float | str | None = 0.5, precision: float = 0.9
) -> Detector:
    """With a second look, unless ``min_score`` is None."""
    verifier = None if min_score is None else GeometricVerifier(min_score)
    return Detector(RadiusSearch(threshold, precision=precision), Grouping(), verifier)


def ends(table: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(table["product_id_a"], table["product_id_b"], strict=True))


@pytest.mark.parametrize("min_score", [0.5, AUTO])
@pytest.mark.parametrize("threshold", [NEAR_BY, AUTO])
def test_the_copy_is_found_and_the_variant_is_not(
    threshold: float | str, min_score: float | str
) -> None:
    findings, search = detection(threshold, min_score)(shop(list(IMAGES)))
    assert ends(findings.pairs) == {("A", "A copy")}
    (pair,) = findings.pairs.to_dict("records")
    assert pair["tier"] == "near"
    assert 0.5 < pair["score"] <= 1
    assert "mirrored" in pair["evidence"]
    assert ("B", "B blue") in ends(findings.candidates)
    assert findings.groups["product_id"].tolist() == ["A", "A copy"]
    assert search.facts.looked
    assert search.facts.threshold > 0
    assert search.near["score"].between(0, 1).all()
    assert (search.near["pixels_a"] < search.near["pixels_b"]).all()
    if min_score == AUTO:
        assert findings.calibration is not None
        assert findings.calibration.setting == "verifier.min_score"
        taken = findings.candidates["score"] >= findings.calibration.threshold
        assert ends(findings.candidates[taken]) == ends(findings.pairs)
    else:
        assert findings.calibration is None


def test_without_a_second_look_distance_alone_decides() -> None:
    findings, search = detection(NEAR_BY, None)(shop(list(IMAGES)))
    assert ends(findings.pairs) == {("B", "B blue")}
    assert findings.pairs["score"].isna().all()
    assert findings.calibration is None
    assert not search.facts.looked


def test_an_automatic_distance_is_chosen_by_looking() -> None:
    near = {"A copy": "A", "B blue": "B"}
    findings, search = detection(AUTO, None)(shop(list(IMAGES), near))
    calibration = findings.calibration
    assert calibration is not None
    assert calibration.setting == "matcher.threshold"
    assert not calibration.higher_is_surer
    taken = findings.candidates["distance"] <= calibration.threshold
    assert ends(findings.candidates[taken]) == ends(findings.pairs)
    assert search.facts.asked == AUTO
    assert calibration.n_pairs == len(search.near)


def test_the_order_of_rows_does_not_matter() -> None:
    index = shop(list(IMAGES))
    # Equal pixels at two addresses, and yet other details: the smaller address must always count.
    extra = index.images.iloc[[0]].assign(url="/C.png", product_id="Z", record=10)
    images = pd.concat([index.images, extra], ignore_index=True)
    one, first = detection()(replace(index, images=images))
    other, second = detection()(replace(index, images=images.iloc[::-1]))
    pd.testing.assert_frame_equal(one.pairs, other.pairs)
    pd.testing.assert_frame_equal(one.candidates, other.candidates)
    pd.testing.assert_frame_equal(first.near, second.near)
    assert first.facts == second.facts


def test_a_verdict_does_not_depend_on_where_images_stand() -> None:
    names = list(IMAGES)
    scores = []
    for order in (names, names[::-1]):
        near = detection()(shop(order))[1].near
        scores.append(near.set_index(["pixels_a", "pixels_b"])["score"])
    pd.testing.assert_series_equal(scores[0], scores[1])


def counted(index: Index, folder: Path) -> tuple[Index, list[str]]:
    """The index with a place for verdicts, and the images that it was asked for."""
    asked: list[str] = []

    def details(urls: Sequence[str]) -> list[RgbImage]:
        asked.extend(urls)
        return index.sight.details(urls)

    return replace(index, sight=index.sight._replace(details=details, derived=folder)), asked


@pytest.mark.parametrize("before", [[], ["A", "A copy", "B", "D"], list(IMAGES)])
def test_verdicts_that_were_kept_change_nothing(before: list[str], tmp_path: Path) -> None:
    """Byte for byte, from no verdict, from some and from all."""
    find, index = detection(AUTO, AUTO), shop(list(IMAGES))
    cold, search = find(index)
    if before:
        find(counted(shop(before), tmp_path)[0])
    warm, asked = counted(index, tmp_path)
    findings, searched = find(warm)
    assert (not asked) == (before == list(IMAGES))
    for folder, one in (("cold", search), ("warm", searched)):
        (tmp_path / folder).mkdir()
        one.save(tmp_path / folder)
    for name in ("near.parquet", "compared.parquet", "search.json"):
        files = [(tmp_path / folder / name).read_bytes() for folder in ("cold", "warm")]
        assert files[0] == files[1]
    pd.testing.assert_frame_equal(findings.pairs, cold.pairs)
    assert findings.calibration == cold.calibration
    warm, asked = counted(index, tmp_path)
    replace(find, matcher=RadiusSearch(AUTO, precision=0.7))(warm)
    assert not asked  # nor for another precision


def test_a_search_that_is_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.detection.verdicts.STEP", 3)
    find, index = detection(9.0, 0.5), shop(list(IMAGES))
    warm, asked = counted(index, tmp_path)

    def stopped(urls: Sequence[str]) -> list[RgbImage]:
        if len(asked) > 5:
            raise KeyboardInterrupt
        return warm.sight.details(urls)

    with pytest.raises(KeyboardInterrupt):
        find(replace(warm, sight=warm.sight._replace(details=stopped)))
    (file,) = (tmp_path / "verdicts").glob("*.parquet")
    n_kept = len(pd.read_parquet(file))
    assert n_kept > 0
    assert n_kept % 3 == 0
    _, search = find(warm)
    pd.testing.assert_frame_equal(search.near, find(index)[1].near)
    assert len(search.near) == 45


def test_only_what_is_in_one_block_is_looked_at() -> None:
    index = shop(list(IMAGES))
    blocks = {"A": "1", "A copy": "1", "B": "2", "B blue": "", "C": "2"}
    products = index.products.assign(
        brand=[blocks.get(name, name) for name in index.products["id"]]
    )
    index = replace(index, products=products)
    find = replace(detection(9.0, 0.5), block_by="brand")
    findings, search = find(index)
    blank = {tuple(sorted(("B blue", name))) for name in IMAGES if name != "B blue"}
    assert ends(findings.candidates) == {("A", "A copy"), ("B", "C")} | blank
    assert len(search.near) == 2 + len(blank)
    assert ends(findings.pairs) == {("A", "A copy")}
    again, searched = find(index, search)
    pd.testing.assert_frame_equal(again.pairs, findings.pairs)
    pd.testing.assert_frame_equal(searched.near, search.near)
    with pytest.raises(ArtifactError, match="block_by=brand"):
        detection(9.0, 0.5)(index, search)


@pytest.mark.parametrize(
    "before", [["A", "B", "C"], ["A", "A copy", "B", "B blue", "D"], list("CDEFGH"), list(IMAGES)]
)
def test_going_on_from_an_earlier_search_changes_nothing(before: list[str]) -> None:
    find = detection(NEAR_BY, 0.5)
    _, since = find(shop(before))
    index = shop(list(IMAGES))
    (fresh, search), (gone_on, searched) = find(index), find(index, since)
    pd.testing.assert_frame_equal(gone_on.pairs, fresh.pairs, check_dtype=False)
    pd.testing.assert_frame_equal(gone_on.groups, fresh.groups)
    pd.testing.assert_frame_equal(gone_on.candidates, fresh.candidates, check_dtype=False)
    pd.testing.assert_frame_equal(searched.near, search.near, check_dtype=False)
    pd.testing.assert_frame_equal(searched.compared, search.compared)


def of_nearest(words: float, near: float = 0.3) -> Detector:
    """With few candidates, so that a new image takes the place of another one."""
    return Detector(RadiusSearch(near), Grouping(), GeometricVerifier(0.5, word_candidates=words))


@pytest.mark.parametrize("words", [1, 2, 4])
@pytest.mark.parametrize("before", [["A", "B", "C"], ["A", "B", "D", "G", "H"], list("CDEFGH")])
def test_new_and_removed_images_take_the_places_of_others(before: list[str], words: int) -> None:
    find = of_nearest(words)
    names = [name for name in IMAGES if name != before[0]]
    _, since = find(shop(before))
    (fresh, search), (gone_on, searched) = find(shop(names)), find(shop(names), since)
    assert len(search.near) < len(names) * (len(names) - 1) // 2
    pd.testing.assert_frame_equal(searched.near, search.near, check_dtype=False)
    pd.testing.assert_frame_equal(gone_on.candidates, fresh.candidates, check_dtype=False)


@pytest.mark.parametrize("words", [1, 2])
def test_the_order_of_the_catalogue_does_not_matter(words: int) -> None:
    names, find = list(IMAGES), of_nearest(words)
    findings, search = find(shop(names))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(names))
        again, searched = find(shop([names[at] for at in order]))
        pd.testing.assert_frame_equal(searched.near, search.near)
        pd.testing.assert_frame_equal(again.candidates, findings.candidates)


def test_what_was_looked_at_is_not_looked_at_again() -> None:
    find, index = detection(NEAR_BY, 0.5), shop(list(IMAGES))
    _, since = find(index)

    def blind(urls: Sequence[str]) -> list[RgbImage]:
        assert not urls
        return []

    again = replace(index, sight=index.sight._replace(details=blind))
    findings, search = find(again, since)
    assert ends(findings.pairs) == {("A", "A copy")}
    pd.testing.assert_frame_equal(search.near, since.near, check_dtype=False)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [((0.5, None), (0.5, 0.5)), ((0.5, 0.5), (0.5, None)), ((AUTO, 0.5), (0.5, 0.5)),
     ((0.5, 0.5), (AUTO, 0.5))],
)  # fmt: skip
def test_a_search_of_another_kind_cannot_be_gone_on_with(
    earlier: tuple[float | str, float | None], later: tuple[float | str, float | None]
) -> None:
    index = shop(["A", "A copy", "C"])
    _, since = detection(*earlier)(index)
    with pytest.raises(ArtifactError, match="leave since out"):
        detection(*later)(index, since)


def test_two_catalogues_are_looked_at_together() -> None:
    both, theirs = merged(shop(["A", "B", "C", "D", "E"]), shop(["A copy", "B blue", "G"]), "B:")
    findings, _ = detection()(both, others=theirs)
    assert ends(findings.pairs) == {("A", "B:A copy")}
    assert ends(findings.candidates) <= {
        tuple(sorted((here, f"B:{there}")))
        for here in "ABCDE"
        for there in ("A copy", "B blue", "G")
    }
    inside, _ = detection()(shop(["A", "A copy", "C"]))
    both, theirs = merged(shop(["A", "A copy", "C"]), shop(["D", "E"]), "B:")
    between, _ = detection()(both, others=theirs)
    assert ends(inside.pairs) == {("A", "A copy")}
    assert between.pairs.empty


@pytest.mark.parametrize("names", [[], ["A"], ["A", "B"]])
@pytest.mark.parametrize("threshold", [NEAR_BY, AUTO])
@pytest.mark.parametrize("min_score", [0.5, AUTO, None])
def test_next_to_nothing_to_compare(
    names: list[str], threshold: float | str, min_score: float | str | None
) -> None:
    index = shop(["A", "B"])
    kept = index.images["product_id"].isin(names)
    index = replace(index, images=index.images.assign(status=np.where(kept, "ok", "failed")))
    findings, search = detection(threshold, min_score)(index)
    assert findings.pairs.empty
    assert search.facts.n_images == len(names)


def search_of(scores: Sequence[float], distances: Sequence[float]) -> SearchState:
    """What a search with a second look might have found."""
    near = pd.DataFrame(
        {
            "pixels_a": [f"a{place}" for place in range(len(scores))],
            "pixels_b": [f"b{place}" for place in range(len(scores))],
            "distance": distances, "score": scores, "evidence": "", "relation": "",
        }
    )  # fmt: skip
    return SearchState(near, near[["pixels_a"]], search_facts())


def test_a_number_decides_as_it_stands() -> None:
    search = search_of([0.2, 0.5, 0.9, 1.0, 0.0], [1, 2, 3, 4, 5])
    near, calibration = decided(search, RadiusSearch(1.0), GeometricVerifier(0.5))
    assert near["reported"].tolist() == [False, True, True, True, False]
    assert near["score"].tolist() == [0.2, 0.5, 0.9, 1.0, 0.0]
    assert calibration is None


def test_the_largest_good_distance_is_taken_with_its_ties() -> None:
    rng = np.random.default_rng(0)
    distances = rng.random(300).round(2)
    log_odds = np.where(distances < 0.4, 6.0, -4.0) + rng.normal(0, 1, 300)
    scores = 1 / (1 + np.exp(-log_odds))
    near, calibration = decided(
        search_of(scores.tolist(), distances.tolist()), RadiusSearch(AUTO, precision=0.9), None
    )
    within = {least: distances <= least for least in np.unique(distances)}
    good = [least for least in within if near["score"][within[least]].mean() >= 0.9]
    assert calibration is not None
    assert calibration.threshold == max(good)
    assert near["reported"].tolist() == within[max(good)].tolist()
    assert 20 < near["reported"].sum() < 280
    ordered = near["score"].to_numpy()[np.argsort(scores)]
    assert (np.diff(ordered) >= 0).all()  # the order stays


def test_clusters_of_vectors() -> None:
    images = pd.DataFrame({"vector": [2, -1, 0, 2], "cluster": [5, -1, 3, 5]})
    assert clusters_of_vectors(images, 4).tolist() == [3, -1, 5, -1]
