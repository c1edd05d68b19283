"""Products that show equal pictures, found by content digests without any model."""

from __future__ import annotations

import numpy as np
import pandas as pd

EVIDENCE = ["product_id", "url", "sha256_bytes", "sha256_pixels"]


def exact_pairs(images: pd.DataFrame) -> pd.DataFrame:
    """Every two products with a picture of equal pixels.

    Args:
        images: schema ``IMAGES``; only rows that are ok count.

    Returns:
        Candidates in the schema ``PAIRS``, of tier ``same_url``, ``same_bytes`` or
        ``same_pixels`` and distance 0. Two products may stand in it more than once, by several
        pictures; ``grouping.best_pairs`` keeps the surest.
    """
    ok = images.loc[images["status"] == "ok", EVIDENCE]
    shared = ok[ok.duplicated("sha256_pixels", keep=False)]
    both = shared.merge(shared, on="sha256_pixels", suffixes=("_a", "_b"))
    both = both[both["product_id_a"] < both["product_id_b"]]
    tier = np.select(
        [both["url_a"] == both["url_b"], both["sha256_bytes_a"] == both["sha256_bytes_b"]],
        ["same_url", "same_bytes"],
        default="same_pixels",
    )
    both = both.rename(columns={"url_a": "image_a", "url_b": "image_b"})
    found = both[["product_id_a", "product_id_b", "image_a", "image_b"]]
    return found.assign(distance=0.0, tier=tier)
