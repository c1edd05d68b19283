"""Products listed again: what is found of them, on a small drawn shop."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.augmentations import EDITS, Picture
from dedup.detection.calibration import recall_of_copies
from dedup.detection.recall import N_EDITS, listed_again, with_recall
from dedup.detection.results import DetectionResult
from dedup.errors import ArtifactError
from dedup.schemas import GROUPS, PAIRS, SHARED
from dedup.search.image_access import Sight
from dedup.search.index import Index
from dedup.store.image_store import ImageStore
from dedup.verification.geometric import LocalVerifier
from tests.search.test_build import save_encoder

EVERYTHING = {"threshold": 1e9, "words": 0.0}
NOTHING = {"threshold": 0.0, "words": 1.1}


@pytest.fixture(scope="module")
def index(trained: Path) -> Index:
    """The index of the shop, with its pictures."""
    found = Index.load(trained / "runs" / "cluster" / "latest")
    store = ImageStore(trained / found.manifest["store"], found.manifest["reader"])
    checkpoint = str(trained / found.manifest["checkpoint"])
    return replace(
        found,
        manifest={**found.manifest, "checkpoint": checkpoint},
        sight=Sight(store.details, store.words),
    )


def test_every_picture_is_listed_again_once(index: Index) -> None:
    copies = listed_again(index, EVERYTHING, LocalVerifier(), 0.0)
    n_pictures = index.images.loc[index.images["vector"] >= 0, "vector"].nunique()
    assert copies.surety.shape == (n_pictures,)
    assert copies.surety.dtype == np.float64
    assert len(copies.chains) == n_pictures
    assert all(set(chain) <= EDITS.keys() for chain in copies.chains)
    assert {len(chain) for chain in copies.chains} == set(N_EDITS)
    assert ((copies.surety >= 0) & (copies.surety <= 1)).all()
    assert recall_of_copies(copies.surety, copies.chains, 0.5)["expected_recall"][0] > 0.3
    again = listed_again(index, EVERYTHING, LocalVerifier(), 0.0)
    assert np.array_equal(again.surety, copies.surety)
    assert again.chains == copies.chains
    unsure = listed_again(index, EVERYTHING, LocalVerifier(), -1.0)
    assert (unsure.surety <= copies.surety).all()
    assert listed_again(index, EVERYTHING, LocalVerifier(), 0.0, seed=1).chains != copies.chains


def test_what_no_search_would_come_to_is_not_found(index: Index) -> None:
    copies = listed_again(index, NOTHING, LocalVerifier(), 0.0)
    assert (copies.surety == -np.inf).all()


def test_without_a_second_look_distances_count(index: Index) -> None:
    copies = listed_again(index, {}, None, 0.0)
    assert (copies.surety <= 0).all()
    assert np.isfinite(copies.surety).all()
    assert len(np.unique(copies.surety)) > 10
    # With a threshold amid the distances, those within it are found, by this way alone.
    amid = float(np.median(-copies.surety))
    found = listed_again(index, {"threshold": amid, "words": 1.1}, LocalVerifier(), 0.0)
    assert (np.isfinite(found.surety) == (-copies.surety <= amid)).all()


@pytest.mark.parametrize("verifier", [None, LocalVerifier()])
def test_nothing_to_list_again(index: Index, verifier: LocalVerifier | None) -> None:
    images = index.images.assign(status="failed", vector=-1, cluster=-1)
    copies = listed_again(replace(index, images=images), EVERYTHING, verifier, 0.0)
    assert copies.surety.shape == (0,)
    assert list(copies.chains) == []


def test_copies_that_were_kept_are_not_made_again(index: Index, tmp_path: Path) -> None:
    asked: list[str] = []

    def details(urls: Sequence[str]) -> list[Picture]:
        asked.extend(urls)
        return index.sight.details(urls)

    warm = replace(index, sight=index.sight._replace(details=details, derived=tmp_path))
    cold = listed_again(index, EVERYTHING, LocalVerifier(), 0.0)
    first = index.images.loc[index.images["vector"] == 0, "sha256_pixels"].iloc[0]
    known = index.images[index.images["sha256_pixels"] != first]
    listed_again(replace(warm, images=known), EVERYTHING, LocalVerifier(), 0.0)
    for n_new in (2, 0):  # one picture more, and the one that it may be pasted beside
        asked.clear()
        copies = listed_again(warm, EVERYTHING, LocalVerifier(), 0.0)
        assert len(asked) == 2 * n_new
        assert np.array_equal(copies.surety, cold.surety)
        assert copies.chains == cold.chains
    listed_again(warm, NOTHING, LocalVerifier(), -1.0)
    assert not asked
    listed_again(warm, EVERYTHING, None, 0.0)
    assert asked


def test_the_estimate_can_be_left_out(index: Index) -> None:
    chosen = {
        "setting": "verifier.min_score", "threshold": 0.5, "higher_is_surer": True, "shift": 0.0,
        "expected_precision": [1, 0.9, 1],
    }  # fmt: skip
    tables = [pd.DataFrame(columns=schema.names) for schema in (PAIRS, GROUPS, SHARED)]
    findings = DetectionResult(*tables, search=EVERYTHING, calibration=chosen)
    without = with_recall(findings, index, LocalVerifier(), estimate_recall=False)
    assert without == {name: value for name, value in chosen.items() if name != "shift"}
    assert with_recall(replace(findings, calibration={}), index, LocalVerifier()) == {}


def test_another_encoder_is_refused(index: Index, tmp_path: Path) -> None:
    other = save_encoder(tmp_path / "other.ckpt", 5)
    with pytest.raises(ArtifactError, match="another"):
        listed_again(index, EVERYTHING, None, 0.0, other)
