"""Judge by its measures whether an image is fit for a shop, and say why not.

A verdict removes no image from the search for duplicates.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.errors import ArtifactError, ConfigError
from dedup.schemas import HEALTH, PROBLEMS
from dedup.search.index import Index
from dedup.store.measures import FORMATS, MEASURES
from dedup.store.placeholders import BLANK

log = logging.getLogger("dedup")

Bools = npt.NDArray[np.bool_]
Facts = pd.DataFrame
"""A row for each image: ``width``, ``height``, ``MEASURES``; NaN is not known, and no problem."""


class Profile(NamedTuple):
    """What a market place asks of an image's file."""

    min_side: float  # pixels of the shorter side
    max_megapixels: float
    max_megabytes: float  # of 1,000,000 bytes


PROFILES: Mapping[str, Profile] = {
    "google_2027": Profile(500, 64, 16),
    "google_best": Profile(1500, 64, 16),
    "any": Profile(1, math.inf, math.inf),
}
"""``google_2027`` is Google Merchant's rule for all products from 2027-01-31: 500 x 500 pixels at
least, 64 megapixels and 16 MB at most; ``google_best`` is its recommendation of 1500 x 1500."""

UNUSABLE = ("unreadable", "placeholder", "too_small", "too_large", "blurred", "dark", "bright")
"""Problems that make an image unfit by default; the others are flaws."""


