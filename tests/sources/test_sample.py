"""The drawn catalogue is what its tables say: every claim is checked on the files."""

import csv
import hashlib
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dedup.errors import ConfigError, SourceError
from dedup.sources import sample
from dedup.sources.garments import FABRICS, FALLS, HEIGHT, WIDTH, Design, draw
from dedup.sources.sample import COLUMNS, COPIES, SampleSource, draw_catalogue

N = 60
FLIPKART = """productId title description imageUrlStr mrp sellingPrice specialPrice productUrl
categories productBrand productFamily inStock codAvailable offers discount shippingCharges
deliveryTime size color sizeUnit storage displaySize keySpecsStr detailedSpecsStr
specificationList sellerName sellerAverageRating sellerNoOfRatings sellerNoOfReviews sleeve neck
idealFor"""
BOX = "drape / main whole 5: 0,80 60,80~ 90,300 0,310 / seam whole: 0,290 80,280"

Pixels = npt.NDArray[np.uint8]
Pair = tuple[str, str, str]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "drawn"
    draw_catalogue(folder, N, seed=3)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cells(folder: Path) -> dict[str, str]:
    return {row["productId"]: row["imageUrlStr"] for row in table(folder / "products.csv")}


def pairs(path: Path) -> list[Pair]:
    return [(row["product_id_a"], row["product_id_b"], row["kind"]) for row in table(path)]


def image_file(folder: Path, cell: str) -> Path:
    return folder / cell.split(";")[0]


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def originals(folder: Path) -> list[str]:
    """Ids of the products that are not copies, in the table's order."""
    ids = list(cells(folder))
    return [product for number, product in enumerate(ids) if number % 5 != 4]


