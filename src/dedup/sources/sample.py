"""Draw a sample catalogue with known duplicates, for a first run and for measurements.

Beside the table, ``truth.csv`` lists every pair of products that show the same image, and
``hard_negatives.csv`` lists pairs that look alike but are not duplicates.
"""

from __future__ import annotations

import logging
import math
import shutil
import uuid
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps

from dedup.errors import ConfigError, SourceError
from dedup.runtime.shortages import pass_on
from dedup.runtime.tables import write_rows
from dedup.schemas import TIERS
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.sources.garments import Design, draw

_HEADER = (
    "productId,title,description,imageUrlStr,mrp,sellingPrice,specialPrice,productUrl,categories,"
    "productBrand,productFamily,inStock,codAvailable,offers,discount,shippingCharges,deliveryTime,"
    "size,color,sizeUnit,storage,displaySize,keySpecsStr,detailedSpecsStr,specificationList,"
    "sellerName,sellerAverageRating,sellerNoOfRatings,sellerNoOfReviews,sleeve,neck,idealFor"
)
COLUMNS = tuple(_HEADER.split(","))
"""Columns of ``products.csv``: those of Flipkart's affiliate table, in its order."""

COPIES = (*TIERS[:3], "recompressed", "rescaled", "cropped", "mirrored")
"""Kinds of copies, from the surest to the weakest; see ``copy_image``."""

_COLOURS = """white:f1efea cream:eadfc8 sand:cdb28a camel:b07d4b rust:a8482a red:b3212c
    maroon:6b1826 coral:e8735c pink:e59aa9 magenta:a82a68 purple:5d3a7e lilac:b3a0d0 navy:1f2b4d
    blue:2f5fa8 sky:8fb7d9 teal:1d6b70 mint:a5d1bc green:2e6b3f olive:6a6b38 mustard:d19c2b
    yellow:efcf57 brown:5a3a26 grey:8b8d91 charcoal:44464c black:222226"""
_BACKDROPS = "ffffff ffffff f7f4ef dcdfe1 ccd7de f0dcd5 d6cdc0 cfd7c7 aab4bc dcc0a8 fbf7ea"
_BRANDS = "Ostrelle Quillbarn Tarnwick Velmorra Nimbrae Peltarro Drunnik Hazelwynd Lumethia"
_LOOKS = """plain:Solid stripes:Striped gingham:Checkered dots:Polka-Dot floral:Floral-Print
    print:Graphic-Print block:Colour-Block rib:Ribbed gradient:Ombre"""

_INSIDE = "inside whole 0: 0,70~ 40,78 34,112~ 0,128~"
_SHORT = """main pair 3 -28: 62,82 98,93~ 120,116~ 172,200 170,207 126,235 121,231 84,160
    / seam pair: 118,225 166,196"""
_LONG = """main pair 3 -12: 62,82 98,92~ 117,120~ 136,215~ 156,330~ 166,418 164,424 133,430 130,424
    106,320~ 84,170"""
_BODY = "main whole 6: 0,126~ 27,111~ 44,76 98,92~ 95,134~ 90,186~ 87,300~ 92,427 88,435 0,443~"
_RIB = "trim whole 8: 0,126~ 27,111~ 39,75 50,78 35,120~ 0,139~"
_CUFFS = """trim pair 5 -10: 131,408 165,402~ 168,436~ 166,441 134,446 131,440~
    / trim whole 8: 0,418~ 92,412 94,434~ 90,446 0,452~"""