class Problem(NamedTuple):
    """A problem of images: its name, the images that have it, and its reason in words."""

    name: str
    is_there: Bools
    reason: Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class HealthRules:
    """Limits of a healthy image.

    The limits of sharpness, light and compression were chosen on 150 photos and their packshots,
    and measured on photos of other senders, see ``benchmarks/health.py``.

    Args:
        profile: one of ``PROFILES``, for the three limits below that are ``None``.
        min_side: pixels of the shorter side.
        max_megapixels: millions of pixels.
        max_megabytes: size of the file, in millions of bytes.
        max_aspect: longer side over shorter side.
        min_sharpness: Laplacian over gradient on the strongest edges, see ``store.measures``.
        min_light: luma of the brightest hundredth of the image, 0 to 255.
        min_product_light: luma of the brightest twentieth of the product, 0 to 255. Black goods
            are dark too: below this limit nothing of them can be seen.
        max_clipped: share of the product's area that is white, 0 to 1.
        min_range: levels of luma between the darkest and the brightest hundredth of that area.
        max_blockiness: steps at the borders of a JPEG's blocks.
        min_quality: quality that a JPEG was saved with, 1 to 100.
        unusable: problems that make an image unusable.

    Raises:
        ConfigError: the profile or a problem does not exist.
    """

    profile: str = "google_2027"
    min_side: float | None = None
    max_megapixels: float | None = None
    max_megabytes: float | None = None
    max_aspect: float = 3.0
    min_sharpness: float = 0.54
    min_light: float = 125.0
    min_product_light: float = 15.0
    max_clipped: float = 0.25
    min_range: float = 60.0
    max_blockiness: float = 4.5
    min_quality: float = 25.0
    unusable: Sequence[str] = UNUSABLE

    def __post_init__(self) -> None:
        """Check the names."""
        if self.profile not in PROFILES:
            raise ConfigError(
                f"health.profile={self.profile}: expected one of {', '.join(PROFILES)}"
            )
        unknown = [name for name in self._unusable if name not in PROBLEMS]
        if unknown:
            raise ConfigError(
                f"health.unusable: there is no problem {unknown[0]}, expected some of "
                + ", ".join(PROBLEMS)
            )

    def __call__(self, index: Index, shared: pd.DataFrame) -> pd.DataFrame:
        """Judge the images of an index.

        Args:
            index: the index; without its store only sizes are judged.
            shared: its placeholder images, schema ``SHARED``.

        Returns:
            Schema ``HEALTH``, the same in any order of the images.
        """
        images = index.images[index.images["status"].isin(("ok", "failed"))]
        images = images[images["product_id"] != ""]
        by = ["product_id", "url"]
        images = images.sort_values([*by, "record"]).drop_duplicates(by).reset_index(drop=True)
        facts = pd.concat([images[["width", "height"]], self._measured(index, images)], axis=1)
        reasons = dict(zip(shared["sha256_pixels"], shared["reason"], strict=True))
        facts["shared"] = [reasons.get(digest, "") for digest in images["sha256_pixels"]]
        facts["contrast"] = images["contrast"].to_numpy()
        facts["failure"] = images["reason"].where(images["status"] == "failed", "").to_numpy()
        facts["failed"] = (images["status"] == "failed").to_numpy()
        names, texts = self.judge(facts)
        known = facts["format"].fillna(-1).astype(int)
        health: pd.DataFrame = pd.DataFrame(
            {
                **{name: images[name] for name in ("product_id", "sha256_pixels")},
                **{name: facts[name] for name in ("width", "height", *MEASURES[2:])},
                "image": images["url"],
                "bytes": facts["bytes"].fillna(-1).astype(np.int64),
                "format": [FORMATS[place] if place >= 0 else "" for place in known],
                "problems": [" ".join(some) for some in names],
                "reasons": ["; ".join(some) for some in texts],
                "usable": [self.is_usable(some) for some in names],
            }
        )[HEALTH.names]
        return health

    def judge(self, facts: Facts) -> tuple[list[list[str]], list[list[str]]]:
        """List the problems of images, and the reasons in the same order.

        Args:
            facts: see ``Facts``; perhaps with ``failed``, ``failure`` (its reason), ``shared``
                (the reason of ``SHARED``, or "") and ``contrast``.
        """
        names: list[list[str]] = [[] for _ in range(len(facts))]
        texts: list[list[str]] = [[] for _ in range(len(facts))]
        for problem in self._problems(facts):
            rows = np.flatnonzero(problem.is_there)
            records = facts.iloc[rows].to_dict("records")
            for row, record in zip(rows.tolist(), records, strict=True):
                names[row].append(problem.name)
                texts[row].append(
                    problem.reason({str(key): value for key, value in record.items()})
                )
        return names, texts

    def is_usable(self, problems: Sequence[str]) -> bool:
        """Tell whether an image with these problems can be used."""
        return not set(problems).intersection(self._unusable)

    @property
    def limits(self) -> Profile:
        """Limits of the file: those of the profile, unless set."""
        own = (self.min_side, self.max_megapixels, self.max_megabytes)
        usual = PROFILES[self.profile]
        return Profile(*(b if a is None else a for a, b in zip(own, usual, strict=True)))

    @property
    def _unusable(self) -> Sequence[str]:
        names: Any = () if self.unusable is None else self.unusable
        return [names] if isinstance(names, str) else list(names)

    def _measured(self, index: Index, images: pd.DataFrame) -> pd.DataFrame:
        """Return the measures of images; NaN where the store does not have the image."""
        values = np.full((len(images), len(MEASURES)), np.nan)
        ok = np.flatnonzero(images["status"] == "ok")
        place, urls = pd.factorize(images["url"].iloc[ok])
        try:
            values[ok] = index.sight.measures(list(urls))[place]
        except ArtifactError as error:  # no reason to lose the duplicates
            log.warning("the health of images is judged by their sizes alone: %s", error)
        return pd.DataFrame(values, columns=MEASURES)

    def _problems(self, facts: Facts) -> Iterator[Problem]:
        """Yield the problems in the order of ``PROBLEMS``."""
        given = {name: facts[name].to_numpy() for name in facts}
        failed = given.get("failed", np.zeros(len(facts), bool))
        side = np.minimum(given["width"], given["height"])
        aspect = np.maximum(given["width"], given["height"]) / np.maximum(side, 1)
        pixels = given["width"].astype(float) * given["height"] / 1e6
        limits = self.limits
        named = "" if self.min_side is not None else f" ({self.profile})"
        yield Problem("unreadable", failed, lambda of: f"it could not be read: {of['failure']}")
        if "shared" in given:
            shared, blank = given["shared"] != "", given["contrast"] < BLANK
            yield Problem("placeholder", ~failed & (shared | blank), _of_placeholder)
            failed = failed | blank
        yield Problem(
            "too_small",
            ~failed & (side < limits.min_side),
            lambda of: (
                f"{of['width']} x {of['height']} pixels, at least {limits.min_side:g} x "
                f"{limits.min_side:g}{named}"
            ),
        )
        is_large = (pixels > limits.max_megapixels) | (given["bytes"] > limits.max_megabytes * 1e6)
        yield Problem("too_large", ~failed & is_large, lambda of: _of_size(of, limits))
        yield Problem(
            "blurred",
            ~failed & (given["sharpness"] < self.min_sharpness),
            lambda of: f"blurred: sharpness {of['sharpness']:.2f}, at least {self.min_sharpness:g}",
        )
        is_dark = given["light"] < self.min_light
        is_dark |= given["product_light"] < self.min_product_light
        yield Problem("dark", ~failed & is_dark, self._of_dark)
        yield Problem(
            "bright",
            ~failed & (given["clipped"] > self.max_clipped),
            lambda of: (
                f"too bright: {of['clipped']:.0%} of the product's area is white, at most "
                f"{self.max_clipped:.0%}"
            ),
        )
        yield Problem(
            "aspect",
            ~failed & (aspect > self.max_aspect),
            lambda of: (
                f"{of['width']} x {of['height']} pixels, one side at most "
                f"{self.max_aspect:g} times the other"
            ),
        )
        yield Problem(
            "low_contrast",
            ~failed & (given["range"] < self.min_range),
            lambda of: (
                f"low contrast: the product's light spans {of['range']:.0f} of 255 levels, at "
                f"least {self.min_range:g}"
            ),
        )
        is_strong = given["quality"] < self.min_quality
        is_strong |= given["blockiness"] > self.max_blockiness
        yield Problem("compressed", ~failed & is_strong, self._of_compressed)

    def _of_dark(self, of: Mapping[str, Any]) -> str:
        if of["light"] < self.min_light:
            return (
                f"too dark: its brightest parts reach {of['light']:.0f} of 255, at least "
                f"{self.min_light:g}"
            )
        return (
            f"the product is too dark: it reaches {of['product_light']:.0f} of 255, at least "
            f"{self.min_product_light:g}"
        )

    def _of_compressed(self, of: Mapping[str, Any]) -> str:
        if of["quality"] < self.min_quality:
            return (
                f"strongly compressed: JPEG quality {of['quality']:.0f}, at least "
                f"{self.min_quality:g}"
            )
        return (
            f"blocks of strong compression: {of['blockiness']:.1f}, at most {self.max_blockiness:g}"
        )


def _of_placeholder(of: Mapping[str, Any]) -> str:
    if of["contrast"] < BLANK:
        return "it is blank"
    return (
        "a placeholder: so many products show it"
        if of["shared"] == "shared"
        else "almost of one colour, and shown by several products"
    )


def _of_size(of: Mapping[str, Any], limits: Profile) -> str:
    pixels = of["width"] * of["height"] / 1e6
    if pixels > limits.max_megapixels:
        return f"{pixels:.1f} megapixels, at most {limits.max_megapixels:g}"
    return f"{of['bytes'] / 1e6:.1f} MB, at most {limits.max_megabytes:g}"


def unusable_products(health: pd.DataFrame) -> pd.DataFrame:
    """Select the rows of products without a usable image.

    Args:
        health: schema ``HEALTH``.
    """
    has_none = ~health.groupby("product_id", sort=False)["usable"].transform("any").astype(bool)
    rows: pd.DataFrame = health[has_none].reset_index(drop=True)
    return rows
