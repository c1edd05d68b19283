"""What a search would find of the user's own products, were they listed again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from dedup.alignment import Seen
from dedup.artifacts import Index
from dedup.decode import resizer
from dedup.edits import Picture, relist
from dedup.embedding import Embed
from dedup.parallel import in_order, one_thread
from dedup.rounding import rounded, score, units
from dedup.sharing import telling
from dedup.verifiers.local import LocalVerifier
from dedup.words import Vocabulary, similarities

log = logging.getLogger("dedup")

Floats = npt.NDArray[np.float64]

SAMPLE = 250
"""Products that are listed again, at most."""

STRENGTH = 0.7
N_EDITS = (1, 2)
"""How strong a copy's edits are, and the fewest and the most of them; see ``dedup.edits``."""


class Copies(NamedTuple):
    """Edited copies of a catalogue's pictures, against their originals.

    Attributes:
        surety: (m,) float64: the score, or the distance with a minus; -inf where not found.
        chains: the edits of each copy, by name.
    """

    surety: Floats
    chains: Sequence[Sequence[str]]


@one_thread()
def listed_again(
    index: Index,
    facts: dict[str, Any],
    verifier: LocalVerifier | None,
    shift: float,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    max_products: int = 100,
    min_contrast: float = 3.0,
) -> Copies:
    """Edit copies of some of an index's pictures, and look for their originals.

    Args:
        index: with its store attached.
        facts: of the search, see ``Search``: how far it looked.
        verifier: as the search had it; without, distances are given.
        shift: of the log odds in this catalogue.
        checkpoint: the encoder; the one that the index names if ``None``.
        seed: draws pictures and edits.
        max_products: as the search had it: other pictures are not drawn.
        min_contrast: likewise.

    Raises:
        ArtifactError: the checkpoint is missing, or not the one the index was made with.
    """
    checkpoint = checkpoint or index.manifest["checkpoint"]
    index.check_encoder(checkpoint)
    shown = telling(index.images, max_products, min_contrast)
    # By digest, so that what is drawn does not depend on the order of the catalogue's rows.
    shown = shown.sort_values(["sha256_pixels", "url"]).drop_duplicates("vector")
    rng = np.random.default_rng(seed)
    chosen = shown.iloc[np.sort(rng.permutation(len(shown))[:SAMPLE])]
    if not len(chosen):
        return Copies(np.empty(0), [])
    log.info("listing %d products again to see how many would be found", len(chosen))
    originals = index.sight.details(chosen["url"].tolist())
    draws = [relist(picture, rng, STRENGTH, N_EDITS, others=originals) for picture in originals]
    copies, chains = [copy for copy, _ in draws], [chain for _, chain in draws]
    resize, product = resizer(index.manifest["reader"]), index.sight.product

    def seen(copy: Picture) -> Picture:
        found = product(copy)
        return resize(Image.fromarray(copy)) if found is None else found[1]

    pixels = np.stack(list(in_order(seen, copies)))
    vectors = Embed(checkpoint)({"pixels": pixels})["embedding"].astype(np.float64)
    own = index.vectors[chosen["vector"].to_numpy()]
    unit = np.maximum(units(vectors), units(own))
    distances = rounded(np.linalg.norm(vectors - own, axis=1), unit)
    if verifier is None:
        return Copies(-distances, chains)
    found = (distances <= facts["threshold"]) | (_in_words(originals, copies) >= facts["words"])
    surety = np.full(len(copies), -np.inf)
    pairs = ((Seen.of(originals[at]), Seen.of(copies[at])) for at in np.flatnonzero(found))
    surety[found] = score([it.log_odds for it in verifier(pairs, colours=False)], shift)
    return Copies(surety, chains)


def _in_words(originals: Sequence[Picture], copies: Sequence[Picture]) -> Floats:
    """The similarity of each copy's visual words and its original's."""
    vocabulary = Vocabulary.load()

    def words(picture: Picture) -> npt.NDArray[np.int32]:
        return vocabulary.words(Seen.of(picture).keypoints.descriptors)

    ends = [np.stack(list(in_order(words, pictures))) for pictures in (originals, copies)]
    return similarities(ends[0], ends[1], vocabulary)
