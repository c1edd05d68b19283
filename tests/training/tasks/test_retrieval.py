"""``val/uap``: which pairs count, and in what order."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from dedup.training.tasks.retrieval import uap


def random(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


def test_it_is_sklearns_over_the_pairs_that_count() -> None:
    originals, noise, variants = random(8), random(16, 1).view(2, 8, 6), random(3, 2)
    copies = originals + 0.9 * noise
    labels = torch.tensor([0, 1, 2, 2, 4, 5, 6, 2])
    scores, match = [], []
    for copy in copies:
        for i in range(8):
            for j in range(8):
                if i == j or labels[i] != labels[j]:
                    scores.append(-np.linalg.norm(copy[i].numpy() - originals[j].numpy()))
                    match.append(i == j)
    for variant in variants:
        for original in originals:
            scores.append(-np.linalg.norm(variant.numpy() - original.numpy()))
            match.append(False)
    assert len(scores) == 2 * (64 - 6) + 24
    expected = average_precision_score(match, scores)
    assert uap(originals, copies, variants, labels) == pytest.approx(expected, abs=1e-6)


def test_a_copy_at_the_same_distance_is_no_help() -> None:
    originals = torch.eye(4)
    labels = torch.arange(4)
    assert uap(originals, originals[None], originals[:0], labels) == 1
    # A variant where its original is takes a place before it.
    assert uap(originals, originals[None], originals, labels) < 0.75


def test_distances_far_below_one_are_told_apart() -> None:
    originals = torch.tensor([[1.0, 0.0], [1.0, 3e-5]])
    copies = originals + torch.tensor([[0.0, 1e-6], [0.0, -1e-6]])
    assert uap(originals, copies[None], originals[:0], torch.arange(2)) == 1
