"""Products listed again: what is found of them, on a small drawn shop."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.augmentations import EDITS, RgbImage
from dedup.detection.calibration import Calibration, recall_of_copies
from dedup.detection.mixture import Mixture, Strata
from dedup.detection.recall import N_EDITS, find_edited_copies, with_recall
from dedup.detection.results import DetectionResult
from dedup.errors import ArtifactError
from dedup.schemas import GROUPS, PAIRS, SHARED
from dedup.search.image_access import ImageAccess
from dedup.search.index import Index
from dedup.store.image_store import ImageStore
from dedup.verification.geometric import GeometricVerifier
from tests.search.test_build import save_encoder
from tests.support.searches import search_facts

EVERYTHING = search_facts(threshold=1e9, words=0.0)
NOTHING = search_facts(threshold=0.0, words=1.1)

NO_COPIES = Mixture(np.linspace(0, 14, 50), 1e-9, (0.5, 0.0), 40.0)
COPIES = replace(NO_COPIES, share=0.9)
STRICT = Calibration(
    setting="verifier.min_score", threshold=0.5, higher_is_surer=True, precision=0.9,
    expected_precision=None, interval=0.95, n_pairs=0, strata=Strata(NO_COPIES, NO_COPIES),
)  # fmt: skip
"""Of a catalogue with hardly a copy: every score is lower."""


@pytest.fixture(scope="module")
def index(trained: Path) -> Index:
    """The index of the shop, with its images."""
    found = Index.load(trained / "runs" / "cluster" / "latest")
    store = ImageStore(trained / found.manifest["store"], found.manifest["reader"])
    checkpoint = str(trained / found.manifest["checkpoint"])
    return replace(
        found,
        manifest={**found.manifest, "checkpoint": checkpoint},
        sight=ImageAccess.to(store)._replace(derived=None),
    )


def test_every_image_is_listed_again_once(index: Index) -> None:
    copies = find_edited_copies(index, EVERYTHING, GeometricVerifier(), None)
    n_images = index.images.loc[index.images["vector"] >= 0, "vector"].nunique()
    assert copies.surety.shape == (n_images,)
    assert copies.surety.dtype == np.float64
    assert len(copies.chains) == n_images
    assert all(set(chain) <= EDITS.keys() for chain in copies.chains)
    assert {len(chain) for chain in copies.chains} == set(N_EDITS)
    assert ((copies.surety >= 0) & (copies.surety <= 1)).all()
    assert recall_of_copies(copies.surety, copies.chains, 0.5).expected_recall[0] > 0.3
    again = find_edited_copies(index, EVERYTHING, GeometricVerifier(), None)
    assert np.array_equal(again.surety, copies.surety)
    assert again.chains == copies.chains
    unsure = find_edited_copies(index, EVERYTHING, GeometricVerifier(), STRICT)
    assert (unsure.surety <= copies.surety).all()
    shown = index.images.loc[index.images["vector"] >= 0, "sha256_pixels"]
    crowded = replace(STRICT, strata=Strata(COPIES, NO_COPIES), crowds=frozenset(shown))
    like_all = find_edited_copies(index, EVERYTHING, GeometricVerifier(), crowded)
    assert np.array_equal(like_all.surety, unsure.surety)
    alone = find_edited_copies(
        index, EVERYTHING, GeometricVerifier(), replace(crowded, crowds=frozenset())
    )
    assert (alone.surety >= unsure.surety).all()
    assert (alone.surety > unsure.surety).any()
    assert (
        find_edited_copies(index, EVERYTHING, GeometricVerifier(), None, seed=1).chains
        != copies.chains
    )


def test_what_no_search_would_come_to_is_not_found(index: Index) -> None:
    copies = find_edited_copies(index, NOTHING, GeometricVerifier(), None)
    assert (copies.surety == -np.inf).all()


def test_without_a_second_look_distances_count(index: Index) -> None:
    copies = find_edited_copies(index, EVERYTHING, None, None)
    assert (copies.surety <= 0).all()
    assert np.isfinite(copies.surety).all()
    assert len(np.unique(copies.surety)) > 10
    # With a threshold amid the distances, those within it are found, by this way alone.
    amid = float(np.median(-copies.surety))
    found = find_edited_copies(
        index, search_facts(threshold=amid, words=1.1), GeometricVerifier(), None
    )
    assert (np.isfinite(found.surety) == (-copies.surety <= amid)).all()


@pytest.mark.parametrize("verifier", [None, GeometricVerifier()])
def test_nothing_to_list_again(index: Index, verifier: GeometricVerifier | None) -> None:
    images = index.images.assign(status="failed", vector=-1, cluster=-1)
    copies = find_edited_copies(replace(index, images=images), EVERYTHING, verifier, None)
    assert copies.surety.shape == (0,)
    assert list(copies.chains) == []


def test_copies_that_were_kept_are_not_made_again(index: Index, tmp_path: Path) -> None:
    asked: list[str] = []

    def details(urls: Sequence[str]) -> list[RgbImage]:
        asked.extend(urls)
        return index.sight.details(urls)

    warm = replace(index, sight=index.sight._replace(details=details, derived=tmp_path))
    cold = find_edited_copies(index, EVERYTHING, GeometricVerifier(), None)
    first = index.images.loc[index.images["vector"] == 0, "sha256_pixels"].iloc[0]
    known = index.images[index.images["sha256_pixels"] != first]
    find_edited_copies(replace(warm, images=known), EVERYTHING, GeometricVerifier(), None)
    for n_new in (2, 0):  # one image more, and the one that it may be pasted beside
        asked.clear()
        copies = find_edited_copies(warm, EVERYTHING, GeometricVerifier(), None)
        assert len(asked) == 2 * n_new
        assert np.array_equal(copies.surety, cold.surety)
        assert copies.chains == cold.chains
    find_edited_copies(warm, NOTHING, GeometricVerifier(), STRICT)
    assert not asked
    find_edited_copies(warm, EVERYTHING, None, None)
    assert asked


def test_the_estimate_can_be_left_out(index: Index) -> None:
    chosen = Calibration(
        setting="verifier.min_score", threshold=0.5, higher_is_surer=True, precision=0.99,
        expected_precision=(1, 0.9, 1), interval=0.95, n_pairs=3,
    )  # fmt: skip
    tables = [pd.DataFrame(columns=schema.names) for schema in (PAIRS, GROUPS, SHARED)]
    findings = DetectionResult(*tables, search=EVERYTHING, calibration=chosen)
    without = with_recall(findings, index, GeometricVerifier(), estimate_recall=False)
    assert without == chosen
    assert with_recall(replace(findings, calibration=None), index, GeometricVerifier()) is None


def test_another_encoder_is_refused(index: Index, tmp_path: Path) -> None:
    other = save_encoder(tmp_path / "other.ckpt", 5)
    with pytest.raises(ArtifactError, match="another"):
        find_edited_copies(index, EVERYTHING, None, 0.0, other)