_KINDS = {
    "t-shirt": f"""TSH; T-Shirt; Men Women; Apparels>%s>Western Wear>Polos & T-Shirts; 499; 240
    plain heather stripes pinstripes dots floral zigzag leopard camouflage block print print print
    body / {_INSIDE} / {_SHORT} / {_BODY} / {_RIB} / seam whole: 0,434~ 91,426""",
    "sweater": f"""SWT; Sweater; Men Women; Apparels>%s>Winter & Seasonal Wear>Sweaters; 1299
    rib rib knit knit heather stripes zigzag argyle argyle block
    body / {_INSIDE} / {_LONG} / {_BODY} / {_RIB} / {_CUFFS}""",
    "hoodie": f"""SWS; Hoodie; Men Women; Apparels>%s>Winter & Seasonal Wear>Sweatshirts; 1399; 252
    plain plain heather heather print print print block camouflage
    body / {_LONG} / {_BODY} / {_CUFFS} / main whole 7: 0,36~ 34,40~ 58,66~ 60,98~ 38,128~ 0,142~
    / inside whole 0: 0,64~ 26,70~ 38,92~ 22,116~ 0,126~ / main whole 8: 0,300 40,300 66,372~
    66,404 0,406 / seam whole: 40,304 64,374~ 64,404 / pale pair 6 0 4: 14,122~ 18,170~ 16,212~""",
    "shirt": f"""SHT; Shirt; Men Women; Apparels>%s>Western Wear>Shirts; 999
    plain pinstripes pinstripes gingham gingham tartan dots floral stripes denim
    body / inside whole 0: 0,66~ 34,66 38,96~ 0,112~ / main whole 4: 0,92~ 26,92 48,78 42,66
    30,58~ 0,56~ / {_LONG} / {_BODY} / main pair 7: 132,402 165,397~ 167,432 134,438 / main one 8:
    -9,112 9,112 9,442 -9,442 / seam pair: 9,114 9,441 / main one 8: 28,172 70,170 70,214 49,226
    28,216 / pale dots 3 0 3: 0,134 0,176 0,218 0,260 0,302 0,344 0,386 0,424 / seam one: 28,180
    70,178 / main pair 9 30: 1,112 24,92~ 32,66 46,74~ 60,108 34,134""",
    "jacket": f"""JCK; Jacket; Men Women; Apparels>%s>Winter & Seasonal Wear>Jackets; 2499
    plain plain denim denim twill camouflage leather leather
    body / {_INSIDE} / {_LONG} / {_BODY} / {_CUFFS} / trim whole 9: 0,112 28,104~ 38,70 52,76~
    42,118~ 0,142 / steel one 6 0 5: 0,118 0,444 / seam pair: 6,130 6,440 / seam pair: 32,300
    62,360 / steel pair 5 0 3: 34,302 60,356 / seam pair: 92,186~ 60,180~ 10,182""",
    "coat": f"""COA; Coat; Women; Apparels>%s>Winter & Seasonal Wear>Coats; 3999
    plain heather herringbone herringbone tartan tartan twill
    drape / {_INSIDE} / main pair 3 -10: 62,82 98,90~ 116,120~ 132,215~ 146,310~ 150,388~ 112,396
    106,310~ 84,170 / main whole 6: 0,150 40,76 98,90~ 95,134~ 90,190~ 88,280~ 106,512 102,519
    0,526~ / seam one: -14,230 -14,524 / main pair 8: 34,318 80,312 82,332 36,338 / seam pair:
    34,338 82,332 / main pair 9 24: 0,214 26,96~ 42,70 58,80 64,132 46,140 52,156 14,214~ / pale
    dots 4 0 6: -28,240 22,240 -28,296 22,296 -28,352 22,352""",
    "dress": """DRE; Dress; Women; Apparels>%s>Western Wear>Dresses & Skirts>Dresses; 1199
    floral floral floral dots dots plain stripes gradient zigzag leopard gingham
    drape / inside whole 0: 0,70~ 36,76 30,104~ 0,116~ / main whole 6: 0,126~ 30,108~ 44,74 72,80
    74,120~ 86,168~ 74,232 70,248 0,252 / main whole 5: 0,244~ 70,242 96,330~ 132,474 127,483
    66,490~ 0,486~ / trim whole 8: 0,240~ 72,234 71,252 0,258~ / trim whole 8: 0,126~ 30,108~
    39,73 47,75 36,114~ 0,134~""",
    "skirt": """SKI; Skirt; Women; Apparels>%s>Western Wear>Dresses & Skirts>Skirts; 899
    plain plain tartan tartan gradient gingham floral floral dots denim leopard leather
    pleats / main whole 5: 0,80~ 66,76 96,170~ 134,350 130,359 66,368~ 0,364~ / trim whole 8:
    0,78~ 66,74 70,96 0,102~ / seam whole: 0,354~ 66,358~ 131,349""",
    "trousers": """TRO; Trousers; Men Women; Apparels>%s>Western Wear>Trousers; 1499
    plain twill twill pinstripes herringbone tartan camouflage denim denim heather
    legs / main whole 4: 0,62~ 70,58 82,120~ 96,190~ 102,300~ 97,486 94,492 35,496 31,490 22,330~
    0,205~ / trim whole 7: 0,62~ 71,57 73,80 0,86~ / seam one: 0,86 0,140~ -6,160~ 0,205 / seam
    one: 16,86 16,130~ 0,156~ / seam pair: 46,84 78,126 / steel dots 3 0 4: 0,73 / trim pair 9:
    36,56 42,56 42,88 36,88""",
    "shorts": """SRT; Shorts; Men Women; Apparels>%s>Western Wear>Shorts; 699
    plain twill camouflage floral stripes denim denim gingham dots
    legs / main whole 4: 0,62~ 84,58 100,120~ 122,274 119,280 19,292 15,287 0,205~ / trim whole 7:
    0,62~ 85,57 88,84 0,90~ / seam one: 0,90 0,140~ -6,160~ 0,205 / seam pair: 50,88 94,128 / seam
    pair: 19,282 120,270 / pale pair 7 0 4: 4,76~ 10,110~ 8,142~""",
    "sneaker": """SHO; Sneakers; Men Women; Footwear>%s>Casual Shoes>Sneakers; 2299
    plain plain canvas leather leather suede block camouflage
    stiff / inside one 0: -124,4 -96,-8~ -62,-8~ -44,4 -60,30 -110,30 / trim one 5: -62,10
    -56,-22~ -38,-20~ -20,10 / main one 9: -142,64~ -136,26~ -126,2 -104,12~ -78,16~ -58,6 -34,2
    6,44~ 52,66~ 112,80~ 146,106~ 150,128 -144,128~ -147,96~ / trim one 5: -140,60 -134,24~ -126,2
    -110,10 -104,60~ -112,128 -146,128~ / trim one 4: 60,128 72,90~ 98,76 122,82~ 148,106~ 151,128
    / seam one: -58,8 -66,60~ -40,90~ 40,98~ 72,96 / trim one 3 0 7: -52,62 -66,122 / trim one 3 0
    7: -32,74 -44,122 / pale one 5 0 6: -44,12 -20,-2 / pale one 5 0 6: -30,26 -6,12 / pale one 5
    0 6: -14,40 12,28 / pale one 5 0 6: 4,54 32,44 / pale one 8: -150,122 -60,120~ 60,124~ 152,116
    160,128~ 152,146~ 100,152~ -120,152~ -150,148~ / seam one: -150,136 154,134""",
    "boot": """SHO; Boots; Men Women; Footwear>%s>Boots; 3499
    leather leather leather suede suede plain
    stiff / inside one 0: -76,-118~ -20,-126~ 34,-118~ -20,-108~ / main one 10: -78,-118 -20,-110~
    36,-118 34,-40~ 40,20~ 88,50~ 126,78~ 132,112 -84,114~ -86,60~ -74,-20~ / seam one: -76,-104
    -20,-96~ 35,-104 / seam one: 34,-10~ 0,30~ -10,112 / trim one 4: -22,-112 8,-112 14,-20~ 8,24
    -16,24~ -24,-20~ / dark one 7: -88,108 132,108 136,124 134,128 -22,128 -26,146 -86,146
    -90,126""",
    "tote": """BAG; Tote; Women; Bags, Wallets & Belts>%s>Totes; 899; 330
    canvas canvas print print print stripes floral gingham dots block leather
    stiff / trim whole 4 0 13: 62,190~ 60,110~ 40,54~ 0,34~ / inside whole 1: 0,176~ 124,180
    120,196 0,196~ / seam whole: 0,206~ 126,198 / main whole 7: 0,192~ 126,184 132,300~ 127,448
    60,458~ 0,460~ / seam whole: 0,206~ 126,198 / trim pair 6 0 13: 62,240 62,192 / seam pair:
    56,208 68,208 68,236 56,236 56,208""",
    "handbag": """HMB; Hand Bag; Women; Bags, Wallets & Belts>%s>Handbags; 1999
    leather leather leather suede canvas leopard herringbone
    stiff / main whole 4 0 11: 66,150~ 62,80~ 34,44~ 0,36~ / main whole 9: 0,136~ 96,138 112,160~
    132,290~ 120,312~ 0,318~ / seam whole: 0,308~ 118,302 / trim whole 6: 0,136~ 98,136 112,158~
    118,208~ 60,228~ 0,236~ / seam whole: 0,228~ 58,220~ 112,202 / steel pair 6 0 5: 58,140
    58,160~ 72,164~ 74,142 / steel whole 7: 0,214 14,214 14,246 0,246 / seam whole: 0,230 13,230""",
    "sun hat": """HAT; Sun Hat; Women; Apparels>%s>Accessories>Caps & Hats>Hats; 599
    straw straw straw plain canvas suede
    stiff / main whole 7: 0,150~ 110,160~ 176,186~ 180,204~ 130,228~ 0,240~ / main whole 14: 0,60~
    46,62~ 80,86~ 92,176~ 60,192~ 0,198~ / seam whole: 0,232~ 120,222~ 174,200~ / trim whole 6:
    0,170~ 60,164~ 90,148 93,178~ 60,194~ 0,200~""",
    "cap": """CAP; Cap; Men Women; Apparels>%s>Accessories>Caps & Hats>Caps; 399
    plain plain twill denim camouflage canvas stripes
    stiff / main one 12: -110,146~ -114,90~ -78,32~ 0,10~ 70,36~ 102,92~ 104,140~ 0,152~ / seam
    one: 4,12~ -44,66~ -52,152 / seam one: 4,12~ 58,60~ 66,148 / main dots 6 0 7: 4,12 / trim one
    9: 0,146~ 60,128~ 130,132~ 196,164~ 192,174~ 120,166~ 40,164~ / seam one: 20,150~ 110,140~
    186,166""",
    "beanie": """CAP; Beanie; Men Women; Apparels>%s>Accessories>Caps & Hats>Beanies; 449
    rib rib rib knit knit heather stripes zigzag
    stiff / main whole 12: 0,60~ 50,70~ 92,120~ 104,220~ 100,236 0,246~ / trim whole 10: 0,196~
    106,190 112,216~ 108,252 0,264~ / trim whole 9: 0,20~ 26,28~ 34,52~ 24,74~ 0,80~""",
}
# By kind: prefix of the ids; noun; for whom; category; usual price; height of a print. Then its
# fabrics; one that is named twice is drawn twice as often. Then the shape, see Design.

