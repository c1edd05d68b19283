"""Write the HTML page of a result: the groups with their images side by side.

Ids, titles and addresses come from strangers. Jinja2 escapes each of them, only http(s) addresses
become links, and images are encoded anew. The page's content security policy forbids requests,
and every script and style except ``page.js`` and ``page.css``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dedup.detection.results import DetectionResult
from dedup.errors import ConfigError
from dedup.reports import decided, health, phrases, pr_curve, related, text
from dedup.reports.filters import Filter, Filters
from dedup.reports.proofs import prefix_of, surest_pairs
from dedup.reports.thumbnails import Thumbnail, collect
from dedup.runtime.files import write_text
from dedup.runtime.invocation import command
from dedup.runtime.nouns import counted
from dedup.runtime.printable import visible, visible_page
from dedup.schemas import RELATIONS, TIERS, Tier
from dedup.search.index import Index

MAX_PRODUCTS = 60
"""Products shown of a group, since a placeholder image can join a hundred thousand of them."""

MAX_SHARED, MAX_SHOWERS = 60, 20
"""Placeholder or blank images shown, and products named of each."""

MAX_UNFIT = 24
"""Products without a usable image that the page shows."""

PAGE = 100
"""Groups shown at once; as in ``page.js``."""

TILE, GAP, HALF = 152, 24, 510
"""Minimum width of a product, gap between two, and room in half a row; as in ``page.css``."""

# An authority with an @ holds a name and a password, which a page must not pass on.
LINK = re.compile(r"https?://[^\x00-\x20/?#\\@]+([/?#][^\x00-\x1f\x7f]*)?", re.IGNORECASE)


class Proof(NamedTuple):
    """Evidence of a product in its group: its pair with another product of the group."""

    other: str
    direct: bool  # whether the other product is kept
    rank: int  # rank of the tier, 0 is surest
    distance: float
    image: str
    other_image: str
    score: float  # NaN without a verifier
    evidence: str
    relation: str

    @property
    def place(self) -> tuple[int, float, float]:
        """Sort key, smaller for surer pairs."""
        doubt = math.inf if math.isnan(self.score) else -self.score
        return self.rank, doubt, self.distance


@dataclass(frozen=True)
class Product:
    """A product on the page; ``against`` is the pair's other image, if no tile shows that."""

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
        """Label of the product: "keep", or whose product it is."""
        return self.whose or ("keep" if self.kept else "")

    @property
    def spelled(self) -> str | None:
        """The id as JSON in ASCII, if the page shows it otherwise."""
        plain = visible_page(self.product_id) == self.product_id
        return None if plain else json.dumps(self.product_id)

    @property
    def tier(self) -> Tier | None:
        """Tier of the pair that is the evidence of the product."""
        return TIERS[self.proof.rank] if self.proof else None

    @property
    def is_variant(self) -> bool:
        """Whether the product is in its group as a colour variant."""
        return self.proof is not None and self.proof.relation == RELATIONS[-1]

    @property
    def evidence(self) -> str:
        """Score of that pair, and its evidence if that is more than the tier's name."""
        if not self.proof or not self.tier:
            return ""
        evidence = self.proof.evidence
        more = "" if evidence == phrases.TIERS[self.tier][0] else evidence
        return ": ".join(part for part in (phrases.sure(self.proof.score), more) if part)


@dataclass(frozen=True)
class Group:
    """A group on the page, with the maximum ``distance`` and minimum ``score`` of its proofs."""

    group_id: str
    size: int
    distance: float
    score: float | None
    tiers: list[str]
    products: list[Product]
    filters: Sequence[str] = ()  # what the group has of each filter, see ``filters``

    @property
    def text(self) -> str:
        """Titles and ids, for the search."""
        return "\n".join(part for it in self.products for part in (it.title, it.product_id) if part)

    @property
    def spelled(self) -> str | None:
        """Ids that the page shows otherwise, as JSON in ASCII."""
        odd = [it.product_id for it in self.products if it.spelled]
        return json.dumps(odd) if odd else None

    @property
    def images(self) -> Iterator[Thumbnail]:
        """Images that the group shows."""
        return (image for it in self.products for image in (it.image, it.against) if image)

    @property
    def wide(self) -> bool:
        """Whether the images need a whole row of the page, side by side."""
        widths = (product.image.width if product.image else 0 for product in self.products)
        return sum(max(width, TILE) + GAP for width in widths) > HALF + GAP


