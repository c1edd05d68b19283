"""Pairs of different products that a run would compare: they share marks, or look near.

Each pair becomes a row of features for the fit, by ``fit_classifier``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from fitting_images import Item, as_stored
from numpy.random import Generator
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from dedup.augmentations import packshot
from dedup.encoders.paths import BUNDLED
from dedup.runtime.parallel import in_order
from dedup.search.embedding import Embed
from dedup.store.decode import resizer
from dedup.verification.alignment import LocalFeatures
from dedup.verification.classifier import FEATURES, features
from dedup.verification.geometric import placements
from dedup.verification.visual_words import Vocabulary, propose

N_NEAR = 4
"""Neighbours by embedding of each image, as many as a run compares."""
N_WORDS = 8
"""Pairs by visual words for each image, likewise."""
LEAST_SIMILARITY = 0.03
"""Similarity of visual words from which a pair is proposed."""
MOST_PAIRS = 50_000_000

NO_DIFFERENCE = {"parts": 0.5, "tinted": 0.002}
MIN_REST = 0.9
"""Look-alikes with nothing that differs, and so much that is the same, may be copies: left out."""

Pairs = list[tuple[int, int]]
Way = Callable[[Sequence[Item], Sequence[LocalFeatures]], Pairs]
"""Chooses pairs of items, given their local features too."""


class Row(NamedTuple):
    """A pair: its kind, its group, whether it is a copy, and its features by placement."""

    kind: str
    group: str
    is_copy: int
    placed: list[list[float]]
    held_out: bool


def placed(rng: Generator, one: LocalFeatures, other: LocalFeatures) -> list[list[float]]:
    """Compute the features of a pair in either order, for each of its placements."""
    one, other = (one, other) if rng.random() < 0.5 else (other, one)
    return [features(*pair[:3], pair.colours) for pair in placements(one, other)]


def by_words(items: Sequence[Item], local: Sequence[LocalFeatures]) -> Pairs:
    """Choose the pairs with the most visual words in common.

    Two garments that one seller photographed on the same floor are such a pair, two icons of one
    set another.
    """
    vocabulary = Vocabulary.load()
    words = np.stack([vocabulary.words(each.keypoints.descriptors) for each in local])
    proposed = propose(words, None, vocabulary, LEAST_SIMILARITY, MOST_PAIRS)
    best = np.argsort(-proposed.similarity, kind="stable")[: N_WORDS * len(items)]
    return [(int(proposed.left[at]), int(proposed.right[at])) for at in np.sort(best)]


def by_embedding(items: Sequence[Item], local: Sequence[LocalFeatures]) -> Pairs:
    """Choose the pairs with the nearest embeddings.

    They share colours and outlines rather than marks: black trousers on any ground.
    """
    resize = resizer("pillow")
    pixels = np.stack([resize(Image.fromarray(item.image)) for item in items])
    found = NearestNeighbors(n_neighbors=N_NEAR).fit(
        Embed(BUNDLED)({"pixels": pixels})["embedding"]
    )
    nearest = found.kneighbors(return_distance=False).tolist()
    return sorted({(min(a, b), max(a, b)) for a, row in enumerate(nearest) for b in row})


def mined(
    ways: Mapping[str, Way],
    items: Sequence[Item],
    known: set[frozenset[str]],
    parts: Sequence[bool] = (False, True),
) -> Iterator[Row]:
    """Yield pairs of different products, without those that may be copies.

    Args:
        ways: how pairs are chosen, by the name of their kind.
        items: images of different products, but for the known ones.
        known: pairs of names that show one product.
        parts: which to take, of the images to fit on and those that are held out.
    """
    for held_out in parts:
        pool = [item for item in items if item.held_out == held_out]
        if len(pool) <= N_NEAR:
            continue
        local = list(in_order(LocalFeatures.of, [item.image for item in pool]))

        def one(pair: tuple[int, int], local: Sequence[LocalFeatures] = local) -> list[list[float]]:
            return placed(np.random.default_rng(pair), *(local[at] for at in pair))

        for kind, choose in ways.items():
            pairs = choose(pool, local)
            for (a, b), rows in zip(pairs, in_order(one, pairs), strict=True):
                if frozenset((pool[a].name, pool[b].name)) not in known:
                    told = [row for row in rows if not may_be_copy(row)]
                    yield Row(kind, pool[a].name, 0, told, held_out)


def may_be_copy(row: Sequence[float]) -> bool:
    """Tell whether nothing differs: nobody has said that such a pair is no copy."""
    values = dict(zip(FEATURES, row, strict=True))
    no_more = all(values[name] < most for name, most in NO_DIFFERENCE.items())
    return no_more and values["rest"] > MIN_REST


def packshots_of(items: Sequence[Item]) -> list[Item]:
    """Cut products out and set them on white; as held out, for their pairs are never fitted on."""
    made = in_order(lambda item: packshot(item.image, np.random.default_rng(0)), items)
    return [
        Item(item.name, as_stored(image, 90), True)
        for item, image in zip(items, made, strict=True)
        if image is not None
    ]
