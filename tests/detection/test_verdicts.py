"""Images of a query, verified beside a loop over all pairs."""

import numpy as np
import pytest

from dedup.detection.candidates import Candidates
from dedup.detection.verdicts import Look
from dedup.verification.alignment import LocalFeatures
from dedup.verification.direction import told
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.relations import VARIANT, counted
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
            (place, verdict.score, told(verdict.copy_of, *SIDES, verdict.evidence))
            for place, verdict in enumerate(verdicts)
            if counted(verdict.score >= 0.5, verdict.relation == VARIANT, variants)
        ]
        assert list(zip(*(side.tolist() for side in found[1:]), strict=True)) == expected
        n_found.append(len(expected))
    assert max(n_found) > 1