@dataclass(frozen=True)
class LeftOut:
    """A placeholder or blank image on the page, with the first of the products that show it."""

    n_products: int
    reason: str
    image: Thumbnail | None
    product_ids: list[str]


class HtmlReport:
    """Write ``report.html``, a self-contained page that makes no network requests.

    Args:
        max_groups: number of groups that the page has, the largest first.
        filters: columns of the user's table to choose groups by, where it has them.
    """

    def __init__(
        self, max_groups: int = 1000, filters: Sequence[str] = ("brand", "category")
    ) -> None:
        self.max_groups = max_groups
        self.filters = filters

    def write(self, findings: DetectionResult, index: Index, folder: Path) -> Path:
        """Write the page; the same tables and images give the same bytes.

        Args:
            findings: the result.
            index: index with titles, thumbnails and the statuses of images.
            folder: an existing folder.

        Returns:
            The path of ``report.html``.

        Raises:
            ConfigError: ``max_groups`` is negative.
        """
        if self.max_groups < 0:
            raise ConfigError(f"max_groups is {self.max_groups}: set it to 0 or more")
        groups = findings.groups
        families, photos = related.family_cards(findings), related.photo_cards(findings)
        sharing, details = related.shared_cards(findings), related.detail_cards(findings)
        unfit = health.cards(findings)
        shown = [kin[: related.MAX_CARDS] for kin in (families, photos, sharing, details)]
        shown.append(unfit[:MAX_UNFIT])
        cards, filters, silent, album = self._cards(findings, index, related.tiles_of(*shown))
        titles = index.titles([tile.product_id for tile in related.tiles_of(*shown)])
        n_groups = groups["group_id"].nunique()
        images = list({thumbnail.name: thumbnail for thumbnail in album.values()}.values())
        others = [tile.address for tile in related.tiles_of(*shown)]
        elsewhere = {album[url].name for url in others if url in album}
        elsewhere |= {card.image.name for card in silent if card.image}
        late = _late(cards, elsewhere)
        page = (
            environment()
            .get_template("page.html")
            .render(
                groups=cards,
                tiers=Counter(tier for card in cards for tier in card.tiers),
                scored=any(card.score is not None and card.score < 1 for card in cards),
                silent=silent,
                families=related.fill(shown[0], titles, album),
                n_families=len(families),
                photos=related.fill(shown[1], titles, album),
                n_photos=len(photos),
                sharing=related.fill(shown[2], titles, album),
                n_sharing=len(sharing),
                details=related.fill(shown[3], titles, album),
                n_details=len(details),
                health=health.section(findings),
                unfit=related.fill(shown[4], titles, album),
                n_unfit_cards=len(unfit),
                n_silent=findings.shared["sha256_pixels"].nunique(),
                images=[it for it in images if it.name not in late],
                late=[it for it in images if it.name in late],
                page_size=PAGE,
                filters=filters,
                review=command("review") if prefix_of(index.manifest) is None else None,
                n_groups=n_groups,
                headline=text.headline(findings, index),
                warnings=text.warnings(findings, index),
                facts=phrases.facts(
                    findings, index, n_groups - len(cards), _n_whole(index.manifest)
                ),
                advice=[] if n_groups else phrases.advice(findings, index),
                searched=phrases.describe_search(findings.search),
                certainty=_certainty(findings),
            )
        )
        path = folder / "report.html"
        write_text(visible_page(page), path)
        return path

    def _cards(
        self, findings: DetectionResult, index: Index, tiles: Sequence[related.Tile]
    ) -> tuple[list[Group], list[Filter], list[LeftOut], dict[str, Thumbnail]]:
        """Make the cards of groups and of placeholders, and encode all images by address."""
        shown = _largest(decided.open_groups(findings), self.max_groups)
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
        filters = Filters(self.filters, index)
        evidence = {
            group: [proofs[key].evidence for key in ids if key in proofs and key not in kept]
            for group, ids in members.items()
        }
        chosen, tokens = filters.of(members, evidence)
        cards = [replace(card, filters=tokens[card.group_id]) for card in cards]
        return cards, chosen, [replace(card, image=album.get(url)) for url, card in silent], album


def _late(cards: Sequence[Group], elsewhere: set[str]) -> set[str]:
    """Name the images that no place shows at first but later pages of groups."""
    early = {image.name for card in cards[:PAGE] for image in card.images}
    return {image.name for card in cards[PAGE:] for image in card.images} - early - elsewhere