_LOG = logging.getLogger("dedup")
_Row = dict[str, str]


@dataclass(frozen=True)
class SampleSource:
    """Source that draws a catalogue of garments once, then reads it.

    Args:
        folder: parent of the drawn catalogues, each in a folder of its own.
        n_products: number of products; a fifth of them are copies of others.
        seed: seed of the drawing. The same seed and number give the same files, and a larger
            catalogue starts with the smaller one.
    """

    folder: str = "runs/sample"
    n_products: int = 300
    seed: int = 0

    def read(self) -> Catalogue:
        """Read the catalogue, after drawing it if it does not exist yet.

        Raises:
            ConfigError: ``n_products`` is not a number from 1, or ``seed`` not a number from 0.
            SourceError: the catalogue cannot be written, or the existing one cannot be read.
        """
        for name, minimum in (("n_products", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < minimum:
                raise ConfigError(f"source.{name} is {value!r}: give a whole number from {minimum}")
        if not self.place.is_dir():
            self._draw(self.place)
        return CsvSource(path=str(self.place / "products.csv")).read()

    @property
    def place(self) -> Path:
        """Folder of this catalogue."""
        return Path(self.folder) / f"{self.n_products}-{self.seed}"

    def _draw(self, folder: Path) -> None:
        """Draw beside the folder, then move into place, so that it is never incomplete."""
        _LOG.info("drawing %d products into %s", self.n_products, folder)
        part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            draw_catalogue(part, self.n_products, self.seed)
            part.rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another run has drawn it at the same time
                pass_on(error, folder)
                raise SourceError(
                    f"the sample catalogue cannot be drawn into {folder} ({error}): "
                    "set source.folder to a folder that you may write to"
                ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def draw_catalogue(folder: Path, n_products: int, seed: int) -> None:
    """Draw images into ``folder/images``, and write the tables of products and of known pairs.

    Args:
        folder: new folder, created with its parents.
        n_products: rows of ``products.csv``. Of twenty, fifteen are distinct garments, one is such
            a garment in another colour, and four are copies.
        seed: seed of the drawing; product i depends on it and on the products before i alone.

    Raises:
        OSError: the folder exists already, or cannot be written.
    """
    (folder / "images").mkdir(parents=True)
    shop = _Shop(folder)
    for number in range(n_products):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        if number % 5 == 4:
            shop.add_copy(COPIES[number // 5 % len(COPIES)], rng)
        elif number % 20 == 8:
            shop.add_variant(rng)
        else:
            shop.add_garment(rng)
    pairs = ("product_id_a", "product_id_b", "kind")
    write_rows(pairs, shop.truth(), folder / "truth.csv")
    write_rows(pairs, sorted(shop.variants), folder / "hard_negatives.csv")
    rows = [tuple(row.get(column, "") for column in COLUMNS) for row in shop.rows]
    write_rows(COLUMNS, rows, folder / "products.csv")


class _Shop:
    """State of a catalogue while it is drawn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[_Row] = []
        self.variants: list[tuple[str, ...]] = []
        self.free: list[tuple[_Row, Design]] = []  # garments with neither copy nor variant so far
        self.groups: list[list[tuple[int, _Row]]] = []  # rows with their place in COPIES
        self.looks: set[tuple[str, str]] = set()

    def add_garment(self, rng: np.random.Generator) -> None:
        """Draw a distinct garment, the only one of its category in its colour if possible."""
        for _ in range(30):
            row, design = _describe(rng)
            if self._is_new(row):
                break
        self._draw(row, design, rng)
        self.free.append((row, design))

    def add_variant(self, rng: np.random.Generator) -> None:
        """Draw a garment again in other colours: a variant, not a duplicate."""
        base, design = self.free.pop(int(rng.integers(len(self.free))))
        for _ in range(30):
            name, colours = _choose_colours(rng, design.backdrop, design.colours[0])
            row = base | _new_id(base["productId"], rng) | {"color": name}
            if self._is_new(row):
                break
        self._draw(row, replace(design, colours=colours), rng)
        self.variants.append((*sorted((base["productId"], row["productId"])), "colour_variant"))

    def add_copy(self, kind: str, rng: np.random.Generator) -> None:
        """Add a product with a copy of an earlier product's image."""
        strength = COPIES.index(kind)
        if strength == 0 or rng.random() < 0.75:
            original, _ = self.free.pop(int(rng.integers(len(self.free))))
            self.groups.append([(-1, original)])
        original = self.groups[-1][0][1]
        row = original | _new_id(original["productId"], rng) | _offer(float(original["mrp"]), rng)
        if kind != "same_url":
            source = self.folder / original["imageUrlStr"].split(";")[0]
            row["imageUrlStr"] = f"images/{copy_image(kind, source, row['productId'].lower())}"
        self.groups[-1].append((strength, row))
        self.rows.append(row)

    def truth(self) -> list[tuple[str, ...]]:
        """List every pair of every group, with the weaker kind of the two."""
        pairs = []
        for group in self.groups:
            for (left_kind, left), (right_kind, right) in combinations(group, 2):
                ids = sorted((left["productId"], right["productId"]))
                pairs.append((*ids, COPIES[max(left_kind, right_kind)]))
        return sorted(pairs)

    def _is_new(self, row: _Row) -> bool:
        before = len(self.looks)
        self.looks.add((row["categories"].split(">")[-1], row["color"]))
        return len(self.looks) > before

    def _draw(self, row: _Row, design: Design, rng: np.random.Generator) -> None:
        image, name = draw(design), f"images/{row['productId'].lower()}"
        image.save(self.folder / f"{name}.jpg", quality=90)
        row["imageUrlStr"] = f"{name}.jpg"
        if rng.random() < 0.25:
            small = image.resize((200, 267), Image.Resampling.LANCZOS)
            small.save(self.folder / f"{name}-200x267.jpg", quality=90)
            row["imageUrlStr"] += f";{name}-200x267.jpg"
        self.rows.append(row)


def copy_image(kind: str, source: Path, name: str) -> str:
    """Copy a JPEG beside itself as one of ``COPIES`` but the first, and return the new name."""
    target = source.with_name(name + (".png" if kind == "same_pixels" else ".jpg"))
    if kind == "same_bytes":
        shutil.copyfile(source, target)
        return target.name
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    if kind == "rescaled":
        image = image.resize((width * 3 // 4, height * 3 // 4), Image.Resampling.LANCZOS)
    elif kind == "cropped":  # 5 % of the width and of the height are gone
        image = image.crop((width // 50, height // 33, width * 97 // 100, height * 98 // 100))
    elif kind == "mirrored":
        image = ImageOps.mirror(image)
    image.save(target, quality=60 if kind == "recompressed" else 90, compress_level=1)
    return target.name


def _describe(rng: np.random.Generator) -> tuple[_Row, Design]:
    """Choose a garment, and return its row, without images, and its design."""
    head, fabrics, shape = _KINDS[str(rng.choice(list(_KINDS)))].split("\n", 2)
    prefix, noun, people, category, price, *middle = head.split("; ")
    fabric, person, brand = (str(rng.choice(s.split())) for s in (fabrics, people, _BRANDS))
    backdrop = "#" + str(rng.choice(_BACKDROPS.split()))
    name, colours = _choose_colours(rng, backdrop)
    look = dict(word.split(":") for word in _LOOKS.split()).get(fabric, fabric.title())
    row = {
        "title": f"{brand} {look.replace('-', ' ')} {person}'s {noun}",
        "categories": category % person,
        "productBrand": brand,
        "size": str(rng.choice(["S", "M", "L", "XL"])),
        "color": name,
        "idealFor": person,
    }
    row |= _new_id(prefix, rng) | _offer(float(price) * rng.uniform(0.8, 2.0), rng)
    if fabric == "print":
        fabric, shape = "plain", f"{shape} / {_emblem(float(middle[0]), rng)}"
    return row, Design(shape, fabric, colours, backdrop, int(rng.integers(2**62)))


def _offer(price: float, rng: np.random.Generator) -> _Row:
    """Draw a seller's prices and terms, in the table's columns."""
    selling = round(price * rng.uniform(0.4, 0.95))
    return {
        "mrp": f"{round(price)}.0",
        "sellingPrice": f"{selling}.0",
        "specialPrice": f"{selling}.0",
        "discount": f"{round(100 - 100 * selling / price)}.0",
        "inStock": str(bool(rng.random() < 0.85)),
        "codAvailable": "True",
        "shippingCharges": str(rng.choice(["0.0", "40.0"])),
    }


def _choose_colours(rng: np.random.Generator, *avoid: str) -> tuple[str, tuple[str, str, str]]:
    """Choose three distinct colours, also distinct from those to avoid; name the first."""
    names = {f"#{code}": name for name, code in (word.split(":") for word in _COLOURS.split())}
    chosen = list(avoid)
    for code in map(str, rng.permutation(list(names))):
        if all(math.dist(*map(ImageColor.getrgb, pair)) > 90 for pair in product([code], chosen)):
            chosen.append(code)
    first, second, third = chosen[len(avoid) :][:3]
    return names[first], (first, second, third)


def _emblem(middle: float, rng: np.random.Generator) -> str:
    """Draw the parts of a print around a height: rings, a flower or a setting sun."""
    parts = [
        [("second", 42, 42), ("first", 33, 33), ("third", 24, 24), ("first", 12, 12)],
        [("third", 44, 44), ("second", 40, 18), ("first", 9, 9)],
        [("second", 42, 42), ("third", 14, 58), ("first", 9, 30)],
    ][int(rng.integers(3))]
    turns = np.linspace(-np.pi / 2, np.pi / 2, 9)
    lines = []
    for cloth, even, odd in parts:
        reach = np.resize([even, odd], 9)
        rim = zip(reach * np.cos(turns), middle + reach * np.sin(turns), strict=True)
        lines.append(f"{cloth} whole: " + " ".join(f"{x:.1f},{y:.1f}~" for x, y in rim))
    return " / ".join(lines)


def _new_id(start: str, rng: np.random.Generator) -> _Row:
    """Draw a product id with the first letters of another, such as ``TOPE9ABBZU3HZRHN``."""
    new = start[:3] + "".join(rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"), 13))
    return {"productId": new, "productUrl": f"p/{new.lower()}?pid={new}"}
