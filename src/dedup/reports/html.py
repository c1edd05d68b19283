"""One page for people: the groups with their images side by side.

Ids, titles and addresses come from strangers. Jinja2 escapes each of them, only http(s) addresses
become links, images are encoded anew, and the page's own policy forbids every script, style and
request besides those written in ``page.css`` and ``page.js``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dedup.detection.results import DetectionResult
from dedup.errors import ConfigError
from dedup.reports import phrases, pr_curve, related, text
from dedup.reports.proofs import prefix_of, surest_pairs
from dedup.reports.thumbnails import Thumbnail, collect
from dedup.runtime.files import write_text
from dedup.runtime.nouns import counted
from dedup.runtime.printable import visible, visible_page
from dedup.schemas import RELATIONS, TIERS, Tier
from dedup.search.index import Index

MAX_PRODUCTS = 60
"""Products shown of one group: a placeholder image can join a hundred thousand of them."""

MAX_SHARED, MAX_SHOWERS = 60, 20
"""Images shown that prove nothing, and products named of each."""

TILE, GAP, HALF = 152, 24, 510
"""Least width of a product, the space between two, and room in half a row; as in ``page.css``."""

# an authority with an @ carries a name and password, which a page must not pass on
LINK = re.compile(r"https?://[^\x00-\x20/?#\\@]+([/?#][^\x00-\x1f\x7f]*)?", re.IGNORECASE)


class Proof(NamedTuple):
    """Why a product is in its group: its pair with another product of the group."""

    other: str
    direct: bool  # the other product is the kept one
    rank: int  # of the tier, 0 is surest
    distance: float
    image: str
    other_image: str
    score: float  # NaN where the distance alone speaks
    evidence: str
    relation: str

    @property
    def place(self) -> tuple[int, float, float]:
        """Smaller for what is surer."""
        doubt = math.inf if math.isnan(self.score) else -self.score
        return self.rank, doubt, self.distance


@dataclass(frozen=True)
class Product:
    """A product as shown; ``against`` is the other image of the pair where no tile shows it."""

    product_id: str
    title: str
    kept: bool
    image: Thumbnail | None
    link: str | None
    proof: Proof | None
    against: Thumbnail | None
    whose: str = ""  # "yours" or "theirs", where two catalogues were compared

    @property
    def badge(self) -> str:
        """What is to become of the product, or whose it is."""
        return self.whose or ("keep" if self.kept else "")

    @property
    def spelled(self) -> str | None:
        """The id as JSON in ASCII, where the page does not show it as it is."""
        plain = visible_page(self.product_id) == self.product_id
        return None if plain else json.dumps(self.product_id)

    @property
    def tier(self) -> Tier | None:
        """The tier of the pair that holds the product in its group."""
        return TIERS[self.proof.rank] if self.proof else None

    @property
    def is_variant(self) -> bool:
        """Whether it is in its group for its shape, in another colour."""
        return self.proof is not None and self.proof.relation == RELATIONS[-1]

    @property
    def said(self) -> str:
        """How sure that pair is, and what proves it where that is more than the tier's name."""
        if not self.proof or not self.tier:
            return ""
        evidence = self.proof.evidence
        more = "" if evidence == phrases.TIERS[self.tier][0] else evidence
        return ": ".join(part for part in (phrases.sure(self.proof.score), more) if part)


@dataclass(frozen=True)
class Group:
    """A group as shown; the largest ``distance``, least ``score`` and all tiers of its proofs."""

    group_id: str
    size: int
    distance: float
    score: float | None
    tiers: list[str]
    products: list[Product]

    @property
    def wide(self) -> bool:
        """Whether the images need a whole row of the page to stand side by side."""
        widths = (product.image.width if product.image else 0 for product in self.products)
        return sum(max(width, TILE) + GAP for width in widths) > HALF + GAP


@dataclass(frozen=True)
class Silent:
    """An image that proves nothing as shown, and the first of the products that show it."""

    n_products: int
    reason: str
    image: Thumbnail | None
    product_ids: list[str]


