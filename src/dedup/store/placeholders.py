"""Images that cannot prove that two products are one.

A shop shows "no image available" for thousands of products. Their images are equal, and yet the
products have nothing in common: every pair of them would be a false one, and there would be
millions. An image tells something only if there is something to be seen in it, and if not too
many products show it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dedup.schemas import SHARED


def placeholders(
    images: pd.DataFrame, max_products: int = 100, min_contrast: float = 3.0
) -> pd.DataFrame:
    """The images that prove nothing although several products show them.

    Args:
        images: schema ``IMAGES``; only rows that are ok count.
        max_products: an image that more products than this show is ``shared``.
        min_contrast: an image with less contrast (0 to 127.5) that two products show is ``flat``;
            one that is both is called ``flat``.

    Returns:
        Schema ``SHARED``, whatever the order of the rows.
    """
    ok = _counted(images)
    flat = ok["contrast"] < min_contrast
    ok = ok.assign(image=ok["url"], reason=np.where(flat, "flat", "shared"))
    silent = ok[(flat & (ok["n_products"] > 1)) | (ok["n_products"] > max_products)]
    by = ["n_products", "sha256_pixels", "product_id", "image"]
    ordered = silent.sort_values(by, ascending=[False, True, True, True])
    shared: pd.DataFrame = ordered.drop_duplicates(["sha256_pixels", "product_id"])[SHARED.names]
    return shared.reset_index(drop=True)


def without_placeholders(
    images: pd.DataFrame, max_products: int = 100, min_contrast: float = 3.0
) -> pd.DataFrame:
    """The rows whose image may prove that two products are one.

    Args:
        images: schema ``IMAGES``, perhaps with more columns.
        max_products: as for ``shared_images``.
        min_contrast: as for ``shared_images``; a flat image tells nothing even if one product
            alone shows it, for another flat one lies close to it.

    Returns:
        The rows of ``images`` that are ok, not flat and not shared by too many, in their order.
    """
    ok = _counted(images)
    silent = (ok["contrast"] < min_contrast) | (ok["n_products"] > max_products)
    return ok.loc[~silent, list(images.columns)]


def _counted(images: pd.DataFrame) -> pd.DataFrame:
    """The rows that are ok, with the number of products that show the image, ``n_products``."""
    ok = images[images["status"] == "ok"]
    image, unique_images = pd.factorize(ok["sha256_pixels"])
    product = pd.factorize(ok["product_id"])[0]
    shown = pd.DataFrame({"picture": image, "product": product}).drop_duplicates()
    n_products = np.bincount(shown["picture"], minlength=len(unique_images))
    return ok.assign(n_products=n_products[image])
