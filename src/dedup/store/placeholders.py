"""Find placeholder images, which are no evidence that two products are duplicates.

A shop shows "no image available" for thousands of products. Their images are equal, although the
products have nothing in common: they would give millions of false pairs. An image is evidence
only if it has contrast, and if few products show it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dedup.schemas import SHARED


def placeholders(
    images: pd.DataFrame, max_products: int = 100, min_contrast: float = 3.0
) -> pd.DataFrame:
    """Find placeholders: images of several products that are flat, or shared by too many.

    Args:
        images: schema ``IMAGES``; only rows that are ok count.
        max_products: number of products above which an image is ``shared``.
        min_contrast: contrast (0 to 127.5) below which an image of two or more products is
            ``flat``. An image that is both is ``flat``.

    Returns:
        Schema ``SHARED``, independent of the order of the rows.
    """
    ok = _with_product_counts(images)
    flat = ok["contrast"] < min_contrast
    ok = ok.assign(image=ok["url"], reason=np.where(flat, "flat", "shared"))
    repeated = ok[(flat & (ok["n_products"] > 1)) | (ok["n_products"] > max_products)]
    by = ["n_products", "sha256_pixels", "product_id", "image"]
    ordered = repeated.sort_values(by, ascending=[False, True, True, True])
    shared: pd.DataFrame = ordered.drop_duplicates(["sha256_pixels", "product_id"])[SHARED.names]
    return shared.reset_index(drop=True)


def without_placeholders(
    images: pd.DataFrame, max_products: int = 100, min_contrast: float = 3.0
) -> pd.DataFrame:
    """Drop the rows whose image is no evidence of duplicates.

    Args:
        images: schema ``IMAGES``, perhaps with more columns.
        max_products: see ``placeholders``.
        min_contrast: see ``placeholders``. Here a flat image of a single product is dropped too,
            since other flat images lie close to it.

    Returns:
        The rows of ``images`` that are ok, not flat and not shared by too many, in their order.
    """
    ok = _with_product_counts(images)
    is_placeholder = (ok["contrast"] < min_contrast) | (ok["n_products"] > max_products)
    return ok.loc[~is_placeholder, list(images.columns)]


def _with_product_counts(images: pd.DataFrame) -> pd.DataFrame:
    """Select the rows that are ok, and count the products that show each image, ``n_products``."""
    ok = images[images["status"] == "ok"]
    image, unique_images = pd.factorize(ok["sha256_pixels"])
    product = pd.factorize(ok["product_id"])[0]
    shown = pd.DataFrame({"image": image, "product": product}).drop_duplicates()
    n_products = np.bincount(shown["image"], minlength=len(unique_images))
    return ok.assign(n_products=n_products[image])
