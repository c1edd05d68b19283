"""Find products with equal images by their digests, without any model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.schemas import RELATIONS, TIERS

Ints = npt.NDArray[np.int64]
COLUMNS = ["product_id", "url", "sha256_bytes", "sha256_pixels"]
"""Columns of ``images`` that are read."""
EVIDENCE = ("same address", "same bytes", "same pixels")
"""Evidence of the first three of ``TIERS``."""


def exact_pairs(images: pd.DataFrame) -> pd.DataFrame:
    """Pair every two products that have an image with equal pixels.

    An image of n products makes n (n - 1) / 2 pairs, so remove placeholders first, by
    ``placeholders.with_equal_evidence``.

    Args:
        images: schema ``IMAGES``; only rows that are ok count.

    Returns:
        Candidates in the schema ``PAIRS``, of tier ``same_url``, ``same_bytes`` or
        ``same_pixels``, distance 0 and score 1. A pair is repeated where products share several
        images; ``grouping.best_pairs`` keeps the surest row.
    """
    ok = images.loc[images["status"] == "ok", COLUMNS]
    shown = ok[ok.duplicated("sha256_pixels", keep=False)]
    image, url, content = (
        pd.factorize(shown[name])[0] for name in ("sha256_pixels", "url", "sha256_bytes")
    )
    product = pd.factorize(shown["product_id"], sort=True)[0]
    order = np.lexsort([product, image])
    a, b = (order[rows] for rows in _later_partners(image[order], product[order]))
    rank = np.where(url[a] == url[b], 0, np.where(content[a] == content[b], 1, 2))
    columns = {
        f"{name}_{end}": shown[column].array[rows]
        for name, column in (("product_id", "product_id"), ("image", "url"))
        for end, rows in (("a", a), ("b", b))
    }
    tier, evidence = (pd.array(names, dtype="str")[rank] for names in (TIERS, EVIDENCE))
    return pd.DataFrame(columns).assign(
        distance=0.0, tier=tier, score=1.0, evidence=evidence, relation=RELATIONS[0]
    )


def _later_partners(image: Ints, product: Ints) -> tuple[Ints, Ints]:
    """Pair the rows of an image that belong to different products, the earlier row first.

    Args:
        image: (n,), sorted.
        product: (n,), sorted within each image.

    Returns:
        The rows of each pair, two arrays of one length.
    """
    n = len(image)
    new_image = np.diff(image, prepend=-1) != 0
    new_product = new_image | (np.diff(product, prepend=-1) != 0)
    after_image, after_product = (
        np.append(np.flatnonzero(new), n)[np.cumsum(new)] for new in (new_image, new_product)
    )
    counts = after_image - after_product
    left = np.repeat(np.arange(n), counts)
    # within the run of each left row the partner moves on by one from the next product's first row
    right = np.arange(len(left)) + np.repeat(after_product - (np.cumsum(counts) - counts), counts)
    return left, right