def _largest(groups: pd.DataFrame, n: int) -> pd.DataFrame:
    """Select the rows of the n largest groups, in the table's order."""
    sizes = groups.groupby("group_id").size().sort_index()
    chosen = sizes.sort_values(ascending=False, kind="stable").index[:n]
    return groups[groups["group_id"].isin(chosen)]


def _proofs(groups: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Proof]:
    """Make the proof of each product, by product id, see ``surest_pairs``."""
    surest = surest_pairs(groups, pairs)
    rows = surest[list(Proof._fields)].itertuples(index=False, name=None)
    return {key: Proof(*row) for key, row in zip(surest["product_id"], rows, strict=True)}


def _members(groups: pd.DataFrame, proofs: dict[str, Proof]) -> dict[str, list[str]]:
    """Sort product ids by group: the largest group first, in it the kept product first."""
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
    """Choose the image of each product: that of its proof, or its first one that is ok."""
    fine = images[(images["status"] == "ok") & images["product_id"].isin(groups["product_id"])]
    first = fine.drop_duplicates("product_id")
    faces = dict(zip(first["product_id"], first["url"], strict=True))
    return faces | {key: proof.image for key, proof in proofs.items() if proof.image}


def _addresses(
    visible: Iterable[str], faces: dict[str, str], proofs: dict[str, Proof]
) -> list[str]:
    """Collect the addresses of all images that the page may show, each once."""
    wanted: dict[str, None] = {}
    for key in visible:
        proof = proofs.get(key)
        other = proof.other_image if proof else ""
        wanted.update(dict.fromkeys(url for url in (faces.get(key), other) if url))
    return list(wanted)


def _silent(shared: pd.DataFrame) -> list[tuple[str, LeftOut]]:
    """Make cards of the placeholders that most products show, each with an address."""
    first = shared["sha256_pixels"].drop_duplicates()[:MAX_SHARED]
    rows = shared[shared["sha256_pixels"].isin(first)]
    cards = []
    for _, image in rows.groupby("sha256_pixels", sort=False):
        top, ids = image.iloc[0], image["product_id"][:MAX_SHOWERS].tolist()
        cards.append((top["image"], LeftOut(int(top["n_products"]), top["reason"], None, ids)))
    return cards


@dataclass(frozen=True)
class _Maker:
    """Maker of groups and products for the template; mappings are by product id or address."""

    titles: dict[str, str]
    kept: set[str]
    faces: dict[str, str]
    proofs: dict[str, Proof]
    album: dict[str, Thumbnail]
    prefix: str | None = None  # of the other catalogue's ids

    def group(self, group_id: str, ids: Sequence[str]) -> Group:
        """Make a group of products, of which the page shows the first ``MAX_PRODUCTS``."""
        proofs = [self.proofs[key] for key in ids if key in self.proofs and key not in self.kept]
        return Group(
            group_id=group_id,
            size=len(ids),
            distance=max((proof.distance for proof in proofs), default=0.0),
            score=min(
                (proof.score for proof in proofs if not math.isnan(proof.score)), default=None
            ),
            tiers=[TIERS[rank] for rank in sorted({proof.rank for proof in proofs})],
            products=[self.product(key) for key in ids[:MAX_PRODUCTS]],
        )

    def product(self, key: str) -> Product:
        """Make a product; a kept product has no proof."""
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
    """Return the number of images in which the index's foreground found no product."""
    return int((manifest.get("foreground") or {}).get("failed", 0))


def _certainty(findings: DetectionResult) -> dict[str, Any] | None:
    """Make the section "How sure"; ``None`` where the user gave the threshold."""
    calibration = findings.calibration
    sentences = phrases.describe_calibration(calibration, findings.measured)
    if calibration is None:
        empty = {"expected": None, "sentences": sentences, "plot": "", "edits": []}
        return empty if sentences else None
    curve = [asdict(point) for point in calibration.recall.curve] if calibration.recall else []
    axis = phrases.axis_label(calibration)
    return {
        "expected": (calibration.expected_precision or [None])[0],
        "sentences": sentences,
        "plot": pr_curve.draw(curve, calibration.threshold, axis) if curve else "",
        "edits": phrases.by_edit(calibration.recall),
    }


def environment() -> Environment:
    """Make the Jinja2 environment of this folder's templates, which escapes all values."""
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {each.__name__: each for each in (counted, phrases.number, phrases.percent)},
        sha256=_sha256,
    )
    environment.globals.update(TIERS=phrases.TIERS, LEFT_OUT=phrases.LEFT_OUT, BELOW=phrases.BELOW)
    return environment


def _sha256(block: str) -> str:
    """Return the name of an inline block in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