class HtmlReport:
    """Writes ``report.html``: one page that holds all it needs and asks the network for nothing.

    Args:
        max_groups: how many groups the page shows, the largest first.
    """

    def __init__(self, max_groups: int = 1000) -> None:
        self.max_groups = max_groups

    def write(self, findings: DetectionResult, index: Index, folder: Path) -> Path:
        """Write the page; the same tables and images give the same bytes.

        Args:
            findings: what was found.
            index: gives titles, thumbnails and the images' statuses, where it has them.
            folder: an existing folder.

        Returns:
            The path of ``report.html``.

        Raises:
            ConfigError: ``max_groups`` is negative.
        """
        if self.max_groups < 0:
            raise ConfigError(f"max_groups is {self.max_groups}: set it to 0 or more")
        groups = findings.groups
        families, photos = related.families(findings), related.photos(findings)
        shown = [families[: related.MAX_CARDS], photos[: related.MAX_CARDS]]
        cards, silent, album = self._cards(findings, index, related.tiles_of(*shown))
        titles = index.titles([tile.product_id for tile in related.tiles_of(*shown)])
        n_groups = groups["group_id"].nunique()
        page = (
            environment()
            .get_template("page.html")
            .render(
                groups=cards,
                tiers=Counter(tier for card in cards for tier in card.tiers),
                scored=any(card.score is not None and card.score < 1 for card in cards),
                silent=silent,
                families=related.filled(shown[0], titles, album),
                n_families=len(families),
                photos=related.filled(shown[1], titles, album),
                n_photos=len(photos),
                n_silent=findings.shared["sha256_pixels"].nunique(),
                images=list({thumbnail.name: thumbnail for thumbnail in album.values()}.values()),
                n_groups=n_groups,
                headline=text.headline(findings, index),
                warnings=text.warnings(findings, index),
                facts=phrases.facts(
                    findings, index, n_groups - len(cards), _n_whole(index.manifest)
                ),
                advice=[] if n_groups else phrases.advice(findings, index),
                searched=phrases.searched(findings.search),
                certainty=_certainty(findings),
            )
        )
        path = folder / "report.html"
        write_text(visible_page(page), path)
        return path

    def _cards(
        self, findings: DetectionResult, index: Index, tiles: Sequence[related.Tile]
    ) -> tuple[list[Group], list[Silent], dict[str, Thumbnail]]:
        """The groups, the images that prove nothing, and all images by address."""
        shown = _largest(findings.groups, self.max_groups)
        proofs = _proofs(shown, findings.pairs)
        members = _members(shown, proofs)
        faces = _faces(shown, proofs, index.images)
        visible = [key for ids in members.values() for key in ids[:MAX_PRODUCTS]]
        silent = _silent(findings.shared)
        wanted = [*_addresses(visible, faces, proofs), *(address for address, _ in silent)]
        wanted += [tile.address for tile in tiles if tile.address]
        album = collect(list(dict.fromkeys(wanted)), index.thumbnails)
        kept = set(shown.loc[shown["kept"], "product_id"])
        prefix = prefix_of(index.manifest)
        maker = _Maker(index.titles(visible), kept, faces, proofs, album, prefix)
        cards = [maker.group(group_id, ids) for group_id, ids in members.items()]
        return cards, [replace(it, image=album.get(url)) for url, it in silent], album


def _largest(groups: pd.DataFrame, n: int) -> pd.DataFrame:
    """The rows of the n largest groups, in the table's order."""
    sizes = groups.groupby("group_id").size().sort_index()
    chosen = sizes.sort_values(ascending=False, kind="stable").index[:n]
    return groups[groups["group_id"].isin(chosen)]


def _proofs(groups: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Proof]:
    """For each product its pair with the kept one, or else its surest pair, by product id."""
    surest = surest_pairs(groups, pairs)
    rows = surest[list(Proof._fields)].itertuples(index=False, name=None)
    return {key: Proof(*row) for key, row in zip(surest["product_id"], rows, strict=True)}


def _members(groups: pd.DataFrame, proofs: dict[str, Proof]) -> dict[str, list[str]]:
    """Product ids by group: the largest group first, in it the kept product, then the surest."""
    kept = set(groups.loc[groups["kept"], "product_id"])

    def place(key: str) -> tuple[bool, bool, tuple[int, float, float], str]:
        proof = proofs.get(key)
        if proof is None:
            return key not in kept, True, (len(TIERS), 0.0, 0.0), key
        return key not in kept, not proof.direct, proof.place, key

    members: dict[str, list[str]] = {}
    for key, group_id in zip(groups["product_id"], groups["group_id"], strict=True):
        members.setdefault(group_id, []).append(key)
    largest = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    return {group_id: sorted(keys, key=place) for group_id, keys in largest}


