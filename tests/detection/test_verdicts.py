"""Images of a query, verified beside a loop over all pairs; and pairs with a third look."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dedup.detection.candidates import Candidates
from dedup.detection.verdicts import Look, known_or_looked_at, verdict_derivation
from dedup.runtime.digits import score
from dedup.search.image_access import ImageAccess
from dedup.verification.alignment import Alignment, LocalFeatures
from dedup.verification.direction import told
from dedup.verification.geometric import GeometricVerifier, Verdict
from dedup.verification.keypoints import RgbImage
from dedup.verification.relations import (
    MERGE,
    MERGED,
    N_AGREEING,
    NOTHING,
    SAME_PRODUCT,
    VARIANT,
    counted,
)
from tests.detection.test_comparison import IMAGES, shop
from tests.verification.test_keypoints import patches

SIDES = ("the query", "the product's image")


def test_a_image_asked_about_is_looked_at_again() -> None:
    index = shop("ABCDEFGH")
    rows = np.arange(8)
    look = Look(index.images["url"].tolist(), rows, index.sight, GeometricVerifier(), 0.5)
    asked = [IMAGES["A copy"], IMAGES["B blue"], patches(99, (120, 160))]
    nearest = Candidates(np.array([1, 2]), np.array([1, 5]))  # as embeddings might say
    found = look([LocalFeatures.of(image) for image in asked], nearest)
    assert list(zip(*(side.tolist() for side in found[:2]), strict=True)) == [(0, 0)]
    assert found.score[0] > 0.5
    assert found.evidence[0]


def _sure(verdict: Verdict) -> float:
    """The probability of a colour variant."""
    return float(score(verdict.alike))


def _shown(verdict: Verdict, variants: str) -> float:
    """The score that an answer gives."""
    is_merged = variants == MERGE and verdict.relation == VARIANT
    return _sure(verdict) if is_merged else verdict.score


@pytest.mark.parametrize("variants", ["separate", "merge", "ignore"])
def test_images_asked_about_again_give_the_verdicts_of_all_pairs(
    variants: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a loop that compares all colours, and with images kept in memory or pushed out."""
    monkeypatch.setattr("dedup.detection.verdicts.KEPT", 3)
    verifier, index = GeometricVerifier(), shop(list(IMAGES))
    names, n = list(IMAGES), len(IMAGES)
    images = [LocalFeatures.of(IMAGES[name]) for name in names]
    look = Look(index.images["url"].tolist(), np.arange(n), index.sight, verifier, 0.5, variants)
    n_found = []
    for at in [0, 1, 0, 3, 2, 3, 3]:
        near = Candidates(np.zeros(n, np.int64), np.arange(n))
        found = look([images[at]], near)
        verdicts = verifier([(images[at], other) for other in images])
        expected = [
            (place, _shown(verdict, variants), told(verdict.copy_of, *SIDES, verdict.evidence))
            for place, verdict in enumerate(verdicts)
            if counted(
                verdict.score >= 0.5,
                verdict.relation == VARIANT,
                _sure(verdict) >= MERGED,
                variants,
            )
        ]
        assert list(zip(*(side.tolist() for side in found[1:]), strict=True)) == expected
        n_found.append(len(expected))
    assert max(n_found) > 1


class InPlace:
    """A third look that takes all products for aligned as they are."""

    def __init__(self, n_inliers: int = N_AGREEING) -> None:
        self.n_inliers = n_inliers

    @property
    def identity(self) -> dict[str, Any]:
        return {"n_inliers": self.n_inliers}

    def __call__(
        self, pairs: Sequence[tuple[LocalFeatures, LocalFeatures]]
    ) -> list[Alignment | None]:
        return [Alignment(np.eye(3)[:2], False, 200, self.n_inliers) for _ in pairs]


def verifying(third: InPlace | None) -> GeometricVerifier:
    verifier = GeometricVerifier()
    verifier.third = third
    return verifier


def cloth(seed: int, colour: tuple[int, int, int]) -> RgbImage:
    """A cloth of one colour, in folds of its own."""
    folds = np.random.default_rng(seed).normal(size=(160, 120)).astype(np.float32)
    folds = cv2.GaussianBlur(folds, (0, 0), 6)
    light = 1 + 0.06 * folds / folds.std()
    return np.clip(light[..., None] * np.array(colour), 0, 255).astype(np.uint8)


CLOTHS = [cloth(0, (180, 40, 50)), cloth(1, (180, 40, 50)), cloth(2, (40, 60, 180))]


def relations(third: InPlace | None, near: list[bool], folder: Path | None) -> list[str]:
    """What pairs of cloths are called: two red ones, and a red and a blue one."""

    def details(urls: Sequence[str]) -> list[npt.NDArray[np.uint8]]:
        return [CLOTHS[int(url)] for url in urls]

    def words(_: Sequence[str]) -> npt.NDArray[np.int32]:
        return np.empty((0, 0), np.int32)

    verifier = verifying(third)
    urls = np.array(["0", "1", "2"], object)
    found = known_or_looked_at(
        Candidates(np.array([0, 0]), np.array([1, 2])),
        verdict_derivation(verifier, "scaled", ""),
        urls,
        urls,
        ImageAccess(details, words, derived=folder),
        verifier,
        np.array(near),
    )
    return list(found["relation"])


def test_near_pairs_without_a_relation_get_a_third_look() -> None:
    both = [True, True]
    assert relations(None, both, None) == [NOTHING, NOTHING]
    assert relations(InPlace(), both, None) == [SAME_PRODUCT, NOTHING]
    assert relations(InPlace(N_AGREEING - 1), both, None) == [NOTHING, NOTHING]
    assert relations(InPlace(), [False, True], None) == [NOTHING, NOTHING]


def test_kept_verdicts_with_and_without_a_third_look_are_never_mixed(tmp_path: Path) -> None:
    near, far = [True, True], [False, False]
    looks = [(None, near), (InPlace(), near), (InPlace(), far), (InPlace(1), near)]
    for third, is_near in [*looks, *looks[::-1], *looks]:
        assert relations(third, is_near, tmp_path) == relations(third, is_near, None)


def test_verdicts_are_named_by_the_third_look() -> None:
    digests = {
        verdict_derivation(verifying(third), "scaled", "").digest
        for third in (None, InPlace(), InPlace(1))
    }
    assert len(digests) == 3
    assert "third_look" not in verdict_derivation(verifying(None), "scaled", "").settings
