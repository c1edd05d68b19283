"""Judge the pairs of products with several images by all their images.

A shop puts a size chart beside the own photos of each product. Products that agree in it alone are
no duplicates. Copies of one image count as that image here: images are joined by equal pixels and
by the near pairs that are reported. All steps are linear in the numbers of images and of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dedup.schemas import NEAR, SHARED
from dedup.store.placeholders import FEWEST, listed

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FEW = 3
"""Least number of products that can make an image a shared one."""

ALL, MAIN, SECONDARY, SOME = (
    "all images the same",
    "the main image is the same",
    "a secondary image is shared",
    "an image is the same",
)
"""Words of the evidence; the last where a product has several rows, which have no order."""


@dataclass(frozen=True)
class Judged:
    """Pairs of products, judged by all images.

    Attributes:
        pairs: the pairs that stay, columns of ``PAIRS``, with words in the evidence.
        related: pairs that agree in a secondary image alone, likewise.
        shared: schema ``SHARED``: images that stand beside the own images of many products.
    """

    pairs: pd.DataFrame
    related: pd.DataFrame
    shared: pd.DataFrame


def judge(
    pairs: pd.DataFrame, images: pd.DataFrame, is_evidence: Bools, near: pd.DataFrame
) -> Judged:
    """Judge pairs of products by all that is known of their images.

    An image is shared, and gives no pair, where at least ``FEW`` products show it beside other
    images, and most pairs of these products agree in nothing else. Images that the same products
    show, such as a size chart and a note on delivery, count as one image if they are no product's
    main image and more than ``FEWEST`` products show them. A shared image still gives the pair of
    two products whose main image it is, if it is no third one's.

    Two products with several images are only related where they agree in secondary images alone,
    and these are at most half of the images of either. Shared images do not count. The main image
    is the first of a row of the table; which one it is of several rows is unknown.

    Args:
        pairs: columns of ``PAIRS``, a row for each two images that agree; pairs may be repeated.
        images: schema ``IMAGES``, in the order of each record; the order of records is free.
        is_evidence: (len(images),), whether an image is evidence by equal pixels; the images of
            ``pairs`` are.
        near: the reported near pairs of images, with the columns ``pixels_a`` and ``pixels_b``.

    Returns:
        The judged pairs. All pairs stay as they are where no product has several images.
    """
    if not len(pairs) or not images.loc[is_evidence, "product_id"].duplicated().any():
        return Judged(pairs, pairs[:0], pd.DataFrame(columns=SHARED.names))
    pairs, shown = pairs.reset_index(drop=True), _shown(images, is_evidence, near)
    agreed = _agreed(pairs, shown)
    is_shared = _are_shared(shown, agreed)
    left = agreed[~is_shared[agreed["image"]] | _are_mains_of_two(agreed, shown)]
    words, is_related = _words(left, shown, is_shared)
    stay = pairs.loc[left.index]
    text = stay["evidence"].to_numpy(object)
    both = np.where((text == "") | (words == ""), text + words, text + "; " + words)
    stay = stay.assign(evidence=both)
    return Judged(stay[~is_related], stay[is_related], _listed(shown, is_shared))


def _shown(images: pd.DataFrame, is_evidence: Bools, near: pd.DataFrame) -> pd.DataFrame:
    """Number the images, copies of one image alike.

    Returns:
        A row for each product and each address: ``product_id``, ``url``, ``sha256_pixels``;
        ``image``, a number; ``main``, whether it is the product's main image; ``orderly``,
        whether the product has one row in the table; ``product``, a number.
    """
    records = images[["record", "product_id"]].drop_duplicates()
    several = records.loc[records["product_id"].duplicated(), "product_id"]
    table = images[["product_id", "url", "sha256_pixels"]].assign(
        main=~images.duplicated("record"), orderly=~images["product_id"].isin(several)
    )[is_evidence]
    table["main"] &= table["orderly"]
    by = ["product_id", "url", "main"]
    table = table.sort_values(by, ascending=[True, True, False])
    table = table.drop_duplicates(["product_id", "url"], ignore_index=True)
    digest, digests = pd.factorize(table["sha256_pixels"], sort=True)
    left, right = (
        pd.Index(digests, dtype=object).get_indexer(near[end].to_numpy(object))
        for end in NEAR.names[:2]
    )
    n = len(digests)
    links = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    copies = connected_components(links, directed=False)[1] if n else np.empty(0, np.int64)
    return table.assign(image=copies[digest], product=pd.factorize(table["product_id"])[0])


def _agreed(pairs: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """Number the products ``a`` and ``b`` and the ``image`` of each pair; its index is kept."""
    places = pd.MultiIndex.from_frame(shown[["product_id", "url"]])
    a, b = (
        places.get_indexer(pd.MultiIndex.from_frame(pairs[[f"product_id_{end}", f"image_{end}"]]))
        for end in ("a", "b")
    )
    product, image = shown["product"].to_numpy(), shown["image"].to_numpy()
    return pd.DataFrame({"a": product[a], "b": product[b], "image": image[a]}, pairs.index)


def _are_shared(shown: pd.DataFrame, agreed: pd.DataFrame) -> Bools:
    """Find the shared images, (n_images,); each pass leaves out those that are found before."""
    as_one = _together(shown)
    n = len(as_one)
    members = pd.DataFrame({"product": shown["product"], "image": as_one[shown["image"]]})
    members = members.drop_duplicates()
    matches = agreed.assign(image=as_one[agreed["image"]]).drop_duplicates()
    is_shared = np.zeros(n, bool)
    while True:
        members = members[~is_shared[members["image"]]]
        matches = matches[~is_shared[matches["image"]]]
        several = np.bincount(members["product"], minlength=shown["product"].max() + 1) > 1
        n_products = np.bincount(members["image"], minlength=n)
        n_several = np.bincount(members["image"][several[members["product"]]], minlength=n)
        alone = ~matches.duplicated(["a", "b"], keep=False)
        among = several[matches["a"]] & several[matches["b"]]
        n_pairs = np.bincount(matches["image"][among], minlength=n)
        n_alone = np.bincount(matches["image"][among & alone], minlength=n)
        found = (n_several >= FEW) & (2 * n_several > n_products) & (2 * n_alone > n_pairs)
        if not found.any():
            return is_shared[as_one]
        is_shared |= found


def _are_mains_of_two(agreed: pd.DataFrame, shown: pd.DataFrame) -> Bools:
    """Tell which pairs agree in the main image of both, which is the main one of no other."""
    mains = shown.loc[shown["main"], ["product", "image"]].drop_duplicates()
    counts = mains["image"].value_counts()
    main = mains.set_index("product")["image"]
    ends = [agreed[end].map(main) == agreed["image"] for end in ("a", "b")]
    is_of_two = agreed["image"].map(counts) == 2
    return np.asarray(ends[0] & ends[1] & is_of_two, bool)


def _together(shown: pd.DataFrame) -> Ints:
    """Give secondary images of the same more than ``FEWEST`` products one number, (n_images,)."""
    n = shown["image"].max() + 1
    as_one = np.arange(n)
    members = shown[["product", "image"]].drop_duplicates()
    # Two sums of random numbers stand for a set of products; 128 bits leave no room for chance.
    numbers = np.random.default_rng(0).integers(2**63, size=(members["product"].max() + 1, 2))
    sets = np.zeros((n, 2), np.int64)
    np.add.at(sets, members["image"].to_numpy(), numbers[members["product"]])
    is_joined = np.bincount(members["image"], minlength=n) > FEWEST
    is_joined[shown.loc[shown["main"], "image"]] = False
    rows = np.flatnonzero(is_joined)
    _, first, same = np.unique(sets[rows], axis=0, return_index=True, return_inverse=True)
    as_one[rows] = rows[first][same.ravel()]
    return as_one


def _words(
    left: pd.DataFrame, shown: pd.DataFrame, is_shared: Bools
) -> tuple[npt.NDArray[np.object_], Bools]:
    """Write the words of each row of ``left``, and say whether its pair is only related."""
    n, n_images = shown["product"].max() + 1, len(is_shared)
    members = shown[["product", "image"]].drop_duplicates()
    several = np.bincount(members["product"], minlength=n) > 1
    members = members[~is_shared[members["image"]]]
    sizes = np.bincount(members["product"], minlength=n)
    mains = shown[shown["main"]]
    main = np.unique(mains["product"].to_numpy(np.int64) * n_images + mains["image"])
    orderly = np.ones(n, bool)
    orderly[shown.loc[~shown["orderly"], "product"]] = False

    matches = left.drop_duplicates()
    a, b, image = (matches[name].to_numpy(np.int64) for name in ("a", "b", "image"))
    main_a, main_b = (np.isin(product * n_images + image, main) for product in (a, b))
    facts = matches.assign(
        n=~is_shared[image],
        both=main_a & main_b,
        either=main_a | main_b | ~orderly[a] | ~orderly[b],
    )
    facts = facts.groupby(["a", "b"], sort=False)[["n", "both", "either"]].agg(
        {"n": "sum", "both": "max", "either": "max"}
    )
    facts = facts.loc[pd.MultiIndex.from_frame(left[["a", "b"]])]
    a, b = left["a"].to_numpy(), left["b"].to_numpy()
    n_agreed, both, either = (facts[name].to_numpy() for name in ("n", "both", "either"))
    least, most = np.minimum(sizes[a], sizes[b]), np.maximum(sizes[a], sizes[b])
    words = np.where(orderly[a] & orderly[b], SECONDARY, SOME).astype(object)
    words[both] = MAIN
    words[(n_agreed == most) & (most > 0)] = ALL
    words[~several[a] & ~several[b]] = ""
    return words, ~either & (least > 1) & (2 * n_agreed <= least)


def _listed(shown: pd.DataFrame, is_shared: Bools) -> pd.DataFrame:
    """List the shared images, schema ``SHARED``; copies stand under the first of their digests."""
    rows = shown[is_shared[shown["image"]]]
    by_image = rows.groupby("image")
    return listed(
        rows.assign(
            sha256_pixels=by_image["sha256_pixels"].transform("min"),
            n_products=by_image["product"].transform("nunique"),
            reason="shared",
        ).rename(columns={"url": "image", "image": "number"})
    )