def _faces(groups: pd.DataFrame, proofs: dict[str, Proof], images: pd.DataFrame) -> dict[str, str]:
    """The address that stands for each product: the one that proves it, or its first ok one."""
    fine = images[(images["status"] == "ok") & images["product_id"].isin(groups["product_id"])]
    first = fine.drop_duplicates("product_id")
    faces = dict(zip(first["product_id"], first["url"], strict=True))
    return faces | {key: proof.image for key, proof in proofs.items() if proof.image}


def _addresses(
    visible: Iterable[str], faces: dict[str, str], proofs: dict[str, Proof]
) -> list[str]:
    """Every address whose image the page may show, each once."""
    wanted: dict[str, None] = {}
    for key in visible:
        proof = proofs.get(key)
        other = proof.other_image if proof else ""
        wanted.update(dict.fromkeys(url for url in (faces.get(key), other) if url))
    return list(wanted)


def _silent(shared: pd.DataFrame) -> list[tuple[str, Silent]]:
    """What most products show, each image with an address of it."""
    first = shared["sha256_pixels"].drop_duplicates()[:MAX_SHARED]
    rows = shared[shared["sha256_pixels"].isin(first)]
    found = []
    for _, one in rows.groupby("sha256_pixels", sort=False):
        top, ids = one.iloc[0], one["product_id"][:MAX_SHOWERS].tolist()
        found.append((top["image"], Silent(int(top["n_products"]), top["reason"], None, ids)))
    return found


@dataclass(frozen=True)
class _Maker:
    """Puts together what the template shows; every mapping is keyed by product id or address."""

    titles: dict[str, str]
    kept: set[str]
    faces: dict[str, str]
    proofs: dict[str, Proof]
    album: dict[str, Thumbnail]
    prefix: str | None = None  # of the other catalogue's ids

    def group(self, group_id: str, ids: Sequence[str]) -> Group:
        """A group of the products ``ids``, of which the first ``MAX_PRODUCTS`` are shown."""
        proofs = [self.proofs[key] for key in ids if key in self.proofs and key not in self.kept]
        return Group(
            group_id=group_id,
            size=len(ids),
            distance=max((proof.distance for proof in proofs), default=0.0),
            score=min((it.score for it in proofs if not math.isnan(it.score)), default=None),
            tiers=[TIERS[rank] for rank in sorted({proof.rank for proof in proofs})],
            products=[self.product(key) for key in ids[:MAX_PRODUCTS]],
        )

    def product(self, key: str) -> Product:
        """One product; the kept one needs no proof."""
        proof = None if key in self.kept else self.proofs.get(key)
        face = self.faces.get(key, "")
        against = self.album.get(proof.other_image) if proof else None
        if proof and against == self.album.get(self.faces.get(proof.other, "")):
            against = None
        return Product(
            product_id=key,
            title=(self.titles.get(key) or "").strip(),
            kept=key in self.kept,
            image=self.album.get(face),
            link=face if LINK.fullmatch(face) and visible(face) == face else None,
            proof=proof,
            against=against,
            whose=self._whose(key),
        )

    def _whose(self, key: str) -> str:
        if self.prefix is None:
            return ""
        return "theirs" if key.startswith(self.prefix) else "yours"


def _n_whole(manifest: Mapping[str, Any]) -> int:
    """Images in which the index's foreground found no product."""
    return int((manifest.get("foreground") or {}).get("failed", 0))


def _certainty(findings: DetectionResult) -> dict[str, Any] | None:
    """What the section "How sure" shows; none where the threshold was given."""
    calibration = findings.calibration
    sentences = phrases.how_sure(calibration, findings.measured)
    if calibration is None:
        empty = {"expected": None, "sentences": sentences, "plot": "", "edits": []}
        return empty if sentences else None
    curve = [asdict(point) for point in calibration.recall.curve] if calibration.recall else []
    axis = phrases.chosen_on(calibration)
    return {
        "expected": (calibration.expected_precision or [None])[0],
        "sentences": sentences,
        "plot": pr_curve.draw(curve, calibration.threshold, axis) if curve else "",
        "edits": phrases.by_edit(calibration.recall),
    }


def environment() -> Environment:
    """What renders the templates of this folder; all that they are given is escaped."""
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {it.__name__: it for it in (counted, phrases.number, phrases.percent)},
        sha256=_sha256,
    )
    environment.globals.update(TIERS=phrases.TIERS, SILENT=phrases.SILENT)
    return environment


def _sha256(block: str) -> str:
    """The name of an inline block in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
