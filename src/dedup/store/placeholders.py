"""Find placeholder images, which are no evidence that two products are duplicates.

A shop shows "no image available" for thousands of products. Their images are equal, although the
products have nothing in common: they would give millions of false pairs. An image is evidence
only if it has contrast, and if few products show it. An image with little contrast, such as white
goods on white, is evidence by equal pixels alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from dedup.schemas import SHARED

MaxProducts = int | Literal["auto"]
"""Value of ``max_products``: a number of products, or ``auto`` for ``most_products``."""

SHARE, FEWEST, MOST = 20, 10, 100
"""By ``auto`` an image of more than one product in ``SHARE`` is a placeholder. The limit is at
least ``FEWEST`` products, since in a small shop one product may be listed that often, and at most
``MOST``."""

BLANK = 0.5
"""Contrast below which nothing is to be seen: half a level of 255."""


def most_products(images: pd.DataFrame, max_products: MaxProducts = "auto") -> int:
    """Resolve the number of products above which an image is a placeholder.

    Args:
        images: schema ``IMAGES``; only rows that are ok count.
        max_products: the number, or ``auto``: a ``SHARE``-th of the products with a readable
            image, from ``FEWEST`` to ``MOST``.
    """
    if max_products != "auto":
        return max_products
    n_products = images.loc[images["status"] == "ok", "product_id"].nunique()
    return min(max(n_products // SHARE, FEWEST), MOST)


def placeholders(
    images: pd.DataFrame, max_products: MaxProducts = "auto", min_contrast: float = 3.0
) -> pd.DataFrame:
    """Find placeholders: images of several products that are flat, or shared by too many.

    Args:
        images: schema ``IMAGES``; only rows that are ok count.
        max_products: number of products above which an image is ``shared``, see
            ``most_products``.
        min_contrast: contrast (0 to 127.5) below which an image is ``flat`` if it is blank, or if
            more than ``FEWEST`` products show it. An image that is both flat and shared is
            ``flat``.

    Returns:
        Schema ``SHARED``, independent of the order of the rows.
    """
    ok = _with_product_counts(images)
    flat = ok["contrast"] < min_contrast
    ok = ok.assign(image=ok["url"], reason=np.where(flat, "flat", "shared"))
    silent = ~_is_equal_evidence(ok, most_products(images, max_products), min_contrast)
    return listed(ok[silent & (ok["n_products"] > 1)])


def listed(shown: pd.DataFrame) -> pd.DataFrame:
    """List placeholder images in the order of the schema ``SHARED``, each product once.

    Args:
        shown: columns of ``SHARED``, in any order; products may be repeated.
    """
    by = ["n_products", "sha256_pixels", "product_id", "image"]
    ordered = shown.sort_values(by, ascending=[False, True, True, True])
    shared: pd.DataFrame = ordered.drop_duplicates(["sha256_pixels", "product_id"])[SHARED.names]
    return shared.reset_index(drop=True)


def without_placeholders(
    images: pd.DataFrame, max_products: MaxProducts = "auto", min_contrast: float = 3.0
) -> pd.DataFrame:
    """Drop the rows whose image is no evidence of near duplicates.

    Args:
        images: schema ``IMAGES``, perhaps with more columns.
        max_products: see ``placeholders``.
        min_contrast: see ``placeholders``. Here every flat image is dropped, since other flat
            images lie close to it.

    Returns:
        The rows of ``images`` that are ok, not flat and not shared by too many, in their order.
    """
    ok = _with_product_counts(images)
    most = most_products(images, max_products)
    is_placeholder = (ok["contrast"] < min_contrast) | (ok["n_products"] > most)
    return ok.loc[~is_placeholder, list(images.columns)]


def with_equal_evidence(
    images: pd.DataFrame, max_products: MaxProducts = "auto", min_contrast: float = 3.0
) -> pd.DataFrame:
    """Keep the rows whose image is evidence by equal pixels.

    White goods on white have little contrast, and yet their equal pixels are no chance. Blank
    images are equal by chance; one with little contrast that many products show is a placeholder.

    Args:
        images: as for ``without_placeholders``.
        max_products: see ``placeholders``.
        min_contrast: see ``placeholders``.

    Returns:
        The rows of ``without_placeholders``, and those of images that are not blank and have at
        most ``FEWEST`` products, in the order of ``images``.
    """
    ok = _with_product_counts(images)
    kept = _is_equal_evidence(ok, most_products(images, max_products), min_contrast)
    return ok.loc[kept, list(images.columns)]


def _is_equal_evidence(ok: pd.DataFrame, max_products: int, min_contrast: float) -> pd.Series[bool]:
    """Return whether each row, with ``n_products``, is evidence by equal pixels."""
    flat, blank = (ok["contrast"] < least for least in (min_contrast, min(BLANK, min_contrast)))
    few = ok["n_products"] <= np.where(flat, min(FEWEST, max_products), max_products)
    return few & ~blank


def _with_product_counts(images: pd.DataFrame) -> pd.DataFrame:
    """Select the rows that are ok, and count the products that show each image, ``n_products``."""
    ok = images[images["status"] == "ok"]
    image, unique_images = pd.factorize(ok["sha256_pixels"])
    product = pd.factorize(ok["product_id"])[0]
    shown = pd.DataFrame({"image": image, "product": product}).drop_duplicates()
    n_products = np.bincount(shown["image"], minlength=len(unique_images))
    return ok.assign(n_products=n_products[image])