def test_the_table_has_the_columns_of_flipkart_in_its_order(drawn: Path) -> None:
    with (drawn / "products.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == FLIPKART.split() == list(COLUMNS)
    assert len(rows) == N + 1
    assert {len(row) for row in rows} == {32}


def test_rows_are_plausible(drawn: Path) -> None:
    for row in table(drawn / "products.csv"):
        assert re.fullmatch(r"[A-Z]{3}[A-Z0-9]{13}", row["productId"])
        assert row["productUrl"] == f"p/{row['productId'].lower()}?pid={row['productId']}"
        assert row["title"].startswith(row["productBrand"])
        assert row["description"] == ""
        assert row["categories"].count(">") >= 2
        assert 0 < float(row["sellingPrice"]) < float(row["mrp"])
        assert row["inStock"] in ("True", "False")


def test_ids_are_distinct_and_every_file_is_listed(drawn: Path) -> None:
    urls = cells(drawn)
    assert len(urls) == N
    listed = {drawn / url for cell in urls.values() for url in cell.split(";")}
    assert listed == set((drawn / "images").iterdir())


def test_some_products_have_their_image_in_two_sizes(drawn: Path) -> None:
    several = [cell.split(";") for cell in cells(drawn).values() if ";" in cell]
    assert several
    for large, small in several:
        sizes = [pixels(drawn / url).shape[:2] for url in (large, small)]
        assert sizes == [(HEIGHT, WIDTH), (267, 200)]


def test_of_twenty_products_four_are_copies_and_one_is_a_variant(drawn: Path) -> None:
    copies, variants = N // 5, N // 20
    groups = Counter(product for pair in pairs(drawn / "truth.csv") for product in pair[:2])
    sources = [product for product in groups if product in originals(drawn)]
    assert len(groups) - len(sources) == copies
    assert len(pairs(drawn / "hard_negatives.csv")) == variants
    assert {kind for *_, kind in pairs(drawn / "truth.csv")} == set(COPIES)


def test_pairs_are_sorted_and_each_listed_once(drawn: Path) -> None:
    for name in ("truth.csv", "hard_negatives.csv"):
        listed = pairs(drawn / name)
        assert all(a < b for a, b, _ in listed)
        assert listed == sorted(listed)
        assert len({pair[:2] for pair in listed}) == len(listed)
    truth = {pair[:2] for pair in pairs(drawn / "truth.csv")}
    assert truth.isdisjoint(pair[:2] for pair in pairs(drawn / "hard_negatives.csv"))


def test_truth_is_whole_groups_with_the_weaker_kind(drawn: Path) -> None:
    truth = {frozenset(pair[:2]): pair[2] for pair in pairs(drawn / "truth.csv")}
    products = sorted(set().union(*truth))
    assert max(Counter(product for pair in truth for product in pair).values()) >= 2
    for a, b, c in combinations(products, 3):
        sides = [frozenset(side) for side in ((a, b), (b, c), (a, c))]
        known = sorted(COPIES.index(truth[side]) for side in sides if side in truth)
        assert len(known) in (0, 1, 3)  # joined products are all joined to one another
        if len(known) == 3:
            assert known[1] == known[2]  # the weakest of the three copies is in two pairs


def claims(folder: Path, a: str, b: str) -> str:
    """What the files of two products say of their pair, apart from how near near ones are."""
    one, other = cells(folder)[a], cells(folder)[b]
    if one == other:
        return "same_url"
    first, second = image_file(folder, one), image_file(folder, other)
    if first.read_bytes() == second.read_bytes():
        return "same_bytes"
    return "same_pixels" if np.array_equal(pixels(first), pixels(second)) else "near"


def test_pairs_are_of_the_kind_that_truth_says_and_no_others_are_equal(drawn: Path) -> None:
    truth = {pair[:2]: pair[2] for pair in pairs(drawn / "truth.csv")}
    for (a, b), kind in truth.items():
        assert claims(drawn, a, b) == (kind if kind.startswith("same_") else "near")
    seen: dict[str, list[str]] = {}
    for product, cell in cells(drawn).items():
        seen.setdefault(
            hashlib.sha256(pixels(image_file(drawn, cell)).tobytes()).hexdigest(), []
        ).append(product)
    equal = {tuple(sorted(pair)) for group in seen.values() for pair in combinations(group, 2)}
    assert equal == {pair for pair, kind in truth.items() if kind.startswith("same_")}


def test_near_copies_are_edits_of_the_original(drawn: Path) -> None:
    seen = set()
    for a, b, kind in pairs(drawn / "truth.csv"):
        one, other = (pixels(image_file(drawn, cells(drawn)[product])) for product in (a, b))
        if one.shape[0] < other.shape[0] or b in originals(drawn):
            one, other = other, one
        if kind.startswith("same_") or not {a, b} & set(originals(drawn)):
            continue
        seen.add(kind)
        if kind == "rescaled":
            assert other.shape[:2] == (HEIGHT * 3 // 4, WIDTH * 3 // 4)
        elif kind == "cropped":
            assert other.shape[0] / HEIGHT == pytest.approx(0.95, abs=0.005)
            assert other.shape[1] / WIDTH == pytest.approx(0.95, abs=0.005)
        else:
            expected = one[:, ::-1] if kind == "mirrored" else one
            change = np.abs(expected.astype(int) - other).mean()
            assert 0 < change < 4
    assert seen == {"recompressed", "rescaled", "cropped", "mirrored"}


def test_no_two_garments_can_be_confused(drawn: Path) -> None:
    """At 100 x 200, the size that is compared, distinct garments differ by far more than copies."""
    urls = cells(drawn)
    small = {}
    for product in originals(drawn):
        with Image.open(image_file(drawn, urls[product])) as image:
            small[product] = np.asarray(image.resize((100, 200)), np.float32)
    differences = [np.abs(one - other).mean() for one, other in combinations(small.values(), 2)]
    assert min(differences) > 5
    rows = {row["productId"]: row for row in table(drawn / "products.csv")}
    looks = [(rows[x]["categories"].split(">")[-1], rows[x]["color"]) for x in small]
    assert len(set(looks)) == len(looks)


def test_variants_are_the_same_garment_in_another_colour(drawn: Path) -> None:
    rows = {row["productId"]: row for row in table(drawn / "products.csv")}
    for a, b, kind in pairs(drawn / "hard_negatives.csv"):
        assert kind == "colour_variant"
        assert rows[a]["title"] == rows[b]["title"]
        assert rows[a]["color"] != rows[b]["color"]
        one, other = (pixels(image_file(drawn, rows[x]["imageUrlStr"])).astype(int) for x in (a, b))
        corner = np.abs(one - other)[:12, :12].mean()  # the background is the same
        assert corner < 3 < np.abs(one - other).mean()


def test_the_same_arguments_draw_the_same_files(drawn: Path, tmp_path: Path) -> None:
    draw_catalogue(tmp_path / "again", N, seed=3)
    assert digests(tmp_path / "again") == digests(drawn)


def test_a_smaller_catalogue_is_the_start_of_a_larger_one(drawn: Path, tmp_path: Path) -> None:
    draw_catalogue(tmp_path / "small", 12, seed=3)
    assert table(tmp_path / "small" / "products.csv") == table(drawn / "products.csv")[:12]
    small, whole = digests(tmp_path / "small"), digests(drawn)
    assert all(whole[name] == small[name] for name in small if name.startswith("images"))


def test_another_seed_draws_other_products(drawn: Path, tmp_path: Path) -> None:
    draw_catalogue(tmp_path / "other", 2, seed=4)
    assert not set(cells(tmp_path / "other")) & set(cells(drawn))


def test_the_source_draws_once_and_reads_what_is_there(tmp_path: Path) -> None:
    source = SampleSource(folder=str(tmp_path / "runs"), n_products=6, seed=1)
    first = source.read()
    folder = tmp_path / "runs" / "6-1"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["6-1"]
    assert list(first.products["productId"]) == list(cells(folder))
    assert set(first.requests["status"]) == {""}
    assert all(Path(url).is_file() for url in first.requests["url"])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert source.read().products.equals(first.products)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_a_killed_run_left_does_not_matter(tmp_path: Path) -> None:
    left = tmp_path / ".3-0.0badcafe.part" / "images"
    left.mkdir(parents=True)
    (left / "half.jpg").write_bytes(b"\xff\xd8")
    catalogue = SampleSource(folder=str(tmp_path), n_products=3).read()
    assert len(catalogue.products) == 3
    assert not list((tmp_path / "3-0").rglob("half.jpg"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_products": 0}, "n_products"),
        ({"n_products": "many"}, "n_products"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_wrong_number_is_refused_by_name(
    arguments: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"source.{named}"):
        SampleSource(folder=str(tmp_path / "runs"), **arguments).read()
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"set source\.folder"):
        SampleSource(folder=str(tmp_path / "file"), n_products=1).read()


@pytest.mark.parametrize("fabric", FABRICS)
def test_every_fabric_is_drawn_from_its_seed(fabric: str) -> None:
    design = Design(BOX, fabric, ("#a8482a", "#efcf57", "#1f2b4d"), "#ffffff", 7)
    image = np.asarray(draw(design))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(image, np.asarray(draw(design)))
    assert not np.array_equal(image, np.asarray(draw(replace(design, seed=8))))
    assert image[:8].min() > 235  # a white background stays white
    middle = image[240:290, 180:220].reshape(-1, 3).astype(int)
    assert np.ptp(middle.sum(1)) > 10  # cloth has texture


@pytest.mark.parametrize("fall", FALLS)
def test_every_way_to_fall_shades_the_cloth(fall: str) -> None:
    shape = BOX.replace("drape", fall)
    image = draw(Design(shape, "plain", ("#2f5fa8", "#efcf57", "#1f2b4d"), "#ccd7de", 7))
    cloth = np.asarray(image, np.float32)[200:330, 150:250].mean(2)
    assert cloth.std() > 2
    assert 40 < cloth.mean() < 150


@pytest.mark.parametrize("kind", sample._KINDS)
def test_every_kind_is_drawn_within_the_image(kind: str) -> None:
    head, fabrics, shape = sample._KINDS[kind].split("\n", 2)
    assert set(fabrics.split()) <= {*FABRICS, "print"}
    assert ("print" in fabrics) == (len(head.split("; ")) == 6)
    image = draw(Design(shape, "plain", ("#222226", "#efcf57", "#b3212c"), "#ffffff", 5))
    dark = np.asarray(image.convert("L")) < 90
    assert not dark[:5].any()
    assert not dark[:, :5].any()
    assert not dark[:, -5:].any()
    assert dark.mean() > 0.05
