"""Schemas of the tables between stages, match types and array aliases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

AUTO: Final = "auto"
"""Value of a threshold to be chosen for the wanted precision."""


if TYPE_CHECKING:
    from PIL import Image

Thumbnails = Callable[[Sequence[str]], dict[str, "Image.Image"]]
"""Reader of preview images by address."""

Image8 = npt.NDArray[np.uint8]
"""An image's pixels."""

IMAGE_SHAPE = (3, 200, 100)
"""Channels, height and width of every stored image, uint8: the original experiment's size."""

Tier = Literal["same_url", "same_bytes", "same_pixels", "near"]
TIERS: tuple[Tier, ...] = ("same_url", "same_bytes", "same_pixels", "near")
"""Match types of a pair, surest first."""

Relation = Literal["same image", "same product", "differs in a detail", "colour variant"]
RELATIONS: tuple[Relation, ...] = (
    "same image", "same product", "differs in a detail", "colour variant",
)  # fmt: skip
"""Relations of two products' images: equal images or copies, another photo of one product, images
that are equal but for a part of them, and one product in two colours."""

SHARED_IMAGE = "shared image"
PAIR_RELATIONS = (*RELATIONS, SHARED_IMAGE)
"""Relations of two products: those of their images, and products that agree in a secondary image
alone, such as a size chart, while they show other goods."""

REQUESTS = pa.schema(
    [
        ("record", pa.int64()),  # row of Catalogue.products with this image
        ("product_id", pa.string()),
        ("url", pa.string()),  # an http(s) address or an absolute path
        ("alternates", pa.list_(pa.string())),  # the same image elsewhere, tried in this order
        ("status", pa.string()),  # "" = to be read; else already "skipped" or "failed"
        ("reason", pa.string()),
    ]
)
"""A catalogue's ``requests``: at least one row for every record of the input."""

IMAGES = pa.schema(
    [
        ("record", pa.int64()),
        ("product_id", pa.string()),
        ("url", pa.string()),  # the address that was used
        ("sha256_bytes", pa.string()),
        ("sha256_pixels", pa.string()),  # of the stored 3 x 200 x 100 pixels
        ("width", pa.int32()),  # of the original image
        ("height", pa.int32()),
        ("contrast", pa.float32()),  # of the stored pixels: 0 is one flat colour; 0 where not ok
        ("status", pa.string()),  # ok | skipped | failed
        ("reason", pa.string()),  # one word, "" when ok
        ("detail", pa.string()),  # a sentence, "" when ok
    ]
)
"""Images that the store has read: one row for every request, failed ones included."""

INDEX_IMAGES = IMAGES.append(pa.field("vector", pa.int64())).append(pa.field("cluster", pa.int64()))
"""An index's ``images``. ``vector`` is the row in ``vectors.npy``, -1 if the image is not ok.
Images with equal pixels share one vector. ``cluster`` is -1 without a vector."""

PAIRS = pa.schema(
    [
        ("product_id_a", pa.string()),  # product_id_a < product_id_b
        ("product_id_b", pa.string()),
        ("distance", pa.float64()),  # L2 of the embeddings, lower is closer; 0 for equal pixels
        ("tier", pa.string()),  # one of TIERS
        ("image_a", pa.string()),  # addresses of the images that show it
        ("image_b", pa.string()),
        ("score", pa.float64()),  # probability; 1 for equal pixels; null: only the distance
        ("evidence", pa.string()),  # in words: "same bytes", "mirrored"; "": only the distance
        ("relation", pa.string()),  # one of PAIR_RELATIONS; "": nothing
    ]
)
"""Pairs of products that show the same image; each pair once, sorted by both ids."""

DECIDED_STATES = ("decided", "follows", "reopened", "gone")
"""States of a pair in the schema ``DECIDED``."""

DECIDED = pa.schema(
    [
        ("product_id_a", pa.string()),  # product_id_a < product_id_b
        ("product_id_b", pa.string()),
        ("verdict", pa.string()),  # of a person, see review.decisions.VERDICTS
        ("state", pa.string()),  # one of DECIDED_STATES
        ("reviewer", pa.string()),
        ("made_at", pa.string()),  # time in UTC
    ]
)
"""Pairs that people decided on: decided themselves, following from other decisions, to be asked
again since an image is new, or duplicates without their images. Each once, sorted by both ids."""

FAMILIES = pa.schema(
    [
        ("product_id", pa.string()),
        ("family_id", pa.string()),  # the smallest product id in the family
        ("variant_id", pa.string()),  # of one colour: its group's id, or its only product's
    ]
)
"""Products that differ only in colour; each once, sorted by family, variant and id."""

GROUPS = pa.schema(
    [
        ("product_id", pa.string()),
        ("group_id", pa.string()),  # the smallest product id in the group
        ("kept", pa.bool_()),  # True for one product of each group
    ]
)
"""Groups of duplicate products; each product once, sorted by group and id."""

SHARED = pa.schema(
    [
        ("sha256_pixels", pa.string()),  # the image
        ("product_id", pa.string()),
        ("image", pa.string()),  # its address at this product
        ("n_products", pa.int64()),  # number of products with the image
        ("reason", pa.string()),  # "flat": too little contrast; "shared": of many products
    ]
)
"""Placeholder images, such as "no image available", and their products: a row for each product and
image, sorted by number of products (largest first), image and id."""

PROBLEMS = (
    *("unreadable", "placeholder", "too_small", "too_large", "blurred", "dark", "bright"),
    *("aspect", "low_contrast", "compressed"),
)
"""Problems of an image, the worst first, see ``detection.health``."""

HEALTH = pa.schema(
    [
        ("product_id", pa.string()),
        ("image", pa.string()),  # its address
        ("sha256_pixels", pa.string()),  # "" where it could not be read
        ("width", pa.int32()),  # of the original image; 0 where it could not be read
        ("height", pa.int32()),
        ("bytes", pa.int64()),  # of its file; -1: not known
        ("format", pa.string()),  # one of store.measures.FORMATS; "": not known
        ("quality", pa.float64()),  # these are described in store.measures; null: not known
        ("blockiness", pa.float64()),
        ("sharpness", pa.float64()),
        ("light", pa.float64()),
        ("product_light", pa.float64()),
        ("clipped", pa.float64()),
        ("range", pa.float64()),
        ("problems", pa.string()),  # some of PROBLEMS with blanks between; "": none
        ("reasons", pa.string()),  # a phrase for each of them, with "; " between
        ("usable", pa.bool_()),
    ]
)
"""Health of the images: a row for each product and image, sorted by both."""


NEAR = pa.schema(
    [
        ("pixels_a", pa.string()),  # sha256_pixels; pixels_a < pixels_b
        ("pixels_b", pa.string()),
        ("distance", pa.float64()),  # L2 of the embeddings
        ("score", pa.float64()),  # as in PAIRS
        ("evidence", pa.string()),
        ("relation", pa.string()),  # besides copies: "same product", "colour variant" or ""
        ("alike", pa.float64()),  # probability of a colour variant; null: not computed
        ("copy_of", pa.float64()),  # which is the copy: -1 (a) to 1 (b); 0: unknown
    ]
)
"""Pairs of images within the threshold, saved for a later search with ``since``."""

COMPARED = pa.schema([("sha256_pixels", pa.string())])
"""The images that a search compared, sorted."""

PAIR_CHANGES = pa.schema(
    [
        ("product_id_a", pa.string()),  # product_id_a < product_id_b
        ("product_id_b", pa.string()),
        ("state", pa.string()),  # new | gone | changed | reopened
        ("cause", pa.string()),  # a word, see actions.diff
        ("detail", pa.string()),  # a sentence
        ("first_seen", pa.string()),  # time of the first run that reported the pair, ISO 8601
        ("in_old", pa.bool_()),  # whether each run reports the pair
        ("in_new", pa.bool_()),
        ("old_tier", pa.string()),  # "" where a run does not report the pair
        ("new_tier", pa.string()),
        ("old_relation", pa.string()),
        ("new_relation", pa.string()),
        ("old_kept", pa.string()),  # of the pair's group; "" where it has none
        ("new_kept", pa.string()),
        ("old_score", pa.float64()),
        ("new_score", pa.float64()),
    ]
)
"""Pairs of products that two runs report differently; each once, by state and ids."""

GROUP_CHANGES = pa.schema(
    [
        ("old_group", pa.string()),  # "" where the group is new
        ("new_group", pa.string()),  # "" where the group is gone
        ("changes", pa.string()),  # some of actions.diff.GROUP_KINDS with blanks between
        ("old_size", pa.int64()),
        ("new_size", pa.int64()),
        ("in_both", pa.int64()),  # products that are in both groups
        ("old_kept", pa.string()),
        ("new_kept", pa.string()),
    ]
)
"""Groups in which two runs differ, sorted by both ids."""

SEEN = pa.schema(
    [
        ("product_id_a", pa.string()),
        ("product_id_b", pa.string()),
        ("first_seen", pa.string()),
    ]
)
"""When each reported pair was first reported, sorted by both ids."""

PLAN = pa.schema(
    [
        ("group_id", pa.string()),  # the smallest product id of the group
        ("product_id", pa.string()),
        ("action", pa.string()),  # keep | redirect | review
        ("target", pa.string()),  # the kept product that a redirect leads to; "" for others
        ("reason", pa.string()),
        ("decided_by", pa.string()),  # a person, "a rule" or "an applied plan"
        ("change", pa.string()),  # new | changed | same, compared with what was applied before
        ("former_target", pa.string()),  # where it leads already; "" for nowhere
        ("pages", pa.string()),  # paths of a redirected product, with blanks between
    ]
)
"""Plan of a merge: each product once, sorted by group and id."""
